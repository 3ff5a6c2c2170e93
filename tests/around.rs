//! What stands around a route's program and files: where clients are sent, who may come in, what every answer has.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::embedded::Store;
use common::{Connection, Done, Response, Server};
use tempfile::TempDir;

/// A directory of scripts and files, and what serves it.
struct Site {
    server: Server,
    folder: PathBuf,
    _outer: TempDir,
    _store: Store,
}

/// Prints all that a script is told.
const ENV: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nexec env\n";

impl Site {
    /// With these routes; `{}` is where the files are, and `SITE` stands for a route's lines that serve them.
    fn serve(routes: &str) -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = outer.path().join("site");
        fs::create_dir_all(folder.join("errors")).unwrap();
        for (name, text) in [
            ("env.cgi", ENV),
            ("index.cgi", ENV),
            ("fails.cgi", "#!/bin/sh\nexit 3\n"),
            ("own.cgi", "#!/bin/sh\nprintf 'Status: 404 Mine\\nContent-Type: text/plain\\n\\nown'\n"),
            ("page.html", "page"),
            ("errors/404.html", "not here"),
            ("errors/any.cgi", ENV),
            (
                "errors/teapot.cgi",
                "#!/bin/sh\nprintf 'Status: 418 Teapot\\nContent-Type: text/plain\\n\\ntea'\n",
            ),
        ] {
            fs::write(folder.join(name), text).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(outer.path().join("known"), hashed("ada", "secret", "-6")).unwrap();
        let lines = "rootfs = \"/\"\nscripts = \"{}\"\nstatic = \"{}\"\nhandlers = { \".cgi\" = [] }";
        let store = Store::new();
        let server = store.serve(&routes.replace("SITE", lines).replace("{}", folder.to_str().unwrap()));
        Self { server, folder, _outer: outer, _store: store }
    }

    fn ask(&self, method: &str, path: &str, fields: &str) -> Response {
        let mut connection = self.server.connect();
        connection.send(format!("{method} {path} HTTP/1.1\r\nHost: h.example\r\n{fields}\r\n"));
        if method == "HEAD" { connection.response_to_head() } else { connection.response() }
    }

    fn get(&self, path: &str, fields: &str) -> Response {
        self.ask("GET", path, fields)
    }
}

/// `Authorization` of a user.
fn basic(credentials: &str) -> String {
    use base64::Engine;
    format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(credentials))
}

/// A line of a users' file, by openssl.
#[allow(clippy::disallowed_methods)]
fn hashed(name: &str, password: &str, scheme: &str) -> String {
    let hashed = Command::new("openssl").args(["passwd", scheme, password]).output().unwrap();
    format!("{name}:{}", String::from_utf8(hashed.stdout).unwrap())
}

// === redirect ===

#[test]
fn clients_are_sent_on_with_path_and_query() {
    let site = Site::serve(
        "[[route]]\npath = \"/old\"\nredirect = \"https://new.example/{path}\"\n\
         [[route]]\npath = \"/moved\"\nredirect = \"/elsewhere/{path}\"\nstatus = 307\n\
         [[route]]\npath = \"/to-tls\"\nredirect = \"https://{host}/\"\nstatus = 308\n",
    );
    for (path, status, location) in [
        ("/old", 301, "https://new.example/"),
        ("/old/a%20b/?x=y", 301, "https://new.example/a%20b/?x=y"),
        ("/moved//evil.example", 307, "/elsewhere/evil.example"),
        ("/moved/%0d%0aSet-Cookie:x", 307, "/elsewhere/%0D%0ASet-Cookie:x"),
        ("/to-tls/x?y", 308, "https://h.example/?y"),
    ] {
        let response = site.get(path, "");
        assert_eq!((response.status, response.header("location")), (status, Some(location)), "{path}");
    }
}

// === rewrite ===

