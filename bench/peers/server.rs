//! The servers that are compared, each in the foreground, on a free port of 127.0.0.1, with a folder of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::stage::{self, Stage};
use super::support;

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// At most so many requests at once are sent: fcgiwrap has a process for each.
const MOST_AT_ONCE: usize = 8;

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Its processes, without those that they have started.
    processes: Vec<Child>,
}

impl Server {
    pub(crate) fn roots(&self) -> Vec<u32> {
        self.processes.iter().map(Child::id).collect()
    }
}

/// Where `bench/prerequisites` has unpacked what is not installed.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/peers")
}

/// A program of this machine's, or an unpacked one with its libraries.
pub(crate) fn tool(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let installed = std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if let Some(file) = installed {
        return Command::new(file);
    }
    let found = ["usr/sbin", "usr/bin"].map(|folder| tools().join(folder).join(name));
    let file = found.into_iter().find(|file| file.is_file());
    let mut command = Command::new(file.unwrap_or_else(|| panic!("no {name}: run bench/prerequisites")));
    let libraries = ["usr/lib", "lib"].map(|folder| {
        let folder = tools().join(folder);
        folder.join(format!("{}-linux-gnu", std::env::consts::ARCH))
    });
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    command
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn await_server(mut answers: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !answers() {
        assert!(Instant::now() < deadline, "{what} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// lighttpd executes what is in a folder, one `fork` and `exec` a request.
pub(crate) fn lighttpd(stage: &Stage, programs: &Path) -> Server {
    let address = free_port();
    let config = format!(
        "server.document-root = \"{programs}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
         server.modules = ( \"mod_cgi\" )\ncgi.assign = ( \"\" => \"\" )\n\
         server.errorlog = \"{folder}/lighttpd.log\"\nserver.upload-dirs = ( \"{folder}\" )\n",
        programs = programs.display(),
        port = address.port(),
        folder = stage.folder.display(),
    );
    let mut command = tool("lighttpd");
    let modules = tools().join("usr/lib/lighttpd");
    if Path::new(command.get_program()).starts_with(tools()) {
        command.arg("-m").arg(modules);
    }
    command.arg("-D").arg("-f").arg(stage.write("lighttpd.conf", config));
    let child = stage::start(&mut command);
    await_server(|| TcpStream::connect(address).is_ok(), "lighttpd");
    Server { address, processes: vec![child] }
}

/// nginx, which has no CGI of its own, with fcgiwrap behind it.
pub(crate) fn nginx(stage: &Stage, programs: &Path) -> Server {
    let socket = stage.path("fcgiwrap.sock");
    let mut command = tool("fcgiwrap");
    command.args(["-c", &MOST_AT_ONCE.to_string(), "-s"]).arg(format!("unix:{}", socket.display()));
    let fcgiwrap = stage::start(&mut command);
    await_server(|| UnixStream::connect(&socket).is_ok(), "fcgiwrap");

    let address = free_port();
    let folder = stage.folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/nginx-{kind};\n"))
        .concat();
    let parameters: String = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", "nginx"),
        ("SERVER_PROTOCOL", "$server_protocol"),
        ("SERVER_ADDR", "$server_addr"),
        ("SERVER_PORT", "$server_port"),
        ("SERVER_NAME", "$server_name"),
        ("REMOTE_ADDR", "$remote_addr"),
        ("REMOTE_PORT", "$remote_port"),
        ("REQUEST_METHOD", "$request_method"),
        ("REQUEST_URI", "$request_uri"),
        ("QUERY_STRING", "$query_string"),
        ("CONTENT_TYPE", "$content_type"),
        ("CONTENT_LENGTH", "$content_length"),
        ("SCRIPT_NAME", "$fastcgi_script_name"),
        ("SCRIPT_FILENAME", "$document_root$fastcgi_script_name"),
        ("DOCUMENT_ROOT", "$document_root"),
    ]
    .map(|(name, value)| format!("fastcgi_param {name} {value};\n"))
    .concat();
    // Its workers must reach fcgiwrap's socket.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let config = format!(
        "{user}daemon off;\nworker_processes auto;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n\
         events {{ }}\nhttp {{\naccess_log off;\n{temporary}server {{\nlisten {address};\nroot {programs};\n\
         location / {{\n{parameters}fastcgi_pass unix:{socket};\n}}\n}}\n}}\n",
        programs = programs.display(),
        socket = socket.display(),
    );
    let mut command = tool("nginx");
    command.arg("-p").arg(&stage.folder).arg("-e").arg(stage.path("nginx.log"));
    command.arg("-c").arg(stage.write("nginx.conf", config));
    let nginx = stage::start(&mut command);
    await_server(|| TcpStream::connect(address).is_ok(), "nginx");
    Server { address, processes: vec![nginx, fcgiwrap] }
}

/// dcgi, with its log at its default: a line a request, to nowhere.
pub(crate) fn dcgi(stage: &Stage, name: &str, config: &str, environment: &[(&str, &OsStr)]) -> Server {
    let config = stage.write(name, format!("listen = [\"127.0.0.1:0\"]\n{config}"));
    let mut command = Command::new(support::executable());
    command.args(["serve", "-c"]).arg(config).envs(environment.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = stage::start(&mut command);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("dcgi listens on http://").map(str::parse);
    Server { address: address.expect("dcgi serves").unwrap(), processes: vec![child] }
}
