//! How request headers become `HTTP_*` variables, and which never do.

use std::collections::BTreeMap;

use http::Request;

use crate::cases;
use crate::common::{Server, http2};

cases![
    a_header_becomes_an_http_variable,
    duplicate_headers_are_joined_with_a_comma,
    cookies_are_joined_with_a_semicolon,
    the_cookies_of_http_2_are_joined_with_a_semicolon,
    proxy_is_never_passed,
    hop_by_hop_headers_are_never_passed,
    headers_that_connection_names_are_never_passed,
    content_length_and_type_are_not_passed_a_second_time,
    a_name_with_an_underscore_cannot_forge_one_with_a_hyphen,
    a_name_outside_letters_digits_and_hyphens_is_never_passed,
    a_name_that_is_withheld_is_logged_at_debug,
    a_route_may_allow_list_a_name,
    an_allow_listed_name_does_not_displace_the_hyphenated_one,
    authorization_is_not_passed,
    authorization_is_passed_where_the_route_says,
];

/// What the program at a path gets of these header lines.
#[track_caller]
fn variables_of(server: &Server, path: &str, headers: &str) -> BTreeMap<String, String> {
    server.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n")).variables()
}

/// The same, of the `HTTP_*` variables beside `HTTP_HOST`.
#[track_caller]
fn passed(server: &Server, path: &str, headers: &str) -> Vec<(String, String)> {
    let variables = variables_of(server, path, headers);
    let of_headers = |(name, _): &(String, String)| name.starts_with("HTTP_") && name != "HTTP_HOST";
    variables.into_iter().filter(of_headers).collect()
}

#[track_caller]
fn assert_passed(passed: &[(String, String)], expected: &[(&str, &str)]) {
    let passed: Vec<_> = passed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(passed, expected);
}

fn a_header_becomes_an_http_variable(server: &Server) {
    let headers = "Accept: text/html;q=0.5, */*\r\nX-Odd-nAme-2:  spaces kept  inside  \r\nX-Empty:";
    let variables = variables_of(server, "/vars", headers);
    assert_eq!(variables["HTTP_ACCEPT"], "text/html;q=0.5, */*");
    assert_eq!(variables["HTTP_X_ODD_NAME_2"], "spaces kept  inside");
    assert_eq!(variables["HTTP_X_EMPTY"], "");
    assert_eq!(variables["HTTP_HOST"], "localhost");
}

fn duplicate_headers_are_joined_with_a_comma(server: &Server) {
    let passed = passed(server, "/vars", "X-Many: a\r\nAccept: b\r\nx-many: c, d\r\nX-MANY: e");
    assert_passed(&passed, &[("HTTP_ACCEPT", "b"), ("HTTP_X_MANY", "a, c, d, e")]);
}

fn cookies_are_joined_with_a_semicolon(server: &Server) {
    let passed = passed(server, "/vars", "Cookie: a=1; b=2\r\nCookie: c=3");
    assert_passed(&passed, &[("HTTP_COOKIE", "a=1; b=2; c=3")]);
}

fn the_cookies_of_http_2_are_joined_with_a_semicolon(server: &Server) {
    let request = Request::get("http://localhost/p?text&env=HTTP_COOKIE");
    let request = request.header("cookie", "a=1").header("cookie", "b=2").body(Vec::new()).unwrap();
    assert_eq!(http2::exchange(server.address, request).body(), "=a=1; b=2\n");
}

fn proxy_is_never_passed(server: &Server) {
    let passed = passed(server, "/vars", "Proxy: http://evil.test\r\nPROXY: evil\r\nX-Seen: yes");
    assert_passed(&passed, &[("HTTP_X_SEEN", "yes")]);
}

fn hop_by_hop_headers_are_never_passed(server: &Server) {
    let headers = "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
        Proxy-Authenticate: Basic\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
        Upgrade: h2c\r\nX-Seen: yes\r\nTransfer-Encoding: chunked\r\n\r\n0";
    assert_passed(&passed(server, "/vars", headers), &[("HTTP_X_SEEN", "yes")]);
}

fn headers_that_connection_names_are_never_passed(server: &Server) {
    let headers =
        "X-Named: a\r\nConnection: close, x-NAMED\r\nConnection: X-Also\r\nX-Also: b\r\nX-Seen: yes";
    assert_passed(&passed(server, "/vars", headers), &[("HTTP_X_SEEN", "yes")]);
}

fn content_length_and_type_are_not_passed_a_second_time(server: &Server) {
    let passed = passed(server, "/vars", "Content-Length: 0\r\nContent-Type: text/plain\r\nX-Seen: yes");
    assert_passed(&passed, &[("HTTP_X_SEEN", "yes")]);
}

fn a_name_with_an_underscore_cannot_forge_one_with_a_hyphen(server: &Server) {
    let headers = "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded-For: 7.7.7.7\r\nX_Real_IP: 8.8.8.8";
    assert_passed(&passed(server, "/vars", headers), &[("HTTP_X_FORWARDED_FOR", "1.2.3.4")]);
}

fn a_name_outside_letters_digits_and_hyphens_is_never_passed(server: &Server) {
    let headers = "X.Dot: a\r\nX!Y: b\r\nX~Tilde: c\r\nX'Quote: d\r\nX_: e\r\n_Proxy: f\r\nX-Seen: yes";
    assert_passed(&passed(server, "/vars", headers), &[("HTTP_X_SEEN", "yes")]);
}

fn a_name_that_is_withheld_is_logged_at_debug(server: &Server) {
    let config = "[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\n";
    let server = server.beside(config, |command| {
        command.env("DCGI_LOG", "dcgi=debug");
    });
    server.send("GET /p?text HTTP/1.1\r\nHost: localhost\r\nX_Withheld_Name: a\r\n\r\n");
    server.wait_for_log("x_withheld_name");
    let line = server.log().lines().find(|line| line.contains("x_withheld_name")).unwrap().to_owned();
    assert!(line.contains("DEBUG"), "{line}");
}

fn a_route_may_allow_list_a_name(server: &Server) {
    let passed = passed(server, "/allowed", "x_api_KEY: secret\r\nX_Other: a");
    assert_passed(&passed, &[("HTTP_X_API_KEY", "secret")]);
}

fn an_allow_listed_name_does_not_displace_the_hyphenated_one(server: &Server) {
    let passed = passed(server, "/allowed", "X_Api_Key: forged\r\nX-Api-Key: true");
    assert_passed(&passed, &[("HTTP_X_API_KEY", "true")]);
}

fn authorization_is_not_passed(server: &Server) {
    let passed = passed(server, "/vars", "Authorization: Basic eDp5\r\nX-Seen: yes");
    assert_passed(&passed, &[("HTTP_X_SEEN", "yes")]);
}

fn authorization_is_passed_where_the_route_says(server: &Server) {
    let passed = passed(server, "/authorized", "Authorization: Basic eDp5");
    assert_passed(&passed, &[("HTTP_AUTHORIZATION", "Basic eDp5")]);
}
