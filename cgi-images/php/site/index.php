<?php
// The front page, and the door to the others: /php/guestbook.php comes here with that path as PATH_INFO.
require_once __DIR__ . '/layout.php';

$path = $_SERVER['PATH_INFO'] ?? '/';
if ($path !== '/' && $path !== '/index.php') {
    // A list, not a file name made of what the visitor sent.
    $pages = ['/visits.php', '/guestbook.php', '/about.php'];
    if (in_array($path, $pages, true)) {
        require __DIR__ . $path;
        exit;
    }
    http_response_code(404);
    page_start('Not found');
    echo "<p>There is no such page here.</p>\n";
    page_end();
    exit;
}

page_start('Welcome');
?>
<p>This site is older than most frameworks, and runs as it always did: php-cgi, a process for each request, here in a
container of its own.</p>
<?php
page_end();
