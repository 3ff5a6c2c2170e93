//! The example images, as their users meet them: a client, a dcgi process, a container for each request.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::images::example_images;
use common::{PATIENCE, Response, Server, encoded, wait_until};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

// === git ===

/// More than git's `http.postBuffer` below, so that a push is sent in chunks.
const PUSHED: usize = 6 << 20;

#[test]
fn git_clones_commits_pushes_and_clones_again() {
    example_images(&["git"]);
    let folder = tempfile::tempdir().unwrap();
    let repositories = folder.path().join("repositories");
    fs::create_dir(&repositories).unwrap();
    git(&repositories, &["init", "--quiet", "--bare", "demo.git"]);
    let began = docker_time();
    let server = Server::start(&format!(
        r#"
            [[route]]
            path = "/git"
            image = "dcgi/git"
            pull = "never"
            warm = 0
            volumes = ["{}:/srv/git"]
            user = "{}"
            max_request_body = "64MiB"
            timeout = "2m"
            idle_timeout = "1m"
        "#,
        repositories.display(),
        owner(&repositories),
    ));
    let made = containers_made(&server, &began);
    let url = format!("http://{}/git/demo.git", server.address);

    git(folder.path(), &["clone", "--quiet", &url, "first"]);
    let first = folder.path().join("first");
    fs::create_dir(first.join("data")).unwrap();
    for name in ["data/a.bin", "data/b.bin"] {
        fs::write(first.join(name), random_bytes(PUSHED / 2)).unwrap();
    }
    fs::write(first.join("README"), "Pushed through a container.\n").unwrap();
    git(&first, &["add", "."]);
    git(&first, &["commit", "--quiet", "-m", "Six mebibytes of noise"]);
    let talk = git(&first, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
    assert!(talk.contains("POST /git/demo.git/git-receive-pack HTTP/1.1"), "{talk}");
    let sent = |line: &str| line.contains("=> Send header") && line.ends_with("Transfer-Encoding: chunked");
    assert!(talk.lines().any(sent), "no chunked POST:\n{talk}");
    assert!(size_on_disk(&repositories) >= PUSHED as u64, "the push has not arrived whole");

    git(folder.path(), &["clone", "--quiet", "--branch", "main", &url, "second"]);
    let second = folder.path().join("second");
    git(&second, &["fsck", "--strict"]);
    assert_eq!(tree(&first), tree(&second));
    for name in ["README", "data/a.bin", "data/b.bin"] {
        assert!(
            fs::read(first.join(name)).unwrap() == fs::read(second.join(name)).unwrap(),
            "{name} differs"
        );
    }

    // Two clones and a push: every request of them had a container of its own, and none is left.
    wait_until("the containers are gone", PATIENCE, || server.containers() == 0);
    let requests = || server.log().lines().filter(|line| line.contains("dcgi::access")).count();
    assert!(requests() >= 5, "{}", server.log());
    wait_until("a container for each request", PATIENCE, || requests() == made.count());
}

#[test]
fn git_refuses_what_is_no_repository() {
    example_images(&["git"]);
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&format!(
        r#"
            [[route]]
            path = "/git"
            image = "dcgi/git"
            pull = "never"
            volumes = ["{}:/srv/git:ro"]
        "#,
        folder.path().display(),
    ));
    let response = server.get("/git/nothing.git/info/refs?service=git-upload-pack");
    assert_eq!(response.status_line, "HTTP/1.1 404 Not Found");
}

