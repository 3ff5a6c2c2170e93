//! What a client gets when something fails: the rows of the table, before and after the header block has ended.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::cases;
use crate::common::processes::{descendants, name_of};
use crate::common::server::unique_path;
use crate::common::{Connection, PATIENCE, Response, Server, encoded, print, wait_until};
use crate::limits::endless;

cases![
    an_error_page_for_head_has_no_body_over_http_2_either,
    a_program_that_prints_nothing_is_502,
    output_without_a_blank_line_is_502,
    a_malformed_header_is_502,
    a_malformed_status_is_502,
    what_a_program_printed_in_place_of_a_header_block_is_in_the_log,
    no_more_than_2_kib_of_a_refused_output_is_in_the_log,
    a_program_that_exits_non_zero_without_a_header_block_is_502,
    a_program_that_exits_non_zero_after_a_header_block_has_answered,
    a_program_that_exits_non_zero_behind_its_body_has_answered_with_a_warning_in_the_log,
    a_program_killed_by_a_signal_is_502,
    a_program_killed_by_a_signal_after_the_header_aborts_the_connection,
    a_program_out_of_memory_is_502_and_the_log_says_why,
    a_program_out_of_memory_after_the_header_aborts_the_connection,
    a_program_that_announces_more_than_the_output_limit_is_502,
    a_program_that_prints_more_than_the_output_limit_aborts_the_connection,
    a_deadline_before_the_header_is_504_and_kills_the_program,
    a_deadline_after_the_header_aborts_the_connection_and_kills_the_program,
    silence_before_the_header_is_504_and_kills_the_program,
    silence_after_the_header_aborts_the_connection_and_kills_the_program,
    a_client_that_leaves_a_silent_program_kills_it,
    a_client_that_leaves_after_the_header_kills_the_program,
    a_client_that_leaves_a_program_that_prints_10_gib_kills_it,
    a_full_queue_is_503_and_says_when_to_come_again,
    a_wait_that_is_too_long_is_503_and_says_when_to_come_again,
    a_missing_image_is_502_and_its_reason_in_the_log,
    an_image_that_cannot_be_pulled_is_502_and_its_reason_in_the_log,
    an_entrypoint_that_does_not_exist_is_502_and_its_reason_in_the_log,
    an_entrypoint_that_does_not_exist_under_an_init_is_502_and_its_reason_in_the_log,
    a_bad_container_option_is_502_and_its_reason_in_the_log,
    a_request_body_too_large_is_413,
    headers_too_large_are_431,
    a_malformed_request_is_400,
    an_error_page_names_the_status_and_the_request_and_nothing_else,
    debug_errors_add_the_reason_and_standard_error_to_an_error_page,
    an_error_page_is_no_page_to_store,
];

/// What only an engine that is another process can do.
pub(crate) const CASES_OF_DOCKER: &[crate::Case] = &[
    (
        "an_engine_that_cannot_be_reached_is_503_and_says_when_to_come_again",
        an_engine_that_cannot_be_reached_is_503_and_says_when_to_come_again,
    ),
    (
        "an_engine_lost_after_the_header_aborts_the_connection",
        an_engine_lost_after_the_header_aborts_the_connection,
    ),
];

/// The same for one whose processes are dcgi's own.
pub(crate) const CASES_OF_EMBEDDED: &[crate::Case] = &[(
    "a_launcher_that_is_killed_after_the_header_aborts_the_connection_and_is_replaced",
    a_launcher_that_is_killed_after_the_header_aborts_the_connection_and_is_replaced,
)];

/// Asserts a whole answer of dcgi's own with this status line.
#[track_caller]
fn assert_refused(response: &Response, status: &str) {
    assert_eq!(response.status_line, format!("HTTP/1.1 {status}"));
    assert!(response.complete, "the error page was cut");
    assert!(response.text().contains(response.id()), "{}", response.text());
}

/// Asserts an answer that began as the program has it and cannot be taken for whole.
#[track_caller]
fn assert_aborted(connection: &mut Connection, response: &Response) {
    assert_eq!((response.status, &*response.text(), response.complete), (200, "body", false));
    assert!(connection.is_closed_by_server());
}

