//! What must hold in `cgi` for all input, whoever made it; and in `agent::scgi`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use dcgi::agent::scgi::Head;
use dcgi::cgi::{
    Answer, AuthenticatedUser, ChunkedDecoder, Context, HeaderBlock, HeaderPolicy, NormalPath, indexed_query,
    meta_variables, split_host,
};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request};
use hyper::ext::ReasonPhrase;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

// --- requests ---

/// The names that dcgi computes; everything else begins with `HTTP_`.
const COMPUTED: [&str; 26] = [
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "DOCUMENT_ROOT",
    "GATEWAY_INTERFACE",
    "HTTPS",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "QUERY_STRING",
    "REDIRECT_STATUS",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "REMOTE_PORT",
    "REMOTE_USER",
    "REQUEST_ID",
    "REQUEST_METHOD",
    "REQUEST_SCHEME",
    "REQUEST_URI",
    "SCRIPT_FILENAME",
    "SCRIPT_NAME",
    "SERVER_ADDR",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "UNIQUE_ID",
];

/// Names at random never hit what matters, so most come from near it.
fn header_name() -> impl Strategy<Value = HeaderName> {
    let near = select(vec![
        "proxy",
        "host",
        "connection",
        "content-length",
        "content_length",
        "content-type",
        "content_type",
        "authorization",
        "x-a",
        "x_a",
        "x.a",
        "X_A",
        "cookie",
        "te",
        "https",
        "request-method",
        "_",
        "-",
        "pro_xy",
        "transfer-encoding",
        "transfer_encoding",
        "http-proxy",
        "expect",
    ]);
    prop_oneof![
        3 => near.prop_map(str::to_owned),
        1 => "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}",
    ]
    .prop_map(|name| name.parse().unwrap())
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    let names = select(vec!["close, x-a", "host", "proxy, cookie", "http://evil.example/", "x_a", ""]);
    prop_oneof![
        names.prop_map(HeaderValue::from_static),
        vec(prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8], 0..20)
            .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap()),
    ]
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    vec((header_name(), header_value()), 0..16).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    })
}

proptest! {
    #[test]
    fn no_request_can_set_a_variable_that_it_should_not(
        headers in headers(),
        method in "[A-Z-]{1,8}",
        target in select(vec!["/", "/a?b=c", "*", "http://h.example/x?y", "http://u:p@h.example/"]),
        path_info in vec(any::<u8>(), 0..8),
        pass_authorization: bool,
        allow in vec(select(vec!["x_a", "X.A", "proxy", "content_length", "_", "host"]).prop_map(String::from), 0..4),
    ) {
        let mut head = Request::new(()).into_parts().0;
        head.method = Method::from_bytes(method.as_bytes()).unwrap();
        head.uri = target.parse().unwrap();
        let user = AuthenticatedUser { auth_type: "Basic".into(), name: "ada".into() };
        let context = Context {
            script_name: "/app",
            path_info: &path_info,
            script_filename: Some("/srv/app"),
            document_root: Some("/srv"),
            server_name: "example.org",
            server_port: 443,
            server_addr: Some([192, 0, 2, 1].into()),
            remote: Some(SocketAddr::from(([192, 0, 2, 7], 50000))),
            https: true,
            request_id: "id",
            user: Some(&user),
            content_length: Some(7),
            headers: HeaderPolicy { pass_authorization, allow: &allow },
        };
        let without_headers = meta_variables(&head, &context);
        head.headers = headers;
        let variables = meta_variables(&head, &context);

        let mut names: Vec<&str> = variables.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        prop_assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name twice: {names:?}");

        for (name, value) in variables.iter() {
            let of_a_header = name.strip_prefix("HTTP_").is_some_and(|rest| {
                !rest.is_empty()
                    && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            });
            prop_assert!(of_a_header || COMPUTED.contains(&name), "{name}");
            prop_assert!(!value.contains(&0), "{name} holds a NUL");
        }
        for name in ["HTTP_PROXY", "HTTP_CONNECTION", "HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_LENGTH"] {
            prop_assert_eq!(variables.get(name), None, "{}", name);
        }
        prop_assert!(pass_authorization || variables.get("HTTP_AUTHORIZATION").is_none());

        // CONTENT_TYPE is the one computed variable that a header may set.
        for name in COMPUTED.iter().filter(|name| **name != "CONTENT_TYPE") {
            prop_assert_eq!(variables.get(name), without_headers.get(name), "{}", name);
        }
    }

    #[test]
    fn a_normal_path_is_normal(raw in "/(\\.|/|%2e|%2F|%25|%00|a|ä|%|\\.\\.|%fF){0,12}") {
        let Ok(path) = NormalPath::parse(&raw) else { return Ok(()) };
        let path = path.as_bytes();
        prop_assert!(path.starts_with(b"/"));
        prop_assert!(!path.contains(&0));
        let mut segments = path.split(|&byte| byte == b'/');
        prop_assert!(segments.all(|segment| segment != b"." && segment != b".."), "{path:?}");
    }

    #[test]
    fn a_normal_path_encoded_again_is_the_same_path(raw in "/(\\.|/|%2e|%2F|%25|a|ä|\\.\\.|%fF){0,12}") {
        let path = NormalPath::parse(&raw).unwrap();
        let encoded = percent_encode(path.as_bytes(), NON_ALPHANUMERIC).to_string();
        // The leading slash must be one.
        prop_assert_eq!(NormalPath::parse(&encoded.replacen("%2F", "/", 1)).unwrap(), path);
    }

    #[test]
    fn a_host_that_is_accepted_is_fit_for_a_server_name(
        authority in "(\\[|\\]|::1|a|B|:|@|%4|%41| |\\.|80|99999|ä|/|\\+){0,6}"
    ) {
        let Ok((host, port)) = split_host(&authority) else { return Ok(()) };
        prop_assert!(!host.is_empty() && host.is_ascii() && !host.contains(['@', '/', ' ']));
        prop_assert_eq!(&host, &host.to_ascii_lowercase());
        let again = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        prop_assert_eq!(split_host(&again), Ok((host, port)));
    }

    #[test]
    fn an_indexed_query_has_an_argument_for_each_word(query in "(\\+|=|%|%00|%41|%ff|-d|a){0,8}") {
        let Some(words) = indexed_query(&query) else { return Ok(()) };
        prop_assert_eq!(words.len(), query.split('+').count());
        prop_assert!(words.iter().all(|word| !word.contains('\0')));
    }
}

