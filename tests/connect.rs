//! What programs without a network reach by `connect`: one address each, and nothing else.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use common::embedded::{Store, wait_until_idle};
use common::{PATIENCE, Server, wait_until};
use tempfile::TempDir;

/// Connects to `tcp=PORT`, `to=ADDRESS:PORT` or `unix=PATH`, says `hello`, and prints what comes back or why nothing does.
const CLIENT: &str = r#"#!/usr/bin/perl
use strict;
use IO::Socket::INET;
use IO::Socket::UNIX;
print "Content-Type: text/plain\n\n";
my ($kind, $value) = split /=/, $ENV{QUERY_STRING};
$value =~ s/%2F/\//g;
$value = "127.0.0.1:$value" if $kind eq 'tcp';
my $socket = $kind eq 'unix' ? IO::Socket::UNIX->new(Peer => $value)
    : IO::Socket::INET->new(PeerAddr => $value, Timeout => 5);
if (!$socket) { print "no: $!\n"; exit }
$SIG{PIPE} = 'IGNORE';
print $socket "hello\n" or do { print "no: $!\n"; exit };
$socket->flush;
shutdown $socket, 1;
$! = 0;
my @lines = <$socket>;
print @lines ? @lines : "no: " . ($! || 'end of file') . "\n";
"#;

/// A directory with the client in it as `client.cgi`, and what serves it.
struct Site {
    server: Server,
    folder: TempDir,
    runtime: PathBuf,
    _store: Store,
}

impl Site {
    /// With these entries of `connect`, and more lines.
    fn serve(connect: &[String], more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let client = folder.path().join("client.cgi");
        fs::write(&client, CLIENT).unwrap();
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
        let (store, runtime) = (Store::new(), common::server::unique_path("runtime"));
        let route = format!(
            "[[route]]\npath = \"/\"\nrootfs = \"/\"\nscripts = \"{}\"\nconnect = {connect:?}\n{more}\n",
            folder.path().display()
        );
        let server = store.serve_with(&route, |command| {
            command.env("DCGI_RUNTIME_DIR", &runtime);
        });
        Self { server, folder, runtime, _store: store }
    }

    #[track_caller]
    fn client(&self, asked: &str) -> String {
        let response = self.server.get(&format!("/client.cgi?{asked}"));
        assert_eq!(response.status, 200, "{asked}\n{}", self.server.log());
        response.text().trim_end().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.runtime);
    }
}

/// Answers each line with itself in capitals.
fn echo(mut stream: impl Read + Write) {
    let mut heard = String::new();
    // A client that has gone is none of ours.
    _ = stream.read_to_string(&mut heard);
    _ = stream.write_all(heard.to_ascii_uppercase().as_bytes());
}

/// A server outside, and its port.
fn outside() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
    port
}

/// Such a server at a unix socket, which everybody may connect to; tells who has, by user and group.
fn names_its_clients(path: &Path) -> mpsc::Receiver<(u32, u32)> {
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let (told, users) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let user = rustix::net::sockopt::socket_peercred(&stream).unwrap();
            _ = told.send((user.uid.as_raw(), user.gid.as_raw()));
            echo(stream);
        }
    });
    users
}

#[test]
fn a_program_reaches_one_address_and_nothing_else() {
    let (one, other) = (outside(), outside());
    let connect = [format!("127.0.0.1:5432=127.0.0.1:{one}"), format!("localhost:80=localhost:{other}")];
    for more in
        ["", "warm = 0", "isolation = \"shared\"", "init = false", "read_only = false", "user = \"root\""]
    {
        let site = Site::serve(&connect, more);
        for _ in 0..3 {
            assert_eq!(site.client("tcp=5432"), "HELLO", "{more}: {}", site.server.log());
        }
        assert_eq!(site.client("tcp=80"), "HELLO", "{more}");
        // Neither another port inside, nor what is outside by its own address.
        assert_eq!(site.client("tcp=5433"), "no: Connection refused", "{more}");
        assert_eq!(site.client(&format!("tcp={one}")), "no: Connection refused", "{more}");
        assert_eq!(site.client(&format!("to=192.0.2.1:{one}")), "no: Network is unreachable", "{more}");
    }
}

#[test]
fn a_socket_inside_leads_to_an_address_or_a_socket_outside() {
    let port = outside();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sock");
    let users = names_its_clients(&path);
    let connect = [
        format!("unix:/run/mysqld/mysqld.sock=127.0.0.1:{port}"),
        format!("unix:/run/db.sock=unix:{}", path.display()),
        format!("127.0.0.1:3306=unix:{}", path.display()),
    ];
    for more in ["", "isolation = \"shared\""] {
        for (user, uid, gid) in [("1234:1235", 1234, 1235), ("0:0", 0, 0)] {
            let site = Site::serve(&connect, &format!("user = \"{user}\"\n{more}"));
            assert_eq!(site.client("unix=/run/mysqld/mysqld.sock"), "HELLO", "{more}: {}", site.server.log());
            for asked in ["unix=/run/db.sock", "tcp=3306"] {
                assert_eq!(site.client(asked), "HELLO", "{more} {asked}: {}", site.server.log());
                // Not dcgi's: who it is that connects is what some databases ask for.
                assert_eq!(users.recv_timeout(PATIENCE).unwrap(), (uid, gid), "{more} {asked}");
            }
            assert!(site.client("unix=/run/none.sock").starts_with("no: "));
        }
    }
}