/// Runs git with nobody's configuration, saying all that goes over the wire; gives what it says.
#[track_caller]
#[allow(clippy::disallowed_methods)]
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "init.defaultBranch=main", "-c", "http.postBuffer=65536", "-c", "http.version=HTTP/1.1"])
        .args(["-c", "http.proxy=", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
        .args(arguments)
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_TRACE_CURL", "1")])
        .envs([("GIT_TRACE_CURL_NO_DATA", "1"), ("LC_ALL", "C")])
        .env("HOME", folder)
        .stdin(Stdio::null())
        .output()
        .expect("the git command runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {}\n{talk}", output.status);
    talk + &String::from_utf8_lossy(&output.stdout)
}

/// The hash over names and contents of all that is committed.
fn tree(clone: &Path) -> String {
    let said = git(clone, &["rev-parse", "HEAD^{tree}"]);
    said.lines().last().unwrap().to_owned()
}

fn size_on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => size_on_disk(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

/// The time as the engine's events have it.
fn docker_time() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// The containers that a server makes for requests from then on, as the engine tells it.
fn containers_made(server: &Server, since: &str) -> Made {
    let name = format!("dcgi-{}-", server.pid());
    let mut listening = Command::new("docker")
        .args(["events", "--since", since, "--filter", "type=container", "--filter", "event=create"])
        .args(["--format", "{{.Actor.Attributes.name}} {{index .Actor.Attributes \"dcgi.request\"}}"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    let lines = BufReader::new(listening.stdout.take().unwrap()).lines();
    let heard = names.clone();
    std::thread::spawn(move || {
        let is_ours = |line: &String| line.starts_with(&name) && !line.ends_with([' ', '>']);
        let ours = lines.map_while(Result::ok).filter(is_ours);
        ours.for_each(|line| _ = heard.lock().unwrap().insert(line));
    });
    Made { listening, names }
}

/// Hears of containers while they are made: an engine remembers only its last 256 events.
struct Made {
    listening: Child,
    names: Arc<Mutex<BTreeSet<String>>>,
}

impl Made {
    fn count(&self) -> usize {
        self.names.lock().unwrap().len()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        _ = self.listening.kill();
        _ = self.listening.wait();
    }
}

// === php ===

/// A visitor with a cookie, where the site has given one.
struct Visitor<'a> {
    server: &'a Server,
    cookie: Option<String>,
}

impl Visitor<'_> {
    fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, "", b"")
    }

    fn send(&mut self, method: &str, path: &str, fields: &str, body: &[u8]) -> Response {
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}{fields}{length}\r\n");
        let response = self.server.send([head.as_bytes(), body].concat());
        if let Some(cookie) = response.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        response
    }
}

/// The PHP site with a place for its sessions and its guestbook.
fn php_site() -> (Server, TempDir) {
    example_images(&["php"]);
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(&format!(
        r#"
            [[route]]
            path = "/php"
            image = "dcgi/php"
            pull = "never"
            script_filename = "/srv/site/index.php"
            volumes = ["{}:/data"]
            user = "{}"
        "#,
        data.path().display(),
        owner(data.path()),
    ));
    (server, data)
}

