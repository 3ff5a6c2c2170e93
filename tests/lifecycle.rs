//! Starts, ends and accidents: of dcgi, of its engine, and of the connections between.

mod common;

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::docker::containers;
use common::server::{dcgi, read_all, unique_path};
use common::{Connection, PATIENCE, Server, wait_until};

const ROUTE: &str = "[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\npull = \"never\"\nwarm = 0\n";

/// Sends a request, and waits for its answer elsewhere.
fn request(server: &Server, steps: &str) -> std::thread::JoinHandle<common::Response> {
    let mut connection = server.connect();
    connection.send(format!("GET /p?{steps} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    std::thread::spawn(move || connection.response())
}

/// [`ROUTE`], where a program may be silent for as long as the others take to begin.
const PATIENT: &str = "[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\npull = \"never\"\nwarm = 0\ntimeout = \"5m\"\nidle_timeout = \"5m\"\n";

/// A request whose program runs and waits for a byte; returns once it does run.
#[track_caller]
fn begin(server: &Server) -> (Connection, common::Response) {
    let mut connection = server.connect();
    connection.send_head("POST", "/p?text&print=begun&read=1&print=-ended", 1);
    let head = connection.head();
    assert_eq!(head.status, 200);
    (connection, head)
}

/// Gives it that byte, and asserts that it ends as it should.
#[track_caller]
fn finishes((mut connection, mut answer): (Connection, common::Response)) {
    connection.send("x");
    connection.body(&mut answer);
    assert_eq!((answer.text().as_str(), answer.complete), ("begun-ended", true));
}

#[track_caller]
fn wait_until_closed(server: &Server) {
    wait_until("the port is closed", PATIENCE, || TcpStream::connect(server.address).is_err());
}

/// A request whose program runs until somebody ends it; returns once it does run.
fn endless(server: &Server) -> Connection {
    let mut connection = server.connect();
    connection.send("GET /p?text&print=begun&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = connection.head();
    assert_eq!(head.status, 200);
    connection.expect("begun");
    connection
}

#[test]
fn without_an_engine_dcgi_says_where_it_looked_and_exits_with_1() {
    let nowhere = unique_path("nowhere.sock");
    let host = format!("unix://{}", nowhere.display());
    let Err((status, said)) = Server::try_start(ROUTE, |command| {
        command.env("DOCKER_HOST", &host);
    }) else {
        panic!("dcgi serves without an engine");
    };
    assert_eq!(status.code(), Some(1));
    let last = said.lines().last().unwrap();
    assert!(last.starts_with(&format!("dcgi: no container engine answers at {host}: ")), "{said}");
    assert!(last.contains("No such file or directory"), "{said}");
    assert!(last.ends_with("`DOCKER_HOST` names it: start that engine, or unset the variable"), "{said}");
}

#[test]
fn sigterm_lets_eight_requests_finish_and_leaves_no_container() {
    let mut server = Server::start(PATIENT);
    let running: Vec<_> = (0..8).map(|_| begin(&server)).collect();
    server.signal("TERM");
    wait_until_closed(&server);
    running.into_iter().for_each(finishes);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.containers(), 0);
}

#[test]
fn a_server_that_shuts_down_takes_no_further_connection() {
    let mut server = Server::start(PATIENT);
    let running = begin(&server);
    server.signal("INT");
    wait_until_closed(&server);
    finishes(running);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn when_the_grace_is_over_requests_are_cut_and_no_container_is_left() {
    let mut server = Server::start_with(ROUTE, |command| {
        command.args(["--grace", "200ms"]);
    });
    let mut connection = endless(&server);
    server.signal("TERM");
    assert_eq!(connection.chunk(), None, "an answer that was cut looks whole");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.containers(), 0);
    // Nor does the log blame the client.
    server.wait_for_log("the server is shutting down; ");
    let log = server.log();
    assert!(log.contains(" cut=true ") && !log.contains("the client went away"), "{log}");
}

#[test]
fn who_has_no_answer_when_the_grace_is_over_is_told() {
    let mut server = Server::start_with(ROUTE, |command| {
        command.args(["--grace", "200ms"]);
    });
    let mut connection = server.connect();
    connection.send("GET /p?err=begun%0A&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_for_log("dcgi::stderr: begun");
    server.signal("TERM");
    assert_eq!(connection.response().status, 503);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_killed_dcgis_containers_are_gone_within_ten_seconds_of_the_next_start() {
    let bystander = Server::start(ROUTE);
    let _running = endless(&bystander);

    let mut killed = Server::start(ROUTE);
    let _connections: Vec<_> = (0..4).map(|_| endless(&killed)).collect();
    assert_eq!(killed.containers(), 4);
    // Counted before: any dcgi that starts from now on, another test's as well, may remove them.
    killed.signal("KILL");
    killed.wait();

    let began = Instant::now();
    let _next = Server::start(ROUTE);
    wait_until("the dead one's containers are gone", Duration::from_secs(10), || killed.containers() == 0);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(bystander.containers(), 1, "another dcgi's container was touched");
}

#[test]
fn what_has_itself_traced_in_a_killed_dcgis_container_ends_with_the_next_start() {
    let route = format!("{ROUTE}init = false\n");
    let mut killed = Server::start(&route);
    let mut connection = killed.connect();
    // It stops, which its parent, the engine, may take for its end.
    connection.send("GET /p?text&print=begun&ignore=23&traceme&kill=23&print=on&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = connection.head();
    assert_eq!(head.status, 200);
    connection.expect("begun");
    let variable = format!("REQUEST_ID={}\0", head.id());
    let programs = || -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| common::processes::variables_of(*pid).contains(&variable)).collect()
    };
    let is_traced = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('t'))
    };
    wait_until("it is traced", PATIENCE, || {
        let found = programs();
        !found.is_empty() && found.iter().all(is_traced)
    });
    // Any dcgi that starts from now on, another test's as well, may end it.
    killed.signal("KILL");
    killed.wait();
    let _next = Server::start(&route);
    wait_until("nothing of it is left", PATIENCE, || programs().is_empty());
}

#[test]
fn what_is_held_on_its_way_out_in_a_killed_dcgis_container_ends_with_the_next_start() {
    let route = format!("{ROUTE}init = false\n");
    let mut killed = Server::start(&route);
    let mut connection = killed.connect();
    connection.send("GET /p?text&held&print=begun&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    connection.expect("begun");
    // Any dcgi that starts from now on, another test's as well, may end it.
    killed.signal("KILL");
    killed.wait();
    let _next = Server::start(&route);
    wait_until("nothing of it is left", PATIENCE, || killed.containers() == 0);
}

#[test]
fn two_hundred_silent_clients_keep_nobody_out_and_are_shown_the_door() {
    let server = Server::start(&format!("header_timeout = \"2s\"\n{ROUTE}"));
    // By now it has of its executable in memory what it uses, which is large where it is not optimized.
    assert_eq!(server.get("/p?text&print=served").text(), "served");
    let (before, _) = server.memory();
    let silent: Vec<_> = (0..200).map(|_| server.connect()).collect();
    assert_eq!(server.get("/p?text&print=served").text(), "served");
    let (resident, _) = server.memory();
    assert!(
        resident < before + (4 << 20),
        "{before} bytes were resident, and {resident} are with 200 clients"
    );
    for mut connection in silent {
        assert!(connection.is_closed_by_server());
    }
}

#[test]
fn a_client_that_dawdles_over_its_header_is_shown_the_door() {
    let server = Server::start(&format!("header_timeout = \"1s\"\n{ROUTE}"));
    let mut connection = server.connect();
    connection.send("GET /p?text HTTP/1.1\r\nHost: local");
    assert!(connection.is_closed_by_server());
}

#[test]
fn connections_beyond_the_limit_wait_until_others_close() {
    let server = Server::start(&format!("max_connections = 2\n{ROUTE}"));
    let (first, second) = (server.connect(), server.connect());
    let mut third = server.connect();
    third.send("GET /p?text&print=served HTTP/1.1\r\nHost: localhost\r\n\r\n");
    drop((first, second));
    assert_eq!(third.response().text(), "served");
}

#[test]
#[allow(clippy::disallowed_methods)]
fn out_of_descriptors_it_answers_503_and_recovers() {
    let config = unique_path("few.toml");
    let routes = ROUTE.replace("IMAGE", common::docker::probe_image());
    std::fs::write(
        &config,
        format!("engine = \"docker\"\nlisten = [\"127.0.0.1:0\"]\n{routes}max_concurrency = 100\n"),
    )
    .unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 48; exec \"$0\" serve -c \"$1\"", env!("CARGO_BIN_EXE_dcgi")])
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let address = line.trim().strip_prefix("dcgi listens on http://").unwrap().parse().unwrap();

    let request = "GET /p?text&sleep=500&print=served HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut connections: Vec<_> = (0..24)
        .map(|_| {
            let mut connection = Connection::open(address);
            connection.send(request);
            connection
        })
        .collect();
    let responses: Vec<_> = connections.iter_mut().map(Connection::response).collect();
    let refused = responses.iter().filter(|response| response.status == 503).count();
    assert!(
        refused > 0,
        "there were descriptors enough: {:?}",
        responses.iter().map(|r| r.status).collect::<Vec<_>>()
    );
    assert!(responses.iter().all(|response| matches!(response.status, 200 | 503)), "{responses:?}");
    drop(connections);
    wait_until("it serves again", PATIENCE, || {
        Connection::open(address).get("/p?text&print=served").status == 200
    });

    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    std::fs::remove_file(config).unwrap();
    let name = format!("name=^/dcgi-{}-", child.id());
    assert_eq!(common::docker::docker(&["ps", "-aq", "--filter", &name]), "");
}

