//! Other people's CGI programs, as Debian packages them: served by dcgi and by Apache's mod_cgi from the very same files, sent
//! the same requests, and compared in all that a client sees of the answers: status, reason, headers, body, and how it ends.
//!
//! Where the two differ, the request says why that is as it should be; a difference that nobody has explained fails, and so
//! does an explanation for a difference that is not there. What the programs have written at the end is compared too.
//! [`docs/scripts.md`](../docs/scripts.md) has the table of what a run has counted, and each test sees to its row there.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use common::embedded::Store;
use common::packages::{PackagedApache, ROOT, Volumes};
use common::{Connection, Response, Server};

/// A package, and what an administrator would set up for it, on both servers.
#[derive(Default)]
struct Setup {
    /// As the table has it.
    name: &'static str,
    /// A shell script that makes what the programs are to show.
    data: &'static str,
    /// What they may write to, beside `/srv`.
    volumes: &'static [&'static str],
    /// Variables for the programs.
    variables: &'static [(&'static str, &'static str)],
    /// The programs' clock stands still: what they print holds the time.
    stopped_clock: bool,
    /// `[[route]]`s, in which `ROOT` and `SRV` stand for where the root and the volume `/srv` are on this machine.
    dcgi: &'static str,
    /// Lines of Apache's configuration that say the same.
    apache: &'static str,
}

/// What would be another each time, and is left to chance otherwise: the order of a hash.
const NO_CHANCE: &[(&str, &str)] =
    &[("PERL_HASH_SEED", "0"), ("PERL_PERTURB_KEYS", "0"), ("PYTHONHASHSEED", "0")];

/// What stops a program's clock: at one time for both servers, for as long as it runs. Times of files stay what they are, and
/// what waits for a while still waits.
const STOPPED_CLOCK: &[(&str, &str)] = &[
    ("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    ("FAKETIME", "2026-01-02 03:04:05"),
    ("NO_FAKE_STAT", "1"),
    ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
];

/// The two, serving one package.
struct Both {
    name: &'static str,
    apache: PackagedApache,
    dcgi: Server,
    /// What dcgi's programs write to.
    volumes: Volumes,
    _store: Store,
    /// Requests whose answers were the same, and those whose differences are explained.
    same: Cell<usize>,
    explained: Cell<usize>,
    wrong: RefCell<Vec<String>>,
}

/// Where the answers to a request differ, and why.
type Expected<'a> = &'a [(&'a str, &'a str)];

const ETAG: Expected<'_> = &[(
    "etag",
    "an entity tag of a file is opaque: Apache makes it of size and time, dcgi of more than that",
)];

const NO_PAGE_OF_ITS_OWN: Expected<'_> = &[
    ("body", "to a redirect that has no `Status` Apache writes a page of its own, in place of the program's"),
    ("content-type", "it is that page's"),
];

const GUESSED_TYPE: Expected<'_> = &[(
    "content-type",
    "to an answer for which the program says no type Apache gives the type that the script's name has",
)];

const ANOTHER_DATE: Expected<'_> = &[(
    "last-modified",
    "Apache reads a program's date and writes it anew, dcgi hands on what the program says",
)];

const PRECONDITION: Expected<'_> = &[
    (
        "status",
        "Apache judges `If-None-Match` and its kin by what the program says of itself, dcgi leaves that to the program",
    ),
    ("body", "and so the program's page is sent"),
    ("content-type", "likewise"),
];

const OWN_PAGE: Expected<'_> = &[
    ("body", "an error page is the server's own"),
    ("content-type", "dcgi's is of UTF-8"),
    ("cache-control", "dcgi's is not to be stored"),
];

const NO_ANSWER: Expected<'_> = &[
    ("status", "a program that gives no answer is a bad gateway to dcgi, and an internal error to Apache"),
    ("body", "an error page is the server's own"),
    ("content-type", "dcgi's is of UTF-8"),
    ("cache-control", "dcgi's is not to be stored"),
];

const NO_USER: Expected<'_> = &[
    ("www-authenticate", "dcgi says that names and passwords are of UTF-8 (RFC 7617 §2.1)"),
    ("body", "an error page is the server's own"),
    ("content-type", "dcgi's is of UTF-8"),
    ("cache-control", "dcgi's is not to be stored"),
];

const HOST_NAME: Expected<'_> = &[(
    "body",
    "the page names the machine, and a container has a name of its own: nothing but that line differs",
)];

/// What each server says for itself: when it is, who it is, what becomes of the connection, and how long a body is, which
/// one of them may know beforehand and the other not.
const SERVERS_OWN: &[&str] =
    &["date", "server", "connection", "keep-alive", "transfer-encoding", "content-length", "x-request-id"];

impl Setup {
    #[track_caller]
    fn start(self) -> Both {
        let places: Vec<_> = ["/srv", "/run"].iter().chain(self.volumes).copied().collect();
        let theirs = Volumes::new(&places);
        let clock = if self.stopped_clock { STOPPED_CLOCK } else { &[] };
        let variables: Vec<_> = self.variables.iter().chain(clock).chain(NO_CHANCE).copied().collect();
        copy_scripts(&theirs);
        theirs.shell(self.data, NO_CHANCE);
        let volumes = theirs.copied();

        let set: String =
            variables.iter().map(|(name, value)| format!("SetEnv {name} \"{value}\"\n")).collect();
        let apache = PackagedApache::start(theirs, &format!("{set}{}", self.apache));
        let env: Vec<_> = variables.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
        let routes =
            self.dcgi.replace("ROOT", ROOT).replace("SRV", &volumes.path("/srv").display().to_string());
        let store = Store::new();
        let dcgi = store.serve(&format!(
            "[defaults]\nrootfs = \"{ROOT}\"\nuser = \"www-data\"\nvolumes = {}\nenv = {{ {} }}\n{routes}",
            volumes.as_toml(),
            env.join(", ")
        ));
        Both {
            name: self.name,
            apache,
            dcgi,
            volumes,
            _store: store,
            same: Cell::default(),
            explained: Cell::default(),
            wrong: RefCell::default(),
        }
    }
}

