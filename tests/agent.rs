//! The agent as its clients see it: nginx and others that speak SCGI, dcgi with its descriptors, and whoever started it.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::agent::{
    Agent, HEADER, HandedOver, descriptors_of, head, head_for_body, lives, send_with, shell, to_the_end,
};
use common::nginx::Nginx;
use common::processes::descendants;
use common::server::dcgi;
use common::{PATIENCE, wait_until};
use dcgi::agent::Answer;
use rustix::process::{Pid, Signal, kill_process};

/// More than fits into a pipe or a socket's buffer.
const MUCH: usize = 1 << 20;

/// A program of which there is a trace.
const TRACED: &str = "echo ran >ran";

/// A program that tells its process id, and then is silent for longer than any test takes.
const SILENT: &str = "echo $$ >pid; exec sleep 1000";

/// A program that answers with its body, once it has it: nginx sends no more of it once there is an answer.
fn echo() -> String {
    format!("cat >$$; {HEADER}; cat $$")
}

/// Text of this length that is nowhere the same.
fn text(length: usize) -> String {
    (0..).flat_map(|number: u32| format!("{number}\n").into_bytes()).map(char::from).take(length).collect()
}

/// On a unix socket and on TCP.
fn both(script: &str) -> [Agent; 2] {
    [Agent::listen(script), Agent::listen_on_tcp(script)]
}

#[track_caller]
fn dies(pid: &str) {
    // It may linger for five seconds, and has two to end.
    wait_until("the program is killed", PATIENCE, || !lives(pid));
}

// --- behind nginx ---

#[test]
fn nginx_passes_a_request_on_and_gets_its_answer() {
    for agent in
        both(&format!("{HEADER}; echo \"$REQUEST_METHOD $REQUEST_URI ($QUERY_STRING) $CONTENT_LENGTH\""))
    {
        let nginx = Nginx::before(agent.address());
        let response = nginx.get("/path?a=1&b=%20");
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\nGET /path?a=1&b=%20 (a=1&b=%20) 0\n"), "{response}");
    }
}

#[test]
fn nginx_reads_the_status_and_the_headers() {
    let script = "printf 'Status: 418 Teapot\\r\\nX-Kind: round\\r\\n\\r\\nshort and stout'";
    for agent in both(script) {
        let response = Nginx::before(agent.address()).get("/");
        assert!(response.starts_with("HTTP/1.1 418 Teapot\r\n"), "{response}");
        assert!(response.contains("\r\nX-Kind: round\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\nshort and stout"), "{response}");
    }
}

#[test]
fn a_body_arrives_exactly_behind_nginx() {
    for agent in both(&echo()) {
        let nginx = Nginx::before(agent.address());
        for body in [String::new(), "a\0b\r\n".to_owned(), text(MUCH)] {
            let response = nginx.post("/", body.as_bytes());
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response:.400}");
            assert!(response.split_once("\r\n\r\n").unwrap().1 == body, "{response:.400}");
        }
    }
}

#[test]
fn nginx_gets_the_whole_answer_of_a_program_that_leaves_its_body() {
    let answer = text(MUCH);
    for agent in both(&format!("{HEADER}; cat answer")) {
        fs::write(agent.path("answer"), &answer).unwrap();
        let nginx = Nginx::before(agent.address());
        for _ in 0..10 {
            let response = nginx.post("/", text(MUCH).as_bytes());
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response:.400}");
            assert!(response.split_once("\r\n\r\n").unwrap().1 == answer, "{response:.400}");
        }
    }
}

#[test]
fn a_client_that_leaves_nginx_kills_a_silent_program() {
    for agent in both(SILENT) {
        let nginx = Nginx::before(agent.address());
        let mut client = nginx.curl("/", &[]).spawn().unwrap();
        let program = agent.line_of("pid");
        client.kill().unwrap();
        client.wait().unwrap();
        dies(&program);
    }
}

// --- by SCGI alone ---

#[test]
fn the_example_of_the_specification_is_answered() {
    let agent = Agent::listen("printf '%s %s %s ' $REQUEST_METHOD $REQUEST_URI $CONTENT_LENGTH; cat");
    let answer = agent.send(
        b"70:CONTENT_LENGTH\x0027\0SCGI\x001\0REQUEST_METHOD\0POST\0REQUEST_URI\0/deepthought\0,\
        What is the answer to life?",
    );
    assert_eq!(answer, "POST /deepthought 27 What is the answer to life?");
}

