#!/usr/bin/perl
# A form in the old style: CGI.pm reads GET, POST and file uploads; every value is escaped on its way out.
use strict;
use warnings;
use CGI qw(-utf8 escapeHTML);
use Digest::SHA;

binmode STDOUT, ':encoding(UTF-8)';
$CGI::POST_MAX = 64 * 1024 * 1024;

my $q = CGI->new;
if (my $error = $q->cgi_error) {
    print $q->header(-status => $error, -type => 'text/plain', -charset => 'utf-8'), "$error\n";
    exit;
}

print $q->header(-type => 'text/html', -charset => 'utf-8');
print <<'HTML';
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>A CGI.pm form</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
  fieldset { margin: 1rem 0; border: 1px solid #bbb } label { display: block; margin: .5rem 0 }
  code { overflow-wrap: anywhere }
</style>
<h1>A CGI.pm form</h1>
HTML

my $name = $q->param('name');
if (defined $name && length $name) {
    print '<p>Hello, <b>', escapeHTML($name), "</b>!</p>\n";
}

my @fields = grep { $_ ne 'name' && $_ ne 'file' } $q->param;
if (@fields) {
    print "<p>Also sent:</p>\n<ul>\n";
    for my $field (@fields) {
        print '<li>', escapeHTML($field), ' = ', escapeHTML(join ', ', $q->multi_param($field)), "</li>\n";
    }
    print "</ul>\n";
}

# CGI.pm has put the upload into a temporary file: it is hashed in pieces, whatever its size.
if (my $upload = $q->upload('file')) {
    my $handle = $upload->handle;
    binmode $handle;
    my $digest = Digest::SHA->new(256)->addfile($handle)->hexdigest;
    print '<p>Received <b>', escapeHTML(scalar $q->param('file')), '</b>: ', -s $handle, " bytes</p>\n",
        "<p>SHA-256 <code>$digest</code></p>\n";
}

my $action = escapeHTML($q->script_name || '/');
print <<"HTML";
<form action="$action" method="get">
  <fieldset><legend>By GET</legend>
    <label>Your name <input name="name"></label>
    <button>Send</button>
  </fieldset>
</form>
<form action="$action" method="post">
  <fieldset><legend>By POST</legend>
    <label>Your name <input name="name"></label>
    <label>A remark <textarea name="remark"></textarea></label>
    <button>Send</button>
  </fieldset>
</form>
<form action="$action" method="post" enctype="multipart/form-data">
  <fieldset><legend>A file</legend>
    <label>File <input type="file" name="file"></label>
    <button>Upload</button>
  </fieldset>
</form>
</html>
HTML
