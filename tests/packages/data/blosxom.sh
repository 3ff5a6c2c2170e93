# Two entries of a weblog.
mkdir -p /var/lib/blosxom/data/travel
cd /var/lib/blosxom/data
printf 'First entry\n<p>Hello.</p>\n' >first.txt
printf 'On the road\n<p>Far &amp; away.</p>\n' >travel/road.txt
touch --date 2025-12-01T12:00:00Z first.txt
touch --date 2025-12-02T12:00:00Z travel/road.txt
