<?php
// Counts a visitor's visits in a session.
require_once __DIR__ . '/layout.php';

$kept = visitor_session();
if ($kept) {
    $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
}

page_start('Visits');
if ($kept) {
    echo '<p>You have seen this page ', $_SESSION['visits'], " time(s).</p>\n";
} else {
    no_data_notice();
}
page_end();
