//! Executing a program from a process that goes on: posix_spawn(3) with a twentieth of its system calls.
//!
//! glibc's asks for, and sets, the action of each of 64 signals in every child, and maps a stack for it: with a filter on
//! system calls that is 30 µs, where starting a small program takes 400.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null;

use rustix::process::Pid;

use super::refusal::Refusal;
use super::sys::{self, Errno, Fd};
use crate::sandbox::seccomp::{Filters, Instruction, Key};

/// How much memory a child has for its calls until it is another program.
const STACK: usize = 32 << 10;

/// What may be handled or ignored here, and is at its default in a program. `exec` itself sees to what is handled, but a
/// handler must not run in the child before that.
const SIGNALS: [c_int; 4] = [libc::SIGPIPE, libc::SIGCHLD, libc::SIGTERM, libc::SIGINT];

/// Out of memory, the kernel kills whichever process is the largest, and to that adds so many thousandths of what the
/// container may have: oom_score_adj, proc(5). A child can only be likelier to be killed than its parent, without
/// privileges, and so the parent, without which no other child goes on, is spared. With less than all of them it would not be
/// where it is large itself: half of 32 MiB is less than what a dcgi without optimizations maps.
const OOM_SCORE_ADJ: i32 = 1000;

/// By what it is known which program a process comes from, whatever it makes of itself: a number that each program of a
/// [`Spawner`] that keeps programs apart is started with, and that all of its children inherit, as the hard limit on how long
/// they may run in real time (`RLIMIT_RTTIME`). It binds only what runs so, and is tens of thousands of years. Without
/// privileges it can only be lowered, and where programs are kept apart not even that; `/proc/PID/limits` shows it, whoever
/// may look into a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag(u64);

impl Tag {
    /// What all of them are above: in microseconds, 36,000 years.
    const LEAST: u64 = 1 << 60;

    /// One that no other of this process has been, nor of another that starts programs here.
    fn next(count: &mut u32) -> Self {
        *count = count.wrapping_add(1);
        Self(Self::LEAST | u64::from(std::process::id()) << 32 | u64::from(*count))
    }

    /// A process's, where it has one; or else the limit that it has, which a program may have lowered where it was not kept from
    /// that. `None`: it has gone.
    pub(crate) fn of(process: Pid) -> Option<Result<Self, u64>> {
        Self::in_limits(&std::fs::read_to_string(format!("/proc/{}/limits", process.as_raw_nonzero())).ok()?)
    }

    /// By proc_pid_limits(5).
    fn in_limits(limits: &str) -> Option<Result<Self, u64>> {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max realtime timeout"))?;
        let hard = line.split_ascii_whitespace().nth(1)?;
        let hard = hard.parse().unwrap_or(u64::MAX);
        Some(if (Self::LEAST..u64::MAX).contains(&hard) { Ok(Self(hard)) } else { Err(hard) })
    }

    /// Whether programs can be started with one by who has this limit itself.
    pub(crate) fn is_possible_below(limit: u64) -> bool {
        // Any is below the next.
        limit >= Self::LEAST << 1
    }
}

/// Starts programs.
#[derive(Debug)]
pub(crate) struct Spawner {
    stack: &'static mut [u8],
    /// What this process ignores, as whoever has started it may have had it do: a program is not to.
    ignored: u64,
    /// What a program's `oom_score_adj` is to be, where this process's own is less.
    oom_score_adj: Option<String>,
    apart: Option<Apart>,
    /// How many tags there have been. `None`: programs have none.
    tags: Option<u32>,
}

/// What holds each program, with all that it starts, apart from the others, where a filter does for what Landlock leaves.
#[derive(Debug)]
struct Apart {
    /// Landlock's: neither signals nor traces.
    rules: Fd,
    /// With which the filter lets a program's tag be set.
    key: Key,
}

impl Apart {
    /// Attaches the filter to this process, once: in each program that would take the kernel longer than all else.
    fn new() -> sys::Result<Self> {
        let rules = sys::rules_of_keeping_apart()?;
        let key = [sys::random()?, sys::random()?].map(u64::from_ne_bytes);
        match sys::set_filter(&Instruction::bytes_of(Filters::apart(key))) {
            // Both are kept until the process ends: it has one spawner.
            Ok(()) => Ok(Self { rules, key }),
            Err(error) => {
                sys::close(rules);
                Err(error)
            }
        }
    }
}

/// What a program is started with.
#[derive(Debug)]
pub(crate) struct Execution<'a> {
    /// Where it may be: the first that is there is executed.
    pub(crate) paths: &'a [CString],
    /// Its arguments, the first of them its own name.
    pub(crate) arguments: &'a [CString],
    /// Its variables, as `NAME=value`.
    pub(crate) environment: &'a [CString],
    /// Standard input, output and error. Those that are not these already are above them.
    pub(crate) streams: [BorrowedFd<'a>; 3],
}

