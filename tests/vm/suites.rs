//! Which suites run in the machine, and which cases of each.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Arguments;

use crate::initramfs::text;
use crate::{GROUP, cases};

/// Where process 1 has its root meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// On the archive that the kernel has unpacked, which pivot_root(2) does not let go of.
    Initramfs,
    /// On a file system that is mounted, as on any machine.
    Root,
    /// On one of Debian's, with systemd.
    Systemd,
}

impl Stage {
    /// The file that says what runs then.
    pub(crate) fn plan(self) -> &'static str {
        match self {
            Self::Initramfs => "/plan/initramfs",
            Self::Root => "/plan/root",
            Self::Systemd => "/plan/systemd",
        }
    }
}

pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) stage: Stage,
    pub(crate) executable: PathBuf,
    /// The cases of this executable, where it is ours.
    group: Option<&'static str>,
    /// All that the executable knows.
    known: Vec<String>,
    /// Those of them that run in the machine.
    pub(crate) cases: Vec<String>,
}

/// Cases of `tests/embedded.rs` that run in the machine: what depends on the control groups or on the kernel. No more of
/// them, for every instruction is emulated.
const EMBEDDED: &[&str] = &[
    "a_program_that_wants_more_memory_than_its_route_has_is_killed_and_the_log_says_why",
    "a_program_that_forks_without_end_is_held_and_does_not_hold_up_others",
];

/// The mode of the conformance suite that runs in the machine.
const CONFORMANCE: &str = "embedded::fresh::ordinary_user::";

/// Its cases that do not: they move more bytes than an emulated machine does within a route's `timeout`, and have nothing to do
/// with the kernel.
const TOO_LARGE: &[&str] =
    &["a_slow_reader_holds_the_program_back_and_not_the_memory", "a_10_gib_answer_takes_no_memory"];

/// In the order in which they run.
pub(crate) fn all() -> Vec<Suite> {
    let own = std::env::current_exe().expect("this executable has a path");
    let ours = |stage, group: &'static str| {
        let known = cases::names(group);
        let executable = own.clone();
        Suite { name: group, stage, executable, group: Some(group), cases: known.clone(), known }
    };
    let [embedded, conformance] = executables(["embedded", "conformance"]);
    let foreign = |name, executable: PathBuf, cases: Vec<String>| {
        let known = listed(&executable);
        cases.iter().for_each(|case| assert!(known.contains(case), "{name} has no case {case}"));
        Suite { name, stage: Stage::Root, executable, group: None, cases, known }
    };
    vec![
        ours(Stage::Initramfs, "initramfs"),
        ours(Stage::Root, "groups"),
        foreign("embedded", embedded, EMBEDDED.iter().map(|case| (*case).to_owned()).collect()),
        {
            let is_small = |name: &str| !TOO_LARGE.contains(&name);
            let runs = |case: &String| case.strip_prefix(CONFORMANCE).is_some_and(is_small);
            let cases = listed(&conformance).into_iter().filter(runs).collect();
            foreign("conformance", conformance, cases)
        },
        // What the others have left.
        ours(Stage::Root, "leftovers"),
        Suite { executable: "/usr/local/bin/cases".into(), ..ours(Stage::Systemd, "systemd") },
    ]
}

/// dcgi as it is for people, which Cargo makes where it has not yet.
pub(crate) fn optimized() -> PathBuf {
    let [dcgi] = made(&["build", "--release", "--bin", "dcgi"], ["dcgi"]);
    dcgi
}

/// The executables of other suites, which Cargo makes where it has not yet.
fn executables<const N: usize>(names: [&str; N]) -> [PathBuf; N] {
    let folder = Path::new(env!("CARGO_BIN_EXE_dcgi")).parent().unwrap().file_name().unwrap();
    let profile = match folder.to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let tests = names.iter().flat_map(|name| ["--test", name]);
    let arguments: Vec<_> = ["test", "--no-run", "--profile", profile].into_iter().chain(tests).collect();
    made(&arguments, names)
}

/// The executables of these targets, as a command of Cargo's makes them.
fn made<const N: usize>(arguments: &[&str], names: [&str; N]) -> [PathBuf; N] {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).arg("--message-format=json");
    // What Cargo tells tests of the package: some build scripts look at it, and their crates would be made anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let beginnings = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_"];
        if beginnings.iter().any(|beginning| name.starts_with(beginning)) {
            command.env_remove(name);
        }
    }
    let messages = text(&mut command);
    let messages = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let made: Vec<_> = messages.filter(|message| message["executable"].is_string()).collect();
    names.map(|name| {
        let is_it = |message: &&serde_json::Value| message["target"]["name"] == name;
        let message = made.iter().find(is_it).unwrap_or_else(|| panic!("Cargo has made no {name}"));
        PathBuf::from(message["executable"].as_str().unwrap())
    })
}

/// The cases that an executable says it has.
fn listed(executable: &Path) -> Vec<String> {
    let said = text(Command::new(executable).args(["--list", "--format", "terse"]));
    said.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

impl Suite {
    /// The cases that whoever started this asks for.
    pub(crate) fn wanted(&self, arguments: &Arguments) -> Vec<String> {
        let fits = |name: &str, pattern: &str| match arguments.exact {
            true => name == pattern,
            false => name.contains(pattern),
        };
        let is_wanted = |case: &&String| {
            let name = format!("{}::{case}", self.name);
            arguments.filter.as_ref().is_none_or(|filter| fits(&name, filter))
                && !arguments.skip.iter().any(|skip| fits(&name, skip))
        };
        self.cases.iter().filter(is_wanted).cloned().collect()
    }

    /// The line of the machine's plan that runs these. Both harnesses take any number of cases to skip, and not both
    /// any number to run.
    pub(crate) fn plan(&self, wanted: &[String]) -> String {
        if wanted.is_empty() {
            return String::new();
        }
        let mut line = format!("run {}", self.name);
        if let Some(group) = self.group {
            line += &format!(" env {GROUP}={group}");
        }
        line += &format!(" {} --test-threads 2 --color never --exact", self.executable.display());
        for name in self.known.iter().filter(|name| !wanted.contains(name)) {
            line += &format!(" --skip {name}");
        }
        line + "\n"
    }
}