/// Asserts that nothing is left of a request's program soon: none of these routes would end it so early.
#[track_caller]
fn assert_killed(server: &Server, response: &Response) {
    wait_until("the program is gone", SOON, || server.containers_for(response.id()) == 0);
}

/// A second for the kill, and the rest for the engine, which has many a container to remove at a time; less than
/// the routes' `idle_timeout`.
const SOON: Duration = Duration::from_secs(25);

// === printed nothing, no blank line, a malformed header or status ===

fn a_program_that_prints_nothing_is_502(server: &Server) {
    assert_refused(&server.get("/p?exit=0"), "502 Bad Gateway");
}

fn output_without_a_blank_line_is_502(server: &Server) {
    let response = server.get(&format!("/p?{}", print("Status: 200 OK\nContent-Type: text/plain\n")));
    assert_refused(&response, "502 Bad Gateway");
}

fn a_malformed_header_is_502(server: &Server) {
    let response = server.get(&format!("/p?{}", print("Content-Type: text/plain\nHello, world\n\nbody")));
    assert_refused(&response, "502 Bad Gateway");
}

fn a_malformed_status_is_502(server: &Server) {
    for status in [
        "Status: 20\n\n",
        "Status: OK\n\n",
        "Status: 2000\n\n",
        "Status:\n\n",
        "Status: 600\n\n",
        "Status: 999 Odd\n\n",
        "HTTP/1.1 2x0 OK\n\n",
        "HTTP/1.1 600 Odd\n\n",
    ] {
        assert_refused(&server.get(&format!("/p?{}", print(status))), "502 Bad Gateway");
    }
}

/// As Python's cgitb does it.
const TRACEBACK: &str =
    "<!--: spam\nContent-Type: text/html\n\n<p>ZeroDivisionError: \u{1b}[1mdivision\u{202e} by zero\n";

fn what_a_program_printed_in_place_of_a_header_block_is_in_the_log(server: &Server) {
    let refused = server.get(&format!("/p?{}", print(TRACEBACK)));
    assert_refused(&refused, "502 Bad Gateway");
    let line = server.wait_for_log_of(refused.id(), "ZeroDivisionError");
    assert!(line.contains("WARN") && line.contains("\\u{1b}[1mdivision\\u{202e} by zero"), "{line}");
    server.wait_for_log_of(refused.id(), "<!--: spam");
    // What ends without a blank line is no header block either.
    let cut = server.get(&format!("/p?{}&exit=1", print("Traceback (most recent call last):\n  KeyError\n")));
    assert_refused(&cut, "502 Bad Gateway");
    server.wait_for_log_of(cut.id(), "  KeyError");
}

fn no_more_than_2_kib_of_a_refused_output_is_in_the_log(server: &Server) {
    let response = server.get(&format!("/p?{}&fill=5000&{}", print("no header\n"), print("end\n\n")));
    assert_refused(&response, "502 Bad Gateway");
    server.wait_for_log_of(response.id(), "the client gets 502");
    let log = server.log_of(response.id());
    assert!(log.contains(&"x".repeat(2000)) && !log.contains(&"x".repeat(2048)), "{log}");
}

// === exited non-zero ===

fn a_program_that_exits_non_zero_without_a_header_block_is_502(server: &Server) {
    assert_refused(&server.get("/p?exit=3"), "502 Bad Gateway");
    assert_refused(&server.get(&format!("/p?{}&exit=3", print("Status: 404\n"))), "502 Bad Gateway");
}

fn a_program_that_exits_non_zero_after_a_header_block_has_answered(server: &Server) {
    let response = server.get(&format!("/p?{}&exit=3", print("Status: 404 Nothing\n\n")));
    assert_eq!((&*response.status_line, response.complete), ("HTTP/1.1 404 Nothing", true));
}

fn a_program_that_exits_non_zero_behind_its_body_has_answered_with_a_warning_in_the_log(server: &Server) {
    let response = server.get("/p?text&print=body&exit=3");
    assert_eq!((response.status, &*response.text(), response.complete), (200, "body", true));
    let line = server.wait_for_log_of(response.id(), "exit status 3");
    assert!(line.contains("WARN"), "{line}");
}

// === killed ===

