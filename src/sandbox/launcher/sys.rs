//! System calls without anything around them.
//!
//! After a `clone` in a program with many threads, a child may do nothing that takes a lock or allocates: another
//! thread may have held that lock. And glibc's own wrappers of `setresuid` and its kin talk to threads that the child
//! does not have. So each call goes to the kernel as it is, by `syscall(2)`, which touches nothing but `errno`.

use std::ffi::{CStr, c_int, c_long, c_uint, c_void};
use std::mem::{size_of, zeroed};
use std::ptr::{null, null_mut};

use crate::sandbox::seccomp::Key;

/// What the kernel answered: a number of errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errno(pub(super) i32);

pub(super) type Result<T> = std::result::Result<T, Errno>;

/// A file descriptor, as the kernel counts it. Closed by hand: nothing here runs destructors.
pub(super) type Fd = c_int;

macro_rules! syscall {
    ($number:ident $(, $argument:expr)*) => {
        // As whole registers: the kernel reads all of one where a parameter is a long.
        check(libc::syscall(libc::$number $(, $argument as c_long)*))
    };
}

fn check(answer: c_long) -> Result<c_long> {
    if answer != -1 {
        return Ok(answer);
    }
    // SAFETY: errno's address is this thread's own and always valid.
    Err(Errno(unsafe { *libc::__errno_location() }))
}

/// The system calls whose first argument is a descriptor, a path, or a number. None of them can break the memory of
/// this process: paths are NUL-terminated, and what the kernel writes goes into slices and values of known size.
pub(super) fn close(fd: Fd) {
    // SAFETY: at worst the descriptor is not open.
    _ = unsafe { syscall!(SYS_close, fd) };
}

/// Closes all descriptors from `first` to `last`, both included.
pub(super) fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: no memory is involved.
    unsafe { syscall!(SYS_close_range, first, last, 0) }.map(drop)
}

/// Makes `to` a copy of `from`, kept over `exec` or closed by it.
pub(super) fn dup_to(from: Fd, to: Fd, close_on_exec: bool) -> Result<()> {
    if from == to {
        return Ok(());
    }
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: no memory is involved.
    unsafe { syscall!(SYS_dup3, from, to, flags) }.map(drop)
}

/// A copy of `from` at the first free descriptor from `least` on; close-on-exec.
pub(super) fn dup_above(from: Fd, least: Fd) -> Result<Fd> {
    // SAFETY: no memory is involved.
    unsafe { syscall!(SYS_fcntl, from, libc::F_DUPFD_CLOEXEC, least) }.map(|fd| fd as Fd)
}

/// Reads some bytes; 0 at the end.
pub(super) fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes to a buffer of that length.
    retried(|| unsafe { syscall!(SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) }).map(|read| read as usize)
}

/// Reads some bytes from a place in a file; 0 at its end.
pub(super) fn read_at(fd: Fd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes to a buffer of that length.
    let read = retried(|| unsafe { syscall!(SYS_pread64, fd, buffer.as_mut_ptr(), buffer.len(), offset) });
    read.map(|read| read as usize)
}

/// Writes some bytes.
pub(super) fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads `len` bytes from a slice of that length.
    retried(|| unsafe { syscall!(SYS_write, fd, bytes.as_ptr(), bytes.len()) })
        .map(|written| written as usize)
}

/// Sends bytes on a socket, without a SIGPIPE where nobody listens any more.
pub(super) fn send(fd: Fd, bytes: &[u8]) -> Result<()> {
    let (flags, none) = (libc::MSG_NOSIGNAL, null::<c_void>());
    // SAFETY: the kernel reads `len` bytes from a slice of that length; there is no address.
    retried(|| unsafe { syscall!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, none, 0) }).map(drop)
}

fn retried(mut call: impl FnMut() -> Result<c_long>) -> Result<c_long> {
    loop {
        match call() {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer,
        }
    }
}

pub(super) fn open(path: &CStr, flags: c_int, mode: u32) -> Result<Fd> {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, mode) }
        .map(|fd| fd as Fd)
}

/// Whether this process may execute a file, by its bits and by how it is mounted: access(2).
pub(super) fn may_execute(path: &CStr) -> bool {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK) }.is_ok()
}

