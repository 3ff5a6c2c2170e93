//! What a program finds inside: the embedded engine's containers beside Docker's, fact by fact.
//!
//! The same root file system is run three times: by `docker run` as it is, by `docker run` with what the docker engine
//! asks for, and by the embedded engine. Each fact has a rule for what it may be here, and a fact without one fails
//! the test: nothing new is seen inside that nobody has thought about.
//!
//! The whole tables are afterwards in `inside.txt` and `inside-as-nobody.txt`, in the folder that is Cargo's
//! `CARGO_TARGET_TMPDIR`; `--nocapture` shows them.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use common::docker::docker;
use common::embedded::{root_of, store_with};
use common::server::unique_path;

/// What the docker engine asks Docker for, on a route that says nothing of its own.
const FORM: &[&str] = &[
    "--network",
    "none",
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--init",
    "--tmpfs",
    "/tmp:mode=1777",
    "--memory",
    "256m",
    "--pids-limit",
    "128",
    "--cpus",
    "1",
];

#[test]
fn inside_the_embedded_engine_is_nothing_that_docker_does_not_give() {
    compare("inside.txt", None);
}

#[test]
fn inside_the_embedded_engine_an_ordinary_user_has_nothing_that_docker_does_not_give() {
    compare("inside-as-nobody.txt", Some("65534:65534"));
}

fn compare(table: &str, user: Option<&str>) {
    let archive = unique_path("inside.tar");
    fs::write(&archive, root_of("inside.rs")).unwrap();
    let image = format!("dcgi-test/{}", table.trim_end_matches(".txt"));
    docker(&["import", "--change", r#"ENTRYPOINT ["/app/inside"]"#, archive.to_str().unwrap(), &image]);
    fs::remove_file(archive).unwrap();
    let run = |form: &[&str]| {
        let user: Vec<_> = user.map(|user| ["--user", user]).into_iter().flatten().collect();
        facts(&docker(&[&["run", "--rm"], form, &user, &[&*image]].concat()))
    };
    let (defaults, form) = (run(&[]), run(FORM));
    docker(&["rmi", &image]);

    let store = store_with(&[("test/inside", "inside.rs", &["/app/inside"])]);
    let user = user.map(|user| format!("user = {user:?}\n")).unwrap_or_default();
    let server = store.serve(&format!(
        "[[route]]\npath = \"/\"\nimage = \"test/inside\"\nworking_dir = \"/\"\ntimeout = \"2m\"\n{user}"
    ));
    let response = server.get("/");
    assert_eq!(response.status, 200, "{}", response.text());
    let embedded = facts(&format!("\n\n{}", response.text()));

    let keys: BTreeSet<_> = [&defaults, &form, &embedded].into_iter().flat_map(BTreeMap::keys).collect();
    assert!(keys.len() > 1000, "the probe has said little: {keys:?}");
    let mut lines = String::new();
    let mut wrong = String::new();
    for key in keys {
        let value =
            |facts: &BTreeMap<String, String>| facts.get(key).cloned().unwrap_or_else(|| ABSENT.into());
        let (defaults, form, ours) = (value(&defaults), value(&form), value(&embedded));
        let verdict = verdict(key, &defaults, &form, &ours);
        let line =
            format!("{key} | {defaults} | {form} | {ours} | {}\n", verdict.as_ref().unwrap_or_else(|e| e));
        lines += &line;
        if verdict.is_err() {
            wrong += &line;
        }
    }
    let mut out = String::from("line | Docker's defaults | docker engine | embedded engine | verdict\n");
    write!(out, "{lines}").unwrap();
    print!("{out}");
    fs::write(format!("{}/{table}", env!("CARGO_TARGET_TMPDIR")), out).unwrap();
    assert!(
        wrong.is_empty(),
        "line | Docker's defaults | docker engine | embedded engine | verdict\n{wrong}"
    );
}

/// In place of a value: the fact is not there.
const ABSENT: &str = "-";

/// The probe's output behind its header block: each key's values, all of them where it has several.
fn facts(output: &str) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::<String, String>::new();
    let (_, lines) = output.split_once("\n\n").expect("a header block");
    for line in lines.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        facts
            .entry(key.to_owned())
            .and_modify(|values| *values = format!("{values} || {value}"))
            .or_insert_with(|| value.to_owned());
    }
    facts
}