#[test]
fn a_program_that_leaves_its_body_has_its_answer_read_to_the_end() {
    let body = text(MUCH);
    for agent in both("echo answer") {
        for _ in 0..20 {
            let mut connection = agent.connect();
            connection.write_all(&head_for_body(body.len(), &[])).unwrap();
            // The rest of it may well be refused: the answer is there before it.
            let sending = connection.try_clone().unwrap();
            let answer = std::thread::scope(|scope| {
                scope.spawn(|| (&sending).write_all(body.as_bytes()));
                to_the_end(connection)
            });
            assert_eq!(answer, "answer\n");
        }
    }
}

#[test]
fn a_body_that_comes_byte_by_byte_arrives() {
    let agent = Agent::listen("cat");
    let mut connection = agent.connect();
    for byte in [head_for_body(4, &[]), b"body".to_vec()].concat() {
        connection.write_all(&[byte]).unwrap();
    }
    assert_eq!(to_the_end(connection), "body");
}

#[test]
fn a_program_that_leaves_its_body_can_end_before_that_has_come() {
    for agent in both("echo answer") {
        assert_eq!(agent.send(&head_for_body(4, &[])), "answer\n");
    }
}

#[test]
fn a_program_that_waits_for_its_body_is_killed_when_its_time_is_up() {
    let agent = Agent::listen_with(&["--timeout", "100ms"], &shell("echo answer; cat"));
    assert_eq!(agent.send(&head_for_body(4, &[])), "answer\n");
}

#[test]
fn a_program_does_not_see_what_is_behind_its_body() {
    let agent = Agent::listen("cat");
    assert_eq!(agent.send(&[head_for_body(4, &[]), b"bodyand more".to_vec()].concat()), "body");
}

#[test]
fn a_malformed_request_runs_nothing() {
    let agent = Agent::listen(TRACED);
    for malformed in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"x:",
        b"024:CONTENT_LENGTH\x000\0SCGI\x001\0,",
        b"1048577:",
        b"99999999",
        // A comma is missing; another variable comes first; SCGI is another, and none.
        b"24:CONTENT_LENGTH\x000\0SCGI\x001\0;",
        b"24:SCGI\x001\0CONTENT_LENGTH\x000\0,",
        b"24:CONTENT_LENGTH\x000\0SCGI\x002\0,",
        b"17:CONTENT_LENGTH\x000\0,",
        b"24:CONTENT_LENGTH\x00x\0SCGI\x001\0,",
    ] {
        let mut connection = agent.connect();
        connection.write_all(malformed).unwrap();
        let mut said = Vec::new();
        connection.read_to_end(&mut said).unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), "", "{}", malformed.escape_ascii());
    }
    assert!(!agent.path("ran").exists());
    // The same, well formed.
    assert_eq!(agent.send(b"24:CONTENT_LENGTH\x000\0SCGI\x001\0,"), "");
    assert!(agent.path("ran").exists());
}

#[test]
fn a_request_that_does_not_come_wholly_is_given_up_in_ten_seconds() {
    let agent = Agent::listen(TRACED);
    let began = Instant::now();
    let mut half = agent.connect();
    half.write_all(b"24:CONTENT_LENGTH").unwrap();
    // Meanwhile others are served.
    agent.get(&[]);
    fs::remove_file(agent.path("ran")).unwrap();
    assert_eq!(to_the_end(half), "");
    let took = began.elapsed();
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    assert!(!agent.path("ran").exists());
    let busy = agent.busy();
    assert!(busy < 0.5, "it has waited busily: for {busy} s");
}

