//! The embedded engine under load, under fault, and at its end: what it leaves is nothing.

mod common;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::embedded::{
    Process, Store, cgroups_of, descendants, named, processes, store_with, wait_until_idle,
};
use common::{Connection, Done, PATIENCE, Server, pause, wait_until};
use rustix::process::{Pid, Signal, kill_process};

fn probe() -> Store {
    store_with(&[("test/probe", "probe.rs", &["/app/probe"])])
}

const ROUTE: &str = "[[route]]\npath = \"/\"\nimage = \"test/probe\"\n";

/// What a server holds, and what is left of what it has made.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    processes: Vec<String>,
    cgroups: BTreeSet<PathBuf>,
    mounts_of_the_host: String,
    namespaces: BTreeSet<PathBuf>,
    descriptors: BTreeMap<String, usize>,
    files: BTreeSet<PathBuf>,
}

impl Holdings {
    fn of(server: &Server, store: &Store) -> Self {
        let below = descendants(server.pid());
        let links = |pid: u32| {
            let entries = fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
            entries.filter_map(|entry| fs::read_link(entry.path()).ok())
        };
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
            *descriptors.entry(target.split(":[").next().unwrap().to_owned()).or_default() += 1;
        }
        Self {
            cgroups: cgroups_of(server.pid()),
            mounts_of_the_host: fs::read_to_string("/proc/self/mountinfo").unwrap(),
            namespaces: below.iter().flat_map(|process| links(process.pid)).collect(),
            processes: below.into_iter().map(|process| process.name).collect(),
            descriptors,
            files: store.listing(),
        }
    }
}

/// Sends requests over this many connections at once, and gives how often each status came.
fn load(server: &Server, connections: usize, requests: usize, path: &str) -> BTreeMap<u16, usize> {
    let left = AtomicUsize::new(requests);
    let counted = std::thread::scope(|scope| {
        let send = || {
            let mut connection = server.connect();
            let mut statuses = BTreeMap::<u16, usize>::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let response = connection.get(path);
                assert!(response.complete);
                *statuses.entry(response.status).or_default() += 1;
            }
            statuses
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut all = BTreeMap::new();
    for (status, count) in counted.into_iter().flatten() {
        *all.entry(status).or_default() += count;
    }
    all
}

#[test]
fn ten_thousand_requests_leave_nothing() {
    let store = probe();
    let server = store.serve(ROUTE);
    assert_eq!(server.get("/?text").status, 200);
    wait_until_idle(&server);
    let before = Holdings::of(&server, &store);
    assert_eq!(before.processes, ["dcgi-zygote"]);

    assert_eq!(load(&server, 8, 2_000, "/?text&print=x"), BTreeMap::from([(200, 2_000)]));
    let (early, _) = server.memory();
    assert_eq!(load(&server, 8, 8_000, "/?text&print=x"), BTreeMap::from([(200, 8_000)]));
    let (late, peak) = server.memory();
    // How much it is in all says little here: most is the code of an executable that is not optimized.
    println!("resident: {early} bytes after 2,000 requests, {late} after 10,000, {peak} at most");
    assert!(late < early + (2 << 20), "it grows: {early} bytes after 2,000 requests, {late} after 10,000");

    wait_until_idle(&server);
    let closed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("connections are closed, and nothing is held", Duration::from_secs(20), || {
            Holdings::of(&server, &store) == before
        });
    }));
    if closed.is_err() {
        let after = Holdings::of(&server, &store);
        assert_eq!(after.descriptors, before.descriptors);
        assert_eq!(after, before);
    }
}

/// A process that is in the groups of a program of this server, and in nothing else of it: as one that has got away from
/// its slot, by whatever way.
fn one_that_got_away(server: &Server) -> (std::process::Child, BTreeSet<PathBuf>) {
    let process = Command::new("sleep").arg("1000").spawn().unwrap();
    let of_slots = |group: &PathBuf| !group.file_name().unwrap().to_string_lossy().contains('.');
    let groups: BTreeSet<_> = cgroups_of(server.pid()).into_iter().filter(of_slots).collect();
    assert!(!groups.is_empty(), "no slot has a group");
    for group in &groups {
        fs::write(group.join("cgroup.procs"), process.id().to_string()).unwrap();
    }
    (process, groups)
}

#[test]
fn what_got_away_from_its_slot_ends_with_it() {
    let store = probe();
    let mut server = store.serve(&format!("{ROUTE}warm = 1\n"));
    assert_eq!(server.get("/?text&print=served").text(), "served");
    let (mut process, _) = one_that_got_away(&server);
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(process.try_wait().unwrap().and_then(|status| status.signal()), Some(9));
    assert_eq!(cgroups_of(server.pid()), BTreeSet::new());
}

