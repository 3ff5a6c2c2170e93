<?php
header('Content-Type: text/event-stream');
header('Cache-Control: no-cache');
for ($i = 1; $i <= 3; $i++) {
    echo "data: $i\n\n";
    flush();
}
