//! What a container looks like to the program in it: a CGI program that prints one fact a line, `key value`, in the
//! same order each time. Two engines are compared by it, line by line.
//!
//! `inside [GROUP...]`, or the query string `GROUP&GROUP`; without either, all groups. No fact changes what another
//! says. It is not for a machine itself: what it attempts is harmless in a container, and may be much elsewhere.
//!
//! Some values differ from run to run: those of `ns.`, `hostname`, and what stands in `cgroup.` and `env.`. Results of
//! calls are `ok`, `errno N`, `signal N` (killed), `exit N` (the process is gone), or `waits` (no answer in time).
//!
//! One static file without dependencies, for x86_64. Without Rust's own start, which would ignore SIGPIPE and catch
//! SIGSEGV: the signals shown are the engine's.
#![no_main]

#[path = "inside/attempts.rs"]
mod attempts;
#[path = "inside/files.rs"]
mod files;
#[path = "inside/identity.rs"]
mod identity;
#[path = "inside/kernel.rs"]
mod kernel;

use std::fmt::Display;
use std::io::Write;

/// What prints the facts of a group.
type Group = fn(&mut Facts);

const GROUPS: &[(&str, Group)] = &[
    ("status", identity::status),
    ("process", identity::process),
    ("limits", identity::limits),
    ("namespaces", identity::namespaces),
    ("network", identity::network),
    ("cgroup", identity::cgroup),
    ("mounts", files::mounts),
    ("masked", files::masked),
    ("readonly", files::read_only),
    ("writable", files::writable),
    ("devices", files::devices),
    ("ptys", files::ptys),
    ("attempts", attempts::with_arguments),
    ("syscalls", attempts::by_number),
    ("syscalls32", attempts::by_number_of_32_bits),
];

/// Where the facts go.
pub struct Facts(Vec<u8>);

impl Facts {
    /// Adds one.
    pub fn add(&mut self, key: impl Display, value: impl Display) {
        let value = value.to_string().replace('\n', " ");
        writeln!(self.0, "{key} {value}").expect("memory takes all");
    }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let query = std::env::var("QUERY_STRING").unwrap_or_default();
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted.extend(query.split('&').filter(|group| !group.is_empty()).map(str::to_owned));
    }
    let mut facts = Facts(Vec::new());
    for (name, group) in GROUPS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            group(&mut facts);
        }
    }
    let mut out = std::io::stdout();
    let written = out.write_all(b"Content-Type: text/plain\n\n").and_then(|()| out.write_all(&facts.0));
    i32::from(written.and_then(|()| out.flush()).is_err())
}
