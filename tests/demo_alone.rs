//! `dcgi demo` on a machine without a container engine. A suite of one test: it looks at the whole machine before and
//! after, so nothing else of the suites may run meanwhile.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::processes::{descendants, name_of};
use common::{Connection, PATIENCE, wait_until};

/// What a demo could leave on a machine.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: String,
    cgroups: BTreeSet<String>,
    processes: BTreeSet<(u32, String)>,
    network_namespaces: BTreeSet<String>,
}

impl Machine {
    fn look() -> Self {
        let mut cgroups = BTreeSet::new();
        groups(Path::new("/sys/fs/cgroup"), &mut cgroups);
        let named = |pid: u32| name_of(pid).filter(|name| name.starts_with("dcgi")).map(|name| (pid, name));
        let all = descendants(0).into_iter();
        Self {
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap(),
            cgroups,
            network_namespaces: all
                .clone()
                .filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok())
                .map(|link| link.display().to_string())
                .collect(),
            processes: all.filter_map(named).collect(),
        }
    }
}

fn groups(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path().display().to_string());
            groups(&entry.path(), found);
        }
    }
}

/// Killed where the test fails.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn without_a_container_engine_the_demo_serves_all_the_same_and_leaves_nothing() {
    let store = tempfile::tempdir().unwrap();
    let before = Machine::look();
    // Where engines are looked for there is none: nobody names one, and the usual socket is out of sight.
    let mut demo = Demo(
        Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                "! [ -S /run/docker.sock ] || mount --bind /dev/null /run/docker.sock; exec \"$@\"",
            ])
            .args(["sh", env!("CARGO_BIN_EXE_dcgi"), "demo", "--listen", "127.0.0.1:0"])
            .env("DCGI_STORE", store.path())
            .env("HOME", store.path())
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let line = said.next().expect("it says where it listens").unwrap();
    let address = line.strip_prefix("dcgi listens on http://").expect(&line).parse().unwrap();

    for (path, words) in [
        ("/", "embedded"),
        ("/hello", "Hello from a container!"),
        ("/environment", "GATEWAY_INTERFACE"),
        ("/form?name=Ada&message=hello", "Ada"),
        ("/rng?n=3", "\n"),
        ("/counter", "visitor"),
    ] {
        let response = Connection::open(address).get(path);
        assert_eq!((response.status, response.complete), (200, true), "{path}: {}", response.text());
        assert!(response.text().contains(words), "{path}: {}", response.text());
    }
    let mut stream = Connection::open(address);
    stream.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.head();
    assert!(!stream.chunk().expect("its beginning").is_empty());
    drop(stream);
    assert_ne!(Machine::look().cgroups, before.cgroups, "its programs are not limited");

    // As Ctrl-C does: to the whole process group. But for dcgi itself, none of it listens.
    let interrupted = Command::new("kill").args(["-INT", &demo.0.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let mut ended = None;
    wait_until("the demo ends", PATIENCE, || {
        ended = demo.0.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
    // What has died may still wait for its parent to notice.
    let clean =
        || std::panic::catch_unwind(|| wait_until("all is gone", PATIENCE, || Machine::look() == before));
    if clean().is_err() {
        assert_eq!(Machine::look(), before);
    }
}
