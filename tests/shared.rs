//! Routes whose requests share a container, on every engine that is there.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::docker::{self, docker};
use common::embedded::named;
use common::engine::import_probe_as;
use common::processes::{name_of, parent_of, variables_of};
use common::{Connection, Done, PATIENCE, Server, Under, encoded, wait_until};

/// How long an engine on a busy machine may take to make a container.
const A_WHILE: Duration = Duration::from_secs(60);

/// An engine, with the probe's image under a name of its own.
struct Place {
    under: Under,
    folder: PathBuf,
    image: String,
}

impl Place {
    fn docker() -> Self {
        Self::new(Under::DockerAgents, common::server::unique_path("shared"))
    }

    fn embedded() -> Self {
        let folder = common::server::unique_path("shared");
        fs::create_dir_all(&folder).unwrap();
        Self::new(Under::Embedded { store: folder.join("store"), ordinary: None }, folder)
    }

    fn new(under: Under, folder: PathBuf) -> Self {
        let image = format!("dcgi-test/{}", folder.file_name().unwrap().to_str().unwrap().to_lowercase());
        let place = Self { under, folder, image };
        place.put_image("/app");
        place
    }

    /// Has the image's name stand for one whose programs begin in a directory.
    fn put_image(&self, directory: &str) {
        match &self.under {
            Under::Embedded { store, .. } => {
                import_probe_as(store, &self.image, &["--workdir", directory], |_| {});
            }
            _ => {
                let probe = docker::probe_image();
                let source = if directory == "/app" { probe.to_owned() } else { format!("{probe}-in-srv") };
                docker(&["tag", &source, &self.image]);
            }
        }
    }

    fn serve(&self, more: &str) -> Server {
        let engine = match self.under {
            Under::Embedded { .. } => "embedded",
            _ => "docker",
        };
        let config = format!(
            "engine = \"{engine}\"\n[[route]]\npath = \"/p\"\nimage = \"{}\"\npull = \"never\"\n\
             isolation = \"shared\"\n{more}\n",
            self.image
        );
        let server = Server::start_under(self.under.clone(), &config, |_| {});
        wait_until("it serves", A_WHILE, || server.get("/p?text&print=served").text() == "served");
        server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.folder);
        if let Under::DockerAgents = self.under {
            docker(&["rmi", &self.image]);
        }
    }
}

