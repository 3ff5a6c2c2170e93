//! Containers of the Docker engine that wait for their requests: `warm`.

mod common;

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use common::docker::{PrivateEngine, docker};
use common::{Connection, PATIENCE, Server, wait_until};

/// How long an engine on a busy machine may take to make a few containers.
const A_WHILE: Duration = Duration::from_secs(60);

fn route(more: &str) -> String {
    format!("[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\npull = \"never\"\n{more}\n")
}

/// The containers of a server, by their short ids: what a program in one has as `HOSTNAME`.
fn containers(server: &Server) -> BTreeSet<String> {
    listed(server, &[])
}

/// Those that run, and were not made for a request that was there already.
fn running(server: &Server) -> BTreeSet<String> {
    let (name, form) = (format!("name=^/dcgi-{}-", server.pid()), "{{.ID}} {{.Label \"dcgi.request\"}}");
    let all = docker(&["ps", "--format", form, "--filter", &name]);
    all.lines().filter_map(|line| line.strip_suffix(' ')).map(str::to_owned).collect()
}

fn listed(server: &Server, more: &[&str]) -> BTreeSet<String> {
    let name = format!("name=^/dcgi-{}-", server.pid());
    let arguments = [&["ps", "-a", "--format", "{{.ID}}", "--filter", &name], more].concat();
    docker(&arguments).lines().map(str::to_owned).collect()
}

/// Those that wait, once there are as many. What an engine has started has not dialled in yet: a request that comes too
/// early has a container of its own.
#[track_caller]
fn waiting(server: &Server, count: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    wait_until(&format!("{count} containers wait"), A_WHILE, || {
        found = running(server);
        found.len() == count && found.iter().all(|container| has_dialled_in(container))
    });
    found
}

/// Whether a container's agent has said who it is: then its door is gone.
fn has_dialled_in(container: &str) -> bool {
    let form = "{{range .Mounts}}{{if eq .Type \"bind\"}}{{.Source}}{{end}}{{end}}";
    inspected(form, container).is_some_and(|door| !std::path::Path::new(&door).exists())
}

/// What the engine says of a container; `None` where that has gone since it was listed.
#[allow(clippy::disallowed_methods)]
fn inspected(form: &str, container: &str) -> Option<String> {
    let output = Command::new("docker").args(["inspect", "--format", form, container]).output().unwrap();
    let is_gone = String::from_utf8_lossy(&output.stderr).contains("No such object");
    assert!(output.status.success() || is_gone, "{output:?}");
    (!is_gone).then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// In which container a request was answered.
#[track_caller]
fn answered_in(server: &Server) -> String {
    let response = server.get("/p?text&env=HOSTNAME");
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().trim_start_matches('=').trim_end().to_owned()
}

#[test]
fn a_request_is_answered_in_a_container_that_was_there_before() {
    let server = Server::start(&route("warm = 2"));
    let before = waiting(&server, 2);
    let first = answered_in(&server);
    assert!(before.contains(&first), "{first} is none of {before:?}");
    // Each has one request, and another takes its place.
    wait_until("it is gone", A_WHILE, || !containers(&server).contains(&first));
    let after = waiting(&server, 2);
    assert!(after.contains(&answered_in(&server)));
}

#[test]
fn nothing_is_there_before_where_nothing_is_to_be() {
    let server = Server::start(&route("warm = 0"));
    answered_in(&server);
    wait_until("its container is gone", PATIENCE, || containers(&server).is_empty());
}

#[test]
fn a_route_that_is_in_use_has_containers_ready_by_itself() {
    let server = Server::start(&route(""));
    assert_eq!(containers(&server), BTreeSet::new(), "before anybody has asked");
    answered_in(&server);
    let before = waiting(&server, 2);
    assert!(before.contains(&answered_in(&server)));
}

#[test]
fn there_are_never_more_than_may_run_and_wait() {
    let server = Server::start(&route("warm = 2\nmax_concurrency = 3\nqueue = 100\nqueue_timeout = \"60s\""));
    waiting(&server, 2);
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..12).map(|_| scope.spawn(|| server.get("/p?text&print=served"))).collect();
        while !requests.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let now = containers(&server).len();
            assert!(now <= 5, "{now} containers");
        }
        for request in requests {
            assert_eq!(request.join().unwrap().text(), "served");
        }
    });
}