/// What holds of a fact; `Err` where it should and does not.
fn verdict(key: &str, defaults: &str, form: &str, ours: &str) -> Result<String, String> {
    let matches = |pattern: &str| key == pattern || pattern.ends_with('.') && key.starts_with(pattern);
    let Some((_, words, rule)) = RULES.iter().find(|(patterns, ..)| patterns.iter().any(|p| matches(p)))
    else {
        return Err("NOT COVERED by a rule".to_owned());
    };
    let excepted = AGAINST_DEFAULTS.iter().find(|(known, _)| *known == key).map(|(_, why)| why);
    let holds = |docker: &str| match rule {
        Same => ours == docker,
        Against(holds) => holds(docker, ours),
        Ours(holds) => holds(key, ours),
    };
    match (holds(defaults) || excepted.is_some(), holds(form)) {
        (true, true) if ours == defaults && ours == form => Ok("equal".to_owned()),
        (true, true) => Ok(excepted.map_or_else(|| (*words).to_owned(), |why| format!("{words}; but {why}"))),
        _ => Err(format!("LOOSER, or other than: {words}")),
    }
}

/// Where the docker engine's own form is wider than Docker's defaults, too, and why that is right.
const AGAINST_DEFAULTS: &[(&str, &str)] = &[
    ("mount./tmp", "the route's `tmpfs` asks for it"),
    ("syscall.446", "the kernel wants no_new_privs for landlock_restrict_self"),
    ("syscall32.446", "the kernel wants no_new_privs for landlock_restrict_self"),
];

enum Rule {
    /// The value is Docker's.
    Same,
    /// This holds between Docker's value and ours.
    Against(fn(docker: &str, ours: &str) -> bool),
    /// This holds of the key and our value, whatever Docker's is.
    Ours(fn(key: &str, ours: &str) -> bool),
}

use Rule::{Against, Ours, Same};

