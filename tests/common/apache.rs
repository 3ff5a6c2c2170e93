//! Apache, as the server that CGI scripts were written for.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, wait_until};

/// A running Apache with all its files in a folder of its own. Ended on drop.
pub struct Apache {
    child: Child,
    pub address: SocketAddr,
    folder: TempDir,
}

/// How often another port is tried: what was free may not be any more.
const TRIES: usize = 5;

impl Apache {
    /// Serves the scripts of a folder below `/cgi/`, and the files of another below `/files/`, as whoever may enter them.
    #[track_caller]
    pub fn serving(scripts: &Path, files: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Its workers reach its daemon by a socket there.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let tried = (0..TRIES).find_map(|_| start(scripts, files, folder.path()));
        let Some((child, address)) = tried else {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("Apache does not start: run scripts/prerequisites\n{log}");
        };
        Self { child, address, folder }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Not killed: its daemon ends with it.
        _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of Apache ---\n{}", self.log());
        }
    }
}

/// Starts one that listens on a free port. `None` where it ends instead.
fn start(scripts: &Path, files: &Path, folder: &Path) -> Option<(Child, SocketAddr)> {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let modules = tool("usr/lib/apache2/modules");
    let load: String = ["mpm_event", "authz_core", "alias", "dir", "cgid", "mime", "autoindex"]
        .map(|name| format!("LoadModule {name}_module {}/mod_{name}.so\n", modules.display()))
        .concat();
    // It refuses to serve as root, and takes a user from no one else.
    let user = if geteuid().is_root() { "User \"#65534\"\nGroup \"#65534\"\n" } else { "" };
    let config = format!(
        "{load}{user}ServerRoot \"{folder}\"\nDefaultRuntimeDir \"{folder}\"\nPidFile \"{folder}/pid\"\n\
         ErrorLog \"{folder}/log\"\nScriptSock \"{folder}/cgid\"\nServerName localhost\nListen {address}\n\
         DocumentRoot \"{folder}\"\nScriptAlias /cgi/ \"{scripts}/\"\n\
         <Directory \"{scripts}\">\nRequire all granted\nDirectoryIndex index.cgi\n</Directory>\n\
         TypesConfig \"{folder}/mime.types\"\nAlias /files/ \"{files}/\"\n\
         <Directory \"{files}\">\nRequire all granted\nDirectoryIndex index.html\nOptions SymLinksIfOwnerMatch\n</Directory>\n",
        files = files.display(),
        folder = folder.display(),
        scripts = scripts.display(),
    );
    let path = folder.join("apache.conf");
    std::fs::write(&path, config).unwrap();
    // Debian's, in short.
    let types =
        "text/html html\ntext/css css\ntext/plain txt\nimage/png png\nimage/jpeg jpg\napplication/zip zip\n";
    std::fs::write(folder.join("mime.types"), types).unwrap();
    let mut command = Command::new(tool("usr/sbin/apache2"));
    command.args(["-D", "FOREGROUND", "-f"]).arg(&path).stdin(Stdio::null());
    let libraries = ["usr/lib", "lib"].map(|libraries| {
        Path::new(UNPACKED).join(libraries).join(format!("{}-linux-gnu", std::env::consts::ARCH))
    });
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    let mut child = command.spawn().expect("Apache runs: scripts/prerequisites unpacks it");
    let mut listens = false;
    wait_until("Apache listens, or ends", PATIENCE, || {
        listens = TcpStream::connect(address).is_ok();
        listens || child.try_wait().unwrap().is_some()
    });
    listens.then_some((child, address))
}

/// Where `scripts/prerequisites` unpacks what is not installed.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools");

/// A file that it has unpacked, or the machine's.
fn tool(path: &str) -> PathBuf {
    let unpacked = Path::new(UNPACKED).join(path);
    if unpacked.exists() { unpacked } else { Path::new("/").join(path) }
}
