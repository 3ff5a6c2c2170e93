//! Who the program is, and what bounds it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::Facts;
use crate::kernel::{failure, result};

/// A file's text, or why there is none.
pub fn text(path: &str) -> String {
    match fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).trim_end().to_owned(),
        Err(error) => failure(&error),
    }
}

/// The names in a folder, in order.
pub fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Capabilities, signals, filters: what the kernel says of this process.
pub fn status(facts: &mut Facts) {
    const WANTED: &[&str] = &[
        "Umask",
        "Uid",
        "Gid",
        "FDSize",
        "Groups",
        "Kthread",
        "Threads",
        "SigPnd",
        "ShdPnd",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Speculation_Store_Bypass",
        "SpeculationIndirectBranch",
        "Cpus_allowed_list",
        "Mems_allowed_list",
    ];
    for line in text("/proc/self/status").lines() {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        if WANTED.contains(&key) {
            let words: Vec<_> = value.split_whitespace().collect();
            facts.add(format_args!("status.{key}"), words.join(" "));
        }
    }
}

/// Its place among processes, its descriptors and variables.
pub fn process(facts: &mut Facts) {
    let stat = text("/proc/self/stat");
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let own = std::process::id().to_string();
    let wanted = [("parent", 1), ("group", 2), ("session", 3), ("terminal", 4), ("nice", 16), ("policy", 38)];
    for (key, at) in wanted {
        let value = fields.get(at).copied().unwrap_or_default();
        facts.add(format_args!("process.{key}"), if value == own { "own" } else { value });
    }
    facts.add("process.first", own == "1");
    facts.add(
        "process.cwd",
        std::env::current_dir().map_or_else(|e| failure(&e), |p| p.display().to_string()),
    );
    for file in ["oom_score_adj", "coredump_filter", "timerslack_ns", "attr/current", "personality"] {
        facts.add(format_args!("process.{file}"), text(&format!("/proc/self/{file}")));
    }
    for name in names("/proc/self/fd") {
        // The folder's own is gone by now.
        if let Ok(target) = fs::read_link(format!("/proc/self/fd/{name}")) {
            let target = target.to_string_lossy().into_owned();
            facts.add(format_args!("fd.{name}"), target.split(":[").next().unwrap_or_default());
        }
    }
    let mut variables: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    variables.sort();
    for name in variables {
        facts.add(format_args!("env.{}", name.display()), "set");
    }
    // By name, for the numbers depend on what was short-lived before.
    let pids = names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let mut seen: Vec<_> = pids.map(|pid| text(&format!("/proc/{pid}/comm"))).collect();
    seen.sort();
    for name in seen {
        facts.add(format_args!("seen.{name}"), "yes");
    }
    facts.add("init.name", text("/proc/1/comm"));
    for file in ["environ", "maps", "mem", "status"] {
        let opened = fs::File::open(format!("/proc/1/{file}"));
        facts.add(format_args!("init.{file}"), result(opened));
    }
    facts.add("init.root", result(fs::read_link("/proc/1/root")));
}

/// Limits of resources.
pub fn limits(facts: &mut Facts) {
    for line in text("/proc/self/limits").lines().skip(1) {
        let (name, values) = line.split_at_checked(26).unwrap_or((line, ""));
        let values: Vec<_> = values.split_whitespace().take(2).collect();
        facts.add(format_args!("limit.{}", name.trim_end().replace(' ', "_")), values.join(" "));
    }
}

/// Which namespaces these are, and the names of the machine.
pub fn namespaces(facts: &mut Facts) {
    for name in names("/proc/self/ns") {
        let link = fs::read_link(format!("/proc/self/ns/{name}"));
        facts.add(format_args!("ns.{name}"), link.map_or_else(|e| failure(&e), |l| l.display().to_string()));
    }
    facts.add("hostname", text("/proc/sys/kernel/hostname"));
    facts.add("domainname", text("/proc/sys/kernel/domainname"));
    for (key, path) in [("uid_map", "/proc/self/uid_map"), ("gid_map", "/proc/self/gid_map")] {
        facts.add(key, text(path).split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

/// Interfaces, what can be reached, and what may be bound.
pub fn network(facts: &mut Facts) {
    for name in names("/sys/class/net") {
        let state = text(&format!("/sys/class/net/{name}/flags"));
        facts.add(format_args!("interface.{name}"), state);
    }
    for line in text("/proc/net/dev").lines().skip(2) {
        facts.add(format_args!("net.dev.{}", line.split(':').next().unwrap_or_default().trim()), "listed");
    }
    facts.add("routes", text("/proc/net/route").lines().count().saturating_sub(1));
    for (key, address) in [("loopback", "127.0.0.1:9"), ("loopback6", "[::1]:9"), ("outside", "192.0.2.1:9")]
    {
        let address: SocketAddr = address.parse().expect("an address");
        let connected = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        facts.add(format_args!("connect.{key}"), result(connected));
    }
    facts.add("bind.80", result(TcpListener::bind("127.0.0.1:80")));
    facts.add("bind.8080", result(TcpListener::bind("127.0.0.1:8080")));
    for name in ["ip_unprivileged_port_start", "ping_group_range", "ip_forward"] {
        let value = text(&format!("/proc/sys/net/ipv4/{name}"));
        facts.add(format_args!("net.{name}"), value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    for name in ["resolv.conf", "hosts", "hostname"] {
        let lines = text(&format!("/etc/{name}"));
        let lines: Vec<_> = lines.lines().filter(|line| !line.starts_with('#')).collect();
        facts.add(format_args!("etc.{name}"), lines.join(" | ").replace('\t', " "));
    }
}

/// Its control groups, as far as they are seen.
pub fn cgroup(facts: &mut Facts) {
    for line in text("/proc/self/cgroup").lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next().unwrap_or_default();
        facts.add(format_args!("cgroup.{controllers}"), parts.next().unwrap_or_default());
    }
    for name in names("/sys/fs/cgroup") {
        facts.add(format_args!("cgroup.file.{name}"), "listed");
    }
    for file in [
        "memory.max",
        "memory.swap.max",
        "pids.max",
        "cpu.max",
        "memory/memory.limit_in_bytes",
        "memory/memory.memsw.limit_in_bytes",
        "pids/pids.max",
        "cpu/cpu.cfs_quota_us",
    ] {
        facts.add(format_args!("cgroup.limit.{file}"), text(&format!("/sys/fs/cgroup/{file}")));
    }
    for folder in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"] {
        let made = fs::create_dir(format!("{folder}/inside"));
        if made.is_ok() {
            _ = fs::remove_dir(format!("{folder}/inside"));
        }
        facts.add(format_args!("cgroup.make.{folder}"), result(made));
    }
}
