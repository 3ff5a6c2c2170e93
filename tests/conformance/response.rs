//! What a client gets for what a program prints (RFC 3875 §6).

use std::io::Write;
use std::net::TcpStream;

use crate::cases;
use crate::common::client::Framing;
use crate::common::server::read_all;
use crate::common::{Connection, PATIENCE, Response, Server, encoded, print, wait_until};

cases![
    header_lines_may_end_in_lf,
    header_lines_may_end_in_crlf,
    header_lines_may_end_in_a_mixture,
    the_header_block_ends_at_the_first_blank_line,
    a_header_block_of_64_kib_is_an_answer,
    a_header_block_of_more_than_64_kib_is_none,
    a_header_block_of_a_hundred_lines_is_an_answer,
    a_header_block_of_more_than_a_hundred_lines_is_none,
    without_a_status_it_is_200,
    a_status_counts_in_any_letter_case,
    a_status_counts_in_any_position_and_is_no_header,
    the_reason_survives,
    a_first_line_of_http_1_is_the_status,
    a_1xx_block_is_never_the_answer,
    a_location_with_a_uri_is_302_and_keeps_its_body,
    a_location_with_a_path_and_a_status_is_for_the_client,
    a_location_with_a_path_under_a_status_line_is_for_the_client,
    a_location_with_two_slashes_is_for_the_client,
    header_names_are_in_title_case_over_http_1,
    hop_by_hop_headers_are_dropped,
    headers_that_connection_names_are_dropped,
    a_body_that_the_script_chunks_is_decoded_if_nph,
    a_body_that_the_script_chunks_is_its_text_if_not_nph,
    a_bare_carriage_return_in_a_value_is_502,
    a_nul_in_a_value_is_502,
    an_invalid_header_name_is_502,
    two_set_cookie_headers_survive_in_order,
    of_a_field_that_an_answer_has_once_the_last_one_counts_with_a_warning_in_the_log,
    a_content_length_is_the_answers_framing,
    a_client_that_got_its_content_length_has_not_left,
    fewer_bytes_than_the_content_length_abort_the_connection,
    an_answer_that_is_cut_at_once_has_a_beginning,
    more_bytes_than_the_content_length_abort_the_connection,
    a_body_beside_a_content_length_of_0_is_502,
    a_content_length_that_is_no_number_is_502,
    an_answer_that_ends_with_an_http_1_0_connection_ends_in_a_reset_when_cut,
    a_head_request_gets_the_headers_and_no_body,
    a_204_sends_no_body,
    a_304_sends_no_body,
    a_program_that_answers_head_runs_to_its_end,
    a_program_that_answers_204_runs_to_its_end,
    a_program_that_answers_304_runs_to_its_end,
    a_body_without_a_content_type_passes_with_a_warning_in_the_log,
    no_body_without_a_content_type_deserves_no_warning,
    output_is_flushed_at_once,
    server_sent_events_come_one_by_one,
    a_slow_reader_holds_the_program_back_and_not_the_memory,
    a_flood_on_standard_error_before_the_header_holds_nothing_up,
    standard_error_is_drained_between_floods_of_output,
    standard_error_goes_to_the_log_line_by_line_with_the_requests_id,
    raw_output_is_the_body,
    raw_output_has_the_routes_content_type,
    raw_output_without_a_content_type_is_octets,
    a_raw_filter_streams_both_ways_at_once,
    a_raw_program_that_fails_in_silence_is_502,
    a_raw_program_that_prints_and_then_fails_has_answered,
    a_raw_program_that_is_killed_aborts_the_connection,
];

/// The answer to a program that prints this.
#[track_caller]
fn answer_to(server: &Server, output: impl AsRef<[u8]>) -> Response {
    server.get(&format!("/p?{}", print(output)))
}

#[track_caller]
fn assert_whole(response: &Response, status: u16, body: &str) {
    assert_eq!((response.status, &*response.text()), (status, body));
    assert!(response.complete, "the answer was cut");
}

/// Asserts that the client learns nothing of what was printed but that it was no answer.
#[track_caller]
fn assert_bad_gateway(response: &Response) {
    assert_eq!(response.status_line, "HTTP/1.1 502 Bad Gateway");
    assert!(response.complete && response.text().contains(response.id()), "{}", response.text());
}

