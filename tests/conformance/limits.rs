//! What a route allows a program, and how much of what: the limits, and what a program finds around it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc;

use crate::cases;
use crate::common::server::unique_path;
use crate::common::{Connection, PATIENCE, Server, wait_until};

cases![
    no_more_programs_run_at_once_than_the_route_has_places,
    a_queue_of_one_lets_one_request_wait_for_its_turn,
    a_place_is_free_again_only_when_its_container_is_gone,
    a_program_that_prints_now_and_then_is_not_idle,
    a_client_that_reads_nothing_is_silence_too,
    header_fields_that_no_program_can_be_given_are_431,
    a_body_as_large_as_the_limit_is_read,
    a_chunked_body_larger_than_the_limit_is_413,
    a_streamed_body_larger_than_the_limit_is_413_and_nothing_panics,
    a_start_that_is_abandoned_keeps_its_place_until_its_container_is_gone,
    an_answer_as_large_as_the_limit_is_whole,
    a_10_gib_answer_takes_no_memory,
    memory_within_the_limit_is_there,
    a_fork_bomb_is_held,
    a_program_cannot_raise_its_own_limits,
    a_program_gets_no_more_processor_time_than_it_may,
    the_root_file_system_refuses_writes,
    tmp_takes_writes,
    a_route_may_have_a_writable_root,
    without_a_network_there_is_only_the_loopback,
    no_capability_is_left,
    no_capability_is_left_to_a_user_of_the_routes_own,
    a_route_may_keep_a_capability,
    no_new_privileges_can_be_had,
    the_program_runs_as_the_routes_user,
    a_volume_refuses_writes_where_it_is_read_only,
    a_volume_takes_writes_where_it_is_not,
    without_init_the_program_is_process_1,
    an_orphan_that_holds_the_output_open_does_not_hold_the_answer,
    an_orphan_of_process_1_does_not_hold_the_answer_either,
    a_program_that_closes_its_output_early_runs_to_its_end,
    response_program_and_log_know_the_request_by_the_same_id,
];

/// The body of a whole answer.
#[track_caller]
fn text(server: &Server, path: &str) -> String {
    let response = server.get(path);
    assert_eq!((response.status, response.complete), (200, true), "{}", response.text());
    response.text()
}

/// A request whose program runs, and goes on until the client leaves.
#[track_caller]
pub(crate) fn endless(server: &Server, route: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(format!("GET {route}?text&print=busy&forever HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_eq!(connection.head().status, 200);
    connection
}

// === places, queue and clocks ===

fn no_more_programs_run_at_once_than_the_route_has_places(server: &Server) {
    let _busy = [(); 2].map(|()| endless(server, "/two-places"));
    assert_eq!(server.get("/two-places?text").status, 503);
}

fn a_queue_of_one_lets_one_request_wait_for_its_turn(server: &Server) {
    let busy = endless(server, "/one-may-wait");
    let (answered, answers) = mpsc::channel();
    for _ in 0..2 {
        let mut connection = server.connect();
        let answered = answered.clone();
        std::thread::spawn(move || answered.send(connection.get("/one-may-wait?text").status));
    }
    // Which of the two was there first is anyone's guess.
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(503));
    drop(busy);
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(200));
}

fn a_place_is_free_again_only_when_its_container_is_gone(server: &Server) {
    let busy = endless(server, "/one-by-one");
    wait_until("its program is seen", PATIENCE, || server.containers_of("/one-by-one") == 1);
    std::thread::scope(|scope| {
        let requests = [(); 6].map(|()| scope.spawn(|| text(server, "/one-by-one?text")));
        drop(busy);
        while !requests.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            assert!(server.containers_of("/one-by-one") <= 1);
        }
    });
}

fn a_program_that_prints_now_and_then_is_not_idle(server: &Server) {
    let path = "/idle?text&print=a&sleep=800&print=b&sleep=800&print=c&sleep=800&print=d";
    assert_eq!(text(server, path), "abcd");
}

