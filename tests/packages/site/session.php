<?php
session_start();
$_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
echo "You were here $_SESSION[count] times.\n";