#[test]
fn no_more_programs_run_at_once_than_may() {
    // It opens the pipe to write too: then it does not end for one where it ends for another.
    let script = "echo begun >>begun; read line <>go; echo done";
    let agent = Agent::listen_with(&["--max-concurrency", "2"], &shell(script));
    let go = agent.path("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, 0o600.into()).unwrap();
    let mut go = fs::OpenOptions::new().read(true).write(true).open(go).unwrap();
    let clients: Vec<_> = (0..5).map(|_| agent.begin(&[])).collect();
    let begun = || fs::read_to_string(agent.path("begun")).unwrap_or_default().lines().count();
    let running = || descendants(agent.pid()).len();
    for number in 0..5 {
        wait_until("as many have begun as may", PATIENCE, || begun() == (number + 2).min(5));
        assert!(running() <= 2);
        // One of them reads this, and goes on.
        go.write_all(b"\n").unwrap();
    }
    for client in clients {
        assert_eq!(to_the_end(client), "done\n");
    }
}

#[test]
fn an_agent_that_may_run_no_more_waits_idly() {
    let options = ["--max-concurrency", "1", "--timeout", "2s"];
    let agent = Agent::listen_with(&options, &shell("echo begun; exec sleep 1000"));
    let [first, second] = [agent.begin(&[]), agent.begin(&[])];
    assert_eq!(to_the_end(first), "begun\n");
    let busy = agent.busy();
    assert!(busy < 0.3, "it has waited busily: for {busy} s");
    assert_eq!(to_the_end(second), "begun\n");
}

#[test]
fn a_program_is_killed_when_its_time_is_up() {
    let agent = Agent::listen_with(&["--timeout", "1s"], &shell(SILENT));
    let began = Instant::now();
    assert_eq!(agent.get(&[]), "");
    assert!(began.elapsed() >= Duration::from_secs(1));
    dies(&agent.line_of("pid"));
}

#[test]
fn a_client_that_goes_kills_the_whole_process_group() {
    let agent = Agent::listen("sleep 1000 & echo $! >other; echo $$ >pid; wait");
    let connection = agent.begin(&[]);
    let processes = [agent.line_of("pid"), agent.line_of("other")];
    drop(connection);
    processes.iter().for_each(|process| dies(process));
}

#[test]
fn what_a_program_leaves_in_its_group_is_killed_when_it_ends() {
    let agent = Agent::listen("sleep 1000 & echo $! >other; echo answer");
    assert_eq!(agent.get(&[]), "answer\n");
    dies(&agent.line_of("other"));
}

#[test]
fn what_a_program_leaves_running_without_its_output_does_not_hold_the_answer() {
    let agent = Agent::listen("sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >other; echo answer");
    assert_eq!(agent.get(&[]), "answer\n");
    assert!(lives(&agent.line_of("other")), "the answer has waited for its end");
    dies(&agent.line_of("other"));
}

#[test]
fn an_orphan_does_not_hold_the_answer_open() {
    for agent in both(
        "setsid sh -c 'echo $$ >orphan; exec sleep 1000' & echo answer; until test -s orphan; do :; done",
    ) {
        assert_eq!(agent.get(&[]), "answer\n");
        assert!(lives(&agent.line_of("orphan")));
    }
}

#[test]
fn a_program_that_cannot_be_executed_closes_the_connection() {
    let agent = Agent::listen_with(&[], &["--", "/nowhere"]);
    assert_eq!(agent.get(&[]), "");
    assert!(agent.log().contains("No such file or directory"), "{}", agent.log());
}

#[test]
fn what_strangers_send_is_all_for_the_program() {
    // Only where dcgi sends them do these mean anything.
    let agent = Agent::listen("env | grep ^DCGI_AGENT_ | sort; pwd; echo $#");
    let here = fs::canonicalize(agent.path("")).unwrap();
    let answer = agent.get(&[("DCGI_AGENT_ARGUMENT_0", "x"), ("DCGI_AGENT_DIRECTORY", "/")]);
    let expected = format!("DCGI_AGENT_ARGUMENT_0=x\nDCGI_AGENT_DIRECTORY=/\n{}\n0\n", here.display());
    assert_eq!(answer, expected);
}

#[test]
fn many_requests_leave_no_descriptor_thread_or_process() {
    let agent = Agent::listen("case $QUERY_STRING in leave) ;; *) cat ;; esac");
    let held = || (agent.descriptors().len(), agent.threads(), descendants(agent.pid()).len());
    wait_until("nothing is left of those who looked whether it listens", PATIENCE, || held().1 == 1);
    let before = held();
    for _ in 0..50 {
        assert_eq!(agent.send(&[head_for_body(4, &[]), b"body".to_vec()].concat()), "body");
        // Its body does not come.
        assert_eq!(agent.send(&head_for_body(4, &[("QUERY_STRING", "leave")])), "");
        assert_eq!(
            agent.hand_over(&[("QUERY_STRING", "leave")]).answer(),
            Some(Answer::Exited { code: 0, left: false })
        );
        drop(agent.hand_over(&[]));
        drop(agent.begin(&[]));
        assert_eq!(agent.send(b"x"), "");
    }
    // Less, where whoever looked whether it listens was still about.
    wait_until("it holds no more than before", PATIENCE, || {
        let now = held();
        now.0 <= before.0 && now.1 <= before.1 && now.2 <= before.2
    });
}

#[test]
fn requests_wait_while_descriptors_have_run_out() {
    let agent = Agent::listen(&echo());
    // The one that listens, and those of signals: whoever looked whether it listens is gone.
    let sockets = || agent.descriptors().values().filter(|what| what.starts_with("socket:")).count();
    assert_eq!(agent.get(&[]), "Content-Type: text/plain\r\n\r\n");
    wait_until("nobody is connected", PATIENCE, || sockets() == 6);
    let before = agent.descriptors().len();
    agent.limit_descriptors(8);
    let idle: Vec<_> = (0..8).map(|_| agent.connect()).collect();
    wait_until("all descriptors are taken", PATIENCE, || agent.descriptors().len() == before + 8);
    let waiting = agent.begin(&[]);
    // All at once: a program needs more than one.
    agent.signal(Signal::STOP);
    wait_until("it has stopped", PATIENCE, || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    });
    drop(idle);
    agent.signal(Signal::CONT);
    assert_eq!(to_the_end(waiting), "Content-Type: text/plain\r\n\r\n");
}

