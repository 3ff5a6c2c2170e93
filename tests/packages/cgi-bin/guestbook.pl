#!/usr/bin/perl -T
# A guestbook as they were: CGI.pm, a cookie that remembers who one is, a file under a lock.
use strict;
use warnings;
use CGI;
use Fcntl qw(:flock SEEK_END);

my $book = '/srv/guestbook/entries.txt';
my $cgi = CGI->new;
my $name = $cgi->param('name') // $cgi->cookie('guest') // '';
my $text = $cgi->param('text') // '';

if ($cgi->request_method eq 'POST') {
    if ($name eq '' or length $text > 200) {
        print $cgi->header(-status => '400 Bad Request', -type => 'text/plain'), "Who are you, and in short?\n";
        exit;
    }
    open my $file, '>>', $book or die "$book: $!";
    flock $file, LOCK_EX or die "$book: $!";
    seek $file, 0, SEEK_END;
    print $file join("\t", map { s/[\t\r\n]+/ /gr } $name, $text), "\n";
    close $file or die "$book: $!";
    my $cookie = $cgi->cookie(-name => 'guest', -value => $name, -path => $cgi->script_name);
    print $cgi->redirect(-uri => $cgi->url, -status => '303 See Other', -cookie => $cookie);
    exit;
}

print $cgi->header(-charset => 'utf-8'), $cgi->start_html('Guestbook'), $cgi->h1('Guestbook');
if (open my $file, '<', $book) {
    flock $file, LOCK_SH or die "$book: $!";
    while (my $line = <$file>) {
        chomp $line;
        my ($who, $what) = map { $cgi->escapeHTML($_) } split /\t/, $line, 2;
        print $cgi->p("$.: <b>$who</b> $what"), "\n";
    }
}
print $cgi->start_form(-action => $cgi->url(-relative => 1)), $cgi->textfield('name', $name), $cgi->textarea('text'),
    $cgi->submit, $cgi->end_form, $cgi->end_html, "\n";
