//! Cases that run in the machine, and only there: what is so on version 2 alone, a root on an initramfs, and what all
//! suites together have left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use libtest_mimic::{Arguments, Trial};
use rustix::fs::{XattrFlags, setxattr};
use tempfile::TempDir;

use crate::common::embedded::{Process, Store, cgroups_of, descendants, named, processes, store_with};
use crate::common::engine::{open_folder, shared_folder, take_back_cgroups};
use crate::common::server::FOLDER;
use crate::common::{Connection, PATIENCE, Server, Under, wait_until};

/// A sentence, and what shows it.
type Case = (&'static str, fn());

macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name)),*] };
}

/// The cases by when they run: see `suites::all`.
const GROUPS: &[(&str, &[Case])] = &[
    (
        "initramfs",
        cases![
            a_container_is_made_although_the_root_cannot_be_exchanged,
            nothing_of_the_initramfs_is_seen_inside,
            an_ordinary_users_container_is_made_too,
        ],
    ),
    (
        "groups",
        cases![
            the_machine_has_version_2_alone,
            a_slots_group_has_the_limits_of_its_route,
            a_program_is_in_its_slots_group,
            a_program_has_no_more_of_the_processors_than_its_route,
            beside_the_group_that_dcgi_is_in_are_its_slots_groups,
            a_group_that_is_handed_over_is_divided_although_dcgi_is_in_it,
            what_holds_on_in_a_slots_group_ends_with_dcgi,
            what_holds_on_in_a_dead_dcgis_group_ends_when_the_next_one_starts,
            inside_a_group_is_the_root_and_has_no_files,
            inside_everything_is_the_containers_own,
        ],
    ),
    (
        "systemd",
        cases![
            its_unit_serves,
            its_containers_have_their_limits_in_the_group_that_systemd_hands_over,
            when_it_is_stopped_what_runs_finishes_and_nothing_is_left,
            when_it_is_killed_it_is_started_again_and_nothing_of_the_first_is_left,
        ],
    ),
    (
        "leftovers",
        cases![
            no_process_is_left,
            no_group_is_left,
            no_mount_is_left,
            no_socket_is_left,
            no_temporary_file_is_left,
        ],
    ),
];

fn group(name: &str) -> &'static [Case] {
    let found = GROUPS.iter().find(|(group, _)| *group == name);
    found.unwrap_or_else(|| panic!("there is no group {name}")).1
}