/// Asserts that the next request on a connection gets its own answer, and not the rest of the one before.
#[track_caller]
fn assert_in_step(connection: &mut Connection) {
    let next = connection.get("/p?text&print=next");
    assert_whole(&next, 200, "next");
}

// === the header block ===

fn header_lines_may_end_in_lf(server: &Server) {
    let response = answer_to(server, "Status: 203 x\nContent-Type: a/b\nX-A: 1\n\nbody\n");
    assert_eq!((response.header("content-type"), response.header("x-a")), (Some("a/b"), Some("1")));
    assert_whole(&response, 203, "body\n");
}

fn header_lines_may_end_in_crlf(server: &Server) {
    let response = answer_to(server, "Status: 203 x\r\nContent-Type: a/b\r\nX-A: 1\r\n\r\nbody\r\n");
    assert_eq!((response.header("content-type"), response.header("x-a")), (Some("a/b"), Some("1")));
    assert_whole(&response, 203, "body\r\n");
}

fn header_lines_may_end_in_a_mixture(server: &Server) {
    let response = answer_to(server, "Status: 203 x\r\nContent-Type: a/b\nX-A: 1\r\n\nbody\n");
    assert_eq!((response.header("content-type"), response.header("x-a")), (Some("a/b"), Some("1")));
    assert_whole(&response, 203, "body\n");
}

fn the_header_block_ends_at_the_first_blank_line(server: &Server) {
    let response = answer_to(server, "Content-Type: a/b\n\nX-A: 1\r\n\r\n\nStatus: 500\n");
    assert_eq!(response.header("x-a"), None);
    assert_whole(&response, 200, "X-A: 1\r\n\r\n\nStatus: 500\n");
}

/// Has the probe print a header block of so many bytes.
#[track_caller]
fn block_of(server: &Server, bytes: usize) -> Response {
    let (start, end) = ("X-Long: ", "\n\n");
    let fill = bytes - start.len() - end.len();
    server.get(&format!("/p?{}&fill={fill}&{}", print(start), print(format!("{end}body"))))
}

fn a_header_block_of_64_kib_is_an_answer(server: &Server) {
    let response = block_of(server, 64 << 10);
    assert_eq!(response.header("x-long").map(str::len), Some((64 << 10) - 10));
    assert_whole(&response, 200, "body");
}

fn a_header_block_of_more_than_64_kib_is_none(server: &Server) {
    assert_bad_gateway(&block_of(server, (64 << 10) + 1));
}

fn a_header_block_of_a_hundred_lines_is_an_answer(server: &Server) {
    let response = answer_to(server, format!("{}\nbody", "A: b\n".repeat(100)));
    assert_eq!(response.all("a").count(), 100);
    assert_whole(&response, 200, "body");
}

fn a_header_block_of_more_than_a_hundred_lines_is_none(server: &Server) {
    assert_bad_gateway(&answer_to(server, format!("{}\nbody", "A: b\n".repeat(101))));
}

// === status ===

fn without_a_status_it_is_200(server: &Server) {
    assert_eq!(answer_to(server, "Content-Type: a/b\n\n").status_line, "HTTP/1.1 200 OK");
}

fn a_status_counts_in_any_letter_case(server: &Server) {
    assert_whole(&answer_to(server, "sTaTUS: 404\nContent-Type: a/b\n\nlost"), 404, "lost");
}

fn a_status_counts_in_any_position_and_is_no_header(server: &Server) {
    let response = answer_to(server, "Content-Type: a/b\nX-A: 1\nStatus: 404 x\n\nlost");
    assert_eq!(response.header("status"), None);
    assert_whole(&response, 404, "lost");
}

fn the_reason_survives(server: &Server) {
    let response = answer_to(server, "Status: 299 Nearly, But Not Quite\n\n");
    assert_eq!(response.status_line, "HTTP/1.1 299 Nearly, But Not Quite");
}

fn a_first_line_of_http_1_is_the_status(server: &Server) {
    let response = answer_to(server, "HTTP/1.0 404 No Such Thing\r\nContent-Type: a/b\r\n\r\nlost");
    assert_eq!(response.status_line, "HTTP/1.1 404 No Such Thing");
    assert_whole(&response, 404, "lost");
}

