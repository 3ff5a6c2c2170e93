//! Web servers before dcgi, each by the configuration that the guide has for it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, wait_until};

/// Whom the servers run as: who has nothing of dcgi's but what the socket's group may.
pub const GROUP: &str = "www-data";

/// The socket's path in the guide.
const SOCKET: &str = "/run/dcgi.sock";

/// A running server. Ended on drop.
pub struct FrontEnd {
    child: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

impl FrontEnd {
    /// nginx, Apache or Caddy, by the name of its block in the guide, before a dcgi at a unix socket.
    #[track_caller]
    pub fn before(server: &str, socket: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let snippet = snippet(server).replace(SOCKET, &socket.display().to_string());
        let here = folder.path().display();
        let (config, mut command) = match server {
            "nginx" => (nginx(&here.to_string(), address, &snippet), tool("nginx")),
            "apache" => (apache(&here.to_string(), address, &snippet), tool("apache2")),
            "caddy" => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=www-data", "--regid=www-data", "--clear-groups", "--"]);
                let caddy = tool("caddy");
                command
                    .arg(caddy.get_program())
                    .env("HOME", folder.path())
                    .env("XDG_DATA_HOME", folder.path());
                (caddy_file(address, &snippet), command)
            }
            other => panic!("no server {other}"),
        };
        let path = folder.path().join("config");
        fs::write(&path, config).unwrap();
        // Whoever it becomes reads its configuration and writes its files here.
        super::piped(Command::new("chown").args(["-R", GROUP]).arg(folder.path()), b"");
        match server {
            "nginx" => command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(&path),
            "apache" => command.args(["-D", "FOREGROUND", "-f"]).arg(&path),
            _ => command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&path),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the server runs");
        wait_until("the server listens", PATIENCE, || TcpStream::connect(address).is_ok());
        Self { child, address, _folder: folder }
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        _ = self.child.wait();
    }
}

/// What the guide has in a block of this language.
#[track_caller]
fn snippet(language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/behind-another-server.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("the guide has it");
    rest.split("```").next().unwrap().to_owned()
}

/// What the guide says for dcgi, at this socket.
#[track_caller]
pub fn dcgis_own(socket: &Path) -> String {
    snippet("toml").replace(SOCKET, &socket.display().to_string())
}

fn nginx(folder: &str, address: SocketAddr, snippet: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "user {GROUP};\ndaemon off;\nworker_processes 1;\npid {folder}/pid;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}server {{\nlisten {address};\n{snippet}\n}}\n}}\n"
    )
}

fn apache(folder: &str, address: SocketAddr, snippet: &str) -> String {
    let modules = roots().into_iter().map(|root| root.join("usr/lib/apache2/modules"));
    let modules = modules.into_iter().find(|path| path.exists()).expect("run scripts/prerequisites");
    let load: String = ["mpm_event", "authz_core", "headers", "proxy", "proxy_http"]
        .map(|name| format!("LoadModule {name}_module {}/mod_{name}.so\n", modules.display()))
        .concat();
    format!(
        "{load}User {GROUP}\nGroup {GROUP}\nServerRoot \"{folder}\"\nDefaultRuntimeDir \"{folder}\"\n\
         PidFile \"{folder}/pid\"\nErrorLog \"{folder}/log\"\nServerName localhost\nListen {address}\n\
         <VirtualHost *>\n{snippet}\n</VirtualHost>\n"
    )
}

fn caddy_file(address: SocketAddr, snippet: &str) -> String {
    format!(
        "{{\n\tadmin off\n\tauto_https off\n}}\nhttp://:{} {{\n\tbind 127.0.0.1\n{snippet}\n}}\n",
        address.port()
    )
}

/// Where programs are: on this machine, or unpacked by `scripts/prerequisites`.
fn roots() -> [PathBuf; 2] {
    [PathBuf::from("/"), Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")]
}

fn tool(name: &str) -> Command {
    let folders = ["usr/sbin", "usr/bin"];
    let candidates = roots().into_iter().flat_map(|root| folders.map(|folder| root.join(folder).join(name)));
    let found = candidates.into_iter().find(|path| path.is_file());
    let mut command = Command::new(found.unwrap_or_else(|| panic!("no {name}: run scripts/prerequisites")));
    let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    command.env("LD_LIBRARY_PATH", roots()[1].join(libraries));
    command
}
