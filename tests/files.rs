//! Files that are sent, alone and beside scripts, on this machine's own file systems.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::embedded::Store;
use common::{Response, Server};
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

/// A web root, and what serves it.
struct Site {
    server: Server,
    root: PathBuf,
    _outer: TempDir,
    _store: Store,
}

const SCRIPT: &str =
    "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nran %s %s\\n' \"$SCRIPT_NAME\" \"$PATH_INFO\"\n";

/// When all its files were changed last: Sun, 09 Sep 2001 01:46:40 GMT.
const CHANGED: Duration = Duration::from_secs(1_000_000_000);

/// Files and scripts of a site, as they lie beside each other in an old web root.
fn web_root() -> TempDir {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("htdocs");
    for folder in ["", "sub", "empty", ".git", ".well-known/acme", "closed", "old.bak"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let files: [(&str, &str); 22] = [
        ("index.html", "<h1>home</h1>"),
        ("style.css", "body {}"),
        ("numbers.txt", "0123456789"),
        ("logo.png", "png"),
        ("sub/index.cgi", SCRIPT),
        ("sub/page.html", "page"),
        ("script.cgi", SCRIPT),
        ("SHOUT.CGI", SCRIPT),
        ("handled.shx", "printf 'Content-Type: text/plain\\n\\nhandled\\n'"),
        ("photo.cgi.jpg", "jpeg"),
        ("script.cgi~", SCRIPT),
        ("script.cgi.bak", SCRIPT),
        ("script.cgi.dpkg-old", SCRIPT),
        ("#script.cgi#", SCRIPT),
        (".htpasswd", "secret"),
        (".git/config", "secret"),
        (".well-known/acme/token", "token"),
        ("closed/page.html", "secret"),
        ("old.bak/page.html", "old"),
        ("private.html", "secret"),
        ("unknown.thing", "bytes"),
        ("a b%;.html", "odd"),
    ];
    for (name, text) in files {
        let path = root.join(name);
        fs::write(&path, text).unwrap();
        let mode = if text == SCRIPT { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        changed(&path);
    }
    for (name, mode) in [("private.html", 0o640), ("closed", 0o750)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(outer.path().join("outside.html"), "outside").unwrap();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    outer
}

/// Has a file look as if it were old.
fn changed(path: &Path) {
    fs::File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + CHANGED).unwrap();
}

impl Site {
    /// With these lines in its one route, which is at the root; `{}` is where the files are.
    fn serve(more: &str) -> Self {
        let (outer, store) = (web_root(), Store::new());
        let root = outer.path().join("htdocs");
        let lines = more.replace("{}", root.to_str().unwrap());
        let server = store.serve(&format!("[[route]]\npath = \"/\"\n{lines}\n"));
        Self { server, root, _outer: outer, _store: store }
    }

    fn files() -> Self {
        Self::serve("static = \"{}\"\nindex = [\"index.html\"]")
    }

    fn with_scripts() -> Self {
        Self::serve(
            "static = \"{}\"\nscripts = \"{}\"\nrootfs = \"/\"\nindex = [\"index.cgi\", \"index.html\"]\n\
             handlers = { \".cgi\" = [], \".shx\" = [\"/bin/sh\"] }",
        )
    }

    fn get(&self, path: &str) -> Response {
        self.server.get(path)
    }

    fn ask(&self, path: &str, fields: &str) -> Response {
        self.server.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
    }

    #[track_caller]
    fn sends(&self, path: &str, kind: &str, text: &str) {
        let response = self.get(path);
        assert_eq!(
            (response.status, response.header("content-type"), &*response.text()),
            (200, Some(kind), text),
            "{path}"
        );
    }

    #[track_caller]
    fn refuses(&self, path: &str, status: u16) {
        let response = self.get(path);
        assert_eq!(response.status, status, "{path}: {}", response.text());
        assert!(!response.text().contains("secret") && !response.text().contains("printf"), "{path}");
    }
}

#[test]
fn a_file_is_sent_with_its_type_and_length() {
    let site = Site::files();
    site.sends("/", "text/html", "<h1>home</h1>");
    site.sends("/index.html?x", "text/html", "<h1>home</h1>");
    site.sends("//style.css", "text/css", "body {}");
    site.sends("/logo.png", "image/png", "png");
    site.sends("/photo.cgi.jpg", "image/jpeg", "jpeg");
    site.sends("/unknown.thing", "application/octet-stream", "bytes");
    site.sends("/a%20b%25%3b.html", "text/html", "odd");
    site.sends("/sub/../numbers.txt", "text/plain", "0123456789");
    site.sends("/.well-known/acme/token", "application/octet-stream", "token");
    let response = site.get("/numbers.txt");
    assert_eq!(response.header("content-length"), Some("10"));
    assert_eq!(response.header("last-modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
    assert_eq!(response.header("accept-ranges"), Some("bytes"));
    assert!(response.header("etag").unwrap().starts_with('"'));
    // Without scripts, a script is a file like any other.
    site.sends("/script.cgi", "application/octet-stream", SCRIPT);
}

#[test]
fn what_is_not_to_be_seen_is_not_there_or_forbidden() {
    for site in [Site::files(), Site::with_scripts()] {
        mkfifoat(CWD, site.root.join("fifo"), Mode::from_raw_mode(0o666)).unwrap();
        symlink("/dev/zero", site.root.join("zero")).unwrap();
        symlink("/proc/self/environ", site.root.join("environ")).unwrap();
        symlink("loop", site.root.join("loop")).unwrap();
        for path in [
            "/none",
            "/.htpasswd",
            "/.git/config",
            "/.%67it/config",
            "/sub/.well-known/x",
            "/script.cgi~",
            "/script.cgi.bak",
            "/script.cgi.dpkg-old",
            "/%23script.cgi%23",
            "/old.bak/page.html",
            "/index.html/",
            "/index.html/more",
            "/STYLE.CSS",
            "/index.html%20",
            "/index.html.",
            "/..%5cindex.html",
            "/%ff",
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/sub%2f..%2f..%2f..%2fetc%2fpasswd",
        ] {
            site.refuses(path, 404);
        }
        for path in ["/private.html", "/closed/page.html", "/empty/", "/fifo", "/zero", "/environ", "/loop"] {
            site.refuses(path, 403);
        }
        site.refuses("/index.html%00", 400);
        let response = site.get("/sub");
        assert_eq!((response.status, response.header("location")), (301, Some("/sub/")));
    }
}

#[test]
fn the_source_of_a_script_is_never_sent() {
    let site = Site::with_scripts();
    for (path, answer) in [
        ("/script.cgi", "ran /script.cgi \n"),
        ("/script.cgi/", "ran /script.cgi /\n"),
        ("/script.cgi/x.jpg", "ran /script.cgi /x.jpg\n"),
        ("/%73cript.cgi?x", "ran /script.cgi \n"),
        ("/SHOUT.CGI", "ran /SHOUT.CGI \n"),
        ("/sub/", "ran /sub/index.cgi \n"),
        ("/handled.shx", "handled\n"),
    ] {
        site.sends(path, "text/plain", answer);
    }
    for path in [
        "/script.CGI",
        "/script.cgi.",
        "/script.cgi%20",
        "/script.cgi%00.html",
        "/x/..;/script.cgi",
        "/script.cgi;x",
    ] {
        let response = site.get(path);
        assert!(response.status >= 400, "{path}");
        assert!(!response.text().contains("printf"), "{path}");
    }
    // Whatever a client takes, no compressed copy of it is.
    fs::write(site.root.join("script.cgi.gz"), "printf").unwrap();
    assert_eq!(site.ask("/script.cgi", "Accept-Encoding: gzip\r\n").text(), "ran /script.cgi \n");
    symlink("script.cgi", site.root.join("numbers.txt.gz")).unwrap();
    assert_eq!(site.ask("/numbers.txt", "Accept-Encoding: gzip\r\n").text(), "0123456789");
    // What no handler is for, is a file, and so is a picture that is called as a script is.
    site.sends("/", "text/html", "<h1>home</h1>");
    site.sends("/photo.cgi.jpg", "image/jpeg", "jpeg");
    // Nor under another name.
    symlink("script.cgi", site.root.join("link.txt")).unwrap();
    symlink(".htpasswd", site.root.join("link.html")).unwrap();
    site.refuses("/link.txt", 403);
    site.refuses("/link.html", 403);
    symlink("script.cgi", site.root.join("link.cgi")).unwrap();
    site.sends("/link.cgi", "text/plain", "ran /link.cgi \n");
    // Nor as what a script is a link to.
    symlink("../outside.html", site.root.join("over.cgi")).unwrap();
    symlink("over.cgi", site.root.join("over.txt")).unwrap();
    site.refuses("/over.txt", 403);
    // One that others may not read may still run, and is not sent.
    fs::set_permissions(site.root.join("handled.shx"), fs::Permissions::from_mode(0o600)).unwrap();
    let response = site.get("/handled.shx");
    assert!(!response.text().contains("printf"), "{}", response.text());
}

#[test]
fn ranges_and_conditions_are_those_of_rfc_9110() {
    let site = Site::files();
    let whole = site.get("/numbers.txt");
    let (etag, changed) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
    for (fields, status, text) in [
        ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
        ("Range: bytes=-3\r\n".to_owned(), 206, "789"),
        ("Range: bytes=7-\r\n".to_owned(), 206, "789"),
        ("Range: bytes=7-99\r\n".to_owned(), 206, "789"),
        ("Range: bytes=10-\r\n".to_owned(), 416, ""),
        // More than one, and what is none: the whole is an answer too.
        ("Range: bytes=0-1,4-5\r\n".to_owned(), 200, "0123456789"),
        (format!("If-None-Match: {etag}\r\n"), 304, ""),
        ("If-None-Match: *\r\n".to_owned(), 304, ""),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200, "0123456789"),
        (format!("If-Modified-Since: {changed}\r\n"), 304, ""),
        ("If-Modified-Since: Sat, 08 Sep 2001 01:46:40 GMT\r\n".to_owned(), 200, "0123456789"),
        ("If-Match: \"x\"\r\n".to_owned(), 412, ""),
        (format!("If-Match: {etag}\r\n"), 200, "0123456789"),
        ("If-Unmodified-Since: Sat, 08 Sep 2001 01:46:40 GMT\r\n".to_owned(), 412, ""),
        (format!("Range: bytes=2-4\r\nIf-Range: {etag}\r\n"), 206, "234"),
        (format!("Range: bytes=2-4\r\nIf-Range: {changed}\r\n"), 206, "234"),
        // Of another one the client has nothing.
        ("Range: bytes=2-4\r\nIf-Range: \"x\"\r\n".to_owned(), 200, "0123456789"),
        (format!("Range: bytes=2-4\r\nIf-Range: W/{etag}\r\n"), 200, "0123456789"),
        ("Range: bytes=2-4\r\nIf-Range: Sat, 08 Sep 2001 01:46:40 GMT\r\n".to_owned(), 200, "0123456789"),
    ] {
        let response = site.ask("/numbers.txt", &fields);
        assert_eq!((response.status, &*response.text()), (status, text), "{fields}");
    }
    assert_eq!(site.ask("/numbers.txt", "Range: BYTES=2-4\r\n").status, 206);
    assert_eq!(site.ask("/numbers.txt", "Range: lines=2-4\r\n").status, 200);
    // A range is of a GET alone.
    let mut connection = site.server.connect();
    connection.send("HEAD /numbers.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=2-4\r\n\r\n");
    assert_eq!(connection.response_to_head().status, 200);
    assert_eq!(
        site.ask("/numbers.txt", "Range: bytes=2-4\r\n").header("content-range"),
        Some("bytes 2-4/10")
    );
    assert_eq!(site.ask("/numbers.txt", "Range: bytes=10-\r\n").header("content-range"), Some("bytes */10"));
}

#[test]
fn the_last_bytes_of_a_file_that_has_fewer_are_all() {
    let site = Site::files();
    fs::write(site.root.join("nothing.txt"), "").unwrap();
    for (path, range, text) in [
        ("/numbers.txt", "bytes=-500", "0123456789"),
        ("/numbers.txt", "bytes=-10", "0123456789"),
        ("/nothing.txt", "bytes=0-", ""),
        ("/nothing.txt", "bytes=-5", ""),
    ] {
        let response = site.ask(path, &format!("Range: {range}\r\n"));
        assert_eq!((response.status, &*response.text()), (200, text), "{path} {range}");
    }
    for (path, range) in
        [("/numbers.txt", "bytes=-0"), ("/numbers.txt", "bytes=10-"), ("/nothing.txt", "bytes=1-")]
    {
        assert_eq!(site.ask(path, &format!("Range: {range}\r\n")).status, 416, "{path} {range}");
    }
}

#[test]
fn a_head_has_no_body_and_other_methods_are_for_programs() {
    for site in [Site::files(), Site::with_scripts()] {
        let mut connection = site.server.connect();
        connection.send("HEAD /numbers.txt HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = connection.response_to_head();
        assert_eq!((response.status, response.header("content-length")), (200, Some("10")));
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            connection
                .send(format!("{method} /numbers.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"));
            let response = connection.response();
            assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")), "{method}");
        }
        assert_eq!(connection.get("/numbers.txt").text(), "0123456789");
    }
}

#[test]
fn a_compressed_sibling_is_sent_to_who_takes_it() {
    let site = Site::files();
    for (name, text) in [("style.css.gz", "gzip"), ("style.css.br", "brotli"), ("logo.png.gz", "hidden")] {
        fs::write(site.root.join(name), text).unwrap();
    }
    fs::set_permissions(site.root.join("logo.png.gz"), fs::Permissions::from_mode(0o600)).unwrap();
    for (fields, encoding, text) in [
        ("", None, "body {}"),
        ("Accept-Encoding: gzip\r\n", Some("gzip"), "gzip"),
        ("Accept-Encoding: gzip, br\r\n", Some("br"), "brotli"),
        ("Accept-Encoding: zstd\r\n", None, "body {}"),
        ("Accept-Encoding: gzip;q=0\r\n", None, "body {}"),
    ] {
        let response = site.ask("/style.css", fields);
        assert_eq!((response.header("content-encoding"), &*response.text()), (encoding, text), "{fields}");
        assert_eq!(response.header("content-type"), Some("text/css"), "{fields}");
        // Caches are told that it depends.
        assert_eq!(response.header("vary"), Some("accept-encoding"), "{fields}");
    }
    // That it depends is told with it being the same, too.
    let etag = site.ask("/style.css", "").header("etag").unwrap().to_owned();
    let response = site.ask("/style.css", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((response.status, response.header("vary")), (304, Some("accept-encoding")));
    // A link to one is one.
    fs::write(site.root.join("sub/packed.gz"), "packed").unwrap();
    symlink("sub/packed.gz", site.root.join("numbers.txt.gz")).unwrap();
    let response = site.ask("/numbers.txt", "Accept-Encoding: gzip\r\n");
    assert_eq!((response.header("content-encoding"), &*response.text()), (Some("gzip"), "packed"));
    // One that may not be read is none.
    let response = site.ask("/logo.png", "Accept-Encoding: gzip\r\n");
    assert_eq!((response.header("vary"), &*response.text()), (None, "png"));
    // By its own name it is a file.
    assert_eq!(site.get("/style.css.gz").text(), "gzip");
}

#[test]
fn a_directory_is_listed_where_the_route_says_so() {
    let site = Site::serve("static = \"{}\"\nautoindex = true");
    let page = site.get("/").text();
    for name in ["./sub/", "./index.html", "./a%20b%25%3B.html", "./photo.cgi.jpg"] {
        assert!(page.contains(&format!("<a href=\"{name}\">")), "{name} in {page}");
    }
    // What would be refused is not told of.
    for name in [".htpasswd", ".git", "private.html", "script.cgi~", "old.bak", "script.cgi.bak"] {
        assert!(!page.contains(name), "{name} in {page}");
    }
    assert!(page.contains("2001-09-09T01:46:40Z"), "{page}");
    assert!(site.get("/sub/").text().contains("page.html"));
    site.refuses("/closed/", 403);
    let scripts = Site::serve(
        "static = \"{}\"\nscripts = \"{}\"\nrootfs = \"/\"\nautoindex = true\nhandlers = { \".cgi\" = [] }",
    );
    symlink("script.cgi", scripts.root.join("link.txt")).unwrap();
    symlink("script.cgi", scripts.root.join("link.cgi")).unwrap();
    let page = scripts.get("/").text();
    assert!(page.contains("link.cgi") && page.contains("script.cgi") && !page.contains("link.txt"), "{page}");
    // An index goes first.
    let site = Site::serve("static = \"{}\"\nautoindex = true\nindex = [\"index.html\"]");
    assert_eq!(site.get("/").text(), "<h1>home</h1>");
    assert!(site.get("/sub/").text().contains("index.cgi"));
}

#[test]
fn a_link_leads_within_or_to_what_its_owner_owns() {
    let site = Site::files();
    for (target, name) in [
        ("numbers.txt", "in.txt"),
        ("../outside.html", "out.html"),
        ("../none", "none.html"),
        ("sub", "folder"),
    ] {
        symlink(target, site.root.join(name)).unwrap();
    }
    assert_eq!(site.get("/in.txt").text(), "0123456789");
    assert_eq!(site.get("/folder/page.html").text(), "page");
    assert_eq!(site.get("/out.html").text(), "outside");
    // Not told apart from what may not be had: whoever made it is not to learn what is there.
    site.refuses("/none.html", 403);
    chown(site.root.join("../outside.html"), Some(4711), None).unwrap();
    site.refuses("/out.html", 403);
    // Its owner is let by; those who may not search the directory it lies in are not.
    let locked = site.root.join("../locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("x.html"), "locked").unwrap();
    symlink("../locked/x.html", site.root.join("locked.html")).unwrap();
    assert_eq!(site.get("/locked.html").text(), "locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    site.refuses("/locked.html", 403);
}

#[test]
fn files_are_those_that_the_routes_user_may_read() {
    let site = Site::serve("static = \"{}\"\nuser = \"4711:4712\"");
    chown(site.root.join("private.html"), Some(4711), None).unwrap();
    assert_eq!(site.get("/private.html").text(), "secret");
    chown(site.root.join("private.html"), Some(0), Some(4712)).unwrap();
    assert_eq!(site.get("/private.html").text(), "secret");
    chown(site.root.join("private.html"), Some(0), Some(4711)).unwrap();
    site.refuses("/private.html", 403);
    // What others may read and its owner may not, the owner does not get.
    chown(site.root.join("numbers.txt"), Some(4711), None).unwrap();
    fs::set_permissions(site.root.join("numbers.txt"), fs::Permissions::from_mode(0o044)).unwrap();
    site.refuses("/numbers.txt", 403);
}

#[test]
fn a_large_file_comes_whole_and_in_parts() {
    let site = Site::files();
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(site.root.join("large"), &content).unwrap();
    let response = site.get("/large");
    assert_eq!(response.header("content-length"), Some("12000000"));
    assert!(response.body == content);
    let response = site.ask("/large", "Range: bytes=4000000-8000003\r\n");
    assert_eq!(response.status, 206);
    assert!(response.body == content[4_000_000..8_000_004]);
    // It grows while it is sent, as a log does: what was promised is what is sent.
    let mut connection = site.server.connect();
    connection.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut response = connection.head();
    let mut file = fs::File::options().append(true).open(site.root.join("large")).unwrap();
    std::io::Write::write_all(&mut file, &vec![b'x'; 1 << 20]).unwrap();
    connection.body(&mut response);
    assert!(response.body == content);
    assert_eq!(connection.get("/numbers.txt").text(), "0123456789");
    // It is cut while it is sent: the answer never looks whole.
    let mut connection = site.server.connect();
    connection.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = connection.head();
    assert_eq!(response.status, 200);
    fs::File::options().write(true).open(site.root.join("large")).unwrap().set_len(1_000).unwrap();
    let mut read = 0;
    while let some @ 1.. = connection.some_bytes().len() {
        read += some;
    }
    assert!(read < content.len(), "{read}");
    site.server.wait_for_log("the file has become shorter while it was sent; the client's answer is cut");
}

#[test]
fn a_site_of_files_needs_no_engine() {
    let outer = web_root();
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[[route]]\npath = \"/\"\nstatic = \"{}/htdocs\"\n", outer.path().display());
    let server = Server::start_with(&config, |command| {
        // Nothing could be made there, and nobody answers here.
        command
            .env("DCGI_STORE", "/proc/none")
            .env("DOCKER_HOST", format!("unix://{}/none", folder.path().display()));
    });
    assert_eq!(server.get("/numbers.txt").text(), "0123456789");
}

/// A file system that answers nothing: every look at it waits until it is dropped.
struct Silence {
    at: PathBuf,
    _device: fs::File,
}

impl Silence {
    fn at(at: &Path) -> Self {
        let device = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&device);
        let options =
            std::ffi::CString::new(format!("fd={number},rootmode=40000,user_id=0,group_id=0")).unwrap();
        rustix::mount::mount("dcgi-test", at, "fuse", rustix::mount::MountFlags::empty(), Some(&*options))
            .unwrap();
        Self { at: at.to_owned(), _device: device }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_file_system_that_does_not_answer_is_504_and_holds_up_nobody_else() {
    let (outer, store) = (web_root(), Store::new());
    let slow = outer.path().join("slow");
    fs::create_dir(&slow).unwrap();
    let root = outer.path().join("htdocs");
    let mut server = store.serve(&format!(
        "[[route]]\npath = \"/slow\"\nstatic = \"{}\"\n[[route]]\npath = \"/fast\"\nstatic = \"{}\"\n\
         [[route]]\npath = \"/run\"\nrootfs = \"/\"\nscripts = \"{}\"\n",
        slow.display(),
        root.display(),
        root.display()
    ));
    let silence = Silence::at(&slow);
    // More than there are threads for what waits.
    let mut waiting: Vec<_> = (0..600).map(|_| server.connect()).collect();
    for connection in &mut waiting {
        connection.send("GET /slow/x HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    assert_eq!(server.get("/fast/numbers.txt").text(), "0123456789");
    assert_eq!(server.get("/run/script.cgi").text(), "ran /run/script.cgi \n");
    for connection in &mut waiting {
        assert_eq!(connection.response().status, 504);
    }
    // Threads that still wait do not keep dcgi.
    let mut connection = server.connect();
    connection.send("GET /slow/x HTTP/1.1\r\nHost: h\r\n\r\n");
    server.signal("TERM");
    assert!(server.wait().success());
    drop(silence);
}