/// Whether this process may go to a file, whatever it may do there.
pub(super) fn is_reachable(path: &CStr) -> bool {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::F_OK) }.is_ok()
}

pub(super) fn mkdir(path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), mode) }.map(drop)
}

pub(super) fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) }.map(drop)
}

pub(super) fn symlink(target: &CStr, path: &CStr) -> Result<()> {
    // SAFETY: both paths are NUL-terminated.
    unsafe { syscall!(SYS_symlinkat, target.as_ptr(), libc::AT_FDCWD, path.as_ptr()) }.map(drop)
}

pub(super) fn mknod(path: &CStr, mode: u32, device: u64) -> Result<()> {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_mknodat, libc::AT_FDCWD, path.as_ptr(), mode, device) }.map(drop)
}

pub(super) fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_chdir, path.as_ptr()) }.map(drop)
}

pub(super) fn chroot(path: &CStr) -> Result<()> {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_chroot, path.as_ptr()) }.map(drop)
}

/// Opens a path, no part of which may be a link, as what it is and no more: openat2(2), Linux 5.6.
pub(super) fn reach(path: &CStr, flags: c_int) -> Result<Fd> {
    // SAFETY: all-zero bytes are a valid open_how.
    let mut how: libc::open_how = unsafe { zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC | flags) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let size = size_of::<libc::open_how>();
    // SAFETY: the path is NUL-terminated, and the kernel reads `size` bytes of the structure.
    unsafe { syscall!(SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &raw const how, size) }.map(|fd| fd as Fd)
}

/// Makes a directory the working directory, where no part of its path is a link.
pub(super) fn enter(path: &CStr) -> Result<()> {
    let directory = reach(path, libc::O_DIRECTORY)?;
    // SAFETY: no memory is involved.
    let done = unsafe { syscall!(SYS_fchdir, directory) };
    close(directory);
    done.map(drop)
}

/// Which file a descriptor is for: its device and its number there.
pub(super) fn identity(fd: Fd) -> Result<(u64, u64)> {
    // SAFETY: all-zero bytes are a valid stat.
    let mut stat: libc::stat = unsafe { zeroed() };
    // SAFETY: the kernel writes one stat.
    unsafe { syscall!(SYS_fstat, fd, &raw mut stat) }?;
    Ok((stat.st_dev, stat.st_ino))
}

pub(super) fn umask(mask: u32) {
    // SAFETY: cannot fail, no memory is involved.
    _ = unsafe { syscall!(SYS_umask, mask) };
}

pub(super) fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, options: &CStr) -> Result<()> {
    // SAFETY: all strings are NUL-terminated; the kernel copies the options up to their NUL, within a page.
    unsafe { syscall!(SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr()) }
        .map(drop)
}

pub(super) fn unmount(target: &CStr) -> Result<()> {
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_umount2, target.as_ptr(), libc::MNT_DETACH) }.map(drop)
}

pub(super) fn pivot_root(new: &CStr, old: &CStr) -> Result<()> {
    // SAFETY: both paths are NUL-terminated.
    unsafe { syscall!(SYS_pivot_root, new.as_ptr(), old.as_ptr()) }.map(drop)
}

/// A copy of the mounts at a path, attached to nothing yet: open_tree(2), Linux 5.2.
pub(super) fn open_tree(path: &CStr, recursive: bool) -> Result<Fd> {
    const OPEN_TREE_CLONE: c_uint = 1;
    let recursive = if recursive { libc::AT_RECURSIVE as c_uint } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as c_uint | recursive;
    // SAFETY: the path is NUL-terminated.
    unsafe { syscall!(SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) }.map(|fd| fd as Fd)
}

/// Attaches mounts that [`open_tree`] has copied: move_mount(2), Linux 5.2.
pub(super) fn move_mount(tree: Fd, target: &CStr) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;
    const MOVE_MOUNT_T_SYMLINKS: c_uint = 0x10;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    // SAFETY: both paths are NUL-terminated.
    unsafe { syscall!(SYS_move_mount, tree, c"".as_ptr(), libc::AT_FDCWD, target.as_ptr(), flags) }.map(drop)
}

