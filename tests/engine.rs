//! The engine and the way to it: engines that die and come back, and every kind of endpoint.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::docker::{PrivateEngine, docker};
use common::engine::{open_folder, shared_folder};
use common::server::unique_path;
use common::{PATIENCE, Server, wait_until};

const ROUTE: &str = "[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\npull = \"never\"\nwarm = 0\n";

#[test]
fn an_engine_that_is_lost_gives_503_and_serves_again_when_it_is_back() {
    let engine = PrivateEngine::start();
    let server = Server::start_with(ROUTE, |command| {
        command.env("DOCKER_HOST", engine.host());
    });
    assert_eq!(server.get("/p?text&print=served").text(), "served");

    engine.kill();
    wait_until("the engine is gone", PATIENCE, || server.get("/p?text").status != 200);
    let response = server.get("/p?text");
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());

    engine.up();
    wait_until("it serves again", PATIENCE, || server.get("/p?text&print=served").text() == "served");
}

#[test]
fn an_engine_that_dies_in_the_middle_cuts_answers_and_leaves_no_container() {
    let engine = PrivateEngine::start();
    let server = Server::start_with(ROUTE, |command| {
        command.env("DOCKER_HOST", engine.host());
    });
    let containers = || engine.docker(&["ps", "-aq", "--filter", "label=dcgi.instance"]).lines().count();

    // One whose answer has begun, one whose program says nothing, and one that is only being made.
    let mut begun = server.connect();
    begun.send("GET /p?text&print=begun&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = begun.head();
    begun.expect("begun");
    let mut silent = server.connect();
    silent.send("GET /p?forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_until("two containers exist", PATIENCE, || containers() == 2);
    let mut new = server.connect();
    new.send("GET /p?text&print=served HTTP/1.1\r\nHost: localhost\r\n\r\n");

    engine.kill();
    begun.body(&mut answer);
    assert!(!answer.complete, "an answer that was cut looks whole");
    let refused = silent.response();
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let new = new.response();
    assert!(matches!((new.status, new.complete), (503, true) | (200, false)), "{new:?}");

    engine.up();
    wait_until("all containers are removed", PATIENCE, || containers() == 0);
    assert_eq!(server.get("/p?text&print=served").text(), "served");
    wait_until("that one too", PATIENCE, || containers() == 0);
}

#[test]
fn the_answer_of_a_program_that_is_killed_while_the_engine_stands_still_is_cut() {
    let engine = PrivateEngine::start();
    let server = Server::start_with(ROUTE, |command| {
        command.env("DOCKER_HOST", engine.host());
    });
    let mut connection = server.connect();
    connection
        .send("POST /p?text&print=begun&read=1&kill=9 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
    let mut answer = connection.head();
    connection.expect("begun");
    engine.stand_still();
    connection.send("x");
    connection.body(&mut answer);
    engine.go_on();
    assert!(!answer.complete, "an answer that was cut looks whole");
    server.wait_for_log_of(answer.id(), "killed");
}

#[test]
fn half_a_body_has_no_end_before_its_program_is_gone_however_long_the_engine_takes() {
    half_a_body_has_no_end(&Busy::default());
}

#[test]
fn half_a_body_has_no_end_where_the_engine_has_not_said_yet_that_its_program_runs() {
    half_a_body_has_no_end(&Busy::once_it_has_heard("/start"));
}

#[track_caller]
fn half_a_body_has_no_end(busy: &Busy) {
    let folder = shared_folder();
    let has = |name: &str| folder.path().join(name).exists();
    let relay = Relay::start({
        let busy = busy.clone();
        move |client| Ok(WhileBusy(client, busy.clone()))
    });
    // By the engine's own stream: what is process 1 has no agent.
    let lines = "init = false\nrequest_body = \"stream\"\nkill_grace = \"0s\"\nmax_concurrency = 1";
    let route = ROUTE.replace("warm = 0", lines);
    let route = format!("{route}volumes = [\"{}:/data\"]\n", folder.path().display());
    let server = Server::start_with(&route, |command| {
        command.env("DOCKER_HOST", format!("tcp://{}", relay.0));
    });
    let mut connection = server.connect();
    connection.send(
        "POST /p?text&touch=/data/begun&count&touch=/data/end HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
    );
    wait_until("the program reads", PATIENCE, || has("begun"));
    busy.set(true);
    drop(connection);
    wait_until("the container is to be removed", PATIENCE, || busy.has_held_a_removal());
    // Whoever waits for the container's end gives up sooner or later. The last of them gives its place to another.
    assert_eq!(server.get("/p?text&print=served").status, 503, "two have the one place");
    let is_served = || server.get("/p?text&print=served").text() == "served";
    wait_until("its place is another's", 3 * PATIENCE, is_served);
    assert!(!has("end"), "the program has seen the end of half a body");
    busy.set(false);
    wait_until("the program is gone", PATIENCE, || server.containers() == 0);
    assert!(!has("end"), "the program has seen the end of half a body");
}

#[test]
fn an_engine_behind_tcp_serves() {
    let relay = Relay::start(Ok);
    let server = Server::start_with(ROUTE, |command| {
        command.env("DOCKER_HOST", format!("tcp://{}", relay.0));
    });
    assert_eq!(server.send(POST).text(), "abc");
}

#[test]
fn calls_to_the_engine_share_connections() {
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = opened.clone();
    let relay = Relay::start(move |client| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(client)
    });
    let server = Server::start_with(ROUTE, |command| {
        command.env("DOCKER_HOST", format!("tcp://{}", relay.0));
    });
    assert_eq!(server.get("/p?text&print=served").text(), "served");
    let before = opened.load(Ordering::Relaxed);
    for _ in 0..10 {
        assert_eq!(server.get("/p?text&print=served").text(), "served");
    }
    // At most one for the streams of each container, which may also take one that waits, and a few that are in use at
    // once; fifty without a pool.
    let after = opened.load(Ordering::Relaxed);
    assert!(after - before < 25, "{} connections for ten requests", after - before);
}

#[test]
fn an_engine_behind_tls_serves_a_client_with_the_right_certificates() {
    let certificates = Certificates::make();
    let relay = Relay::start_tls(&certificates);
    let server = Server::start_with(ROUTE, |command| {
        command.env("DOCKER_HOST", format!("tcp://localhost:{}", relay.0.port()));
        command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", &certificates.folder);
    });
    assert_eq!(server.send(POST).text(), "abc");
}

#[test]
fn an_engine_behind_tls_whose_certificate_is_not_the_authoritys_is_refused() {
    let (ours, theirs) = (Certificates::make(), Certificates::make());
    let relay = Relay::start_tls(&theirs);
    let Err((status, said)) = Server::try_start(ROUTE, |command| {
        command.env("DOCKER_HOST", format!("tcp://localhost:{}", relay.0.port()));
        command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", &ours.folder);
    }) else {
        panic!("an engine that nobody vouches for was believed");
    };
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn an_engine_behind_tcp_on_this_machine_has_containers_that_wait_and_that_are_shared() {
    let relay = Relay::start(Ok);
    let shared = ROUTE.replace("/p", "/shared").replace("warm = 0", "isolation = \"shared\"");
    let server =
        Server::start_with(&format!("{}\n{shared}", ROUTE.replace("warm = 0", "warm = 1")), |command| {
            command.env("DOCKER_HOST", format!("tcp://{}", relay.0));
        });
    assert_waits(&server);
    assert_eq!(
        server.get("/shared?text&env=HOSTNAME").text(),
        server.get("/shared?text&env=HOSTNAME").text()
    );
}

#[test]
fn an_ordinary_user_whose_engine_is_roots_has_containers_that_wait_and_that_are_shared() {
    const ORDINARY: u32 = 65534;
    let folder = open_folder();
    let executable = folder.join("dcgi");
    std::fs::copy(env!("CARGO_BIN_EXE_dcgi"), &executable).unwrap();
    let runtime_dir = folder.join("run");
    std::fs::create_dir(&runtime_dir).unwrap();
    std::os::unix::fs::chown(&runtime_dir, Some(ORDINARY), Some(ORDINARY)).unwrap();
    // Programs are root in there, and cannot be given what dcgi owns.
    let relay = Relay::start(Ok);
    let shared = ROUTE.replace("/p", "/shared").replace("warm = 0", "isolation = \"shared\"");
    let server =
        Server::start_with(&format!("{}\n{shared}", ROUTE.replace("warm = 0", "warm = 1")), |command| {
            let mut arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let config = folder.join("dcgi.toml");
            std::fs::copy(arguments.pop().unwrap(), &config).unwrap();
            *command = Command::new(&executable);
            command.args(arguments).arg(config).uid(ORDINARY).gid(ORDINARY);
            command.env("DOCKER_HOST", format!("tcp://{}", relay.0)).env("DCGI_RUNTIME_DIR", &runtime_dir);
        });
    assert_waits(&server);
    // By name, which asks who may.
    assert_eq!(server.get("/shared?text&write=/dev/stdout").status, 200);
    let log = server.log();
    assert!(!log.contains("Operation not permitted"), "{log}");
    drop(server);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Waits until one container waits, and has it answer: by itself, with a body, with a status.
#[track_caller]
fn assert_waits(server: &Server) {
    let name = format!("name=^/dcgi-{}-", server.pid());
    let waiting = || {
        let filters = ["--filter", &name, "--filter", "status=running", "--filter", "label=dcgi.route=/p"];
        docker(&[&["ps", "--format", "{{.ID}}"], &filters[..]].concat())
    };
    let mut before = String::new();
    wait_until("a container waits and answers", PATIENCE, || {
        before = waiting();
        !before.is_empty() && server.get("/p?text&env=HOSTNAME").text() == format!("={before}")
    });
    assert_eq!(server.send(POST).text(), "abc");
    wait_until("another waits", PATIENCE, || !waiting().is_empty() && waiting() != before);
    let response = server.get("/p?err=why&exit=3");
    assert_eq!(response.status, 502);
    server.wait_for_log_of(response.id(), "exit status 3");
}

#[test]
fn an_engine_behind_ssh_serves() {
    let far = Far::new();
    let server = far.serve(ROUTE);
    assert_eq!(server.send(POST).text(), "abc");
}

#[test]
fn an_engine_behind_ssh_has_containers_that_wait() {
    let far = Far::new();
    let server = far.serve(&ROUTE.replace("warm = 0", "warm = 1"));
    assert_waits(&server);
}

#[test]
fn an_engine_behind_ssh_has_no_shared_containers_and_says_so() {
    let far = Far::new();
    let server = far.serve(&ROUTE.replace("warm = 0", "isolation = \"shared\""));
    let response = server.get("/p?text");
    assert_eq!(response.status, 502);
    server.wait_for_log_of(response.id(), "needs an engine on this machine");
}

/// A machine elsewhere, and an `ssh` as far as it matters: what it would run there runs here. The rest is docker's own
/// dial-stdio.
struct Far(PathBuf);

impl Far {
    fn new() -> Self {
        let folder = unique_path("bin");
        std::fs::create_dir(&folder).unwrap();
        let ssh = folder.join("ssh");
        let script = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift; [ \"$1\" = far.example ] || exit 9\nshift; exec \"$@\"\n";
        std::fs::write(&ssh, script.replace("exec", &format!("DOCKER_HOST={} exec", own_host()))).unwrap();
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn serve(&self, config: &str) -> Server {
        let path = format!("{}:{}", self.0.display(), std::env::var("PATH").unwrap());
        Server::start_with(config, |command| {
            command.env("DOCKER_HOST", "ssh://far.example").env("PATH", path);
        })
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A request whose answer needs end-of-file on standard input to come through.
const POST: &str =
    "POST /p?text&echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";

fn own_host() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

/// A port that leads to the engine under the tests.
struct Relay(std::net::SocketAddr);

impl Relay {
    fn start<S: Duplex>(accept: impl Fn(TcpStream) -> io::Result<S> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = own_host().strip_prefix("unix://").expect("the engine is on a unix socket").to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if let (Ok(client), Ok(engine)) = (client.and_then(&accept), UnixStream::connect(&socket)) {
                    client.relay(engine);
                }
            }
        });
        Self(address)
    }

    fn start_tls(certificates: &Certificates) -> Self {
        let config = certificates.server_config();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
        let socket = own_host().strip_prefix("unix://").expect("the engine is on a unix socket").to_owned();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
                while let Ok((client, _)) = listener.accept().await {
                    let (acceptor, socket) = (acceptor.clone(), socket.clone());
                    tokio::spawn(async move {
                        let mut client = acceptor.accept(client).await?;
                        let mut engine = tokio::net::UnixStream::connect(socket).await?;
                        tokio::io::copy_bidirectional(&mut client, &mut engine).await
                    });
                }
            });
        });
        Self(address)
    }
}

/// Copies both ways, half-closes included: an engine sees the end of standard input by them.
trait Duplex {
    fn relay(self, engine: UnixStream);
}

impl Duplex for TcpStream {
    fn relay(self, engine: UnixStream) {
        let (mut from_client, mut to_engine) = (self.try_clone().unwrap(), engine.try_clone().unwrap());
        std::thread::spawn(move || {
            _ = io::copy(&mut from_client, &mut to_engine);
            _ = to_engine.shutdown(Shutdown::Write);
        });
        let (mut from_engine, mut to_client) = (engine, self);
        std::thread::spawn(move || {
            _ = io::copy(&mut from_engine, &mut to_client);
            _ = to_client.shutdown(Shutdown::Write);
        });
    }
}

/// An engine that comes to no removal while it is busy. It hears that connections are closed.
#[derive(Clone, Default)]
struct Busy(Arc<(Mutex<Held>, Condvar)>);

#[derive(Default)]
struct Held {
    is_busy: bool,
    /// Whether it has been asked for a removal meanwhile.
    has_held: bool,
    /// When it has heard this, it says nothing any more to whoever has said it.
    mutes: Option<&'static str>,
    /// The connection on which it says nothing.
    mute: Option<usize>,
    connections: usize,
}

impl Busy {
    /// One that is to be busy once it has heard this, and does not answer that.
    fn once_it_has_heard(what: &'static str) -> Self {
        let held = Held { mutes: Some(what), ..Held::default() };
        Self(Arc::new((Mutex::new(held), Condvar::new())))
    }

    /// It comes to no removal from here on, or does and says all.
    fn set(&self, busy: bool) {
        let mut state = self.0.0.lock().unwrap();
        state.is_busy = busy;
        state.mute = state.mute.filter(|_| busy);
        self.0.1.notify_all();
    }

    fn has_held_a_removal(&self) -> bool {
        self.0.0.lock().unwrap().has_held
    }

    /// A number for a new connection.
    fn connection(&self) -> usize {
        let mut state = self.0.0.lock().unwrap();
        state.connections += 1;
        state.connections
    }

    fn say(&self, connection: usize) {
        let state = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(state, |state| state.mute == Some(connection)).unwrap());
    }

    fn hear(&self, connection: usize, bytes: &[u8]) {
        let has = |what: &str| bytes.windows(what.len()).any(|window| window == what.as_bytes());
        let mut state = self.0.0.lock().unwrap();
        if state.mutes.take_if(|what| has(what)).is_some() {
            state.mute = Some(connection);
        }
        if has("DELETE ") {
            state.has_held |= state.is_busy;
            drop(self.0.1.wait_while(state, |state| state.is_busy).unwrap());
        }
    }
}

