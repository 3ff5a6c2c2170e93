//! A dcgi process on a port of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use super::client::{Connection, Response};
use super::{PATIENCE, Under, wait_until};

/// A running `dcgi`. Ended on drop, with all it runs.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
    config: PathBuf,
    /// Where its programs run.
    pub engine: Under,
}

impl Server {
    /// Serves these routes (TOML, without `listen`), in which `IMAGE` stands for the probe's image.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::start_with(config, |_| {})
    }

    /// The same, with something changed about the command: its environment, say.
    #[track_caller]
    pub fn start_with(config: &str, change: impl FnOnce(&mut Command)) -> Self {
        Self::start_under(Under::Docker, config, change)
    }

    /// The same on any engine, which the configuration has to name.
    #[track_caller]
    pub fn start_under(engine: Under, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        match Self::try_start_under(engine, config, change) {
            Ok(server) => server,
            Err((status, log)) => panic!("dcgi did not start: {status}\n{log}"),
        }
    }

    /// The same, where it may well not start: then its exit status and what it said.
    pub fn try_start(config: &str, change: impl FnOnce(&mut Command)) -> Result<Self, (ExitStatus, String)> {
        Self::try_start_under(Under::Docker, config, change)
    }

    /// The same on any engine. A configuration that names none has Docker's, where that is asked for: these suites are not
    /// about which one `auto` chooses.
    pub fn try_start_under(
        engine: Under,
        config: &str,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self, (ExitStatus, String)> {
        let config = match config.contains("IMAGE") {
            true => config.replace("IMAGE", engine.probe()),
            false => config.to_owned(),
        };
        let config = match engine {
            Under::Docker | Under::DockerAgents if !config.contains("engine =") => {
                format!("engine = \"docker\"\n{config}")
            }
            _ => config,
        };
        let config =
            if config.contains("listen") { config } else { format!("listen = [\"127.0.0.1:0\"]\n{config}") };
        let path = unique_path("dcgi.toml");
        std::fs::write(&path, config).unwrap();

        let mut command = engine.command();
        command.args(["serve", "-c"]).arg(&path).stdin(Stdio::null());
        change(&mut command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dcgi runs");

        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        let logged = log.clone();
        let logging = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = logged.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let (told, listening) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("dcgi listens on http://") {
                    _ = told.send(address.parse::<SocketAddr>().unwrap());
                } else if line.starts_with("dcgi listens on unix:") {
                    _ = told.send(([127, 0, 0, 1], 0).into());
                }
            }
        });
        match listening.recv_timeout(PATIENCE) {
            Ok(address) => Ok(Self { child, address, log, config: path, engine }),
            Err(_) => {
                _ = child.kill();
                let status = child.wait().unwrap();
                logging.join().unwrap();
                _ = std::fs::remove_file(&path);
                let log = log.lock().unwrap().clone();
                Err((status, log))
            }
        }
    }

    /// Another server on the same engine, for what the configuration as a whole says.
    #[track_caller]
    pub fn beside(&self, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let own = std::fs::read_to_string(&self.config).unwrap();
        let engine = own.lines().find(|line| line.starts_with("engine")).unwrap_or_default();
        Self::start_under(self.engine.clone(), &format!("{engine}\n{config}"), change)
    }

    /// How its routes get their containers, as the configuration has it: a line for another's.
    pub fn containers_line(&self) -> String {
        let own = std::fs::read_to_string(&self.config).unwrap();
        let says_so = |line: &&str| line.starts_with("warm =") || line.starts_with("isolation =");
        own.lines().find(says_so).unwrap_or_default().to_owned()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// `GET path`, on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }

    /// Sends these bytes on a connection of its own, and reads one response.
    pub fn send(&self, request: impl AsRef<[u8]>) -> Response {
        let mut connection = self.connect();
        connection.send(request);
        connection.response()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged something.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(text, PATIENCE, || self.log().contains(text));
        }));
        assert!(found.is_ok(), "`{text}` is not in the log:\n{}", self.log());
    }

    /// What it has logged so far for one request.
    pub fn log_of(&self, id: &str) -> String {
        self.log().lines().filter(|line| line.contains(id)).map(|line| format!("{line}\n")).collect()
    }

    /// Waits until it has logged something for one request, and gives that line.
    #[track_caller]
    pub fn wait_for_log_of(&self, id: &str, text: &str) -> String {
        let mut found = None;
        let in_time = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(text, PATIENCE, || {
                found = self.log_of(id).lines().find(|line| line.contains(text)).map(str::to_owned);
                found.is_some()
            });
        }));
        assert!(in_time.is_ok(), "`{text}` is not in the log of {id}:\n{}", self.log_of(id));
        found.unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes: now, and at its peak.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Sends a signal, by name.
    #[allow(clippy::disallowed_methods)]
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("dcgi ends", PATIENCE, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// How many containers it has now, running or not.
    pub fn containers(&self) -> usize {
        self.engine.containers(self.pid())
    }

    /// How many of them run the program of a route, by the route's name: not of `/`.
    #[track_caller]
    pub fn containers_of(&self, route: &str) -> usize {
        self.engine.containers_of(self.pid(), route)
    }

    /// How many of them are for a request, by its id.
    pub fn containers_for(&self, request: &str) -> usize {
        self.engine.containers_for(self.pid(), request)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal("TERM");
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.wait())).is_err() {
                _ = self.child.kill();
                _ = self.child.wait();
            }
        }
        _ = std::fs::remove_file(&self.config);
        if std::thread::panicking() {
            eprintln!("--- the log of dcgi ---\n{}", self.log());
        }
    }
}

/// Where [`unique_path`] puts what a suite makes, for a suite whose servers may not enter the usual folder.
pub static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A path for a file that no other test uses.
pub fn unique_path(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = FOLDER.get().map_or(Path::new(env!("CARGO_TARGET_TMPDIR")), PathBuf::as_path);
    folder.join(format!("{}-{count}-{name}", std::process::id()))
}

/// Runs `dcgi` with these arguments to its end: its exit code, standard output, standard error.
#[allow(clippy::disallowed_methods)]
pub fn dcgi(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_dcgi"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dcgi runs");
    _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Everything that can be read from a stream.
pub fn read_all(mut stream: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    _ = stream.read_to_end(&mut all);
    all
}
