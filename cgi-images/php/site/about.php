<?php
require_once __DIR__ . '/layout.php';

page_start('About');
echo '<p>PHP ', h(PHP_VERSION), ' (', h(PHP_SAPI), '), answering ', h($_SERVER['REQUEST_METHOD']), "</p>\n";
page_end();
