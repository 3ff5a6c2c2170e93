//! Apache beside dcgi: both serve the same scripts, are sent the same bytes, and are to answer alike. It is what CGI scripts
//! were written for, and where an RFC leaves something open, what it does is the custom.
//!
//! Where dcgi differs, a test says how, and why.

mod common;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::time::{Duration, SystemTime};

use common::apache::Apache;
use common::embedded::Store;
use common::server::read_all;
use common::{Connection, Response, Server};
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

/// The two, and the scripts that they serve below `/cgi/`.
struct Beside {
    apache: Apache,
    dcgi: Server,
    _store: Store,
    _scripts: TempDir,
    files: TempDir,
}

const FOLDERS: &[&str] = &["sub", "indexed", "sub/deep"];

const ENV: &str = "printf 'Content-Type: text/plain\\n\\n'; echo \"ZERO=$0\"; echo \"PWD=$(pwd)\"; exec env";

const SCRIPTS: &[(&str, &str)] = &[
    ("env", ENV),
    ("a b;c.cgi", ENV),
    ("sub/deep/env", ENV),
    ("indexed/index.cgi", ENV),
    ("body", "printf 'Content-Type: text/plain\\n\\n'; exec cat"),
    ("cwd", "printf 'Content-Type: text/plain\\n\\n'; basename \"$(pwd)\""),
    ("status", "printf 'Status: %s\\nContent-Type: text/plain\\n\\nbody' \"$QUERY_STRING\""),
    ("bad-request", "printf 'Status: 400 No\\nContent-Type: text/plain\\n\\nno'"),
    (
        "twice",
        "printf 'Content-Type: text/html\\ncontent-type: text/plain\\nETag: \"a\"\\nETag: \"b\"\\n'
         printf 'Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT\\nLast-Modified: Sun, 02 Jan 2000 00:00:00 GMT\\n'
         printf 'Content-Range: bytes 0-0/9\\nContent-Range: bytes 0-1/9\\nSet-Cookie: a=1\\nSet-Cookie: b=2\\n'
         printf 'Location: http://h/a\\nLocation: http://h/b\\nStatus: 206 Partial Content\\n\\nbo'",
    ),
    ("refused", "printf '<!--: spam\\nContent-Type: text/html\\n\\n<p>ZeroDivisionError</p>\\n'"),
];

const FILES: &[(&str, &str)] = &[
    ("index.html", "<h1>home</h1>"),
    ("numbers.txt", "0123456789"),
    ("logo.png", "png"),
    ("photo.php.jpg", "jpeg"),
    ("a b%;.html", "odd"),
    ("empty.css", ""),
    ("sub/page.html", "page"),
    ("private.html", "secret"),
    ("closed/page.html", "secret"),
];

impl Beside {
    #[track_caller]
    fn start() -> Self {
        let scripts = tempfile::tempdir().unwrap();
        let executable = |path: &std::path::Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        executable(scripts.path());
        for folder in FOLDERS {
            fs::create_dir(scripts.path().join(folder)).unwrap();
            executable(&scripts.path().join(folder));
        }
        for (name, text) in SCRIPTS {
            let path = scripts.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            executable(&path);
        }
        let at = |name: &str| scripts.path().join(name);
        fs::write(at("sub/no-bit"), "#!/bin/sh\necho\n").unwrap();
        mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o666)).unwrap();
        for (target, name) in [("env", "link"), ("sub", "folder"), ("none", "dangling"), ("loop", "loop")] {
            symlink(target, at(name)).unwrap();
        }
        let files = tempfile::tempdir().unwrap();
        executable(files.path());
        for folder in ["sub", "empty", "closed"] {
            fs::create_dir(files.path().join(folder)).unwrap();
        }
        for (name, text) in FILES {
            fs::write(files.path().join(name), text).unwrap();
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            fs::File::open(files.path().join(name)).unwrap().set_modified(changed).unwrap();
        }
        for (name, mode) in [("private.html", 0o640), ("closed", 0o750)] {
            fs::set_permissions(files.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        mkfifoat(CWD, files.path().join("fifo"), Mode::from_raw_mode(0o666)).unwrap();
        for (target, name) in [("numbers.txt", "link.txt"), ("loop", "loop"), ("/etc/hostname", "out")] {
            symlink(target, files.path().join(name)).unwrap();
        }
        let apache = Apache::serving(scripts.path(), files.path());
        let store = Store::new();
        let route = format!(
            "[[route]]\npath = \"/cgi\"\nrootfs = \"/\"\nscripts = \"{}\"\nindex = [\"index.cgi\"]\n\
             [[route]]\npath = \"/files\"\nstatic = \"{}\"\nindex = [\"index.html\"]\n",
            scripts.path().display(),
            files.path().display()
        );
        Self { apache, dcgi: store.serve(&route), _store: store, _scripts: scripts, files }
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.apache.address, self.dcgi.address]
    }

    /// What Apache answers to these bytes, and what dcgi does.
    #[track_caller]
    fn send(&self, request: impl AsRef<[u8]>) -> [Response; 2] {
        self.addresses().map(|address| {
            let mut connection = Connection::open(address);
            connection.send(request.as_ref());
            connection.response()
        })
    }

    /// For a file, with these fields.
    #[track_caller]
    fn ask(&self, method: &str, target: &str, fields: &str) -> [Response; 2] {
        self.send(format!("{method} /files{target} HTTP/1.1\r\nHost: example.org:4711\r\n{fields}\r\n"))
    }

    #[track_caller]
    fn get(&self, target: &str) -> [Response; 2] {
        self.send(get(target))
    }
}

fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: example.org:4711\r\n\r\n"].concat()
}

/// What both programs are told, variable by variable.
#[track_caller]
fn assert_told_alike(answers: &[Response; 2], names: &[&str]) {
    let told = answers.each_ref().map(|answer| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned)
        };
        names.iter().map(|name| (*name, value(name))).collect::<Vec<_>>()
    });
    assert_eq!(told[0], told[1], "Apache's program was told the first, dcgi's the second");
}

#[track_caller]
fn statuses(answers: &[Response; 2]) -> [u16; 2] {
    answers.each_ref().map(|answer| answer.status)
}

#[test]
fn programs_are_told_alike() {
    let both = Beside::start();
    let names = [
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "GATEWAY_INTERFACE",
        "HTTP_ACCEPT",
        "HTTP_COOKIE",
        "HTTP_HOST",
        "HTTP_PROXY",
        "HTTP_X_FORWARDED_FOR",
        "HTTPS",
        "PATH_INFO",
        "QUERY_STRING",
        "REMOTE_ADDR",
        "REMOTE_USER",
        "REQUEST_METHOD",
        "REQUEST_SCHEME",
        "REQUEST_URI",
        "SCRIPT_NAME",
        "SERVER_ADDR",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
    ];
    for target in
        ["/cgi/env", "/cgi/env/", "/cgi/env/a%20b/c?x=%31&y", "/cgi/env/%3Cé%3E?", "/cgi/./env/../env/x"]
    {
        assert_told_alike(&both.get(target), &names);
    }
    let headers = "Accept: a\r\nAccept: b\r\nCookie: c=1\r\nProxy: evil\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 6.6.6.6";
    let head = |method: &str, version: &str, more: &str| {
        format!("{method} /cgi/env/x?y {version}\r\nHost: example.org:4711\r\n{headers}\r\n{more}\r\n")
    };
    for method in ["GET", "DELETE", "PROPFIND"] {
        assert_told_alike(&both.send(head(method, "HTTP/1.1", "")), &names);
    }
    assert_told_alike(&both.send(head("GET", "HTTP/1.0", "")), &names);
    let body = "Content-Type: text/plain\r\nContent-Length: 5\r\n";
    assert_told_alike(&both.send(head("POST", "HTTP/1.1", body) + "hello"), &names);
    assert_told_alike(&both.send(head("POST", "HTTP/1.1", "Content-Length: 0\r\n")), &names);
}

#[test]
fn what_may_not_stand_in_a_target_is_taken_alike() {
    let both = Beside::start();
    let names = ["PATH_INFO", "QUERY_STRING", "REQUEST_URI", "SCRIPT_NAME"];
    for target in ["/cgi/env/<x>?y=<z>", "/cgi/env/\"x\"?\"y\"", "/cgi/env/`x`?`y`", "/cgi/env/ä?ö={}|\\^"]
    {
        assert_told_alike(&both.get(target), &names);
    }
    assert_told_alike(&both.send(get(b"/cgi/env/\xe4?\xf6")), &names);
}

