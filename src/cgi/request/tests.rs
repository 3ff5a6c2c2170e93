use http::Request;

use super::*;
use crate::variables::{OF_REQUEST, is_request_variable};

/// A request head of a method, a target and header lines, over HTTP/1.1.
fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn context() -> Context<'static> {
    Context {
        script_name: "/app",
        path_info: b"",
        script_filename: None,
        document_root: None,
        server_name: "example.org",
        server_port: 80,
        server_addr: None,
        remote: None,
        https: false,
        request_id: "0193-7",
        user: None,
        content_length: None,
        headers: HeaderPolicy::default(),
    }
}

/// The value of a variable for a GET of `/app` in a context.
fn in_context(name: &str, context: &Context<'_>) -> Option<String> {
    value(&meta_variables(&head("GET", "/app", &[]), context), name)
}

/// The value of a variable for a request that has some headers.
fn with_headers(name: &str, headers: &[(&str, &str)]) -> Option<String> {
    value(&meta_variables(&head("GET", "/app", headers), &context()), name)
}

/// The value of a variable for a request target.
fn for_target(name: &str, target: &str) -> Option<String> {
    value(&meta_variables(&head("GET", target, &[]), &context()), name)
}

fn value(variables: &MetaVariables, name: &str) -> Option<String> {
    variables.get(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

// --- what is computed ---

#[test]
fn what_is_computed_is_the_requests_own_or_may_be_configured() {
    let user = AuthenticatedUser { auth_type: "Basic".into(), name: "ada".into() };
    let full = Context {
        path_info: b"/x",
        script_filename: Some("/app/run"),
        document_root: Some("/srv"),
        server_addr: Some("127.0.0.1".parse().unwrap()),
        remote: Some("127.0.0.1:5000".parse().unwrap()),
        https: true,
        user: Some(&user),
        content_length: Some(1),
        ..context()
    };
    let headers = [("host", "h"), ("content-type", "text/plain"), ("accept", "*/*")];
    let variables = meta_variables(&head("POST", "/app/x?y", &headers), &full);
    let (own, others): (Vec<_>, Vec<_>) =
        variables.iter().map(|(name, _)| name).partition(|name| is_request_variable(name));
    assert_eq!(own.len(), OF_REQUEST.len());
    assert_eq!(
        others,
        ["HTTPS", "REDIRECT_STATUS", "DOCUMENT_ROOT", "AUTH_TYPE", "REMOTE_USER", "HTTP_HOST", "HTTP_ACCEPT"]
    );
}

#[test]
fn the_gateway_interface_is_cgi_1_1() {
    assert_eq!(in_context("GATEWAY_INTERFACE", &context()), some("CGI/1.1"));
}

#[test]
fn the_server_software_is_dcgi_and_its_version() {
    assert_eq!(in_context("SERVER_SOFTWARE", &context()), some(concat!("dcgi/", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_server_protocol_is_as_the_request_came() {
    for (version, protocol) in
        [(Version::HTTP_10, "HTTP/1.0"), (Version::HTTP_11, "HTTP/1.1"), (Version::HTTP_2, "HTTP/2.0")]
    {
        let mut head = head("GET", "/", &[]);
        head.version = version;
        assert_eq!(value(&meta_variables(&head, &context()), "SERVER_PROTOCOL"), some(protocol));
    }
}

#[test]
fn the_request_method_is_the_requests() {
    let variables = meta_variables(&head("PROPFIND", "/", &[]), &context());
    assert_eq!(value(&variables, "REQUEST_METHOD"), some("PROPFIND"));
}

#[test]
fn the_query_string_is_passed_raw() {
    assert_eq!(for_target("QUERY_STRING", "/app?a=%20b+c&d"), some("a=%20b+c&d"));
}

#[test]
fn the_query_string_is_set_even_when_empty() {
    assert_eq!(for_target("QUERY_STRING", "/app"), some(""));
    assert_eq!(for_target("QUERY_STRING", "/app?"), some(""));
}

#[test]
fn the_request_uri_is_raw() {
    assert_eq!(for_target("REQUEST_URI", "/app/%2e%2E/a%20b?x=%41"), some("/app/%2e%2E/a%20b?x=%41"));
}

#[test]
fn the_request_uri_keeps_an_empty_query() {
    assert_eq!(for_target("REQUEST_URI", "/app?"), some("/app?"));
}

#[test]
fn the_request_uri_of_an_absolute_form_is_path_and_query() {
    assert_eq!(for_target("REQUEST_URI", "http://example.org/app?x"), some("/app?x"));
    assert_eq!(for_target("REQUEST_URI", "http://example.org?x"), some("/?x"));
    assert_eq!(for_target("REQUEST_URI", "http://example.org"), some("/"));
}

#[test]
fn the_request_uri_of_the_asterisk_form_is_the_asterisk() {
    let variables = meta_variables(&head("OPTIONS", "*", &[]), &context());
    assert_eq!(value(&variables, "REQUEST_URI"), some("*"));
}

#[test]
fn the_request_scheme_is_http_without_tls() {
    assert_eq!(in_context("REQUEST_SCHEME", &context()), some("http"));
}

#[test]
fn the_request_scheme_is_https_under_tls() {
    assert_eq!(in_context("REQUEST_SCHEME", &Context { https: true, ..context() }), some("https"));
}

#[test]
fn https_is_on_under_tls() {
    assert_eq!(in_context("HTTPS", &Context { https: true, ..context() }), some("on"));
}

#[test]
fn https_is_unset_without_tls() {
    assert_eq!(in_context("HTTPS", &context()), None);
}

#[test]
fn the_script_name_is_the_routes_prefix() {
    assert_eq!(in_context("SCRIPT_NAME", &context()), some("/app"));
}

#[test]
fn the_script_name_is_set_and_empty_for_the_root_route() {
    assert_eq!(in_context("SCRIPT_NAME", &Context { script_name: "", ..context() }), some(""));
}

#[test]
fn the_path_info_is_passed_decoded() {
    assert_eq!(
        in_context("PATH_INFO", &Context { path_info: "/a b/ä".as_bytes(), ..context() }),
        some("/a b/ä")
    );
}

#[test]
fn the_path_info_need_not_be_utf_8() {
    let context = Context { path_info: b"/\xff", ..context() };
    assert_eq!(meta_variables(&head("GET", "/", &[]), &context).get("PATH_INFO"), Some(&b"/\xff"[..]));
}

#[test]
fn the_path_info_is_unset_when_empty() {
    assert_eq!(in_context("PATH_INFO", &context()), None);
}

#[test]
fn path_translated_is_the_document_root_and_the_path_info() {
    let context = Context { path_info: b"/a", document_root: Some("/srv/www"), ..context() };
    assert_eq!(in_context("PATH_TRANSLATED", &context), some("/srv/www/a"));
}

#[test]
fn a_slash_behind_the_document_root_is_not_doubled() {
    let context = Context { path_info: b"/a", document_root: Some("/"), ..context() };
    assert_eq!(in_context("PATH_TRANSLATED", &context), some("/a"));
}

#[test]
fn path_translated_is_unset_without_a_document_root() {
    assert_eq!(in_context("PATH_TRANSLATED", &Context { path_info: b"/a", ..context() }), None);
}

#[test]
fn path_translated_is_unset_without_a_path_info() {
    assert_eq!(in_context("PATH_TRANSLATED", &Context { document_root: Some("/srv"), ..context() }), None);
}

#[test]
fn the_document_root_is_passed_where_there_is_one() {
    assert_eq!(
        in_context("DOCUMENT_ROOT", &Context { document_root: Some("/srv"), ..context() }),
        some("/srv")
    );
}

#[test]
fn the_document_root_is_unset_where_there_is_none() {
    assert_eq!(in_context("DOCUMENT_ROOT", &context()), None);
}

#[test]
fn the_script_filename_is_passed_where_there_is_one() {
    let context = Context { script_filename: Some("/app/index.php"), ..context() };
    assert_eq!(in_context("SCRIPT_FILENAME", &context), some("/app/index.php"));
}

#[test]
fn the_server_name_is_the_contexts() {
    assert_eq!(in_context("SERVER_NAME", &Context { server_name: "[::1]", ..context() }), some("[::1]"));
}

#[test]
fn the_server_name_is_not_taken_from_a_header() {
    assert_eq!(with_headers("SERVER_NAME", &[("host", "evil.example")]), some("example.org"));
}

#[test]
fn the_server_port_is_the_contexts() {
    assert_eq!(in_context("SERVER_PORT", &Context { server_port: 8443, ..context() }), some("8443"));
}

#[test]
fn the_server_address_has_no_port_and_no_brackets() {
    let context = Context { server_addr: Some("2001:db8::1".parse().unwrap()), ..context() };
    assert_eq!(in_context("SERVER_ADDR", &context), some("2001:db8::1"));
}

#[test]
fn the_remote_address_and_port_are_the_clients() {
    let context = Context { remote: Some("192.0.2.7:50000".parse().unwrap()), ..context() };
    assert_eq!(in_context("REMOTE_ADDR", &context), some("192.0.2.7"));
    assert_eq!(in_context("REMOTE_PORT", &context), some("50000"));
}

#[test]
fn the_remote_address_in_ipv6_has_no_brackets() {
    let context = Context { remote: Some("[2001:db8::7]:50000".parse().unwrap()), ..context() };
    assert_eq!(in_context("REMOTE_ADDR", &context), some("2001:db8::7"));
}

#[test]
fn an_ipv4_client_on_an_ipv6_socket_has_an_ipv4_address() {
    let context = Context { remote: Some("[::ffff:192.0.2.7]:1".parse().unwrap()), ..context() };
    assert_eq!(in_context("REMOTE_ADDR", &context), some("192.0.2.7"));
}

#[test]
fn a_port_that_nobody_told_is_unset() {
    let context = Context { remote: Some("192.0.2.7:0".parse().unwrap()), ..context() };
    assert_eq!(in_context("REMOTE_ADDR", &context), some("192.0.2.7"));
    assert_eq!(in_context("REMOTE_PORT", &context), None);
}

#[test]
fn the_remote_host_is_the_address() {
    let context = Context { remote: Some("192.0.2.7:50000".parse().unwrap()), ..context() };
    assert_eq!(in_context("REMOTE_HOST", &context), some("192.0.2.7"));
}

#[test]
fn a_client_without_an_address_sets_no_remote_variable() {
    for name in ["REMOTE_ADDR", "REMOTE_HOST", "REMOTE_PORT"] {
        assert_eq!(in_context(name, &context()), None);
    }
}

#[test]
fn the_redirect_status_is_200_as_php_cgi_wants_it() {
    assert_eq!(in_context("REDIRECT_STATUS", &context()), some("200"));
}

#[test]
fn the_request_id_is_passed_under_both_names() {
    assert_eq!(in_context("REQUEST_ID", &context()), some("0193-7"));
    assert_eq!(in_context("UNIQUE_ID", &context()), some("0193-7"));
}

#[test]
fn auth_type_and_remote_user_are_the_authenticated_users() {
    let user = AuthenticatedUser { auth_type: "Basic".into(), name: "ada".into() };
    let context = Context { user: Some(&user), ..context() };
    assert_eq!(in_context("AUTH_TYPE", &context), some("Basic"));
    assert_eq!(in_context("REMOTE_USER", &context), some("ada"));
}

#[test]
fn auth_type_and_remote_user_are_never_taken_from_headers() {
    let headers = [("authorization", "Basic YWRhOng="), ("remote-user", "root"), ("auth-type", "Basic")];
    assert_eq!(with_headers("AUTH_TYPE", &headers), None);
    assert_eq!(with_headers("REMOTE_USER", &headers), None);
}

#[test]
fn the_content_length_is_set_when_there_is_a_body() {
    assert_eq!(in_context("CONTENT_LENGTH", &Context { content_length: Some(12), ..context() }), some("12"));
}

#[test]
fn the_content_length_is_unset_when_there_is_no_body() {
    assert_eq!(in_context("CONTENT_LENGTH", &context()), None);
}

#[test]
fn the_content_length_is_not_taken_from_the_header() {
    assert_eq!(with_headers("CONTENT_LENGTH", &[("content-length", "12")]), None);
}

#[test]
fn the_content_type_is_passed_when_given() {
    let headers = [("content-type", "text/plain; charset=utf-8")];
    assert_eq!(with_headers("CONTENT_TYPE", &headers), some("text/plain; charset=utf-8"));
}

#[test]
fn the_content_type_is_unset_when_not_given() {
    assert_eq!(with_headers("CONTENT_TYPE", &[]), None);
}

#[test]
fn of_two_content_types_the_first_is_passed() {
    let headers = [("content-type", "text/plain"), ("content-type", "text/html")];
    assert_eq!(with_headers("CONTENT_TYPE", &headers), some("text/plain"));
}

#[test]
fn a_value_with_a_nul_leaves_the_variable_unset() {
    assert_eq!(in_context("PATH_INFO", &Context { path_info: b"/a\0b", ..context() }), None);
}

// --- what the headers become ---

#[test]
fn every_other_header_becomes_http_name() {
    assert_eq!(with_headers("HTTP_USER_AGENT", &[("User-Agent", "curl/8")]), some("curl/8"));
    assert_eq!(with_headers("HTTP_X_FORWARDED_FOR", &[("x-forwarded-for", "::1")]), some("::1"));
}

#[test]
fn a_header_with_an_empty_value_is_set_and_empty() {
    assert_eq!(with_headers("HTTP_X_EMPTY", &[("x-empty", "")]), some(""));
}

#[test]
fn digits_in_a_header_name_stay() {
    assert_eq!(with_headers("HTTP_X_2FA", &[("x-2fa", "1")]), some("1"));
}

#[test]
fn bytes_of_a_header_value_that_are_not_ascii_pass_unchanged() {
    let mut head = head("GET", "/", &[]);
    head.headers.insert("x-name", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    assert_eq!(meta_variables(&head, &context()).get("HTTP_X_NAME"), Some(&b"caf\xe9"[..]));
}

#[test]
fn duplicate_headers_are_joined_with_a_comma() {
    assert_eq!(
        with_headers("HTTP_ACCEPT", &[("accept", "a/b"), ("x", "y"), ("accept", "c/d")]),
        some("a/b, c/d")
    );
}

#[test]
fn duplicate_cookies_are_joined_with_a_semicolon() {
    assert_eq!(with_headers("HTTP_COOKIE", &[("cookie", "a=1"), ("cookie", "b=2")]), some("a=1; b=2"));
}

#[test]
fn a_proxy_header_never_becomes_http_proxy() {
    assert_eq!(with_headers("HTTP_PROXY", &[("Proxy", "http://evil.example")]), None);
}

#[test]
fn a_proxy_header_does_not_pass_even_where_it_is_allow_listed() {
    let allow = ["proxy".to_owned()];
    let context = Context { headers: HeaderPolicy { allow: &allow, ..HeaderPolicy::default() }, ..context() };
    let variables = meta_variables(&head("GET", "/", &[("proxy", "x")]), &context);
    assert_eq!(variables.get("HTTP_PROXY"), None);
}

#[test]
fn hop_by_hop_headers_are_never_passed() {
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        let variables = meta_variables(&head("GET", "/", &[(name, "x")]), &context());
        assert!(variables.iter().all(|(name, _)| !name.starts_with("HTTP_")), "{name}");
    }
}

#[test]
fn headers_that_connection_names_are_not_passed() {
    let headers = [("connection", "close, X-One"), ("connection", "x-two"), ("x-one", "1"), ("x-two", "2")];
    assert_eq!(with_headers("HTTP_X_ONE", &headers), None);
    assert_eq!(with_headers("HTTP_X_TWO", &headers), None);
}

#[test]
fn a_connection_option_that_is_not_ascii_hides_no_other() {
    let mut head = head("GET", "/", &[("x-one", "1")]);
    head.headers.insert("connection", HeaderValue::from_bytes(b"\xff, x-one").unwrap());
    assert_eq!(meta_variables(&head, &context()).get("HTTP_X_ONE"), None);
}

#[test]
fn connection_cannot_name_the_host_away() {
    assert_eq!(with_headers("HTTP_HOST", &[("connection", "host"), ("host", "a")]), some("a"));
}

#[test]
fn connection_cannot_name_the_content_type_away() {
    assert_eq!(
        with_headers("CONTENT_TYPE", &[("connection", "content-type"), ("content-type", "a/b")]),
        some("a/b")
    );
}

#[test]
fn content_length_and_type_are_not_passed_a_second_time() {
    let headers = [("content-length", "1"), ("content-type", "a/b")];
    assert_eq!(with_headers("HTTP_CONTENT_LENGTH", &headers), None);
    assert_eq!(with_headers("HTTP_CONTENT_TYPE", &headers), None);
}

#[test]
fn expect_is_not_passed_since_the_server_answers_it() {
    assert_eq!(with_headers("HTTP_EXPECT", &[("expect", "100-continue")]), None);
}

#[test]
fn authorization_is_not_passed_by_default() {
    assert_eq!(with_headers("HTTP_AUTHORIZATION", &[("authorization", "Bearer x")]), None);
}

#[test]
fn authorization_is_passed_where_the_route_says_so() {
    let policy = HeaderPolicy { pass_authorization: true, ..HeaderPolicy::default() };
    let context = Context { headers: policy, ..context() };
    let variables = meta_variables(&head("GET", "/", &[("authorization", "Bearer x")]), &context);
    assert_eq!(value(&variables, "HTTP_AUTHORIZATION"), some("Bearer x"));
}

#[test]
fn a_name_with_an_underscore_is_not_passed() {
    assert_eq!(with_headers("HTTP_X_FORWARDED_FOR", &[("X_Forwarded_For", "10.0.0.1")]), None);
}

#[test]
fn a_name_with_any_other_punctuation_is_not_passed() {
    for name in ["x.y", "x!y", "x~y", "x+y", "x'y", "x`y", "x|y", "x#y", "x%y", "x&y", "x*y", "x^y", "x$y"] {
        assert_eq!(with_headers("HTTP_X_Y", &[(name, "1")]), None, "{name}");
    }
}

/// The value of a variable where a route allow-lists some names.
fn allowing(allow: &[&str], name: &str, headers: &[(&str, &str)]) -> Option<String> {
    let allow: Vec<String> = allow.iter().map(|&name| name.to_owned()).collect();
    let context = Context { headers: HeaderPolicy { allow: &allow, ..HeaderPolicy::default() }, ..context() };
    value(&meta_variables(&head("GET", "/", headers), &context), name)
}

#[test]
fn an_allow_listed_name_is_passed() {
    assert_eq!(allowing(&["x_legacy"], "HTTP_X_LEGACY", &[("x_legacy", "1")]), some("1"));
}

#[test]
fn names_are_allow_listed_in_any_letter_case() {
    assert_eq!(allowing(&["X_Legacy"], "HTTP_X_LEGACY", &[("x_LEGACY", "1")]), some("1"));
}

#[test]
fn the_well_formed_name_wins_over_an_allow_listed_one() {
    let headers = [("x_a", "odd"), ("x-a", "well-formed")];
    assert_eq!(allowing(&["x_a"], "HTTP_X_A", &headers), some("well-formed"));
}

#[test]
fn of_two_allow_listed_names_for_one_variable_only_one_is_passed() {
    let headers = [("x_a", "1"), ("x.a", "2")];
    assert_eq!(allowing(&["x_a", "x.a"], "HTTP_X_A", &headers), some("1"));
}

#[test]
fn an_allow_listed_name_cannot_stand_in_for_a_withheld_one() {
    assert_eq!(allowing(&["content_length"], "HTTP_CONTENT_LENGTH", &[("content_length", "1")]), None);
    assert_eq!(
        allowing(&["proxy_authorization"], "HTTP_PROXY_AUTHORIZATION", &[("proxy_authorization", "1")]),
        None
    );
}

#[test]
fn http_host_is_the_host_header() {
    assert_eq!(with_headers("HTTP_HOST", &[("host", "Example.org:8080")]), some("Example.org:8080"));
}

#[test]
fn http_host_is_the_authority_where_there_is_no_host_header() {
    assert_eq!(for_target("HTTP_HOST", "http://example.org:8080/app"), some("example.org:8080"));
}

#[test]
fn an_authority_in_the_request_target_overrules_the_host_header() {
    let variables = meta_variables(&head("GET", "http://a.example/", &[("host", "b.example")]), &context());
    assert_eq!(value(&variables, "HTTP_HOST"), some("a.example"));
}

#[test]
fn http_host_holds_no_user_information() {
    assert_eq!(for_target("HTTP_HOST", "http://user:secret@example.org/"), some("example.org"));
}

#[test]
fn of_two_host_headers_only_the_first_is_passed() {
    assert_eq!(with_headers("HTTP_HOST", &[("host", "a"), ("host", "b")]), some("a"));
}

#[test]
fn no_header_can_stand_where_a_computed_variable_does() {
    let headers = [("request-method", "DELETE"), ("script-filename", "/etc/passwd"), ("https", "on")];
    assert_eq!(with_headers("REQUEST_METHOD", &headers), some("GET"));
    assert_eq!(with_headers("SCRIPT_FILENAME", &headers), None);
    assert_eq!(with_headers("HTTPS", &headers), None);
}

#[test]
fn no_name_is_set_twice() {
    let user = AuthenticatedUser { auth_type: "Basic".into(), name: "ada".into() };
    let context = Context {
        path_info: b"/a",
        script_filename: Some("/x"),
        document_root: Some("/srv"),
        server_addr: Some([127, 0, 0, 1].into()),
        remote: Some(([127, 0, 0, 1], 1).into()),
        https: true,
        user: Some(&user),
        content_length: Some(1),
        ..context()
    };
    let variables = meta_variables(&head("POST", "/?q", &[("host", "a"), ("content-type", "a/b")]), &context);
    let mut names: Vec<&str> = variables.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), COMPUTED + 1, "all that is computed, and HTTP_HOST");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), variables.len());
}