/// The same at what a descriptor of [`reach`] is for.
pub(super) fn move_mount_to(tree: Fd, target: Fd) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;
    const MOVE_MOUNT_T_EMPTY_PATH: c_uint = 0x40;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are NUL-terminated.
    unsafe { syscall!(SYS_move_mount, tree, c"".as_ptr(), target, c"".as_ptr(), flags) }.map(drop)
}

/// Has the owners of a tree's files be what a user namespace maps them to: mount_setattr(2), Linux 5.12.
pub(super) fn map_owners(tree: Fd, namespace: Fd) -> Result<()> {
    // SAFETY: all-zero bytes are a valid mount_attr.
    let mut attr: libc::mount_attr = unsafe { zeroed() };
    attr.attr_set = libc::MOUNT_ATTR_IDMAP;
    attr.userns_fd = namespace as u64;
    let (path, size) = (c"", size_of::<libc::mount_attr>());
    let flags = libc::AT_EMPTY_PATH as c_uint;
    // SAFETY: the path is NUL-terminated, and the kernel reads `size` bytes of the structure.
    unsafe { syscall!(SYS_mount_setattr, tree, path.as_ptr(), flags, &raw const attr, size) }.map(drop)
}

/// Adds attributes such as `MOUNT_ATTR_RDONLY` to mounts: mount_setattr(2), Linux 5.12.
pub(super) fn restrict_mount(at: Fd, path: &CStr, attributes: u64, recursive: bool) -> Result<()> {
    // SAFETY: all-zero bytes are a valid mount_attr.
    let mut attr: libc::mount_attr = unsafe { zeroed() };
    attr.attr_set = attributes;
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = (libc::AT_EMPTY_PATH | recursive) as c_uint;
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the path is NUL-terminated, and the kernel reads `size` bytes of the structure.
    unsafe { syscall!(SYS_mount_setattr, at, path.as_ptr(), flags, &raw const attr, size) }.map(drop)
}

pub(super) fn unshare(namespaces: c_int) -> Result<()> {
    // SAFETY: no memory is shared with another thread that could tell: CLONE_VM is never among the flags.
    unsafe { syscall!(SYS_unshare, namespaces) }.map(drop)
}

pub(super) fn set_hostname(name: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads `len` bytes from a slice of that length.
    unsafe { syscall!(SYS_sethostname, name.as_ptr(), name.len()) }.map(drop)
}