fn a_1xx_block_is_never_the_answer(server: &Server) {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nStatus: 103 Early Hints\nLink: </a>\n\n";
    let mut connection = server.connect();
    let path = format!("/p?{}", print(format!("{interim}Status: 201 Made\nX-A: 1\n\nbody")));
    let mut response = connection.get(&path);
    // Forwarded or skipped, as it may be.
    while response.status < 200 {
        response = connection.response();
    }
    assert_eq!((&*response.status_line, response.header("link")), ("HTTP/1.1 201 Made", None));
    assert_whole(&response, 201, "body");
}

// === location ===

fn a_location_with_a_uri_is_302_and_keeps_its_body(server: &Server) {
    let response = answer_to(server, "Location: http://other.example/x?y#z\n\n<a>there</a>");
    assert_eq!(response.header("location"), Some("http://other.example/x?y#z"));
    assert_eq!(response.status_line, "HTTP/1.1 302 Found");
    assert_whole(&response, 302, "<a>there</a>");
}

fn a_location_with_a_path_and_a_status_is_for_the_client(server: &Server) {
    let response = answer_to(server, "Status: 201 Made\nLocation: /new\n\nbody");
    assert_eq!(response.header("location"), Some("/new"));
    assert_whole(&response, 201, "body");
}

fn a_location_with_a_path_under_a_status_line_is_for_the_client(server: &Server) {
    let response = answer_to(server, "HTTP/1.1 303 See Other\r\nLocation: /new\r\n\r\nbody");
    assert_eq!(response.header("location"), Some("/new"));
    assert_whole(&response, 303, "body");
}

fn a_location_with_two_slashes_is_for_the_client(server: &Server) {
    let response = answer_to(server, "Location: //other.example/x\n\nbody");
    assert_eq!(response.header("location"), Some("//other.example/x"));
    assert_whole(&response, 302, "body");
}

// === headers ===

fn header_names_are_in_title_case_over_http_1(server: &Server) {
    let mut client = TcpStream::connect(server.address).unwrap();
    let target = format!(
        "/p?{}",
        print("content-type: text/plain\nSET-COOKIE: a=B\nx-own-name: c\ncontent-length: 4\n\nbody")
    );
    let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    let response = String::from_utf8(read_all(client)).unwrap();
    for line in ["Content-Type: text/plain", "Set-Cookie: a=B", "X-Own-Name: c", "Content-Length: 4"] {
        assert!(response.contains(&format!("\r\n{line}\r\n")), "{line}: {response}");
    }
    let names = response.lines().skip(1).take_while(|line| !line.is_empty());
    let names: Vec<_> = names.filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| name.starts_with(|c: char| c.is_ascii_uppercase())), "{names:?}");
}