#[test]
fn what_names_no_file_is_the_front_controllers() {
    let site = Site::serve(
        "[[route]]\npath = \"/\"\nSITE\nrewrite = [{ when = \"not-a-file\", to = \"/index.cgi/{path}\" }]\n",
    );
    let variables = site.get("/blog/2026/a%20b?x=y", "").variables();
    for (name, value) in [
        ("SCRIPT_NAME", "/index.cgi"),
        ("PATH_INFO", "/blog/2026/a b"),
        ("REQUEST_URI", "/blog/2026/a%20b?x=y"),
        ("QUERY_STRING", "x=y"),
    ] {
        assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
    }
    // What is there is itself, and what is not to be seen is not handed on.
    assert_eq!(site.get("/page.html", "").text(), "page");
    assert_eq!(site.get("/env.cgi/x", "").variables()["SCRIPT_NAME"], "/env.cgi");
    assert_eq!(site.get("/errors/", "").status, 403);
    assert_eq!(site.get("/.htaccess", "").status, 404);
    fs::remove_file(site.folder.join("index.cgi")).unwrap();
    assert_eq!(site.get("/blog", "").status, 404);
}

// === headers ===

#[test]
fn a_routes_headers_are_on_every_answer() {
    let headers = "headers = { X-Frame-Options = \"DENY\", content-type = \"text/x\" }";
    let site = Site::serve(&format!(
        "[[route]]\npath = \"/\"\nSITE\n{headers}\nerror_pages = {{ 403 = \"/pages/404.html\" }}\n\
         [[route]]\npath = \"/old\"\nredirect = \"/\"\n{headers}\n\
         [[route]]\npath = \"/pages\"\nstatic = \"{{}}/errors\"\nheaders = {{ X-Frame-Options = \"SAMEORIGIN\", X-Page = \"yes\" }}\n\
         [[route]]\npath = \"/more\"\nSITE\ncompress = true\nheaders = {{ Vary = \"Cookie\", Set-Cookie = \"a=b\" }}\n\
         error_pages = {{ 404 = \"/more/page.html\", 403 = \"/more/none\" }}\n"
    ));
    // What adds up is added, or caches would take one client's for another's.
    let response = site.get("/more/env.cgi", "Accept-Encoding: gzip\r\n");
    let vary = response.all("vary").collect::<Vec<_>>().join(", ").to_ascii_lowercase();
    assert!(vary.contains("cookie") && vary.contains("accept-encoding"), "{vary}");
    assert_eq!(response.header("set-cookie"), Some("a=b"));
    for (path, status) in [("/more/none", 404), ("/more/errors/", 403)] {
        let response = site.get(path, "");
        assert_eq!(response.status, status, "{path}");
        assert_eq!(response.all("set-cookie").collect::<Vec<_>>(), ["a=b"], "{path}");
        assert_eq!(response.all("vary").collect::<Vec<_>>(), ["Cookie"], "{path}");
    }
    // A page that another route answers has those of the route that failed.
    let response = site.get("/errors/", "");
    assert_eq!((response.status, &*response.text()), (403, "not here"));
    assert_eq!((response.header("x-frame-options"), response.header("x-page")), (Some("DENY"), Some("yes")));
    assert_eq!((response.header("etag"), response.header("cache-control")), (None, Some("no-store")));
    for (path, status) in [
        ("/page.html", 200),
        ("/env.cgi", 200),
        ("/own.cgi", 404),
        ("/none", 404),
        ("/fails.cgi", 502),
        ("/old", 301),
    ] {
        let response = site.get(path, "");
        assert_eq!(response.status, status, "{path}");
        assert_eq!(response.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(response.all("content-type").collect::<Vec<_>>(), ["text/x"], "{path}");
    }
}

// === error pages ===

#[test]
fn a_failure_has_the_routes_own_page() {
    let site = Site::serve(
        "[[route]]\npath = \"/\"\nSITE\n\
         error_pages = { 403 = \"/errors/none.html\", 404 = \"/errors/404.html\", 502 = \"/errors/any.cgi?why\", 405 = \"/errors/teapot.cgi\" }\n",
    );
    let response = site.get("/none?q", "Range: bytes=0-1\r\nIf-None-Match: *\r\n");
    assert_eq!((response.status, &*response.text()), (404, "not here"));
    let response = site.ask("HEAD", "/none", "");
    assert_eq!((response.status, response.header("content-length")), (404, Some("8")));
    // A program's own answer is its own.
    assert_eq!(site.get("/own.cgi", "").text(), "own");

    let response = site.ask("POST", "/fails.cgi/info?q=1", "Content-Length: 0\r\n");
    assert_eq!(response.status, 502);
    let text = response.text();
    for (name, value) in [
        ("REDIRECT_STATUS", "502"),
        ("REDIRECT_URL", "/fails.cgi/info"),
        ("REDIRECT_QUERY_STRING", "q=1"),
        ("REDIRECT_REQUEST_METHOD", "POST"),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", "why"),
        ("SCRIPT_NAME", "/errors/any.cgi"),
    ] {
        assert!(text.lines().any(|line| line == format!("{name}={value}")), "{name}: {text}");
    }

    // A page that says a status, and one that is not there.
    let response = site.ask("POST", "/page.html", "Content-Length: 0\r\n");
    assert_eq!(
        (response.status, response.header("allow"), &*response.text()),
        (418, Some("GET, HEAD"), "tea")
    );
    let response = site.get("/errors/", "");
    assert_eq!(response.status, 403);
    assert!(response.text().contains(response.id()), "{}", response.text());
    // Otherwise it is told as ever.
    assert_eq!(site.get("/env.cgi", "").variables()["REDIRECT_STATUS"], "200");
}

// === sendfile ===

#[test]
fn a_program_has_a_file_sent_in_its_answers_stead() {
    let site = Site::serve(
        "[[route]]\npath = \"/\"\nSITE\nsendfile = \"{}/../private:/protected\"\nvolumes = [\"{}/../done:/done\"]\nerror_pages = { 404 = \"/errors/404.html\" }\n\
         [[route]]\npath = \"/without\"\nSITE\n",
    );
    for (name, field) in [("send.cgi", "X-Sendfile"), ("accel.cgi", "X-Accel-Redirect")] {
        let text = format!(
            "#!/bin/sh\nprintf 'Content-Type: text/x\\nETag: \"own\"\\nContent-Disposition: attachment\\nSet-Cookie: a=b\\nSet-Cookie: c=d\\nVary: Cookie\\n'\n\
             printf '{field}: %s\\n\\nnot this' \"$QUERY_STRING\"\n"
        );
        fs::write(site.folder.join(name), text).unwrap();
        fs::set_permissions(site.folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let teapot = "#!/bin/sh\nprintf 'Status: 418 T\\nX-Sendfile: data.bin\\nContent-Type: text/x\\n\\ntea'\n";
    fs::write(site.folder.join("errors/teapot.cgi"), teapot).unwrap();
    let private = site.folder.parent().unwrap().join("private");
    fs::create_dir_all(private.join("a b")).unwrap();
    fs::create_dir_all(private.join("../done")).unwrap();
    fs::set_permissions(private.join("../done"), fs::Permissions::from_mode(0o777)).unwrap();
    for (name, text) in [("data.bin", "0123456789"), ("a b/c%41", "odd"), (".hidden", "secret")] {
        fs::write(private.join(name), text).unwrap();
        // Nobody's but dcgi's: the program has said who may have it.
        fs::set_permissions(private.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    // Ours, as what they lead to is: a program may have made them.
    std::os::unix::fs::symlink("/etc/passwd", private.join("out")).unwrap();
    std::os::unix::fs::symlink("../known", private.join("above")).unwrap();
    std::os::unix::fs::symlink("data.bin", private.join("within")).unwrap();
    fs::write(private.join("data.bin.gz"), "another's").unwrap();
    for path in ["/send.cgi?/protected/data.bin", "/send.cgi?data.bin", "/accel.cgi?/protected/data.bin?x"] {
        let response = site.get(path, "");
        assert_eq!(
            (response.status, &*response.text()),
            (200, "0123456789"),
            "{path}: {}",
            site.server.log()
        );
        assert_eq!(response.header("content-type"), Some("text/x"), "{path}");
        assert_eq!(response.header("content-disposition"), Some("attachment"), "{path}");
        assert_eq!(response.all("set-cookie").collect::<Vec<_>>(), ["a=b", "c=d"], "{path}");
        assert_eq!(
            (response.header("vary"), response.header("content-length")),
            (Some("Cookie"), Some("10"))
        );
        assert_ne!(response.header("etag"), Some("\"own\""));
        let told = |name| response.header(name).is_some();
        assert!(!told("x-sendfile") && !told("x-accel-redirect") && told("last-modified"), "{path}");
    }
    assert_eq!(site.get("/accel.cgi?/protected/a%20b/c%2541", "").text(), "odd");
    assert_eq!(site.get("/send.cgi?within", "").text(), "0123456789");
    // The program has said which one.
    let response = site.get("/send.cgi?data.bin", "Accept-Encoding: gzip\r\n");
    assert_eq!((response.header("content-encoding"), &*response.text()), (None, "0123456789"));
    let response = site.get("/send.cgi?data.bin", "Range: bytes=2-4\r\n");
    assert_eq!((response.status, &*response.text()), (206, "234"));
    assert_eq!(response.header("content-range"), Some("bytes 2-4/10"));
    let response = site.ask("POST", "/send.cgi?data.bin", "Content-Length: 0\r\nRange: bytes=2-4\r\n");
    assert_eq!((response.status, &*response.text()), (200, "0123456789"));
    let response = site.ask("HEAD", "/send.cgi?data.bin", "");
    assert_eq!((response.status, response.header("content-length")), (200, Some("10")));
    // A program that goes on behind its header is let finish, whatever it prints and says of that.
    let done = site.folder.join("../done");
    let after = "#!/bin/sh\nprintf 'Content-Length: 5\\nX-Sendfile: data.bin\\n\\nmore than five'\nsleep 0.3\necho done >/done/it\n";
    fs::write(site.folder.join("after.cgi"), after).unwrap();
    fs::set_permissions(site.folder.join("after.cgi"), fs::Permissions::from_mode(0o755)).unwrap();
    let response = site.get("/after.cgi", "Connection: close\r\n");
    assert_eq!((response.status, &*response.text()), (200, "0123456789"));
    common::wait_until("it is done", common::PATIENCE, || done.join("it").exists());
    // What is not to be sent is not, and the route's own page tells it.
    for path in [
        "/etc/passwd",
        "out",
        "above",
        "../known",
        "/protected/../known",
        "/protected",
        ".hidden",
        "none",
        "",
    ] {
        let response = site.get(&format!("/send.cgi?{path}"), "");
        assert_eq!((response.status, &*response.text()), (404, "not here"), "{path}");
        assert_eq!(response.header("x-sendfile"), None, "{path}");
    }
    site.server.wait_for_log("which the program has named, cannot be sent");
    let response = site.get("/errors/teapot.cgi", "");
    assert_eq!((response.status, &*response.text(), response.header("x-sendfile")), (418, "tea", None));
    // Elsewhere it is a field like any other.
    let response = site.get("/without/send.cgi?data.bin", "");
    assert_eq!((&*response.text(), response.header("x-sendfile")), ("not this", Some("data.bin")));
}

// === allow_from ===

#[test]
fn clients_of_other_networks_are_forbidden() {
    let site = Site::serve(
        "trusted_proxies = [\"127.0.0.1\"]\n\
         [[route]]\npath = \"/\"\nSITE\nallow_from = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n\
         [[route]]\npath = \"/here\"\nstatic = \"{}\"\nallow_from = [\"127.0.0.1\"]\n",
    );
    for (fields, path, status) in [
        ("", "/page.html", 403),
        ("", "/env.cgi", 403),
        ("", "/none", 403),
        ("X-Forwarded-For: 10.1.2.3\r\n", "/page.html", 200),
        ("X-Forwarded-For: ::ffff:10.1.2.3\r\n", "/page.html", 200),
        ("X-Forwarded-For: 2001:db8::1\r\n", "/env.cgi", 200),
        ("X-Forwarded-For: 10.1.2.3, 11.1.2.3\r\n", "/page.html", 403),
        ("", "/here/page.html", 200),
        ("X-Forwarded-For: 127.0.0.2\r\n", "/here/page.html", 403),
    ] {
        assert_eq!(site.get(path, fields).status, status, "{fields} {path}");
    }
}

#[test]
fn nothing_of_a_body_is_read_for_who_may_not() {
    let site = Site::serve(
        "[[route]]\npath = \"/denied\"\nSITE\nallow_from = [\"10.0.0.0/8\"]\nmax_request_body = \"none\"\n\
         [[route]]\npath = \"/auth\"\nSITE\nauth = { basic = \"{}/../known\" }\nmax_request_body = \"none\"\n",
    );
    for (path, status) in [("/denied/env.cgi", 403), ("/auth/env.cgi", 401)] {
        let mut connection = site.server.connect();
        // A GiB is announced, and not a byte of it sent.
        connection.send_head("POST", path, 1 << 30);
        assert_eq!(connection.response().status, status);
        // Of one who sends it all the same nothing is kept, neither in memory nor on disk.
        let (before, _) = site.server.memory();
        connection = site.server.connect();
        connection.send_head("POST", path, 1 << 30);
        let piece = vec![b'x'; 1 << 20];
        let sent = (0..1024).take_while(|_| connection.try_send(&piece).is_ok()).count();
        let (after, _) = site.server.memory();
        assert!(after < before + (32 << 20), "{before} to {after} bytes of memory for {sent} MiB");
    }
}

// === auth ===

#[test]
fn users_come_in_by_name_and_password() {
    let site = Site::serve(
        "[[route]]\npath = \"/\"\nSITE\n\
         auth = { basic = \"{}/../users\", groups = \"{}/../groups\", realm = \"The Staff\", require = [\"ada\", \"@ops\"] }\n",
    );
    let users = [("ada", "-apr1"), ("bob", "-6"), ("eve", "-5"), ("carl", "-1")];
    let users: String = users.map(|(name, scheme)| hashed(name, &format!("{name}'s:ö"), scheme)).concat();
    // Until it is there, nobody can be known.
    assert_eq!(site.get("/page.html", &basic("ada:x")).status, 500);
    fs::write(site.folder.join("../groups"), "ops: bob carl\n").unwrap();
    fs::write(site.folder.join("../users"), users).unwrap();

    let response = site.get("/env.cgi", "");
    let challenge = "Basic realm=\"The Staff\", charset=\"UTF-8\"";
    assert_eq!((response.status, response.header("www-authenticate")), (401, Some(challenge)));
    for (credentials, status) in [
        ("ada:ada's:ö", 200),
        ("bob:bob's:ö", 200),
        ("carl:carl's:ö", 200),
        // Known, and not meant.
        ("eve:eve's:ö", 401),
        ("ada:bob's:ö", 401),
        ("ada:", 401),
        ("nobody:ada's:ö", 401),
        ("@ops:x", 401),
    ] {
        for path in ["/env.cgi", "/page.html"] {
            assert_eq!(site.get(path, &basic(credentials)).status, status, "{credentials} {path}");
        }
    }
    let variables = site.get("/env.cgi", &basic("ada:ada's:ö")).variables();
    assert_eq!((&*variables["AUTH_TYPE"], &*variables["REMOTE_USER"]), ("Basic", "ada"));
    // The password is nobody's business.
    assert!(!variables.contains_key("HTTP_AUTHORIZATION"));
    // Two of them could be read in two ways.
    let twice = [basic("ada:ada's:ö"), basic("ada:ada's:ö")].concat();
    assert_eq!(site.get("/env.cgi", &twice).status, 401);
}

#[test]
fn a_users_file_that_is_replaced_costs_nobody_a_request() {
    let site = Site::serve("[[route]]\npath = \"/\"\nstatic = \"{}\"\nauth = { basic = \"{}/../users\" }\n");
    let users = site.folder.join("../users");
    let write = |more: &str| {
        let fresh = users.with_extension("new");
        fs::write(&fresh, format!("{}{more}", hashed("ada", "secret", "-apr1"))).unwrap();
        fs::rename(&fresh, &users).unwrap();
    };
    write("");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                write(&hashed(&format!("user{number}"), "x", "-apr1"));
            }
        });
        let _done = Done(&done);
        let mut connection = site.server.connect();
        for number in 0..1000 {
            connection.send(format!("GET /page.html HTTP/1.1\r\nHost: h\r\n{}\r\n", basic("ada:secret")));
            assert_eq!(connection.response().status, 200, "request {number}");
        }
    });
    // Who is struck from it is out within a moment.
    fs::write(&users, hashed("bob", "secret", "-apr1")).unwrap();
    common::wait_until("ada is out", common::PATIENCE, || {
        site.get("/page.html", &basic("ada:secret")).status == 401
    });
    fs::remove_file(&users).unwrap();
    common::wait_until("nobody can be known", common::PATIENCE, || {
        site.get("/page.html", &basic("bob:secret")).status == 500
    });
    site.server.wait_for_log("the users' file");
}