pub(crate) fn names(of: &str) -> Vec<String> {
    group(of).iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Runs a group's cases, and exits.
pub(crate) fn run(name: &str) -> ! {
    let mut arguments = Arguments::from_args();
    // Some look at the machine as a whole.
    arguments.test_threads = Some(1);
    let trial = |(name, case): &Case| {
        let case = *case;
        Trial::test(*name, move || {
            case();
            Ok(())
        })
    };
    let trials = group(name).iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

const ROUTE: &str = "[[route]]\npath = \"/\"\nimage = \"test/probe\"\n";

fn probe() -> Store {
    store_with(&[("test/probe", "probe.rs", &["/app/probe"])])
}

/// Begins a request whose program has answered, and waits for a byte to go on.
fn begin(server: &Server) -> Connection {
    let mut connection = server.connect();
    connection.send_head("POST", "/?text&print=begun&read=1", 1);
    assert_eq!(connection.head().status, 200);
    connection.expect("begun");
    connection
}

// === a root on an initramfs ===

/// Whether the root is the first mount of all, which pivot_root(2) does not exchange.
#[track_caller]
fn root_is_an_initramfs() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("there is a root");
    assert!(root.contains(" - rootfs "), "{root}");
}

fn a_container_is_made_although_the_root_cannot_be_exchanged() {
    root_is_an_initramfs();
    let store = probe();
    let server = store.serve(ROUTE);
    assert_eq!(server.get("/?text&print=served").text(), "served");
}

fn an_ordinary_users_container_is_made_too() {
    root_is_an_initramfs();
    let folder = open_folder();
    FOLDER.set(folder.clone()).expect("nobody else sets it");
    let route = ROUTE.replace("test/probe", "IMAGE");
    let server = Server::start_under(
        Under::embedded_as_ordinary_user(&folder),
        &format!("engine = \"embedded\"\n{route}"),
        |_| {},
    );
    assert_eq!(server.get("/?text&print=served").text(), "served");
    // With limits.
    assert!(!server.log().contains("cannot be enforced"), "{}", server.log());
    assert!(!cgroups_of(server.pid()).is_empty());
    drop(server);
    take_back_cgroups();
    fs::remove_dir_all(folder).unwrap();
}

fn nothing_of_the_initramfs_is_seen_inside() {
    root_is_an_initramfs();
    let store = probe();
    let server = store.serve(ROUTE);
    let seen = server.get("/?text&file=/init&file=/../init&file=/bin/busybox").text();
    assert_eq!(seen.matches("No such file").count(), 3, "{seen}");
    let mounts = server.get("/?text&file=/proc/self/mountinfo").text();
    // The image lies on it. Of its root there is nothing.
    let shows_its_root = |line: &&str| line.split(' ').nth(3) == Some("/") && line.contains(" - rootfs ");
    assert_eq!(mounts.lines().find(shows_its_root), None, "{mounts}");
}

// === control groups of version 2 ===

fn the_machine_has_version_2_alone() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(mounts.contains(" - cgroup2 ") && !mounts.contains(" - cgroup "), "{mounts}");
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    for controller in ["memory", "cpu", "pids"] {
        assert!(controllers.split_ascii_whitespace().any(|one| one == controller), "{controllers}");
    }
}

/// The one slot's group of a server that runs one request.
#[track_caller]
fn only_group(server: &Server) -> PathBuf {
    let is_slots = |group: &PathBuf| !group.file_name().unwrap().to_string_lossy().contains('.');
    let groups: Vec<_> = cgroups_of(server.pid()).into_iter().filter(is_slots).collect();
    assert_eq!(groups.len(), 1, "{groups:?}");
    groups.into_iter().next().unwrap()
}

fn a_slots_group_has_the_limits_of_its_route() {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}warm = 0\nmemory = \"32MiB\"\npids = 20\ncpus = 0.5\n"));
    let _running = begin(&server);
    let group = only_group(&server);
    let limit = |file: &str| fs::read_to_string(group.join(file)).unwrap().trim_end().to_owned();
    assert_eq!(limit("memory.max"), (32 << 20).to_string());
    // The slot is counted beside the program and its init.
    assert_eq!(limit("pids.max"), "21");
    assert_eq!(limit("cpu.max"), "50000 100000");
}

fn a_program_is_in_its_slots_group() {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}warm = 0\n"));
    let _running = begin(&server);
    let inside = fs::read_to_string(only_group(&server).join("cgroup.procs")).unwrap();
    let programs = named(server.pid(), "probe");
    assert_eq!(programs.len(), 1);
    assert!(programs.iter().all(|program| inside.lines().any(|pid| pid == program.to_string())), "{inside}");
}

fn a_program_has_no_more_of_the_processors_than_its_route() {
    let store = probe();
    let server = store.serve(&format!("{ROUTE}warm = 0\ncpus = 0.1\n"));
    let mut connection = server.connect();
    connection.send_head("POST", "/?text&print=begun&burn=1000&print=done&read=1", 1);
    assert_eq!(connection.head().status, 200);
    let group = only_group(&server);
    let throttled = || {
        let counts = fs::read_to_string(group.join("cpu.stat")).unwrap();
        let count = counts.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        count.unwrap_or_else(|| panic!("{counts}")).parse::<u64>().unwrap()
    };
    wait_until("it is held back", PATIENCE, || throttled() > 0);
}

