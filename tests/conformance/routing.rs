//! Which program a request reaches, and which requests reach none.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use http::Request;

use crate::cases;
use crate::common::client::Framing;
use crate::common::engine::shared_folder;
use crate::common::{Response, Server, encoded, http2};

cases![
    the_longest_prefix_wins,
    a_prefix_matches_on_segment_boundaries,
    a_path_of_no_route_is_404,
    a_run_of_slashes_counts_as_one_for_the_route_and_stays_in_path_info,
    the_routes_of_a_host_go_before_those_of_all_hosts,
    the_route_of_a_host_serves_no_other_host,
    a_target_with_a_host_overrules_the_host_header,
    dot_segments_are_resolved_before_routing,
    dot_segments_never_climb_above_the_root,
    encoded_dot_segments_are_dot_segments,
    a_path_is_decoded_before_routing_and_only_once,
    an_encoded_nul_is_400,
    an_invalid_escape_is_400,
    a_query_string_without_an_equals_sign_is_arguments_where_the_route_asks,
    a_query_string_with_an_equals_sign_is_no_arguments,
    a_query_string_is_no_arguments_unless_the_route_asks,
    a_local_redirect_is_routed_again,
    a_local_redirect_is_a_get_without_a_body,
    a_local_redirect_of_a_head_request_is_a_get_whose_body_is_kept_back,
    a_local_redirect_has_the_same_client_and_request_id,
    a_local_redirect_keeps_set_cookie_and_nothing_else,
    a_local_redirect_is_followed_five_times,
    a_sixth_local_redirect_is_502,
    a_local_redirect_stays_on_its_host,
    a_local_redirect_never_reaches_another_host,
    connect_is_405_and_runs_no_program,
    options_of_the_whole_server_are_answered_without_a_program,
    options_of_a_path_are_the_programs,
    content_length_beside_transfer_encoding_is_400_and_the_end,
    two_lengths_are_400_and_the_end,
    a_bare_line_feed_is_400_and_the_end,
    a_folded_header_is_400_and_the_end,
    a_malformed_chunk_is_400_and_the_end,
    a_host_that_is_missing_or_not_one_is_400_and_the_end,
    a_path_that_is_none_is_400_and_the_end,
    a_400_of_the_programs_own_keeps_the_connection,
    http_1_0_is_served_without_a_host,
    http_1_1_keeps_the_connection,
    http_2_is_served_by_prior_knowledge,
    a_unix_listener_is_served,
];