#[test]
fn a_line_that_is_none_is_told_with_its_place() {
    let site = Site::serve("[[route]]\npath = \"/\"\nstatic = \"{}\"\nauth = { basic = \"{}/../users\" }\n");
    let users = format!("no colon\nplain:secret\n{}", hashed("ada", "secret", "-apr1"));
    fs::write(site.folder.join("../users"), users).unwrap();
    assert_eq!(site.get("/page.html", &basic("ada:secret")).status, 200);
    assert_eq!(site.get("/page.html", &basic("plain:secret")).status, 401);
    site.server.wait_for_log("users:1: no user: expected NAME:HASH");
    site.server.wait_for_log("users:2: the password of `plain` is in plain text or in crypt's DES form");
    // What it says does not go into the log.
    assert!(!site.server.log().contains("secret"), "{}", site.server.log());
}

#[test]
fn a_long_password_costs_nothing() {
    let site = Site::serve("[[route]]\npath = \"/\"\nstatic = \"{}\"\nauth = { basic = \"{}/../known\" }\n");
    // Hashed, each would take a processor for seconds, and others would wait.
    let mut waiting: Vec<_> = (0..16).map(|_| site.server.connect()).collect();
    for (number, connection) in waiting.iter_mut().enumerate() {
        let long = basic(&format!("ada:{number}{}", "x".repeat(20_000)));
        connection.send(format!("GET /page.html HTTP/1.1\r\nHost: h\r\n{long}\r\n"));
    }
    assert_eq!(site.get("/page.html", &basic("ada:secret")).status, 200);
    for connection in &mut waiting {
        assert_eq!(connection.response().status, 401);
    }
}