fn a_client_that_reads_nothing_is_silence_too(server: &Server) {
    let mut connection = server.connect();
    connection.send("GET /idle?text&flood=1073741824 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut response = connection.head();
    server.wait_for_log_of(response.id(), "idle_timeout");
    connection.body(&mut response);
    assert!(!response.complete, "the answer was cut and looks whole");
}

// === bodies ===

fn header_fields_that_no_program_can_be_given_are_431(server: &Server) {
    let config = "max_header_size = \"4MiB\"\n[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\n";
    let server = server.beside(config, |_| {});
    let ask = |fields: usize, kib: usize| {
        let value = "x".repeat(kib << 10);
        let fields: String = (0..fields).map(|i| format!("X-{i}: {value}\r\n")).collect();
        server.send(format!("GET /p?text&print=ran HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
    };
    for (fields, kib) in [(1, 100), (8, 100)] {
        let response = ask(fields, kib);
        assert_eq!(
            (response.status, &*response.text()),
            (200, "ran"),
            "{fields} of {kib} KiB: {}",
            server.log()
        );
    }
    for (fields, kib) in [(1, 128), (1, 500), (11, 100), (30, 100)] {
        let response = ask(fields, kib);
        assert_eq!(
            response.status_line, "HTTP/1.1 431 Request Header Fields Too Large",
            "{fields} of {kib} KiB"
        );
        server.wait_for_log_of(response.id(), "more than a program can be given");
    }
}

fn a_body_as_large_as_the_limit_is_read(server: &Server) {
    let response = server.connect().post("/small-bodies?text&count", vec![b'x'; 128 << 10]);
    assert_eq!((response.status, &*response.text()), (200, "131072\n"));
}

fn a_chunked_body_larger_than_the_limit_is_413(server: &Server) {
    let mut connection = server.connect();
    connection.send("POST /small-bodies?text&count HTTP/1.1\r\nHost: localhost\r\n");
    connection.send("Transfer-Encoding: chunked\r\n\r\n20001\r\n");
    connection.send(vec![b'x'; 0x2_0001]);
    // Without its end: the answer is not to wait for that.
    assert_eq!(connection.response().status, 413);
}

fn a_streamed_body_larger_than_the_limit_is_413_and_nothing_panics(server: &Server) {
    let mut connection = server.connect();
    connection.send("POST /small-filter HTTP/1.1\r\nHost: localhost\r\n");
    connection.send("Transfer-Encoding: chunked\r\n\r\n401\r\n");
    connection.send(vec![b'x'; 0x401]);
    assert_eq!(connection.response().status, 413);
    wait_until("the exchange is over", PATIENCE, || server.containers_of("/small-filter") == 0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

fn a_start_that_is_abandoned_keeps_its_place_until_its_container_is_gone(server: &Server) {
    for _ in 0..20 {
        let mut connection = server.connect();
        connection.send("GET /abandoned?text&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
        wait_until("the request has a place", PATIENCE, || server.containers_of("/abandoned") >= 1);
        drop(connection);
        assert!(server.containers_of("/abandoned") <= 1, "more programs than places");
    }
    wait_until("all are gone", PATIENCE, || server.containers_of("/abandoned") == 0);
}

fn an_answer_as_large_as_the_limit_is_whole(server: &Server) {
    let response = server.get("/cut-printing?text&flood=1048576");
    assert_eq!((response.body.len(), response.complete), (1 << 20, true));
}

fn a_10_gib_answer_takes_no_memory(server: &Server) {
    // One's own: memory is the process's, not the request's.
    let server = server.beside("[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\n", |_| {});
    // What it takes to have served at all is none of an answer's size.
    assert_eq!(server.get("/?text").status, 200);
    let before = server.memory().1;
    let mut connection = server.connect();
    connection.send("GET /?text&flood=10737418240 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    let mut read = 0;
    while read < 128 << 20 {
        read += connection.chunk().expect("the answer goes on").len();
    }
    let grown = server.memory().1 - before;
    assert!(grown < 16 << 20, "dcgi has grown by {grown} bytes");
}

// === what the container may use ===

fn memory_within_the_limit_is_there(server: &Server) {
    assert_eq!(text(server, "/small-memory?text&alloc=8000000"), "8000000\n");
}

fn a_fork_bomb_is_held(server: &Server) {
    let made: usize = text(server, "/few-pids?text&spawn=100").trim_end().parse().unwrap();
    assert!((1..10).contains(&made), "{made} processes beside the program");
}

fn a_program_cannot_raise_its_own_limits(server: &Server) {
    let files = [
        "memory/memory.limit_in_bytes",
        "pids/pids.max",
        "memory.max",
        "memory/cgroup.procs",
        "cgroup.procs",
    ];
    let steps: String = files.iter().map(|file| format!("&write=/sys/fs/cgroup/{file}")).collect();
    let said = text(server, &format!("/writable?text{steps}"));
    assert!(!said.contains("written"), "{said}");
    // Neither is there anything of the host's groups to be seen.
    let mounts = text(server, "/p?text&file=/proc/self/mountinfo");
    let of_kernel = |line: &&str| line.contains(" - cgroup") || line.contains(" - sysfs");
    let read_only =
        |line: &str| line.split(' ').nth(5).is_some_and(|all| all.split(',').any(|one| one == "ro"));
    let writable = mounts.lines().filter(of_kernel).find(|line| !read_only(line));
    assert_eq!(writable, None, "{mounts}");
}

fn a_program_gets_no_more_processor_time_than_it_may(server: &Server) {
    let used = text(server, "/little-cpu?text&burn=1000&file=/proc/self/schedstat");
    let nanoseconds: u64 = used.split(' ').next().unwrap().parse().unwrap();
    // A tenth of a second, and what a period allows at both ends.
    assert!(nanoseconds < 300_000_000, "{nanoseconds} ns of processor time in a second");
}

fn the_root_file_system_refuses_writes(server: &Server) {
    let said = text(server, "/p?text&write=/new&write=/app/new");
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
}

fn tmp_takes_writes(server: &Server) {
    assert_eq!(text(server, "/as-user?text&write=/tmp/new"), "/tmp/new: written\n");
}

fn a_route_may_have_a_writable_root(server: &Server) {
    assert_eq!(text(server, "/writable?text&write=/new"), "/new: written\n");
}

/// Where each request has a container of its own.
pub(crate) const CASES_OF_FRESH: &[crate::Case] = &[
    ("what_one_request_writes_the_next_does_not_find", what_one_request_writes_the_next_does_not_find),
    ("under_init_the_program_is_a_child_of_process_1", under_init_the_program_is_a_child_of_process_1),
];

/// Where requests share one.
pub(crate) const CASES_OF_SHARED: &[crate::Case] = &[
    ("what_one_request_writes_the_next_finds", what_one_request_writes_the_next_finds),
    (
        "the_program_is_a_child_of_the_agent_or_of_its_worker",
        the_program_is_a_child_of_the_agent_or_of_its_worker,
    ),
];

fn what_one_request_writes_the_next_finds(server: &Server) {
    assert_eq!(text(server, "/writable?text&write=/left&write=/tmp/left").matches("written").count(), 2);
    let said = text(server, "/writable?text&file=/left&file=/tmp/left");
    assert_eq!(said.matches("No such file").count(), 0, "{said}");
}

fn what_one_request_writes_the_next_does_not_find(server: &Server) {
    assert_eq!(text(server, "/writable?text&write=/left&write=/tmp/left").matches("written").count(), 2);
    let said = text(server, "/writable?text&file=/left&file=/tmp/left");
    assert_eq!(said.matches("No such file").count(), 2, "{said}");
}

fn without_a_network_there_is_only_the_loopback(server: &Server) {
    let table = text(server, "/p?text&file=/proc/net/dev");
    let interfaces = table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    assert_eq!(interfaces.collect::<Vec<_>>(), ["lo"]);
}

/// A field of what the kernel says of the program's process.
#[track_caller]
fn status_field(server: &Server, route: &str, name: &str) -> String {
    let status = text(server, &format!("{route}?text&file=/proc/self/status"));
    let value = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    value.unwrap_or_else(|| panic!("no {name}: {status}")).trim().to_owned()
}

fn no_capability_is_left(server: &Server) {
    has_no_capability(server, "/p");
}

fn no_capability_is_left_to_a_user_of_the_routes_own(server: &Server) {
    has_no_capability(server, "/as-user");
}

/// Neither now nor by way of anything that is executed: the bounding set is one of the five.
#[track_caller]
fn has_no_capability(server: &Server, route: &str) {
    let status = text(server, &format!("{route}?text&file=/proc/self/status"));
    let sets: Vec<_> = status.lines().filter(|line| line.starts_with("Cap")).collect();
    assert_eq!(sets.len(), 5, "{status}");
    assert!(sets.iter().all(|set| set.ends_with("\t0000000000000000")), "{sets:?}");
}

fn a_route_may_keep_a_capability(server: &Server) {
    // Bit 10 is CAP_NET_BIND_SERVICE.
    assert_eq!(status_field(server, "/may-bind", "CapBnd"), "0000000000000400");
}

fn no_new_privileges_can_be_had(server: &Server) {
    assert_eq!(status_field(server, "/p", "NoNewPrivs"), "1");
}

fn the_program_runs_as_the_routes_user(server: &Server) {
    let status = text(server, "/as-user?text&file=/proc/self/status");
    assert!(status.contains("Uid:\t1234\t1234\t1234\t1234\n"), "{status}");
    assert!(status.contains("Gid:\t2345\t2345\t2345\t2345\n"), "{status}");
}

// === volumes ===

/// A folder of the host's, and a server whose program has it at /data.
pub(crate) fn with_volume(server: &Server, mode: &str) -> (PathBuf, Server) {
    let folder = unique_path("volume");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(folder.join("seen"), "from the host").unwrap();
    // Relative: that begins at the file's own folder.
    let volume = format!("./{}:/data{mode}", folder.file_name().unwrap().to_str().unwrap());
    let route =
        format!("[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\nvolumes = [\"{volume}\"]\n");
    (folder, server.beside(&route, |_| {}))
}

fn a_volume_refuses_writes_where_it_is_read_only(server: &Server) {
    let (folder, server) = with_volume(server, ":ro");
    let said = text(&server, "/?text&file=/data/seen&write=/data/new");
    let written = folder.join("new").exists();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(said.starts_with("from the host/data/new: Read-only file system"), "{said}");
    assert!(!written);
}

fn a_volume_takes_writes_where_it_is_not(server: &Server) {
    let (folder, server) = with_volume(server, "");
    let said = text(&server, "/?text&write=/data/new");
    let written = folder.join("new").exists();
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!((&*said, written), ("/data/new: written\n", true));
}

// === processes ===

fn under_init_the_program_is_a_child_of_process_1(server: &Server) {
    assert_eq!(status_field(server, "/p", "PPid"), "1");
}

/// The agent is process 1, and starts its workers before anything else.
fn the_program_is_a_child_of_the_agent_or_of_its_worker(server: &Server) {
    // Which number a worker has says nothing: the threads of Docker's own first process have had some.
    let parent = status_field(server, "/p", "PPid");
    let name = text(server, &format!("/p?text&file=/proc/{parent}/comm"));
    assert!(["dcgi-agent\n", "dcgi-worker\n"].contains(&&*name), "{name}");
}

fn without_init_the_program_is_process_1(server: &Server) {
    assert_eq!(status_field(server, "/without-init", "Pid"), "1");
}

fn an_orphan_that_holds_the_output_open_does_not_hold_the_answer(server: &Server) {
    assert_eq!(text(server, "/p?text&orphan=600000&print=body"), "body");
}

fn an_orphan_of_process_1_does_not_hold_the_answer_either(server: &Server) {
    assert_eq!(text(server, "/without-init?text&orphan=600000&print=body"), "body");
}

fn a_program_that_closes_its_output_early_runs_to_its_end(server: &Server) {
    let response = server.get("/p?text&print=body&close=1&sleep=300&err=to-the-end");
    assert_eq!((&*response.text(), response.complete), ("body", true));
    server.wait_for_log_of(response.id(), "dcgi::stderr: to-the-end");
}

// === ids ===

fn response_program_and_log_know_the_request_by_the_same_id(server: &Server) {
    let response = server.get("/p?text&env=REQUEST_ID&env=UNIQUE_ID");
    let id = response.id();
    assert_eq!(response.text(), format!("={id}\n={id}\n"));
    wait_until("the request is in the access log", PATIENCE, || server.log_of(id).contains("dcgi::access"));
}
