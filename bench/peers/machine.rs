//! The machine, and what is installed on it, in a few lines: figures mean nothing without them.

use std::fs;
use std::process::{Command, Stdio};

use super::tool::tool;

/// A paragraph.
pub(crate) fn describe(docker: bool) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut versions = vec![
        version("lighttpd", tool("lighttpd").arg("-v")),
        version("nginx", tool("nginx").arg("-v")),
        version("fcgiwrap", tool("fcgiwrap").arg("-h")),
        version("Apache", tool("apache2").arg("-v")),
        version("crun", tool("crun").arg("--version")),
        version("wrk", tool("wrk").arg("-v")),
        version("Perl", Command::new("perl").arg("-v")),
        version("PHP", tool("php-cgi8.2").arg("-nv")),
    ];
    if docker {
        let asked = ["version", "--format", "{{.Server.Version}}"];
        versions.push(version("Docker Engine", Command::new("docker").args(asked)));
    }
    format!(
        "On {}, {cores} cores for all: servers, programs and load. {}; {}.",
        processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        said(Command::new("uname").arg("-sr")).trim(),
        versions.join(", ")
    )
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.to_owned())
}

/// A program's name with the first number that has a point in it of what it says of itself.
fn version(name: &str, command: &mut Command) -> String {
    let text = said(command);
    let mut words = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let number =
        words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
    format!("{name} {}", number.unwrap_or("of an unknown version"))
}

/// What a command prints, on either stream.
fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let bytes = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