/// Serves from a group that is there already, as a service manager starts one.
fn serve_in(store: &Store, group: &Path) -> Server {
    store.serve_with(ROUTE, |command| {
        let mut outer = Command::new("sh");
        let door = group.join("cgroup.procs");
        outer.arg("-c").arg(format!("echo $$ >{} && exec \"$0\" \"$@\"", door.display()));
        outer.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            outer.env(name, value.unwrap());
        }
        *command = outer;
    })
}

/// The group that a process is in, and those below it.
fn group_of(pid: u32) -> (String, Vec<PathBuf>) {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = own.trim_end().trim_start_matches("0::").to_owned();
    let entries = fs::read_dir(format!("/sys/fs/cgroup{own}")).unwrap().flatten();
    (own, entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

/// A group with processes cannot be divided, so its own stays as it was.
fn beside_the_group_that_dcgi_is_in_are_its_slots_groups() {
    let store = probe();
    let own = Path::new("/sys/fs/cgroup/service/server");
    fs::create_dir_all(own).unwrap();
    let mut server = serve_in(&store, own);
    assert_eq!(server.get("/?text&print=served").text(), "served");
    assert!(!server.log().contains("cannot be enforced"), "{}", server.log());
    assert_eq!(group_of(server.pid()), ("/service/server".to_owned(), Vec::new()));
    let groups = cgroups_of(server.pid());
    assert!(groups.iter().all(|group| group.starts_with("/sys/fs/cgroup/service/dcgi")), "{groups:?}");
    server.signal("TERM");
    server.wait();
    // Refused where there is anything in them.
    fs::remove_dir(own).unwrap();
    fs::remove_dir("/sys/fs/cgroup/service").unwrap();
}

/// As systemd hands one over with `Delegate=yes` alone, and marks it.
fn a_group_that_is_handed_over_is_divided_although_dcgi_is_in_it() {
    let store = probe();
    let service = Path::new("/sys/fs/cgroup/service");
    fs::create_dir(service).unwrap();
    setxattr(service, "user.delegate", b"1", XattrFlags::empty()).unwrap();
    let mut server = serve_in(&store, service);
    assert_eq!(server.get("/?text&print=served").text(), "served");
    assert!(!server.log().contains("cannot be enforced"), "{}", server.log());
    assert_eq!(group_of(server.pid()), ("/service/server".to_owned(), Vec::new()));
    let groups = cgroups_of(server.pid());
    assert!(!groups.is_empty(), "there is no group");
    assert!(groups.iter().all(|group| group.starts_with("/sys/fs/cgroup/service/dcgi")), "{groups:?}");
    server.signal("TERM");
    server.wait();
    fs::remove_dir(service.join("server")).unwrap();
    fs::remove_dir(service).unwrap();
}

/// A dcgi of an ordinary user's, to whom the kernel refuses to signal what is root's: of that, only a group's own
/// `cgroup.kill` is his. Declare it before its servers.
struct Ordinary {
    under: Under,
    _folder: TempDir,
}

impl Ordinary {
    fn new() -> Self {
        let folder = shared_folder();
        Self { under: Under::embedded_as_ordinary_user(folder.path()), _folder: folder }
    }

    /// Serves from a container that is made for each request.
    #[track_caller]
    fn serve(&self) -> Server {
        let route = ROUTE.replace("test/probe", "IMAGE");
        let config = format!("engine = \"embedded\"\n{route}warm = 0\n");
        Server::start_under(self.under.clone(), &config, |_| {})
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        take_back_cgroups();
    }
}

/// A process of root's in the group of the slot that serves now, as one would be that has found a way out of its
/// namespaces: no signal to a PID namespace reaches it, and none that an ordinary user sends.
#[track_caller]
fn intruder(server: &Server) -> Child {
    let intruder = Command::new("sleep").arg("3600").spawn().expect("sleep runs");
    fs::write(only_group(server).join("cgroup.procs"), intruder.id().to_string()).unwrap();
    intruder
}

#[track_caller]
fn was_killed(mut intruder: Child) {
    let mut ended = None;
    let in_time = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("it ends", PATIENCE, || {
            ended = intruder.try_wait().unwrap();
            ended.is_some()
        });
    }));
    if in_time.is_err() {
        intruder.kill().unwrap();
        intruder.wait().unwrap();
    }
    assert_eq!(ended.expect("it still runs").signal(), Some(9));
}

