//! The end of an answer, and of what runs for it: when an answer is whole, what may go on behind it, and how everything is
//! ended.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cases;
use crate::common::processes::variables_of;
use crate::common::server::unique_path;
use crate::common::{Connection, Response, Server, encoded, pause, wait_until};

cases![
    what_a_child_prints_after_the_programs_end_belongs_to_the_answer,
    a_page_that_a_child_prints_whole_after_the_programs_end_is_the_answer,
    an_answer_whose_output_stays_open_is_whole_after_a_second_of_silence,
    what_is_printed_after_the_end_of_the_answer_is_lost_and_logged,
    a_child_that_finishes_the_page_may_take_longer_than_what_lingers,
    a_child_that_prints_for_ever_is_cut_by_the_deadline,
    what_a_program_leaves_running_works_on_after_the_answer,
    what_a_program_leaves_running_keeps_its_place,
    what_lingers_too_long_is_asked_to_end,
    what_lingers_and_does_not_end_when_asked_is_killed,
    ten_generations_of_daemons_are_ended_too,
    a_job_whose_leader_has_ended_is_ended_too,
    a_daemon_that_is_another_process_all_the_time_is_ended_too,
    a_daemon_whose_first_thread_has_ended_is_ended_too,
    a_daemon_that_keeps_the_output_open_is_ended_too,
    daemons_of_which_one_reads_what_the_other_prints_are_ended_too,
    a_storm_of_daemons_passes,
    a_local_redirect_does_not_wait_for_what_lingers,
    what_complains_without_end_keeps_nobody_else_waiting,
    a_program_whose_client_has_left_is_asked_to_end,
    a_program_whose_deadline_has_passed_is_asked_to_end,
    a_program_that_is_silent_too_long_is_asked_to_end,
    a_program_that_prints_more_than_it_may_is_asked_to_end,
    a_program_that_runs_when_the_grace_of_a_shutdown_is_over_is_asked_to_end,
    a_child_of_a_program_is_asked_to_end_with_it,
    a_program_that_is_stopped_hears_that_it_is_to_end,
    a_program_that_is_traced_and_stops_has_not_ended,
    a_program_that_is_process_1_is_traced_and_stops_has_not_ended,
    a_program_that_is_held_on_its_way_out_is_ended_with_who_holds_it,
    a_program_that_is_process_1_and_held_on_its_way_out_is_ended_with_who_holds_it,
    no_program_holds_another_on_its_way_out,
    a_program_that_answers_to_the_end_with_more_output_is_not_held_up,
    a_program_that_does_not_end_when_asked_is_killed,
    a_body_whose_client_has_vanished_has_no_end_for_the_program,
    a_body_whose_chunk_is_malformed_has_no_end_for_the_program,
    a_client_that_reads_slowly_and_steadily_is_not_idle,
    a_program_that_complains_now_and_then_is_not_idle,
];

/// How soon something has to be seen: before `timeout` or `idle_timeout`, 30 seconds each, would do it. An engine that makes and removes
/// containers for seven servers at a time was seen to stand still for ten seconds.
const SOON: Duration = Duration::from_secs(25);

/// A server with one route and a folder, which the program has as `/data`.
struct WithFolder {
    folder: PathBuf,
    server: Server,
}

impl WithFolder {
    fn new(server: &Server, lines: &str) -> Self {
        Self::with_grace(server, lines, "30s")
    }

    fn with_grace(server: &Server, lines: &str, grace: &str) -> Self {
        let folder = unique_path("ending");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        // Silence is not to end what something else has to.
        let idle = if lines.contains("idle_timeout") { "" } else { "idle_timeout = '30s'" };
        let config = format!(
            "[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\n{}\nvolumes = [\"{}:/data\"]\n{idle}\n{lines}\n",
            server.containers_line(),
            folder.display()
        );
        let server = server.beside(&config, |command| {
            command.args(["--grace", grace]);
        });
        // Clocks are not to run while the first container is made.
        let mut first = server.get("/?text");
        wait_until("it serves", SOON, || {
            if first.status != 200 {
                first = server.get("/?text");
            }
            first.status == 200 && server.containers_for(first.id()) == 0
        });
        Self { folder, server }
    }

    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    #[track_caller]
    fn wait_for(&self, name: &str) {
        wait_until(&format!("{name} is written"), SOON, || self.has(name));
    }