#[test]
fn who_it_was_for_one_route_is_nobody_to_another() {
    let site = Site::serve(
        "[[route]]\npath = \"/\"\nSITE\nauth = { basic = \"{}/../known\" }\n[[route]]\npath = \"/open\"\nSITE\n",
    );
    let script = site.folder.join("on.cgi");
    fs::write(&script, "#!/bin/sh\nprintf 'Location: /open/env.cgi\\n\\n'\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let variables = site.get("/on.cgi", &basic("ada:secret")).variables();
    assert_eq!(variables["SCRIPT_NAME"], "/open/env.cgi");
    assert!(!variables.contains_key("REMOTE_USER"), "{variables:?}");
}

#[test]
fn a_failure_page_still_asks_for_the_password() {
    let site = Site::serve(
        "[[route]]\npath = \"/\"\nSITE\nauth = { basic = \"{}/../known\" }\nerror_pages = { 401 = \"/free/404.html\" }\n\
         [[route]]\npath = \"/free\"\nstatic = \"{}/errors\"\n",
    );
    let response = site.get("/env.cgi", "");
    assert_eq!((response.status, &*response.text()), (401, "not here"));
    assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"dcgi\", charset=\"UTF-8\""));
}

// === rate_limit ===

#[test]
fn a_client_that_asks_too_often_waits() {
    let site = Site::serve(
        "trusted_proxies = [\"127.0.0.1\"]\n[[route]]\npath = \"/\"\nSITE\nrate_limit = \"1/h/3\"\n\
         [[route]]\npath = \"/free\"\nstatic = \"{}\"\n",
    );
    let from = |address: &str| site.get("/page.html", &format!("X-Forwarded-For: {address}\r\n"));
    for _ in 0..3 {
        assert_eq!(from("192.0.2.1").status, 200);
    }
    let response = from("192.0.2.1");
    assert_eq!(response.status, 429);
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3601).contains(&seconds), "{seconds}");
    assert_eq!(from("192.0.2.2").status, 200);
    let mut free = Connection::open(site.server.address);
    for _ in 0..10 {
        assert_eq!(free.get("/free/page.html").status, 200);
    }
}