fn a_program_killed_by_a_signal_is_502(server: &Server) {
    assert_refused(&server.get(&format!("/p?{}&kill=11", print("Status: 200\n"))), "502 Bad Gateway");
}

fn a_program_killed_by_a_signal_after_the_header_aborts_the_connection(server: &Server) {
    let mut connection = server.connect();
    let response = connection.answer_then("/p?text&print=body", "kill=15");
    assert_aborted(&mut connection, &response);
    server.wait_for_log_of(response.id(), "killed by signal 15");
}

fn a_program_out_of_memory_is_502_and_the_log_says_why(server: &Server) {
    let response = server.get("/small-memory?alloc=100000000");
    assert_refused(&response, "502 Bad Gateway");
    server.wait_for_log_of(response.id(), "out of memory");
}

fn a_program_out_of_memory_after_the_header_aborts_the_connection(server: &Server) {
    let mut connection = server.connect();
    let response = connection.answer_then("/small-memory?text&print=body", "alloc=100000000");
    assert_aborted(&mut connection, &response);
    server.wait_for_log_of(response.id(), "out of memory");
}

fn a_program_that_announces_more_than_the_output_limit_is_502(server: &Server) {
    let response = server.get(&format!("/cut-printing?{}&forever", print("Content-Length: 1048577\n\nbody")));
    assert_refused(&response, "502 Bad Gateway");
    server.wait_for_log_of(response.id(), "max_response_body");
}

fn a_program_that_prints_more_than_the_output_limit_aborts_the_connection(server: &Server) {
    let mut connection = server.connect();
    let response = connection.answer_then("/cut-printing?text&print=body", "flood=10737418240");
    assert_eq!((response.status, response.complete), (200, false));
    assert!(response.body.len() <= 1 << 20, "{} bytes", response.body.len());
    server.wait_for_log_of(response.id(), "max_response_body");
    assert_killed(server, &response);
}

// === deadline passed ===

fn a_deadline_before_the_header_is_504_and_kills_the_program(server: &Server) {
    let response = server.get("/timeout?forever");
    assert_refused(&response, "504 Gateway Timeout");
    server.wait_for_log_of(response.id(), "`timeout` passed (");
    assert_killed(server, &response);
}

fn a_deadline_after_the_header_aborts_the_connection_and_kills_the_program(server: &Server) {
    let mut connection = server.connect();
    let response = connection.get("/late-timeout?text&print=body&forever");
    assert_aborted(&mut connection, &response);
    server.wait_for_log_of(response.id(), "`timeout` passed (");
    assert_killed(server, &response);
}

fn silence_before_the_header_is_504_and_kills_the_program(server: &Server) {
    let response = server.get(&format!("/idle?{}&forever", print("Status: 200\n")));
    assert_refused(&response, "504 Gateway Timeout");
    server.wait_for_log_of(response.id(), "`idle_timeout` (");
    assert_killed(server, &response);
}

fn silence_after_the_header_aborts_the_connection_and_kills_the_program(server: &Server) {
    let mut connection = server.connect();
    let response = connection.get("/idle?text&print=body&forever");
    assert_aborted(&mut connection, &response);
    server.wait_for_log_of(response.id(), "`idle_timeout` (");
    assert_killed(server, &response);
}

// === client gone ===

