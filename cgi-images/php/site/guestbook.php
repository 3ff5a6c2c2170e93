<?php
// A guestbook in a file, one JSON line an entry.
require_once __DIR__ . '/layout.php';

const BOOK = DATA . '/guestbook.jsonl';

if ($_SERVER['REQUEST_METHOD'] === 'POST' && has_data()) {
    $entry = [
        'name' => short_text($_POST['name'] ?? '', 80),
        'text' => short_text($_POST['text'] ?? '', 1000),
        'time' => gmdate('Y-m-d H:i'),
    ];
    if ($entry['name'] !== '' && $entry['text'] !== '') {
        file_put_contents(
            BOOK,
            json_encode($entry, JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE) . "\n",
            FILE_APPEND | LOCK_EX
        );
    }
    // So that reloading the page does not sign twice.
    header('Location: ' . html_entity_decode(link_to('guestbook.php')), true, 303);
    exit;
}

/** At most $length bytes of what a visitor typed. */
function short_text(mixed $text, int $length): string
{
    return is_string($text) ? substr(trim($text), 0, $length) : '';
}

page_start('Guestbook');
if (!has_data()) {
    no_data_notice();
}
foreach (is_readable(BOOK) ? file(BOOK) : [] as $line) {
    $entry = json_decode($line, true);
    if (is_array($entry)) {
        echo '<p><b>', h($entry['name']), '</b>, ', h($entry['time']), ':<br>', nl2br(h($entry['text'])), "</p>\n";
    }
}
?>
<form method="post" action="<?= link_to('guestbook.php') ?>">
  <p><label>Name <input name="name" maxlength="80" required></label></p>
  <p><label>Message<br><textarea name="text" rows="4" cols="40" required></textarea></label></p>
  <button>Sign</button>
</form>
<?php
page_end();