fn what_holds_on_in_a_slots_group_ends_with_dcgi() {
    let ordinary = Ordinary::new();
    let mut server = ordinary.serve();
    let running = begin(&server);
    let intruder = intruder(&server);
    drop(running);
    server.signal("TERM");
    assert!(server.wait().success());
    was_killed(intruder);
    assert_eq!(cgroups_of(server.pid()), BTreeSet::new());
}

fn what_holds_on_in_a_dead_dcgis_group_ends_when_the_next_one_starts() {
    let ordinary = Ordinary::new();
    let mut server = ordinary.serve();
    let _running = begin(&server);
    let intruder = intruder(&server);
    server.signal("KILL");
    server.wait();
    let _next = ordinary.serve();
    was_killed(intruder);
    wait_until("its groups are removed", PATIENCE, || cgroups_of(server.pid()).is_empty());
}

// === the look from inside ===

/// What the probe `inside.rs` says of these groups of facts.
fn facts(groups: &str) -> BTreeMap<String, String> {
    let store = store_with(&[("test/inside", "inside.rs", &["/app/inside"])]);
    let server = store.serve("[[route]]\npath = \"/\"\nimage = \"test/inside\"\n");
    let response = server.get(&format!("/?{groups}"));
    assert_eq!(response.status, 200);
    let pair = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned()));
    response.text().lines().filter_map(pair).collect()
}

fn inside_a_group_is_the_root_and_has_no_files() {
    let facts = facts("cgroup");
    assert_eq!(facts["cgroup."], "/");
    for (key, value) in &facts {
        assert!(!key.starts_with("cgroup.file."), "{key} {value}");
        let is_refused = value.starts_with("errno ");
        assert!(
            is_refused || !["cgroup.limit.", "cgroup.make."].iter().any(|p| key.starts_with(p)),
            "{key} {value}"
        );
    }
}

fn inside_everything_is_the_containers_own() {
    let facts = facts("status&namespaces&network&mounts");
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let inside = &facts[&format!("ns.{kind}")];
        assert!(inside.contains(":[") && *inside != host.to_string_lossy(), "{kind}: {inside}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(facts[&format!("status.{set}")], "0000000000000000", "{set}");
    }
    assert_eq!((&*facts["status.Seccomp"], &*facts["status.NoNewPrivs"]), ("2", "1"));
    let interfaces: Vec<_> = facts.keys().filter(|key| key.starts_with("interface.")).collect();
    assert_eq!(interfaces, ["interface.lo"]);
    let groups: Vec<_> = facts.keys().filter(|key| key.starts_with("mount./sys/fs/cgroup")).collect();
    assert!(groups.iter().all(|key| facts[*key].contains("options=ro")), "{facts:?}");
}

// === a service of systemd's ===

/// Asks the service. It has begun to answer when this returns.
fn ask(path: &str) -> TcpStream {
    let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn answer(path: &str) -> String {
    let mut text = String::new();
    ask(path).read_to_string(&mut text).unwrap();
    text
}

fn systemctl(arguments: &[&str]) -> String {
    run_to_end("systemctl", arguments).trim_end().to_owned()
}

fn main_pid() -> u32 {
    systemctl(&["show", "--property", "MainPID", "--value", "dcgi"]).parse().unwrap()
}

fn its_unit_serves() {
    assert_eq!(systemctl(&["is-active", "dcgi"]), "active");
    let answer = answer("/");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("served\n"), "{answer}");
}

