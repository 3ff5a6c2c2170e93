//! The embedded engine on a machine with control groups of version 2 alone, which a test does not usually run on: QEMU
//! boots one, without KVM, on Debian's kernel for virtual machines.
//!
//! What runs in there are the suites' own executables, which are static, and this one again; their lines on the console
//! become the outcomes of the cases here. `cargo test --test vm -- NAME` boots the machine for those cases alone.

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod initramfs;
mod machine;
mod suites;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};

use common::embedded::compiled;
use initramfs::Initramfs;
use machine::Report;
use suites::{Stage, Suite};

/// The variable that has this executable run cases of its own, in the machine: a name of [`cases::GROUPS`].
const GROUP: &str = "DCGI_VM_CASES";

fn main() {
    if let Ok(group) = std::env::var(GROUP) {
        cases::run(&group);
    }
    let mut arguments = Arguments::from_args();
    // They all wait for the one machine.
    arguments.test_threads = Some(1);
    let suites = Arc::new(suites::all());
    let wanted = Arc::new(suites.iter().map(|suite| suite.wanted(&arguments)).collect::<Vec<_>>());
    let report: Arc<OnceLock<Report>> = Arc::default();
    let mut trials = Vec::new();
    for suite in suites.iter() {
        for name in &suite.cases {
            let (suites, wanted, report) = (suites.clone(), wanted.clone(), report.clone());
            let (suite, name) = (suite.name, name.clone());
            trials.push(Trial::test(format!("{suite}::{name}"), move || {
                let report = report.get_or_init(|| boot(&suites, &wanted));
                Ok(report.outcome(suite, &name)?)
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Has a machine run these cases of the suites.
fn boot(suites: &[Suite], wanted: &[Vec<String>]) -> Report {
    let mut root = Initramfs::new();
    // busybox has no prlimit, a setpriv that knows little, and a shell that prefers its own commands to these.
    for (command, name) in [("setpriv", "setpriv"), ("prlimit", "prlimit"), ("dash", "sh")] {
        root.command(command, &format!("/real/{name}"));
    }
    root.file("/etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
    root.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    // Where files may be left.
    let places = format!("/tmp /var /run {}\n", env!("CARGO_TARGET_TMPDIR"));
    root.file("/plan/places", 0o644, places.as_bytes());
    root.command("busybox", "/busybox");
    root.file("/init", 0o755, include_bytes!("init.sh"));
    // Without one no client of a registry is made, and no message is of the registry.
    root.copy("/etc/ssl/certs/ca-certificates.crt");
    let overlay = machine::find(&machine::kernel(), "overlay.ko");
    root.file("/modules/overlay.ko", 0o644, &std::fs::read(overlay).unwrap());
    // Where the executables look for them: paths of this machine's, known when they were compiled. Where every instruction is
    // emulated, an executable that is not optimized takes three times as long: it is the one that `make demo` makes.
    let dcgi = Path::new(env!("CARGO_BIN_EXE_dcgi"));
    let optimized = suites::optimized();
    root.stripped(&optimized, dcgi);
    for probe in ["probe.rs", "inside.rs"] {
        root.copy(compiled(probe));
    }
    root.copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common"));
    let mut executables: Vec<&PathBuf> = suites.iter().map(|suite| &suite.executable).collect();
    executables.sort();
    executables.dedup();
    let here = |executable: &&PathBuf| executable.is_file();
    executables.into_iter().filter(here).for_each(|executable| root.stripped(executable, executable));
    if suites.iter().zip(wanted).any(|(suite, wanted)| suite.stage == Stage::Systemd && !wanted.is_empty()) {
        add_systemd(&mut root, &optimized);
    }
    for stage in [Stage::Initramfs, Stage::Root, Stage::Systemd] {
        let runs = suites.iter().zip(wanted).filter(|(suite, _)| suite.stage == stage);
        let plan: String = runs.map(|(suite, wanted)| suite.plan(wanted)).collect();
        root.file(stage.plan(), 0o644, plan.as_bytes());
    }
    let archive = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(archive.path(), root.finish()).unwrap();
    machine::run(archive.path())
}

/// A root file system with systemd, and what goes into it: dcgi as a service, by the unit that is for everybody.
fn add_systemd(root: &mut Initramfs, optimized: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| {
        let path = here.join(path);
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}: run scripts/systemd-root", path.display()))
    };
    root.file("/systemd.tar", 0o644, &read("target/tools/systemd.tar"));
    root.stripped(optimized, Path::new("/service/dcgi"));
    root.stripped(&std::env::current_exe().unwrap(), Path::new("/service/cases"));
    root.file("/service/dcgi.service", 0o644, &read("deploy/dcgi.service"));
    root.file("/service/cases.service", 0o644, &read("tests/vm/cases.service"));
    root.file("/service/dcgi.toml", 0o644, &read("tests/vm/systemd.toml"));
    let script = |steps: &str| format!("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n{steps}\n");
    root.file("/service/served", 0o755, script("echo served").as_bytes());
    root.file("/service/slow", 0o755, script("echo begun; sleep 5; echo done").as_bytes());
    root.file("/service/endless", 0o755, script("echo begun; exec sleep 1000000").as_bytes());
}