/// Keys, or with a dot at their end what they begin with; the rule in words; the rule. The first that fits counts.
const RULES: &[(&[&str], &str, Rule)] = &[
    (
        &[
            "status.Umask",
            "status.Uid",
            "status.Gid",
            "status.FDSize",
            "status.Kthread",
            "status.Threads",
            "status.SigPnd",
            "status.ShdPnd",
            "status.SigCgt",
            "status.Speculation_Store_Bypass",
            "status.SpeculationIndirectBranch",
            "status.Cpus_allowed_list",
            "status.Mems_allowed_list",
            "process.group",
            "process.policy",
            "process.cwd",
            "process.coredump_filter",
            "process.timerslack_ns",
            "process.attr/current",
            "process.personality",
            "process.terminal",
            "process.nice",
            "process.oom_score_adj",
            "init.status",
            "domainname",
            "uid_map",
            "gid_map",
            "net.ip_forward",
        ],
        "the same",
        Same,
    ),
    // Docker's containers have what their engine was started with.
    (&["status.SigBlk", "status.SigIgn"], "no signal blocked or ignored", Ours(|_, ours| number(ours) == 0)),
    (&["status.Groups"], "no further groups", Against(is_subset)),
    (
        &["status.CapInh", "status.CapPrm", "status.CapEff", "status.CapBnd", "status.CapAmb"],
        "none",
        Ours(|_, ours| u64::from_str_radix(ours, 16) == Ok(0)),
    ),
    (&["status.NoNewPrivs"], "on", Ours(|_, ours| ours == "1")),
    (&["status.Seccomp"], "a filter", Ours(|_, ours| ours == "2")),
    (&["status.Seccomp_filters"], "as many or more", Against(|docker, ours| number(ours) >= number(docker))),
    (&["process.parent"], "the init's child", Ours(|_, ours| ours == "1")),
    (&["process.session"], "one of its own", Ours(|_, ours| ours == "own")),
    (&["process.first"], "beside an init", Ours(|_, ours| ours == "false")),
    (&["fd."], "the three streams, as pipes", Against(|docker, ours| docker != ABSENT && ours == "pipe")),
    (
        &["env."],
        "Docker's, or a meta-variable",
        Ours(|key, _| {
            ["HOME", "HOSTNAME", "PATH"].iter().chain(META_VARIABLES).any(|name| key == format!("env.{name}"))
        }),
    ),
    (
        &["seen."],
        "nobody but the program and its init",
        Ours(|key, ours| matches!(key, "seen.inside" | "seen.dcgi-init") || ours == ABSENT),
    ),
    (&["init.name"], "the init", Ours(|_, ours| ours == "dcgi-init")),
    (
        &["init.environ", "init.maps", "init.mem", "init.root", "ptrace.init", "process_vm_readv.init"],
        "refused",
        Ours(|_, ours| is_refused(ours)),
    ),
    (
        &["limit.Max_pending_signals", "limit.Max_msgqueue_size"],
        "half of the user's",
        Against(|docker, ours| are_limits_within(docker, ours) && (ours != docker || is_unlimited(ours))),
    ),
    (&["limit."], "at most Docker's", Against(are_limits_within)),
    (&["ptys"], "few", Ours(|_, ours| ours == "64")),
    // Without a user namespace of one's own, as Docker has it; and Docker has none of time either.
    (&["ns.user", "ns.time", "ns.time_for_children"], "the same", Same),
    (
        &["ns."],
        "another than the host's",
        Ours(|key, ours| {
            let host = fs::read_link(key.replace("ns.", "/proc/self/ns/")).unwrap();
            ours.contains(":[") && host.to_string_lossy() != ours
        }),
    ),
    (
        &["hostname", "etc.hostname"],
        "its own",
        Ours(|_, ours| {
            let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            host.trim_end() != ours && ours.len() == 12 && ours.bytes().all(|byte| byte.is_ascii_hexdigit())
        }),
    ),
    (&["interface.", "net.dev."], "loopback alone", Ours(|key, ours| key.ends_with(".lo") || ours == ABSENT)),
    (&["routes"], "none", Ours(|_, ours| ours == "0")),
    (&["connect."], "nobody", Ours(|_, ours| is_refused(ours))),
    (
        &["net.ip_unprivileged_port_start"],
        "Docker's or above",
        Against(|docker, ours| number(ours) >= number(docker)),
    ),
    (&["net.ping_group_range"], "Docker's or none", Against(|docker, ours| ours == docker || ours == "1 0")),
    (&["etc.resolv.conf"], "none", Ours(|_, ours| ours.is_empty() || is_refused(ours))),
    (
        &["etc.hosts"],
        "its own names, on loopback",
        Ours(|_, ours| ours.split(" | ").all(|line| line.starts_with("127.") || line.starts_with("::1 "))),
    ),
    (&["cgroup.file."], "not to be seen", Ours(|_, ours| ours == ABSENT)),
    (&["cgroup.limit."], "not to be seen", Ours(|_, ours| is_refused(ours))),
    (&["cgroup.make."], "refused", Ours(|_, ours| is_refused(ours))),
    (&["cgroup."], "its own is the root", Ours(|_, ours| ours == "/")),
    (
        &["mount.new", "mount.remount", "mount.bind", "umount", "pivot_root", "chroot"],
        "refused",
        Ours(|_, ours| is_refused(ours)),
    ),
    // A newer Docker hides it, too.
    (
        &["mount./proc/interrupts", "mount./sys/devices/virtual/powercap"],
        "hidden",
        Ours(|_, ours| {
            ours == ABSENT || ["ro", "nosuid", "noexec"].iter().all(|option| options(ours).contains(option))
        }),
    ),
    (&["mount."], "one of Docker's, restricted as much", Against(is_mount_within)),
    (
        &["masked."],
        "hidden where Docker hides",
        Against(|docker, ours| !is_hidden(docker) || is_hidden(ours)),
    ),
    (&["folder."], "Docker's, or not there", Against(|docker, ours| ours == docker || is_refused(ours))),
    (&["write."], "refused where Docker refuses", Against(is_refused_alike)),
    (&["dev."], "one of Docker's", Against(|docker, ours| ours == docker || ours == ABSENT)),
    (&["setuid_files"], "without effect", Ours(|_, ours| ours == "no")),
    (&["syscall.", "syscall32."], "filtered where Docker filters", Against(is_filtered_alike)),
    (
        &[
            "bind.",
            "number.",
            "unshare.",
            "clone.",
            "fsopen.",
            "open_tree.",
            "mknod.",
            "socket.",
            "personality.",
            "keyctl.",
            "syslog.",
            "kill.",
            "perf_event_open",
            "bpf.",
            "io_uring_setup",
            "userfaultfd",
            "kexec_load",
            "setuid.",
            "setgroups.",
            "nice.",
            "setrlimit.",
        ],
        "refused where Docker refuses",
        Against(is_refused_alike),
    ),
];

