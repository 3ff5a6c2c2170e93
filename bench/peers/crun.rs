//! `crun run`: a container by a runtime in C, in one command, with nothing before and nothing behind it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stage::{self, Stage};
use super::tool::{self, output};

/// A bundle, where crun keeps the state of its containers, and who runs it.
#[derive(Debug)]
pub(crate) struct Crun {
    bundle: PathBuf,
    state: PathBuf,
    next: AtomicUsize,
    /// Those that have nothing to do.
    shells: Mutex<Vec<Shell>>,
}

/// A shell that runs crun for each line that it reads. crun 1 refuses a machine that has both versions of cgroups, so
/// that it has to see one only, in a mount namespace that is made once and not for each container.
#[derive(Debug)]
struct Shell {
    /// The stage ends it, and waits for it.
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The arguments are crun, its folder of states, and the bundle.
const LOOP: &str = r#"
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
while read -r id; do "$1" --root "$2" run --bundle "$3" "$id" </dev/null; echo "ended $?"; done
"#;

impl Crun {
    /// The static hello, in what `crun spec` gives, read-only and without a terminal.
    pub(crate) fn prepare(stage: &Stage) -> Self {
        let crun = Self {
            bundle: stage.path("bundle"),
            state: stage.path("crun"),
            next: AtomicUsize::new(0),
            shells: Mutex::default(),
        };
        fs::create_dir_all(crun.bundle.join("rootfs")).unwrap();
        let archive = fs::File::open(stage.path("static.tar")).unwrap();
        tar::Archive::new(archive).unpack(crun.bundle.join("rootfs")).unwrap();
        // It mounts on these.
        for folder in ["proc", "sys", "dev"] {
            fs::create_dir(crun.bundle.join("rootfs").join(folder)).unwrap();
        }
        output(tool::tool("crun").arg("spec").current_dir(&crun.bundle));
        let file = crun.bundle.join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(["/bin/hello"]);
        spec["process"]["user"] = serde_json::json!({ "uid": 65534, "gid": 65534 });
        spec["process"]["env"] = serde_json::json!(["GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET"]);
        spec["root"]["readonly"] = true.into();
        fs::write(&file, spec.to_string()).unwrap();
        stage::remember_crun(&crun.state);
        crun
    }

    /// The shells, with whose processor time crun's own is.
    pub(crate) fn roots(&self) -> Vec<u32> {
        self.shells.lock().unwrap().iter().map(|shell| shell.child.id()).collect()
    }

    fn shell(&self) -> Shell {
        let crun = tool::tool("crun");
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", LOOP, "sh"]).arg(crun.get_program()).arg(&self.state).arg(&self.bundle);
        command.envs(crun.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = stage::start_fed(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        Shell {
            requests: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Runs the program in a container of its own, and gives its output.
    ///
    /// # Panics
    /// Where crun says that it could not.
    pub(crate) fn run(&self) -> String {
        let idle = self.shells.lock().unwrap().pop();
        let mut shell = idle.unwrap_or_else(|| self.shell());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        writeln!(shell.requests, "dcgi-peers-{}-{id}", std::process::id()).unwrap();
        let mut output = String::new();
        let status = loop {
            let begin = output.len();
            assert!(shell.answers.read_line(&mut output).unwrap() > 0, "crun's shell has ended");
            if let Some(status) = output[begin..].strip_prefix("ended ") {
                let status = status.trim().to_owned();
                output.truncate(begin);
                break status;
            }
        };
        assert_eq!(status, "0", "crun's status");
        self.shells.lock().unwrap().push(shell);
        output
    }
}

/// Removes what containers are left below a folder of states.
pub(crate) fn remove_all(state: &Path) {
    for container in fs::read_dir(state).into_iter().flatten().flatten() {
        let mut command = tool::tool("crun");
        command.arg("--root").arg(state).args(["delete", "--force"]).arg(container.file_name());
        _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
