//! The servers without containers that are compared, each in the foreground, on a free port of 127.0.0.1, with files of
//! its own. None writes a log of requests.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::program::Programs;
use super::stage::{self, Stage};
use super::tool;

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// At most so many requests at once are sent: fcgiwrap has a process for each.
const MOST_AT_ONCE: usize = 64;

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Its processes, without those that they have started.
    pub(crate) processes: Vec<Child>,
}

impl Server {
    pub(crate) fn roots(&self) -> Vec<u32> {
        self.processes.iter().map(Child::id).collect()
    }
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

/// lighttpd executes what is in a folder, one `fork` and `exec` a request. `name` is for its files.
pub(crate) fn lighttpd(stage: &Stage, name: &str, folder: &Path, programs: &Programs) -> Server {
    let address = free_port();
    let config = format!(
        "server.document-root = \"{folder}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
         server.modules = ( \"mod_cgi\" )\ncgi.assign = ( \"\" => \"\" )\n\
         server.errorlog = \"{stage}/{name}.log\"\nserver.upload-dirs = ( \"{stage}\" )\n",
        folder = folder.display(),
        port = address.port(),
        stage = stage.folder.display(),
    );
    let mut command = tool::tool("lighttpd");
    if Path::new(command.get_program()).starts_with(tool::unpacked()) {
        command.arg("-m").arg(tool::unpacked().join("usr/lib/lighttpd"));
    }
    programs.tell_libraries(&mut command);
    command.arg("-D").arg("-f").arg(stage.write(&format!("{name}.conf"), config));
    let child = stage::start(&mut command);
    await_server(|| TcpStream::connect(address).is_ok(), "lighttpd");
    Server { address, processes: vec![child] }
}

/// nginx, which has no CGI of its own, with fcgiwrap behind it.
pub(crate) fn nginx(stage: &Stage, programs: &Programs) -> Server {
    let socket = stage.path("fcgiwrap.sock");
    let mut command = tool::tool("fcgiwrap");
    programs.tell_libraries(&mut command);
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
        // PHP runs for nobody who has not been redirected.
        ("REDIRECT_STATUS", "200"),
    ]
    .map(|(name, value)| format!("fastcgi_param {name} {value};\n"))
    .concat();
    // Its workers must reach fcgiwrap's socket.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let config = format!(
        "{user}daemon off;\nworker_processes auto;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n\
         events {{ }}\nhttp {{\naccess_log off;\nclient_max_body_size 0;\n{temporary}server {{\n\
         listen {address};\nroot {programs};\n\
         location / {{\n{parameters}fastcgi_pass unix:{socket};\n}}\n}}\n}}\n",
        programs = programs.folder.display(),
        socket = socket.display(),
    );
    let mut command = tool::tool("nginx");
    command.arg("-p").arg(&stage.folder).arg("-e").arg(stage.path("nginx.log"));
    command.arg("-c").arg(stage.write("nginx.conf", config));
    let nginx = stage::start(&mut command);
    await_server(|| TcpStream::connect(address).is_ok(), "nginx");
    Server { address, processes: vec![nginx, fcgiwrap] }
}

/// Apache with threads, and its daemon that forks for them.
pub(crate) fn apache(stage: &Stage, programs: &Programs) -> Server {
    let address = free_port();
    let folder = stage.path("apache");
    std::fs::create_dir(&folder).unwrap();
    let modules = tool::find(&["usr/lib/apache2/modules"]).expect("no apache2: run bench/prerequisites");
    let load: String = ["mpm_event", "authz_core", "env", "cgid"]
        .map(|name| format!("LoadModule {name}_module {}/mod_{name}.so\n", modules.display()))
        .concat();
    // It refuses to serve as root, and takes a user from no one else.
    let user = if rustix::process::geteuid().is_root() { "User \"#65534\"\nGroup \"#65534\"\n" } else { "" };
    let config = format!(
        "{load}{user}ServerRoot \"{folder}\"\nDefaultRuntimeDir \"{folder}\"\nPidFile \"{folder}/pid\"\n\
         ErrorLog \"{folder}/log\"\nScriptSock \"{folder}/cgid\"\nServerName localhost\nListen {address}\n\
         MaxKeepAliveRequests 0\nSetEnv REDIRECT_STATUS 200\nDocumentRoot \"{programs}\"\n\
         <Directory \"{programs}\">\nRequire all granted\nOptions +ExecCGI\nSetHandler cgi-script\n\
         </Directory>\n",
        folder = folder.display(),
        programs = programs.folder.display(),
    );
    let mut command = tool::tool("apache2");
    programs.tell_libraries(&mut command);
    command.args(["-D", "FOREGROUND", "-f"]).arg(stage.write("apache.conf", config));
    let child = stage::start(&mut command);
    await_server(|| TcpStream::connect(address).is_ok(), "Apache");
    Server { address, processes: vec![child] }
}
