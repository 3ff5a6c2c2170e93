# A month of a log, and what AWStats makes of it.
cat >/etc/awstats/awstats.demo.conf <<'END'
Include "/etc/awstats/awstats.conf"
LogFile="/srv/access.log"
LogFormat=1
SiteDomain="demo.example.org"
HostAliases="localhost"
DNSLookup=0
AllowToUpdateStatsFromBrowser=1
END
for day in 01 02 03; do
    for page in / /about /shop/item?id=7 /missing; do
        status=200
        [ "$page" != /missing ] || status=404
        echo "192.0.2.${day#0} - - [$day/Dec/2025:12:00:00 +0000] \"GET $page HTTP/1.1\" $status 2326" \
            '"http://search.example/?q=demo" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"'
    done
done >/srv/access.log
/usr/lib/cgi-bin/awstats.pl -config=demo -update >/dev/null
