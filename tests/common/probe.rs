//! The program that the suites run in containers: it does what the query string tells it, step by step.
//!
//! `print=TEXT&sleep=200&exit=3`, values percent-encoded. One static file without dependencies, so that an image
//! needs nothing else.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn kill(pid: i32, signal: i32) -> i32;
    fn close(fd: i32) -> i32;
    fn signal(signal: i32, handler: usize) -> usize;
    fn setsid() -> i32;
    fn setpgid(pid: i32, group: i32) -> i32;
    fn getpgid(pid: i32) -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn fork() -> i32;
    fn usleep(microseconds: u32) -> i32;
    fn _exit(status: i32) -> !;
    fn syscall(number: i64, ...) -> i64;
    fn fcntl(fd: i32, command: i32, ...) -> i32;
    fn inotify_init1(flags: i32) -> i32;
    fn inotify_add_watch(fd: i32, path: *const std::ffi::c_char, mask: u32) -> i32;
    fn prlimit(pid: i32, resource: i32, new: *const [u64; 2], old: *mut [u64; 2]) -> i32;
    fn ptrace(request: i32, pid: i32, address: usize, data: usize) -> i64;
}

/// Set when SIGTERM has come, where that is waited for.
static ASKED_TO_END: AtomicBool = AtomicBool::new(false);

extern "C" fn note_termination(_: i32) {
    ASKED_TO_END.store(true, Ordering::Relaxed);
}