#[test]
fn after_many_requests_no_descriptor_and_no_container_is_left() {
    let server = Server::start(ROUTE);
    let round = || {
        let requests: Vec<_> = (0..8).map(|_| request(&server, "text&print=served")).collect();
        for request in requests {
            assert_eq!(request.join().unwrap().text(), "served");
        }
        wait_until("the containers are gone", PATIENCE, || server.containers() == 0);
    };
    let before = server.descriptors();
    for _ in 0..6 {
        round();
    }
    // Up to 32 connections to the engine wait for the next call; 48 requests went by.
    let after = server.descriptors();
    assert!(after <= before + 32, "{before} descriptors before, {after} after");
}

#[test]
fn a_stale_unix_socket_is_replaced_and_removed_at_the_end() {
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};

    let path = std::env::temp_dir().join(format!("dcgi-stale-{}.sock", std::process::id()));
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a socket that nobody removed");
    let mut server = Server::start(&format!("listen = [\"unix:{}\"]\n{ROUTE}", path.display()));
    let mut client = UnixStream::connect(&path).unwrap();
    client
        .write_all(b"GET /p?text&env=REMOTE_ADDR HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let answer = String::from_utf8(read_all(client)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("unset"), "{answer}");
    server.signal("TERM");
    server.wait();
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_that_is_in_use_is_not_taken_over() {
    let path = std::env::temp_dir().join(format!("dcgi-used-{}.sock", std::process::id()));
    let config = format!("listen = [\"unix:{}\"]\n{ROUTE}", path.display());
    let _first = Server::start(&config);
    let Err((status, said)) = Server::try_start(&config, |_| {}) else { panic!("two servers on one socket") };
    assert_eq!(status.code(), Some(1));
    assert!(said.contains(&format!("cannot listen on unix:{}", path.display())), "{said}");
}

#[test]
fn a_socket_that_systemd_passes_on_is_served() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = unique_path("activated.toml");
    let routes = ROUTE.replace("IMAGE", common::docker::probe_image());
    std::fs::write(&config, format!("engine = \"docker\"\n{routes}")).unwrap();
    // The protocol wants the socket at descriptor 3, and the process's own id in a variable.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve -c \"$1\"";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_dcgi")])
        .arg(&config)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(Connection::open(address).get("/p?text&print=served").text(), "served");
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    std::fs::remove_file(config).unwrap();
}