#[test]
fn what_outlived_its_dcgi_ends_with_the_next_start() {
    let store = probe();
    let mut server = store.serve(&format!("{ROUTE}warm = 1\n"));
    assert_eq!(server.get("/?text&print=served").text(), "served");
    let (mut process, groups) = one_that_got_away(&server);
    server.signal("KILL");
    assert!(!server.wait().success());
    assert!(process.try_wait().unwrap().is_none(), "it has not outlived its dcgi");
    let next = store.serve(ROUTE);
    let mut ended = None;
    wait_until("what has outlived it ends", PATIENCE, || {
        ended = process.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().signal(), Some(9));
    wait_until("its groups are removed", PATIENCE, || groups.iter().all(|group| !group.exists()));
    assert_eq!(next.get("/?text&print=served").text(), "served");
}

/// Begins a request whose program has answered, and waits for a byte to go on.
fn begin(server: &Server) -> (Connection, common::Response) {
    let mut connection = server.connect();
    connection.send_head("POST", "/?text&print=begun&read=1&print=-ended", 1);
    let head = connection.head();
    assert_eq!(head.status, 200);
    connection.expect("begun");
    (connection, head)
}

#[track_caller]
fn nothing_is_left(server: u32, processes_seen: &[Process]) {
    wait_until("all processes end", PATIENCE, || {
        let now = processes();
        let lives =
            |seen: &Process| now.get(&seen.pid).is_some_and(|now| now.state != 'Z' && now.name == seen.name);
        !processes_seen.iter().any(lives)
    });
    wait_until("all control groups are removed", PATIENCE, || cgroups_of(server).is_empty());
}

/// Ends it as a service manager does.
#[track_caller]
fn end(mut server: Server, seen: &[Process]) {
    server.signal("TERM");
    let status = server.wait();
    assert!(status.success(), "{status}");
    // Not a moment later: it has waited for all of it.
    assert_eq!(cgroups_of(server.pid()), BTreeSet::new());
    nothing_is_left(server.pid(), seen);
}

#[test]
fn requests_that_run_at_sigterm_finish_and_nothing_is_left() {
    let store = probe();
    let mut server = store.serve(ROUTE);
    let running: Vec<_> = (0..8).map(|_| begin(&server)).collect();
    let seen = descendants(server.pid());
    assert_eq!(seen.iter().filter(|process| process.name == "probe").count(), 8);
    assert!(cgroups_of(server.pid()).len() > 8);
    server.signal("TERM");
    server.wait_for_log("shutting down");
    for (mut connection, mut response) in running {
        connection.send("x");
        connection.body(&mut response);
        assert!(response.complete);
        assert_eq!(response.text(), "-ended");
    }
    let status = server.wait();
    assert!(status.success(), "{status}");
    assert_eq!(cgroups_of(server.pid()), BTreeSet::new());
    nothing_is_left(server.pid(), &seen);
}

#[test]
fn sigkill_ends_every_program_and_the_next_start_clears_away_the_rest() {
    let store = probe();
    let mut server = store.serve(ROUTE);
    let pid = server.pid();
    let files = store.listing();
    let mut waiting: Vec<_> = (0..16)
        .map(|_| {
            let mut connection = server.connect();
            connection.send("GET /?forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
            connection
        })
        .collect();
    wait_until("16 programs run", PATIENCE, || named(pid, "probe").len() == 16);
    let seen = descendants(pid);
    assert!(!cgroups_of(pid).is_empty(), "there is nothing to clear away");
    server.signal("KILL");
    assert!(!server.wait().success());
    assert!(waiting.iter_mut().all(Connection::is_closed_by_server));
    wait_until("every process ends", PATIENCE, || {
        let now = processes();
        seen.iter().all(|process| now.get(&process.pid).is_none_or(|now| now.state == 'Z'))
    });
    // Any other that runs here may be first.
    let next = store.serve(ROUTE);
    assert_eq!(cgroups_of(pid), BTreeSet::new());
    assert_eq!(next.get("/?text&print=served").text(), "served");
    assert_eq!(store.listing(), files);
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    wait_until("it is dead", PATIENCE, || processes().get(&pid).is_none_or(|process| process.state == 'Z'));
}

/// The one process below a server that has a name.
#[track_caller]
fn only(server: &Server, name: &str) -> u32 {
    let found = named(server.pid(), name);
    assert_eq!(found.len(), 1, "{name}: {:?}", descendants(server.pid()));
    found.into_iter().next().unwrap()
}

fn parent(pid: u32) -> u32 {
    processes()[&pid].parent
}

/// Processes that wait to become a program, each with the init above it.
fn waiting(server: &Server) -> Vec<u32> {
    let below = descendants(server.pid());
    let is_init = |pid: u32| below.iter().any(|process| process.pid == pid && process.name == "dcgi-init");
    below.iter().filter(|p| p.name == "dcgi-init" && is_init(p.parent)).map(|p| p.pid).collect()
}

/// Kills one of a server's processes while one request runs and two sandboxes wait. The requests behind it succeed;
/// the one that runs may or may not be concerned.
#[track_caller]
fn survives(victim: impl Fn(&Server) -> u32, is_cut: bool) {
    survives_once(victim, is_cut, |_| {});
}

/// The same, where the requests come only once something more has happened.
#[track_caller]
fn survives_once(victim: impl Fn(&Server) -> u32, is_cut: bool, happened: impl Fn(&[Process])) {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}warm = 2\n"));
    let (mut connection, mut response) = begin(&server);
    wait_until("two wait", PATIENCE, || waiting(&server).len() == 2);
    let seen = descendants(server.pid());
    kill(victim(&server));
    happened(&seen);
    for _ in 0..10 {
        let next = server.get("/?text&print=served");
        assert_eq!((next.status, next.text().as_str()), (200, "served"));
    }
    _ = connection.try_send("x");
    connection.body(&mut response);
    assert_eq!(response.complete, !is_cut);
    wait_until("two wait again", PATIENCE, || waiting(&server).len() == 2);
    let seen = [seen, descendants(server.pid())].concat();
    end(server, &seen);
}

#[test]
fn a_zygote_that_is_killed_takes_its_containers_along_and_another_makes_more() {
    // With it all containers end, those that wait too: a request that gets one just then is a 503. Later ones are not.
    let all_are_gone = |seen: &[Process]| {
        wait_until("its containers have gone", PATIENCE, || {
            let now = processes();
            seen.iter().all(|process| now.get(&process.pid).is_none_or(|now| now.state == 'Z'))
        });
    };
    survives_once(|server| only(server, "dcgi-zygote"), true, all_are_gone);
}

#[test]
fn a_slot_that_is_killed_takes_its_container_along_and_others_serve() {
    survives(|server| parent(parent(only(server, "probe"))), true);
}

#[test]
fn an_init_that_is_killed_takes_its_program_along_and_others_serve() {
    survives(|server| parent(only(server, "probe")), true);
}

#[test]
fn a_program_that_is_killed_is_its_requests_affair() {
    survives(|server| only(server, "probe"), true);
}

#[test]
fn a_sandbox_that_is_killed_while_it_waits_is_not_missed() {
    let init = Cell::new(0);
    let victim = |server: &Server| {
        let victim = waiting(server)[0];
        init.set(parent(victim));
        victim
    };
    // Its init is who sees that, and it may be a moment until it is its turn.
    let init_ended = |_: &[Process]| {
        wait_until("its init has ended", PATIENCE, || {
            processes().get(&init.get()).is_none_or(|process| process.state == 'Z')
        });
    };
    survives_once(victim, false, init_ended);
}

#[test]
fn an_init_that_is_killed_while_its_sandbox_waits_is_not_missed() {
    survives(|server| parent(waiting(server)[0]), false);
}

#[test]
fn a_slot_that_is_killed_while_its_sandbox_waits_is_not_missed() {
    survives(|server| parent(parent(waiting(server)[0])), false);
}

#[test]
fn a_request_that_has_no_answer_yet_when_the_zygote_is_killed_fails_at_once() {
    let store = probe();
    let server = store.serve(ROUTE);
    let mut connection = server.connect();
    connection.send("GET /?forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_until("it runs", PATIENCE, || named(server.pid(), "probe").len() == 1);
    let seen = descendants(server.pid());
    kill(only(&server, "dcgi-zygote"));
    let response = connection.response();
    assert!(matches!(response.status, 502 | 503), "{response:?}");
    end(server, &seen);
}

#[test]
fn thousands_at_once_are_served_or_refused_and_no_more_run_than_may() {
    const CLIENTS: usize = 4096;
    let store = probe();
    // All connect before the first one asks, which takes longer than the usual time for a header on a busy machine.
    let server = store.serve(&format!(
        "header_timeout = \"2m\"\nmax_connections = {}\n{ROUTE}max_concurrency = 8\nqueue = 64\nqueue_timeout = \"1m\"\n",
        CLIENTS + 10
    ));
    let seen_most = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let mut statuses = BTreeMap::<u16, usize>::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut before = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let now = named(server.pid(), "probe");
                // Looking takes its time: those that are there twice were there at once, in between.
                seen_most.fetch_max(before.intersection(&now).count(), Ordering::Relaxed);
                before = now;
                pause(Duration::from_millis(5));
            }
        });
        let _done = Done(&done);
        let mut connections: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
        for connection in &mut connections {
            connection.send("GET /?text&sleep=300 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        for mut connection in connections {
            *statuses.entry(connection.response().status).or_default() += 1;
        }
    });
    let most = seen_most.into_inner();
    println!("{statuses:?}, at most {most} at once");
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [200, 503]);
    // The first eight, and the queue behind them.
    assert!(statuses[&200] >= 72, "{statuses:?}");
    assert_eq!(most, 8);
    assert_eq!(server.get("/?text&print=served").text(), "served");
    let seen = descendants(server.pid());
    end(server, &seen);
}

