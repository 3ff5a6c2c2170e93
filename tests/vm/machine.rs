//! A machine with control groups of version 2 alone: QEMU, emulating every instruction, on a kernel of Debian's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long the machine may take for all that it runs: far more than it does, on a busy machine too. One that hangs is a
/// failure of whatever has not ended by then.
const DEADLINE: Duration = Duration::from_secs(1800);

/// How much of a suite's console a failure shows.
const SHOWN: usize = 200;

/// The kernel and its modules that `scripts/prerequisites` has unpacked.
pub(crate) fn kernel() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kernel");
    assert!(folder.join("boot").is_dir(), "{} is not there: run scripts/prerequisites", folder.display());
    folder
}

/// The file below a folder whose name begins so.
#[track_caller]
pub(crate) fn find(folder: &Path, beginning: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with(beginning) {
                return entry.path();
            }
        }
    }
    panic!("there is no {beginning} below {}: run scripts/prerequisites", folder.display());
}

/// What the machine has said on its console, by suite.
pub(crate) struct Report {
    outcomes: BTreeMap<(String, String), bool>,
    sections: BTreeMap<String, Vec<String>>,
    /// How it ended, where that was not by itself.
    broken: Option<String>,
}

/// Boots it, waits for its end or for the deadline, and reads what it has said.
pub(crate) fn run(initramfs: &Path) -> Report {
    let began = Instant::now();
    let mut machine = Machine(
        Command::new("qemu-system-x86_64")
            // Never KVM, although it may be there: CI has none, and the suite is to be the same everywhere.
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(find(&kernel().join("boot"), "vmlinuz-"))
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off cgroup_no_v1=all"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 runs: scripts/prerequisites installs it"),
    );
    let (said, console) = mpsc::channel();
    let out = BufReader::new(machine.0.stdout.take().unwrap());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm.txt");
    let mut copy = File::create(&file).unwrap();
    std::thread::spawn(move || {
        for line in out.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            // At once, for whoever wants to see how far it is.
            _ = writeln!(copy, "{line}");
            _ = said.send(line);
        }
    });
    let mut lines: Vec<String> = Vec::new();
    let timed_out = loop {
        match console.recv_timeout(DEADLINE.saturating_sub(began.elapsed())) {
            Ok(line) => lines.push(line),
            Err(error) => break error == RecvTimeoutError::Timeout,
        }
    };
    let last = lines.last().cloned().unwrap_or_default();
    let broken = match lines.iter().any(|line| line == "@@ off") {
        true => None,
        false if timed_out => Some(format!("the machine was ended after {DEADLINE:?}; it last said: {last}")),
        false => Some(format!("the machine ended too early; it last said: {last}")),
    };
    drop(machine);
    println!("vm: the machine ran for {:.0?}; its console is in {}", began.elapsed(), file.display());
    Report::read(&lines, broken)
}

/// Ended when it is dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Report {
    fn read(lines: &[String], broken: Option<String>) -> Self {
        let mut outcomes = BTreeMap::new();
        let mut sections = BTreeMap::<_, Vec<_>>::new();
        let mut suite = String::new();
        for line in lines {
            if let Some(begun) = line.strip_prefix("@@ begin ") {
                suite = begun.to_owned();
            }
            sections.entry(suite.clone()).or_default().push(line.clone());
            let outcome = line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... "));
            if let Some((name, outcome)) = outcome {
                outcomes.insert((suite.clone(), name.trim_end().to_owned()), outcome == "ok");
            }
        }
        Self { outcomes, sections, broken }
    }

    /// How a case went; where it went wrong, with what its suite has said last.
    pub(crate) fn outcome(&self, suite: &str, name: &str) -> Result<(), String> {
        let what = match self.outcomes.get(&(suite.to_owned(), name.to_owned())) {
            Some(true) => return Ok(()),
            Some(false) => "it failed in the machine",
            None => self.broken.as_deref().unwrap_or("the machine has not said how it went"),
        };
        let section = self.sections.get(suite).map(Vec::as_slice).unwrap_or_default();
        let shown = &section[section.len().saturating_sub(SHOWN)..];
        Err(format!("{what}\n--- the end of {suite} on the console ---\n{}", shown.join("\n")))
    }
}