// --- responses ---

/// Lines near what matters, and some far from it.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let valid = select(vec![
        "Status: 404 Not Found",
        "Status: 100",
        "status: 200",
        "Location: /a b?c",
        "Location: //h/x",
        "Location: http://h/",
        "Content-Length: 5",
        "content-length: 5",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "Connection: set-cookie, X-A",
        "X-A: 1",
        "X-A:",
        "Transfer-Encoding: chunked",
        "Keep-Alive: timeout=5",
        "Upgrade: h2c",
        "",
    ]);
    let broken = select(vec![
        "HTTP/1.1 200 OK",
        "HTTP/1.0 103 x",
        "Content-Length: -1",
        "Content-Length: 6",
        "X-A: 1\rX-B: 2",
        "X-A: \0",
        "X-A : 1",
        "X-Ä: 1",
        ": 1",
        " folded",
        "\r",
        "no header",
    ]);
    let bytes = || vec(any::<u8>(), 0..20);
    prop_oneof![
        20 => valid.prop_map(|line| line.as_bytes().to_vec()),
        2 => broken.prop_map(|line| line.as_bytes().to_vec()),
        1 => bytes(),
        1 => ("[A-Za-z-]{1,6}", bytes()).prop_map(|(name, value)| [name.as_bytes(), b": ", &value].concat()),
    ]
}

/// What a program prints: lines, the ends of which are of either kind, and often more than one block of them.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let status_line = select(vec!["", "", "", "HTTP/1.1 200 OK\r\n", "HTTP/1.0 103 x\n", "HTTP/1.1 404\n"]);
    let end = prop_oneof![
        10 => select(vec!["\n", "\r\n"]),
        2 => select(vec!["\n\n", "\r\n\r\n", "\n\r\n"]),
        1 => Just("\r"),
    ];
    (status_line, vec((line(), end), 0..8)).prop_map(|(status_line, lines)| {
        let lines = lines.into_iter().flat_map(|(line, end)| [line, end.as_bytes().to_vec()].concat());
        status_line.bytes().chain(lines).collect()
    })
}

/// Everything that the output, in such pieces, comes to, as text: the answer and the body, or the error.
fn outcome<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut block = HeaderBlock::new();
    let mut pieces = pieces.into_iter();
    for piece in pieces.by_ref() {
        match block.push(piece) {
            Ok(None) => {}
            Ok(Some((answer, body))) => {
                let body = pieces.fold(body.to_vec(), |body, piece| [&body, piece].concat());
                return format!("{answer:?} {body:?}");
            }
            Err(error) => return format!("{error:?}"),
        }
    }
    format!("{:?} at the end", block.end())
}

fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    let ends = at.iter().copied().chain([bytes.len()]);
    let starts = std::iter::once(0).chain(at.iter().copied());
    starts.zip(ends).map(|(start, end)| &bytes[start..end]).collect()
}