#[test]
fn every_page_of_the_php_site_is_reached_from_its_first() {
    let (server, _data) = php_site();
    let first = server.get("/php");
    assert_eq!(first.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(first.text().contains("<h1>Welcome</h1>"), "{}", first.text());
    let links = links(&first.text());
    assert_eq!(links, ["/php/index.php", "/php/visits.php", "/php/guestbook.php", "/php/about.php"]);
    let titles = links.iter().map(|link| {
        let page = server.get(link);
        assert_eq!(page.status, 200, "{link}: {}", page.text());
        between(&page.text(), "<h1>", "</h1>").to_owned()
    });
    assert_eq!(titles.collect::<Vec<_>>(), ["Welcome", "Visits", "Guestbook", "About"]);
}

#[test]
fn a_page_that_the_php_site_has_not_is_a_404() {
    let (server, _data) = php_site();
    assert_eq!(server.get("/php/../../etc/passwd").status, 404);
    assert_eq!(server.get("/php/nothing.php").status, 404);
}

#[test]
fn a_php_session_lives_from_one_container_to_the_next() {
    let (server, _data) = php_site();
    let count = |page: Response| between(&page.text(), "seen this page ", " time").to_owned();
    let mut ada = Visitor { server: &server, cookie: None };
    assert_eq!(count(ada.get("/php/visits.php")), "1");
    assert!(ada.cookie.as_ref().is_some_and(|cookie| cookie.starts_with("PHPSESSID=")), "{:?}", ada.cookie);
    assert_eq!(count(ada.get("/php/visits.php")), "2");
    assert_eq!(count(ada.get("/php/visits.php")), "3");
    let mut grace = Visitor { server: &server, cookie: None };
    assert_eq!(count(grace.get("/php/visits.php")), "1");
}

#[test]
fn who_signs_the_php_guestbook_is_sent_to_it_and_stands_in_it() {
    let (server, _data) = php_site();
    let mut visitor = Visitor { server: &server, cookie: None };
    let form = format!("name={}&text={}", encoded("Ada <3"), encoded("Grüße aus dem Container"));
    let fields = "Content-Type: application/x-www-form-urlencoded\r\n";
    let signed = visitor.send("POST", "/php/guestbook.php", fields, form.as_bytes());
    assert_eq!(signed.status, 303);
    assert_eq!(signed.header("location"), Some("/php/guestbook.php"));
    let page = visitor.get(signed.header("location").unwrap()).text();
    assert!(page.contains("<b>Ada &lt;3</b>") && page.contains("Grüße aus dem Container"), "{page}");
}

#[test]
fn without_a_volume_the_php_site_says_that_it_keeps_nothing() {
    example_images(&["php"]);
    let server = serve("/php", "php", "script_filename = \"/srv/site/index.php\"");
    let page = server.get("/php/visits.php");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Nothing can be kept here"), "{}", page.text());
}

// === perl-form ===

#[test]
fn a_perl_form_reads_what_get_sends() {
    let server = perl_form();
    let page = server.get("/form?name=Ada&colour=green&colour=blue").text();
    assert!(page.contains("Hello, <b>Ada</b>!"), "{page}");
    assert!(page.contains("<li>colour = green, blue</li>"), "{page}");
    assert!(page.contains(r#"<form action="/form" method="get">"#), "{page}");
}

#[test]
fn a_perl_form_reads_what_post_sends() {
    let server = perl_form();
    let form = format!("name={}&remark={}", encoded("Ada <i>"), encoded("ä & ö"));
    let page = post(&server, "/form", "application/x-www-form-urlencoded", form.as_bytes()).text();
    assert!(page.contains("Hello, <b>Ada &lt;i&gt;</b>!"), "{page}");
    assert!(page.contains("<li>remark = ä &amp; ö</li>"), "{page}");
}

#[test]
fn a_binary_upload_to_a_perl_form_arrives_unchanged() {
    let server = perl_form();
    let file = random_bytes(3 << 20);
    let page = post(&server, "/form", MULTIPART, &multipart("noise.bin", &file));
    assert_upload(&page, "noise.bin", &file);
}

#[test]
fn a_chunked_upload_to_a_perl_form_arrives_unchanged() {
    let server = perl_form();
    let file = random_bytes(1 << 20);
    let mut connection = server.connect();
    connection.send(format!(
        "POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MULTIPART}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    for piece in multipart("noise.bin", &file).chunks(10_007) {
        connection.send(chunk(piece));
    }
    connection.send(chunk(b""));
    assert_upload(&connection.response(), "noise.bin", &file);
}

fn perl_form() -> Server {
    example_images(&["perl-form"]);
    serve("/form", "perl-form", "")
}

const MULTIPART: &str = "multipart/form-data; boundary=the-boundary";

/// A form with one file, as a browser sends it.
fn multipart(name: &str, file: &[u8]) -> Vec<u8> {
    let head = format!(
        "--the-boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    [head.as_bytes(), file, b"\r\n--the-boundary--\r\n"].concat()
}

#[track_caller]
fn assert_upload(response: &Response, name: &str, file: &[u8]) {
    let page = response.text();
    assert_eq!(response.status, 200, "{page}");
    assert!(page.contains(&format!("<b>{name}</b>: {} bytes", file.len())), "{page}");
    let digest = Sha256::digest(file).iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    });
    assert_eq!(between(&page, "<code>", "</code>"), digest);
}

// === flask ===

#[test]
fn flask_routes_by_path_info() {
    let server = flask();
    let pages = [("/flask/", "<h1>Flask by CGI</h1>"), ("/flask/hello/Ad%C3%A1", "Hello, Adá!")];
    for (path, text) in pages.into_iter().chain([("/flask/square/12", "12² = 144")]) {
        let page = server.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text().contains(text), "{path}: {}", page.text());
    }
    assert_eq!(server.get("/flask/nothing").status_line, "HTTP/1.1 404 NOT FOUND");
    assert_eq!(server.get("/flask/square/twelve").status, 404);
}

#[test]
fn flask_makes_urls_that_lead_back_to_it() {
    let server = flask();
    let home = server.get("/flask/");
    let links = links(&home.text());
    assert_eq!(links, ["/flask/hello/Ada", "/flask/echo?colour=green", "/flask/square/12", "/flask/old"]);
    let old = server.get("/flask/old");
    assert_eq!((old.status, old.header("location")), (301, Some("/flask/")));
}

#[test]
fn flask_reads_query_form_and_json() {
    let server = flask();
    let form = "application/x-www-form-urlencoded";
    let sum = post(&server, "/flask/add", form, b"a=19&b=23");
    assert!(sum.text().contains("The sum is 42."), "{}", sum.text());
    assert_eq!(post(&server, "/flask/add", form, b"a=x&b=23").status, 400);

    let echo = post(&server, "/flask/echo?x=1&x=2", "application/json", br#"{"k": [true]}"#);
    assert_eq!(echo.header("content-type"), Some("application/json"));
    let echo: serde_json::Value = serde_json::from_slice(&echo.body).unwrap();
    let expected = serde_json::json!({
        "method": "POST", "query": { "x": ["1", "2"] }, "form": {}, "json": { "k": [true] }
    });
    assert_eq!(echo, expected);
}

fn flask() -> Server {
    example_images(&["flask"]);
    serve("/flask", "flask", "")
}

// === hello, env, rng ===

#[test]
fn hello_says_what_its_route_lets_it_say() {
    example_images(&["hello"]);
    let server = serve("/hello", "hello", "env = { GREETING = \"Grüß Gott\" }");
    let response = server.get("/hello");
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(response.text(), "Grüß Gott\n");
}

#[test]
fn env_shows_every_meta_variable_and_nothing_of_the_hosts() {
    example_images(&["env"]);
    let server = serve("/env", "env", "env = { COLOUR = \"green\" }\ndocument_root = \"/srv\"");
    let mut connection = server.connect();
    connection.send(
        "POST /env/a%20b/../c?plain HTTP/1.1\r\nHost: Example.ORG:81\r\nX-One: 1\r\nX-One: 2\r\n\
         Cookie: a=1\r\nProxy: http://evil.example\r\nX_Odd: 1\r\nAuthorization: Basic c2VjcmV0\r\n\
         Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    );
    let response = connection.response();
    let text = response.text();
    let (variables, process): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.split(": ").next().unwrap().contains('='));
    assert_eq!(process, ["argv[0]: /bin/env", "cwd: /bin", "stdin: 5 bytes"]);

    let id = response.header("x-request-id").unwrap();
    let remote_port = connection.local_address().port();
    let expected = [
        "COLOUR=green",
        "CONTENT_LENGTH=5",
        "CONTENT_TYPE=text/plain",
        "DOCUMENT_ROOT=/srv",
        "GATEWAY_INTERFACE=CGI/1.1",
        "HTTP_COOKIE=a=1",
        "HTTP_HOST=Example.ORG:81",
        "HTTP_X_ONE=1, 2",
        "PATH_INFO=/c",
        "PATH_TRANSLATED=/srv/c",
        "QUERY_STRING=plain",
        "REDIRECT_STATUS=200",
        "REMOTE_ADDR=127.0.0.1",
        "REMOTE_HOST=127.0.0.1",
        &format!("REMOTE_PORT={remote_port}"),
        &format!("REQUEST_ID={id}"),
        "REQUEST_METHOD=POST",
        "REQUEST_SCHEME=http",
        "REQUEST_URI=/env/a%20b/../c?plain",
        "SCRIPT_FILENAME=/bin/env",
        "SCRIPT_NAME=/env",
        "SERVER_ADDR=127.0.0.1",
        "SERVER_NAME=example.org",
        "SERVER_PORT=81",
        "SERVER_PROTOCOL=HTTP/1.1",
        concat!("SERVER_SOFTWARE=dcgi/", env!("CARGO_PKG_VERSION")),
        &format!("UNIQUE_ID={id}"),
    ];
    // What the engine gives every container.
    let engines = ["PATH", "HOSTNAME", "HOME"];
    let foreign = variables.into_iter().filter(|line| !engines.contains(&line.split('=').next().unwrap()));
    assert_eq!(foreign.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
}

#[test]
fn env_shows_a_page_without_the_clients_markup() {
    example_images(&["env"]);
    let server = serve("/env", "env", "");
    let page = server.send("GET /env HTTP/1.1\r\nHost: localhost\r\nX-Evil: <script>\r\n\r\n").text();
    assert!(page.contains("HTTP_X_EVIL</th><td>&lt;script&gt;</td>"), "{page}");
}

#[test]
fn rng_gives_as_many_bytes_as_its_path_says() {
    example_images(&["rng"]);
    let server = serve("/rng", "rng", "");
    let (one, other) = (server.get("/rng/10"), server.get("/rng/10"));
    assert_eq!((one.status, one.body.len(), one.header("content-length")), (200, 10, Some("10")));
    assert_ne!(one.body, other.body);
    assert_eq!(server.get("/rng/1048576").body.len(), 1 << 20);
    assert_eq!(server.get("/rng/0").body, b"");
    assert_eq!(server.get("/rng/many").status, 400);
    assert_eq!(server.get("/rng").status, 400);
}

// === filters ===

#[test]
fn toupper_answers_while_it_is_still_asked() {
    example_images(&["toupper"]);
    let server = serve("/toupper", "toupper", "output = \"raw\"\ncontent_type = \"text/plain\"");
    let mut connection = server.connect();
    connection.send("PUT /toupper HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send(chunk(b"one\n"));
    // Were anything held back until the input ends, this would wait for ever.
    let mut response = connection.head();
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/plain")));
    connection.expect("ONE\n");
    for word in ["two", "three"] {
        connection.send(chunk(format!("{word}\n").as_bytes()));
        connection.expect(format!("{}\n", word.to_uppercase()));
    }
    connection.send(chunk(b""));
    connection.body(&mut response);
    assert!(response.complete && response.body.is_empty());
}

#[test]
fn a_text_comes_back_from_paper() {
    example_images(&["txt2pdf", "pdf2txt"]);
    let server = Server::start(
        r#"
            [defaults]
            pull = "never"
            output = "raw"

            [[route]]
            path = "/txt2pdf"
            image = "dcgi/txt2pdf"
            content_type = "application/pdf"

            [[route]]
            path = "/pdf2txt"
            image = "dcgi/pdf2txt"
            content_type = "text/plain; charset=utf-8"
        "#,
    );
    let text = "Hello, paper.\nStraßenbahn, Übergröße, naïve façade\nit's `quoted` ^here^ ~and~ C:\\there -x\n.no request";
    let pdf = post(&server, "/txt2pdf", "text/plain", text.as_bytes());
    assert_eq!((pdf.status, pdf.header("content-type")), (200, Some("application/pdf")));
    assert!(pdf.complete && pdf.body.starts_with(b"%PDF-"), "{:?}", pdf.status_line);
    let back = post(&server, "/pdf2txt", "application/pdf", &pdf.body);
    assert_eq!(back.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(back.text().trim_end(), text);
}

#[test]
fn what_is_no_pdf_is_a_502() {
    example_images(&["pdf2txt"]);
    let server = serve("/pdf2txt", "pdf2txt", "output = \"raw\"");
    assert_eq!(post(&server, "/pdf2txt", "application/pdf", b"Hello?").status, 502);
    // Its complaint is for the log.
    server.wait_for_log("May not be a PDF file");
}

// === the demo ===

/// `cgi-images/demo.toml`, on a port of its own.
fn demo() -> Server {
    example_images(&[]);
    let config = include_str!("../cgi-images/demo.toml");
    Server::start(&config.replace("\"127.0.0.1:8080\"", "\"127.0.0.1:0\""))
}

#[test]
fn every_link_on_the_demos_front_page_leads_somewhere() {
    let server = demo();
    let page = server.get("/");
    assert_eq!(page.status, 200);
    let links = links(&page.text());
    assert!(links.len() >= 6, "{links:?}");
    for link in links {
        let response = server.get(&link);
        assert_eq!(response.status, 200, "{link}: {}", response.text());
    }
    assert_eq!(server.get("/no/such/page").status, 404);
}

#[test]
fn every_command_on_the_demos_front_page_can_be_copied() {
    let server = demo();
    let page = server.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address)).text();
    let folder = tempfile::tempdir().unwrap();
    let blocks: Vec<_> =
        page.split("<pre>").skip(1).map(|rest| rest.split("</pre>").next().unwrap()).collect();
    assert!(blocks.len() >= 8, "{page}");
    for block in blocks {
        // Not every machine has xxd.
        let block = block.replace("&gt;", ">").replace("&amp;", "&").replace(" | xxd", "");
        let said = shell(folder.path(), &block);
        assert!(!said.contains("<h1>5"), "{block}\n{said}");
    }
}

/// Runs a script that must succeed and print something.
#[track_caller]
#[allow(clippy::disallowed_methods)]
fn shell(folder: &Path, script: &str) -> String {
    let curl = "curl() { command curl --silent --show-error --noproxy '*' \"$@\"; }";
    let output = Command::new("bash")
        .args(["-c", &format!("set -euo pipefail; {curl}\n{script}")])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.is_empty(), "{script} prints nothing");
    said
}

// === what they share ===

/// Serves one example at a path, with further lines for its route.
fn serve(path: &str, image: &str, more: &str) -> Server {
    Server::start(&format!(
        "[[route]]\npath = \"{path}\"\nimage = \"dcgi/{image}\"\npull = \"never\"\n{more}\n"
    ))
}

fn post(server: &Server, path: &str, content_type: &str, body: &[u8]) -> Response {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    server.send([head.as_bytes(), body].concat())
}

/// A chunk of a chunked body; the last one, of an empty piece.
fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
    _ = chunk.write_all(piece);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// The links on a page that stay on its site, in order.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    targets.filter(|target| target.starts_with('/')).map(|target| target.replace("&amp;", "&")).collect()
}

#[track_caller]
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    found.unwrap_or_else(|| panic!("no `{before}…{after}` in\n{text}")).0
}

/// Who may write to a folder, as the key `user` takes it.
fn owner(folder: &Path) -> String {
    let metadata = fs::metadata(folder).unwrap();
    format!("{}:{}", metadata.uid(), metadata.gid())
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}
