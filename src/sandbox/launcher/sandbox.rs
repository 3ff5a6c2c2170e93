//! A sandbox: from its fork to its program's `exec`, and the init that stays.
//!
//! The first process of its PID namespace makes what is the sandbox's own, gives up every privilege, and forks. The
//! child waits for a request, and becomes the program. The first process remains as the init: it reaps orphans, says
//! how the program ended, asks all to end where dcgi wishes that, and ends the sandbox when nobody is left or dcgi has
//! hung up.

use std::ffi::{CStr, c_char};

use super::failure::Step;
use super::refusal::Refusal;
use super::slot::{Birth, Event, Wishes, bound, has_ended, signal_bit, tell};
use super::step;
use super::sys::{self, DESCRIPTORS, Errno};
use super::telltale;
use super::template::View;
use super::wire::{FAILED, READY, RECORD, RUN, parse, record};
use super::zygote::MASTER;

/// Runs as the first process of a PID namespace, in the memory of its slot, which waits.
pub(super) fn live(birth: &mut Birth<'_>) -> ! {
    let (step, index, Errno(errno)) = match make(birth) {
        Ok(()) => sys::exit(0),
        Err(failed) => failed,
    };
    _ = sys::send(MASTER, &record(FAILED, [step as u32, index, errno as u32]));
    sys::exit(127)
}

type Outcome = Result<(), (Step, u32, Errno)>;

fn make(birth: &mut Birth<'_>) -> Outcome {
    let Birth { template, host_name, control, .. } = *birth;
    let at = |step| move |errno| (step, 0, errno);
    sys::set_name(if template.init { c"dcgi-init" } else { c"dcgi-sandbox" });
    // What the slot's socket was is from here on the sandbox's own, and there is nothing else.
    sys::dup_to(control, MASTER, true).map_err(at(Step::Descriptors))?;
    sys::close_range(telltale::BEYOND as u32, u32::MAX).map_err(at(Step::Descriptors))?;
    if !template.set_groups {
        // Who is not dumpable owns none of its files in /proc, and so cannot write the map of a user namespace.
        sys::prctl(libc::PR_SET_DUMPABLE, 1).map_err(at(Step::User))?;
    }
    step::run(template.sandbox_steps, host_name)
        .map_err(|failed| (Step::OfSandbox, failed.index, failed.errno))?;
    if !template.set_groups && template.user != (0, 0) {
        // The slot has done that; but whoever makes a user namespace gets every capability there is anew, and with them
        // the whole bounding set: user_namespaces(7).
        bound(template.capabilities).map_err(at(Step::Bounding))?;
    }
    for (resource, soft, hard) in template.limits() {
        sys::set_limit(resource, soft, hard).map_err(at(Step::Limit))?;
    }
    if template.set_groups {
        sys::set_groups(template.groups).map_err(at(Step::Groups))?;
    }
    let (uid, gid) = template.user;
    sys::set_user(uid, gid).map_err(at(Step::User))?;
    let kept = if uid == 0 { template.capabilities } else { 0 };
    sys::set_capabilities(kept, 0).map_err(at(Step::Capabilities))?;
    // After the change of user, which forgets it. Where the slot has died already, dcgi hangs up.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).map_err(at(Step::NoNewPrivileges))?;
    // The init holds a copy of dcgi's memory, and may be of the program's user.
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(at(Step::NoNewPrivileges))?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(at(Step::NoNewPrivileges))?;
    sys::set_filter(template.filter).map_err(at(Step::Filter))?;
    if !template.init {
        return become_program(birth.strings);
    }
    let become_program = |strings: &mut &mut [u8]| -> ! {
        if let Err((step, index, Errno(errno))) = become_program(strings) {
            _ = sys::send(MASTER, &record(FAILED, [step as u32, index, errno as u32]));
        }
        sys::exit(127)
    };
    // SAFETY: what the program needs outlives it: this process waits for it, asleep in poll(2), and touches neither.
    let program =
        unsafe { sys::fork_in_memory(0, birth.program_stack, &raw mut birth.strings, become_program) };
    let program = program.map_err(at(Step::Fork))?;
    birth.clean = attend(template, birth.pristine, program).map_err(at(Step::Init))?;
    Ok(())
}

