//! dcgi behind nginx, Apache and Caddy, by what the guide says of each; and the socket between them.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::embedded::{Store, store_with};
use common::front_end::{FrontEnd, dcgis_own};
use common::{Connection, Server};

const ROUTE: &str =
    "[[route]]\npath = \"/p\"\nimage = \"probe\"\npull = \"never\"\nmax_request_body = \"none\"\n";

/// A dcgi at a unix socket, as the guide has it.
struct Behind {
    server: Server,
    _store: Store,
    folder: tempfile::TempDir,
}

impl Behind {
    fn new() -> Self {
        Self::with(dcgis_own)
    }

    fn with(listen: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let store = store_with(&[("probe", "probe.rs", &["/app/probe"])]);
        let server = store.serve(&format!("{}\n{ROUTE}", listen(&folder.path().join("dcgi.sock"))));
        Self { server, _store: store, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("dcgi.sock")
    }
}

/// What a program sees of a request through a server.
#[track_caller]
fn sees(front_end: &FrontEnd, headers: &str) -> std::collections::BTreeMap<String, String> {
    let mut connection = Connection::open(front_end.address);
    connection.send(format!("GET /p/a%2Fb?text&envall HTTP/1.1\r\nHost: site.test:81\r\n{headers}\r\n"));
    let response = connection.response();
    assert_eq!(response.status, 200, "{}", response.text());
    response.variables()
}

#[track_caller]
fn passes_requests_on(name: &str) {
    let behind = Behind::new();
    let front_end = FrontEnd::before(name, &behind.socket());

    // Nothing that the client says of itself counts.
    let forged = "Forwarded: for=192.0.2.1;host=forged.test\r\nX-Forwarded-For: 192.0.2.1\r\n\
                  X-Forwarded-Host: forged.test\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n";
    for headers in ["", forged] {
        let seen = sees(&front_end, headers);
        let of = |name: &str| seen.get(name).map(String::as_str);
        assert_eq!(of("REMOTE_ADDR"), Some("127.0.0.1"), "{name}: {seen:?}");
        assert_eq!(of("SERVER_NAME"), Some("site.test"), "{name}: {seen:?}");
        assert_eq!(of("HTTPS"), None, "{name}: {seen:?}");
        assert_eq!(
            (of("REQUEST_URI"), of("PATH_INFO")),
            (Some("/p/a%2Fb?text&envall"), Some("/a/b")),
            "{name}: {seen:?}"
        );
    }

    // The program reads all of it before it answers.
    let mut connection = Connection::open(front_end.address);
    let response = connection.post("/p?read=8192&text&print=taken", vec![b'x'; 8 << 10]);
    assert_eq!(response.text(), "taken", "{name}");

    // What is printed is there before the program has ended.
    let mut connection = Connection::open(front_end.address);
    connection.send("GET /p?text&print=one&forever HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    connection.expect("one");
    drop(connection);
    drop(front_end);
    drop(behind.server);
}

#[test]
fn nginx_passes_requests_on_as_the_guide_has_it() {
    passes_requests_on("nginx");
}

#[test]
fn apache_passes_requests_on_as_the_guide_has_it() {
    passes_requests_on("apache");
}

#[test]
fn caddy_passes_requests_on_as_the_guide_has_it() {
    passes_requests_on("caddy");
}

#[test]
fn a_unix_socket_has_the_mode_and_the_group_that_it_was_given_and_is_removed_at_the_end() {
    let behind = Behind::with(|socket| {
        format!("listen = {{ address = \"unix:{}\", mode = \"0620\", group = \"33\" }}", socket.display())
    });
    let found = std::fs::metadata(behind.socket()).unwrap();
    assert_eq!((found.mode() & 0o777, found.gid()), (0o620, 33));
    let socket = behind.socket();
    drop(behind.server);
    assert!(!socket.exists());
}

#[test]
fn a_group_that_there_is_not_is_named_and_nothing_listens() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listen = format!("listen = {{ address = \"unix:{}\", group = \"nosuch\" }}", socket.display());
    let config = format!(
        "engine = \"embedded\"\n{listen}\n[[route]]\npath = \"/\"\nrootfs = \"/\"\ncommand = [\"/bin/true\"]\n"
    );
    let Err((status, said)) = Server::try_start(&config, |_| {}) else { panic!("it serves") };
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("there is no group `nosuch` in /etc/group"), "{said}");
    assert!(!socket.exists());
}