/// The scripts and the site that are ours: what runs them is Debian's.
fn copy_scripts(volumes: &Volumes) {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages");
    for folder in ["cgi-bin", "site"] {
        copy(&own.join(folder), &volumes.path("/srv").join(folder));
    }
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    std::os::unix::fs::chown(to, Some(33), Some(33)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

impl Both {
    fn addresses(&self) -> [SocketAddr; 2] {
        [self.apache.address, self.dcgi.address]
    }

    /// Asks both, and compares: Apache's answer, and dcgi's.
    #[track_caller]
    fn send(&self, request: impl AsRef<[u8]>, expected: Expected<'_>) -> [Response; 2] {
        let request = request.as_ref();
        let answers = self.addresses().map(|address| {
            let mut connection = Connection::open(address);
            connection.send(request);
            if request.starts_with(b"HEAD ") { connection.response_to_head() } else { connection.response() }
        });
        let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        self.judge(&String::from_utf8_lossy(line), &answers, expected);
        answers
    }

    fn judge(&self, what: &str, [theirs, ours]: &[Response; 2], expected: Expected<'_>) {
        println!("{what}: {} and {} bytes", ours.status_line, ours.body.len());
        let found = differences(theirs, ours);
        let explained: BTreeSet<_> = expected.iter().map(|(where_, _)| (*where_).to_owned()).collect();
        if found != explained {
            self.wrong.borrow_mut().push(format!(
                "{what}: they differ in {found:?}, and {explained:?} was expected\n--- Apache\n{}--- dcgi\n{}--- the log\n{}",
                shown(theirs),
                shown(ours),
                self.dcgi.log_of(ours.header("x-request-id").unwrap_or("?"))
            ));
        }
        self.count(expected.is_empty());
    }

    fn count(&self, same: bool) {
        let counter = if same { &self.same } else { &self.explained };
        counter.set(counter.get() + 1);
    }

    /// `GET` of targets whose answers all differ in the same.
    #[track_caller]
    fn get_differing(&self, expected: Expected<'_>, targets: &[&str]) {
        for target in targets {
            self.ask("GET", target, "", "", expected);
        }
    }

    /// `GET` of targets that differ in nothing.
    #[track_caller]
    fn get(&self, targets: &[&str]) {
        for target in targets {
            self.ask("GET", target, "", "", &[]);
        }
    }

    #[track_caller]
    fn ask(
        &self,
        method: &str,
        target: &str,
        fields: &str,
        body: impl AsRef<[u8]>,
        expected: Expected<'_>,
    ) -> [Response; 2] {
        let body = body.as_ref();
        let length = match body.len() {
            0 if method == "GET" || method == "HEAD" => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: www.example.org:8080\r\n{fields}{length}\r\n");
        self.send([head.as_bytes(), body].concat(), expected)
    }

    /// Sends a form.
    #[track_caller]
    fn post(&self, target: &str, form: &str, expected: Expected<'_>) -> [Response; 2] {
        self.ask("POST", target, "Content-Type: application/x-www-form-urlencoded\r\n", form, expected)
    }

    /// Runs a client's commands against both, with the server's address in `$URL`; what they print is compared, and counts
    /// as one request.
    #[track_caller]
    fn with_client(&self, script: &str) -> String {
        let said = self.addresses().map(|address| {
            let client = Volumes::new(&["/srv"]);
            let url = format!("http://{address}");
            client.shell(script, &[("URL", &url)]).replace(&url, "URL")
        });
        if said[0] != said[1] {
            self.wrong
                .borrow_mut()
                .push(format!("a client got from Apache\n{}\nand from dcgi\n{}", said[0], said[1]));
        }
        self.count(true);
        said[1].clone()
    }

    /// That both have left the same in a directory, and something.
    #[track_caller]
    fn assert_wrote_alike(&self, place: &str) {
        let [theirs, ours] = [&self.apache.volumes, &self.volumes].map(|volumes| files(&volumes.path(place)));
        assert!(!theirs.is_empty(), "nothing is in {place}");
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&theirs), names(&ours), "{place}");
        for (name, bytes) in &theirs {
            assert_eq!(
                String::from_utf8_lossy(bytes),
                String::from_utf8_lossy(&ours[name]),
                "{name} of {place}"
            );
        }
    }

    /// Ends both, and puts the row into the table.
    #[track_caller]
    fn finish(self) {
        let wrong = self.wrong.take();
        assert!(wrong.is_empty(), "{}: {} answers\n{}", self.name, wrong.len(), wrong.join("\n"));
        let (same, explained) = (self.same.get(), self.explained.get());
        let row = format!("| {} | {} | {same} | {explained} |", self.name, same + explained);
        let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
        table.insert(self.name, row.clone());
        if table.len() == PROGRAMS {
            println!("| program | requests | the same | differences explained |\n| --- | --- | --- | --- |");
            table.values().for_each(|row| println!("{row}"));
        }
        drop(table);
        assert!(include_str!("../docs/scripts.md").contains(&row), "docs/scripts.md lacks the row\n{row}");
    }
}

/// Printed when it has as many rows as there are tests.
static TABLE: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());
const PROGRAMS: usize = 20;

/// That two answers, which differ in their bodies, do so in lines with something in them and nowhere else.
#[track_caller]
fn assert_differ_only_where(answers: &[Response; 2], text: &str) {
    let [theirs, ours] = answers.each_ref().map(Response::text);
    assert_eq!(theirs.lines().count(), ours.lines().count());
    for (left, right) in theirs.lines().zip(ours.lines()) {
        assert!(left == right || (left.contains(text) && right.contains(text)), "{left}\n{right}");
    }
}

fn differences(theirs: &Response, ours: &Response) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut note = |what: &str, differ: bool| {
        if differ {
            found.insert(what.to_owned());
        }
    };
    let reason = |answer: &Response| answer.status_line.splitn(3, ' ').nth(2).map(str::to_owned);
    note("status", theirs.status != ours.status);
    note("reason", theirs.status == ours.status && reason(theirs) != reason(ours));
    note("end", theirs.complete != ours.complete);
    note("body", theirs.body != ours.body);
    let names: BTreeSet<_> = theirs.headers.iter().chain(&ours.headers).map(|(name, _)| name).collect();
    for name in names {
        if !SERVERS_OWN.contains(&&**name) {
            // Lines of one name are a list, however many there are (RFC 9110 §5.3); cookies are not.
            let glue = if name == "set-cookie" { "\n" } else { ", " };
            let joined = |answer: &Response| answer.all(name).collect::<Vec<_>>().join(glue);
            note(name, joined(theirs) != joined(ours));
        }
    }
    found
}

