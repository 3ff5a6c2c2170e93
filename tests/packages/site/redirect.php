<?php
setcookie('from', 'redirect', ['path' => '/site/', 'httponly' => true, 'samesite' => 'Lax']);
header('Location: /site/blog/7?q=sent+on', true, (int) ($_GET['status'] ?? 302));