struct WhileBusy(TcpStream, Busy);

impl Duplex for WhileBusy {
    fn relay(self, engine: UnixStream) {
        let Self(client, busy) = self;
        let connection = busy.connection();
        let (mut from_client, mut to_engine) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
        let hears = busy.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = from_client.read(&mut bytes) {
                hears.hear(connection, &bytes[..read]);
                if to_engine.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            _ = to_engine.shutdown(Shutdown::Write);
        });
        let (mut from_engine, mut to_client) = (engine, client);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = from_engine.read(&mut bytes) {
                busy.say(connection);
                if to_client.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            _ = to_client.shutdown(Shutdown::Write);
        });
    }
}

/// An authority, and an engine's and a client's certificate of it, as Docker's documentation makes them.
struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    fn make() -> Self {
        let folder = unique_path("certificates");
        std::fs::create_dir(&folder).unwrap();
        let script = "set -e
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
                -keyout ca-key.pem -out ca.pem
            for name in server client; do
                prefix=; [ $name = client ] || prefix=server-
                openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
                    -keyout ${prefix}key.pem -out request.pem
                printf 'subjectAltName=DNS:localhost\\nextendedKeyUsage=serverAuth,clientAuth\\n' >extensions
                openssl x509 -req -days 2 -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial \
                    -extfile extensions -out ${prefix}cert.pem
            done";
        let status = Command::new("sh")
            .args(["-c", script])
            .current_dir(&folder)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "openssl does not make certificates");
        Self { folder }
    }

    /// Asks clients for a certificate, as a daemon with `--tlsverify` does.
    fn server_config(&self) -> rustls::ServerConfig {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};

        let read = |name: &str| {
            CertificateDer::pem_file_iter(self.folder.join(name))
                .unwrap()
                .map(Result::unwrap)
                .collect::<Vec<_>>()
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(read("ca.pem").remove(0)).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                read("server-cert.pem"),
                PrivateKeyDer::from_pem_file(self.folder.join("server-key.pem")).unwrap(),
            )
            .unwrap()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_pull_that_cannot_succeed_gives_502_and_its_reason_in_the_log() {
    let server = Server::start("[[route]]\npath = \"/p\"\nimage = \"localhost:1/no/such:image\"\n");
    assert_eq!(server.get("/p").status, 502);
    server.wait_for_log("image `localhost:1/no/such:image` cannot be pulled");
}