/// Each test as one of Docker's and one of the embedded engine's.
macro_rules! on_every_engine {
    ($($name:ident)*) => {
        mod on_docker { $(#[test] fn $name() { super::$name(&super::Place::docker()); })* }
        mod embedded { $(#[test] fn $name() { super::$name(&super::Place::embedded()); })* }
    };
}

on_every_engine! {
    requests_share_a_container_and_have_a_process_each
    replicas_take_turns
    a_container_that_dies_is_made_again_and_meanwhile_it_is_503
    a_container_that_does_not_answer_is_503_until_it_does
    programs_that_leave_children_leave_no_zombie_and_hold_no_answer
    a_body_that_is_not_read_holds_nothing_once_its_program_has_ended
    a_program_that_closes_its_streams_early_has_its_status_counted
    a_thousand_connections_at_once_are_answered_by_sixteen_programs
    sigterm_under_load_lets_all_requests_finish_and_leaves_nothing
    many_small_programs_out_of_memory_do_not_cost_the_container
    a_dcgi_that_is_killed_leaves_nothing_running
    a_header_block_of_a_mebibyte_is_502_and_the_next_request_is_served
    an_image_that_is_replaced_takes_over_without_a_request_lost
    what_the_agent_logs_is_not_for_programs
    a_program_does_nothing_to_the_agent_and_to_other_requests
    a_request_of_thirty_thousand_arguments_is_answered
    a_program_that_cannot_be_executed_costs_no_other_request_its_answer
}

#[track_caller]
fn answered_in(server: &Server) -> String {
    let response = server.get("/p?text&env=HOSTNAME");
    assert_eq!(response.status, 200, "{}", response.text());
    response.text()
}

/// The process id, on this machine, of the agent behind a server.
#[track_caller]
fn agent(server: &Server, place: &Place) -> u32 {
    match place.under {
        Under::Embedded { .. } => named(server.pid(), "dcgi-agent").pop_first().expect("an agent runs"),
        _ => {
            let name = format!("name=^/dcgi-{}-", server.pid());
            let container = docker(&["ps", "-q", "--filter", &name]);
            docker(&["inspect", "--format", "{{.State.Pid}}", container.trim()]).trim().parse().unwrap()
        }
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

fn requests_share_a_container_and_have_a_process_each(place: &Place) {
    let server = place.serve("");
    let first = answered_in(&server);
    let pids: BTreeSet<_> = (0..5)
        .map(|_| {
            assert_eq!(answered_in(&server), first);
            let status = server.get("/p?text&file=/proc/self/status").text();
            status.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().to_owned()
        })
        .collect();
    assert_eq!(pids.len(), 5, "{pids:?}");
}

fn replicas_take_turns(place: &Place) {
    let server = place.serve("replicas = 2");
    let mut seen = BTreeSet::new();
    wait_until("both have answered", A_WHILE, || {
        seen.insert(answered_in(&server));
        seen.len() == 2
    });
    let (first, second, third) = (answered_in(&server), answered_in(&server), answered_in(&server));
    assert_eq!((first == third, first == second), (true, false));
}

fn a_container_that_dies_is_made_again_and_meanwhile_it_is_503(place: &Place) {
    let server = place.serve("");
    let before = answered_in(&server);
    signal(agent(&server, place), "KILL");
    let mut refused = None;
    wait_until("another serves", A_WHILE, || {
        let response = server.get("/p?text&env=HOSTNAME");
        match response.status {
            200 => return response.text() != before,
            503 => refused = refused.take().or(response.header("retry-after").map(str::to_owned)),
            status => panic!("{status}: {}", response.text()),
        }
        false
    });
    assert!(
        refused.is_some_and(|seconds| seconds.parse::<u64>().is_ok()),
        "nobody was told when to come again"
    );
    server.wait_for_log("a shared container has died");
}

fn a_container_that_does_not_answer_is_503_until_it_does(place: &Place) {
    let server = place.serve("timeout = \"60s\"\nidle_timeout = \"60s\"");
    let agent = agent(&server, place);
    let before = answered_in(&server);
    // As `docker pause` does it, and anybody else may.
    signal(agent, "STOP");
    wait_until("requests are refused", A_WHILE, || {
        let mut connection = server.connect();
        connection.send("GET /p?text HTTP/1.1\r\nHost: localhost\r\n\r\n");
        server.log().contains("does not answer")
    });
    let response = server.get("/p?text");
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());
    signal(agent, "CONT");
    wait_until("it serves again", A_WHILE, || server.get("/p?text&print=served").text() == "served");
    assert_eq!(answered_in(&server), before, "another has taken its place");
}

fn programs_that_leave_children_leave_no_zombie_and_hold_no_answer(place: &Place) {
    let server = place.serve("");
    let agent = agent(&server, place);
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(server.get("/p?text&orphan=600000&print=answered").text(), "answered");
        assert!(began.elapsed() < Duration::from_secs(60), "the orphan holds the answer");
    }
    // They are in their program's process group, and go with it. A daemon stays, and holds nothing up either.
    for _ in 0..3 {
        assert_eq!(server.get("/p?text&daemon=2000&print=answered").text(), "answered");
    }
    let children = || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        // Those that share its work stay.
        let workers = named(agent, "dcgi-worker");
        pids.filter(|pid| parent_of(*pid) == Some(agent) && !workers.contains(pid)).count()
    };
    wait_until("no child is left", PATIENCE, || children() == 0);
}

fn a_body_that_is_not_read_holds_nothing_once_its_program_has_ended(place: &Place) {
    let server = place.serve("linger = \"1h\"");
    let pipes = || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
    };
    assert_eq!(server.get("/p?text&print=here").text(), "here");
    let before = pipes();
    for _ in 0..20 {
        let mut connection = server.connect();
        connection.send_head("POST", "/p?text&print=here", 1 << 20);
        // More than a pipe holds, and not all of it.
        connection.send([b'x'; 200_000]);
        assert_eq!(connection.response().text(), "here");
    }
    wait_until("nothing of them is held", PATIENCE, || pipes() <= before);
}

fn a_program_that_closes_its_streams_early_has_its_status_counted(place: &Place) {
    let server = place.serve("");
    let mut connection = server.connect();
    let response = connection.post("/p?close=0&text&print=answered&sleep=50&exit=3", vec![b'x'; 1 << 20]);
    assert_eq!((response.status, response.text().as_str()), (200, "answered"));
    server.wait_for_log_of(response.id(), "exit status 3");
    let response = server.get("/p?err=why&close=1&close=2&sleep=50&exit=3");
    assert_eq!(response.status, 502);
    assert_eq!(server.get("/p?text&print=served").text(), "served");
}

fn a_thousand_connections_at_once_are_answered_by_sixteen_programs(place: &Place) {
    let server = place
        .serve("max_concurrency = 16\nqueue = 1000\nqueue_timeout = \"60s\"\ntimeout = \"60s\"\npids = 64");
    let mut connections: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    for connection in &mut connections {
        let head = format!("Host: {}\r\nConnection: close", server.address);
        connection.send(format!("GET /p?text&print=served&sleep=100 HTTP/1.1\r\n{head}\r\n\r\n"));
    }
    let is_done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !is_done.load(Ordering::Relaxed) {
                most = most.max(programs_in_the_query("print=served&sleep=100", &server));
            }
            most
        });
        let _done = Done(&is_done);
        for mut connection in connections {
            let response = connection.response();
            assert_eq!((response.status, response.text().as_str()), (200, "served"));
        }
        is_done.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert!((1..=16).contains(&most), "{most} programs at once");
}