/// Has a command begin by another, which executes it in the end.
fn through(program: &str, arguments: &[&str], command: &mut Command) {
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        outer.env(name, value.unwrap());
    }
    *command = outer;
}

#[test]
fn when_descriptors_run_out_requests_are_refused_and_later_served_again() {
    let store = probe();
    let server = store.serve_with(&format!("{ROUTE}max_concurrency = 64\nwarm = 0\n"), |command| {
        through("prlimit", &["--nofile=64:64"], command);
    });
    assert_eq!(server.get("/?text&print=served").text(), "served");
    let mut statuses = BTreeMap::<u16, usize>::new();
    let mut connections: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for connection in &mut connections {
        // Closed behind each answer, for those that are not accepted yet.
        connection.send("GET /?text&sleep=100 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    }
    for mut connection in connections {
        *statuses.entry(connection.response().status).or_default() += 1;
    }
    println!("{statuses:?}");
    assert!(statuses.keys().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.contains_key(&503), "descriptors have not run out: {statuses:?}");
    for _ in 0..10 {
        assert_eq!(server.get("/?text&print=served").text(), "served");
    }
    let seen = descendants(server.pid());
    end(server, &seen);
}

#[test]
fn a_program_that_wants_more_memory_than_its_route_has_is_killed_and_the_log_says_why() {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}memory = \"16m\"\n"));
    for _ in 0..3 {
        let response = server.get("/?alloc=64000000");
        assert_eq!(response.status, 502);
        server.wait_for_log_of(response.id(), "killed: out of memory (the route's `memory` limit)");
        // That slot's count is not the next one's.
        let response = server.get("/?kill=9");
        assert_eq!(response.status, 502);
        let line = server.wait_for_log_of(response.id(), "killed");
        assert!(line.contains("killed by signal 9") && !line.contains("out of memory"), "{line}");
        assert_eq!(server.get("/?text&print=served").text(), "served");
    }
}