#[test]
fn a_container_of_dockers_reaches_the_same() {
    let port = outside();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sock");
    let users = names_its_clients(&path);
    let connect = [
        format!("127.0.0.1:5432=127.0.0.1:{port}"),
        format!("unix:/run/db.sock=127.0.0.1:{port}"),
        format!("127.0.0.1:3306=unix:{}", path.display()),
    ];
    let route = |more: &str| {
        format!(
            "[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\nuser = \"1234:1235\"\nconnect = {connect:?}\n{more}\n"
        )
    };
    common::docker::probe_image();
    for more in ["", "warm = 0", "warm = 1", "isolation = \"shared\""] {
        let server = Server::start(&route(more));
        let dial = |address: &str| {
            let response = server.get(&format!("/?text&dial={address}"));
            assert_eq!(response.status, 200, "{more} {address}: {}", server.log());
            response.text().trim_end().to_owned()
        };
        for _ in 0..2 {
            assert_eq!(dial("127.0.0.1:5432"), "HELLO", "{more}: {}", server.log());
            assert_eq!(dial("/run/db.sock"), "HELLO", "{more}: {}", server.log());
        }
        assert_eq!(dial("127.0.0.1:3306"), "HELLO", "{more}: {}", server.log());
        assert_eq!(users.recv_timeout(PATIENCE).unwrap(), (1234, 1235), "{more}");
        assert_eq!(dial("127.0.0.1:5433"), "no: connection refused", "{more}");
        assert_eq!(dial(&format!("127.0.0.1:{port}")), "no: connection refused", "{more}");
        assert_eq!(dial(&format!("192.0.2.1:{port}")), "no: network unreachable", "{more}");
    }
    let server = Server::start(&route("init = false"));
    assert_eq!(server.get("/?text&dial=127.0.0.1:5432").status, 502);
    server.wait_for_log("`connect` needs an agent in the container");
}

#[test]
fn what_is_down_is_told_at_once_and_reached_when_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let connect = [
        format!("127.0.0.1:5432={address}"),
        format!("unix:/run/db.sock={address}"),
        "127.0.0.1:1=no-such-host.invalid:1".to_owned(),
    ];
    let site = Site::serve(&connect, "");
    for asked in ["tcp=5432", "unix=/run/db.sock", "tcp=1"] {
        let answer = site.client(asked);
        assert!(answer.starts_with("no: "), "{asked}: {answer}");
    }
    site.server.wait_for_log(&format!("{address} cannot be reached"));
    site.server.wait_for_log("no-such-host.invalid:1 cannot be reached");
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(echo));
    for asked in ["unix=/run/db.sock", "tcp=5432"] {
        wait_until("it is reached again", PATIENCE, || site.client(asked) == "HELLO");
    }
}

#[test]
fn a_connection_that_is_held_ends_with_its_program() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = [format!("127.0.0.1:5432={}", listener.local_addr().unwrap())];
    for more in ["", "isolation = \"shared\""] {
        let site = Site::serve(&connect, &format!("timeout = \"1s\"\n{more}"));
        let mut asking = site.server.connect();
        asking.send("GET /client.cgi?tcp=5432 HTTP/1.1\r\nHost: h\r\n\r\n");
        // It hears the program, and answers nothing, until the program's time is up.
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello\n", "{more}");
        wait_until("the carried connection is closed", PATIENCE, || stream.write_all(b"x").is_err());
    }
}

#[test]
fn nothing_is_left_of_what_was_carried() {
    let connect = [
        format!("127.0.0.1:5432=127.0.0.1:{}", outside()),
        format!("unix:/run/db.sock=127.0.0.1:{}", outside()),
    ];
    let mut site = Site::serve(&connect, "");
    let sockets = |site: &Site| -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![site.runtime.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => _ = found.insert(entry.path()),
                }
            }
        }
        found
    };
    assert_eq!(site.client("tcp=5432"), "HELLO");
    wait_until_idle(&site.server);
    let before = site.server.descriptors();
    for _ in 0..50 {
        assert_eq!(site.client("tcp=5432"), "HELLO");
        assert_eq!(site.client("unix=/run/db.sock"), "HELLO");
    }
    wait_until("its descriptors are closed", PATIENCE, || site.server.descriptors() <= before + 2);
    assert_eq!(sockets(&site).len(), 1, "{:?}", sockets(&site));
    // One that is asked to end leaves nothing, one that is killed its socket, which the next start removes.
    let mut asked = Site::serve(&connect, "");
    assert_eq!(asked.client("unix=/run/db.sock"), "HELLO");
    asked.server.signal("TERM");
    assert!(asked.server.wait().success());
    let left: Vec<_> = fs::read_dir(&asked.runtime).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    site.server.signal("KILL");
    site.server.wait();
    assert_eq!(sockets(&site).len(), 1);
    let store = Store::new();
    let next = store.serve_with(
        &format!("[[route]]\npath = \"/\"\nrootfs = \"/\"\nscripts = \"{}\"\n", site.folder.path().display()),
        |command| _ = command.env("DCGI_RUNTIME_DIR", &site.runtime),
    );
    assert_eq!(sockets(&site).len(), 0, "{}", next.log());
}
