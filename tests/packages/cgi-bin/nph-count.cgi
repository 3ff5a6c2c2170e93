#!/usr/bin/perl
# A script that speaks HTTP itself, and shows line by line how far it is.
$| = 1;
my $version = $ENV{SERVER_PROTOCOL};
print "$version 202 Under Way\r\nContent-Type: text/plain\r\nX-Spoken-By: nph\r\nConnection: close\r\n\r\n";
print "step $_ of 5\n" for 1 .. 5;
