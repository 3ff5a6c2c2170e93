# What mailgraph has counted of a mail log, as its daemon keeps it.
cd /var/lib/mailgraph
perl -MRRDs -e '
    my $start = 1767300000;
    sub make { my ($file, @names) = @_;
        RRDs::create($file, "--start", $start, "--step", 60, (map { "DS:$_:ABSOLUTE:120:0:U" } @names),
            map { my $how = $_; map { "RRA:$how:0.5:$_" } "1:2500", "30:1000" } "AVERAGE", "MAX");
        die RRDs::error() if RRDs::error();
        for my $minute (1 .. 380) {
            RRDs::update($file, join ":", $start + 60 * $minute, map { $minute % 7 } @names);
        }
    }
    make("mailgraph.rrd", qw(sent recv bounced rejected));
    make("mailgraph_virus.rrd", qw(virus spam));
    make("mailgraph_greylist.rrd", qw(greylisted delayed));
'