const PTRACE_TRACEME: i32 = 0;
const PTRACE_SEIZE: i32 = 0x4206;
const PTRACE_O_TRACEEXIT: usize = 0x40;
const SIGTERM: i32 = 15;
const SIG_IGN: usize = 1;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let given = match arguments.next().as_deref() {
        // How an orphan is made: hold the streams open for this many milliseconds.
        Some("linger") => return pause(arguments.next().as_deref().unwrap_or("0")),
        // For routes whose query string is not for the probe.
        Some("do") => arguments.next(),
        _ => None,
    };
    let steps = given.or_else(|| std::env::var("PROBE").ok());
    let steps = steps.unwrap_or_else(|| std::env::var("QUERY_STRING").unwrap_or_default());
    // Unbuffered: what a step prints is printed when it is done.
    let mut out = unsafe { File::from_raw_fd(1) };
    let mut err = unsafe { File::from_raw_fd(2) };
    for step in steps.split('&').filter(|step| !step.is_empty()) {
        let (verb, value) = step.split_once('=').unwrap_or((step, ""));
        let value = decoded(value);
        let text = String::from_utf8_lossy(&value).into_owned();
        let done = match verb {
            "print" => out.write_all(&value),
            "err" => err.write_all(&value),
            // A header block that suits a text.
            "text" => out.write_all(b"Content-Type: text/plain\n\n"),
            "env" => match std::env::var_os(&text) {
                Some(value) => out.write_all(&[b"=", value.as_bytes(), b"\n"].concat()),
                None => out.write_all(b"unset\n"),
            },
            "envall" => std::env::vars_os().try_for_each(|(name, value)| {
                out.write_all(&[name.as_bytes(), b"=", value.as_bytes(), b"\n"].concat())
            }),
            "args" => std::env::args().try_for_each(|argument| writeln!(out, "{argument}")),
            "cwd" => writeln!(out, "{}", std::env::current_dir().unwrap().display()),
            "file" => match std::fs::read(&text) {
                Ok(content) => out.write_all(&content),
                Err(error) => writeln!(out, "{text}: {error}"),
            },
            "write" => match std::fs::write(&text, "x") {
                Ok(()) => writeln!(out, "{text}: written"),
                Err(error) => writeln!(out, "{text}: {error}"),
            },
            // The same without a word.
            "touch" => std::fs::write(&text, "x"),
            // As much as would be missed, without the end of a line.
            "pour" => std::fs::write(&text, vec![b'x'; 64 << 20]),
            "count" => {
                let count = std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
                writeln!(out, "{count}")
            }
            "read" => {
                let mut chunk = vec![0; text.parse().unwrap()];
                std::io::stdin().read_exact(&mut chunk)
            }
            "echo" => echo(&mut out),
            "flood" => flood(&mut out, &text),
            "flooderr" => flood(&mut err, &text),
            "fill" => out.write_all(&vec![b'x'; text.parse().unwrap()]),
            // Computes for this many milliseconds.
            "burn" => {
                let end = Instant::now() + Duration::from_millis(text.parse().unwrap());
                while Instant::now() < end {}
                Ok(())
            }
            "sleep" => {
                pause(&text);
                Ok(())
            }
            "forever" => loop {
                pause("3600000");
            },
            "alloc" => {
                let memory = vec![1_u8; text.parse().unwrap()];
                writeln!(out, "{}", memory.iter().map(|byte| u64::from(*byte)).sum::<u64>())
            }
            // Until the end.
            "hold" => {
                vec![1_u8; text.parse().unwrap()].leak();
                Ok(())
            }
            // Fills the buffers of connections to itself until this many bytes are in them, or no more go in: how many did.
            "tcp" => writeln!(out, "{}", fill_tcp_buffers(text.parse().unwrap())),
            "close" => {
                unsafe { close(text.parse().unwrap()) };
                Ok(())
            }
            "orphan" => {
                let own = std::env::current_exe().unwrap();
                Command::new(own).args(["linger", &text]).spawn().map(drop)
            }
            // An orphan that has left its program's process group, as daemons do.
            "daemon" => {
                let own = std::env::current_exe().unwrap();
                Command::new(own).args(["linger", &text]).process_group(0).spawn().map(drop)
            }
            // Takes these steps beside this one, and with its streams.
            "child" => {
                let own = std::env::current_exe().unwrap();
                Command::new(own).args(["do", &text]).spawn().map(drop)
            }
            // The same without a variable.
            "bare" => {
                let own = std::env::current_exe().unwrap();
                Command::new(own).env_clear().args(["do", &text]).spawn().map(drop)
            }
            // Two of them, of which one beats, and the other reads what that prints: nothing.
            "pipeline" => {
                let own = std::env::current_exe().unwrap();
                let daemon = |steps: &str| {
                    let mut daemon = Command::new(&own);
                    daemon.args(["do", steps]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                    daemon
                };
                let mut first = daemon(&format!("beat={text}")).stdout(Stdio::piped()).spawn().unwrap();
                daemon("count").stdin(first.stdout.take().unwrap()).spawn().map(drop)
            }
            // Touches a file for as long as it lives.
            "beat" => beat(&text),
            // The same, in another thread than the first, which ends.
            "headless" => {
                const SYS_EXIT: i64 = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
                std::thread::spawn(move || beat(&text));
                unsafe { syscall(SYS_EXIT, 0) };
                Ok(())
            }
            // Forks, as often as it may, daemons that do the same and touch a file.
            "storm" => {
                let file = File::create(&text).unwrap();
                (0..3).for_each(|stream| _ = unsafe { close(stream) });
                loop {
                    if unsafe { fork() } == 0 {
                        unsafe { setsid() };
                    } else {
                        unsafe { usleep(1000) };
                    }
                    _ = file.write_all_at(b"x", 0);
                }
            }
            // As a shell has a job: in a process group of its own, whose leader ends before what it has started.
            "job" => {
                if unsafe { fork() } == 0 {
                    unsafe { setpgid(0, 0) };
                    let own = std::env::current_exe().unwrap();
                    _ = Command::new(own).args(["do", &text]).spawn();
                    unsafe { _exit(0) };
                }
                Ok(())
            }
            // A daemon that goes on as its own child, in a session of its own, again and again: never the same process for
            // so many microseconds. Each touches a file.
            "hop" => {
                let (pause, path) = text.split_once(':').unwrap();
                let (pause, file) = (pause.parse().unwrap(), File::create(path).unwrap());
                if unsafe { fork() } == 0 {
                    unsafe { signal(SIGTERM, SIG_IGN) };
                    (0..3).for_each(|stream| _ = unsafe { close(stream) });
                    loop {
                        unsafe { setsid() };
                        _ = file.write_all_at(b"x", 0);
                        unsafe { usleep(pause) };
                        if unsafe { fork() } != 0 {
                            unsafe { _exit(0) };
                        }
                    }
                }
                Ok(())
            }
            // The same in a session of its own, so many generations on: the first leads a group, and stays in its session.
            "generations" => match text.split_once(':').unwrap() {
                ("0", steps) => {
                    let own = std::env::current_exe().unwrap();
                    Command::new(own).args(["do", steps]).spawn().map(drop)
                }
                (left, steps) => {
                    unsafe { setsid() };
                    let left = left.parse::<u32>().unwrap() - 1;
                    let next = format!("generations={}", encoded(&format!("{left}:{steps}")));
                    let own = std::env::current_exe().unwrap();
                    Command::new(own).args(["do", &next]).spawn().map(drop)
                }
            },
            // Notes SIGTERM instead of ending by it.
            // Has its parent trace it, as a program does that is debugged: every signal stops it.
            "traceme" => {
                let done = unsafe { ptrace(PTRACE_TRACEME, 0, 0, 0) };
                assert_eq!(done, 0, "it cannot be traced");
                Ok(())
            }
            // Has it stop a child on its way out, which is let go of when this process ends.
            "hold-child" => {
                let child = unsafe { fork() };
                if child == 0 {
                    pause("600000");
                    unsafe { _exit(0) };
                }
                let done = unsafe { ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACEEXIT) };
                let error = std::io::Error::last_os_error();
                unsafe { kill(child, 9) };
                match done {
                    0 => writeln!(out, "held"),
                    _ => writeln!(out, "{error}"),
                }
            }
            // Has a daemon trace it that does nothing: killed, it stops on its way out. Where it may not, the daemon goes on.
            "held" => {
                let own = std::process::id() as i32;
                let (mut ours, theirs) = std::io::pipe().unwrap();
                if unsafe { fork() } == 0 {
                    unsafe { setsid() };
                    (0..3).for_each(|stream| _ = unsafe { close(stream) });
                    _ = unsafe { ptrace(PTRACE_SEIZE, own, 0, PTRACE_O_TRACEEXIT) };
                    drop(theirs);
                    pause("600000");
                    unsafe { _exit(0) };
                }
                drop(theirs);
                // It has none of it any more once it does.
                ours.read(&mut [0]).map(drop)
            }
            "trap" => {
                unsafe { signal(SIGTERM, note_termination as *const () as usize) };
                Ok(())
            }
            "ignore" => {
                unsafe { signal(text.parse().unwrap(), SIG_IGN) };
                Ok(())
            }
            "awaitterm" => {
                while !ASKED_TO_END.load(Ordering::Relaxed) {
                    pause("5");
                }
                Ok(())
            }
            "spawn" => {
                let own = std::env::current_exe().unwrap();
                let wanted: usize = text.parse().unwrap();
                let made =
                    (0..wanted).take_while(|_| Command::new(&own).args(["linger", "2000"]).spawn().is_ok());
                let made = made.count();
                writeln!(out, "{made}")
            }
            "kill" => {
                unsafe { kill(std::process::id() as i32, text.parse().unwrap()) };
                Ok(())
            }
            "reach" => reach(&mut out),
            // Keeps it until the end.
            "lock" => {
                let file = Box::leak(Box::new(File::open(&text).unwrap()));
                writeln!(out, "{}", if file.try_lock().is_ok() { "locked" } else { "not locked" })
            }
            // A command of fcntl(2), with the argument 1, on the probe itself.
            "fcntl" => {
                let own = File::open("/proc/self/exe").unwrap();
                let result = unsafe { fcntl(own.as_raw_fd(), text.parse().unwrap(), &1_u64) };
                let error = std::io::Error::last_os_error();
                writeln!(out, "{}", if result == -1 { error.kind().to_string() } else { "done".to_owned() })
            }
            // Whether somebody opens a file before standard input ends.
            "watch" => {
                const IN_NONBLOCK: i32 = 0o4000;
                const IN_OPEN: u32 = 0x20;
                let path = std::ffi::CString::new(&*text).unwrap();
                let mut events = unsafe {
                    let watch = inotify_init1(IN_NONBLOCK);
                    assert!(inotify_add_watch(watch, path.as_ptr(), IN_OPEN) >= 0);
                    File::from_raw_fd(watch)
                };
                out.write_all(b"watching\n").unwrap();
                std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
                let seen = events.read(&mut [0; 4096]).is_ok();
                writeln!(out, "{}", if seen { "seen" } else { "nothing" })
            }
            // What comes back of a `hello` from an address, or a unix socket.
            "dial" => {
                let answer = match text.starts_with('/') {
                    true => UnixStream::connect(&text).and_then(|stream| {
                        exchange(&stream, &stream, |stream| stream.shutdown(Shutdown::Write))
                    }),
                    false => TcpStream::connect(&text).and_then(|stream| {
                        exchange(&stream, &stream, |stream| stream.shutdown(Shutdown::Write))
                    }),
                };
                writeln!(out, "{}", answer.unwrap_or_else(|error| format!("no: {}", error.kind())))
            }
            "exit" => exit(text.parse().unwrap()),
            other => writeln!(out, "Status: 500\n\nthe probe does not know `{other}`"),
        };
        if done.is_err() {
            // As a program that SIGPIPE would end.
            exit(74);
        }
    }
}

