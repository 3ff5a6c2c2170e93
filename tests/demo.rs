//! The built-in site, as a browser meets it. With Docker; without, see `demo_alone`.

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use common::client::Framing;
use common::{Connection, PATIENCE, Response, docker, wait_until};
use sha2::{Digest, Sha256};

/// A running `dcgi demo`. Ended on drop, with all it runs.
struct Demo {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Demo {
    #[track_caller]
    fn start() -> Self {
        Self::start_with(&[])
    }

    #[track_caller]
    fn start_with(arguments: &[&str]) -> Self {
        // The first makes the image; the others find it.
        static ONE_AFTER_ANOTHER: Mutex<()> = Mutex::new(());
        let _turn = ONE_AFTER_ANOTHER.lock().unwrap_or_else(PoisonError::into_inner);

        let mut child = Command::new(env!("CARGO_BIN_EXE_dcgi"))
            .args(["demo", "--listen", "127.0.0.1:0", "--engine", "docker"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dcgi runs");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        let logged = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writeln!(logged.lock().unwrap(), "{line}").unwrap();
            }
        });
        let (told, said) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                _ = told.send(line);
            }
        });
        let mut demo = Self { child, address: ([127, 0, 0, 1], 0).into(), log };
        let line =
            said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not listen: {}", demo.log()));
        demo.address = line.strip_prefix("dcgi listens on http://").expect(&line).parse().unwrap();
        let hint = said.recv_timeout(PATIENCE).expect("a line on what to do");
        assert!(hint.contains("browser") && hint.contains("Ctrl-C"), "{hint}");
        demo
    }

    fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    #[track_caller]
    fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("dcgi ends", PATIENCE, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// How many of its containers are there, running or not.
    fn containers(&self) -> usize {
        let name = format!("name=^/dcgi-{}-", self.child.id());
        docker::docker(&["ps", "-aq", "--filter", &name]).lines().count()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.interrupt();
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.wait())).is_err() {
                _ = self.child.kill();
                _ = self.child.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- the log of dcgi ---\n{}", self.log());
        }
    }
}

/// Processes of this machine whose environment has a request's id: its program, in whatever container.
fn processes_of(id: &str) -> usize {
    let variable = format!("REQUEST_ID={id}");
    let has_it = |entry: &std::fs::DirEntry| {
        std::fs::read(entry.path().join("environ"))
            .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|it| it == variable.as_bytes()))
    };
    std::fs::read_dir("/proc").unwrap().map(Result::unwrap).filter(has_it).count()
}

/// The value of a fact on the index page.
#[track_caller]
fn fact(page: &str, name: &str) -> String {
    let (_, rest) =
        page.split_once(&format!("<dt>{name}</dt><dd>")).unwrap_or_else(|| panic!("no {name}: {page}"));
    rest.split_once("</dd>").unwrap().0.to_owned()
}

