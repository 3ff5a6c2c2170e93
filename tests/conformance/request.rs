//! What a program gets to know of a request (RFC 3875 §4.1).

use std::collections::BTreeMap;

use crate::cases;
use crate::common::{Response, Server};

cases![
    gateway_interface_is_cgi_1_1,
    server_software_is_dcgi_and_its_version,
    server_protocol_is_as_the_request_came,
    request_method_is_as_the_request_came,
    query_string_is_passed_undecoded,
    query_string_is_set_when_there_is_none,
    request_uri_is_raw,
    what_may_not_stand_in_a_target_is_taken_as_it_is,
    what_may_not_stand_in_a_target_does_not_go_on_to_the_next_request,
    without_tls_request_scheme_is_http_and_https_is_unset,
    under_tls_request_scheme_is_https_and_https_is_on,
    script_name_is_the_routes_path,
    script_name_is_empty_for_the_route_of_the_root,
    path_info_is_percent_decoded,
    path_info_is_unset_when_empty,
    path_info_of_a_trailing_slash_is_that_slash,
    a_document_root_gives_document_root_and_path_translated,
    without_path_info_there_is_no_path_translated,
    without_a_document_root_there_is_neither,
    script_filename_is_the_programs_own_path,
    script_filename_is_what_the_route_says,
    server_name_is_the_host_in_lower_case_and_server_port_its_port,
    server_name_keeps_the_brackets_of_an_ipv6_host,
    server_port_is_80_where_the_host_has_none,
    server_addr_is_where_the_connection_came_in,
    remote_addr_host_and_port_are_the_clients_end,
    remote_addr_of_an_ipv6_client_has_no_brackets,
    a_client_that_is_no_trusted_proxy_is_not_believed,
    headers_that_trusted_proxies_do_not_write_are_dropped,
    behind_a_trusted_proxy_all_variables_tell_one_story,
    redirect_status_is_200,
    request_id_and_unique_id_are_the_responses_x_request_id,
    auth_type_and_remote_user_are_not_the_clients_to_set,
    content_length_and_type_are_unset_without_a_body,
    content_length_and_type_are_set_with_a_body,
    content_length_is_0_for_an_empty_body,
    the_working_directory_is_the_routes,
    the_working_directory_is_else_that_of_script_filename,
    the_working_directory_is_else_the_images,
    the_working_directory_is_else_the_programs,
    a_routes_env_reaches_the_program,
    a_computed_variable_wins_over_the_routes_env,
    a_variable_that_the_request_leaves_unset_is_the_routes,
    the_images_own_env_stays,
    nothing_of_the_hosts_environment_leaks,
];

/// The value of a variable, as the probe has it; `None` where it is unset.
#[track_caller]
fn variable(server: &Server, name: &str) -> Option<String> {
    let response = server.get(&format!("/p?text&env={name}"));
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().trim_end().strip_prefix('=').map(str::to_owned)
}

/// The value of a variable in what `envall` printed.
#[track_caller]
fn one(response: &Response, name: &str) -> Option<String> {
    response.variables().remove(name)
}

fn gateway_interface_is_cgi_1_1(server: &Server) {
    assert_eq!(variable(server, "GATEWAY_INTERFACE").as_deref(), Some("CGI/1.1"));
}

fn server_software_is_dcgi_and_its_version(server: &Server) {
    let expected = concat!("dcgi/", env!("CARGO_PKG_VERSION"));
    assert_eq!(variable(server, "SERVER_SOFTWARE").as_deref(), Some(expected));
}

fn server_protocol_is_as_the_request_came(server: &Server) {
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let response = server.send(format!("GET /vars {protocol}\r\nHost: localhost\r\n\r\n"));
        assert_eq!(one(&response, "SERVER_PROTOCOL").as_deref(), Some(protocol));
    }
}

