//! Slots of the embedded engine serve one request after the other: what one leaves, the next does not find.
//!
//! For each kind of state: what is there at first, then a request that leaves marks of it, then a hundred that look.
//! Each finds what was there at first. Once with containers that are made when they are asked for, once with two
//! that wait, made while the marks were there.

mod common;

use std::collections::BTreeSet;

use common::embedded::{Store, slots_of};
use common::{Connection, PATIENCE, Server, wait_until};

/// How many requests look.
const LOOKS: usize = 100;

/// What becomes of the slot in which marks were left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// It serves again.
    Stays,
    /// It does not serve again: another does.
    Goes,
    /// It may do either: when the kernel collects garbage is its own affair.
    Either,
}

use Slot::{Either, Goes, Stays};

#[track_caller]
fn nothing_is_left(kind: &str, slot: Slot, more: &str) {
    for warm in [0, 2] {
        let store = Store::new();
        let config = serde_json::json!({ "Entrypoint": ["/app/marks"], "Volumes": { "/data": {} } });
        store.load("test/marks:1", "marks.rs", &config);
        let server = store.serve(&format!(
            "[[route]]\npath = \"/\"\nimage = \"test/marks:1\"\nmax_concurrency = 1\nwarm = {warm}\n\
             linger = \"0s\"\nkill_grace = \"0s\"\n{more}\n"
        ));
        let mut connection = server.connect();
        let look = |connection: &mut Connection| {
            let response = connection.get(&format!("/?look={kind}"));
            assert_eq!(response.status, 200, "{}", response.text());
            response.text()
        };
        let first = look(&mut connection);
        assert!(!first.contains("does not know"), "{first}");
        is_the_same(&look(&mut connection), &first, "without any marks");
        let before = slots(&server, warm);

        let planted = connection.get(&format!("/?plant={kind}"));
        assert_eq!((planted.status, planted.text().as_str()), (200, "planted\n"));
        is_the_same(&look(&mut connection), &first, &format!("warm = {warm}, the first request behind it"));
        let mut after = slots(&server, warm);
        let gone = |now: &BTreeSet<u32>| before.difference(now).count();
        match slot {
            Stays => {
                assert!(before.is_subset(&after), "warm = {warm}: the slot is another: {before:?} {after:?}");
            }
            Goes => wait_until("another slot is there for that one", PATIENCE, || {
                after = slots_of(&server);
                after.len() >= warm.max(1) && gone(&after) == 1
            }),
            Either => {}
        }

        for number in 1..LOOKS {
            is_the_same(
                &look(&mut connection),
                &first,
                &format!("warm = {warm}, request {number} behind it"),
            );
        }
        let last = slots(&server, warm);
        match slot {
            Stays | Goes => {
                assert!(after.is_subset(&last), "warm = {warm}: a slot has gone: {after:?} {last:?}");
                assert!(last.len() <= warm + 2, "warm = {warm}: those that looked had other slots: {last:?}");
            }
            Either => assert!(gone(&last) <= 1, "{before:?} {last:?}"),
        }
    }
}

/// Says which lines are not.
#[track_caller]
fn is_the_same(found: &str, first: &str, when: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (found_lines, first_lines) = (lines(found), lines(first));
    let new: Vec<_> = found_lines.difference(&first_lines).collect();
    let missing: Vec<_> = first_lines.difference(&found_lines).collect();
    assert_eq!(found, first, "{when}: new are {new:#?}, missing are {missing:#?}");
}

/// The slots, once there are as many as wait. A request that comes before the last one's is vacant has one more.
#[track_caller]
fn slots(server: &Server, warm: usize) -> BTreeSet<u32> {
    let mut slots = BTreeSet::new();
    wait_until(&format!("there are {warm} slots"), PATIENCE, || {
        slots = slots_of(server);
        slots.len() >= warm
    });
    slots
}

#[test]
fn files_are_gone() {
    nothing_is_left("files", Stays, "env = { WRITABLE = \"/tmp:/dev/shm:/data\" }");
}

#[test]
fn files_in_a_root_that_takes_writes_are_gone() {
    nothing_is_left(
        "files",
        Stays,
        "read_only = false\nenv = { WRITABLE = \"/:/etc:/app:/tmp:/dev/shm:/data\" }",
    );
}

