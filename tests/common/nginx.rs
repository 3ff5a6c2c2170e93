//! nginx, which passes requests on by SCGI.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, agent::Address, piped, wait_until};

/// A running nginx with all its files in a folder of its own, on a unix socket there. Ended on drop.
pub struct Nginx {
    child: Child,
    folder: TempDir,
}

impl Nginx {
    /// Passes everything on to an SCGI server.
    #[track_caller]
    pub fn before(scgi: &Address) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display();
        let config = format!(
            "daemon off;
            master_process off;
            pid {here}/pid;
            events {{}}
            http {{
                access_log off;
                client_max_body_size 0;
                client_body_temp_path {here}/client;
                scgi_temp_path {here}/scgi;
                proxy_temp_path {here}/proxy;
                fastcgi_temp_path {here}/fastcgi;
                uwsgi_temp_path {here}/uwsgi;
                server {{
                    listen unix:{here}/http.sock;
                    location / {{
                        scgi_pass {scgi};
                        scgi_param SCGI 1;
                        scgi_param REQUEST_METHOD $request_method;
                        scgi_param REQUEST_URI $request_uri;
                        scgi_param QUERY_STRING $query_string;
                        scgi_param CONTENT_TYPE $content_type;
                        scgi_param SERVER_PROTOCOL $server_protocol;
                    }}
                }}
            }}"
        );
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let child = Command::new(program())
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx runs");
        let nginx = Self { child, folder };
        let socket = nginx.socket();
        wait_until("nginx listens", PATIENCE, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        nginx
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("http.sock")
    }

    /// A `curl` that asks for a path.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--unix-socket"])
            .arg(self.socket())
            .args(arguments)
            .arg(format!("http://localhost{path}"));
        curl
    }

    /// The head and the body of a response that came in whole, as text.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        succeeded(piped(&mut self.curl(path, &["--include"]), b""))
    }

    /// The same to a body.
    #[track_caller]
    pub fn post(&self, path: &str, body: &[u8]) -> String {
        succeeded(piped(
            &mut self.curl(path, &["--include", "--data-binary", "@-", "--header", "Expect:"]),
            body,
        ))
    }
}

#[track_caller]
fn succeeded((succeeded, said): (bool, String)) -> String {
    assert!(succeeded, "{said}");
    said
}

/// The one that `scripts/prerequisites` has unpacked, or the machine's.
fn program() -> &'static str {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/usr/sbin/nginx");
    if Path::new(unpacked).exists() { unpacked } else { "nginx" }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Not killed: it removes its files.
        _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        _ = self.child.wait();
    }
}