fn request_method_is_as_the_request_came(server: &Server) {
    for method in ["DELETE", "PROPFIND", "x-Odd"] {
        let response = server.send(format!("{method} /vars HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(one(&response, "REQUEST_METHOD").as_deref(), Some(method));
    }
}

fn query_string_is_passed_undecoded(server: &Server) {
    let response = server.get("/vars?a=%41+b&c%00&../d?e");
    assert_eq!(one(&response, "QUERY_STRING").as_deref(), Some("a=%41+b&c%00&../d?e"));
}

fn query_string_is_set_when_there_is_none(server: &Server) {
    assert_eq!(one(&server.get("/vars"), "QUERY_STRING").as_deref(), Some(""));
}

fn request_uri_is_raw(server: &Server) {
    let target = "/vars/./a%20b/%2e%2E/c//d?x=%2f&y";
    assert_eq!(one(&server.get(target), "REQUEST_URI").as_deref(), Some(target));
}

fn what_may_not_stand_in_a_target_is_taken_as_it_is(server: &Server) {
    let target = "/vars/<\"ä\">`{}|\\^?q=<\"ü\">`{}|\\^";
    for prefix in ["", "http://localhost"] {
        let variables =
            server.send(format!("GET {prefix}{target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).variables();
        assert_eq!(variables["PATH_INFO"], "/<\"ä\">`{}|\\^");
        assert_eq!(variables["QUERY_STRING"], "q=<\"ü\">`{}|\\^");
        assert_eq!(variables["REQUEST_URI"], target);
    }
    // What is not UTF-8 the engine's API cannot pass on, but it is served.
    let response = server.send(b"GET /vars/\xff?\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 200, "{}", response.text());
}

fn what_may_not_stand_in_a_target_does_not_go_on_to_the_next_request(server: &Server) {
    let mut connection = server.connect();
    let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.send([head("/vars?<1>"), head("/vars?2"), head("/vars?<3>")].concat());
    for query in ["<1>", "2", "<3>"] {
        assert_eq!(connection.response().variables()["QUERY_STRING"], query);
    }
    // Nor to where a program sends the request.
    let sent_on = crate::common::print("Location: /vars?next\n\n");
    let variables = server.get(&format!("/p?{sent_on}&print=<")).variables();
    assert_eq!((&*variables["QUERY_STRING"], &*variables["REQUEST_URI"]), ("next", "/vars?next"));
}

fn without_tls_request_scheme_is_http_and_https_is_unset(server: &Server) {
    let variables = server.get("/vars").variables();
    assert_eq!(variables["REQUEST_SCHEME"], "http");
    assert_eq!(variables.get("HTTPS"), None);
}

/// A server that believes what this machine says of other clients by one kind of headers.
fn behind_a_proxy(server: &Server, kind: &str) -> Server {
    let config = format!(
        "trusted_proxies = [\"127.0.0.1\"]\nproxy_headers = \"{kind}\"\n\n\
         [[route]]\npath = \"/vars\"\nimage = \"IMAGE\"\nentrypoint = [\"/app/probe\", \"do\", \"text&envall\"]\n"
    );
    server.beside(&config, |_| {})
}

/// What its program is told where a proxy passes on these headers.
#[track_caller]
fn told(server: &Server, headers: &str) -> BTreeMap<String, String> {
    server.send(format!("GET /vars HTTP/1.1\r\nHost: inside:8080\r\n{headers}\r\n\r\n")).variables()
}

fn under_tls_request_scheme_is_https_and_https_is_on(server: &Server) {
    let server = behind_a_proxy(server, "x-forwarded");
    let response = server.send("GET /vars HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\n\r\n");
    let variables = response.variables();
    assert_eq!(variables["REQUEST_SCHEME"], "https");
    assert_eq!(variables.get("HTTPS").map(String::as_str), Some("on"));
    assert_eq!(variables["SERVER_PORT"], "443");
}

fn script_name_is_the_routes_path(server: &Server) {
    assert_eq!(one(&server.get("/vars/and/more"), "SCRIPT_NAME").as_deref(), Some("/vars"));
}

fn script_name_is_empty_for_the_route_of_the_root(server: &Server) {
    let variables = server.send("GET /a/b HTTP/1.1\r\nHost: root.test\r\n\r\n").variables();
    assert_eq!(variables["SCRIPT_NAME"], "");
    assert_eq!(variables["PATH_INFO"], "/a/b");
}

fn path_info_is_percent_decoded(server: &Server) {
    let response = server.get("/vars/a%20b%2Fc%3f/%C3%A4+d//%2541");
    assert_eq!(one(&response, "PATH_INFO").as_deref(), Some("/a b/c?/ä+d//%41"));
}

fn path_info_is_unset_when_empty(server: &Server) {
    assert_eq!(one(&server.get("/vars?x"), "PATH_INFO"), None);
}

fn path_info_of_a_trailing_slash_is_that_slash(server: &Server) {
    assert_eq!(one(&server.get("/vars/"), "PATH_INFO").as_deref(), Some("/"));
}

fn a_document_root_gives_document_root_and_path_translated(server: &Server) {
    let variables = server.get("/documents/a%20b/c").variables();
    assert_eq!(variables["DOCUMENT_ROOT"], "/srv/www");
    assert_eq!(variables["PATH_TRANSLATED"], "/srv/www/a b/c");
}

fn without_path_info_there_is_no_path_translated(server: &Server) {
    let variables = server.get("/documents").variables();
    assert_eq!(variables["DOCUMENT_ROOT"], "/srv/www");
    assert_eq!(variables.get("PATH_TRANSLATED"), None);
}

fn without_a_document_root_there_is_neither(server: &Server) {
    let variables = server.get("/vars/a").variables();
    assert_eq!(variables.get("DOCUMENT_ROOT"), None);
    assert_eq!(variables.get("PATH_TRANSLATED"), None);
}

fn script_filename_is_the_programs_own_path(server: &Server) {
    assert_eq!(variable(server, "SCRIPT_FILENAME").as_deref(), Some("/app/probe"));
}

fn script_filename_is_what_the_route_says(server: &Server) {
    assert_eq!(server.get("/index").text(), "=/app/index.php\n");
}

fn server_name_is_the_host_in_lower_case_and_server_port_its_port(server: &Server) {
    let variables = server.send("GET /vars HTTP/1.1\r\nHost: WWW.Example.org:4711\r\n\r\n").variables();
    assert_eq!(variables["SERVER_NAME"], "www.example.org");
    assert_eq!(variables["SERVER_PORT"], "4711");
}

fn server_name_keeps_the_brackets_of_an_ipv6_host(server: &Server) {
    let variables = server.send("GET /vars HTTP/1.1\r\nHost: [2001:DB8::1]:4711\r\n\r\n").variables();
    assert_eq!(variables["SERVER_NAME"], "[2001:db8::1]");
    assert_eq!(variables["SERVER_PORT"], "4711");
}

fn server_port_is_80_where_the_host_has_none(server: &Server) {
    let response = server.send("GET /vars HTTP/1.1\r\nHost: example.org\r\n\r\n");
    assert_eq!(one(&response, "SERVER_PORT").as_deref(), Some("80"));
}

fn server_addr_is_where_the_connection_came_in(server: &Server) {
    assert_eq!(variable(server, "SERVER_ADDR"), Some(server.address.ip().to_string()));
}

fn remote_addr_host_and_port_are_the_clients_end(server: &Server) {
    let mut connection = server.connect();
    let own = connection.local_address();
    let variables = connection.get("/vars").variables();
    assert_eq!(variables["REMOTE_ADDR"], own.ip().to_string());
    assert_eq!(variables["REMOTE_HOST"], own.ip().to_string());
    assert_eq!(variables["REMOTE_PORT"], own.port().to_string());
}

fn remote_addr_of_an_ipv6_client_has_no_brackets(server: &Server) {
    let server = behind_a_proxy(server, "forwarded");
    let forwarded = "Forwarded: for=\"[2001:DB8::7]:4711\"";
    let variables =
        server.send(format!("GET /vars HTTP/1.1\r\nHost: localhost\r\n{forwarded}\r\n\r\n")).variables();
    assert_eq!(variables["REMOTE_ADDR"], "2001:db8::7");
    assert_eq!(variables["REMOTE_PORT"], "4711");
}

fn a_client_that_is_no_trusted_proxy_is_not_believed(server: &Server) {
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: forged.test\r\n\
        Forwarded: for=6.6.6.6;proto=https;host=forged.test";
    let variables =
        server.send(format!("GET /vars HTTP/1.1\r\nHost: localhost\r\n{forged}\r\n\r\n")).variables();
    assert_eq!(variables["REMOTE_ADDR"], "127.0.0.1");
    assert_eq!(variables["REQUEST_SCHEME"], "http");
    assert_eq!(variables["SERVER_NAME"], "localhost");
}

fn headers_that_trusted_proxies_do_not_write_are_dropped(server: &Server) {
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: forged.test";
    let writes_forwarded = behind_a_proxy(server, "forwarded");
    for (more, client) in [("", "127.0.0.1"), ("\r\nForwarded: for=1.2.3.4", "1.2.3.4")] {
        let variables = told(&writes_forwarded, &format!("{forged}{more}"));
        assert_eq!(variables["REMOTE_ADDR"], client);
        assert_eq!((&*variables["REQUEST_SCHEME"], &*variables["SERVER_NAME"]), ("http", "inside"));
        assert!(!variables.keys().any(|name| name.starts_with("HTTP_X_FORWARDED")), "{variables:?}");
    }
    let forged = "Forwarded: for=6.6.6.6;proto=https;host=forged.test";
    let writes_x_forwarded = behind_a_proxy(server, "x-forwarded");
    for (more, client) in [("", "127.0.0.1"), ("\r\nX-Forwarded-For: 1.2.3.4", "1.2.3.4")] {
        let variables = told(&writes_x_forwarded, &format!("{forged}{more}"));
        assert_eq!(variables["REMOTE_ADDR"], client);
        assert_eq!((&*variables["REQUEST_SCHEME"], &*variables["SERVER_NAME"]), ("http", "inside"));
        assert_eq!(variables.get("HTTP_FORWARDED"), None);
    }
}

fn behind_a_trusted_proxy_all_variables_tell_one_story(server: &Server) {
    let x_forwarded = behind_a_proxy(server, "x-forwarded");
    let forwarded = behind_a_proxy(server, "forwarded");
    let (proto, host) = ("X-Forwarded-Proto: https", "X-Forwarded-Host: WWW.example.org");
    let port = "X-Forwarded-Port: 8443";
    for (server, headers, expected) in [
        (&x_forwarded, [proto, host].join("\r\n"), ["www.example.org", "443", "https", "www.example.org"]),
        (
            &x_forwarded,
            [proto, host, port].join("\r\n"),
            ["www.example.org", "8443", "https", "www.example.org:8443"],
        ),
        (&x_forwarded, port.to_owned(), ["inside", "8443", "http", "inside:8443"]),
        (
            &forwarded,
            "Forwarded: proto=https;host=\"www.example.org:8443\"".to_owned(),
            ["www.example.org", "8443", "https", "www.example.org:8443"],
        ),
    ] {
        let variables = told(server, &headers);
        let names = ["SERVER_NAME", "SERVER_PORT", "REQUEST_SCHEME", "HTTP_HOST"];
        assert_eq!(names.map(|name| &*variables[name]), expected, "{headers}");
        assert_eq!(variables.contains_key("HTTPS"), expected[2] == "https", "{headers}");
    }
}

fn redirect_status_is_200(server: &Server) {
    assert_eq!(variable(server, "REDIRECT_STATUS").as_deref(), Some("200"));
}

fn request_id_and_unique_id_are_the_responses_x_request_id(server: &Server) {
    let response = server.send("GET /vars HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: forged\r\n\r\n");
    let id = response.id();
    let variables = response.variables();
    assert_eq!(variables["REQUEST_ID"], id);
    assert_eq!(variables["UNIQUE_ID"], id);
    assert_ne!(id, "forged");
    assert_ne!(server.get("/nowhere").header("x-request-id"), Some(id));
}

fn auth_type_and_remote_user_are_not_the_clients_to_set(server: &Server) {
    let claims = "Authorization: Basic YWRtaW46YWRtaW4=\r\nRemote-User: admin\r\nAuth-Type: Basic\r\n\
        REMOTE_USER: admin\r\nAUTH_TYPE: Basic";
    let variables =
        server.send(format!("GET /authorized HTTP/1.1\r\nHost: localhost\r\n{claims}\r\n\r\n")).variables();
    assert_eq!(variables.get("AUTH_TYPE"), None);
    assert_eq!(variables.get("REMOTE_USER"), None);
}

fn content_length_and_type_are_unset_without_a_body(server: &Server) {
    let variables = server.get("/vars").variables();
    assert_eq!(variables.get("CONTENT_LENGTH"), None);
    assert_eq!(variables.get("CONTENT_TYPE"), None);
}

fn content_length_and_type_are_set_with_a_body(server: &Server) {
    let head = "POST /vars HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/x; a=\"b\"\r\nContent-Length: 5";
    let variables = server.send(format!("{head}\r\n\r\nhello")).variables();
    assert_eq!(variables["CONTENT_LENGTH"], "5");
    assert_eq!(variables["CONTENT_TYPE"], "text/x; a=\"b\"");
}

fn content_length_is_0_for_an_empty_body(server: &Server) {
    for framing in ["Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let response = server.send(format!("POST /vars HTTP/1.1\r\nHost: localhost\r\n{framing}"));
        assert_eq!(one(&response, "CONTENT_LENGTH").as_deref(), Some("0"), "{framing}");
    }
}

fn the_working_directory_is_the_routes(server: &Server) {
    assert_eq!(server.get("/in-tmp").text(), "/tmp\n");
}

fn the_working_directory_is_else_that_of_script_filename(server: &Server) {
    assert_eq!(server.get("/script-in-app").text(), "/app\n");
}

fn the_working_directory_is_else_the_images(server: &Server) {
    assert_eq!(server.get("/in-srv").text(), "/srv\n");
}

fn the_working_directory_is_else_the_programs(server: &Server) {
    assert_eq!(server.get("/p?text&cwd").text(), "/app\n");
}

fn a_routes_env_reaches_the_program(server: &Server) {
    assert_eq!(variable(server, "FROM_ROUTE").as_deref(), Some("yes"));
}

fn a_computed_variable_wins_over_the_routes_env(server: &Server) {
    assert_eq!(variable(server, "REDIRECT_STATUS").as_deref(), Some("200"));
    assert_eq!(variable(server, "HTTP_HOST").as_deref(), Some("localhost"));
}

fn a_variable_that_the_request_leaves_unset_is_the_routes(server: &Server) {
    assert_eq!(variable(server, "REMOTE_USER").as_deref(), Some("guest"));
}

fn the_images_own_env_stays(server: &Server) {
    assert_eq!(variable(server, "FROM_IMAGE").as_deref(), Some("yes"));
}

fn nothing_of_the_hosts_environment_leaks(server: &Server) {
    let config = "[[route]]\npath = \"/vars\"\nimage = \"IMAGE\"\npass_env = [\"DCGI_TEST_PASSED\"]\n\
        entrypoint = [\"/app/probe\", \"do\", \"text&envall\"]\n";
    let server = server.beside(config, |command| {
        command.env("DCGI_TEST_PASSED", "seen").env("DCGI_TEST_SECRET", "unseen");
    });
    let variables = server.get("/vars").variables();
    assert_eq!(variables["DCGI_TEST_PASSED"], "seen");
    assert!(!variables.contains_key("DCGI_TEST_SECRET"), "{variables:?}");
    assert!(!variables.contains_key("DOCKER_HOST"), "{variables:?}");
}
