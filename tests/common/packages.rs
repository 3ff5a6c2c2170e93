//! Packages of Debian in a root file system of their own, and the Apache that is one of them.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{PATIENCE, piped, wait_until};

/// Where `scripts/packages-root` puts it.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/packages-root");

/// Enters the root with nothing of it to be written to but volumes, in namespaces that end with this process: nothing of
/// the machine's own is changed, and nothing is left. Its arguments are the root, the folder with the volumes, how many
/// there are, their places, and a command.
const ENTER: &str = r#"
root=$1 folder=$2 count=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while [ "$count" -gt 0 ]; do
    mount --bind "$folder$1" "$root$1"
    shift
    count=$((count - 1))
done
exec chroot "$root" "$@"
"#;

/// What programs may write to: directories of the root, each of which begins with what the packages have put there, and is
/// `www-data`'s. Removed on drop.
pub struct Volumes {
    folder: TempDir,
    places: Vec<&'static str>,
}

impl Volumes {
    #[track_caller]
    pub fn new(places: &[&'static str]) -> Self {
        assert!(Path::new(ROOT).is_dir(), "{ROOT} is not there: run scripts/packages-root");
        let volumes = Self { folder: folder(), places: places.to_vec() };
        for place in places {
            let path = volumes.path(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            run(Command::new("cp").arg("-a").arg(format!("{ROOT}{place}")).arg(&path));
            run(Command::new("chown").args(["-R", "33:33"]).arg(&path));
        }
        volumes
    }

    /// Others with the same in them, to the second of each file's change.
    #[track_caller]
    pub fn copied(&self) -> Self {
        let copy = Self { folder: folder(), places: self.places.clone() };
        run(Command::new("cp").arg("-a").arg(self.folder.path().join(".")).arg(copy.folder.path()));
        copy
    }

    /// Where something is on this machine that is in a volume.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside.trim_start_matches('/'))
    }

    /// As a route's `volumes` have them.
    pub fn as_toml(&self) -> String {
        let volumes: Vec<_> =
            self.places.iter().map(|place| format!("\"{}:{place}\"", self.path(place).display())).collect();
        format!("[{}]", volumes.join(", "))
    }

    /// A command that runs inside, as root.
    pub fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"]);
        command.args(["/bin/sh", "-euc", ENTER, "sh", ROOT]).arg(self.folder.path());
        command.arg(self.places.len().to_string()).args(&self.places);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs a shell script inside, as `www-data`, with its home in `/srv`: what it says.
    #[track_caller]
    pub fn shell(&self, script: &str, variables: &[(&str, &str)]) -> String {
        let mut command = self.command();
        command.args([
            "setpriv",
            "--reuid=www-data",
            "--regid=www-data",
            "--init-groups",
            "env",
            "HOME=/srv",
        ]);
        command.args(["LC_ALL=C.UTF-8", "TMPDIR=/tmp"]);
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(["sh", "-euc", script]);
        run(&mut command)
    }
}

/// One that everybody may enter.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let (success, said) = piped(command, b"");
    assert!(success, "{command:?}: {said}");
    said
}

/// The root's own Apache, with mod_cgi. Ended on drop, with all that it runs.
pub struct PackagedApache {
    child: Child,
    pub address: SocketAddr,
    log: PathBuf,
    /// What it and its programs write to.
    pub volumes: Volumes,
}

const MODULES: &[&str] = &[
    "mpm_prefork",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "auth_basic",
    "alias",
    "actions",
    "cgi",
    "dir",
    "env",
    "mime",
    "rewrite",
];

/// How often another port is tried: what was free may not be any more.
const TRIES: usize = 5;

impl PackagedApache {
    /// Serves what these lines of its configuration say. Its own files are in `/run`, which has to be one of the volumes.
    #[track_caller]
    pub fn start(volumes: Volumes, lines: &str) -> Self {
        let log = volumes.path("/run/error.log");
        let tried = (0..TRIES).find_map(|_| start(&volumes, lines));
        let Some((child, address)) = tried else {
            panic!("Apache does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
        };
        Self { child, address, log, volumes }
    }
}

impl Drop for PackagedApache {
    fn drop(&mut self) {
        // All in its PID namespace ends with this.
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of Apache ---\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Starts one that listens on a free port. `None` where it ends instead.
fn start(volumes: &Volumes, lines: &str) -> Option<(Child, SocketAddr)> {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let load: String = MODULES
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    let config = format!(
        "{load}User www-data\nGroup www-data\nServerRoot /run\nDefaultRuntimeDir /run\nPidFile /run/apache.pid\n\
         ErrorLog /run/error.log\nServerName www.example.org\nListen {address}\nDocumentRoot /srv\n\
         TypesConfig /etc/mime.types\nStartServers 1\n\
         <Directory />\nOptions FollowSymLinks ExecCGI\nRequire all granted\n</Directory>\n{lines}\n"
    );
    fs::write(volumes.path("/run/apache.conf"), config).unwrap();
    let mut command = volumes.command();
    command.args(["apache2", "-D", "FOREGROUND", "-f", "/run/apache.conf"]).stdin(Stdio::null());
    let mut child = command.spawn().expect("unshare runs");
    let mut listens = false;
    wait_until("Apache listens, or ends", PATIENCE, || {
        listens = TcpStream::connect(address).is_ok();
        listens || child.try_wait().unwrap().is_some()
    });
    listens.then_some((child, address))
}
