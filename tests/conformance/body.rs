//! Request bodies on their way to a program's standard input.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::cases;
use crate::common::engine::shared_folder;
use crate::common::{Connection, Response, Server, http2, wait_until};

cases![
    without_a_body_stdin_is_empty,
    a_body_of_known_length_streams_straight_in,
    stdin_ends_at_exactly_the_end_of_a_body_of_known_length,
    stdin_ends_at_exactly_the_end_of_a_chunked_body,
    stdin_ends_at_exactly_the_end_of_a_streamed_body,
    a_chunk_may_have_an_extension,
    a_body_of_any_bytes_arrives_unchanged,
    a_chunked_body_is_spooled_and_its_content_length_true,
    a_chunked_body_over_64_kib_is_spooled_and_its_content_length_true,
    a_body_over_64_kib_is_spooled_into_a_file_without_a_name,
    a_body_is_spooled_up_to_max_request_body,
    the_body_of_http_2_without_a_length_is_spooled,
    a_streamed_chunked_body_has_no_content_length,
    a_streamed_chunked_body_streams_straight_in,
    a_raw_route_always_streams,
    a_client_that_vanishes_mid_body_kills_the_process,
    a_client_that_vanishes_mid_body_kills_a_silent_process,
    a_streamed_body_that_breaks_off_kills_the_process,
    an_http_2_client_that_vanishes_mid_body_kills_the_process,
    a_program_may_answer_before_it_reads,
    a_program_may_answer_while_it_reads,
    a_program_may_answer_without_reading,
    a_program_may_close_its_input_and_answer,
    an_early_answer_to_a_large_upload_arrives_whole,
    an_echo_of_64_mib_arrives_whole,
    the_connection_serves_on_after_a_body_that_nobody_read,
    an_expectation_is_answered_before_the_body_is_read,
    an_expectation_is_answered_before_a_body_is_spooled,
    an_expectation_is_not_answered_where_the_body_is_not_read,
    an_expectation_is_not_answered_where_the_route_is_full,
    an_interim_answer_comes_only_to_a_client_that_expects_it,
];

const CHUNKED: &str = "Transfer-Encoding: chunked";

fn post(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n")
}

fn with_length(path: &str, body: &[u8]) -> Vec<u8> {
    [post(path, &format!("Content-Length: {}", body.len())).as_bytes(), body].concat()
}

/// A chunk of a body; the last one, where it is empty.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn chunked(path: &str, chunks: &[&[u8]]) -> Vec<u8> {
    let chunks: Vec<_> = chunks.iter().flat_map(|bytes| chunk(bytes)).collect();
    [post(path, CHUNKED).as_bytes(), &chunks, &chunk(b"")].concat()
}

/// Bytes of every value, in an order that shows what is lost or out of place.
fn noise(length: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..65_521_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    block.into_iter().cycle().take(length).collect()
}

/// What the rest of a body is, behind a head that has been read.
fn rest(connection: &mut Connection, mut head: Response) -> String {
    connection.body(&mut head);
    assert!(head.complete, "the answer was cut: {head:?}");
    head.text()
}

#[track_caller]
fn assert_200(response: &Response, body: &str) {
    assert_eq!((response.status, response.text().as_str()), (200, body));
    assert!(response.complete, "the answer was cut: {response:?}");
}

// === what arrives ===

fn without_a_body_stdin_is_empty(server: &Server) {
    assert_200(&server.get("/p?text&count"), "0\n");
}

fn a_body_of_known_length_streams_straight_in(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/p?text&read=5&print=five&count", "Content-Length: 9"));
    connection.send("hello");
    let head = connection.head();
    connection.expect("five");
    connection.send("more");
    assert_eq!(rest(&mut connection, head), "4\n");
}