#[test]
fn a_container_that_dies_while_it_waits_costs_no_request() {
    let server = Server::start(&route("warm = 1"));
    let killed = waiting(&server, 1).pop_first().unwrap();
    docker(&["kill", &killed]);
    assert_ne!(answered_in(&server), killed);
    let next = waiting(&server, 1).pop_first().unwrap();
    assert_ne!(next, killed);
    assert_eq!(answered_in(&server), next);
}

#[test]
fn an_agent_that_is_killed_while_it_waits_costs_no_request() {
    let server = Server::start(&route("warm = 1"));
    let container = waiting(&server, 1).pop_first().unwrap();
    let agent = docker(&["inspect", "--format", "{{.State.Pid}}", &container]);
    assert!(Command::new("kill").args(["-KILL", agent.trim()]).status().unwrap().success());
    assert_ne!(answered_in(&server), container);
}

#[test]
fn a_container_that_is_paused_is_left_and_its_request_runs_once_elsewhere() {
    let server = Server::start(&route("warm = 1"));
    let paused = waiting(&server, 1).pop_first().unwrap();
    docker(&["pause", &paused]);
    assert_ne!(answered_in(&server), paused);
    // It never runs what it was offered: it is gone, paused or not.
    wait_until("the paused one is removed", A_WHILE, || !containers(&server).contains(&paused));
}

#[test]
fn a_tag_that_is_moved_is_followed() {
    let tag = format!("dcgi-test/moved-{}", std::process::id());
    let probe = common::docker::probe_image();
    docker(&["tag", probe, &tag]);
    let config = route("warm = 1").replace("IMAGE", &tag);
    let server = Server::start(&config);
    let before = waiting(&server, 1).pop_first().unwrap();
    assert_eq!(server.get("/p?text&cwd").text(), "/app\n");
    waiting(&server, 1);
    docker(&["tag", &format!("{probe}-in-srv"), &tag]);
    wait_until("requests see the other image", PATIENCE, || server.get("/p?text&cwd").text() == "/srv\n");
    let old = docker(&["images", "--no-trunc", "-q", probe]);
    wait_until("what waits is of the other image", A_WHILE, || {
        let now = waiting(&server, 1).pop_first().unwrap();
        let image = inspected("{{.Image}}", &now);
        now != before && image.is_some_and(|image| image != old.trim())
    });
    drop(server);
    docker(&["rmi", &tag]);
}

#[test]
fn sigterm_under_load_lets_all_requests_finish_and_leaves_nothing() {
    let mut server = Server::start(&route("warm = 2\ntimeout = \"5m\"\nidle_timeout = \"5m\""));
    waiting(&server, 2);
    let mut connections: Vec<_> = (0..6).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.send_head("POST", "/p?text&print=begun&read=1&print=-ended", 1);
    }
    let mut answers: Vec<_> = connections.iter_mut().map(Connection::head).collect();
    server.signal("TERM");
    wait_until("the port is closed", A_WHILE, || TcpStream::connect(server.address).is_err());
    for (connection, answer) in connections.iter_mut().zip(&mut answers) {
        connection.send("x");
        connection.body(answer);
        assert_eq!((answer.text().as_str(), answer.complete), ("begun-ended", true));
    }
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(containers(&server), BTreeSet::new());
    let left = std::fs::read_dir("/run/dcgi").unwrap().flatten().map(|entry| entry.file_name());
    let own = format!(".{}.", server.pid());
    assert_eq!(left.filter(|name| name.to_string_lossy().contains(&own)).count(), 0);
}