fn get(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Which of the routes `/where` has answered.
#[track_caller]
fn where_from(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().trim_end().trim_start_matches('=').to_owned()
}

fn the_longest_prefix_wins(server: &Server) {
    assert_eq!(where_from(&server.get("/where/else?text&env=ROUTE")), "/where");
    assert_eq!(where_from(&server.get("/where/deep/else?text&env=ROUTE")), "/where/deep");
}

fn a_prefix_matches_on_segment_boundaries(server: &Server) {
    assert_eq!(where_from(&server.get("/where/deeper?text&env=ROUTE")), "/where");
    assert_eq!(server.get("/wherever?text").status, 404);
}

fn a_path_of_no_route_is_404(server: &Server) {
    for path in ["/", "/nowhere", "/P?text", "//P?text"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

fn a_run_of_slashes_counts_as_one_for_the_route_and_stays_in_path_info(server: &Server) {
    let variables = server.get("//vars//a///b").variables();
    assert_eq!((&*variables["SCRIPT_NAME"], &*variables["PATH_INFO"]), ("/vars", "//a///b"));
    assert_eq!(variables["REQUEST_URI"], "//vars//a///b");
    assert_eq!(where_from(&server.get("/where///deep?text&env=ROUTE")), "/where/deep");
}

fn the_routes_of_a_host_go_before_those_of_all_hosts(server: &Server) {
    let response = server.send(get("WHERE.test:8080", "/where/deep?text&env=ROUTE"));
    assert_eq!(where_from(&response), "where.test/where");
    let response = server.send(get("elsewhere.test", "/where/deep?text&env=ROUTE"));
    assert_eq!(where_from(&response), "/where/deep");
}

fn the_route_of_a_host_serves_no_other_host(server: &Server) {
    assert_eq!(server.send(get("where.test", "/only-where.test?text")).status, 200);
    assert_eq!(server.send(get("elsewhere.test", "/only-where.test?text")).status, 404);
}

fn a_target_with_a_host_overrules_the_host_header(server: &Server) {
    let target = "http://where.test:81/where?text&env=ROUTE&env=HTTP_HOST&env=SERVER_PORT";
    let response = server.send(get("elsewhere.test", target));
    assert_eq!(response.text(), "=where.test/where\n=where.test:81\n=81\n");
}

fn dot_segments_are_resolved_before_routing(server: &Server) {
    let variables = server.get("/p/a/.././../vars/./b/../c").variables();
    assert_eq!((&*variables["SCRIPT_NAME"], &*variables["PATH_INFO"]), ("/vars", "/c"));
}

fn dot_segments_never_climb_above_the_root(server: &Server) {
    let variables = server.get("/../../vars/../../../vars/a").variables();
    assert_eq!((&*variables["SCRIPT_NAME"], &*variables["PATH_INFO"]), ("/vars", "/a"));
}

fn encoded_dot_segments_are_dot_segments(server: &Server) {
    let variables = server.get("/p/%2e%2E/vars/a/..%2f%2e/b").variables();
    assert_eq!((&*variables["SCRIPT_NAME"], &*variables["PATH_INFO"]), ("/vars", "/b"));
}

fn a_path_is_decoded_before_routing_and_only_once(server: &Server) {
    let variables = server.get("/%76ars/%252e%252e/p").variables();
    assert_eq!((&*variables["SCRIPT_NAME"], &*variables["PATH_INFO"]), ("/vars", "/%2e%2e/p"));
}

fn an_encoded_nul_is_400(server: &Server) {
    assert_eq!(server.get("/vars/a%00.txt").status, 400);
}

fn an_invalid_escape_is_400(server: &Server) {
    for path in ["/vars/%", "/vars/%4", "/vars/%zz", "/vars/%+1", "/nowhere/%zz"] {
        assert_eq!(server.get(path).status, 400, "{path}");
    }
}

// === indexed queries ===

fn a_query_string_without_an_equals_sign_is_arguments_where_the_route_asks(server: &Server) {
    let response = server.get("/indexed?one+t%20wo+%2d%2dthree%2B");
    assert_eq!(response.text(), "/app/probe\ndo\ntext&args\none\nt wo\n--three+\n");
}

fn a_query_string_with_an_equals_sign_is_no_arguments(server: &Server) {
    assert_eq!(server.get("/indexed?one+two=three").text(), "/app/probe\ndo\ntext&args\n");
}

fn a_query_string_is_no_arguments_unless_the_route_asks(server: &Server) {
    assert_eq!(server.get("/not-indexed?one+two").text(), "/app/probe\ndo\ntext&args\n");
}

// === local redirects ===

/// A request target at which the probe prints these headers and nothing else.
fn printing(headers: &str) -> String {
    format!("/p?print={}", encoded(format!("{headers}\n\n")))
}

fn redirecting(location: &str) -> String {
    printing(&format!("Location: {location}"))
}

fn a_local_redirect_is_routed_again(server: &Server) {
    let variables = server.get(&redirecting("/vars/a%20b/../c%2Fd?x=%41")).variables();
    assert_eq!(variables["SCRIPT_NAME"], "/vars");
    assert_eq!(variables["PATH_INFO"], "/c/d");
    assert_eq!(variables["QUERY_STRING"], "x=%41");
}

fn a_local_redirect_is_a_get_without_a_body(server: &Server) {
    let target = "/p?text&env=REQUEST_METHOD&env=CONTENT_LENGTH&env=CONTENT_TYPE&count";
    let response = server.send(format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        redirecting(target)
    ));
    assert_eq!(response.text(), "=GET\nunset\nunset\n0\n");
}

fn a_local_redirect_of_a_head_request_is_a_get_whose_body_is_kept_back(server: &Server) {
    let target = format!("/p?print={}&env=REQUEST_METHOD&print={}", encoded("X-Method: "), encoded("\nbody"));
    let mut connection = server.connect();
    connection.send(format!("HEAD {} HTTP/1.1\r\nHost: localhost\r\n\r\n", redirecting(&target)));
    let response = connection.response_to_head();
    assert_eq!((response.status, response.header("x-method")), (200, Some("=GET")));
    // Nothing of the body stands before the next response.
    assert_eq!(connection.get("/p?text&print=next").text(), "next");
}

fn a_local_redirect_has_the_same_client_and_request_id(server: &Server) {
    let mut connection = server.connect();
    let own = connection.local_address();
    let response = connection.get(&redirecting("/vars"));
    let variables = response.variables();
    assert_eq!(variables["REMOTE_ADDR"], own.ip().to_string());
    assert_eq!(variables["REMOTE_PORT"], own.port().to_string());
    assert_eq!(Some(&*variables["REQUEST_ID"]), response.header("x-request-id"));
}

fn a_local_redirect_keeps_set_cookie_and_nothing_else(server: &Server) {
    let last = printing("Set-Cookie: c=3\nContent-Type: text/plain");
    let first =
        format!("Set-Cookie: a=1\nLocation: {last}\nX-Lost: yes\nSet-Cookie: b=2\nContent-Type: text/html");
    let response = server.get(&printing(&first));
    let mut cookies: Vec<_> = response.all("set-cookie").collect();
    cookies.sort_unstable();
    assert_eq!(cookies, ["a=1", "b=2", "c=3"]);
    assert_eq!(response.header("x-lost"), None);
    assert_eq!(response.all("content-type").collect::<Vec<_>>(), ["text/plain"]);
}

/// A target that is redirected so many times before it says `end`.
fn redirected(times: usize) -> String {
    (0..times).fold("/p?text&print=end".to_owned(), |target, _| redirecting(&target))
}

fn a_local_redirect_is_followed_five_times(server: &Server) {
    let response = server.get(&redirected(5));
    assert_eq!((response.status, response.text().as_str()), (200, "end"));
}

fn a_sixth_local_redirect_is_502(server: &Server) {
    assert_eq!(server.get(&redirected(6)).status, 502);
}

fn a_local_redirect_stays_on_its_host(server: &Server) {
    let target = redirecting("/where?text&env=ROUTE");
    assert_eq!(where_from(&server.send(get("where.test", &target))), "where.test/where");
    assert_eq!(where_from(&server.send(get("elsewhere.test", &target))), "/where");
}

fn a_local_redirect_never_reaches_another_host(server: &Server) {
    let target = redirecting("/only-where.test?text");
    assert_eq!(server.send(get("elsewhere.test", &target)).status, 404);
    let response = server.get(&redirecting("//where.test/only-where.test?text"));
    assert_eq!(
        (response.status, response.header("location")),
        (302, Some("//where.test/only-where.test?text"))
    );
}

// === requests that are for no program ===

fn connect_is_405_and_runs_no_program(server: &Server) {
    for target in ["/p?text", "localhost:80", "http://localhost/p?text"] {
        let response = server.send(format!("CONNECT {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(response.status_line, "HTTP/1.1 405 Method Not Allowed", "{target}");
        assert!(response.header("allow").is_some_and(|allow| allow.contains("GET")), "{target}");
        assert!(response.text().contains(response.id()), "{}", response.text());
        assert_eq!(response.header("connection"), Some("close"), "{target}");
    }
}

fn options_of_the_whole_server_are_answered_without_a_program(server: &Server) {
    let mut connection = server.connect();
    connection.send("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = connection.response();
    assert_eq!((response.status, response.framing), (200, Framing::Length(0)));
    assert!(response.header("allow").is_some_and(|allow| allow.contains("OPTIONS")));
    assert_eq!(connection.get("/p?text&print=next").text(), "next");
    let response = server.send("GET * HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 400);
}

fn options_of_a_path_are_the_programs(server: &Server) {
    let response = server.send("OPTIONS /vars HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.variables()["REQUEST_METHOD"], "OPTIONS");
}

// === what two servers could read in two ways ===

/// Whether a request is refused with 400, and what stands behind it on the connection never answered.
#[track_caller]
fn assert_refused(server: &Server, request: &str) {
    let mut connection = server.connect();
    connection.send(format!("{request}{}", get("localhost", "/p?text&print=smuggled")));
    let response = connection.response();
    assert_eq!(response.status, 400, "{request:?}: {}", response.text());
    assert!(connection.is_closed_by_server(), "{request:?}: the connection goes on");
}

fn content_length_beside_transfer_encoding_is_400_and_the_end(server: &Server) {
    let (length, chunked) = ("Content-Length: 5", "Transfer-Encoding: chunked");
    for headers in [[length, chunked], [chunked, length]] {
        let headers = headers.join("\r\n");
        assert_refused(
            server,
            &format!("POST /p?text HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n0\r\n\r\n"),
        );
    }
}

fn two_lengths_are_400_and_the_end(server: &Server) {
    for lengths in ["5\r\nContent-Length: 6", "5\r\nContent-Length: 5", "5, 5", "+5", "5 5", "0x5"] {
        assert_refused(
            server,
            &format!("POST /p?text HTTP/1.1\r\nHost: localhost\r\nContent-Length: {lengths}\r\n\r\nhello"),
        );
    }
}

fn a_bare_line_feed_is_400_and_the_end(server: &Server) {
    for request in [
        "GET /p?text HTTP/1.1\nHost: localhost\r\n\r\n",
        "GET /p?text HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
        "GET /p?text HTTP/1.1\r\nHost: localhost\r\n\n",
    ] {
        assert_refused(server, request);
    }
}

fn a_folded_header_is_400_and_the_end(server: &Server) {
    for fold in ["X: a\r\n b", "X: a\r\n\tContent-Length: 5", " X: a"] {
        assert_refused(server, &format!("GET /p?text HTTP/1.1\r\nHost: localhost\r\n{fold}\r\n\r\n"));
    }
}

fn a_malformed_chunk_is_400_and_the_end(server: &Server) {
    for body in
        ["5 \r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhelloworld\r\n0\r\n\r\n", "-1\r\n"]
    {
        let head = "POST /p?text HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked";
        assert_refused(server, &format!("{head}\r\n\r\n{body}"));
    }
}

fn a_host_that_is_missing_or_not_one_is_400_and_the_end(server: &Server) {
    for headers in [
        "X: y",
        "Host:",
        "Host: a b",
        "Host: user@localhost",
        "Host: localhost:99999",
        "Host: localhost/x",
        "Host: localhost\r\nHost: localhost",
    ] {
        assert_refused(server, &format!("GET /p?text HTTP/1.1\r\n{headers}\r\n\r\n"));
    }
}

fn a_path_that_is_none_is_400_and_the_end(server: &Server) {
    for target in ["/p/%zz", "/p/%00", "*"] {
        assert_refused(server, &get("localhost", target));
    }
}

fn a_400_of_the_programs_own_keeps_the_connection(server: &Server) {
    let mut connection = server.connect();
    let target = format!("/p?print={}", encoded("Status: 400 No\n\nno"));
    assert_eq!(connection.get(&target).status_line, "HTTP/1.1 400 No");
    assert_eq!(connection.get("/p?text&print=next").text(), "next");
}

// === protocols and listeners ===

fn http_1_0_is_served_without_a_host(server: &Server) {
    let mut connection = server.connect();
    connection.send("GET /vars HTTP/1.0\r\n\r\n");
    let response = connection.response();
    assert_ne!(response.framing, Framing::Chunked, "HTTP/1.0 knows no chunks");
    let variables = response.variables();
    assert_eq!(variables["SERVER_NAME"], server.address.ip().to_string());
    assert_eq!(variables["SERVER_PORT"], server.address.port().to_string());
    assert!(connection.is_closed_by_server());
}

fn http_1_1_keeps_the_connection(server: &Server) {
    let mut connection = server.connect();
    for text in ["one", "two"] {
        assert_eq!(connection.get(&format!("/p?text&print={text}")).text(), text);
    }
}

fn http_2_is_served_by_prior_knowledge(server: &Server) {
    let target = "http://h2.test:4711/p?text&env=SERVER_PROTOCOL&env=SERVER_NAME&env=SERVER_PORT&env=HTTP_HOST\
        &env=CONTENT_LENGTH";
    let response = http2::exchange(server.address, Request::get(target).body(Vec::new()).unwrap());
    assert_eq!(response.status(), 200);
    assert_eq!(response.body(), "=HTTP/2.0\n=h2.test\n=4711\n=h2.test:4711\nunset\n");
}

fn a_unix_listener_is_served(server: &Server) {
    let folder = shared_folder();
    let socket = folder.path().join("dcgi.sock");
    let listen = format!("listen = [\"unix:{}\"]\n", socket.display());
    let server = server.beside(&format!("{listen}[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\n"), |_| {});
    let mut client = UnixStream::connect(&socket).unwrap();
    let head = "GET /p?text&print=here&env=SERVER_NAME&env=REMOTE_ADDR HTTP/1.1\r\nHost: over.test";
    client.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("=over.test\n") && response.contains("unset\n"), "{response}");
    drop(server);
}
