<?php
// What all pages share.

const DATA = '/data';

/** Is there a volume to keep things in? Nothing else outlives a request. */
function has_data(): bool
{
    return is_dir(DATA) && is_writable(DATA);
}

/** Begins or resumes the visitor's session; false where there is nowhere to keep one. */
function visitor_session(): bool
{
    if (!has_data()) {
        return false;
    }
    if (!is_dir(DATA . '/sessions')) {
        @mkdir(DATA . '/sessions', 0700);
    }
    return session_start();
}

function no_data_notice(): void
{
    echo '<p class="notice">Nothing can be kept here: mount a writable volume at <code>', DATA, "</code>.</p>\n";
}

function h(string $text): string
{
    return htmlspecialchars($text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

/** The address of a page of this site, wherever the site is mounted. */
function link_to(string $page): string
{
    return h(preg_replace('#/[a-z]+\.php$#', '', $_SERVER['SCRIPT_NAME'] ?? '') . '/' . $page);
}

function page_start(string $title): void
{
    header('Content-Type: text/html; charset=utf-8');
    ?>
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title><?= h($title) ?></title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
  nav a { margin-right: 1rem } .notice { background: #fff4d6; padding: .5rem }
</style>
<nav>
  <a href="<?= link_to('index.php') ?>">Home</a>
  <a href="<?= link_to('visits.php') ?>">Visits</a>
  <a href="<?= link_to('guestbook.php') ?>">Guestbook</a>
  <a href="<?= link_to('about.php') ?>">About</a>
</nav>
<h1><?= h($title) ?></h1>
<?php
}

function page_end(): void
{
    echo "</html>\n";
}