/// An upload of one file, as browsers send it.
fn upload(demo: &Demo, filename: &str, content: &[u8]) -> Response {
    let head = format!(
        "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let body = [head.as_bytes(), content, b"\r\n--limit--\r\n"].concat();
    let mut connection = demo.connect();
    connection.send(format!(
        "POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=limit\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    ));
    connection.send(body);
    connection.response()
}

#[test]
fn the_index_leads_to_pages_that_are_there() {
    let demo = Demo::start();
    let index = demo.get("/").text();
    let links = index.split("href=\"/").skip(1).map(|rest| format!("/{}", rest.split('"').next().unwrap()));
    let links: std::collections::BTreeSet<_> = links.map(|link| link.replace("&amp;", "&")).collect();
    for path in
        ["/hello", "/environment", "/form", "/stream", "/rng?n=5&max=100", "/counter", "/script", "/guide"]
    {
        assert!(links.contains(path), "{path} is not among {links:?}");
    }
    // The stream takes its time: it has a test of its own.
    for path in links.iter().filter(|path| *path != "/stream") {
        let page = demo.get(path);
        assert_eq!((page.status, page.complete), (200, true), "{path}: {}", page.text());
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[test]
fn each_request_for_the_index_has_a_container_of_its_own() {
    let demo = Demo::start();
    let [first, second] = [demo.get("/"), demo.get("/")];
    for page in [&first, &second] {
        assert_eq!(fact(&page.text(), "request"), page.id());
        assert!(!fact(&page.text(), "engine").is_empty());
        assert!(fact(&page.text(), "age").ends_with(" seconds"));
        assert_eq!(fact(&page.text(), "user"), "0, no capabilities");
    }
    assert_ne!(fact(&first.text(), "container"), fact(&second.text(), "container"));
}

#[test]
fn everyone_is_the_counters_first_visitor() {
    let demo = Demo::start();
    for _ in 0..2 {
        let page = demo.get("/counter").text();
        assert!(page.contains("visitor number <span class=\"number\">1</span>"), "{page}");
    }
}

#[test]
fn hello_greets_in_plain_text() {
    let demo = Demo::start();
    let page = demo.get("/hello");
    assert_eq!(page.text(), "Hello from a container!\n");
    assert_eq!(page.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn a_browser_gets_pages_with_a_way_back() {
    let demo = Demo::start();
    for path in ["/hello", "/rng", "/script", "/guide", "/guide/configuration"] {
        let mut connection = demo.connect();
        connection
            .send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,*/*;q=0.8\r\n\r\n"));
        let page = connection.response();
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        let text = page.text();
        assert!(text.contains("<a href=\"/\">") && text.contains("<a href=\"/guide\">"), "{path}: {text}");
    }
}

#[test]
fn the_environment_has_the_request_and_the_route_in_it() {
    let demo = Demo::start();
    let page = demo.get("/environment/a%20b?colour=green").text();
    for (name, value) in [
        ("PATH_INFO", "/a b"),
        ("QUERY_STRING", "colour=green"),
        ("SCRIPT_NAME", "/environment"),
        ("SCRIPT_FILENAME", "/bin/dcgi"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("HTTP_HOST", "localhost"),
    ] {
        let row = page.lines().find(|line| line.contains(&format!("<code>{name}</code>"))).expect(name);
        assert!(row.contains(&format!("<td><code>{value}</code></td>")), "{row}");
    }
    let (_, own) = page.split_once("The container's own").unwrap();
    assert!(own.contains("DCGI_ENGINE") && !own.contains("PATH_INFO"), "{own}");
}

#[test]
fn nothing_that_a_client_sends_becomes_markup() {
    let demo = Demo::start();
    let mut connection = demo.connect();
    connection.send(
        "GET /environment/%3Cscript%3E HTTP/1.1\r\nHost: localhost\r\nX-Odd: <script>alert(1)</script>\r\n\r\n",
    );
    let pages = [
        connection.response(),
        demo.get("/form?%3Cscript%3E=%22%3E%3Cscript%3E&name=%22%3E%3Cscript%3E"),
        demo.get("/%3Cscript%3E"),
        upload(&demo, "<script>", b"<script>"),
    ];
    for page in pages {
        let text = page.text();
        assert!(text.contains("&lt;script&gt;") && !text.contains("<script"), "{text}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("script-src"), "{policy}");
    }
}

#[test]
fn an_upload_of_a_mebibyte_arrives_whole() {
    let demo = Demo::start();
    // Line breaks and hyphens: what a boundary could be mistaken in.
    let content: Vec<u8> = (0..1_u64 << 20).map(|n| b"\r\n--limi\0"[(n * n % 9) as usize]).collect();
    let page = upload(&demo, "noise.bin", &content);
    let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = page.text();
    assert_eq!(page.status, 200, "{text}");
    for shown in ["noise.bin", "1048576 bytes", digest.as_str()] {
        assert!(text.contains(shown), "{shown} is not in {text}");
    }
}

#[test]
fn a_cut_upload_is_a_bad_request() {
    let demo = Demo::start();
    let mut connection = demo.connect();
    connection.send(
        "POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=limit\r\n\
         Content-Length: 9\r\n\r\n--limit\r\n",
    );
    assert_eq!(connection.response().status_line, "HTTP/1.1 400 Bad Request");
}

#[test]
fn a_stream_arrives_while_it_is_printed() {
    let demo = Demo::start();
    let mut connection = demo.connect();
    connection.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut page = connection.head();
    assert_eq!(page.framing, Framing::Chunked);
    while !page.text().contains("<li>0.0 s") {
        page.body.extend(connection.chunk().expect("a chunk"));
    }
    assert!(!page.text().contains("<li>2.0 s"), "all at once: {}", page.text());
    connection.body(&mut page);
    assert!(page.complete && page.text().contains("<li>9.5 s") && page.text().ends_with("</html>\n"));
}

#[test]
fn a_stream_ends_when_its_reader_leaves() {
    let demo = Demo::start();
    let mut connection = demo.connect();
    connection.send("GET /stream?events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let page = connection.head();
    assert_eq!(page.header("content-type"), Some("text/event-stream; charset=utf-8"));
    connection.chunk().expect("an event");
    let id = page.id().to_owned();
    drop(connection);
    wait_until("dcgi sees it", PATIENCE, || {
        demo.log().lines().any(|line| line.contains(&id) && line.contains("client went away"))
    });
    wait_until("the container is gone", PATIENCE, || demo.containers() == 0 && processes_of(&id) == 0);
}

#[test]
fn random_numbers_are_as_many_and_as_large_as_was_asked() {
    let demo = Demo::start();
    let ask = |query: &str| -> Vec<u64> {
        serde_json::from_slice(&demo.get(&format!("/rng?format=json&{query}")).body).unwrap()
    };
    let [first, second] = [ask("n=20&max=1000000000000"), ask("n=20&max=1000000000000")];
    assert_eq!(first.len(), 20);
    assert!(first.iter().all(|number| (1..=1_000_000_000_000).contains(number)), "{first:?}");
    assert_ne!(first, second);
    assert_eq!(ask("n=3&max=1"), [1, 1, 1]);
    let refused = demo.get("/rng?n=many");
    assert_eq!((refused.status, refused.header("content-type")), (400, Some("text/plain; charset=utf-8")));
}

#[test]
fn methods_and_paths_that_mean_nothing_are_refused() {
    let demo = Demo::start();
    let unknown = demo.get("/no/such/page");
    assert_eq!(unknown.status_line, "HTTP/1.1 404 Not Found");
    assert!(unknown.text().contains("There is nothing at /no/such/page."), "{}", unknown.text());
    let posted = demo.connect().post("/hello", "x");
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    let mut connection = demo.connect();
    connection.send("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = connection.response_to_head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/html; charset=utf-8")));
    // What follows is the next response, and no body.
    assert_eq!(connection.get("/hello").text(), "Hello from a container!\n");
}

#[test]
fn an_interrupted_demo_exits_with_0_and_leaves_nothing() {
    let mut demo = Demo::start_with(&["--grace", "0s"]);
    let mut connection = demo.connect();
    connection.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut page = connection.head();
    connection.chunk().expect("a chunk");
    let id = page.id().to_owned();
    assert_ne!(processes_of(&id), 0, "the program cannot be seen");
    demo.interrupt();
    assert_eq!(demo.wait().code(), Some(0));
    assert_eq!((demo.containers(), processes_of(&id)), (0, 0));
    connection.body(&mut page);
    assert!(!page.complete, "a cut stream looks whole");
}

#[test]
fn a_second_demo_finds_the_image_of_the_first() {
    let _first = Demo::start();
    let second = Demo::start();
    assert_eq!(second.get("/hello").status, 200);
    assert!(!second.log().contains("making the demo's image"), "{}", second.log());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, out, said) = common::server::dcgi(&["demo", "--listen", &address], b"");
    assert_eq!((code, out.as_str()), (1, ""));
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("dcgi: ") && last.contains(&address) && last.contains("in use"), "{said}");
}

#[test]
fn the_help_shows_the_demo_and_not_its_pages() {
    let (code, out, _) = common::server::dcgi(&["--help"], b"");
    assert_eq!(code, 0);
    assert!(out.contains("  demo ") && !out.contains("demo-page"), "{out}");
}