#[test]
fn a_run_of_slashes_finds_the_same_script() {
    let both = Beside::start();
    for target in ["//cgi/env", "/cgi//env?x", "//cgi///env/x"] {
        assert_told_alike(&both.get(target), &["SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_URI"]);
    }
    // Behind the script, Apache merges the run, and dcgi leaves it to the program.
    let told = both.get("/cgi/env//a///b");
    assert!(told[0].text().contains("\nPATH_INFO=/a/b\n"), "{}", told[0].text());
    assert!(told[1].text().contains("\nPATH_INFO=//a///b\n"), "{}", told[1].text());
}

#[test]
fn a_script_works_in_its_own_directory() {
    let both = Beside::start();
    let [apache, dcgi] = both.get("/cgi/cwd");
    assert!(apache.text().starts_with(".tmp"), "{}", apache.text());
    assert_eq!(dcgi.text(), apache.text());
}

#[test]
fn a_path_finds_the_same_script() {
    let both = Beside::start();
    let names = ["SCRIPT_NAME", "SCRIPT_FILENAME", "PATH_INFO", "REQUEST_URI", "QUERY_STRING", "ZERO", "PWD"];
    for target in [
        "/cgi/env",
        "/cgi/env/x/y?z",
        "/cgi/link",
        "/cgi/link/x",
        "/cgi/folder/deep/env/x",
        "/cgi/sub/deep/env",
        "/cgi/sub/deep/env/",
        "/cgi/sub/./deep/../deep/env",
        "/cgi/a%20b%3Bc.cgi/d%20e",
        "/cgi/indexed/",
        "/cgi/indexed/index.cgi/x",
    ] {
        assert_told_alike(&both.get(target), &names);
    }
}

#[test]
fn what_is_no_script_is_refused_alike() {
    let both = Beside::start();
    for target in [
        "/cgi/none",
        "/cgi/none/x",
        "/cgi/",
        "/cgi/sub/",
        "/cgi/sub/deep/",
        "/cgi/sub/none",
        "/cgi/indexed/none",
        "/cgi/loop",
        "/cgi/ENV",
        "/cgi/env%20",
        "/cgi/env.",
        "/cgi/%ff",
        "/cgi/..%5cenv",
        "/cgi/sub/../../cgi/none",
        &format!("/cgi/{}", "x".repeat(255)),
        &format!("/cgi/{}", "x".repeat(256)),
    ] {
        let [apache, dcgi] = statuses(&both.get(target));
        assert_eq!(dcgi, apache, "{target}");
    }
    // To Apache a link that leads nowhere is forbidden.
    assert_eq!(statuses(&both.get("/cgi/dangling")), [403, 404]);
    // And it executes nothing below an encoded slash, unless told to: here a path is decoded first.
    assert_eq!(statuses(&both.get("/cgi/sub%2fdeep/env")), [404, 200]);
    // Apache would execute it.
    assert_eq!(statuses(&both.get("/cgi/fifo")), [500, 403]);
    // What cannot be executed is a program's fault.
    assert_eq!(statuses(&both.get("/cgi/sub/no-bit")), [500, 502]);
}

#[test]
fn a_directory_without_its_slash_is_sent_on_alike() {
    let both = Beside::start();
    for (target, path) in [("/cgi/sub", "/cgi/sub/"), ("/cgi/indexed?x=y&z", "/cgi/indexed/?x=y&z")] {
        let [apache, dcgi] = both.get(target);
        assert_eq!([apache.status, dcgi.status], [301; 2], "{target}");
        // Apache names the host too, which is the one that was asked for.
        assert_eq!(apache.header("location"), Some(&*format!("http://example.org:4711{path}")));
        assert_eq!(dcgi.header("location"), Some(path));
    }
}