/// Sets up the loopback interface of the network namespace that this process is in: netdevice(7).
pub(super) fn loopback_up() -> Result<()> {
    // SAFETY: no memory is involved.
    let socket = unsafe { syscall!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the kernel reads one ifreq.
    let done = unsafe { syscall!(SYS_ioctl, socket, libc::SIOCSIFFLAGS, &raw mut request) };
    close(socket as Fd);
    done.map(drop)
}

/// A TCP socket of the network namespace that this process is in, which listens at an address, as the kernel has them:
/// tcp(7). It does not block.
pub(super) fn listen(address: &[u8]) -> Result<Fd> {
    let family = address.first_chunk().map_or(0, |family| u16::from_ne_bytes(*family));
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is involved.
    let socket = unsafe { syscall!(SYS_socket, c_int::from(family), kind, 0) }? as Fd;
    // SAFETY: the kernel reads `len` bytes from a slice of that length.
    let bound = unsafe { syscall!(SYS_bind, socket, address.as_ptr(), address.len()) };
    // SAFETY: no memory is involved.
    let done = bound.and_then(|_| unsafe { syscall!(SYS_listen, socket, BACKLOG) });
    match done {
        Ok(_) => Ok(socket),
        Err(errno) => {
            close(socket);
            Err(errno)
        }
    }
}

/// How many connections may wait to be accepted.
const BACKLOG: c_int = 128;

/// Sends bytes on a unix socket, and a descriptor with them.
pub(super) fn send_descriptor(socket: Fd, bytes: &[u8], descriptor: Fd) -> Result<()> {
    // Room for one descriptor behind a header, and aligned as a header.
    #[repr(C, align(8))]
    struct Control([u8; 24]);
    let mut control = Control([0; 24]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the buffer has room for a header and a descriptor behind it, is aligned as a header, and of all-zero bytes, which
    // are one. The pointer stays one into all of it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<Fd>() as c_uint) as _;
        libc::CMSG_DATA(header).cast::<Fd>().write_unaligned(descriptor);
    }
    // SAFETY: the kernel reads from the two buffers, up to their lengths.
    retried(|| unsafe { syscall!(SYS_sendmsg, socket, &raw const message, libc::MSG_NOSIGNAL) }).map(drop)
}

/// Who a child is, as seen by its parent.
pub(super) enum Fork {
    Child,
    Parent(libc::pid_t),
}

/// Forks into new namespaces by clone3(2), Linux 5.3. The child gets a copy of this memory and only this thread.
pub(super) fn fork_into(namespaces: c_int) -> Result<Fork> {
    clone(namespaces, libc::SIGCHLD)
}

/// Forks a child whose end is told to nobody: its parent belongs to somebody else, who may wait for any child.
pub(super) fn fork_silently() -> Result<Fork> {
    // Until it has reset them, the child must not run this process's signal handlers.
    let before = set_blocked_signals(u64::MAX)?;
    let forked = clone(0, 0);
    if !matches!(forked, Ok(Fork::Child)) {
        block_signals(before);
    }
    forked
}

/// Forks a child into new namespaces whose end is no signal to this process. It is waited for with `__WALL`.
pub(super) fn fork_unnoticed(namespaces: c_int) -> Result<Fork> {
    clone(namespaces, 0)
}

fn clone(namespaces: c_int, exit_signal: c_int) -> Result<Fork> {
    // SAFETY: all-zero bytes are a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { zeroed() };
    arguments.flags = namespaces as u64;
    arguments.exit_signal = exit_signal as u64;
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM this is a fork: the child goes on with a copy of this stack. What it may do from here
    // on is the concern of this whole module: nothing that allocates or takes a lock.
    let pid = unsafe { syscall!(SYS_clone3, &raw const arguments, size) }?;
    Ok(if pid == 0 { Fork::Child } else { Fork::Parent(pid as libc::pid_t) })
}

/// Makes a child that shares this memory, runs `child` on another stack and in new namespaces, and from there ends or
/// executes a program. By clone(2), which a container's filter allows without namespaces where it refuses clone3.
///
/// Nothing is copied, so it costs no more for a large parent.
///
/// # Safety
/// Until the child has ended or executed a program, `argument` and `stack` stay where they are and the caller leaves them
/// alone; and the caller does nothing but wait, by calls that fail for no reason that matters: errno is shared.
pub(super) unsafe fn fork_in_memory<T>(
    namespaces: c_int,
    stack: &mut [u8],
    argument: *mut T,
    child: fn(&mut T) -> !,
) -> Result<libc::pid_t> {
    struct Birth<T> {
        argument: *mut T,
        child: fn(&mut T) -> !,
    }
    extern "C" fn begin<T>(birth: *mut c_void) -> c_int {
        // SAFETY: it is the one below, which lies where nobody else writes; the caller vouches for its argument.
        unsafe {
            let birth = birth.cast::<Birth<T>>().read();
            (birth.child)(&mut *birth.argument)
        }
    }
    // At the far end of the child's own stack: this call's frame will be gone.
    let at = stack.as_mut_ptr().cast::<Birth<T>>();
    // SAFETY: the stack is a mapping, so that it begins aligned, and larger than this.
    unsafe { at.write(Birth { argument, child }) };
    let flags = namespaces | libc::CLONE_VM | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the stack is the child's alone, and large enough for it; glibc aligns its top. The child touches no lock and
    // no allocator, and this thread waits.
    let pid = unsafe { libc::clone(begin::<T>, top.cast(), flags, at.cast()) };
    check(c_long::from(pid)).map(|pid| pid as libc::pid_t)
}

/// A set of rules by which who is held to it can send signals only to those who are held to it by the same call, or by a
/// later one of theirs; and, as with all such sets, trace only those, and read of others in /proc only what everybody may.
/// landlock(7); signals since Linux 6.12.
pub(super) fn rules_of_keeping_apart() -> Result<Fd> {
    /// `struct landlock_ruleset_attr`, as it is since version 6 of that interface.
    #[repr(C)]
    struct Rules {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    const LANDLOCK_SCOPE_SIGNAL: u64 = 1 << 1;
    let rules = Rules { handled_access_fs: 0, handled_access_net: 0, scoped: LANDLOCK_SCOPE_SIGNAL };
    // SAFETY: the kernel reads a structure of that size. The descriptor is close-on-exec.
    unsafe { syscall!(SYS_landlock_create_ruleset, &raw const rules, size_of::<Rules>(), 0) }
        .map(|fd| fd as Fd)
}

/// Holds this thread, and whom it forks from here on, to a set of rules.
pub(super) fn keep_to(rules: Fd) -> Result<()> {
    // SAFETY: no memory is involved.
    unsafe { syscall!(SYS_landlock_restrict_self, rules, 0) }.map(drop)
}

/// Sets for how many microseconds this process, and all that come from it, may run in real time at a stretch: both limits. The
/// key is for the filter.
pub(super) fn limit_real_time(microseconds: u64, key: Key) -> Result<()> {
    let limit = [microseconds; 2];
    let (resource, none) = (libc::RLIMIT_RTTIME, null::<u64>());
    // SAFETY: the kernel reads two numbers, and writes none; it has no look at the last two arguments.
    unsafe { syscall!(SYS_prlimit64, 0, resource, limit.as_ptr(), none, key[0], key[1]) }.map(drop)
}

/// Bytes that nobody guesses: getrandom(2).
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the kernel writes as many bytes as there are; so few it gives all or none.
    let written = unsafe { syscall!(SYS_getrandom, bytes.as_mut_ptr(), N, 0) }?;
    assert_eq!(written, N as c_long, "getrandom(2) gives up to 256 bytes at once");
    Ok(bytes)
}

/// Gives memory back to the kernel; it reads as zeros from then on.
pub(super) fn wipe(memory: &mut [u8]) {
    // SAFETY: the memory is a private anonymous mapping, page by page, and nobody else's.
    _ = unsafe { syscall!(SYS_madvise, memory.as_mut_ptr(), memory.len(), libc::MADV_DONTNEED) };
}

/// Waits for a child, any for -1. `None`: none has ended, with `WNOHANG` among the flags.
pub(super) fn wait(pid: libc::pid_t, flags: c_int) -> Result<Option<(libc::pid_t, c_int)>> {
    let mut status: c_int = 0;
    // SAFETY: the kernel writes one int; no resource usage is asked for.
    let ended = retried(|| unsafe { syscall!(SYS_wait4, pid, &raw mut status, flags, null::<c_void>()) })?;
    Ok((ended != 0).then_some((ended as libc::pid_t, status)))
}

pub(super) fn kill(pid: libc::pid_t, signal: c_int) {
    // SAFETY: no memory is involved. Who is meant is the caller's concern.
    _ = unsafe { syscall!(SYS_kill, pid, signal) };
}

pub(super) fn exit(code: c_int) -> ! {
    loop {
        // SAFETY: does not return.
        _ = unsafe { syscall!(SYS_exit_group, code) };
    }
}

pub(super) fn new_session() {
    // SAFETY: no memory is involved.
    _ = unsafe { syscall!(SYS_setsid) };
}

/// A session keyring of one's own, keyctl(2): else keys of whoever started dcgi could be asked for.
pub(super) fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: no name is given. A kernel without keyrings has no keys either.
    _ = unsafe { syscall!(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, null::<c_void>()) };
}

