//! A bare client of the engine's API. It does what must be done for a container, and nothing else: create, attach,
//! start, read to the end, wait, remove, one after the other, on a kept-open connection a worker.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

thread_local! {
    /// As browsers and proxies keep theirs.
    static API: std::cell::RefCell<Option<BufReader<UnixStream>>> = const { std::cell::RefCell::new(None) };
}

/// The path of the engine's socket.
///
/// # Panics
/// Where `DOCKER_HOST` names something else.
pub fn socket() -> String {
    let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    socket.strip_prefix("unix://").expect("the engine is on a unix socket").to_owned()
}

/// Has a container run that a create request asks for, and gives its output as the engine frames it.
///
/// # Panics
/// Where the engine refuses anything.
pub fn run(socket: &str, body: &str) -> Vec<u8> {
    // Left out where the engine refuses: the next one gets a new connection.
    let mut connection = API.take().unwrap_or_else(|| BufReader::new(UnixStream::connect(socket).unwrap()));
    let api = &mut connection;
    let created = call(api, "POST", "/containers/create", body);
    let id = created.split("\"Id\":\"").nth(1).unwrap().split('"').next().unwrap();

    let mut attach = BufReader::new(UnixStream::connect(socket).unwrap());
    let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
    let upgrade = format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    attach.get_mut().write_all(upgrade.as_bytes()).unwrap();
    assert_eq!(head(&mut attach).0, 101);
    call(api, "POST", &format!("/containers/{id}/start"), "");
    attach.get_mut().shutdown(Shutdown::Write).unwrap();
    let mut output = Vec::new();
    attach.read_to_end(&mut output).unwrap();
    assert!(!output.is_empty());
    call(api, "POST", &format!("/containers/{id}/wait"), "");
    call(api, "DELETE", &format!("/containers/{id}?force=1&v=1"), "");
    API.set(Some(connection));
    output
}

fn call(api: &mut BufReader<UnixStream>, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    api.get_mut().write_all(request.as_bytes()).unwrap();
    let (status, length) = head(api);
    let mut answer = Vec::new();
    match length {
        Some(length) => _ = api.by_ref().take(length).read_to_end(&mut answer).unwrap(),
        None if status == 204 => {}
        None => loop {
            let mut line = String::new();
            api.read_line(&mut line).unwrap();
            let size = u64::from_str_radix(line.trim(), 16).unwrap();
            api.by_ref().take(size + 2).read_to_end(&mut answer).unwrap();
            if size == 0 {
                break;
            }
        },
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(status < 300, "{method} {path}: {status} {answer}");
    answer
}

/// Status and declared length.
fn head(api: &mut BufReader<UnixStream>) -> (u16, Option<u64>) {
    let mut line = String::new();
    api.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = None;
    loop {
        line.clear();
        api.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            return (status, length);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
    }
}
