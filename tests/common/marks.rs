//! A program that leaves marks in a container, one of each kind of state, and looks for them: a CGI program.
//!
//! `plant=KIND` leaves them and prints `planted`; a kind that cannot be planted prints why, for a test that could not
//! fail is none. `look=KIND` prints what is there of that kind, which must be the same before and after. `stay` waits
//! for the end of standard input first.
//!
//! One static file without dependencies.

#[path = "marks/files.rs"]
mod files;
#[path = "marks/ipc.rs"]
mod ipc;
#[path = "marks/network.rs"]
mod network;
#[path = "marks/process.rs"]
mod process;
#[path = "marks/processes.rs"]
mod processes;
#[path = "marks/refused.rs"]
mod refused;
#[path = "marks/sockets.rs"]
mod sockets;

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use files::*;
use ipc::*;
use network::*;
use process::*;
use processes::*;
use refused::*;
use sockets::*;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn shmget(key: c_int, size: usize, flags: c_int) -> c_int;
    fn shmat(id: c_int, address: *const c_void, flags: c_int) -> *mut u8;
    fn semget(key: c_int, count: c_int, flags: c_int) -> c_int;
    fn semctl(id: c_int, number: c_int, command: c_int, ...) -> c_int;
    fn msgget(key: c_int, flags: c_int) -> c_int;
    fn msgsnd(id: c_int, message: *const c_void, size: usize, flags: c_int) -> c_int;
    fn umask(mask: u32) -> u32;
    fn setsid() -> c_int;
    fn fork() -> c_int;
    fn pause() -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn sigprocmask(how: c_int, set: *const u64, old: *mut u64) -> c_int;
    fn setpriority(which: c_int, who: u32, value: c_int) -> c_int;
    fn getpriority(which: c_int, who: u32) -> c_int;
    fn sched_setscheduler(pid: c_int, policy: c_int, parameter: *const c_int) -> c_int;
    fn sched_setaffinity(pid: c_int, size: usize, mask: *const u64) -> c_int;
    fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn fcntl(descriptor: c_int, command: c_int, ...) -> c_int;
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, ends: *mut c_int) -> c_int;
    fn sendmsg(descriptor: c_int, message: *const MessageHeader, flags: c_int) -> isize;
    fn close(descriptor: c_int) -> c_int;
    fn sethostname(name: *const c_char, size: usize) -> c_int;
    fn mmap(at: *mut c_void, size: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64)
    -> *mut u8;
}

const SYS_MQ_OPEN: c_long = 240;
const SYS_MQ_TIMEDSEND: c_long = 242;
const SYS_ADD_KEY: c_long = 248;
const SYS_KEYCTL: c_long = 250;
const SYS_MEMFD_CREATE: c_long = 319;
/// `IPC_CREAT`, and read and write for all.
const CREATE: c_int = 0o1000 | 0o666;
const KEY: c_int = 0x6463_6769;
const MARK: &str = "mark-of-another-request";

type Planted = Result<(), String>;

/// Each kind: how it is planted, and what is there of it.
const KINDS: &[(&str, fn() -> Planted, fn() -> String)] = &[
    ("files", plant_files, look_at_files),
    ("shared_memory", plant_shared_memory, look_at_shared_memory),
    ("system_v", plant_system_v, look_at_system_v),
    ("queues", plant_queues, look_at_queues),
    ("abstract_sockets", plant_abstract_sockets, look_at_unix_sockets),
    ("socket_cycle", plant_socket_cycle, look_at_unix_sockets),
    ("processes", plant_processes, look_at_processes),
    ("memory", plant_memory, look_at_memory),
    ("pids", plant_pids, look_at_pids),
    ("loopback", plant_loopback, look_at_network),
    ("refused", plant_refused, look_at_network),
    ("unreachable", plant_unreachable, look_at_network),
    ("datagrams", plant_datagrams, look_at_network),
    ("process", plant_process, look_at_process),
    ("init", plant_init, look_at_init),
    ("descriptors", plant_descriptors, look_at_descriptors),
    ("keys", plant_keys, look_at_keys),
    ("host_name", plant_host_name, look_at_host_name),
    ("mounts", plant_mounts, look_at_mounts),
    ("nothing", || Ok(()), String::new),
];

fn main() {
    println!("Content-Type: text/plain\n");
    let query = std::env::var("QUERY_STRING").unwrap_or_default();
    for step in query.split('&').filter(|step| !step.is_empty()) {
        let (verb, kind) = step.split_once('=').unwrap_or((step, ""));
        let known = KINDS.iter().find(|(name, ..)| *name == kind);
        match (verb, known) {
            ("plant", Some((_, plant, _))) => match plant() {
                Ok(()) => println!("planted"),
                Err(why) => println!("NOT planted: {why}"),
            },
            ("look", Some((.., look))) => println!("{}", look()),
            ("stay", _) => _ = io::stdin().read_to_end(&mut Vec::new()),
            _ => println!("the probe does not know {step}"),
        }
    }
}

/// The error of the C library's last call, where a result says that there is one.
fn check(what: &str, result: impl Into<i64>) -> Result<i64, String> {
    match result.into() {
        -1 => Err(format!("{what}: {}", io::Error::last_os_error())),
        result => Ok(result),
    }
}

fn said<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{error}\n"))
}

/// What is below a folder, with what it holds.
fn tree(folder: &str, out: &mut String) {
    let mut names: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    names.sort();
    for path in names {
        let kind =
            fs::symlink_metadata(&path).map(|metadata| (metadata.file_type(), metadata.permissions().mode()));
        writeln!(out, "{} {:?} {}", path.display(), kind, text(&path.to_string_lossy()).trim_end()).unwrap();
        if path.is_dir() && !path.is_symlink() {
            tree(&path.to_string_lossy(), out);
        }
    }
}