#[test]
fn shared_memory_is_gone() {
    nothing_is_left("shared_memory", Stays, "");
}

#[test]
fn shared_memory_semaphores_and_queues_of_system_v_are_gone() {
    nothing_is_left("system_v", Stays, "");
}

#[test]
fn message_queues_are_gone() {
    nothing_is_left("queues", Stays, "");
}

#[test]
fn abstract_sockets_are_gone() {
    nothing_is_left("abstract_sockets", Stays, "");
}

#[test]
fn a_socket_that_is_in_flight_in_a_cycle_of_sockets_is_not_met() {
    nothing_is_left("socket_cycle", Either, "");
}

#[test]
fn processes_that_ignore_every_signal_in_sessions_of_their_own_are_gone() {
    nothing_is_left("processes", Stays, "");
}

#[test]
fn memory_that_was_used_is_there_again() {
    nothing_is_left("memory", Stays, "memory = \"28m\"");
}

#[test]
fn processes_that_were_used_up_are_there_again() {
    nothing_is_left("pids", Stays, "pids = 24");
}

#[test]
fn connections_over_loopback_are_not_seen_and_their_slot_does_not_serve_again() {
    nothing_is_left("loopback", Goes, "");
}

#[test]
fn connections_that_were_refused_are_not_counted_and_their_slot_does_not_serve_again() {
    nothing_is_left("refused", Goes, "");
}

#[test]
fn addresses_that_were_out_of_reach_are_not_counted_and_their_slot_does_not_serve_again() {
    nothing_is_left("unreachable", Goes, "");
}

#[test]
fn datagrams_are_not_counted_and_their_slot_does_not_serve_again() {
    nothing_is_left("datagrams", Goes, "");
}

#[test]
fn a_process_is_born_as_the_first_was() {
    nothing_is_left("process", Stays, "");
}

#[test]
fn what_is_written_to_the_first_process_is_gone_with_its_slot() {
    nothing_is_left("init", Goes, "");
}

#[test]
fn the_kernels_files_take_no_writes() {
    let store = Store::new();
    let config = serde_json::json!({ "Entrypoint": ["/app/marks"] });
    store.load("test/marks:1", "marks.rs", &config);
    let server = store.serve("[[route]]\npath = \"/\"\nimage = \"test/marks:1\"\n");
    let text = server.get("/?look=init").text();
    let writable: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("writable: ")).collect();
    // Each use of these wants CAP_SYS_RESOURCE, or is one's own.
    assert_eq!(writable, ["/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory"], "{text}");
}

#[test]
fn descriptors_are_gone() {
    nothing_is_left("descriptors", Stays, "");
}

#[test]
fn keys_cannot_be_left() {
    nothing_is_left("keys", Stays, "");
}

#[test]
fn a_host_name_cannot_be_left() {
    nothing_is_left("host_name", Stays, "");
}

#[test]
fn mounts_are_as_they_were() {
    nothing_is_left("mounts", Stays, "");
    nothing_is_left("mounts", Stays, "read_only = false");
}

#[test]
fn the_environment_of_another_request_is_not_seen() {
    let store = common::embedded::store_with(&[("test/probe", "probe.rs", &["/app/probe"])]);
    for warm in [0, 2] {
        let server = store.serve(&format!(
            "[[route]]\npath = \"/\"\nimage = \"test/probe\"\nmax_concurrency = 1\nwarm = {warm}\n"
        ));
        let mut connection = server.connect();
        let before = slots(&server, warm);
        connection.send(
            "GET /?text&env=HTTP_X_MARK HTTP/1.1\r\nHost: localhost\r\nX-Mark: of another request\r\n\r\n",
        );
        assert_eq!(connection.response().text(), "=of another request\n");
        let used = slots(&server, warm.max(1));
        assert!(used.is_superset(&before));
        for _ in 0..LOOKS {
            let response = connection.get("/?text&env=HTTP_X_MARK");
            assert_eq!(response.text(), "unset\n");
            // Nor in what the init shares with its slot.
            assert_eq!(connection.get("/?text&envall").variables().get("HTTP_X_MARK"), None);
        }
        let last = slots(&server, warm.max(1));
        assert!(used.is_subset(&last) && last.len() <= warm + 2, "{used:?} {last:?}");
    }
}