/// The next request stands right behind the body: none of it may reach the program, all of it the server.
#[track_caller]
fn assert_ends_exactly(server: &Server, mut request: Vec<u8>) {
    request.extend_from_slice(b"GET /p?text&print=next HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut connection = server.connect();
    connection.send(request);
    assert_200(&connection.response(), "hello.");
    assert_200(&connection.response(), "next");
}

fn stdin_ends_at_exactly_the_end_of_a_body_of_known_length(server: &Server) {
    assert_ends_exactly(server, with_length("/p?text&echo&print=.", b"hello"));
}

fn stdin_ends_at_exactly_the_end_of_a_chunked_body(server: &Server) {
    assert_ends_exactly(server, chunked("/p?text&echo&print=.", &[b"he", b"llo"]));
}

fn stdin_ends_at_exactly_the_end_of_a_streamed_body(server: &Server) {
    assert_ends_exactly(server, chunked("/stream?text&echo&print=.", &[b"he", b"llo"]));
}

fn a_chunk_may_have_an_extension(server: &Server) {
    for extension in [";q=x", " ;q=x", "\t; q = \"x\""] {
        let body = format!("2{extension}\r\nhe\r\n3{extension}\r\nllo\r\n0{extension}\r\n\r\n");
        assert_ends_exactly(server, [post("/p?text&echo&print=.", CHUNKED), body].concat().into());
    }
}

fn a_body_of_any_bytes_arrives_unchanged(server: &Server) {
    let body = noise(300_000);
    let response = server.send(with_length("/p?text&echo", &body));
    assert!(response.complete && response.body == body, "{} bytes came back", response.body.len());
}

// === of unknown length ===

fn a_chunked_body_is_spooled_and_its_content_length_true(server: &Server) {
    let request = chunked("/p?text&env=CONTENT_LENGTH&echo", &[b"one ", b"two ", b"three"]);
    assert_200(&server.send(request), "=13\none two three");
}

fn a_chunked_body_over_64_kib_is_spooled_and_its_content_length_true(server: &Server) {
    let body = noise(200_001);
    let chunks: Vec<_> = body.chunks(9_999).collect();
    let response = server.send(chunked("/p?text&env=CONTENT_LENGTH&echo", &chunks));
    assert!(response.complete && response.body == [b"=200001\n", &body[..]].concat(), "{}", response.status);
}

fn a_body_over_64_kib_is_spooled_into_a_file_without_a_name(server: &Server) {
    let folder = shared_folder();
    let config = "[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\n";
    let server = server.beside(config, |command| {
        command.env("TMPDIR", folder.path());
    });
    // More than the pipes on the way take up, so that the file is still read from.
    let mut connection = server.connect();
    connection.send(chunked("/p?text&print=reads+nothing&forever", &[&noise(8 << 20)]));
    connection.head();
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let files: Vec<_> = open
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(folder.path()))
        .collect();
    assert!(
        matches!(&files[..], [file] if file.to_str().unwrap().ends_with(" (deleted)")),
        "open in TMPDIR: {files:?}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn a_body_is_spooled_up_to_max_request_body(server: &Server) {
    let limit = 128 << 10;
    let whole = server.send(chunked("/small-bodies?text&count", &[&noise(limit - 1), b"x"]));
    assert_200(&whole, "131072\n");
    let mut connection = server.connect();
    _ = connection.try_send(chunked("/small-bodies?text&count", &[&noise(limit), b"x"]));
    assert_eq!(connection.response().status, 413);
}

fn the_body_of_http_2_without_a_length_is_spooled(server: &Server) {
    let request = Request::post("http://localhost/p?text&env=CONTENT_LENGTH&echo");
    let request = request.body(vec![Bytes::from("one "), Bytes::from("two")]).unwrap();
    assert_eq!(http2::exchange(server.address, request).body(), "=7\none two");
}

fn a_streamed_chunked_body_has_no_content_length(server: &Server) {
    let request = chunked("/stream?text&env=CONTENT_LENGTH&echo", &[b"one ", b"two"]);
    assert_200(&server.send(request), "unset\none two");
}

fn a_streamed_chunked_body_streams_straight_in(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/stream?text&read=5&print=five&count", CHUNKED));
    connection.send(chunk(b"hello"));
    let head = connection.head();
    connection.expect("five");
    connection.send([chunk(b"more"), chunk(b"")].concat());
    assert_eq!(rest(&mut connection, head), "4\n");
}

fn a_raw_route_always_streams(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/raw", CHUNKED));
    connection.send(chunk(b"hello"));
    let head = connection.head();
    let mut output = Vec::new();
    while !output.ends_with(b"hello") {
        output.extend(connection.chunk().expect("output before the input ends"));
    }
    assert_eq!(output, b"unset\nhello", "CONTENT_LENGTH, and the input so far");
    connection.send([chunk(b"more"), chunk(b"")].concat());
    assert_eq!(rest(&mut connection, head), "more");
}

// === clients that vanish ===

/// Waits for a program to run, lets the client go, and waits for the program's end. The programs end neither by
/// themselves nor at the end of their input, and no limit ends them so soon.
#[track_caller]
fn assert_killed(server: &Server, route: &str, leave: impl FnOnce()) {
    wait_until("the program runs", Duration::from_secs(30), || server.containers_of(route) == 1);
    leave();
    // A second for the kill; the rest is for a busy engine to remove what is left.
    wait_until("the process is gone", Duration::from_secs(8), || server.containers_of(route) == 0);
}

fn a_client_that_vanishes_mid_body_kills_the_process(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/vanish?text&print=on&count&forever", "Content-Length: 100"));
    connection.send("half of it");
    connection.head();
    assert_killed(server, "/vanish", || drop(connection));
}

fn a_client_that_vanishes_mid_body_kills_a_silent_process(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/vanish-silently?err=it%20runs%0A&count&forever", "Content-Length: 100"));
    connection.send("half of it");
    server.wait_for_log("dcgi::stderr: it runs");
    assert_killed(server, "/vanish-silently", || drop(connection));
}

fn a_streamed_body_that_breaks_off_kills_the_process(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/vanish-streaming?text&print=on&count&forever", CHUNKED));
    connection.send(chunk(b"half of it"));
    connection.head();
    assert_killed(server, "/vanish-streaming", || drop(connection));
}

fn an_http_2_client_that_vanishes_mid_body_kills_the_process(server: &Server) {
    let request = Request::post("http://localhost/vanish-over-http-2?text&print=on&count&forever");
    let connection = http2::begin(server.address, request.body(vec![Bytes::from("half of it")]).unwrap());
    assert_killed(server, "/vanish-over-http-2", || drop(connection));
}

// === programs that answer when they like ===

fn a_program_may_answer_before_it_reads(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/p?text&print=early&count", "Content-Length: 5"));
    let head = connection.head();
    connection.expect("early");
    connection.send("hello");
    assert_eq!(rest(&mut connection, head), "5\n");
}

fn a_program_may_answer_while_it_reads(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/p?text&echo", "Content-Length: 10"));
    connection.send("hello");
    let head = connection.head();
    connection.expect("hello");
    connection.send("world");
    assert_eq!(rest(&mut connection, head), "world");
}

fn a_program_may_answer_without_reading(server: &Server) {
    assert_200(&server.send(with_length("/p?text&print=done", &noise(1 << 20))), "done");
}

fn a_program_may_close_its_input_and_answer(server: &Server) {
    let request = with_length("/p?close=0&text&print=first+&sleep=300&print=last", &noise(4 << 20));
    assert_200(&server.send(request), "first+last");
}

fn an_early_answer_to_a_large_upload_arrives_whole(server: &Server) {
    // Sent to its end before anything is read: a server that stopped reading would not let it come so far.
    let request = with_length("/large-bodies?text&print=early", &noise(40 << 20));
    assert_200(&server.send(request), "early");
}

fn an_echo_of_64_mib_arrives_whole(server: &Server) {
    let body = noise(64 << 20);
    let mut connection = server.connect();
    let mut writer = connection.writer();
    let response = std::thread::scope(|scope| {
        scope.spawn(|| {
            let head = post("/large-bodies?text&echo", &format!("Content-Length: {}", body.len()));
            std::io::Write::write_all(&mut writer, head.as_bytes()).unwrap();
            std::io::Write::write_all(&mut writer, &body).unwrap();
        });
        connection.response()
    });
    assert_eq!((response.status, response.complete, response.body.len()), (200, true, body.len()));
    assert!(response.body == body, "what came back is not what was sent");
}

fn the_connection_serves_on_after_a_body_that_nobody_read(server: &Server) {
    let mut connection = server.connect();
    connection.send(with_length("/p?text&print=done", &noise(1 << 20)));
    assert_200(&connection.response(), "done");
    assert_200(&connection.get("/p?text&print=next"), "next");
}

// === Expect: 100-continue ===

#[track_caller]
fn assert_continued(server: &Server, path: &str, framing: &str, body: &[u8], answer: &str) {
    let mut connection = server.connect();
    connection.send(post(path, &format!("Expect: 100-continue\r\n{framing}")));
    assert_eq!(connection.head().status, 100, "before the body has come");
    connection.send(body);
    assert_200(&connection.response(), answer);
}

fn an_expectation_is_answered_before_the_body_is_read(server: &Server) {
    assert_continued(server, "/p?text&count", "Content-Length: 5", b"hello", "5\n");
}

fn an_expectation_is_answered_before_a_body_is_spooled(server: &Server) {
    assert_continued(server, "/p?text&count", CHUNKED, &[chunk(b"hello"), chunk(b"")].concat(), "5\n");
}

fn an_expectation_is_not_answered_where_the_body_is_not_read(server: &Server) {
    for (path, length, status) in
        [("/small-bodies", 1 << 20, 413), ("/nowhere", 5, 404), ("/p/%00", 5, 400), ("/no-image", 5, 502)]
    {
        let headers = format!("Expect: 100-continue\r\nContent-Length: {length}");
        assert_eq!(server.send(post(path, &headers)).status, status, "{path}");
    }
}

fn an_expectation_is_not_answered_where_the_route_is_full(server: &Server) {
    let mut first = server.connect();
    first.send("GET /one-place?text&print=on&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    first.head();
    for framing in ["Content-Length: 5", CHUNKED] {
        let headers = format!("Expect: 100-continue\r\n{framing}");
        assert_eq!(server.send(post("/one-place?text", &headers)).status, 503, "{framing}");
    }
}

fn an_interim_answer_comes_only_to_a_client_that_expects_it(server: &Server) {
    let mut connection = server.connect();
    connection.send(post("/p?text&count", "Content-Length: 5"));
    connection.send("hello");
    assert_200(&connection.response(), "5\n");
}