/// What the child finds, and leaves.
struct Birth<'a> {
    paths: &'a [CString],
    arguments: *const *const c_char,
    environment: *const *const c_char,
    streams: [Fd; 3],
    ignored: u64,
    apart: Option<&'a Apart>,
    tag: Option<Tag>,
    error: Option<Refusal>,
}

impl Spawner {
    /// What is started cannot hold another on its way out, where this process can have no new privileges.
    ///
    /// # Errors
    /// Where there is no memory.
    pub(crate) fn new() -> io::Result<Self> {
        if rustix::thread::no_new_privs().unwrap_or(false) {
            // For containers of an engine whose filter lets them. A kernel without filters has nobody's.
            _ = sys::set_filter(&Instruction::bytes_of(Filters::unheld()));
        }
        let stack = sys::map_memory(STACK).map_err(error)?;
        // Where there is no /proc, nobody can say.
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok();
        let own = own.and_then(|own| own.trim().parse::<i32>().ok());
        let oom_score_adj = own.filter(|own| *own < OOM_SCORE_ADJ).map(|_| OOM_SCORE_ADJ.to_string());
        Ok(Self { stack, ignored: sys::ignored_signals(), oom_score_adj, apart: None, tags: None })
    }

    /// Keeps programs apart from here on: each has a [`Tag`]; it can signal and trace itself and what it starts, and nobody else,
    /// whoever is of the same user, and limit itself alone. Whether the kernel can do all of that, and would without
    /// privileges; they have tags in any case. What this process starts by other means is then bound to its own limits alone
    /// too, and gives nobody a tag.
    pub(crate) fn keep_apart(&mut self) -> bool {
        self.tags.get_or_insert(0);
        if self.apart.is_none() && rustix::thread::no_new_privs().unwrap_or(false) {
            self.apart = Apart::new().ok();
        }
        self.apart.is_some()
    }

    /// Executes a program in a session and process group of its own, whose id this gives: a child, with signals as a program expects
    /// them, in this working directory; the kernel, out of memory, kills it rather than this process. Returns once it is
    /// executed.
    ///
    /// # Errors
    /// Why it cannot be, as a [`Refusal`]: of several paths, `EACCES` where one is there that may not be executed.
    pub(crate) fn spawn(&mut self, execution: &Execution<'_>) -> io::Result<Pid> {
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([null()]).collect()
        };
        let (arguments, environment) = (pointers(execution.arguments), pointers(execution.environment));
        let mut birth = Birth {
            paths: execution.paths,
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            streams: execution.streams.map(|stream| stream.as_raw_fd()),
            ignored: self.ignored,
            apart: self.apart.as_ref(),
            tag: self.tags.as_mut().map(Tag::next),
            error: None,
        };
        // Until they are at their defaults in the child: what our handlers would do there, they would do here.
        let before = sys::set_blocked_signals(u64::MAX).map_err(error)?;
        // SAFETY: with CLONE_VFORK this thread stands still until the child has gone from this memory; other threads know
        // neither the stack nor what the child is given.
        let child =
            unsafe { sys::fork_in_memory(libc::CLONE_VFORK, self.stack, &raw mut birth, become_program) };
        sys::block_signals(before);
        let child = child.map_err(error)?;
        match birth.error {
            None => {
                self.spare_this_process(child);
                Ok(Pid::from_raw(child).expect("a child has a number"))
            }
            Some(refusal) => {
                _ = sys::wait(child, 0);
                Err(refusal.into())
            }
        }
    }
}

impl Spawner {
    /// Has the kernel, out of memory, kill a program rather than this process.
    ///
    /// Not before it is executed: until then it shares this process's memory, and of those who share what the kernel kills it
    /// kills all. What it may have forked by now is no likelier to be killed than others.
    fn spare_this_process(&self, child: c_int) {
        let Some(oom_score_adj) = &self.oom_score_adj else { return };
        // It is there until it is waited for. Somebody may have mounted something over it, or it may be nobody's to change: so
        // be it.
        _ = std::fs::write(format!("/proc/{child}/oom_score_adj"), oom_score_adj);
    }
}

fn error(Errno(errno): Errno) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// The child's whole life. It shares this process's memory: nothing here allocates or takes a lock.
fn become_program(birth: &mut Birth<'_>) -> ! {
    birth.error = Some(match prepare(birth) {
        Ok(()) => execute_first(birth.paths, birth.arguments, birth.environment),
        Err(Errno(errno)) => Refusal::unknown(errno),
    });
    sys::exit(127)
}