pub(super) fn prctl(option: c_int, argument: u64) -> Result<()> {
    // SAFETY: only options whose argument is a number are asked for here.
    unsafe { syscall!(SYS_prctl, option, argument, 0, 0, 0) }.map(drop)
}

/// The name that `ps` shows, at most 15 bytes.
pub(super) fn set_name(name: &CStr) {
    // SAFETY: the name is NUL-terminated, and the kernel reads at most 16 bytes up to its NUL.
    _ = unsafe { syscall!(SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

pub(super) fn set_groups(groups: &[u8]) -> Result<()> {
    let count = groups.len() / size_of::<libc::gid_t>();
    // SAFETY: the kernel copies `count` ids out of a slice that holds as many; it asks no alignment.
    unsafe { syscall!(SYS_setgroups, count, groups.as_ptr()) }.map(drop)
}

pub(super) fn set_user(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: no memory is involved.
    unsafe { syscall!(SYS_setresgid, gid, gid, gid) }?;
    // SAFETY: no memory is involved.
    unsafe { syscall!(SYS_setresuid, uid, uid, uid) }.map(drop)
}

/// Takes these capabilities, a bit each, as permitted, effective and inheritable ones: capset(2), version 3.
pub(super) fn set_capabilities(permitted: u64, inheritable: u64) -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let half = |shift: u32| Sets {
        effective: (permitted >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let sets = [half(0), half(32)];
    // SAFETY: version 3 has two sets, which the kernel reads.
    unsafe { syscall!(SYS_capset, &raw const header, sets.as_ptr()) }.map(drop)
}

pub(super) fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one limit, and writes no old one.
    unsafe { syscall!(SYS_prlimit64, 0, resource, &raw const limit, null::<c_void>()) }.map(drop)
}

/// Attaches a filter of system calls: seccomp(2). `program` holds 8 bytes an instruction.
pub(super) fn set_filter(program: &[u8]) -> Result<()> {
    const SECCOMP_SET_MODE_FILTER: c_uint = 1;
    let filter = libc::sock_fprog {
        len: (program.len() / size_of::<libc::sock_filter>()) as u16,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies `len` instructions out of a slice that holds as many; it asks no alignment, and does
    // not write through the pointer.
    unsafe { syscall!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const filter) }.map(drop)
}

/// Puts every signal at its default action and blocks none. `exec` would keep what is ignored, as Rust's runtime has
/// it for SIGPIPE, and what is blocked.
pub(super) fn reset_signals() {
    for signal in 1..=64 {
        set_action(signal, libc::SIG_DFL);
    }
    block_signals(0);
}

/// Puts a signal at its default action.
pub(super) fn reset_signal(signal: c_int) {
    set_action(signal, libc::SIG_DFL);
}

/// Ignores the end of children: the kernel reaps them.
pub(super) fn ignore_children() {
    set_action(libc::SIGCHLD, libc::SIG_IGN);
}

/// Ignores a signal.
#[cfg(test)]
pub(super) fn ignore(signal: c_int) {
    set_action(signal, libc::SIG_IGN);
}

/// Which signals this process ignores: a bit each, signal 1 the lowest.
pub(super) fn ignored_signals() -> u64 {
    (1..=64).filter(|signal| action_of(*signal) == libc::SIG_IGN).map(|signal| 1 << (signal - 1)).sum()
}

/// The kernel's `struct sigaction`.
#[repr(C)]
struct Action {
    handler: libc::sighandler_t,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// What handles a signal.
fn action_of(signal: i32) -> libc::sighandler_t {
    let mut action = Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: the kernel writes one action, of the size that it knows, and reads no new one.
    _ = unsafe { syscall!(SYS_rt_sigaction, signal, null::<c_void>(), &raw mut action, 8) };
    action.handler
}

/// What a signal does: its default, or nothing. SIGKILL and SIGSTOP stay as they are.
fn set_action(signal: i32, handler: libc::sighandler_t) {
    let action = Action { handler, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: the kernel reads one action, of the size that it knows, and writes no old one.
    _ = unsafe { syscall!(SYS_rt_sigaction, signal, &raw const action, null_mut::<c_void>(), 8) };
}

/// Blocks these signals and no others, a bit each, signal 1 the lowest.
pub(super) fn block_signals(mask: u64) {
    let (how, old) = (libc::SIG_SETMASK, null_mut::<c_void>());
    // SAFETY: the kernel reads one mask of 8 bytes, and writes no old one.
    _ = unsafe { syscall!(SYS_rt_sigprocmask, how, &raw const mask, old, 8) };
}

/// The same: gives those that were blocked.
pub(super) fn set_blocked_signals(mask: u64) -> Result<u64> {
    let mut before: u64 = 0;
    // SAFETY: the kernel reads and writes one mask of 8 bytes each.
    unsafe { syscall!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, 8) }?;
    Ok(before)
}

/// A descriptor that can be read when one of these signals, which must be blocked, has come.
pub(super) fn signal_fd(mask: u64) -> Result<Fd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel reads one mask of 8 bytes.
    unsafe { syscall!(SYS_signalfd4, -1, &raw const mask, 8, flags) }.map(|fd| fd as Fd)
}

/// Waits until one of the descriptors has what it is asked for. -1 is no descriptor.
pub(super) fn poll(descriptors: &mut [libc::pollfd]) -> Result<()> {
    let (timeout, mask) = (null::<c_void>(), null::<c_void>());
    let count = descriptors.len();
    // SAFETY: the kernel reads and writes `count` entries of a slice that has as many.
    retried(|| unsafe { syscall!(SYS_ppoll, descriptors.as_mut_ptr(), count, timeout, mask, 8) }).map(drop)
}

/// How many descriptors may come with a message.
pub(super) const DESCRIPTORS: usize = 6;

/// Receives bytes, and the descriptors that come with them, as many as there is room for; others are closed by the
/// kernel. Gives the number of bytes, 0 at the end, and of descriptors. They are close-on-exec.
pub(super) fn receive(
    socket: Fd,
    bytes: &mut [u8],
    descriptors: &mut [Fd; DESCRIPTORS],
) -> Result<(usize, usize)> {
    // Room for as many descriptors behind one header, and aligned as a header.
    #[repr(C, align(8))]
    struct Control([u8; 16 + 4 * DESCRIPTORS]);
    let mut control = Control([0; 16 + 4 * DESCRIPTORS]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the kernel writes into the two buffers, up to their lengths.
    let read = retried(|| unsafe { syscall!(SYS_recvmsg, socket, &raw mut message, flags) })?;
    let mut count = 0;
    // SAFETY: the kernel has left a whole header where `msg_controllen` says that there is one.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    if let Some(header) = header
        && (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
    {
        // SAFETY: no memory is read.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let length: usize = header.cmsg_len;
        count = (length.saturating_sub(head) / size_of::<Fd>()).min(descriptors.len());
        // SAFETY: the kernel has put `count` descriptors behind the header, within the control buffer.
        unsafe {
            let from: *const Fd = libc::CMSG_DATA(header).cast();
            std::ptr::copy_nonoverlapping(from, descriptors.as_mut_ptr(), count);
        }
    }
    Ok((read as usize, count))
}

/// Memory from the kernel, zeroed, for as long as this process lives.
pub(super) fn map_memory(bytes: usize) -> Result<&'static mut [u8]> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let length = bytes.max(1);
    // SAFETY: a mapping at an address of the kernel's choice.
    let address = unsafe { syscall!(SYS_mmap, null::<c_void>(), length, protection, flags, -1, 0) }?;
    // SAFETY: the mapping is new, nobody else has it, and it is never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) })
}

/// Zeroed memory as pointers, all null, as many as fit.
pub(super) fn as_pointers(memory: &mut [u8]) -> &mut [*const libc::c_char] {
    // SAFETY: any bytes are a pointer, if not one to follow.
    let (_, pointers, _) = unsafe { memory.align_to_mut() };
    pointers
}

/// A file's first `bytes`, to read, for as long as this process lives. It must not shrink meanwhile.
pub(super) fn map_file(fd: Fd, bytes: usize) -> Result<&'static [u8]> {
    let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE);
    let length = bytes.max(1);
    // SAFETY: a mapping at an address of the kernel's choice.
    let address = unsafe { syscall!(SYS_mmap, null::<c_void>(), length, protection, flags, fd, 0) }?;
    // SAFETY: the mapping is never unmapped. The file is a sealed memfd: it neither shrinks nor changes.
    Ok(unsafe { std::slice::from_raw_parts(address as *const u8, bytes) })
}

/// Fills memory of this process with zeros, behind a word at its beginning.
///
/// # Safety
/// The range is mapped and can be written to, and nobody reads it as anything but bytes.
pub(super) unsafe fn overwrite(range: std::ops::Range<usize>, word: &[u8]) {
    for (at, address) in range.enumerate() {
        // SAFETY: the caller vouches for the range. Volatile: nobody here will read it.
        unsafe { (address as *mut u8).write_volatile(word.get(at).copied().unwrap_or(0)) };
    }
}

/// Becomes another program.
///
/// # Safety
/// `arguments` and `environment` are arrays of pointers to NUL-terminated strings, ended by a null pointer.
pub(super) unsafe fn execute(
    path: &CStr,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
) -> Errno {
    // SAFETY: the path is NUL-terminated; the caller vouches for the rest.
    match unsafe { syscall!(SYS_execve, path.as_ptr(), arguments, environment) } {
        Ok(_) => Errno(0),
        Err(error) => error,
    }
}
