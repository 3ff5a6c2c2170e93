<?php
header('Content-Type: text/plain; charset=utf-8');
foreach (['REQUEST_METHOD', 'REQUEST_URI', 'QUERY_STRING', 'SCRIPT_NAME', 'PHP_SELF', 'PATH_INFO', 'SERVER_NAME', 'SERVER_PORT',
    'SERVER_PROTOCOL', 'CONTENT_TYPE', 'CONTENT_LENGTH', 'HTTP_HOST', 'HTTP_X_CUSTOM', 'HTTPS'] as $name) {
    echo "$name=", var_export($_SERVER[$name] ?? null, true), "\n";
}
echo php_sapi_name(), ' ', strlen(file_get_contents('php://input')), "\n";
var_dump($_GET, $_POST, $_COOKIE);