/// What a program is told of its request: RFC 3875 and dcgi's own, for a request without a body.
const META_VARIABLES: &[&str] = &[
    "GATEWAY_INTERFACE",
    "HTTP_HOST",
    "QUERY_STRING",
    "REDIRECT_STATUS",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "REMOTE_PORT",
    "REQUEST_ID",
    "REQUEST_METHOD",
    "REQUEST_SCHEME",
    "REQUEST_URI",
    "SCRIPT_FILENAME",
    "SCRIPT_NAME",
    "PATH_INFO",
    "SERVER_ADDR",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "UNIQUE_ID",
];

fn number(text: &str) -> u64 {
    match text {
        "unlimited" => u64::MAX,
        text => text.parse().unwrap_or_else(|_| panic!("no number: {text}")),
    }
}

fn is_subset(docker: &str, ours: &str) -> bool {
    ours.split(' ').filter(|word| !word.is_empty()).all(|word| docker.split(' ').any(|other| other == word))
}

/// An error, or the death of whoever asks.
fn is_refused(value: &str) -> bool {
    ["errno ", "signal "].iter().any(|kind| value.starts_with(kind))
}

fn is_refused_alike(docker: &str, ours: &str) -> bool {
    !is_refused(docker) || is_refused(ours)
}

/// As a filter refuses: EPERM, ENOSYS, death. What the kernel itself says of rights looks the same.
fn is_filtered_alike(docker: &str, ours: &str) -> bool {
    let is_filtered = |value: &str| matches!(value, "errno 1" | "errno 38") || value.starts_with("signal ");
    ours == docker || is_filtered(ours)
}

fn is_hidden(value: &str) -> bool {
    is_refused(value) || value.ends_with("of nothing")
}

fn are_limits_within(docker: &str, ours: &str) -> bool {
    let of = |text: &str| text.split(' ').map(number).collect::<Vec<_>>();
    of(ours).iter().zip(of(docker)).all(|(ours, docker)| *ours <= docker)
}

fn is_unlimited(limits: &str) -> bool {
    limits.split(' ').all(|limit| limit == "unlimited")
}

/// The options of a mount; of the one on top, where several are at one place.
fn options(mount: &str) -> Vec<&str> {
    let top = mount.rsplit(" || ").next().unwrap_or_default();
    top.split(' ').find_map(|word| word.strip_prefix("options=")).unwrap_or_default().split(',').collect()
}

fn is_mount_within(docker: &str, ours: &str) -> bool {
    let (theirs, own) = (options(docker), options(ours));
    let restricted = ["ro", "nosuid", "nodev", "noexec"]
        .iter()
        .all(|option| !theirs.contains(option) || own.contains(option));
    ours == ABSENT || docker != ABSENT && restricted && !ours.contains("tags=shared")
}