fn prepare(birth: &Birth<'_>) -> sys::Result<()> {
    // And a group: nobody outside of it joins that, setpgid(2).
    sys::new_session();
    for (stream, number) in birth.streams.into_iter().zip(0..) {
        sys::dup_to(stream, number, false)?;
    }
    if let Some(Tag(tag)) = birth.tag {
        // Not above what this process may have itself, if somebody has limited that.
        _ = sys::limit_real_time(tag, birth.apart.map_or([0; 2], |apart| apart.key));
    }
    let ignored = (1..=64).filter(|signal| birth.ignored >> (signal - 1) & 1 == 1);
    ignored.chain(SIGNALS).for_each(sys::reset_signal);
    if let Some(Apart { rules, .. }) = birth.apart {
        sys::keep_to(*rules)?;
    }
    sys::block_signals(0);
    Ok(())
}

/// As execvp(3) looks for a program. Returns only where there is none.
fn execute_first(
    paths: &[CString],
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Refusal {
    let mut refusal = Refusal::NOWHERE;
    for path in paths {
        let path: &CStr = path;
        // SAFETY: both are arrays of pointers to the caller's strings, ended by a null pointer.
        let errno = unsafe { sys::execute(path, arguments, environment) };
        if !refusal.note(path, errno) {
            break;
        }
    }
    refusal
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::super::refusal::Obstacle;
    use super::*;

    fn strings<const N: usize>(strings: [&str; N]) -> [CString; N] {
        strings.map(|string| CString::new(string).unwrap())
    }

    /// What a shell script prints, and how it ends.
    fn run(script: &str, environment: &[CString]) -> (String, Option<i32>) {
        let (mut ours, theirs) = io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let program = Spawner::new().unwrap().spawn(&Execution {
            paths: &strings(["/nowhere/sh", "/bin/sh"]),
            arguments: &strings(["sh", "-c", script]),
            environment,
            streams: [null.as_fd(), theirs.as_fd(), theirs.as_fd()],
        });
        drop(theirs);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        let (_, status) = sys::wait(program.unwrap().as_raw_nonzero().get(), 0).unwrap().unwrap();
        (text, libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)))
    }

    #[test]
    fn a_program_has_its_streams_its_variables_and_its_group() {
        let script = r#"echo "$A $(ps -o pgid= -p $$ | tr -d ' ')" $$; echo complaint >&2; exit 3"#;
        let (text, status) = run(script, &strings(["A=variable", "PATH=/bin:/usr/bin"]));
        let (line, complaint) = text.split_once('\n').unwrap();
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!((words[0], words[1], complaint, status), ("variable", words[2], "complaint\n", Some(3)));
    }

    #[test]
    fn a_program_blocks_and_ignores_no_signal() {
        // As nohup(1) and a shell's background have it.
        sys::ignore(libc::SIGHUP);
        sys::ignore(libc::SIGRTMIN() + 5);
        let (text, _) = run("grep -E '^Sig(Blk|Ign)' /proc/self/status", &strings(["PATH=/bin:/usr/bin"]));
        let masks =
            text.lines().map(|line| u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap());
        assert_eq!(masks.collect::<Vec<_>>(), [0, 0], "{text}");
    }

    #[test]
    fn a_program_is_killed_for_want_of_memory_before_its_parent() {
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        assert!(own.trim().parse::<i32>().unwrap() < OOM_SCORE_ADJ, "these tests are run as programs: {own}");
        // It is said once the program runs.
        let script = "for i in $(seq 1000); do read now </proc/$$/oom_score_adj; [ $now = 1000 ] && break; done; echo $now";
        let (text, _) = run(script, &strings(["PATH=/bin:/usr/bin"]));
        assert_eq!(text, "1000\n");
        assert_eq!(std::fs::read_to_string("/proc/self/oom_score_adj").unwrap(), own);
    }

    #[test]
    fn why_there_is_no_program_is_told() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut spawner = Spawner::new().unwrap();
        let mut spawn = |paths: &[CString]| {
            let streams = [null.as_fd(); 3];
            let execution = Execution { paths, arguments: &[], environment: &[], streams };
            Refusal::of(&spawner.spawn(&execution).unwrap_err())
        };
        let missing = Refusal { errno: libc::ENOENT, obstacle: Obstacle::Missing };
        assert_eq!(spawn(&strings(["/nowhere", "/etc/passwd/x"])), missing);
        let not_executable = Refusal { errno: libc::EACCES, obstacle: Obstacle::NotExecutable };
        assert_eq!(spawn(&strings(["/etc/passwd", "/nowhere"])), not_executable);
    }

    #[test]
    fn a_tag_is_read_where_it_is_one() {
        let limits = |hard: &str| {
            format!("Max nice priority  0  0\nMax realtime timeout      5   {hard}    us        \n")
        };
        assert_eq!(Tag::in_limits(&limits(&(Tag::LEAST + 7).to_string())), Some(Ok(Tag(Tag::LEAST + 7))));
        for (other, limit) in
            [("unlimited", u64::MAX), ("200000", 200_000), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(Tag::in_limits(&limits(other)), Some(Err(limit)), "{other}");
        }
        let mut count = 0;
        assert_ne!(Tag::next(&mut count), Tag::next(&mut count));
    }
}
