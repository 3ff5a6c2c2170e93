//! The zygote: a process with one thread, from which slots are forked.
//!
//! It is a copy of dcgi as it was when the engine was made, small and without threads, so that a fork of it is cheap
//! and finds no lock held. It executes nothing and allocates nothing.

use std::io;
use std::ops::Range;

use super::failure::Step;
use super::slot;
use super::sys::{self, DESCRIPTORS, Errno, Fd, Fork};
use super::wire::{self, FAILED, RECORD, SLOT, parse, record};

/// Where every process of the launcher has the socket to its master.
pub(super) const MASTER: Fd = 3;

/// What programs begin with, as under Docker.
pub(super) const UMASK: u32 = 0o022;

/// To how many cgroups a slot may belong: one tree of version 1 a controller, or one of version 2.
pub(super) const DOORS: usize = DESCRIPTORS - 2;

/// What it does before it waits: as an ordinary user, become root in a user namespace.
pub(super) struct Preparation<'a> {
    /// Steps, as [`step::Steps`](super::step::Steps) encodes them.
    pub(super) steps: &'a [u8],
    /// Where the command line and the environment lie: see [`inheritance`].
    pub(super) inheritance: [Range<usize>; 2],
}

/// Where the kernel finds this process's command line and environment, by proc_pid_stat(5), fields 48 to 51. Every
/// container's init is seen with the former in `/proc/1/cmdline`, which anybody may read.
pub(super) fn inheritance() -> io::Result<[Range<usize>; 2]> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    // The first one is field 3.
    let mut addresses = fields.split_ascii_whitespace().skip(48 - 3).map_while(|field| field.parse().ok());
    let mut next = || addresses.next().ok_or(io::ErrorKind::InvalidData);
    Ok([next()?..next()?, next()?..next()?])
}

/// Lives until dcgi closes its end of the socket, or is gone. Runs in a process of its own.
pub(super) fn live(socket: Fd, preparation: &Preparation<'_>) -> ! {
    if let Err((step, index, errno)) = prepare(socket, preparation) {
        _ = sys::send(MASTER, &record(FAILED, [step as u32, index, errno.0 as u32]));
        sys::exit(1);
    }
    _ = sys::send(MASTER, &record(wire::READY, [0; 3]));
    loop {
        let mut head = [0; RECORD];
        let mut descriptors = [-1; DESCRIPTORS];
        match sys::receive(MASTER, &mut head, &mut descriptors) {
            Ok((RECORD, count)) => {
                if let ((SLOT, [size, ..]), [template, slot, doors @ ..], 2..) =
                    (parse(&head), descriptors, count)
                {
                    begin_slot(template, size as usize, slot, doors);
                }
                for descriptor in descriptors.into_iter().filter(|descriptor| *descriptor >= 0) {
                    sys::close(descriptor);
                }
            }
            // Descriptors have run out here: those that came are gone, and their slot's socket with them.
            Err(Errno(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => {}
            _ => sys::exit(0),
        }
    }
}

fn prepare(socket: Fd, preparation: &Preparation<'_>) -> Result<(), (Step, u32, Errno)> {
    let at = |step| move |errno| (step, 0, errno);
    sys::set_name(c"dcgi-zygote");
    let [arguments, environment] = preparation.inheritance.clone();
    // SAFETY: this process has its own copy of what the kernel put onto the first stack; nothing here reads it.
    unsafe {
        sys::overwrite(arguments, b"dcgi");
        sys::overwrite(environment, b"");
    }
    // Signals of a terminal, or of a service manager, are dcgi's to answer; the end comes over the socket.
    sys::reset_signals();
    sys::block_signals(u64::MAX);
    sys::ignore_children();
    sys::new_session();
    sys::umask(UMASK);
    arrange_descriptors(socket).map_err(at(Step::Descriptors))?;
    sys::chdir(c"/").map_err(at(Step::Descriptors))?;
    super::step::run(preparation.steps, b"").map_err(|failed| (Step::OfSlot, failed.index, failed.errno))?;
    // What it has copied of dcgi's memory is nobody's to look at. After the steps: who is not dumpable owns none of
    // its files in /proc.
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(at(Step::Descriptors))
}

/// Leaves nothing open but the socket, as [`MASTER`], and nothing behind 0 to 2.
fn arrange_descriptors(socket: Fd) -> sys::Result<()> {
    // Out of the way of what follows.
    let socket = sys::dup_above(socket, MASTER + 1)?;
    sys::dup_to(socket, MASTER, true)?;
    sys::close_range(MASTER as u32 + 1, u32::MAX)?;
    let null = sys::open(c"/dev/null", libc::O_RDWR, 0)?;
    for stream in 0..=2 {
        sys::dup_to(null, stream, false)?;
    }
    sys::close(null);
    Ok(())
}

fn begin_slot(template: Fd, size: usize, socket: Fd, doors: [Fd; DOORS]) {
    match sys::fork_into(libc::CLONE_NEWNS) {
        Ok(Fork::Child) => slot::live(template, size, socket, doors),
        Ok(Fork::Parent(_)) => {}
        Err(Errno(errno)) => {
            _ = sys::send(socket, &record(FAILED, [Step::Fork as u32, 0, errno as u32]));
        }
    }
}