fn exchange<S>(
    mut read: impl Read,
    stream: S,
    shut_down: impl Fn(&S) -> std::io::Result<()>,
) -> std::io::Result<String>
where
    S: Copy + Write,
{
    let mut write = stream;
    write.write_all(b"hello\n")?;
    shut_down(&stream)?;
    let mut answer = String::new();
    read.read_to_string(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// What can be done to every other process that is seen here: a line each, with its name.
fn reach(out: &mut File) -> std::io::Result<()> {
    const PTRACE_SEIZE: i32 = 0x4206;
    let others = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for pid in others.filter(|pid: &i32| *pid != std::process::id() as i32) {
        let file = |name: &str| format!("/proc/{pid}/{name}");
        let name = std::fs::read_to_string(file("comm")).unwrap_or_default();
        let opens = |name: &str, write| {
            File::options().read(true).write(write).open(file(name)).is_ok_and(|mut it| write || it.read(&mut [0]).is_ok())
        };
        let done = [
            ("signal", unsafe { kill(pid, 0) } == 0),
            ("trace", unsafe { ptrace(PTRACE_SEIZE, pid, 0, 0) } == 0),
            // It is not asked for anything: the kernel only looks who asks.
            ("limit", unsafe { prlimit(pid, 0, std::ptr::null(), std::ptr::null_mut()) } == 0),
            ("environ", opens("environ", false)),
            ("mem", opens("mem", true)),
            ("exe", opens("exe", false)),
            ("fd", std::fs::read_link(file("fd/0")).is_ok()),
            ("group", joins_group(unsafe { getpgid(pid) })),
        ];
        let done: Vec<_> = done.iter().filter(|(_, is_done)| *is_done).map(|(what, _)| *what).collect();
        writeln!(out, "{}: {}", name.trim(), done.join(" "))?;
    }
    Ok(())
}

/// Whether a child of this process may join a process group.
fn joins_group(group: i32) -> bool {
    let mut status = 0;
    unsafe {
        let child = fork();
        if child == 0 {
            _exit(if group > 0 && setpgid(0, group) == 0 { 0 } else { 1 });
        }
        waitpid(child, &mut status, 0);
    }
    status == 0
}

fn beat(path: &str) -> ! {
    let file = File::create(path).unwrap();
    loop {
        file.write_all_at(b"x", 0).unwrap();
        pause("20");
    }
}

fn pause(milliseconds: &str) {
    std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap()));
}

fn echo(out: &mut File) -> std::io::Result<()> {
    let mut input = unsafe { File::from_raw_fd(0) };
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = input.read(&mut chunk)?;
        if read == 0 {
            std::mem::forget(input);
            return Ok(());
        }
        out.write_all(&chunk[..read])?;
    }
}

fn flood(out: &mut File, bytes: &str) -> std::io::Result<()> {
    let mut left: u64 = bytes.parse().unwrap();
    let line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n".repeat(1024);
    while left > 0 {
        let next = left.min(line.len() as u64);
        out.write_all(&line[..next as usize])?;
        left -= next;
    }
    Ok(())
}

fn fill_tcp_buffers(most: usize) -> usize {
    const CONNECTIONS: usize = 400;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let chunk = vec![b'x'; 64 << 10];
    let mut held = Vec::new();
    let mut queued = 0;
    while queued < most && held.len() < CONNECTIONS {
        let Ok(mut ours) = TcpStream::connect(address) else { break };
        let Ok((theirs, _)) = listener.accept() else { break };
        ours.set_nonblocking(true).unwrap();
        while queued < most {
            match ours.write(&chunk) {
                Ok(written) => queued += written,
                Err(_) => break,
            }
        }
        held.push((ours, theirs));
    }
    queued
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}