#[test]
fn an_address_in_use_is_named() {
    let first = Server::start(ROUTE);
    let config = format!("listen = [\"{}\"]\n{ROUTE}", first.address);
    let Err((status, said)) = Server::try_start(&config, |_| {}) else { panic!("two servers on one port") };
    assert_eq!(status.code(), Some(1));
    assert!(said.contains(&format!("cannot listen on {}", first.address)), "{said}");
}

#[test]
fn a_configuration_with_an_error_serves_nothing() {
    let path = unique_path("wrong.toml");
    std::fs::write(&path, "[[route]]\npath = \"/x\"\nimage = \"x\"\ntimeuot = \"3s\"\n").unwrap();
    let (code, _, said) = dcgi(&["serve", "-c", path.to_str().unwrap()], b"");
    assert_eq!(code, 1);
    let expected =
        format!("{}:4:1: unknown key `timeuot` in route `/x`; did you mean `timeout`?", path.display());
    assert!(said.contains(&expected), "{said}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_client_that_leaves_the_queue_leaves_no_container() {
    let server = Server::start(&format!("{ROUTE}max_concurrency = 1\nqueue_timeout = \"60s\"\n"));
    let first = endless(&server);
    let mut waiting = server.connect();
    waiting.send("GET /p?text&print=served HTTP/1.1\r\nHost: localhost\r\n\r\n");
    drop(waiting);
    drop(first);
    assert_eq!(server.get("/p?text&print=served").text(), "served");
    wait_until("the containers are gone", PATIENCE, || server.containers() == 0);
}

#[test]
fn containers_carry_the_labels_of_instance_route_and_request() {
    let server = Server::start(ROUTE);
    let mut connection = server.connect();
    connection.send("GET /p?text&print=begun&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = connection.head();
    let id = head.header("x-request-id").unwrap();
    assert_eq!(containers(&format!("dcgi.request={id}")), 1);
    let format = "{{.Label \"dcgi.instance\"}} {{.Label \"dcgi.route\"}}";
    let filter = format!("label=dcgi.request={id}");
    let labels = common::docker::docker(&["ps", "-a", "--filter", &filter, "--format", format]);
    let (instance, route) = labels.trim().split_once(' ').unwrap();
    assert!(instance.contains(&format!(".{}.", server.pid())), "{instance}");
    assert_eq!(route, "/p");
}
