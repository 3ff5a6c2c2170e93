<?php
// A front controller: whatever is no file comes here.
$path = $_SERVER['PATH_INFO'] ?? '/';
if (preg_match('#^/blog/(\d+)$#', $path, $match)) {
    header('Cache-Control: max-age=60');
    echo "<h1>Entry $match[1]</h1>\n<p>", htmlspecialchars($_GET['q'] ?? 'nothing asked'), "</p>\n";
} elseif ($path === '/' || $path === '') {
    echo "<h1>Home</h1>\n";
} else {
    http_response_code(404);
    echo "<h1>No ", htmlspecialchars($path), "</h1>\n";
}
echo htmlspecialchars($_SERVER['REQUEST_URI']), "\n";
