//! A slot: a process in which all is ready that sandboxes of one kind share, and which makes them one after the other.
//!
//! It is in the sandboxes' cgroups and network namespace, and has their mounts before its eyes as far as no sandbox
//! can change them. A sandbox is forked into namespaces of its own, so it finds what the slot has prepared, and what it
//! does is gone with it. Whether that is so for the network namespace too, the sandbox's init looks before it ends;
//! where it cannot say so, the slot does not serve again.

use super::failure::Step;
use super::sandbox;
use super::step;
use super::sys::{self, DESCRIPTORS, Errno, Fd};
use super::telltale;
use super::template::View;
use super::traces;
use super::wire::{EXITED, FAILED, GONE, MAKE, RECORD, Record, SIGNALLED, parse, record};
use super::zygote::{DOORS, MASTER};

/// Lives until dcgi closes its end of the socket. Runs in a process of its own.
pub(super) fn live(template: Fd, size: usize, socket: Fd, doors: [Fd; DOORS]) -> ! {
    let (step, index, Errno(errno)) = match serve(template, size, socket, doors) {
        Ok(()) => sys::exit(0),
        Err(failed) => failed,
    };
    _ = sys::send(MASTER, &record(FAILED, [step as u32, index, errno as u32]));
    sys::exit(1)
}

fn serve(template: Fd, size: usize, socket: Fd, doors: [Fd; DOORS]) -> Result<(), (Step, u32, Errno)> {
    let at = |step| move |errno| (step, 0, errno);
    sys::set_name(c"dcgi-slot");
    // The zygote ignores the end of its children; a slot waits for its own.
    sys::reset_signals();
    sys::block_signals(u64::MAX);
    sys::dup_to(socket, MASTER, true).map_err(at(Step::Descriptors))?;
    let bytes = sys::map_file(template, size).map_err(at(Step::Memory))?;
    for door in doors.into_iter().filter(|door| *door >= 0) {
        // 0 is whoever writes it: cgroups(7).
        sys::write(door, b"0").map_err(at(Step::Limit))?;
    }
    sys::close_range(MASTER as u32 + 1, u32::MAX).map_err(at(Step::Descriptors))?;
    let template = View::read(bytes).ok_or((Step::Template, 0, Errno(libc::EBADMSG)))?;
    sys::new_session_keyring();
    // With a share of the processor of its own: what is written to the autogroup of one is none of the others'.
    sys::new_session();
    traces::open();
    sys::unshare(template.slot_namespaces).map_err(at(Step::SlotNamespaces))?;
    if template.own_network {
        telltale::open();
    }
    step::run(template.slot_steps, b"").map_err(|failed| (Step::OfSlot, failed.index, failed.errno))?;
    let untouched = traces::fingerprint();
    let pristine = if template.own_network { telltale::fingerprint() } else { 0 };
    bound(template.capabilities).map_err(at(Step::Bounding))?;
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).map_err(at(Step::Descriptors))?;
    sys::set_filter(template.slot_filter).map_err(at(Step::Filter))?;
    let mut memory = Memory::new().map_err(at(Step::Memory))?;
    loop {
        let mut head = [0; RECORD];
        let mut descriptors = [-1; DESCRIPTORS];
        let (read, count) = sys::receive(MASTER, &mut head, &mut descriptors).map_err(at(Step::Message))?;
        match (read, parse(&head), count, descriptors) {
            (RECORD, (MAKE, _), 1, [control, ..]) => {
                let mut clean = run(&template, pristine, host_name(&head), control, &mut memory)?;
                clean &= traces::fingerprint() == untouched;
                sys::wipe(memory.strings);
                sys::send(MASTER, &record(GONE, [clean as u32, 0, 0])).map_err(at(Step::Message))?;
            }
            (0, ..) => return Ok(()),
            _ => return Err((Step::Message, 0, Errno(libc::EBADMSG))),
        }
    }
}

/// The host name that a record carries behind its word.
fn host_name(head: &Record) -> &[u8] {
    head.get(4..).unwrap_or_default()
}