    /// Asks for a program that answers, and leaves daemons which touch a file for as long as there are any: waits until there
    /// are none, and the route serves.
    #[track_caller]
    fn outlives_none(&self, steps: &str, file: &str) {
        // The container may have had to end for the daemons before.
        wait_until("it answers", SOON, || self.server.get("/?text").status == 200);
        let response = self.server.get(&format!("/?text&print=here&{steps}"));
        assert_eq!((&*response.text(), response.complete), ("here", true));
        self.wait_for(file);
        let touched = || std::fs::metadata(self.folder.join(file)).unwrap().modified().unwrap();
        // Far more than lies between two.
        let quiet = Duration::from_secs(2);
        let is_over = || touched().elapsed().is_ok_and(|since| since > quiet);
        wait_until("nobody is left of it", 2 * SOON, is_over);
        // Who shares its container goes on, or has a new one.
        wait_until("it serves", SOON, || self.server.get("/?text&print=served").text() == "served");
        assert!(is_over(), "somebody is there again");
    }

    /// Waits until nothing of a request is left.
    #[track_caller]
    fn wait_until_gone(&self, request: &str) {
        wait_until("nothing of it is left", SOON, || self.server.containers_for(request) == 0);
    }
}

impl Drop for WithFolder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The step that has others taken by a child.
fn child(steps: &str) -> String {
    format!("child={}", encoded(steps))
}

/// Steps of a program that says whether it was asked to end.
const TRAPPED: &str = "trap&text&print=begun";
const ASKED: &str = "awaitterm&touch=/data/asked";

// === the end of an answer ===

fn what_a_child_prints_after_the_programs_end_belongs_to_the_answer(server: &Server) {
    let response = server.get(&format!("/p?text&print=first-&{}", child("sleep=50&print=second")));
    assert_eq!((&*response.text(), response.complete), ("first-second", true));
}

fn a_page_that_a_child_prints_whole_after_the_programs_end_is_the_answer(server: &Server) {
    // As bash has it with `exec > >(sed …)`.
    let response = server.get(&format!("/p?{}", child("sleep=50&text&print=page")));
    assert_eq!((response.status, &*response.text(), response.complete), (200, "page", true));
}

