//! A way to an engine's socket that can be shut: between a dcgi and a Docker Engine, a test decides how far an image's
//! export comes, and when.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

/// How much is passed on at a time, or twice that.
const PIECE: usize = 64 << 10;

/// A socket in front of an engine's. Removed on drop; connections that are open stay.
pub struct Gate {
    socket: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    engine: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Whether exports stop, after their first bytes.
    shut: bool,
    /// How many have begun.
    exports: usize,
    /// What is not what it was, in exports: a text, and another of the same length.
    forged: Option<(&'static str, &'static str)>,
}

impl Gate {
    /// One that is open, before the engine at an address such as `unix:///run/docker.sock`.
    pub fn before(engine: &str) -> Self {
        let gate = Self::closed(engine);
        gate.listen();
        gate
    }

    /// One where nobody listens yet.
    pub fn closed(engine: &str) -> Self {
        let engine = engine.strip_prefix("unix://").expect("the suites' engine is at a unix socket").into();
        let state = Mutex::new(State { shut: false, exports: 0, forged: None });
        let shared = Arc::new(Shared { engine, state, changed: Condvar::new() });
        // The path of a socket must be short.
        let socket = std::env::temp_dir().join(format!("dcgi-gate-{}", uuid::Uuid::now_v7().simple()));
        Self { socket, shared }
    }

    /// Has somebody listen.
    pub fn listen(&self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.pass(client));
            }
        });
    }

    /// As `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub fn path(&self) -> &Path {
        &self.socket
    }

    /// Exports stop in the middle from here on.
    pub fn shut(&self) {
        self.shared.state.lock().unwrap().shut = true;
    }

    /// They go on.
    pub fn open(&self) {
        self.shared.state.lock().unwrap().shut = false;
        self.shared.changed.notify_all();
    }

    /// Exports say something else than the engine does.
    pub fn forge(&self, forged: Option<(&'static str, &'static str)>) {
        self.shared.state.lock().unwrap().forged = forged;
    }

    /// How many exports have begun.
    pub fn exports(&self) -> usize {
        self.shared.state.lock().unwrap().exports
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.socket);
        self.open();
    }
}

impl Shared {
    fn pass(&self, client: UnixStream) {
        let Ok(engine) = UnixStream::connect(&self.engine) else { return };
        let exporting = Arc::new(Mutex::new(false));
        let (mut from_client, mut to_engine) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
        let asked = exporting.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            while let Ok(read @ 1..) = from_client.read(&mut buffer) {
                // A client sends its next request when it has had the last answer.
                let head = String::from_utf8_lossy(&buffer[..read.min(1024)]);
                let line = head.lines().next().unwrap_or_default();
                if line.contains(" HTTP/1.1") {
                    *asked.lock().unwrap() = line.contains("/images/") && line.contains("/get HTTP/1.1");
                }
                if to_engine.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            _ = to_engine.shutdown(Shutdown::Write);
        });
        let (mut from_engine, mut to_client) = (engine, client);
        let mut buffer = vec![0; 2 * PIECE];
        let mut begun = false;
        while let Ok(mut read @ 1..) = from_engine.read(&mut buffer[..PIECE]) {
            if *exporting.lock().unwrap() {
                let mut state = self.state.lock().unwrap();
                if !begun {
                    state.exports += 1;
                    begun = true;
                }
                if let Some((from, to)) = state.forged {
                    // What has begun to be it is looked at when the rest is there.
                    while read < buffer.len() && ends_in_a_beginning(&buffer[..read], from.as_bytes()) {
                        match from_engine.read(&mut buffer[read..]) {
                            Ok(more @ 1..) => read += more,
                            _ => break,
                        }
                    }
                    // Wherever it stands: an image's configuration is there a second time, for engines of old.
                    for at in 0..read.saturating_sub(from.len() - 1) {
                        if buffer[at..read].starts_with(from.as_bytes()) {
                            buffer[at..at + to.len()].copy_from_slice(to.as_bytes());
                        }
                    }
                }
                drop(self.changed.wait_while(state, |state| state.shut).unwrap());
            } else {
                begun = false;
            }
            if to_client.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        _ = to_client.shutdown(Shutdown::Both);
    }
}

/// Whether a text may go on as another that has begun at its end.
fn ends_in_a_beginning(text: &[u8], whole: &[u8]) -> bool {
    (1..whole.len()).any(|length| text.ends_with(&whole[..length]))
}