#[test]
fn what_a_program_puts_into_tcp_buffers_is_bounded_by_its_memory() {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}memory = \"16m\"\n"));
    let response = server.get("/?text&tcp=200000000");
    assert_eq!(response.status, 200, "{}", response.text());
    let queued: usize = response.text().trim_end().parse().unwrap();
    // Each of its connections has a few pages beyond.
    assert!((1 << 20..48 << 20).contains(&queued), "{queued} bytes are in buffers");
    assert!(!server.log().contains("TCP buffers"), "{}", server.log());
    assert_eq!(server.get("/?text&print=served").text(), "served");
}

#[test]
fn a_program_that_forks_without_end_is_held_and_does_not_hold_up_others() {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}pids = 16\n"));
    for _ in 0..3 {
        let made = server.get("/?text&spawn=1000").text();
        let made: usize = made.trim_end().parse().unwrap();
        // Beside them there are the init and the program.
        assert!((8..=14).contains(&made), "{made}");
        assert_eq!(server.get("/?text&print=served").text(), "served");
    }
}

#[test]
fn a_program_that_is_not_in_the_image_is_a_502_and_the_log_names_it() {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}entrypoint = [\"/app/missing\", \"x\"]\n"));
    let response = server.get("/");
    assert_eq!(response.status, 502);
    let line = server.wait_for_log_of(response.id(), "the program `/app/missing x` cannot be run");
    assert!(line.contains("executing the program: No such file or directory"), "{line}");
}