// --- with a SIGTERM ---

#[test]
fn sigterm_lets_what_runs_finish_and_takes_nothing_more() {
    let mut agent = Agent::listen("echo begun; read line <go; echo done");
    rustix::fs::mkfifoat(rustix::fs::CWD, agent.path("go"), 0o600.into()).unwrap();
    let mut running = agent.begin(&[]);
    let mut begun = [0; 6];
    running.read_exact(&mut begun).unwrap();
    let mut half = agent.connect();
    half.write_all(b"24:CONTENT_LENGTH").unwrap();

    agent.signal(Signal::TERM);
    let socket = agent.path("agent.sock");
    wait_until("its socket is gone", PATIENCE, || !socket.exists());
    let mut said = Vec::new();
    // Closed, whether it was looked at or not.
    assert!(matches!(half.read_to_end(&mut said), Ok(0) | Err(_)));
    fs::write(agent.path("go"), "\n").unwrap();
    assert_eq!(to_the_end(running), "done\n");
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn a_second_sigterm_reaches_the_program() {
    let mut agent = Agent::listen("trap 'echo asked; exit' TERM; echo begun; while :; do sleep 0.01; done");
    let mut running = agent.begin(&[]);
    running.read_exact(&mut [0; 6]).unwrap();
    agent.signal(Signal::TERM);
    let socket = agent.path("agent.sock");
    wait_until("it takes nothing more", PATIENCE, || !socket.exists());
    agent.signal(Signal::TERM);
    assert_eq!(to_the_end(running), "asked\n");
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn an_idle_agent_ends_at_once() {
    for mut agent in both("") {
        agent.signal(Signal::TERM);
        assert_eq!(agent.wait().code(), Some(0));
        assert!(!agent.path("agent.sock").exists());
    }
}

// --- with descriptors ---

#[test]
fn a_program_reads_and_writes_the_descriptors_that_came() {
    let agent = Agent::listen("cat; echo oh >&2; exit 3");
    let mut request = agent.hand_over(&[]);
    request.stdin.take().unwrap().write_all(b"in and out").unwrap();
    assert_eq!(to_the_end(&request.stdout), "in and out");
    assert_eq!(to_the_end(&request.stderr), "oh\n");
    assert_eq!(request.answer(), Some(Answer::Exited { code: 3, left: false }));
    assert_eq!(request.answer(), None);
}

#[test]
fn the_signal_that_ended_a_program_is_told() {
    let agent = Agent::listen("kill -USR1 $$");
    assert_eq!(agent.hand_over(&[]).answer(), Some(Answer::Signalled { signal: 10, left: false }));
}

#[test]
fn a_program_whose_time_is_up_is_asked_to_end_and_told_of() {
    let agent = Agent::listen_with(&["--timeout", "100ms"], &shell(SILENT));
    assert_eq!(agent.hand_over(&[]).answer(), Some(Answer::Signalled { signal: 15, left: false }));
}

#[test]
fn a_program_whose_time_is_up_and_that_does_not_end_is_killed() {
    let agent = Agent::listen_with(&["--timeout", "100ms"], &shell("trap '' TERM; exec sleep 600"));
    assert_eq!(agent.hand_over(&[]).answer(), Some(Answer::Signalled { signal: 9, left: false }));
}

#[test]
fn what_a_program_leaves_running_is_told_of_and_so_is_its_end() {
    let agent = Agent::listen("sleep 0.3 >/dev/null 2>&1 & exit 4");
    let mut request = agent.hand_over(&[]);
    assert_eq!(request.answer(), Some(Answer::Exited { code: 4, left: true }));
    assert_eq!(request.answer(), Some(Answer::Over));
}

#[test]
fn why_a_program_cannot_be_executed_is_told() {
    // errno in the lower half, in the upper what was in the way: no such file, and one that may not be executed.
    for (program, errno, obstacle) in [("/nowhere", 2, 1), ("/etc/passwd", 13, 5)] {
        let agent = Agent::listen_with(&[], &["--", program]);
        assert_eq!(agent.hand_over(&[]).answer(), Some(Answer::Failed(obstacle << 16 | errno)), "{program}");
    }
}

#[test]
fn that_a_request_is_malformed_is_told() {
    let agent = Agent::listen(TRACED);
    let common::agent::Address::Unix(path) = agent.address() else { unreachable!() };
    let connect = || UnixStream::connect(path).unwrap();
    assert_eq!(HandedOver::on(connect(), b"x").answer(), Some(Answer::Malformed));
    for number in [1, 4, 8] {
        let (_, end) = std::io::pipe().unwrap();
        let end = OwnedFd::from(end);
        let mut connection = connect();
        send_with(&connection, &head(&[]), &vec![&end; number]);
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, Answer::Malformed.to_bytes(), "with {number} descriptors");
    }
    assert!(!agent.path("ran").exists());
}

#[test]
fn without_a_descriptor_for_it_standard_input_is_at_its_end() {
    let agent = Agent::listen("cat; echo complaint >&2; echo end");
    let common::agent::Address::Unix(path) = agent.address() else { unreachable!() };
    let connection = UnixStream::connect(path).unwrap();
    let ((stdout, theirs_out), (stderr, theirs_err)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    send_with(&connection, &head(&[]), &[&theirs_out.into(), &theirs_err.into()]);
    assert_eq!(to_the_end(stdout), "end\n");
    assert_eq!(to_the_end(stderr), "complaint\n");
}

#[test]
fn a_request_whose_descriptors_do_not_arrive_runs_nothing() {
    let agent = Agent::listen(TRACED);
    // The connection, and one of the three.
    for more in [1, 2] {
        agent.limit_descriptors(more);
        let mut request = agent.hand_over(&[]);
        let mut said = Vec::new();
        request.connection.read_to_end(&mut said).unwrap();
        assert_eq!(said, Answer::Failed(libc::EMFILE).to_bytes());
        assert!(!agent.path("ran").exists());
    }
}

#[test]
fn closing_the_connection_kills_the_whole_process_group() {
    let agent = Agent::listen("sleep 1000 & echo $! >other; echo $$ >pid; wait");
    let request = agent.hand_over(&[]);
    let processes = [agent.line_of("pid"), agent.line_of("other")];
    drop(request);
    processes.iter().for_each(|process| dies(process));
}

#[test]
fn a_program_that_has_joined_another_group_is_killed_too() {
    let script = r#"
        sub note { open my $file, ">", $_[0]; print $file "$$\n" }
        my $child = fork;
        if (!$child) { setpgrp 0, 0; note "orphan"; sleep 1000; exit }
        select undef, undef, undef, 0.01 until -s "orphan";
        setpgrp 0, $child;
        note "pid";
        sleep 1000;
    "#;
    let agent = Agent::listen_with(&[], &["--", "/usr/bin/perl", "-e", script]);
    let request = agent.hand_over(&[]);
    let program = agent.line_of("pid");
    drop(request);
    dies(&program);
}

#[test]
fn a_program_has_no_descriptor_of_the_agents() {
    let inherited = descriptors_of("self");
    let agent = Agent::listen(SILENT);
    let _other = agent.hand_over(&[]);
    agent.line_of("pid");
    fs::remove_file(agent.path("pid")).unwrap();
    let request = agent.hand_over(&[]);
    let with_descriptors = agent.line_of("pid");
    fs::remove_file(agent.path("pid")).unwrap();
    let _connection = agent.begin(&[]);
    let plain = agent.line_of("pid");
    for program in [with_descriptors, plain] {
        let mut descriptors = descriptors_of(&program);
        // What this process was started with, it hands on to everybody.
        descriptors.retain(|number, target| *number < 3 || inherited.get(number) != Some(target));
        assert_eq!(descriptors.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{descriptors:?}");
    }
    drop(request);
}

#[test]
fn an_orphan_does_not_hold_back_how_the_program_ended() {
    let agent = Agent::listen(
        "setsid sh -c 'echo $$ >orphan; exec sleep 1000' & until test -s orphan; do :; done; exit 4",
    );
    assert_eq!(agent.hand_over(&[]).answer(), Some(Answer::Exited { code: 4, left: false }));
    assert!(lives(&agent.line_of("orphan")));
}

// --- with a connection to dcgi ---

/// An agent that dials a socket in this folder, and our end.
#[track_caller]
fn dialled(mode: &str, script: &str) -> (Agent, UnixStream) {
    dialled_with(&[mode], script)
}

/// The same with options.
#[track_caller]
fn dialled_with(mode: &[&str], script: &str) -> (Agent, UnixStream) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dcgi.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let dial = ["--dial", path.to_str().unwrap(), "--token", "open-sesame"];
    let agent = Agent::start(folder, &[mode, &dial, shell(script).as_slice()].concat(), Stdio::null());
    let (mut connection, _) = listener.accept().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut word = [0; 12];
    connection.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"open-sesame\n");
    (agent, connection)
}

/// A request over a master connection.
#[track_caller]
fn over(master: &UnixStream, variables: &[(&str, &str)]) -> HandedOver {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let request = HandedOver::on(ours, &head(variables));
    send_with(master, b"R", &[&theirs.into()]);
    request
}

#[test]
fn an_agent_that_dials_serves_the_one_request_that_comes_back() {
    let (mut agent, connection) = dialled("once", "cat; echo oh >&2; exit 5");
    let mut request = HandedOver::on(connection, &head(&[]));
    request.stdin.take().unwrap().write_all(b"in and out").unwrap();
    assert_eq!(to_the_end(&request.stdout), "in and out");
    assert_eq!(to_the_end(&request.stderr), "oh\n");
    assert_eq!(request.answer(), Some(Answer::Exited { code: 5, left: false }));
    assert_eq!(agent.wait().code(), Some(5));
}

#[test]
fn a_request_is_confirmed_before_its_program_runs_where_that_is_asked() {
    let (mut agent, connection) =
        dialled("once", "env | grep ^DCGI_AGENT_; pwd; echo $CONTENT_LENGTH $# $0 $1");
    let variables = [
        ("DCGI_AGENT_CONFIRM", "1"),
        ("DCGI_AGENT_NO_LENGTH", "1"),
        ("DCGI_AGENT_DIRECTORY", "/usr"),
        ("DCGI_AGENT_ARGUMENT_0", "zero"),
        ("DCGI_AGENT_ARGUMENT_1", "one"),
    ];
    let mut request = HandedOver::on(connection, &head(&variables));
    assert_eq!(request.answer(), Some(Answer::Taken));
    assert_eq!(to_the_end(&request.stdout), "/usr\n1 zero one\n");
    assert_eq!(request.answer(), Some(Answer::Exited { code: 0, left: false }));
    assert!(agent.wait().success());
}

#[test]
fn an_agent_that_waits_for_its_one_request_ends_with_its_connection() {
    let (mut agent, connection) = dialled("once", TRACED);
    drop(connection);
    assert!(agent.wait().success());
    assert!(!agent.path("ran").exists());
    let (mut agent, _connection) = dialled("once", TRACED);
    agent.signal(Signal::TERM);
    assert!(agent.wait().success());
}

#[test]
fn sigterm_reaches_the_program_of_an_agent_that_serves_one() {
    let (mut agent, connection) =
        dialled("once", "trap 'exit 7' TERM; echo begun; while :; do sleep 0.01; done");
    let mut request = HandedOver::on(connection, &head(&[]));
    request.stdout.read_exact(&mut [0; 6]).unwrap();
    agent.signal(Signal::TERM);
    assert_eq!(request.answer(), Some(Answer::Exited { code: 7, left: false }));
    assert_eq!(agent.wait().code(), Some(7));
}

#[test]
fn an_agent_takes_requests_over_its_master_connection() {
    let (mut agent, mut master) = dialled("listen", "cat; exit $CODE");
    let mut requests = [over(&master, &[("CODE", "1")]), over(&master, &[("CODE", "2")])];
    for request in &mut requests {
        request.stdin.take().unwrap().write_all(b"body").unwrap();
        assert_eq!(to_the_end(&request.stdout), "body");
    }
    assert_eq!(requests[0].answer(), Some(Answer::Exited { code: 1, left: false }));
    assert_eq!(requests[1].answer(), Some(Answer::Exited { code: 2, left: false }));
    master.write_all(b"P").unwrap();
    let mut pong = [0];
    master.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"P");
    drop(master);
    assert!(agent.wait().success());
}