fn a_client_that_leaves_a_silent_program_kills_it(server: &Server) {
    let mut connection = server.connect();
    connection.send("GET /left-silent?err=left-alone%0A&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_for_log("dcgi::stderr: left-alone");
    wait_until("the program is seen", SOON, || server.containers_of("/left-silent") == 1);
    drop(connection);
    wait_until("the program is gone", SOON, || server.containers_of("/left-silent") == 0);
}

fn a_client_that_leaves_after_the_header_kills_the_program(server: &Server) {
    let mut connection = server.connect();
    connection.send("GET /p?text&print=body&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = connection.head();
    assert_eq!(response.status, 200);
    drop(connection);
    assert_killed(server, &response);
}

fn a_client_that_leaves_a_program_that_prints_10_gib_kills_it(server: &Server) {
    let mut connection = server.connect();
    connection.send("GET /p?text&flood=10737418240 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = connection.head();
    assert_eq!(response.status, 200);
    assert!(!connection.some_bytes().is_empty());
    drop(connection);
    assert_killed(server, &response);
}

// === too many requests ===

fn a_full_queue_is_503_and_says_when_to_come_again(server: &Server) {
    let _busy = endless(server, "/no-queue");
    let refused = server.get("/no-queue?text");
    assert_refused(&refused, "503 Service Unavailable");
    assert_eq!(refused.header("retry-after"), Some("7"));
}

fn a_wait_that_is_too_long_is_503_and_says_when_to_come_again(server: &Server) {
    let _busy = endless(server, "/short-wait");
    let began = Instant::now();
    let refused = server.get("/short-wait?text");
    assert!(began.elapsed() >= Duration::from_millis(200), "it was not let wait");
    assert_refused(&refused, "503 Service Unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

// === engine cannot be reached ===

fn an_engine_that_cannot_be_reached_is_503_and_says_when_to_come_again(server: &Server) {
    let relay = Relay::start();
    let server = relay.server(server);
    assert_eq!(server.get("/?text").status, 200);
    relay.cut();
    let refused = server.get("/?text");
    assert_refused(&refused, "503 Service Unavailable");
    assert_eq!(refused.header("retry-after"), Some("5"));
    relay.mend();
    assert_eq!(server.get("/?text").status, 200);
}

fn an_engine_lost_after_the_header_aborts_the_connection(server: &Server) {
    let relay = Relay::start();
    let server = relay.server(server);
    let mut connection = server.connect();
    connection.send("GET /?text&print=body&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut response = connection.head();
    response.body = connection.chunk().expect("the body's beginning");
    relay.cut();
    connection.body(&mut response);
    assert_aborted(&mut connection, &response);
    relay.mend();
    wait_until("the program is gone", PATIENCE, || server.containers() == 0);
}

fn a_launcher_that_is_killed_after_the_header_aborts_the_connection_and_is_replaced(server: &Server) {
    let server = server.beside("[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\n", |_| {});
    let mut connection = server.connect();
    connection.send("GET /?text&print=body&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut response = connection.head();
    response.body = connection.chunk().expect("the body's beginning");
    let launchers: Vec<_> = descendants(server.pid())
        .into_iter()
        .filter(|pid| name_of(*pid).as_deref() == Some("dcgi-zygote"))
        .collect();
    let [zygote] = launchers[..] else { panic!("one zygote, not {launchers:?}") };
    kill(zygote);
    connection.body(&mut response);
    assert_aborted(&mut connection, &response);
    wait_until("the program is gone", PATIENCE, || server.containers() == 0);
    assert_eq!(server.get("/?text").status, 200);
}

#[allow(clippy::disallowed_methods)]
fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// A socket that leads to the engine, for as long as it is not cut.
struct Relay {
    path: PathBuf,
    open: Arc<Mutex<Option<Vec<UnixStream>>>>,
}

impl Relay {
    fn start() -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
        let engine = host.strip_prefix("unix://").expect("the engine is on a unix socket").to_owned();
        let path = unique_path("relay.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let relay = Self { path, open: open.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // One that is cut hangs up on everybody.
                if let Some(open) = &mut *open.lock().unwrap() {
                    let engine = UnixStream::connect(&engine).expect("the engine accepts");
                    open.extend([client.try_clone().unwrap(), engine.try_clone().unwrap()]);
                    copy(client.try_clone().unwrap(), engine.try_clone().unwrap());
                    copy(engine, client);
                }
            }
        });
        relay
    }

    /// A server that reaches the engine this way only.
    fn server(&self, beside: &Server) -> Server {
        let host = format!("unix://{}", self.path.display());
        // Without one that waits: that would serve without its engine.
        beside.beside("[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\nwarm = 0\n", |command| {
            command.env("DOCKER_HOST", host);
        })
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().take().unwrap() {
            _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        *self.open.lock().unwrap() = Some(Vec::new());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

/// Copies one way to the end, the end included: by it the engine sees the end of standard input.
fn copy(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        _ = io::copy(&mut from, &mut to);
        _ = to.shutdown(Shutdown::Write);
    });
}

// === image missing, bad container options ===

#[track_caller]
fn assert_cannot_start(server: &Server, route: &str, reason: &str) {
    let response = server.get(&format!("{route}?text"));
    assert_refused(&response, "502 Bad Gateway");
    let line = server.wait_for_log_of(response.id(), reason);
    assert!(line.contains("ERROR"), "{line}");
}

fn a_missing_image_is_502_and_its_reason_in_the_log(server: &Server) {
    assert_cannot_start(server, "/no-image", "no image `dcgi-test/is-not-there`");
}

fn an_image_that_cannot_be_pulled_is_502_and_its_reason_in_the_log(server: &Server) {
    assert_cannot_start(server, "/unpullable", "cannot be pulled");
}

fn an_entrypoint_that_does_not_exist_is_502_and_its_reason_in_the_log(server: &Server) {
    assert_cannot_start(server, "/no-program", "/no/such/program");
}

fn an_entrypoint_that_does_not_exist_under_an_init_is_502_and_its_reason_in_the_log(server: &Server) {
    // To the engine all is well: the init runs. It is the init that complains.
    let response = server.get("/no-program-under-init?text");
    assert_refused(&response, "502 Bad Gateway");
    server.wait_for_log_of(response.id(), "/no/such/program");
}

fn a_bad_container_option_is_502_and_its_reason_in_the_log(server: &Server) {
    assert_cannot_start(server, "/no-volume", "/no/such/folder");
}

// === request body too large, headers too large, malformed request ===

fn a_request_body_too_large_is_413(server: &Server) {
    let mut connection = server.connect();
    connection.send_head("POST", "/small-bodies?text&count", (128 << 10) + 1);
    assert_refused(&connection.response(), "413 Payload Too Large");
}

fn headers_too_large_are_431(server: &Server) {
    let mut connection = server.connect();
    connection.send("GET /p?text HTTP/1.1\r\nHost: localhost\r\nX-Long: ");
    // It may have had enough before all is sent.
    _ = connection.try_send(vec![b'x'; 80 << 10]);
    _ = connection.try_send("\r\n\r\n");
    let response = connection.response();
    assert_eq!(response.status_line, "HTTP/1.1 431 Request Header Fields Too Large");
    assert!(response.complete);
}

fn a_malformed_request_is_400(server: &Server) {
    let response = server.send("GET /p?text HTTP/1.1\r\nHost: localhost\r\nno header\r\n\r\n");
    assert_eq!((&*response.status_line, response.complete), ("HTTP/1.1 400 Bad Request", true));
}

// === error pages ===

/// What a reader sees of a page.
fn without_markup(page: &str) -> String {
    let shown = page.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text);
    shown.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

fn an_error_page_names_the_status_and_the_request_and_nothing_else(server: &Server) {
    let response = server.get("/p?err=a-secret&exit=3");
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    let id = response.id();
    assert_eq!(without_markup(&response.text()), format!("502 Bad Gateway 502 Bad Gateway Request {id}"));
    let mut markup = response.text();
    markup.retain(|c| c != '\n');
    assert!(!markup.contains("a-secret") && !markup.contains("<!--"), "{markup}");
}

fn debug_errors_add_the_reason_and_standard_error_to_an_error_page(server: &Server) {
    let complaint = encoded("first line\n<b>last & line</b>\n");
    let response = server.get(&format!("/debug?err={complaint}&exit=3"));
    assert_refused(&response, "502 Bad Gateway");
    let page = response.text();
    assert!(page.contains("printed nothing (exit status 3)"), "{page}");
    assert!(page.contains("first line\n&lt;b&gt;last &amp; line&lt;/b&gt;"), "{page}");
}

fn an_error_page_is_no_page_to_store(server: &Server) {
    assert_eq!(server.get("/p?exit=3").header("cache-control"), Some("no-store"));
}

fn an_error_page_for_head_has_no_body_over_http_2_either(server: &Server) {
    let request = http::Request::head("http://localhost/of-no-route").body(Vec::new()).unwrap();
    let response = crate::common::http2::exchange(server.address, request);
    assert_eq!((response.status().as_u16(), response.body().len()), (404, 0));
    let mut connection = server.connect();
    connection.send("HEAD /of-no-route HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.response_to_head().status, 404);
    assert_eq!(connection.get("/p?text&print=next").text(), "next");
}
