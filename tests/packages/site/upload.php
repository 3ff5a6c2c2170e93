<?php
header('Content-Type: text/plain');
foreach ($_FILES as $field => $file) {
    $kept = move_uploaded_file($file['tmp_name'], '/srv/uploads/' . basename($file['name']));
    echo "$field: $file[name] $file[type] $file[size] error $file[error], ", $kept ? 'kept' : 'not kept', "\n";
}
foreach (scandir('/srv/uploads') as $name) {
    if ($name[0] !== '.') echo $name, ' ', sha1_file("/srv/uploads/$name"), "\n";
}
echo $_POST['note'] ?? 'no note', "\n";
