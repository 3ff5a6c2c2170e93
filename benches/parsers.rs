//! The two parsers that every request passes: each is expected under 3 µs.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dcgi::cgi::{Context, HeaderBlock, HeaderPolicy, NormalPath, meta_variables};
use http::Request;

/// What a browser sends, with a proxy in front.
const HEADERS: [(&str, &str); 20] = [
    ("host", "www.example.org"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("connection", "keep-alive"),
    ("referer", "https://www.example.org/form.cgi?step=1"),
    ("origin", "https://www.example.org"),
    ("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-length", "27"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-user", "?1"),
    ("priority", "u=0, i"),
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-proto", "https"),
    ("cache-control", "max-age=0"),
];

const HEADER_BLOCK: &[u8] = b"Status: 200 OK\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 5\r\n\
    Cache-Control: no-store, no-cache, must-revalidate\r\n\
    Expires: Thu, 19 Nov 1981 08:52:00 GMT\r\n\
    Set-Cookie: session=0123456789abcdef0123456789abcdef; path=/; HttpOnly\r\n\
    Set-Cookie: theme=dark; path=/\r\n\
    X-Powered-By: PHP/8.4.1\r\n\
    Vary: Accept-Encoding\r\n\
    ETag: \"0123456789abcdef\"\r\n\
    \r\n\
    hello";

fn request(criterion: &mut Criterion) {
    let mut request = Request::post("/cgi-bin/form.cgi/step/2?lang=en&page=3");
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    let head = request.body(()).unwrap().into_parts().0;
    let context = Context {
        script_name: "/cgi-bin/form.cgi",
        path_info: b"/step/2",
        script_filename: Some("/usr/lib/cgi-bin/form.cgi"),
        document_root: Some("/srv/www"),
        server_name: "www.example.org",
        server_port: 443,
        server_addr: Some([192, 0, 2, 1].into()),
        remote: Some(([192, 0, 2, 7], 50000).into()),
        https: true,
        request_id: "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        user: None,
        content_length: Some(27),
        headers: HeaderPolicy::default(),
    };
    criterion.bench_function("meta-variables of a 20-header request", |bencher| {
        bencher.iter(|| meta_variables(black_box(&head), black_box(&context)));
    });
    criterion.bench_function("normal path", |bencher| {
        bencher.iter(|| NormalPath::parse(black_box("/cgi-bin/form.cgi/step/%32/../2")));
    });
}

fn response(criterion: &mut Criterion) {
    criterion.bench_function("header block of 10 lines", |bencher| {
        bencher.iter_batched_ref(
            HeaderBlock::new,
            |block| block.push(black_box(HEADER_BLOCK)).unwrap().unwrap(),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("header block of 10 lines, byte by byte", |bencher| {
        bencher.iter_batched_ref(
            HeaderBlock::new,
            |block| HEADER_BLOCK.chunks(1).find_map(|byte| block.push(black_box(byte)).unwrap()).unwrap(),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(parsers, request, response);
criterion_main!(parsers);