#[test]
fn a_file_is_sent_alike() {
    let both = Beside::start();
    for (target, fields) in [
        ("/", ""),
        ("/index.html", ""),
        ("//sub//page.html?x", ""),
        ("/logo.png", ""),
        ("/photo.php.jpg", ""),
        ("/a%20b%25%3b.html", ""),
        ("/empty.css", ""),
        ("/link.txt", ""),
        ("/out", ""),
        ("/sub/../numbers.txt", ""),
        ("/numbers.txt", "Range: bytes=2-4\r\n"),
        ("/numbers.txt", "Range: bytes=-3\r\n"),
        ("/numbers.txt", "Range: bytes=7-99\r\n"),
        ("/numbers.txt", "Range: bytes=x-\r\n"),
        ("/numbers.txt", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n"),
        ("/numbers.txt", "If-Modified-Since: Sat, 08 Sep 2001 01:46:40 GMT\r\n"),
        ("/numbers.txt", "If-None-Match: *\r\n"),
        ("/numbers.txt", "If-None-Match: \"x\"\r\n"),
        ("/numbers.txt", "If-Match: *\r\n"),
        ("/numbers.txt", "If-Match: \"x\"\r\n"),
        ("/numbers.txt", "If-Unmodified-Since: Sat, 08 Sep 2001 01:46:40 GMT\r\n"),
        ("/numbers.txt", "Range: bytes=2-4\r\nIf-Range: Sun, 09 Sep 2001 01:46:40 GMT\r\n"),
        ("/numbers.txt", "Range: bytes=2-4\r\nIf-Range: Sat, 08 Sep 2001 01:46:40 GMT\r\n"),
        ("/numbers.txt", "Range: bytes=2-4\r\nIf-Range: \"x\"\r\n"),
    ] {
        let [apache, dcgi] = both.ask("GET", target, fields);
        assert_eq!(dcgi.status_line, apache.status_line, "{target} {fields}");
        for name in ["content-type", "content-length", "content-range", "last-modified", "accept-ranges"] {
            // Where it makes no difference, Apache leaves out what it could say: RFC 9110 §15.4.5 wants of a 304 no more.
            if apache.status != 304 && apache.status < 400 && apache.header(name).is_some() {
                assert_eq!(dcgi.header(name), apache.header(name), "{name} of {target} {fields}");
            }
        }
        if apache.status < 400 {
            assert_eq!(dcgi.text(), apache.text(), "{target} {fields}");
        }
    }
    // Of what is not there: Apache sends the whole, and RFC 9110 §15.5.17 has a status for it.
    let [_, dcgi] = both.ask("GET", "/numbers.txt", "Range: bytes=10-\r\n");
    assert_eq!(dcgi.status, 416);
}

#[test]
fn what_is_no_file_to_be_sent_is_refused_alike() {
    let both = Beside::start();
    for target in [
        "/none",
        "/numbers.txt/",
        "/numbers.txt/more",
        "/NUMBERS.TXT",
        "/numbers.txt%20",
        "/numbers.txt.",
        "/empty/",
        "/private.html",
        "/closed/page.html",
        "/closed/",
        "/fifo",
        "/loop",
        "/..%5cnumbers.txt",
        "/%ff",
        &format!("/{}", "x".repeat(256)),
    ] {
        let [apache, dcgi] = both.ask("GET", target, "").map(|answer| answer.status);
        assert_eq!(dcgi, apache, "{target}");
    }
    chown(both.files.path().join("numbers.txt"), Some(4711), None).unwrap();
    assert_eq!(
        statuses(&both.ask("GET", "/link.txt", "")),
        [403, 200],
        "within the directory dcgi follows any"
    );
    // To a POST, Apache sends the file too.
    for (method, theirs) in [("POST", 200), ("PUT", 405), ("DELETE", 405)] {
        let answers = both.ask(method, "/index.html", "Content-Length: 0\r\n");
        assert_eq!(statuses(&answers), [theirs, 405], "{method}");
    }
    let answers = both.ask("GET", "/sub", "");
    assert_eq!(statuses(&answers), [301; 2]);
    assert_eq!(answers[1].header("location"), Some("/files/sub/"));
}

#[test]
fn of_a_field_that_an_answer_has_once_the_same_one_counts() {
    let both = Beside::start();
    let [apache, dcgi] = both.get("/cgi/twice");
    assert_eq!(apache.status_line, dcgi.status_line);
    for name in ["content-type", "etag", "last-modified", "content-range", "location", "set-cookie"] {
        let (theirs, ours): (Vec<_>, Vec<_>) = (apache.all(name).collect(), dcgi.all(name).collect());
        assert_eq!(theirs, ours, "{name}");
    }
}

#[test]
fn a_status_is_passed_on_or_is_none() {
    let both = Beside::start();
    for status in [200, 299, 404, 599] {
        assert_eq!(statuses(&both.get(&format!("/cgi/status?{status}"))), [status; 2]);
    }
    // A program's fault is dcgi's 502 throughout, and Apache's 500.
    for none in ["20", "OK"] {
        assert_eq!(statuses(&both.get(&format!("/cgi/status?{none}"))), [500, 502], "{none}");
    }
    // Apache passes on what has three digits; no client knows what such a status means.
    for none in [600, 999] {
        assert_eq!(statuses(&both.get(&format!("/cgi/status?{none}"))), [none, 502]);
    }
}

#[test]
fn output_that_begins_with_no_header_block_is_in_both_logs() {
    let both = Beside::start();
    let answers = both.get("/cgi/refused");
    assert_eq!(statuses(&answers), [500, 502]);
    common::wait_until("Apache says so", common::PATIENCE, || both.apache.log().contains("'<!--'"));
    both.dcgi.wait_for_log_of(answers[1].id(), "<!--: spam");
    // The traceback behind it is in dcgi's alone.
    both.dcgi.wait_for_log_of(answers[1].id(), "ZeroDivisionError");
}

#[test]
fn header_names_are_spelled_alike() {
    let both = Beside::start();
    let names = both.addresses().map(|address| {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET /cgi/twice HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let answer = String::from_utf8(read_all(client)).unwrap();
        let head = answer.split("\r\n\r\n").next().unwrap().to_owned();
        ["Content-Type", "Last-Modified", "Set-Cookie", "Location", "Date", "Connection"]
            .map(|name| head.contains(&format!("\r\n{name}: ")))
    });
    assert_eq!(names[0], names[1]);
    assert!(names[0].iter().all(|there| *there), "{names:?}");
}

#[test]
fn a_chunk_may_have_an_extension() {
    let both = Beside::start();
    for extension in [";q=x", " ;q=x", "\t;q=\"x\""] {
        let body = format!("2{extension}\r\nhe\r\n3{extension}\r\nllo\r\n0\r\n\r\n");
        let head = "POST /cgi/body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answers = both.send([head, &body].concat());
        for answer in answers {
            assert_eq!((answer.status, &*answer.text()), (200, "hello"), "{extension:?}");
        }
    }
}

/// What both answer, and whether each closes the connection then.
#[track_caller]
fn ends(both: &Beside, request: &str) -> [(u16, bool); 2] {
    both.addresses().map(|address| {
        let mut connection = Connection::open(address);
        connection.send(request);
        // What would be answered next, were it read.
        _ = connection.try_send(get("/cgi/env"));
        let status = connection.response().status;
        (status, connection.is_closed_by_server())
    })
}

#[test]
fn a_400_ends_the_connection() {
    let both = Beside::start();
    for request in [
        "GET /cgi/env HTTP/1.1\r\nX: y\r\n\r\n",
        "GET /cgi/env HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /cgi/env HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /cgi/env HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET /cgi/env/%zz HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        assert_eq!(ends(&both, request), [(400, true); 2], "{request:?}");
    }
    // Apache closes behind a program's own 400 too. There it is an answer like any other here.
    let own = "GET /cgi/bad-request HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(ends(&both, own), [(400, true), (400, false)]);
}

#[test]
fn the_server_itself_answers_what_is_for_no_program() {
    let both = Beside::start();
    let [apache, dcgi] = both.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!([apache.status, dcgi.status], [200; 2]);
    assert_eq!([apache.body.len(), dcgi.body.len()], [0; 2]);
    assert_eq!(statuses(&both.send("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n")), [405; 2]);
    // A path is no authority: to Apache that is malformed, and here it is CONNECT.
    assert_eq!(statuses(&both.send("CONNECT /cgi/env HTTP/1.1\r\nHost: h\r\n\r\n")), [400, 405]);
}