/// Gives up all capabilities that a program shall not have, for whatever is executed from here on. The slot itself
/// keeps those that it has.
pub(super) fn bound(capabilities: u64) -> sys::Result<()> {
    for capability in 0..64 {
        if capabilities & (1 << capability) == 0 {
            match sys::prctl(libc::PR_CAPBSET_DROP, capability) {
                Ok(()) => {}
                // The kernel's last one was before it.
                Err(Errno(libc::EINVAL)) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// What sandboxes need of memory: they run in the slot's.
pub(super) struct Memory {
    /// The first process's stack.
    sandbox_stack: &'static mut [u8],
    /// The program's, until it is executed.
    pub(super) program_stack: &'static mut [u8],
    /// What a request brings, and pointers to it.
    pub(super) strings: &'static mut [u8],
}

impl Memory {
    /// Far more than the deepest calls here need, which hold a few KiB of buffers.
    const STACK: usize = 128 << 10;
    /// The kernel takes no more than 6 MiB of strings: execve(2). Only what is used of it is there at all.
    const STRINGS: usize = 8 << 20;

    fn new() -> sys::Result<Self> {
        Ok(Self {
            sandbox_stack: sys::map_memory(Self::STACK)?,
            program_stack: sys::map_memory(Self::STACK)?,
            strings: sys::map_memory(Self::STRINGS)?,
        })
    }
}

/// Makes one sandbox and waits until nothing of it is left: whether it has left all as it was.
fn run(
    template: &View<'_>,
    pristine: u64,
    host_name: &[u8],
    control: Fd,
    memory: &mut Memory,
) -> Result<bool, (Step, u32, Errno)> {
    let Memory { sandbox_stack, program_stack, strings } = memory;
    let mut birth = Birth { template, pristine, host_name, control, program_stack, strings, clean: false };
    let namespaces = template.sandbox_namespaces;
    // SAFETY: `birth` and the stack outlive the sandbox: both ways below go on when it has ended. Until then this process
    // sleeps in wait(2) or poll(2), with every signal blocked.
    let made = unsafe { sys::fork_in_memory(namespaces, sandbox_stack, &raw mut birth, sandbox::live) };
    let result = match made {
        // It was the init, and has ended: with process 1 its whole namespace has, before it can be waited for.
        Ok(child) if template.init => {
            sys::close(control);
            sys::wait(child, libc::__WALL).map_err(|errno| (Step::Init, 0, errno))?;
            return Ok(birth.clean);
        }
        // It is the program, or will be.
        Ok(child) => attend(child, control),
        Err(errno) => {
            _ = sys::send(control, &record(FAILED, [Step::Fork as u32, 0, errno.0 as u32]));
            Ok(())
        }
    };
    sys::close(control);
    // Without an init nobody has looked.
    result.map_err(|errno| (Step::Init, 0, errno))?;
    Ok(!template.own_network)
}

/// What a sandbox is born with.
pub(super) struct Birth<'a> {
    pub(super) template: &'a View<'a>,
    /// What the slot's network namespace looks like untouched.
    pub(super) pristine: u64,
    pub(super) host_name: &'a [u8],
    pub(super) control: Fd,
    pub(super) program_stack: &'a mut [u8],
    pub(super) strings: &'a mut [u8],
    /// Said by the sandbox at its end: all that outlives it is as it was.
    pub(super) clean: bool,
}

/// Waits for a program that is process 1 itself, and tells dcgi how it ended; has it end as dcgi wishes.
fn attend(child: libc::pid_t, control: Fd) -> sys::Result<()> {
    let signals = sys::signal_fd(signal_bit(libc::SIGCHLD))?;
    let mut wishes = Wishes { control, signals, is_terminating: false };
    let ended = loop {
        match sys::wait(child, libc::WNOHANG | libc::__WALL)? {
            Some((_, status)) if has_ended(status) => break status,
            // It has stopped: for a debugger, and nobody goes on with it.
            Some(_) => continue,
            None => {}
        }
        match wishes.next()? {
            Event::Child => {}
            // Its group: it may have left that, and then there is no better name for what it has started.
            Event::Terminate => {
                for signal in [libc::SIGTERM, libc::SIGCONT] {
                    sys::kill(child, signal);
                    sys::kill(-child, signal);
                }
            }
            Event::HangUp => {
                sys::kill(child, libc::SIGKILL);
                break loop {
                    if let Some((_, status)) = sys::wait(child, libc::__WALL)?
                        && has_ended(status)
                    {
                        break status;
                    }
                };
            }
        }
    };
    sys::close(signals);
    tell(control, ended);
    Ok(())
}

/// Whether what wait(2) says is the end of a process. It may also have stopped, where somebody traces it.
pub(super) fn has_ended(status: i32) -> bool {
    libc::WIFEXITED(status) || libc::WIFSIGNALED(status)
}

/// What whoever attends to a program waits for.
pub(super) struct Wishes {
    /// The connection to dcgi. That dcgi sends no more over it is the wish that all should end (`SIGTERM`); that it is
    /// closed, or dcgi gone, that all should be killed.
    pub(super) control: Fd,
    /// Tells of the end of children.
    pub(super) signals: Fd,
    /// Whether the former has been heard.
    pub(super) is_terminating: bool,
}

/// What has come.
pub(super) enum Event {
    /// A child has ended. Which it was is for wait(2) to say.
    Child,
    Terminate,
    HangUp,
}

impl Wishes {
    /// Waits for the next event.
    pub(super) fn next(&mut self) -> sys::Result<Event> {
        // It stays so once it is, and would be heard again and again.
        let shut_down = if self.is_terminating { 0 } else { libc::POLLRDHUP };
        let mut watched = [
            libc::pollfd { fd: self.control, events: shut_down, revents: 0 },
            libc::pollfd { fd: self.signals, events: libc::POLLIN, revents: 0 },
        ];
        sys::poll(&mut watched)?;
        let [control, child] = watched;
        if child.revents != 0 {
            let mut info = [0; 128];
            _ = sys::read(self.signals, &mut info);
        }
        if control.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
            return Ok(Event::HangUp);
        }
        if control.revents != 0 {
            self.is_terminating = true;
            return Ok(Event::Terminate);
        }
        Ok(Event::Child)
    }
}

/// Tells dcgi how a program ended, by what wait(2) says of it.
pub(super) fn tell(control: Fd, status: i32) {
    let record = if libc::WIFSIGNALED(status) {
        record(SIGNALLED, [libc::WTERMSIG(status) as u32, 0, 0])
    } else {
        record(EXITED, [libc::WEXITSTATUS(status) as u32, 0, 0])
    };
    _ = sys::send(control, &record);
}

/// A signal's place in a mask.
pub(super) fn signal_bit(signal: i32) -> u64 {
    1 << (signal - 1)
}
