//! What the measurements share.

#![allow(dead_code, unreachable_pub, reason = "no measurement needs all of it")]
#![allow(clippy::disallowed_methods, reason = "no runtime's thread is blocked")]

pub mod api;
#[path = "../../tests/common/client.rs"]
pub mod client;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The dcgi that is measured: `DCGI_BIN`, or the one that was built with this measurement, as `make dist` builds it.
pub fn executable() -> PathBuf {
    std::env::var_os("DCGI_BIN").map_or_else(|| env!("CARGO_BIN_EXE_dcgi").into(), PathBuf::from)
}

/// The dcgi that is measured, serving a configuration.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    config: tempfile::NamedTempFile,
}

impl Server {
    pub fn start(config: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("listen = [\"127.0.0.1:0\"]\n{config}")).unwrap();
        let mut child = Command::new(executable())
            .args(["serve", "-c"])
            .arg(file.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("dcgi listens on http://").expect("dcgi serves").parse().unwrap();
        Self { child, address, config: file }
    }

    /// [`container`], of this server.
    pub fn container(&self, path: &str) -> String {
        container(self.config.path(), path)
    }

    /// Resident memory in bytes: now, and at its peak.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = Command::new("kill").arg(self.child.id().to_string()).status();
        _ = self.child.wait();
    }
}

/// The engine's create request for a request to this path, under labels of its own: a dcgi would take it for the
/// container of one that is gone, and remove it.
pub fn container(config: &Path, path: &str) -> String {
    let output = Command::new(executable()).args(["inspect", path, "-v", "-c"]).arg(config).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text[text.find("\n{").expect("a container") + 1..].replace("\"dcgi.", "\"bench.")
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