fn its_containers_have_their_limits_in_the_group_that_systemd_hands_over() {
    let log = run_to_end("journalctl", &["--no-pager", "--unit", "dcgi"]);
    assert!(log.contains("its requests go to embedded") && !log.contains("cannot be enforced"), "{log}");
    let mut slow = ask("/slow");
    slow.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(group_of(main_pid()).0, "/system.slice/dcgi.service/server");
    let groups = cgroups_of(main_pid());
    let is_below = |group: &PathBuf| group.starts_with("/sys/fs/cgroup/system.slice/dcgi.service/dcgi");
    assert!(!groups.is_empty() && groups.iter().all(is_below), "{groups:?}");
    let has_limit = |group: &PathBuf| {
        fs::read_to_string(group.join("memory.max"))
            .is_ok_and(|limit| limit.trim_end() == (256 << 20).to_string())
    };
    assert!(groups.iter().any(has_limit), "{groups:?}");
}

fn when_it_is_stopped_what_runs_finishes_and_nothing_is_left() {
    let mut slow = ask("/slow");
    slow.read_exact(&mut [0; 1]).unwrap();
    systemctl(&["stop", "--no-block", "dcgi"]);
    let mut rest = String::new();
    slow.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("done\n"), "{rest}");
    let state = || systemctl(&["show", "--property", "ActiveState", "--value", "dcgi"]);
    wait_until("it has stopped", PATIENCE, || state() == "inactive");
    no_process_is_left();
    assert!(!Path::new("/sys/fs/cgroup/system.slice/dcgi.service").exists());
    systemctl(&["start", "dcgi"]);
    assert!(answer("/").contains("served\n"));
}

fn when_it_is_killed_it_is_started_again_and_nothing_of_the_first_is_left() {
    let mut endless = ask("/endless");
    endless.read_exact(&mut [0; 1]).unwrap();
    let first = main_pid();
    wait_until("its program runs on", PATIENCE, || !named(first, "sleep").is_empty());
    let of_first: BTreeSet<_> = descendants(first).into_iter().map(|process| process.pid).collect();
    systemctl(&["kill", "--kill-who", "main", "--signal", "KILL", "dcgi"]);
    wait_until("another is started", PATIENCE, || {
        let next = main_pid();
        next != 0
            && next != first
            && systemctl(&["show", "--property", "ActiveState", "--value", "dcgi"]) == "active"
    });
    assert!(answer("/").contains("served\n"));
    wait_until("its processes are gone", PATIENCE, || !processes().keys().any(|pid| of_first.contains(pid)));
    wait_until("its groups are removed", PATIENCE, || cgroups_of(first).is_empty());
}

// === what is left ===

fn no_process_is_left() {
    let is_ours = |name: &str| name.starts_with("dcgi") || ["probe", "inside"].contains(&name);
    let left: Vec<_> = processes().into_values().filter(|process| is_ours(&process.name)).collect();
    assert_eq!(left, Vec::<Process>::new());
}

fn no_group_is_left() {
    let entries = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let left: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// What process 1 has noted before the first suite.
fn before(file: &str) -> String {
    fs::read_to_string(Path::new("/before").join(file)).unwrap()
}

fn no_mount_is_left() {
    assert_eq!(fs::read_to_string("/proc/1/mountinfo").unwrap(), before("mounts"));
}

fn no_socket_is_left() {
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    assert_eq!(sockets.lines().count(), before("sockets").lines().count(), "{sockets}");
    let listening = fs::read_to_string("/proc/net/tcp").unwrap();
    // proc_net_tcp: the fourth field is the state, 0A is LISTEN.
    let listening = listening.lines().filter(|line| line.split_ascii_whitespace().nth(3) == Some("0A"));
    assert_eq!(listening.collect::<Vec<_>>(), Vec::<&str>::new());
}

fn no_temporary_file_is_left() {
    let listed = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let places = fs::read_to_string("/plan/places").unwrap();
    let now = run_to_end("find", &places.split_ascii_whitespace().collect::<Vec<_>>());
    let new: Vec<_> = listed(&now).difference(&listed(&before("files"))).cloned().collect();
    assert_eq!(new, Vec::<String>::new());
}

/// Runs a command, and gives what it has printed.
#[track_caller]
#[allow(clippy::disallowed_methods)]
fn run_to_end(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}