fn an_answer_whose_output_stays_open_is_whole_after_a_second_of_silence(server: &Server) {
    let began = Instant::now();
    let response = server.get("/p?text&print=body&orphan=600000");
    assert_eq!((&*response.text(), response.complete), ("body", true));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

fn what_is_printed_after_the_end_of_the_answer_is_lost_and_logged(server: &Server) {
    let response = server.get(&format!("/p?text&print=body&{}", child("sleep=2000&print=late")));
    assert_eq!((&*response.text(), response.complete), ("body", true));
    let line = server.wait_for_log_of(response.id(), "4 bytes that were printed after the end of the answer");
    assert!(line.contains("WARN"), "{line}");
}

fn a_child_that_finishes_the_page_may_take_longer_than_what_lingers(server: &Server) {
    let with = WithFolder::new(server, "linger = '300ms'\nkill_grace = '200ms'");
    let steps = "print=a&sleep=700&print=b&sleep=700&print=c&sleep=700&print=d";
    assert_eq!(with.server.get(&format!("/?text&{}", child(steps))).text(), "abcd");
    // As a daemon, in a session of its own.
    let daemon = encoded(format!("2:{steps}"));
    assert_eq!(with.server.get(&format!("/?text&generations={daemon}")).text(), "abcd");
}

fn a_child_that_prints_for_ever_is_cut_by_the_deadline(server: &Server) {
    let with = WithFolder::new(server, "timeout = '5s'\nkill_grace = '500ms'");
    let mut connection = with.server.connect();
    connection
        .send(format!("GET /?text&print=x&{} HTTP/1.1\r\nHost: h\r\n\r\n", child("flood=99999999999999")));
    let response = connection.response();
    assert_eq!((response.status, response.complete), (200, false));
    with.wait_until_gone(response.id());
}

// === what lingers ===

fn what_a_program_leaves_running_works_on_after_the_answer(server: &Server) {
    let with = WithFolder::new(server, "");
    let response = with
        .server
        .get(&format!("/?text&print=body&{}", child("close=1&close=2&sleep=700&touch=/data/late")));
    assert_eq!((&*response.text(), response.complete, with.has("late")), ("body", true, false));
    with.wait_for("late");
    with.wait_until_gone(response.id());
}

fn what_a_program_leaves_running_keeps_its_place(server: &Server) {
    let with = WithFolder::new(server, "max_concurrency = 1\nqueue = 0");
    let lingering = format!("/?text&print=body&{}", child("close=1&close=2&trap&touch=/data/on&awaitterm"));
    // The container of the request that has shown the server to serve may still be there.
    let mut response = with.server.get(&lingering);
    wait_until("a place is free", SOON, || {
        if response.status == 503 {
            response = with.server.get(&lingering);
        }
        response.status != 503
    });
    assert_eq!((response.status, &*response.text()), (200, "body"));
    assert_eq!(with.server.get("/?text").status, 503);
    wait_until("its place is free", SOON, || with.server.get("/?text").status == 200);
}

fn what_lingers_too_long_is_asked_to_end(server: &Server) {
    let with = WithFolder::new(server, "linger = '300ms'");
    let response = with
        .server
        .get(&format!("/?text&print=body&{}", child("close=1&close=2&trap&awaitterm&touch=/data/asked")));
    assert_eq!((&*response.text(), response.complete), ("body", true));
    with.wait_for("asked");
    with.server.wait_for_log_of(response.id(), "`linger` (300ms) is over");
    with.wait_until_gone(response.id());
}

fn what_lingers_and_does_not_end_when_asked_is_killed(server: &Server) {
    let with = WithFolder::new(server, "linger = '200ms'\nkill_grace = '300ms'");
    let response =
        with.server.get(&format!("/?text&print=body&{}", child("ignore=15&close=1&close=2&forever")));
    assert_eq!((&*response.text(), response.complete), ("body", true));
    with.wait_until_gone(response.id());
}

fn ten_generations_of_daemons_are_ended_too(server: &Server) {
    let with = WithFolder::new(server, "linger = '200ms'\nkill_grace = '300ms'");
    let steps = encoded("10:close=1&close=2&touch=/data/last&forever");
    let response = with.server.get(&format!("/?text&print=body&generations={steps}"));
    assert_eq!((&*response.text(), response.complete), ("body", true));
    with.wait_for("last");
    with.wait_until_gone(response.id());
}

fn a_job_whose_leader_has_ended_is_ended_too(server: &Server) {
    let with = WithFolder::new(server, "linger = '200ms'\nkill_grace = '300ms'");
    with.outlives_none(&format!("job={}", encoded("close=1&close=2&beat=/data/beat")), "beat");
}

fn a_daemon_that_is_another_process_all_the_time_is_ended_too(server: &Server) {
    let with = WithFolder::new(server, "linger = '100ms'\nkill_grace = '100ms'");
    for (number, pause) in ["2000", "0"].iter().enumerate() {
        with.outlives_none(&format!("hop={pause}:/data/hop-{number}"), &format!("hop-{number}"));
        // It says whose it is no more.
        with.outlives_none(&format!("bare=hop%3D{pause}%3A/data/bare-{number}"), &format!("bare-{number}"));
    }
}

fn a_daemon_whose_first_thread_has_ended_is_ended_too(server: &Server) {
    let with = WithFolder::new(server, "linger = '200ms'\nkill_grace = '300ms'");
    let steps = encoded("2:close=1&close=2&headless=/data/beat");
    with.outlives_none(&format!("generations={steps}"), "beat");
}

fn a_daemon_that_keeps_the_output_open_is_ended_too(server: &Server) {
    let with = WithFolder::new(server, "linger = '200ms'\nkill_grace = '300ms'");
    // The answer is whole after a second of silence.
    with.outlives_none(&format!("generations={}", encoded("2:beat=/data/beat")), "beat");
}

fn daemons_of_which_one_reads_what_the_other_prints_are_ended_too(server: &Server) {
    let with = WithFolder::new(server, "linger = '200ms'\nkill_grace = '300ms'");
    let steps = encoded("2:close=1&close=2&pipeline=/data/beat");
    with.outlives_none(&format!("generations={steps}"), "beat");
}

fn a_storm_of_daemons_passes(server: &Server) {
    let with = WithFolder::new(server, "linger = '100ms'\nkill_grace = '100ms'\npids = 60");
    with.outlives_none("bare=close%3D1%26close%3D2%26storm%3D/data/storm", "storm");
}

fn a_local_redirect_does_not_wait_for_what_lingers(server: &Server) {
    let with = WithFolder::with_grace(server, "linger = '60s'", "100ms");
    let began = Instant::now();
    let location = encoded("Location: /?text&print=there\n\n");
    let response = with.server.get(&format!("/?{}&print={location}", child("close=1&close=2&forever")));
    assert_eq!((response.status, &*response.text()), (200, "there"));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

fn what_complains_without_end_keeps_nobody_else_waiting(server: &Server) {
    let with = WithFolder::with_grace(server, "linger = '20s'", "100ms");
    for _ in 0..3 {
        let response =
            with.server.get(&format!("/?text&print=body&{}", child("close=1&flooderr=99999999999999")));
        assert_eq!(&*response.text(), "body");
    }
    let began = Instant::now();
    assert_eq!(&*with.server.get("/?text&print=served").text(), "served");
    // `linger` is 20 seconds.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

// === how everything is ended ===

/// The server ends the connection before the answer is whole.
fn cut_off(mut connection: Connection, mut response: Response) {
    connection.body(&mut response);
    assert!(!response.complete);
}

/// The client ends the connection.
fn leave(connection: Connection, _: Response) {
    drop(connection);
}

/// Whether a program that has begun is asked to end when this is done to its request.
#[track_caller]
fn is_asked_to_end(with: &WithFolder, more: &str, cut: impl FnOnce(Connection, Response)) {
    let mut connection = with.server.connect();
    connection.send(format!("GET /?{TRAPPED}&{more}{ASKED} HTTP/1.1\r\nHost: h\r\n\r\n"));
    let head = connection.head();
    assert_eq!(head.status, 200);
    let id = head.id().to_owned();
    cut(connection, head);
    with.wait_for("asked");
    with.wait_until_gone(&id);
}

fn a_program_whose_client_has_left_is_asked_to_end(server: &Server) {
    is_asked_to_end(&WithFolder::new(server, ""), "", leave);
}

fn a_program_whose_deadline_has_passed_is_asked_to_end(server: &Server) {
    is_asked_to_end(&WithFolder::new(server, "timeout = '5s'"), "", cut_off);
}

fn a_program_that_is_silent_too_long_is_asked_to_end(server: &Server) {
    is_asked_to_end(&WithFolder::new(server, "idle_timeout = '1s'"), "", cut_off);
}

fn a_program_that_prints_more_than_it_may_is_asked_to_end(server: &Server) {
    is_asked_to_end(&WithFolder::new(server, "max_response_body = '64KiB'"), "flood=200000&", cut_off);
}

fn a_program_that_runs_when_the_grace_of_a_shutdown_is_over_is_asked_to_end(server: &Server) {
    let mut with = WithFolder::with_grace(server, "", "200ms");
    let mut connection = with.server.connect();
    connection.send(format!("GET /?{TRAPPED}&{ASKED} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(connection.head().status, 200);
    with.server.signal("TERM");
    with.wait_for("asked");
    assert!(with.server.wait().success());
    assert_eq!(with.server.containers(), 0);
}

fn a_child_of_a_program_is_asked_to_end_with_it(server: &Server) {
    let with = WithFolder::new(server, "");
    let mut connection = with.server.connect();
    let steps = child("trap&touch=/data/child-runs&awaitterm&touch=/data/child-asked");
    connection.send(format!("GET /?{TRAPPED}&{steps}&{ASKED} HTTP/1.1\r\nHost: h\r\n\r\n"));
    let head = connection.head();
    with.wait_for("child-runs");
    drop(connection);
    with.wait_for("child-asked");
    with.wait_for("asked");
    with.wait_until_gone(head.id());
}

fn a_program_that_is_stopped_hears_that_it_is_to_end(server: &Server) {
    const SIGSTOP: i32 = 19;
    is_asked_to_end(&WithFolder::new(server, ""), &format!("kill={SIGSTOP}&"), leave);
}

/// Steps of a program that its parent is to trace, and that stops at a signal which would do nothing else. Nobody goes on
/// with it.
const TRACED: &str = "text&print=begun&ignore=23&traceme&kill=23&print=on&forever";

fn a_program_that_is_traced_and_stops_has_not_ended(server: &Server) {
    let with = WithFolder::new(server, "timeout = '10s'\nkill_grace = '300ms'");
    let mut connection = with.server.connect();
    connection.send(format!("GET /?{TRACED} HTTP/1.1\r\nHost: h\r\n\r\n"));
    let mut response = connection.head();
    connection.body(&mut response);
    assert_eq!((&*response.text(), response.complete), ("begun", false));
    with.server.wait_for_log_of(response.id(), "`timeout` passed");
    with.wait_until_gone(response.id());
}

fn a_program_that_is_held_on_its_way_out_is_ended_with_who_holds_it(server: &Server) {
    let with = WithFolder::new(server, "kill_grace = '300ms'");
    is_ended_with_who_holds_it(&with.server, "/");
    assert_eq!(with.server.get("/?text&print=served").text(), "served");
}

fn a_program_that_is_process_1_and_held_on_its_way_out_is_ended_with_who_holds_it(server: &Server) {
    is_ended_with_who_holds_it(server, "/without-init");
}

#[track_caller]
fn is_ended_with_who_holds_it(server: &Server, path: &str) {
    let mut connection = server.connect();
    connection.send(format!("GET {path}?text&held&print=begun&forever HTTP/1.1\r\nHost: h\r\n\r\n"));
    let response = connection.head();
    assert_eq!(response.status, 200);
    connection.expect("begun");
    wait_until("both run", SOON, || programs_for(response.id()).len() >= 2);
    drop(connection);
    wait_until("nothing of it is left", SOON, || {
        server.containers_for(response.id()) == 0 && programs_for(response.id()).is_empty()
    });
}

/// Two that held each other would be there until the machine is started anew.
fn no_program_holds_another_on_its_way_out(server: &Server) {
    assert_eq!(server.get("/p?text&hold-child").text(), "Operation not permitted (os error 1)\n");
}

fn a_program_that_is_process_1_is_traced_and_stops_has_not_ended(server: &Server) {
    let mut connection = server.connect();
    connection.send(format!("GET /without-init?{TRACED} HTTP/1.1\r\nHost: h\r\n\r\n"));
    let response = connection.head();
    assert_eq!(response.status, 200);
    connection.expect("begun");
    // It stops, and no more comes, of the answer neither: an end there may only be one that is none.
    wait_until("it is traced", SOON, || {
        let states = programs_for(response.id());
        !states.is_empty() && states.iter().all(|state| *state == 't')
    });
    drop(connection);
    wait_until("nothing of it is left", SOON, || {
        server.containers_for(response.id()) == 0 && programs_for(response.id()).is_empty()
    });
}

/// The states of the processes of a request, wherever they are: what an engine has lost sight of is there too.
fn programs_for(request: &str) -> Vec<char> {
    let variable = format!("REQUEST_ID={request}\0");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_request = pids.filter(|pid| variables_of(*pid).contains(&variable));
    of_request
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        })
        .collect()
}

fn a_program_that_answers_to_the_end_with_more_output_is_not_held_up(server: &Server) {
    let with = WithFolder::new(server, "kill_grace = '20s'");
    let mut connection = with.server.connect();
    connection.send(format!(
        "GET /?{TRAPPED}&awaitterm&flood=1000000&touch=/data/done HTTP/1.1\r\nHost: h\r\n\r\n"
    ));
    let head = connection.head();
    drop(connection);
    with.wait_for("done");
    with.wait_until_gone(head.id());
}

fn a_program_that_does_not_end_when_asked_is_killed(server: &Server) {
    let with = WithFolder::new(server, "kill_grace = '300ms'");
    let mut connection = with.server.connect();
    connection.send("GET /?ignore=15&text&print=begun&forever HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = connection.head();
    assert_eq!(head.status, 200);
    drop(connection);
    with.wait_until_gone(head.id());
}

// === half a body is not a whole one ===

/// Asserts that a program which has had half a body never sees its end, in every way of passing it on.
#[track_caller]
fn half_a_body_has_no_end(server: &Server, half: &str, cut: fn(Connection)) {
    for lines in ["output = 'raw'", "request_body = 'stream'", ""] {
        if lines.is_empty() && half.contains("chunked") {
            // It is taken in whole before the program starts.
            continue;
        }
        let with = WithFolder::new(server, &format!("{lines}\nkill_grace = '300ms'"));
        let mut connection = with.server.connect();
        connection.send(format!(
            "POST /?trap&text&touch=/data/begun&count&touch=/data/end HTTP/1.1\r\nHost: h\r\n{half}"
        ));
        with.wait_for("begun");
        // Counted at all, or none would say nothing.
        wait_until("the program is seen", SOON, || with.server.containers() > 0);
        cut(connection);
        wait_until("the program is gone", SOON, || with.server.containers() == 0 || with.has("end"));
        assert!(!with.has("end"), "`{lines}`: the program has seen the end of half a body");
    }
}

fn a_body_whose_client_has_vanished_has_no_end_for_the_program(server: &Server) {
    half_a_body_has_no_end(server, "Content-Length: 100\r\n\r\nhalf", drop);
    half_a_body_has_no_end(server, "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", drop);
}

fn a_body_whose_chunk_is_malformed_has_no_end_for_the_program(server: &Server) {
    half_a_body_has_no_end(server, "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", |mut connection| {
        connection.send("no length\r\n");
        connection.response();
    });
}

// === activity ===

fn a_client_that_reads_slowly_and_steadily_is_not_idle(server: &Server) {
    let with = WithFolder::new(server, "idle_timeout = '2s'\ntimeout = '60s'");
    // Far more than what is held back on the way: the client takes 100 kB a second, for four times the limit.
    let mut connection = with.server.connect();
    connection.send("GET /?text&flood=1073741824 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    let began = Instant::now();
    let mut taken = 0;
    while began.elapsed() < Duration::from_secs(8) {
        pause(Duration::from_millis(100));
        let mut wanted: usize = 10_000;
        while wanted > 0 {
            let read = connection.some_of(wanted);
            assert!(!read.is_empty(), "the answer was cut after {taken} bytes");
            wanted -= read.len();
            taken += read.len();
        }
    }
    assert!(!with.server.log().contains("idle_timeout"), "{}", with.server.log());
}

fn a_program_that_complains_now_and_then_is_not_idle(server: &Server) {
    let response =
        server.get("/idle?err=a&sleep=800&err=b&sleep=800&err=c&sleep=800&err=d&sleep=800&text&print=done");
    assert_eq!((response.status, &*response.text()), (200, "done"));
}