/// The init's whole life: whether all that outlives the sandbox is as it was.
///
/// What the program leaves running may go on when it has ended, until dcgi wishes otherwise; the sandbox is over with the
/// last of its processes.
fn attend(template: &View<'_>, pristine: u64, program: libc::pid_t) -> sys::Result<bool> {
    let signals = sys::signal_fd(signal_bit(libc::SIGCHLD))?;
    let mut wishes = Wishes { control: MASTER, signals, is_terminating: false };
    'attending: loop {
        loop {
            match sys::wait(-1, libc::WNOHANG | libc::__WALL) {
                Ok(Some((ended, status))) if ended == program && has_ended(status) => tell(MASTER, status),
                // An orphan, or one that is traced and has stopped.
                Ok(Some(_)) => {}
                Ok(None) => break,
                // Whoever else runs here has a parent here, and the first of them is this process's child.
                Err(Errno(libc::ECHILD)) => break 'attending,
                Err(errno) => return Err(errno),
            }
        }
        match wishes.next()? {
            Event::Child => {}
            // To all but this process: kill(2). What is stopped hears it when it goes on.
            Event::Terminate => {
                sys::kill(-1, libc::SIGTERM);
                sys::kill(-1, libc::SIGCONT);
            }
            // With some capabilities a program may have become another user, whom this process cannot kill. The kernel does,
            // when this process ends.
            Event::HangUp if !template.reuse => break,
            Event::HangUp => {
                // Without capabilities nobody here can be of another user, so everybody can be killed; and when the last
                // one is reaped, all that it had open is closed.
                sys::kill(-1, libc::SIGKILL);
                while sys::wait(-1, libc::__WALL).is_ok() {}
                break;
            }
        }
    }
    Ok(template.reuse && (!template.own_network || (pristine != 0 && pristine == telltale::fingerprint())))
}

/// Waits for a request, and becomes the program. Returns where that fails, or where no request comes any more.
fn become_program(memory: &mut [u8]) -> Outcome {
    let at = |step| move |errno| (step, 0, errno);
    sys::new_session();
    sys::send(MASTER, &record(READY, [0; 3])).map_err(at(Step::Message))?;
    let mut head = [0; RECORD];
    let mut descriptors = [-1; DESCRIPTORS];
    let (read, count) = sys::receive(MASTER, &mut head, &mut descriptors).map_err(at(Step::Message))?;
    if read == 0 {
        sys::exit(0);
    }
    let ((RUN, [size, candidates, arguments]), 3) = (parse(&head), count) else {
        return Err((Step::Message, 0, Errno(libc::EBADMSG)));
    };
    // The kernel's own word for more than fits.
    let (strings, pointers) =
        memory.split_at_mut_checked(size as usize).ok_or((Step::Execute, 0, Errno(libc::E2BIG)))?;
    receive_all(strings).map_err(at(Step::Message))?;
    for (stream, descriptor) in (0..3).zip(descriptors) {
        sys::dup_to(descriptor, stream, false).map_err(at(Step::Descriptors))?;
    }
    sys::block_signals(0);
    execute(strings, sys::as_pointers(pointers), candidates as usize, arguments as usize)
}

fn receive_all(mut rest: &mut [u8]) -> sys::Result<()> {
    while !rest.is_empty() {
        match sys::read(MASTER, rest)? {
            0 => sys::exit(0),
            read => rest = rest.get_mut(read..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Strings one behind the other: the working directory, the paths where the program may be, its arguments, its
/// environment. The pointers are all null, and filled with as many as there are arguments and variables.
fn execute(strings: &[u8], pointers: &mut [*const c_char], candidates: usize, arguments: usize) -> Outcome {
    let broken = (Step::Message, 0, Errno(libc::EBADMSG));
    if pointers.len() < strings.iter().filter(|byte| **byte == 0).count() + 2 {
        return Err((Step::Execute, 0, Errno(libc::E2BIG)));
    }
    // Arguments, a null, the environment, a null.
    let mut rest = split(strings).skip(1 + candidates);
    for pointer in pointers.iter_mut().take(arguments) {
        *pointer = rest.next().ok_or(broken)?.as_ptr();
    }
    for (pointer, string) in pointers.iter_mut().skip(arguments + 1).zip(rest) {
        *pointer = string.as_ptr();
    }
    let environment = pointers.get(arguments + 1..).ok_or(broken)?;
    let directory = split(strings).next().ok_or(broken)?;
    sys::chdir(directory).map_err(|errno| (Step::WorkingDirectory, 0, errno))?;
    let mut refusal = Refusal::NOWHERE;
    for path in split(strings).skip(1).take(candidates) {
        // SAFETY: both arrays hold pointers to strings that `split` has found, and a null behind them: there are two
        // places more than strings.
        let errno = unsafe { sys::execute(path, pointers.as_ptr(), environment.as_ptr()) };
        if !refusal.note(path, errno) {
            break;
        }
    }
    Err((Step::Execute, refusal.obstacle as u32, Errno(refusal.errno)))
}

/// The strings in a series of NUL-terminated ones.
fn split(bytes: &[u8]) -> impl Iterator<Item = &CStr> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let string = CStr::from_bytes_until_nul(rest).ok()?;
        rest = rest.get(string.count_bytes() + 1..)?;
        Some(string)
    })
}
