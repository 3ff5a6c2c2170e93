# A Mercurial repository that takes pushes, and the example script that comes with the package.
export HGUSER='Ada <ada@example.org>'
mkdir /srv/hg
cd /srv/hg
hg init demo
cd demo
printf 'hello\n' >README
hg commit --quiet --addremove --message 'First light' --date '2025-12-01 12:00 UTC'
seq 1 300 >numbers
printf 'hello, world\n' >README
hg commit --quiet --addremove --message 'Say it to all' --date '2025-12-02 12:00 UTC'
hg tag --date '2025-12-03 12:00 UTC' v1.0
printf '[web]\nallow_push = *\npush_ssl = false\ncontact = Ada\ndescription = What is shown\nallow-archive = gz, zip\n' >.hg/hgrc
sed -e 's#^config = .*#config = b"/srv/hg/demo"#' /usr/share/doc/mercurial-common/examples/hgweb.cgi >/srv/hgweb.cgi
chmod 755 /srv/hgweb.cgi
# The first look of hgweb leaves caches, and an entity tag is of when the directory has changed last.
env GATEWAY_INTERFACE=CGI/1.1 REQUEST_METHOD=GET SERVER_NAME=h SERVER_PORT=80 SERVER_PROTOCOL=HTTP/1.1 SCRIPT_NAME=/hg \
    PATH_INFO=/shortlog QUERY_STRING= REQUEST_URI=/hg/shortlog /srv/hgweb.cgi >/dev/null