#[test]
fn a_dcgi_that_is_killed_leaves_no_container_that_waits() {
    let mut server = Server::start(&route("warm = 2"));
    waiting(&server, 2);
    server.signal("KILL");
    server.wait();
    // Nobody starts another one: their agents see that it is gone, and the engine removes what has ended.
    wait_until("they are gone", A_WHILE, || containers(&server).is_empty());
}

#[test]
fn an_engine_that_is_restarted_costs_what_waited_and_no_request_behind_it() {
    let engine = PrivateEngine::start();
    let config =
        format!("{}\n{}", route("warm = 1"), route("isolation = \"shared\"").replace("/p", "/shared"));
    let mut server = Server::start_with(&config, |command| {
        command.env("DOCKER_HOST", engine.host());
    });
    let list = || engine.docker(&["ps", "-aq", "--filter", "label=dcgi.instance"]).lines().count();
    wait_until("one waits, and one is shared", A_WHILE, || list() == 2);
    let served = |path: &str| server.get(&format!("{path}?text&print=served")).text() == "served";
    wait_until("both serve", A_WHILE, || served("/p") && served("/shared"));

    engine.kill();
    engine.up();
    wait_until("both serve again", A_WHILE, || served("/p") && served("/shared"));
    server.signal("TERM");
    server.wait();
    wait_until(&format!("nothing is left of what says\n{}", server.log()), A_WHILE, || list() == 0);
}

#[test]
fn the_image_and_what_it_says_are_as_without_an_agent() {
    let server = Server::start(&format!(
        "{}\n{}",
        route("warm = 1\ntmpfs = []\nuser = \"1234:2345\"\nread_only = false"),
        route("warm = 0\ntmpfs = []\nuser = \"1234:2345\"\nread_only = false").replace("/p", "/cold"),
    ));
    let container = waiting(&server, 1).pop_first().unwrap();
    assert_eq!(docker(&["diff", &container]), "", "the agent is in the container's own files");
    let said = |path: &str| {
        let steps =
            "text&cwd&args&env=PATH&env=HOME&env=FROM_IMAGE&env=CONTENT_LENGTH&file=/proc/self/status";
        let response = server.get(&format!("{path}?{steps}"));
        let text = response.text();
        let kept = |line: &&str| !line.contains(':') || line.starts_with("Uid") || line.starts_with("Cap");
        let lines: Vec<_> = text.lines().filter(kept).map(str::to_owned).collect();
        (response.status, lines)
    };
    let warm = said("/p");
    assert_eq!(warm, said("/cold"));
    assert_eq!(warm.0, 200);
}

#[test]
fn an_engine_that_cannot_have_agents_serves_without() {
    // Where no agent can dial in: the directory for it cannot be made.
    let server = Server::start_with(&route("warm = 1"), |command| {
        command.env("DCGI_RUNTIME_DIR", "/proc/nowhere");
    });
    answered_in(&server);
    server.wait_for_log("no container is kept ready for its requests: no container can have an agent here");
}

#[test]
fn a_program_takes_nothing_of_the_agent_that_has_started_it() {
    for user in ["", "user = \"1234\""] {
        let server = Server::start(&route(&format!("warm = 1\n{user}")));
        waiting(&server, 1);
        let text = server.get("/p?text&reach").text();
        let agent = text.lines().find_map(|line| line.strip_prefix("dcgi-agent: ")).expect("it is process 1");
        let reached: Vec<_> = agent.split(' ').filter(|what| *what != "signal" && *what != "limit").collect();
        assert_eq!(reached, [""; 0], "{text}");
        // Its own children are a program's own.
        let text = server.get("/p?text&child=sleep%3D300&reach").text();
        assert!(text.lines().any(|line| line.starts_with("probe: signal trace")), "{text}");
    }
}