// === compress ===

#[test]
fn text_is_compressed_for_who_takes_it() {
    let site = Site::serve("[[route]]\npath = \"/\"\nSITE\ncompress = true\n");
    let text = "a line that is the same as the others\n".repeat(1000);
    let script = |name: &str, kind: &str, more: &str| {
        let path = site.folder.join(name);
        let text = format!("#!/bin/sh\nprintf 'Content-Type: {kind}\\n{more}\\n'\ncat <<'END'\n{text}END\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("text.cgi", "text/html", "ETag: \"x\"\\n");
    script("events.cgi", "text/event-stream", "");
    script("zip.cgi", "application/zip", "");
    script("done.cgi", "text/plain", "Content-Encoding: x\\n");
    let gzip = "Accept-Encoding: gzip\r\n";
    let response = site.get("/text.cgi", gzip);
    assert_eq!(
        (response.header("content-encoding"), response.header("etag")),
        (Some("gzip"), Some("W/\"x\""))
    );
    assert!(response.body.len() < text.len() / 10, "{}", response.body.len());
    let mut read = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*response.body), &mut read).unwrap();
    assert_eq!(read, text);
    for (path, fields, encoding) in [
        ("/text.cgi", "", None),
        ("/text.cgi", "Accept-Encoding: br\r\n", None),
        ("/events.cgi", gzip, None),
        ("/zip.cgi", gzip, None),
        ("/done.cgi", gzip, Some("x")),
    ] {
        let response = site.get(path, fields);
        assert_eq!(
            (response.header("content-encoding"), &*response.text()),
            (encoding, &*text),
            "{path} {fields}"
        );
    }
    // Too short to be worth it.
    script("short.cgi", "text/plain", "Content-Length: 3\\n");
    fs::write(
        site.folder.join("short.cgi"),
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 3\\n\\nown'\n",
    )
    .unwrap();
    assert_eq!(site.get("/short.cgi", gzip).text(), "own");
    // One that is killed in the middle never looks whole.
    let killed = site.folder.join("killed.cgi");
    fs::write(
        &killed,
        format!("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\ncat <<'END'\n{text}END\nkill -9 $$\n"),
    )
    .unwrap();
    fs::set_permissions(&killed, fs::Permissions::from_mode(0o755)).unwrap();
    let mut connection = site.server.connect();
    connection.send(format!("GET /killed.cgi HTTP/1.1\r\nHost: h\r\n{gzip}\r\n"));
    let mut read = Vec::new();
    loop {
        match connection.some_bytes() {
            some if some.is_empty() => break,
            some => read.extend(some),
        }
    }
    assert!(!read.ends_with(b"0\r\n\r\n"), "it looks whole");
}