#[test]
fn an_agent_whose_master_connection_closes_kills_what_runs_and_ends() {
    let (mut agent, master) = dialled("listen", SILENT);
    let _request = over(&master, &[]);
    let program = agent.line_of("pid");
    drop(master);
    assert!(agent.wait().success());
    dies(&program);
}

#[test]
fn a_connection_brings_one_request_after_another() {
    let (_agent, master) = dialled("listen", "exit $CODE");
    let (mut connection, theirs) = UnixStream::pair().unwrap();
    send_with(&master, b"R", &[&theirs.into()]);
    for code in 1..=3 {
        let mut request = HandedOver::on(connection, &head(&[("CODE", &code.to_string())]));
        assert_eq!(request.answer(), Some(Answer::Exited { code, left: false }));
        connection = request.connection;
    }
}

// --- with workers ---

/// Who starts the programs of requests: their process ids, in order.
#[track_caller]
fn starters(master: &UnixStream, requests: usize) -> Vec<u32> {
    let requests: Vec<_> = (0..requests).map(|_| over(master, &[])).collect();
    let starter = |mut request: HandedOver| {
        let parent = to_the_end(&request.stdout);
        assert_eq!(request.answer(), Some(Answer::Exited { code: 0, left: false }));
        parent.trim().parse().unwrap()
    };
    requests.into_iter().map(starter).collect()
}