fn hop_by_hop_headers_are_dropped(server: &Server) {
    let fields = "Connection: keep-alive\nKeep-Alive: timeout=9\nProxy-Authenticate: Basic\nProxy-Connection: x\n\
                  TE: trailers\nTrailer: X-T\nUpgrade: h2c\nX-A: 1\n\nbody";
    let response = answer_to(server, fields);
    for name in ["keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "upgrade"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!((response.header("connection"), response.header("x-a")), (None, Some("1")));
    assert_whole(&response, 200, "body");
}

fn headers_that_connection_names_are_dropped(server: &Server) {
    let response = answer_to(server, "X-B: 2\nConnection: close, x-b\nX-A: 1\n\nbody");
    assert_eq!((response.header("x-b"), response.header("x-a")), (None, Some("1")));
    assert_whole(&response, 200, "body");
}

fn a_body_that_the_script_chunks_is_decoded_if_nph(server: &Server) {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1\r\ny\r\n0\r\n\r\n";
    assert_whole(&answer_to(server, chunked), 200, "body");
}

fn a_body_that_the_script_chunks_is_its_text_if_not_nph(server: &Server) {
    let response = answer_to(server, "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
    let body = "4\r\nbody\r\n0\r\n\r\n";
    // dcgi's own framing, once: by its length where the program ended at once.
    let length = body.len().to_string();
    let framing: Vec<_> =
        ["transfer-encoding", "content-length"].into_iter().flat_map(|name| response.all(name)).collect();
    assert!(framing == ["chunked"] || framing == [length.as_str()], "{framing:?}");
    assert_whole(&response, 200, body);
}

fn a_bare_carriage_return_in_a_value_is_502(server: &Server) {
    let split = "X-A: 1\r\rHTTP/1.1 200 OK\r\rforged\r\n\r\nbody";
    let mut connection = server.connect();
    assert_bad_gateway(&connection.get(&format!("/p?{}", print(split))));
    assert_in_step(&mut connection);
}

fn a_nul_in_a_value_is_502(server: &Server) {
    assert_bad_gateway(&answer_to(server, "X-A: 1\0\n\nbody"));
}

fn an_invalid_header_name_is_502(server: &Server) {
    assert_bad_gateway(&answer_to(server, "X A: 1\n\nbody"));
}

fn two_set_cookie_headers_survive_in_order(server: &Server) {
    let response = answer_to(server, "Set-Cookie: b=1; Path=/\nX-A: 1\nset-cookie: a=2\n\nbody");
    assert_eq!(response.all("set-cookie").collect::<Vec<_>>(), ["b=1; Path=/", "a=2"]);
}

fn of_a_field_that_an_answer_has_once_the_last_one_counts_with_a_warning_in_the_log(server: &Server) {
    let names = ["content-type", "etag", "date", "server", "last-modified", "content-range", "location"];
    let block: String = names.map(|name| format!("{name}: first/1\n{name}: last/2\n")).concat();
    let response = answer_to(server, format!("Status: 206\n{block}Link: a\nLink: b\n\nbody"));
    for name in names {
        assert_eq!(response.all(name).collect::<Vec<_>>(), ["last/2"], "{name}");
        let line = server.wait_for_log_of(response.id(), &format!("more than one `{name}`"));
        assert!(line.contains("WARN"), "{line}");
    }
    assert_eq!(response.all("link").collect::<Vec<_>>(), ["a", "b"]);
    assert_whole(&response, 206, "body");
}

// === content length ===

fn a_content_length_is_the_answers_framing(server: &Server) {
    let mut connection = server.connect();
    let response = connection.get(&format!("/p?{}", print("Content-Length: 4\n\nbody")));
    assert_eq!(response.framing, Framing::Length(4));
    assert_whole(&response, 200, "body");
    assert_in_step(&mut connection);
}

fn a_client_that_got_its_content_length_has_not_left(server: &Server) {
    let mut connection = server.connect();
    let path = format!("/declared?print={}", encoded("Content-Type: text/plain\nContent-Length: 5\n\nhello"));
    let answers: Vec<_> = (0..8).map(|_| connection.get(&path)).collect();
    wait_until("the exchanges are over", PATIENCE, || server.containers_of("/declared") == 0);
    for answer in answers {
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        assert!(!server.log_of(answer.id()).contains("went away"), "{}", server.log_of(answer.id()));
    }
}

fn fewer_bytes_than_the_content_length_abort_the_connection(server: &Server) {
    let path = format!("/p?{}", print("Content-Length: 5\n\nbody"));
    let response = server.connect().answer_then(&path, "exit=0");
    assert_eq!((response.framing, response.complete), (Framing::Length(5), false));
}

fn an_answer_that_is_cut_at_once_has_a_beginning(server: &Server) {
    let mut connection = server.connect();
    connection
        .send(format!("GET /p?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", print("Content-Length: 5\n\nbody")));
    let mut response = connection.head();
    connection.body(&mut response);
    assert_eq!((response.status, response.text().as_str(), response.complete), (200, "body", false));
}

fn more_bytes_than_the_content_length_abort_the_connection(server: &Server) {
    // The byte too many comes when the answer could already be whole.
    let path = format!("/p?{}", print("Content-Length: 3\n\nbod"));
    let response = server.connect().answer_then(&path, "print=y");
    assert_eq!((response.framing, response.complete), (Framing::Length(3), false));
}

fn a_body_beside_a_content_length_of_0_is_502(server: &Server) {
    assert_bad_gateway(&answer_to(server, "Content-Length: 0\n\nbody"));
}

fn a_content_length_that_is_no_number_is_502(server: &Server) {
    assert_bad_gateway(&answer_to(server, "Content-Length: +4\n\nbody"));
}

fn an_answer_that_ends_with_an_http_1_0_connection_ends_in_a_reset_when_cut(server: &Server) {
    let request = |end: &str| {
        let mut connection = server.connect();
        let path = format!("/p?text&print=body&read=1&{end}");
        connection.send(format!("POST {path} HTTP/1.0\r\nContent-Length: 1\r\n\r\n"));
        let mut response = connection.head();
        assert_eq!(response.framing, Framing::Close);
        response.body = connection.some_bytes();
        connection.send("x");
        connection.body(&mut response);
        (response.text(), response.complete)
    };
    assert_eq!(request("exit=0"), ("body".to_owned(), true));
    assert_eq!(request("kill=9"), ("body".to_owned(), false));
}

// === answers without a body ===

fn a_head_request_gets_the_headers_and_no_body(server: &Server) {
    let mut connection = server.connect();
    let path = format!("/p?{}", print("Content-Length: 4\nX-A: 1\n\nbody"));
    connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let response = connection.response_to_head();
    let headers = (response.header("content-length"), response.header("x-a"));
    assert_eq!((response.status, headers), (200, (Some("4"), Some("1"))));
    assert_in_step(&mut connection);
}

fn a_204_sends_no_body(server: &Server) {
    let mut connection = server.connect();
    let response = connection.get(&format!("/p?{}", print("Status: 204\nContent-Length: 4\n\nbody")));
    assert_eq!(response.status, 204);
    // RFC 9110 §8.6 and §6.1.
    assert_eq!((response.header("content-length"), response.header("transfer-encoding")), (None, None));
    assert_in_step(&mut connection);
}

fn a_304_sends_no_body(server: &Server) {
    let mut connection = server.connect();
    let response = connection.get(&format!("/p?{}", print("Status: 304\nETag: \"1\"\n\nbody")));
    assert_eq!((response.status, response.header("etag")), (304, Some("\"1\"")));
    assert_in_step(&mut connection);
}

/// Asserts that a program is not ended by a client that has had its answer and left.
#[track_caller]
fn assert_runs_to_its_end(server: &Server, method: &str, status: &str) {
    let mut connection = server.connect();
    let path = format!("/p?{}&flood=200000&sleep=300&err=to-the-end", print(format!("Status: {status}\n\n")));
    connection.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let response = connection.response_to_head();
    assert_eq!(response.status.to_string(), status);
    drop(connection);
    // Not merely in the access log, as part of the URI.
    server.wait_for_log_of(response.id(), "dcgi::stderr: to-the-end");
}

fn a_program_that_answers_head_runs_to_its_end(server: &Server) {
    assert_runs_to_its_end(server, "HEAD", "200");
}

fn a_program_that_answers_204_runs_to_its_end(server: &Server) {
    assert_runs_to_its_end(server, "GET", "204");
}

fn a_program_that_answers_304_runs_to_its_end(server: &Server) {
    assert_runs_to_its_end(server, "GET", "304");
}

const NO_CONTENT_TYPE: &str = "without a Content-Type";

fn a_body_without_a_content_type_passes_with_a_warning_in_the_log(server: &Server) {
    let response = answer_to(server, "X-A: 1\n\nbody");
    assert_eq!(response.header("content-type"), None);
    assert_whole(&response, 200, "body");
    let line = server.wait_for_log_of(response.id(), NO_CONTENT_TYPE);
    assert!(line.contains("WARN"), "{line}");
}

fn no_body_without_a_content_type_deserves_no_warning(server: &Server) {
    let response = answer_to(server, "Status: 404\n\n");
    assert_whole(&response, 404, "");
    // The access log has the last word on a request.
    server.wait_for_log_of(response.id(), "dcgi::access");
    assert!(!server.log_of(response.id()).contains(NO_CONTENT_TYPE));
}

// === streaming ===

fn output_is_flushed_at_once(server: &Server) {
    let mut connection = server.connect();
    // The program says the second word only once we have heard the first.
    connection.send_head("POST", "/p?text&print=one&read=1&print=two", 1);
    assert_eq!(connection.head().status, 200);
    connection.expect("one");
    connection.send("x");
    connection.expect("two");
    assert_eq!(connection.chunk().unwrap(), b"");
}

fn server_sent_events_come_one_by_one(server: &Server) {
    let events = ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"];
    let steps = events.map(|event| format!("read=1&{}", print(event))).join("&");
    let head = print("Content-Type: text/event-stream\n\n");
    let mut connection = server.connect();
    connection.send_head("POST", &format!("/p?{head}&{steps}"), 3);
    let response = connection.head();
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    for event in events {
        connection.send("x");
        connection.expect(event);
    }
    assert_eq!(connection.chunk().unwrap(), b"");
}

fn a_slow_reader_holds_the_program_back_and_not_the_memory(shared: &Server) {
    const FLOOD: usize = 64 << 20;
    const ALL: &str = "dcgi::stderr: all-is-printed";
    // One's own: memory is the process's, not the request's.
    let server = shared.beside(
        "[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\nidle_timeout = \"30s\"\n",
        |_| {},
    );
    let path = format!("/?text&flood={FLOOD}&err=all-is-printed");
    assert_eq!(server.get("/?text").status, 200);
    let before = server.memory().1;
    let mut slow = server.connect();
    slow.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let mut response = slow.head();

    // Time enough for the same flood to go by somebody who reads.
    let quick = server.get(&path);
    assert_eq!((quick.body.len(), quick.complete), (FLOOD, true));
    server.wait_for_log_of(quick.id(), ALL);

    assert!(!server.log_of(response.id()).contains(ALL), "nothing held the program back");
    let grown = server.memory().1 - before;
    assert!(grown < 16 << 20, "dcgi has grown by {grown} bytes");
    slow.body(&mut response);
    assert_eq!((response.body.len(), response.complete), (FLOOD, true));
}

fn a_flood_on_standard_error_before_the_header_holds_nothing_up(server: &Server) {
    assert_whole(&server.get("/p?flooderr=4000000&text&print=body"), 200, "body");
}

fn standard_error_is_drained_between_floods_of_output(server: &Server) {
    let response = server.get("/p?text&flood=300000&flooderr=300000&flood=300000&flooderr=300000&flood=1");
    assert_eq!((response.body.len(), response.complete), (600_001, true));
}

fn standard_error_goes_to_the_log_line_by_line_with_the_requests_id(server: &Server) {
    let response = server.get(&format!("/p?err={}&text&print=body", encoded("first line\nsecond line")));
    assert_whole(&response, 200, "body");
    for text in ["first line", "second line"] {
        let line = server.wait_for_log_of(response.id(), text);
        assert!(line.ends_with(text), "{line}");
        assert!(line.contains("dcgi::stderr"), "{line}");
    }
}

// === raw output ===

fn raw_output_is_the_body(server: &Server) {
    let output = "Status: 404\nLocation: /p\n\nHTTP/1.1 500 x\r\n\r\n\0";
    assert_whole(&server.get(&format!("/filter?{}", print(output))), 200, output);
}

fn raw_output_has_the_routes_content_type(server: &Server) {
    let response = server.get("/filter?print=x");
    assert_eq!(response.header("content-type"), Some("text/x-raw; charset=utf-8"));
}

fn raw_output_without_a_content_type_is_octets(server: &Server) {
    let response = server.get("/filter-untyped?print=x");
    assert_eq!(response.header("content-type"), Some("application/octet-stream"));
}

fn a_raw_filter_streams_both_ways_at_once(server: &Server) {
    let mut connection = server.connect();
    connection.send_head("POST", "/filter?echo", 6);
    connection.send("one");
    assert_eq!(connection.head().status, 200);
    connection.expect("one");
    connection.send("two");
    connection.expect("two");
    assert_eq!(connection.chunk().unwrap(), b"");
}

fn a_raw_program_that_fails_in_silence_is_502(server: &Server) {
    assert_bad_gateway(&server.get("/filter?exit=3"));
    assert_bad_gateway(&server.get("/filter?kill=9"));
    assert_whole(&server.get("/filter"), 200, "");
}

fn a_raw_program_that_prints_and_then_fails_has_answered(server: &Server) {
    let response = server.get("/filter?print=body&exit=3");
    assert_whole(&response, 200, "body");
    let line = server.wait_for_log_of(response.id(), "exit status 3");
    assert!(line.contains("WARN"), "{line}");
}

fn a_raw_program_that_is_killed_aborts_the_connection(server: &Server) {
    let response = server.connect().answer_then("/filter?print=body", "kill=9");
    assert_eq!((response.status, &*response.text(), response.complete), (200, "body", false));
}
