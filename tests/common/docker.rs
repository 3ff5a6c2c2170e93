//! The engine under the tests, seen through the `docker` command: never through the code that is tested.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::embedded::{compiled, root_of_scripts};

/// The image that holds the probe and nothing else.
pub const PROBE: &str = "dcgi-test/probe";

/// Runs `docker` and gives what it prints.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    run(Command::new("docker").args(arguments))
}

#[track_caller]
#[allow(clippy::disallowed_methods)]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the docker command runs");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("it prints text")
}

/// How many containers carry a label, running or not.
pub fn containers(label: &str) -> usize {
    docker(&["ps", "-aq", "--filter", &format!("label={label}")]).lines().count()
}

/// Compiles the probe and makes its image, once a process.
pub fn probe_image() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| make_probe_image(|arguments| docker(arguments)));
    PROBE
}

fn make_probe_image(docker: impl Fn(&[&str]) -> String) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}", unique()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(compiled("probe.rs"), folder.join("probe")).unwrap();
    std::fs::write(
        folder.join("Dockerfile"),
        "FROM scratch\nENV FROM_IMAGE=yes\nCOPY probe /app/probe\nENTRYPOINT [\"/app/probe\"]\n",
    )
    .unwrap();
    docker(&["build", "-q", "-t", PROBE, folder.to_str().unwrap()]);
    // With a working directory of its own: `IMAGE-in-srv` in a configuration.
    std::fs::write(folder.join("Dockerfile"), format!("FROM {PROBE}\nWORKDIR /srv\n")).unwrap();
    docker(&["build", "-q", "-t", &format!("{PROBE}-in-srv"), folder.to_str().unwrap()]);
    // Of a directory of scripts: `IMAGE-of-scripts`.
    std::fs::write(folder.join("root.tar"), root_of_scripts()).unwrap();
    std::fs::write(folder.join("Dockerfile"), "FROM scratch\nADD root.tar /\nENTRYPOINT [\"/app/probe\"]\n")
        .unwrap();
    docker(&["build", "-q", "-t", &format!("{PROBE}-of-scripts"), folder.to_str().unwrap()]);
    std::fs::remove_dir_all(folder).unwrap();
}

/// A Docker engine that a test may kill: a real one, with directories of its own. Needs root.
pub struct PrivateEngine {
    folder: PathBuf,
}

impl PrivateEngine {
    pub fn start() -> Self {
        let folder = PathBuf::from("/var/tmp").join(format!("dcgi-test-{}", unique()));
        let engine = Self { folder };
        engine.up();
        make_probe_image(|arguments| engine.docker(arguments));
        engine
    }

    pub fn host(&self) -> String {
        format!("unix://{}/run/docker.sock", self.folder.display())
    }

    /// Runs `docker` on this engine.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        run(Command::new("docker").args(arguments).env("DOCKER_HOST", self.host()))
    }

    /// Ends `dockerd` as a crash would.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    /// Has it answer nothing, as an engine that is busy does, until it is told to [go on](Self::go_on).
    pub fn stand_still(&self) {
        self.signal("STOP");
    }

    pub fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.join("run/docker.pid")).expect("dockerd runs");
        run(Command::new("kill").args(["-s", signal, pid.trim()]));
    }

    /// Starts `dockerd`, again where it has been killed.
    pub fn up(&self) {
        self.script("docker-up", &[]);
    }

    fn script(&self, name: &str, arguments: &[&str]) {
        let script = format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(script);
        run(command
            .args(arguments)
            .env("DCGI_DOCKER_DIR", &self.folder)
            .env("DCGI_DOCKER_NETWORK", "private")
            .env("DOCKER_HOST", self.host()));
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        // Stopped, it would not be asked to end. It may be gone.
        if let Ok(pid) = std::fs::read_to_string(self.folder.join("run/docker.pid")) {
            _ = Command::new("kill").args(["-s", "CONT", pid.trim()]).status();
        }
        self.script("docker-down", &["--purge"]);
    }
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