/// A registry with the probe's image in it: Docker's own, on a port and in a folder that are this test's.
struct Registry {
    process: std::process::Child,
    folder: PathBuf,
    image: String,
}

impl Registry {
    fn start() -> Self {
        let folder = unique_path("registry");
        std::fs::create_dir(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n",
            folder.display()
        );
        std::fs::write(folder.join("config.yml"), config).unwrap();
        let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/usr/bin/docker-registry");
        let program = if std::path::Path::new(unpacked).exists() { unpacked } else { "docker-registry" };
        let process = Command::new(program)
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("scripts/prerequisites has been run");
        let image = format!("localhost:{port}/probe");
        let registry = Self { process, folder, image };
        wait_until("the registry listens", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        docker(&["tag", common::docker::probe_image(), &registry.image]);
        docker(&["push", "-q", &registry.image]);
        registry
    }

    /// Takes the image from the engine, and leaves it in the registry.
    fn forget_image(&self) {
        docker(&["rmi", &self.image]);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        _ = std::fs::remove_dir_all(&self.folder);
        // Where the test has got so far that it is there.
        _ = Command::new("docker").args(["rmi", &self.image]).stderr(std::process::Stdio::null()).status();
    }
}

#[test]
fn a_missing_image_is_pulled_once_for_all_who_wait() {
    let registry = Registry::start();
    registry.forget_image();
    let server = Server::start(&format!("[[route]]\npath = \"/p\"\nimage = \"{}\"\n", registry.image));
    let mut waiting: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for connection in &mut waiting {
        connection.send("GET /p?text&print=served HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    for connection in &mut waiting {
        assert_eq!(connection.response().text(), "served");
    }
    assert_eq!(server.log().matches("pulled image").count(), 1, "{}", server.log());
}

#[test]
fn with_pull_always_an_image_is_pulled_though_it_is_there() {
    let registry = Registry::start();
    let route = format!("[[route]]\npath = \"/p\"\nimage = \"{}\"\npull = \"always\"\n", registry.image);
    let server = Server::start(&route);
    assert_eq!(server.get("/p?text&print=served").text(), "served");
    server.wait_for_log("pulled image");
}

#[test]
fn with_pull_never_a_missing_image_is_502() {
    let registry = Registry::start();
    registry.forget_image();
    let route = format!("[[route]]\npath = \"/p\"\nimage = \"{}\"\npull = \"never\"\n", registry.image);
    let server = Server::start(&route);
    assert_eq!(server.get("/p?text").status, 502);
    server.wait_for_log("and `pull = \"never\"` forbids pulling it");
}

#[test]
fn a_pull_that_has_just_failed_is_not_tried_for_each_request() {
    let server = Server::start("[[route]]\npath = \"/p\"\nimage = \"localhost:1/no/such:image\"\n");
    server.wait_for_log("cannot be pulled");
    for _ in 0..5 {
        assert_eq!(server.get("/p").status, 502);
    }
    let tries = server.log().matches("INFO dcgi::engine::docker::image: pulling image").count();
    assert!((1..=2).contains(&tries), "{}", server.log());
}

#[test]
fn an_image_that_comes_later_is_served_without_a_restart() {
    let tag = format!("dcgi-test/later-{}", std::process::id());
    let config = format!("[[route]]\npath = \"/p\"\nimage = \"{tag}\"\npull = \"never\"\n");
    let server = Server::start(&config);
    assert_eq!(server.get("/p?text").status, 502);
    docker(&["tag", common::docker::PROBE, &tag]);
    let text = server.get("/p?text&print=served").text();
    docker(&["rmi", &tag]);
    assert_eq!(text, "served");
    // And once it is gone again, that shows within seconds.
    wait_until("it is missed", Duration::from_secs(10), || server.get("/p?text").status == 502);
}