fn sigterm_under_load_lets_all_requests_finish_and_leaves_nothing(place: &Place) {
    let mut server = place.serve("timeout = \"5m\"\nidle_timeout = \"5m\"");
    let mut connections: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.send_head("POST", "/p?text&print=begun&read=1&print=-ended", 1);
    }
    let mut answers: Vec<_> = connections.iter_mut().map(Connection::head).collect();
    let agent = agent(&server, place);
    server.signal("TERM");
    wait_until("the port is closed", PATIENCE, || TcpStream::connect(server.address).is_err());
    for (connection, answer) in connections.iter_mut().zip(&mut answers) {
        connection.send("x");
        connection.body(answer);
        assert_eq!((answer.text().as_str(), answer.complete), ("begun-ended", true));
    }
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(name_of(agent), None, "its agent is left");
    if let Under::DockerAgents = place.under {
        assert_eq!(docker(&["ps", "-aq", "--filter", &format!("name=^/dcgi-{}-", server.pid())]), "");
    }
}

fn many_small_programs_out_of_memory_do_not_cost_the_container(place: &Place) {
    let server = place.serve("memory = \"32MiB\"\nmax_concurrency = 16\ncpus = \"none\"");
    let before = agent(&server, place);
    // Each is smaller than the agent, where that maps much of a dcgi that is built without optimizations.
    let mut connections: Vec<_> = (0..12).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.send("GET /p?hold=4000000&sleep=500&text HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let responses: Vec<_> = connections.iter_mut().map(Connection::response).collect();
    let killed: Vec<_> = responses.iter().filter(|response| response.status == 502).collect();
    assert!(!killed.is_empty(), "no program was out of memory");
    for response in &killed {
        server.wait_for_log_of(response.id(), "out of memory");
    }
    assert!(responses.iter().all(|response| matches!(response.status, 200 | 502)));
    assert_eq!(agent(&server, place), before);
}

fn a_dcgi_that_is_killed_leaves_nothing_running(place: &Place) {
    let mut server = place.serve("");
    let mut connection = server.connect();
    let head = format!("Host: {}", server.address);
    connection.send(format!("GET /p?text&print=begun&forever HTTP/1.1\r\n{head}\r\n\r\n"));
    connection.head();
    assert_eq!(programs_in_the_query("print=begun&forever", &server), 1);
    let agent = agent(&server, place);
    server.signal("KILL");
    server.wait();
    wait_until("the agent is gone", A_WHILE, || name_of(agent).is_none());
    wait_until("its program is gone", A_WHILE, || programs_in_the_query("print=begun&forever", &server) == 0);
    if let Under::DockerAgents = place.under {
        let name = format!("name=^/dcgi-{}-", server.pid());
        wait_until("its container is gone", A_WHILE, || docker(&["ps", "-aq", "--filter", &name]).is_empty());
    }
}

/// How many programs run for a query string of a server's.
fn programs_in_the_query(query: &str, server: &Server) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let port = format!("SERVER_PORT={}\0", server.address.port());
    let is_one = |variables: &str| variables.contains(query) && variables.contains(&port);
    let found: Vec<_> = pids.filter(|pid| is_one(&variables_of(*pid))).collect();
    // While it is looked for others, some end and others take their place: those that are still there were there together.
    found.into_iter().filter(|pid| is_one(&variables_of(*pid))).count()
}