/// The number that a program prints first.
#[track_caller]
fn first_number_of(request: &mut HandedOver) -> u32 {
    let mut line = String::new();
    BufReader::new(&request.stdout).read_line(&mut line).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn an_agent_shares_its_connections_with_its_workers() {
    let (agent, master) = dialled_with(&["listen", "--workers", "3"], "echo $PPID");
    let starters = starters(&master, 6);
    let all: std::collections::BTreeSet<_> = starters.iter().copied().collect();
    assert_eq!(all.len(), 3, "{starters:?}");
    assert!(all.contains(&agent.pid()));
    let workers: std::collections::BTreeSet<_> = descendants(agent.pid()).into_iter().collect();
    assert!(workers.is_subset(&all) && workers.len() == 2, "{workers:?} {all:?}");
}

#[test]
fn a_worker_has_no_socket_of_the_agents() {
    let script = "ls -l /proc/$PPID/fd >&2; echo $PPID";
    let (agent, master) = dialled_with(&["listen", "--workers", "2"], script);
    let of_worker = [over(&master, &[]), over(&master, &[])]
        .into_iter()
        .find(|request| to_the_end(&request.stdout).trim() != agent.pid().to_string());
    let request = of_worker.expect("one of two is the worker's");
    let descriptors = to_the_end(&request.stderr);
    let agents = agent.descriptors().into_values().filter(|target| target.starts_with("socket:"));
    let both: Vec<_> = agents.filter(|target| descriptors.contains(target)).collect();
    assert_eq!(both, [""; 0], "{descriptors}");
}

#[test]
fn where_a_worker_dies_the_agent_ends() {
    let (mut agent, _master) = dialled_with(&["listen", "--workers", "2"], "");
    let mut workers = Vec::new();
    wait_until("there is a worker", PATIENCE, || {
        workers = descendants(agent.pid());
        !workers.is_empty()
    });
    let worker = Pid::from_raw(workers[0].try_into().unwrap()).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    assert!(!agent.wait().success());
    assert!(agent.log().contains("a worker has died"), "{}", agent.log());
}

#[test]
fn workers_let_what_runs_finish_at_sigterm() {
    let script = "echo begun; read line; echo $line";
    let (mut agent, master) = dialled_with(&["listen", "--workers", "2"], script);
    let mut requests = [over(&master, &[]), over(&master, &[]), over(&master, &[])];
    for request in &mut requests {
        let mut begun = [0; 6];
        request.stdout.read_exact(&mut begun).unwrap();
    }
    agent.signal(Signal::TERM);
    for request in &mut requests {
        request.stdin.take().unwrap().write_all(b"finished\n").unwrap();
        assert_eq!(to_the_end(&request.stdout), "finished\n");
        assert_eq!(request.answer(), Some(Answer::Exited { code: 0, left: false }));
    }
    assert!(agent.wait().success());
}

#[test]
fn a_worker_that_is_asked_to_end_leaves_its_requests_to_the_others() {
    let script = "trap '' TERM; echo $PPID; read line; echo $line";
    let (agent, master) = dialled_with(&["listen", "--workers", "2"], script);
    let mut requests = [over(&master, &[]), over(&master, &[])];
    let starters = requests.each_mut().map(|request| first_number_of(request));
    let worker = starters.into_iter().find(|starter| *starter != agent.pid()).unwrap();
    kill_process(Pid::from_raw(worker.try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    // Until its last program has ended, it is there.
    wait_until("it takes nothing more", PATIENCE, || {
        let mut both = [over(&master, &[]), over(&master, &[])];
        both.each_mut().map(|request| first_number_of(request)) == [agent.pid(); 2]
    });
}

#[test]
fn workers_kill_what_runs_when_the_master_connection_closes() {
    let script = "echo $$; exec cat";
    let (mut agent, master) = dialled_with(&["listen", "--workers", "2"], script);
    let mut requests = [over(&master, &[]), over(&master, &[])];
    let programs = requests.each_mut().map(|request| first_number_of(request).to_string());
    drop(master);
    assert!(agent.wait().success());
    programs.iter().for_each(|program| dies(program));
}

#[test]
fn standard_input_may_be_the_master_connection() {
    let (master, theirs) = UnixStream::pair().unwrap();
    let arguments = [&["listen", "--connected"], shell("readlink /proc/self/fd/0").as_slice()].concat();
    let mut agent = Agent::start(tempfile::tempdir().unwrap(), &arguments, OwnedFd::from(theirs).into());
    let mut request = over(&master, &[]);
    assert!(to_the_end(&request.stdout).starts_with("pipe:"));
    assert_eq!(request.answer(), Some(Answer::Exited { code: 0, left: false }));
    master.shutdown(Shutdown::Both).unwrap();
    assert!(agent.wait().success());
}

// --- with the request on standard input ---

#[track_caller]
fn once(command: &[&str], input: &[u8]) -> (i32, String, String) {
    dcgi(&[&["agent", "once"], command].concat(), input)
}

#[test]
fn head_and_body_may_come_on_standard_input() {
    let request = [head_for_body(4, &[("A", "1")]), b"body".to_vec()].concat();
    let (code, out, error) = once(&shell("cat; echo \" $A $CONTENT_LENGTH\"; echo oh >&2; exit 6"), &request);
    assert_eq!((code, out.as_str(), error.as_str()), (6, "body 1 4\n", "oh\n"));
}

#[test]
fn an_agent_that_serves_one_ends_as_a_shell_would() {
    assert_eq!(once(&shell("kill -KILL $$"), &head(&[])).0, 128 + 9);
    let (code, _, error) = once(&["--", "/nowhere"], &head(&[]));
    assert_eq!(code, 127, "{error}");
    let (code, _, error) = once(&["--", "/etc/passwd"], &head(&[]));
    assert_eq!(code, 126, "{error}");
    let (mut agent, connection) = dialled("once", "kill -KILL $$");
    assert_eq!(
        HandedOver::on(connection, &head(&[])).answer(),
        Some(Answer::Signalled { signal: 9, left: false })
    );
    assert_eq!(agent.wait().code(), Some(128 + 9));
}

#[test]
fn a_malformed_head_on_standard_input_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("ran");
    let command = ["--", "/bin/sh", "-c", "touch \"$0\"", trace.to_str().unwrap()];
    for malformed in [&b""[..], b"x", b"24:CONTENT_LENGTH", b"24:CONTENT_LENGTH\x000\0SCGI\x001\0;"] {
        let (code, out, error) = once(&command, malformed);
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        assert!(error.starts_with("dcgi agent: "), "{error}");
    }
    assert!(!trace.exists());
    assert_eq!(once(&command, &head(&[])).0, 0);
    assert!(trace.exists());
}

#[test]
fn sigterm_ends_an_agent_whose_standard_input_is_silent() {
    let (stdin, _held) = std::io::pipe().unwrap();
    let arguments = [&["once"], shell(TRACED).as_slice()].concat();
    let mut agent = Agent::start(tempfile::tempdir().unwrap(), &arguments, stdin.into());
    let blocked = || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        // It waits, and catches the signal or not.
        status.contains("State:\tS")
    };
    wait_until("it waits", PATIENCE, blocked);
    agent.signal(Signal::TERM);
    agent.wait();
    assert!(!agent.path("ran").exists());
}

// --- anywhere ---

#[test]
fn the_executable_needs_nothing_of_an_image() {
    // ldd(1) fails where there is nothing to list.
    let (_, said) = common::piped(std::process::Command::new("ldd").arg(env!("CARGO_BIN_EXE_dcgi")), b"");
    assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{said}");
}
