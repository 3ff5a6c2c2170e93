# A CVS repository with a file of two revisions and a branch, and a configuration that names it.
export CVSROOT=/srv/cvs TMPDIR=/tmp
cvs init
mkdir /tmp/import
cd /tmp/import
printf 'one\ntwo\n' >file.txt
printf 'all: ;\n' >Makefile
cvs -Q import -m 'As it came' demo vendor start
cd /tmp
cvs -Q checkout -d work demo
cd work
printf 'one\n2\nthree\n' >file.txt
cvs -Q commit -m 'Count in figures'
cvs -Q tag release-1
sed -i "s#'local' *=> .*#'demo' => ['Demo', '/srv/cvs'],#" /etc/cvsweb/cvsweb.conf