/// An answer, shortened.
fn shown(answer: &Response) -> String {
    let headers: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let text = answer.text();
    let text: String = text.chars().take(3000).collect();
    format!("{}\n{headers}complete: {}\n\n{text}\n", answer.status_line, answer.complete)
}

/// Every file below a directory, with what is in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A form with a file, as a browser sends it: its content type's line, and the body.
fn multipart(fields: &[(&str, &str)], file: (&str, &str, &[u8])) -> (&'static str, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes(),
        );
    }
    let (name, file_name, bytes) = file;
    body.extend(
        format!(
            "--edge\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .bytes(),
    );
    body.extend(bytes);
    body.extend(b"\r\n--edge--\r\n");
    ("Content-Type: multipart/form-data; boundary=edge\r\n", body)
}

// === git ===

const GIT: &str = include_str!("packages/data/git.sh");

#[test]
fn git_http_backend_is_cloned_from_and_pushed_to() {
    let both = Setup {
        name: "git-http-backend",
        data: GIT,
        variables: &[("GIT_PROJECT_ROOT", "/srv/git"), ("GIT_HTTP_EXPORT_ALL", "1")],
        stopped_clock: true,
        dcgi: "[[route]]\npath = \"/git\"\nentrypoint = [\"/usr/lib/git-core/git-http-backend\"]\n\
               [[route]]\npath = \"/private\"\nentrypoint = [\"/usr/lib/git-core/git-http-backend\"]\n\
               auth = { basic = \"SRV/git/users\", realm = \"git\" }\n",
        apache: "ScriptAlias /git/ /usr/lib/git-core/git-http-backend/\n\
                 ScriptAlias /private/ /usr/lib/git-core/git-http-backend/\n\
                 <Location /private/>\nAuthType Basic\nAuthName git\nAuthUserFile /srv/git/users\nRequire valid-user\n</Location>\n",
        ..Setup::default()
    }
    .start();
    let refs = "/git/demo.git/info/refs?service=git-upload-pack";
    both.get(&[
        refs,
        "/git/demo.git/info/refs?service=git-receive-pack",
        // The dumb protocol, which reads files.
        "/git/demo.git/info/refs",
        "/git/demo.git/HEAD",
        "/git/demo.git/objects/info/packs",
        "/git/demo.git/objects/00/0000000000000000000000000000000000000000",
        "/git/demo.git/config",
        "/git/none.git/info/refs?service=git-upload-pack",
        "/git/",
    ]);
    both.get_differing(
        &[("expires", "printed twice, it is once in dcgi's answer: a list of dates is none")],
        &["/git/demo.git/info/refs?service=git-none"],
    );
    both.ask("HEAD", "/git/demo.git/HEAD", "", "", &[]);
    for version in ["version=1", "version=2"] {
        both.ask("GET", refs, &format!("Git-Protocol: {version}\r\n"), "", &[]);
    }
    let fields = "Content-Type: application/x-git-upload-pack-request\r\nGit-Protocol: version=2\r\n";
    let list = "0014command=ls-refs\n00010009peel\n000csymrefs\n0000";
    both.ask("POST", "/git/demo.git/git-upload-pack", fields, list, &[]);
    both.ask("POST", "/git/demo.git/git-upload-pack", "Content-Type: text/plain\r\n", list, &[]);
    both.ask("DELETE", "/git/demo.git/HEAD", "", "", &[]);
    both.get_differing(NO_USER, &["/private/private.git/HEAD"]);
    both.ask("GET", "/private/private.git/HEAD", "Authorization: Basic YWRhOnNlY3JldA==\r\n", "", &[]);
    both.ask("GET", "/private/private.git/HEAD", "Authorization: Basic YWRhOndyb25n\r\n", "", NO_USER);

    for version in ["0", "2"] {
        both.with_client(&format!(
            "cd /srv; git -c protocol.version={version} clone --quiet $URL/git/demo.git a; git -C a fsck --full; git -C a show-ref;
             git -C a log --stat --decorate; sha1sum a/*/*"
        ));
        both.with_client(&format!(
            "cd /srv; git -c protocol.version={version} clone --quiet --depth 1 $URL/git/demo.git a; git -C a log --oneline;
             git -C a fetch --quiet --deepen 2; git -C a log --oneline; git -C a fetch --quiet --unshallow; git -C a log --oneline"
        ));
    }
    both.with_client(
        "cd /srv; GIT_SMART_HTTP=0 git clone --quiet $URL/git/demo.git a; git -C a log --oneline; git -C a fsck --full",
    );
    both.with_client("git ls-remote $URL/git/demo.git; git ls-remote $URL/git/none.git 2>&1 || true");
    // More than fits into one pack of the size that git sends with a length, so that it sends chunks.
    both.with_client(
        "cd /srv; git clone --quiet $URL/git/demo.git a; cd a; git config user.name Ada; git config user.email ada@example.org
         export GIT_AUTHOR_DATE=2025-12-06T12:00:00Z GIT_COMMITTER_DATE=2025-12-06T12:00:00Z
         head -c 3000000 /usr/bin/perl >large; git add .; git commit --quiet --message Large; git push --quiet 2>&1
         git push --quiet origin HEAD:refs/heads/new v1.0:refs/tags/again 2>&1; git push --quiet --delete origin side 2>&1
         git push origin HEAD~2:main 2>&1 | grep rejected || true; git ls-remote",
    );
    both.with_client(
        "cd /srv; git clone --quiet http://ada:secret@${URL#http://}/private/private.git a; cd a
         git config user.name Ada; git config user.email ada@example.org
         export GIT_AUTHOR_DATE=2025-12-06T12:00:00Z GIT_COMMITTER_DATE=2025-12-06T12:00:00Z
         git commit --quiet --allow-empty --message Private; git push --quiet; git ls-remote 2>/dev/null",
    );
    both.with_client("git ls-remote http://ada:wrong@${URL#http://}/private/private.git 2>&1 | sed 's#//.*/private#//private#' || true");
    both.finish();
}

#[test]
fn gitweb_shows_a_repository() {
    let both = Setup {
        name: "gitweb",
        data: GIT,
        variables: &[("GITWEB_CONFIG", "/srv/git/gitweb.conf")],
        stopped_clock: true,
        dcgi: "[[route]]\npath = \"/gitweb\"\nscripts = \"image:/usr/share/gitweb\"\nindex = [\"index.cgi\"]\n\
               [[route]]\npath = \"/gitweb/static\"\nstatic = \"ROOT/usr/share/gitweb/static\"\n",
        apache: "Alias /gitweb /usr/share/gitweb\n<Directory /usr/share/gitweb>\nAddHandler cgi-script .cgi\n\
                 DirectoryIndex index.cgi\n</Directory>",
        ..Setup::default()
    }
    .start();
    both.get(&[
        "/gitweb/",
        "/gitweb/gitweb.cgi",
        "/gitweb/?a=project_index",
        "/gitweb/?a=opml",
        "/gitweb/?p=demo.git",
        "/gitweb/?p=demo.git;a=summary",
        "/gitweb/?p=demo.git;a=log",
        "/gitweb/?p=demo.git;a=shortlog;h=refs/heads/side",
        "/gitweb/?p=demo.git;a=commitdiff;h=v1.0",
        "/gitweb/?p=demo.git;a=commitdiff_plain;h=HEAD",
        "/gitweb/?p=demo.git;a=patch;h=v1.0",
        "/gitweb/?p=demo.git;a=tree",
        "/gitweb/?p=demo.git;a=blob;f=src/main.c;hb=HEAD",
        "/gitweb/?p=demo.git;a=blob_plain;f=src/blob.bin;hb=HEAD",
        "/gitweb/?p=demo.git;a=blame;f=src/main.c;hb=HEAD",
        "/gitweb/?p=demo.git;a=history;f=src/numbers.txt;hb=HEAD",
        "/gitweb/?p=demo.git;a=tag;h=refs/tags/v1.0",
        "/gitweb/?p=demo.git;a=tags",
        "/gitweb/?p=demo.git;a=search;s=program;st=commit",
        "/gitweb/gitweb.cgi/demo.git/tree/HEAD:/src",
        "/gitweb/gitweb.cgi/demo.git/blob_plain/v1.0:/README.md",
        "/gitweb/?p=none.git",
        "/gitweb/?p=demo.git;a=blob;f=none;hb=HEAD",
        "/gitweb/?p=../demo.git",
        "/gitweb/?a=none",
    ]);
    both.get_differing(ETAG, &["/gitweb/static/gitweb.css", "/gitweb/static/git-logo.png"]);
    both.get_differing(
        ANOTHER_DATE,
        &[
            "/gitweb/?p=demo.git;a=rss",
            "/gitweb/?p=demo.git;a=atom",
            "/gitweb/?p=demo.git;a=snapshot;h=v1.0;sf=tgz",
        ],
    );
    both.ask("HEAD", "/gitweb/?p=demo.git;a=rss", "", "", ANOTHER_DATE);
    both.ask(
        "GET",
        "/gitweb/?p=demo.git;a=rss",
        "If-Modified-Since: Fri, 05 Dec 2025 12:00:00 GMT\r\n",
        "",
        ANOTHER_DATE,
    );
    both.finish();
}

#[test]
fn cgit_shows_a_repository() {
    let both = Setup {
        name: "cgit",
        data: GIT,
        variables: &[("CGIT_CONFIG", "/srv/git/cgitrc")],
        stopped_clock: true,
        dcgi: "[[route]]\npath = \"/cgit\"\nentrypoint = [\"/usr/lib/cgit/cgit.cgi\"]\n\
               [[route]]\npath = \"/cgit-css\"\nstatic = \"ROOT/usr/share/cgit\"\n",
        apache: "ScriptAlias /cgit/ /usr/lib/cgit/cgit.cgi/\nAlias /cgit-css /usr/share/cgit",
        ..Setup::default()
    }
    .start();
    both.get(&[
        "/cgit/",
        "/cgit/demo/",
        "/cgit/demo/about/",
        "/cgit/demo/refs/",
        "/cgit/demo/log/",
        "/cgit/demo/log/?h=side&showmsg=1",
        "/cgit/demo/log/src/numbers.txt?qt=grep&q=Count",
        "/cgit/demo/tree/",
        "/cgit/demo/tree/src/main.c?id=v1.0",
        "/cgit/demo/plain/src/blob.bin",
        "/cgit/demo/plain/README.md",
        "/cgit/demo/blame/src/main.c",
        "/cgit/demo/commit/",
        "/cgit/demo/diff/?id=HEAD&id2=v1.0",
        "/cgit/demo/patch/?id=v1.0",
        "/cgit/demo/tag/?h=v1.0",
        "/cgit/demo/stats/",
        "/cgit/demo/atom/",
        "/cgit/demo/snapshot/demo-1.0.tar.gz",
        "/cgit/demo/snapshot/demo-1.0.zip",
        "/cgit/demo/info/refs",
        "/cgit/demo/HEAD",
        "/cgit/demo/commit/?id=0000",
        "/cgit/none/",
        "/cgit/demo/none/",
        "/cgit/?q=none",
    ]);
    both.get_differing(ETAG, &["/cgit-css/cgit.css", "/cgit-css/cgit.png"]);
    both.ask("HEAD", "/cgit/demo/", "", "", &[]);
    both.with_client("cd /srv; git clone --quiet $URL/cgit/demo a; git -C a log --oneline");
    both.finish();
}

// === statistics and states ===

#[test]
fn awstats_shows_and_updates_its_statistics() {
    let both = Setup {
        name: "AWStats",
        data: include_str!("packages/data/awstats.sh"),
        volumes: &["/etc/awstats", "/var/lib/awstats"],
        stopped_clock: true,
        dcgi: "[[route]]\npath = \"/cgi-bin\"\nscripts = \"image:/usr/lib/cgi-bin\"\n\
               [[route]]\npath = \"/awstats-icon\"\nstatic = \"ROOT/usr/share/awstats/icon\"\n",
        apache: "ScriptAlias /cgi-bin/ /usr/lib/cgi-bin/\nAlias /awstats-icon /usr/share/awstats/icon",
        ..Setup::default()
    }
    .start();
    let month = "/cgi-bin/awstats.pl?config=demo&year=2025&month=12";
    both.get_differing(
        ANOTHER_DATE,
        &[
            month,
            &format!("{month}&framename=mainleft"),
            &format!("{month}&framename=mainright"),
            &format!("{month}&output=allhosts"),
            &format!("{month}&output=urldetail&urlfilter=shop"),
            &format!("{month}&output=errors404"),
            &format!("{month}&output=keyphrases&lang=de"),
            "/cgi-bin/awstats.pl?config=demo&month=all&year=2025",
            "/cgi-bin/awstats.pl?config=none",
            "/cgi-bin/awstats.pl?config=demo&lang=%3Cscript%3E",
        ],
    );
    both.get_differing(ETAG, &["/awstats-icon/other/awstats_logo6.png"]);
    both.post("/cgi-bin/awstats.pl", "config=demo&year=2025&month=12&output=main", ANOTHER_DATE);
    for volumes in [&both.apache.volumes, &both.volumes] {
        volumes.shell("sed s#03/Dec#04/Dec# /srv/access.log | grep 04/Dec >>/srv/access.log.new; cat /srv/access.log.new >>/srv/access.log", &[]);
    }
    both.get_differing(ANOTHER_DATE, &[&format!("{month}&update=1"), month]);
    both.assert_wrote_alike("/var/lib/awstats");
    both.finish();
}

#[test]
fn nagios_shows_each_user_what_is_theirs() {
    let both = Setup {
        name: "Nagios",
        data: include_str!("packages/data/nagios.sh"),
        volumes: &["/var/lib/nagios4"],
        variables: &[("NAGIOS_CGI_CONFIG", "/srv/nagios/cgi.cfg")],
        stopped_clock: true,
        dcgi: "[[route]]\npath = \"/nagios4/cgi-bin\"\nscripts = \"image:/usr/lib/cgi-bin/nagios4\"\n\
               auth = { basic = \"SRV/nagios/users\", realm = \"Nagios\" }\n\
               [[route]]\npath = \"/nagios4/stylesheets\"\nstatic = \"ROOT/etc/nagios4/stylesheets\"\n",
        apache: "ScriptAlias /nagios4/cgi-bin/ /usr/lib/cgi-bin/nagios4/\nAlias /nagios4/stylesheets /etc/nagios4/stylesheets\n\
                 <Location /nagios4/cgi-bin/>\nAuthType Basic\nAuthName Nagios\nAuthUserFile /srv/nagios/users\n\
                 Require valid-user\n</Location>\n",
    }
    .start();
    let (ada, all) =
        ("Authorization: Basic YWRhOnNlY3JldA==\r\n", "Authorization: Basic bmFnaW9zYWRtaW46c2VjcmV0\r\n");
    for user in [ada, all] {
        for target in [
            "status.cgi?host=all",
            "status.cgi?hostgroup=all&style=hostdetail",
            "status.cgi?host=web",
            "status.cgi?host=mail",
            "extinfo.cgi?type=1&host=web",
            "extinfo.cgi?type=2&host=mail&service=HTTP",
            "extinfo.cgi?type=0",
            "tac.cgi",
            "outages.cgi",
            "config.cgi?type=hosts",
            "statusjson.cgi?query=hostlist",
            "statusjson.cgi?query=service&hostname=web&servicedescription=HTTP",
            "objectjson.cgi?query=hostlist&details=true",
            "cmd.cgi?cmd_typ=29&host=web",
            "showlog.cgi",
            "history.cgi?host=all",
            "statusmap.cgi?host=all",
            "statuswml.cgi",
        ] {
            both.ask("GET", &format!("/nagios4/cgi-bin/{target}"), user, "", &[]);
        }
    }
    both.get_differing(NO_USER, &["/nagios4/cgi-bin/tac.cgi"]);
    both.get_differing(ETAG, &["/nagios4/stylesheets/common.css"]);
    both.ask("GET", "/nagios4/cgi-bin/none.cgi", ada, "", OWN_PAGE);
    let shown = both.ask("GET", "/nagios4/cgi-bin/status.cgi?host=all", ada, "", &[]);
    assert!(shown.iter().all(|answer| answer.text().contains("web") && !answer.text().contains("host=mail")));
    both.finish();
}

#[test]
fn mailgraph_draws_its_graphs() {
    let both = Setup {
        name: "mailgraph",
        data: include_str!("packages/data/mailgraph.sh"),
        volumes: &["/var/lib/mailgraph"],
        stopped_clock: true,
        dcgi: "[[route]]\npath = \"/mailgraph\"\nscripts = \"image:/usr/share/mailgraph\"\n",
        apache: "ScriptAlias /mailgraph/ /usr/share/mailgraph/",
        ..Setup::default()
    }
    .start();
    both.get(&[
        "/mailgraph/mailgraph.cgi?0-n",
        "/mailgraph/mailgraph.cgi?0-e",
        "/mailgraph/mailgraph.cgi?1-n",
        "/mailgraph/mailgraph.cgi?3-g",
    ]);
    let answers = both.ask("GET", "/mailgraph/mailgraph.cgi", "", "", HOST_NAME);
    assert_differ_only_where(&answers, "Mail statistics for ");
    both.get_differing(NO_ANSWER, &["/mailgraph/mailgraph.cgi?9-z"]);
    both.finish();
}

// === maps and documents ===

#[test]
fn mapserver_draws_a_map() {
    let both = Setup {
        name: "MapServer",
        data: include_str!("packages/data/mapserver.sh"),
        dcgi: CGI_BIN.0,
        apache: CGI_BIN.1,
        ..Setup::default()
    }
    .start();
    let wms = "/cgi-bin/mapserv?map=/srv/demo.map&SERVICE=WMS&VERSION=1.3.0";
    let map = format!("{wms}&REQUEST=GetMap&CRS=EPSG:4326&BBOX=0,0,100,200&WIDTH=200&HEIGHT=100&STYLES=");
    both.get(&[
        "/cgi-bin/mapserv",
        "/cgi-bin/mapserv?map=/srv/demo.map&mode=map",
        "/cgi-bin/mapserv?map=/srv/demo.map&mode=browse",
        "/cgi-bin/mapserv?map=/srv/demo.map&mode=query&mapxy=100+50",
        "/cgi-bin/mapserv?map=/srv/none.map&mode=map",
        &format!("{wms}&REQUEST=GetCapabilities"),
        &format!("{map}&LAYERS=land&FORMAT=image/png"),
        &format!("{map}&LAYERS=land&FORMAT=image/jpeg"),
        &format!("{map}&LAYERS=none&FORMAT=image/png"),
        &format!("{wms}&REQUEST=None"),
    ]);
    both.post("/cgi-bin/mapserv", "map=/srv/demo.map&mode=map", &[]);
    both.finish();
}

/// The packages' common directory.
const CGI_BIN: (&str, &str) = (
    "[[route]]\npath = \"/cgi-bin\"\nscripts = \"image:/usr/lib/cgi-bin\"\n",
    "ScriptAlias /cgi-bin/ /usr/lib/cgi-bin/",
);

#[test]
fn man2html_shows_a_page_of_the_manual() {
    let both = Setup {
        name: "man2html",
        data: include_str!("packages/data/man.sh"),
        volumes: &["/usr/share/man"],
        stopped_clock: true,
        dcgi: CGI_BIN.0,
        apache: CGI_BIN.1,
        ..Setup::default()
    }
    .start();
    both.get(&[
        "/cgi-bin/man/man2html",
        "/cgi-bin/man/man2html?/none.1",
        "/cgi-bin/man/man2html?/etc/passwd",
        "/cgi-bin/man/mansec?/usr/share/man+1",
        "/cgi-bin/man/manwhatis?/usr/share/man+1",
        "/cgi-bin/man/mansearch",
    ]);
    both.get_differing(
        ANOTHER_DATE,
        &["/cgi-bin/man/man2html?/usr/share/man/man1/demo.1", "/cgi-bin/man/man2html?demo+1"],
    );
    both.finish();
}

#[test]
fn the_cache_manager_asks_which_proxy() {
    let both = Setup { name: "cachemgr", dcgi: CGI_BIN.0, apache: CGI_BIN.1, ..Setup::default() }.start();
    let answers = both.ask("GET", "/cgi-bin/cachemgr.cgi", "", "", HOST_NAME);
    assert_differ_only_where(&answers, "by cachemgr.cgi/");
    both.finish();
}

// === wikis and weblogs ===

#[test]
fn usemod_is_written_to() {
    let both = Setup {
        name: "UseModWiki",
        data: "",
        volumes: &["/var/lib/usemod-wiki"],
        stopped_clock: true,
        dcgi: CGI_BIN.0,
        // Without a REMOTE_HOST the wiki looks for a name itself. dcgi always says one (RFC 3875 §4.1.9), Apache where it has one.
        apache: "ScriptAlias /cgi-bin/ /usr/lib/cgi-bin/\nSetEnv REMOTE_HOST 127.0.0.1",
        ..Setup::default()
    }
    .start();
    both.get(&["/cgi-bin/wiki.pl", "/cgi-bin/wiki.pl?SandBox", "/cgi-bin/wiki.pl?action=edit&id=SandBox"]);
    let page = "title=SandBox&oldtime=0&oldconflict=&summary=First&Save=Save&text=A+%27%27page%27%27+%26+a+WikiWord.%0D%0A+*+one%0D%0A";
    both.post("/cgi-bin/wiki.pl", page, GUESSED_TYPE);
    both.get(&[
        "/cgi-bin/wiki.pl?SandBox",
        "/cgi-bin/wiki.pl?action=rc",
        "/cgi-bin/wiki.pl?action=rss",
        "/cgi-bin/wiki.pl?action=history&id=SandBox",
        "/cgi-bin/wiki.pl?action=index",
        "/cgi-bin/wiki.pl?search=page",
        "/cgi-bin/wiki.pl/SandBox",
        "/cgi-bin/wiki.pl?action=none",
        "/cgi-bin/wiki.pl?none+of+it",
    ]);
    both.post("/cgi-bin/wiki.pl", &page.replace("one", "two").replace("First", "Second"), GUESSED_TYPE);
    both.get(&["/cgi-bin/wiki.pl?action=browse&diff=1&id=SandBox"]);
    both.get_differing(
        &[("set-cookie", "the wiki gives each new user a random key")],
        &["/cgi-bin/wiki.pl?action=editprefs"],
    );
    // A user's own file holds a random key.
    both.assert_wrote_alike("/var/lib/usemod-wiki/page");
    both.assert_wrote_alike("/var/lib/usemod-wiki/keep");
    both.finish();
}

#[test]
fn blosxom_shows_its_entries() {
    let both = Setup {
        name: "Blosxom",
        data: include_str!("packages/data/blosxom.sh"),
        volumes: &["/var/lib/blosxom"],
        stopped_clock: true,
        dcgi: CGI_BIN.0,
        apache: CGI_BIN.1,
        ..Setup::default()
    }
    .start();
    both.get(&[
        "/cgi-bin/blosxom",
        "/cgi-bin/blosxom/",
        "/cgi-bin/blosxom/first.html",
        "/cgi-bin/blosxom/travel/",
        "/cgi-bin/blosxom/2025/12/02",
        "/cgi-bin/blosxom/index.rss",
        "/cgi-bin/blosxom?flav=rss",
        "/cgi-bin/blosxom/none",
    ]);
    both.finish();
}

// === other repositories ===

#[test]
fn cvsweb_shows_a_repository() {
    let both = Setup {
        name: "CVSweb",
        data: include_str!("packages/data/cvs.sh"),
        volumes: &["/etc/cvsweb"],
        stopped_clock: true,
        dcgi: CGI_BIN.0,
        apache: CGI_BIN.1,
        ..Setup::default()
    }
    .start();
    both.get(&[
        "/cgi-bin/cvsweb/",
        "/cgi-bin/cvsweb/demo/",
        "/cgi-bin/cvsweb/demo/?sortby=date",
        "/cgi-bin/cvsweb/demo/file.txt",
        "/cgi-bin/cvsweb/demo/file.txt?rev=1.1;content-type=text%2Fx-cvsweb-markup",
        "/cgi-bin/cvsweb/demo/file.txt?annotate=1.2",
        "/cgi-bin/cvsweb/demo/file.txt.diff?r1=1.1;r2=1.2",
        "/cgi-bin/cvsweb/demo/file.txt.diff?r1=1.1;r2=1.2;f=h",
        "/cgi-bin/cvsweb/demo/demo.tar.gz?tarball=1",
        "/cgi-bin/cvsweb/demo/none",
        "/cgi-bin/cvsweb",
        "/cgi-bin/cvsweb/demo",
    ]);
    let checkout = "/cgi-bin/cvsweb/~checkout~/demo/file.txt?rev=1.2";
    both.get_differing(ANOTHER_DATE, &[checkout, &format!("{checkout};content-type=text%2Fplain")]);
    both.finish();
}

#[test]
fn mercurial_is_cloned_from_and_pushed_to() {
    let both = Setup {
        name: "hgweb",
        data: include_str!("packages/data/hg.sh"),
        stopped_clock: true,
        dcgi: "[[route]]\npath = \"/hg\"\nentrypoint = [\"/srv/hgweb.cgi\"]\n",
        apache: "ScriptAlias /hg /srv/hgweb.cgi",
        ..Setup::default()
    }
    .start();
    both.get(&[
        "/hg/",
        "/hg/shortlog",
        "/hg/rev/1",
        "/hg/file/tip/",
        "/hg/file/tip/README",
        "/hg/raw-file/v1.0/numbers",
        "/hg/diff/1/README",
        "/hg/annotate/tip/README",
        "/hg/tags",
        "/hg/atom-log",
        "/hg/archive/v1.0.tar.gz",
        "/hg/log?rev=light",
        "/hg/static/style-paper.css",
        "/hg/none",
        "/hg/rev/none",
        "/hg/?cmd=capabilities",
        "/hg/?cmd=lookup&key=tip",
    ]);
    both.ask("HEAD", "/hg/?cmd=capabilities", "", "", &[]);
    both.with_client(
        "cd /srv; hg clone --quiet $URL/hg a; cd a; hg log; seq 1 100000 >large; export HGUSER=Ada
         hg commit --quiet --addremove --message Large --date '2025-12-04 12:00 UTC'; hg push",
    );
    both.get(&["/hg/?cmd=lookup&key=tip"]);
    both.finish();
}

// === sites of one's own ===

#[test]
fn a_site_of_php_is_served() {
    let both = Setup {
        name: "PHP",
        data: "mkdir /srv/uploads",
        volumes: &["/var/lib/php/sessions"],
        dcgi: "[[route]]\npath = \"/site\"\nscripts = \"SRV/site\"\nstatic = \"SRV/site\"\nindex = [\"index.php\"]\n\
               handlers = { \".php\" = [\"/usr/bin/php-cgi\"] }\n\
               rewrite = [{ when = \"not-a-file\", to = \"/index.php/{path}\" }]\n",
        apache: "ScriptAlias /php-bin/ /usr/lib/cgi-bin/\nAlias /site /srv/site\n<Directory /srv/site>\n\
                 AddHandler application/x-httpd-php .php\nAction application/x-httpd-php /php-bin/php\n\
                 DirectoryIndex index.php\nRewriteEngine On\nRewriteBase /site\nRewriteCond %{REQUEST_FILENAME} !-f\n\
                 RewriteCond %{REQUEST_FILENAME} !-d\nRewriteRule ^(.*)$ index.php/$1 [L]\n</Directory>\n",
        ..Setup::default()
    }
    .start();
    both.get(&[
        "/site/",
        "/site/index.php",
        "/site/blog/7",
        "/site/blog/7?q=%3Cb%3E&x",
        "/site/index.php/blog/8",
        "/site/none/at/all",
        "/site/sub/",
        "/site/sub/more",
        "/site/told.php",
        "/site/told.php/path/info?a=1&a=2&b[]=x&b[]=y+z",
        "/site/redirect.php",
        "/site/redirect.php?status=303",
        "/site/redirect.php?status=307",
        "/site/stream.php",
    ]);
    both.get_differing(ETAG, &["/site/style.css"]);
    both.ask("HEAD", "/site/blog/7", "", "", &[]);
    both.ask("GET", "/site/told.php", "Cookie: a=1; b=%20\r\nX-Custom: yes\r\n", "", &[]);
    let two = [(
        "body",
        "Apache joins two lines of cookies by a comma, which belongs to the first cookie then, dcgi by a semicolon",
    )];
    both.ask("GET", "/site/told.php", "Cookie: a=1\r\nCookie: c=3\r\n", "", &two);
    both.ask("PUT", "/site/told.php", "Content-Type: application/json\r\n", "{\"a\":1}", &[]);
    both.ask("DELETE", "/site/told.php", "", "", &[]);
    both.post("/site/told.php?x=1", "a=1&b=%C3%A4&c[]=1&c[]=2", &[]);
    let cookie = "Cookie: PHPSESSID=abcdefghijklmnopqrstuvwxyz\r\n";
    for _ in 0..3 {
        both.ask("GET", "/site/session.php", cookie, "", &[]);
    }
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let (fields, body) = multipart(&[("note", "a note")], ("file", "numbers.bin", &bytes));
    both.ask("POST", "/site/upload.php", fields, body, &[]);
    both.assert_wrote_alike("/srv/uploads");
    both.assert_wrote_alike("/var/lib/php/sessions");
    both.finish();
}

/// A route for the scripts that are ours.
const OWN: (&str, &str) =
    ("[[route]]\npath = \"/own\"\nscripts = \"SRV/cgi-bin\"\n", "ScriptAlias /own/ /srv/cgi-bin/");

#[test]
fn a_guestbook_of_perl_is_written_to() {
    let both =
        Setup { name: "Perl", data: "mkdir /srv/guestbook", dcgi: OWN.0, apache: OWN.1, ..Setup::default() }
            .start();
    both.get(&["/own/guestbook.pl", "/own/guestbook.pl/more"]);
    for form in ["name=Ada&text=Hello+%3Cworld%3E", "name=Bob&text=%C3%A4%0A%09"] {
        both.post("/own/guestbook.pl", form, GUESSED_TYPE);
    }
    both.post("/own/guestbook.pl", "text=nobody", &[]);
    both.ask("GET", "/own/guestbook.pl", "Cookie: guest=Ada\r\n", "", &[]);
    both.ask("HEAD", "/own/guestbook.pl", "", "", &[]);
    both.assert_wrote_alike("/srv/guestbook");
    both.finish();
}

#[test]
fn an_application_of_python_is_served_by_wsgi() {
    let both = Setup { name: "Python, WSGI", dcgi: OWN.0, apache: OWN.1, ..Setup::default() }.start();
    both.get(&[
        "/own/app.py/told?x=%20y",
        "/own/app.py",
        "/own/app.py/lines",
        "/own/app.py/cookies",
        "/own/app.py/none",
        "/own/app.py/unchanged",
        "/own/app.py/broken",
        "/own/app.py/%C3%A4",
    ]);
    both.ask("POST", "/own/app.py/sum", "Content-Type: application/json\r\n", "[1, 2, 39]", &[]);
    both.ask("POST", "/own/app.py/sum", "Content-Type: application/json\r\n", "[1, ", &[]);
    both.ask("HEAD", "/own/app.py/lines", "", "", &[]);
    both.finish();
}

#[test]
fn a_form_of_tcl_is_served() {
    let both = Setup { name: "Tcl, ncgi", dcgi: OWN.0, apache: OWN.1, ..Setup::default() }.start();
    both.get(&["/own/form.tcl", "/own/form.tcl?a=1&b=%3Ci%3E"]);
    both.get_differing(NO_PAGE_OF_ITS_OWN, &["/own/form.tcl?go=/elsewhere"]);
    both.post("/own/form.tcl", "name=Ada+L.&text=a%0D%0Ab", &[]);
    both.ask("GET", "/own/form.tcl", "Cookie: seen=before\r\n", "", &[]);
    let (fields, body) = multipart(&[("note", "a note")], ("file", "a.txt", b"some text"));
    both.ask("POST", "/own/form.tcl", fields, body, &[]);
    both.finish();
}

#[test]
fn a_form_of_ruby_is_served() {
    let both = Setup { name: "Ruby, cgi", dcgi: OWN.0, apache: OWN.1, ..Setup::default() }.start();
    both.get(&[
        "/own/form.rb?a=1&a=2&b=%3Ci%3E",
        "/own/form.rb/teapot",
        "/own/form.rb/cookie",
        "/own/form.rb/away",
    ]);
    both.ask("GET", "/own/form.rb/cookie", "Cookie: flavour=oat&rye\r\n", "", &[]);
    both.ask("HEAD", "/own/form.rb/teapot", "", "", &[]);
    both.post("/own/form.rb", "name=Ada&text=a%0D%0Ab", &[]);
    let (fields, body) =
        multipart(&[("note", "a note")], ("file", "noise.bin", &[0, 13, 10, 255].repeat(20_000)));
    both.ask("POST", "/own/form.rb", fields, body, &[]);
    both.finish();
}

#[test]
fn scripts_of_the_shell_are_served() {
    let both = Setup { name: "shell, haserl", dcgi: OWN.0, apache: OWN.1, ..Setup::default() }.start();
    both.get(&[
        "/own/shell.cgi",
        "/own/shell.cgi/x/y?q",
        "/own/shell.cgi/crlf",
        "/own/shell.cgi/big",
        "/own/shell.cgi/here",
        "/own/shell.cgi/away-with-a-page",
        "/own/shell.cgi/validators",
        "/own/shell.cgi/range",
        "/own/shell.cgi/fails",
    ]);
    let merged =
        [("body", "behind a script's name Apache merges a run of slashes, dcgi leaves it to the program")];
    let answers = both.ask("GET", "/own/shell.cgi/x//y?q", "", "", &merged);
    assert_differ_only_where(&answers, "PATH_INFO=");
    both.get_differing(NO_PAGE_OF_ITS_OWN, &["/own/shell.cgi/away"]);
    both.get_differing(NO_ANSWER, &["/own/shell.cgi/no-header", "/own/shell.cgi/nothing"]);
    for fields in ["If-None-Match: \"v1\"\r\n", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n"] {
        both.ask("GET", "/own/shell.cgi/validators", fields, "", PRECONDITION);
    }
    let failed =
        [PRECONDITION, &[("etag", "Apache's page has none"), ("last-modified", "nor a date")]].concat();
    both.ask("GET", "/own/shell.cgi/validators", "If-Match: \"v2\"\r\n", "", &failed);
    both.ask("GET", "/own/shell.cgi/range", "Range: bytes=2-4\r\n", "", &[]);
    both.ask("HEAD", "/own/shell.cgi/big", "", "", &[]);
    // More than pipes hold, and Apache waits for its program while that waits for Apache.
    let bytes: Vec<u8> = (0..=255).cycle().take(50_000).collect();
    both.ask("POST", "/own/shell.cgi/upper", "Content-Type: text/plain\r\n", "quietly", &[]);
    both.ask("POST", "/own/shell.cgi/bytes", "", &bytes, &[]);
    both.ask("POST", "/own/shell.cgi/early", "", &bytes, &[]);
    both.ask("PROPFIND", "/own/shell.cgi", "Depth: 1\r\n", "", &[]);
    both.ask("OPTIONS", "/own/shell.cgi", "", "", &[]);
    both.get(&["/own/upload.haserl?text=a+b"]);
    let (fields, body) = multipart(&[("text", "a note")], ("file", "a.txt", b"some text"));
    both.ask("POST", "/own/upload.haserl", &format!("{fields}Cookie: flavour=oat\r\n"), body, &[]);
    both.finish();
}

#[test]
fn a_script_that_speaks_http_itself_is_understood() {
    let both = Setup { name: "NPH", dcgi: OWN.0, apache: OWN.1, ..Setup::default() }.start();
    both.get(&["/own/nph-count.cgi"]);
    both.ask("HEAD", "/own/nph-count.cgi", "", "", &[]);
    both.finish();
}
