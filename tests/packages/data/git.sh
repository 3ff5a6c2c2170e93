# Repositories: one that anybody may push to, one that takes a user. Its history is the same byte for byte each time.
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org
mkdir /srv/git
cd /srv/git
git init --quiet --bare --initial-branch=main demo.git
echo 'What is shown' >demo.git/description
git -C demo.git config gitweb.owner Ada
git -C demo.git config http.receivepack true
git -C demo.git config pack.threads 1
git init --quiet --initial-branch=main /tmp/work
cd /tmp/work
day=0
commit() {
    day=$((day + 1))
    export GIT_AUTHOR_DATE="2025-12-0${day}T12:00:00Z" GIT_COMMITTER_DATE="2025-12-0${day}T12:00:00Z"
    git add .
    git commit --quiet --message "$1"
}
mkdir src
printf '# Demo\n\nA *small* project & its <history>.\n' >README.md
seq 1 400 >src/numbers.txt
commit 'First light'
printf 'int main(void)\n{\n    return 0;\n}\n' >src/main.c
head -c 3000 /usr/bin/perl >src/blob.bin
commit 'Add a program'
git tag --annotate v1.0 --message 'The first'
git checkout --quiet -b side
sed -i s/0/1/ src/main.c
commit 'Return 1'
git checkout --quiet main
seq 1 401 >src/numbers.txt
commit 'Count on'
GIT_COMMITTER_DATE=2025-12-05T12:00:00Z GIT_AUTHOR_DATE=2025-12-05T12:00:00Z git merge --quiet --no-edit side
git push --quiet /srv/git/demo.git main side v1.0
cd /srv/git
git -C demo.git repack -adq
git -C demo.git update-server-info
cp -a demo.git private.git
git -C private.git config --unset http.receivepack
# For the interfaces that show them.
echo '$projectroot = "/srv/git"; $projects_list = "/srv/git/projects"; $site_name = "Packages"; @diff_opts = ();
$feature{$_}{default} = [1] for qw(blame patches); 1;' >gitweb.conf
printf 'demo.git Ada\n' >projects
cat >cgitrc <<'END'
css=/cgit-css/cgit.css
logo=/cgit-css/cgit.png
virtual-root=/cgit
cache-size=0
enable-commit-graph=1
enable-log-linecount=1
enable-index-owner=1
enable-http-clone=1
enable-blame=1
max-stats=year
snapshots=tar.gz zip
repo.url=demo
repo.path=/srv/git/demo.git
repo.desc=What is shown
repo.owner=Ada
repo.readme=main:README.md
END
# ada, by the password "secret".
echo 'ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=' >users