fn is_control(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

proptest! {
    #[test]
    fn no_output_can_yield_a_control_character_two_responses_or_a_panic(output in output()) {
        let mut block = HeaderBlock::new();
        match block.push(&output) {
            Ok(None) => drop(block.end()),
            Err(error) => prop_assert!(!error.to_string().bytes().any(|byte| byte.is_ascii_control())),
            Ok(Some((Answer::LocalRedirect(redirect), body))) => {
                prop_assert!(output.ends_with(&body));
                prop_assert!(redirect.location.starts_with('/') && !redirect.location.starts_with("//"));
                let uri: http::Uri = redirect.location.parse().unwrap();
                prop_assert_eq!(uri.to_string(), redirect.location);
                prop_assert!(redirect.set_cookie.iter().all(|value| !value.as_bytes().iter().any(|&byte| is_control(byte))));
            }
            Ok(Some((Answer::Response(head), body))) => {
                prop_assert!(output.ends_with(&body));
                prop_assert!(head.parts.status.as_u16() >= 200);
                for (name, value) in &head.parts.headers {
                    prop_assert!(!value.as_bytes().iter().any(|&byte| is_control(byte)), "{name}: {value:?}");
                }
                for name in ["connection", "transfer-encoding", "status", "keep-alive", "upgrade", "trailer"] {
                    prop_assert!(!head.parts.headers.contains_key(name), "{name}");
                }
                let lengths: Vec<_> = head.parts.headers.get_all("content-length").iter().collect();
                prop_assert!(lengths.len() <= 1);
                let said = lengths.first().map(|length| length.to_str().unwrap().parse().unwrap());
                prop_assert!(said.is_none() || said == head.content_length);
                if let Some(reason) = head.parts.extensions.get::<ReasonPhrase>() {
                    prop_assert!(!reason.as_bytes().iter().any(|&byte| is_control(byte)));
                }
            }
        }
    }

    #[test]
    fn a_header_block_is_the_same_however_it_is_cut(output in output(), cuts in vec(any::<Index>(), 0..6)) {
        let whole = outcome([&output[..]]);
        prop_assert_eq!(outcome(cut(&output, &cuts)), &whole[..]);
        prop_assert_eq!(outcome(output.chunks(1)), &whole[..]);
    }

    #[test]
    fn a_header_block_too_long_is_so_however_it_is_cut(
        line in 1..70_000_usize,
        text in select(vec!["X-A: ", "no header"]),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let line = [text.as_bytes(), &vec![b'x'; line], b"\n"].concat();
        let output = [&line[..], b"\n"].concat();
        prop_assert_eq!(outcome(cut(&output, &cuts)), outcome([&output[..]]));
        let output = line.repeat(200_000_usize.div_ceil(line.len()));
        prop_assert_eq!(outcome(cut(&output, &cuts)), outcome([&output[..]]));
    }

    #[test]
    fn what_was_chunked_comes_back_however_it_is_cut(
        chunks in vec(vec(any::<u8>(), 1..20), 0..5),
        end in select(vec!["\n", "\r\n"]),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend([format!("{:x}{end}", chunk.len()).as_bytes(), chunk, end.as_bytes()].concat());
        }
        body.extend(format!("0{end}{end}").bytes());
        let mut decoder = ChunkedDecoder::new();
        let mut data = Vec::new();
        for piece in cut(&body, &cuts) {
            data.extend(decoder.push(Bytes::copy_from_slice(piece)).unwrap().concat());
        }
        prop_assert!(decoder.is_done());
        prop_assert_eq!(data, chunks.concat());
    }

    #[test]
    fn a_chunked_body_at_random_is_decoded_or_refused_however_it_is_cut(
        body in "([0-9a-f]|\r\n|\n|;|x|\r|0\r\n){0,16}",
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let decode = |pieces: Vec<&[u8]>| {
            let mut decoder = ChunkedDecoder::new();
            let mut data = Vec::new();
            for piece in pieces {
                data.extend(decoder.push(Bytes::copy_from_slice(piece))?.concat());
            }
            Ok::<_, dcgi::cgi::ChunkedError>((data, decoder.is_done()))
        };
        prop_assert_eq!(decode(cut(body.as_bytes(), &cuts)), decode(vec![body.as_bytes()]));
    }
}

// --- the head of a request by SCGI ---

/// Variables as a process can have them: no name twice, and no NUL.
fn variables() -> impl Strategy<Value = Vec<(OsString, OsString)>> {
    let value = vec(1..=u8::MAX, 0..40).prop_map(OsString::from_vec);
    let name = prop_oneof!["[A-Z_]{1,8}", "[^=\\x00]{1,8}"]
        .prop_filter("those have a place of their own", |name| name != "SCGI" && name != "CONTENT_LENGTH")
        .prop_map(OsString::from);
    proptest::collection::btree_map(name, value, 0..12)
        .prop_map(|map| map.into_iter().collect())
        .prop_shuffle()
}

proptest! {
    #[test]
    fn a_head_that_is_written_reads_back_and_leaves_the_body(
        content_length in any::<u64>(),
        variables in variables(),
        body in vec(any::<u8>(), 0..20),
        cut in any::<Index>(),
    ) {
        let head = Head { content_length, variables };
        let written = head.write();
        let length = written.len();
        let cut = cut.index(length);
        prop_assert_eq!(Head::read(&written[..cut]), Ok(None));
        let missing = Head::missing(&written[..cut]).unwrap();
        prop_assert!((1..=length - cut).contains(&missing), "{} of {}", missing, length - cut);
        prop_assert_eq!(Head::missing(&written), Ok(0));
        prop_assert_eq!(Head::read(&[written, body].concat()), Ok(Some((head, length))));
    }
}