fn a_header_block_of_a_mebibyte_is_502_and_the_next_request_is_served(place: &Place) {
    let server = place.serve("");
    let response = server.get(&format!("/p?print={}&fill=1048576", encoded("X-Long: ")));
    assert_eq!(response.status, 502);
    assert_eq!(server.get("/p?text&print=served").text(), "served");
}

fn what_the_agent_logs_is_not_for_programs(place: &Place) {
    let server = place.serve("");
    let response = server.get("/p?text&pour=/proc/1/fd/2&print=poured");
    assert!(!response.text().contains("poured"), "{}", response.text());
    assert!(server.log().len() < 1 << 20);
    assert_eq!(server.get("/p?text&print=served").text(), "served");
}

fn a_program_does_nothing_to_the_agent_and_to_other_requests(place: &Place) {
    for user in ["", "user = \"1234\""] {
        let server = place.serve(user);
        let mut other = server.connect();
        other.send_head("GET", "/p?text&print=here&forever", 0);
        assert_eq!(other.head().status, 200);
        other.expect("here");
        let text = server.get("/p?text&reach").text();
        let mut reached: BTreeSet<_> = text.lines().collect();
        let agents: Vec<_> = reached.extract_if(.., |line| line.starts_with("dcgi-")).collect();
        assert!(agents.contains(&"dcgi-agent: ") && agents.iter().all(|line| line.ends_with(": ")), "{text}");
        assert_eq!(reached, BTreeSet::from(["probe: "]), "{text}");
        // Its own children are a program's own.
        let text = server.get("/p?text&child=sleep%3D300&reach").text();
        assert!(text.lines().any(|line| line == "probe: signal trace environ mem exe fd group"), "{text}");
        // And it is traced, or seized, by nobody.
        assert_eq!(server.get("/p?text&print=served").text(), "served");
    }
}

fn a_request_of_thirty_thousand_arguments_is_answered(place: &Place) {
    let server = place.serve("indexed_query = true");
    let response = server.get(&format!("/p?{}", ["a"; 30_000].join("+")));
    // The program's own words: it has run, with all of them.
    assert_eq!(response.status, 500);
    assert!(response.text().starts_with("the probe does not know"), "{}", response.text());
    assert_eq!(server.get("/p?text&print=served").text(), "served");
}

fn a_program_that_cannot_be_executed_costs_no_other_request_its_answer(place: &Place) {
    let folder = place.folder.join("programs");
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("program");
    let can_be_executed = |it_can| {
        let mode = if it_can { 0o755 } else { 0o644 };
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::copy(common::embedded::compiled("probe.rs"), &program).unwrap();
    can_be_executed(true);
    let server = place.serve(&format!(
        "volumes = [\"{}:/programs:ro\"]\nentrypoint = [\"/programs/program\"]",
        folder.display()
    ));
    let mut connection = server.connect();
    can_be_executed(false);
    for number in 0..200 {
        let response = connection.get("/p?text");
        assert_eq!(response.status, 502, "request {number}: {}", response.text());
    }
    can_be_executed(true);
    assert_eq!(connection.get("/p?text&print=again").text(), "again");
}

fn an_image_that_is_replaced_takes_over_without_a_request_lost(place: &Place) {
    let server = place.serve("");
    let before = answered_in(&server);
    assert_eq!(server.get("/p?text&cwd").text(), "/app\n");
    place.put_image("/srv");
    // Meanwhile each request is answered, by the one or by the other.
    wait_until("the other image answers", A_WHILE, || {
        let response = server.get("/p?text&cwd");
        assert_eq!(response.status, 200, "{}", response.text());
        response.text() == "/srv\n"
    });
    assert_ne!(answered_in(&server), before);
    let only_one = || match place.under {
        Under::Embedded { .. } => named(server.pid(), "dcgi-agent").len(),
        _ => docker(&["ps", "-aq", "--filter", &format!("name=^/dcgi-{}-", server.pid())]).lines().count(),
    };
    wait_until("the one before is gone", A_WHILE, || only_one() == 1);
}