#[test]
fn an_image_that_names_no_program_is_a_502_and_the_log_says_what_to_write() {
    let store = store_with(&[("empty", "probe.rs", &[])]);
    let server = store.serve("[[route]]\npath = \"/\"\nimage = \"empty\"\npull = \"never\"\n");
    let response = server.get("/");
    assert_eq!(response.status, 502);
    let line = server.wait_for_log_of(response.id(), "image `empty` names no program to run");
    assert!(line.contains("say `command = ["), "{line}");
}

/// The route answers 502, and the log says why, both at the start and of the request.
#[track_caller]
fn is_refused(more: &str, why: &str) {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}{more}\n"));
    server.wait_for_log("the route cannot be served now");
    let response = server.get("/");
    assert_eq!(response.status, 502);
    server.wait_for_log_of(response.id(), why);
    assert_eq!(server.log().matches(why).count(), 2, "{}", server.log());
}

#[test]
fn a_user_that_the_image_does_not_know_is_named() {
    is_refused(
        "user = \"nobody\"",
        "looking up the user of image `test/probe`: no user `nobody` in its /etc/passwd",
    );
}

#[test]
fn a_network_is_refused_with_the_engine_that_has_it() {
    let folder = common::server::unique_path("network");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("dcgi.toml");
    fs::write(&path, format!("engine = \"embedded\"\n{ROUTE}network = \"bridge\"\n")).unwrap();
    for command in ["serve", "check"] {
        let (code, _, said) = common::server::dcgi(&[command, "-c", path.to_str().unwrap()], b"");
        let why = "route `/`: the embedded engine has no network `bridge`: it knows `none` and `host`; use engine = \"docker\"";
        assert!(code == 1 && said.contains(why), "{said}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_volume_without_a_source_is_named() {
    is_refused(
        "volumes = [\"/no/such/folder:/data\"]",
        "the volume /no/such/folder (for /data) is not there",
    );
}

#[test]
fn without_the_right_to_make_namespaces_it_does_not_start_and_says_so() {
    let store = probe();
    let config = format!("engine = \"embedded\"\n{ROUTE}");
    let started = Server::try_start(&config, |command| {
        command.env("DCGI_STORE", store.path());
        through("setpriv", &["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"], command);
    });
    let (status, said) = started.err().expect("it does not start");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the embedded engine cannot be used here"), "{said}");
    assert!(said.contains("a mount namespace: Operation not permitted (os error 1)"), "{said}");
}

// === an image's files ===

/// Two routes of one image, and a request to the first that does something to a file and holds on to it.
fn routes_of_one_image() -> (Store, Server) {
    let store = probe();
    let server = store.serve(
        "[[route]]\npath = \"/one\"\nimage = \"test/probe\"\n\
         [[route]]\npath = \"/two\"\nimage = \"test/probe\"\n",
    );
    (store, server)
}

/// Reads an answer's beginning, up to a text.
fn until(connection: &mut Connection, end: &str) -> String {
    assert_eq!(connection.head().status, 200);
    let mut text = String::new();
    while !text.ends_with(end) {
        text += &String::from_utf8(connection.chunk().expect("more of the answer")).unwrap();
    }
    text
}

#[test]
fn a_lock_on_an_images_file_is_one_containers() {
    let (_store, server) = routes_of_one_image();
    let mut holder = server.connect();
    holder.send_head("GET", "/one?text&lock=/app/probe&forever", 0);
    assert_eq!(until(&mut holder, "locked\n"), "locked\n");
    for route in ["/two", "/one"] {
        assert_eq!(server.get(&format!("{route}?text&lock=/app/probe")).text(), "locked\n");
    }
}

#[test]
fn who_opens_an_images_file_is_seen_in_no_other_container() {
    let (_store, server) = routes_of_one_image();
    let mut watcher = server.connect();
    watcher.send_head("POST", "/one?text&watch=/app/probe", 1);
    until(&mut watcher, "watching\n");
    for route in ["/two", "/one"] {
        // Executed, it is opened, and once more.
        assert_eq!(server.get(&format!("{route}?text&lock=/app/probe")).text(), "locked\n");
    }
    watcher.send("x");
    watcher.expect("nothing\n");
}

#[test]
fn what_would_stay_with_an_images_file_is_refused() {
    let (_store, server) = routes_of_one_image();
    // F_SETLEASE, F_NOTIFY, F_SET_RW_HINT, F_SET_FILE_RW_HINT, F_SETDELEG; and F_GETFL, which is not.
    for command in [1024, 1026, 1036, 1038, 1040] {
        assert_eq!(server.get(&format!("/one?text&fcntl={command}")).text(), "permission denied\n");
    }
    assert_eq!(server.get("/one?text&fcntl=3").text(), "done\n");
}
