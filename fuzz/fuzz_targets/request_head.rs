//! The client's side.
//!
//! Invariant: whatever a client sends as a request head, the environment made of it, without a panic, holds
//! each name once, only computed names and `HTTP_` with letters, digits and underscores, never `HTTP_PROXY`,
//! no hop-by-hop header, no NUL; and no header changes a computed variable other than `CONTENT_TYPE`. A path
//! that is accepted has no dot segments and no NUL; a host that is accepted is accepted again as it came out.
#![no_main]

use std::collections::HashSet;

use dcgi::cgi::{Context, HeaderPolicy, NormalPath, indexed_query, meta_variables, split_host};
use http::{HeaderMap, Request, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((mut head, headers)) = read(input) else { return };
    let host = headers.get("host").and_then(|host| host.to_str().ok()).and_then(|host| split_host(host).ok());
    if let Some((host, port)) = &host {
        let again = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        assert_eq!(split_host(&again), Ok((host.clone(), *port)));
    }
    let Ok(path) = NormalPath::parse(head.uri.path()) else { return };
    assert!(path.as_bytes().starts_with(b"/") && !path.as_bytes().contains(&0));
    assert!(path.as_bytes().split(|&byte| byte == b'/').all(|segment| segment != b"." && segment != b".."));
    if let Some(words) = head.uri.query().and_then(indexed_query) {
        assert!(words.iter().all(|word| !word.contains('\0')));
    }

    let allow = ["x_allowed".to_owned(), "x.allowed".to_owned(), "proxy".to_owned(), "te_".to_owned()];
    let context = Context {
        script_name: "",
        path_info: path.as_bytes(),
        script_filename: Some("/srv/app"),
        document_root: Some("/srv"),
        server_name: host.as_ref().map_or("localhost", |(host, _)| host),
        server_port: 80,
        server_addr: None,
        remote: Some(([192, 0, 2, 7], 50000).into()),
        https: false,
        request_id: "id",
        user: None,
        content_length: None,
        headers: HeaderPolicy { pass_authorization: false, allow: &allow },
    };
    let without_headers = meta_variables(&head, &context);
    head.headers = headers;
    let variables = meta_variables(&head, &context);

    let mut names = HashSet::new();
    for (name, value) in variables.iter() {
        assert!(names.insert(name), "{name} twice");
        assert!(!value.contains(&0), "{name} holds a NUL");
        match name.strip_prefix("HTTP_") {
            Some(rest) => {
                assert!(!WITHHELD.contains(&rest), "{name}");
                let valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
                assert!(!rest.is_empty() && rest.bytes().all(valid), "{name}");
            }
            None => assert!(name == "CONTENT_TYPE" || without_headers.get(name) == Some(value), "{name}"),
        }
    }
});

/// Withheld from a program that may not have the client's credentials.
const WITHHELD: [&str; 14] = [
    "AUTHORIZATION",
    "CONNECTION",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "EXPECT",
    "KEEP_ALIVE",
    "PROXY",
    "PROXY_AUTHENTICATE",
    "PROXY_AUTHORIZATION",
    "PROXY_CONNECTION",
    "TE",
    "TRAILER",
    "TRANSFER_ENCODING",
    "UPGRADE",
];

/// A head as the server's own parser gives it, and its headers apart.
fn read(input: &[u8]) -> Option<(http::request::Parts, HeaderMap)> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut lines);
    request.parse(input).ok()?;
    let head = Request::builder()
        .method(request.method?)
        .uri(request.path?)
        .version(if request.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 });
    let mut headers = HeaderMap::new();
    for line in request.headers.iter().filter(|line| !line.name.is_empty()) {
        headers.append(
            http::HeaderName::from_bytes(line.name.as_bytes()).ok()?,
            http::HeaderValue::from_bytes(line.value).ok()?,
        );
    }
    Some((head.body(()).ok()?.into_parts().0, headers))
}
