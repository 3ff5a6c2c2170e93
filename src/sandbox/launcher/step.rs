//! Steps: what a slot or a sandbox does to the system before its program may run.
//!
//! What is to be done is decided beforehand, in ordinary Rust ([`Steps`]); the launcher goes through the list and
//! decides nothing. So one place has the policy and another the system calls, and an error can say in words which
//! step it was.

use std::ffi::{CStr, CString};
use std::net::SocketAddr;

use super::sys::{self, Errno, Fd, Fork};
use super::wire::{LISTENING, Reader, Writer, record};
use super::zygote::{MASTER, UMASK};

/// How many copied mounts may be held at once: see [`Steps::copy_mount`].
pub(super) const TREES: usize = 80;

/// How an attached mount is restricted: `MOUNT_ATTR_*` of mount_setattr(2).
pub(in crate::sandbox) mod attribute {
    pub(in crate::sandbox) const READ_ONLY: u64 = 0x1;
    pub(in crate::sandbox) const NO_SUID: u64 = 0x2;
    pub(in crate::sandbox) const NO_DEV: u64 = 0x4;
    pub(in crate::sandbox) const NO_EXEC: u64 = 0x8;
}

macro_rules! kinds {
    ($($name:ident),*) => {
        #[derive(Clone, Copy)]
        #[repr(u32)]
        enum Kind { $($name),* }
        impl Kind {
            fn from_number(number: u32) -> Option<Self> {
                [$(Self::$name),*].get(number as usize).copied()
            }
        }
    };
}
kinds![
    Mount,
    CopyMount,
    Attach,
    AttachBeneath,
    Disown,
    Check,
    Enter,
    Restrict,
    Pivot,
    CoverRoot,
    Directory,
    File,
    HostFile,
    Link,
    Device,
    Mask,
    Protect,
    Unmount,
    Remove,
    Write,
    HostName,
    LoopbackUp,
    Listen,
    Unshare
];

/// Which file something is: its device, and its number there.
pub(crate) type Identity = (u64, u64);

/// In place of an [`Identity`]: whatever it is. No file has the number 0.
const ANY: Identity = (0, 0);

/// A list of steps, and what each is called.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(super) encoded: Writer,
    names: Vec<String>,
    trees: u32,
}

/// A copied mount, not attached yet.
#[derive(Clone, Copy, Debug)]
pub(in crate::sandbox) struct Tree(u32);

/// Beyond [`TREES`].
#[derive(Debug, thiserror::Error)]
#[error("more than {} volumes", TREES - 24)]
pub(in crate::sandbox) struct TooManyTrees;

impl Steps {
    /// What a step is called, for an error.
    pub(in crate::sandbox) fn name(&self, index: u32) -> &str {
        self.names.get(index as usize).map_or("an unknown step", String::as_str)
    }

    /// What all steps are called, in order.
    pub(in crate::sandbox) fn names(&self) -> &[String] {
        &self.names
    }

    fn step(&mut self, kind: Kind, optional: bool, name: impl Into<String>) -> &mut Writer {
        self.names.push(name.into());
        self.encoded.number(kind as u32);
        self.encoded.number(optional.into());
        &mut self.encoded
    }

    /// mount(2), with flags such as `MS_NOSUID`.
    pub(in crate::sandbox) fn mount(
        &mut self,
        source: &CStr,
        target: &CStr,
        kind: &CStr,
        flags: u64,
        options: &CStr,
    ) {
        let what = if kind.is_empty() { source } else { kind };
        let name = format!("mounting {} at {}", what.to_string_lossy(), target.to_string_lossy());
        self.mount_step(false, name, source, target, kind, flags, options);
    }

    /// The same of a file system without a source, in the directory that was [entered](Self::enter), whose path is given.
    pub(in crate::sandbox) fn mount_here(&mut self, kind: &CStr, place: &CStr, flags: u64, options: &CStr) {
        let name = format!("mounting {} at {}", kind.to_string_lossy(), place.to_string_lossy());
        self.mount_step(false, name, kind, c".", kind, flags, options);
    }

    /// The same, where the kernel may refuse.
    pub(in crate::sandbox) fn try_mount(&mut self, kind: &CStr, target: &CStr, flags: u64, options: &CStr) {
        let name = format!("mounting {} at {}", kind.to_string_lossy(), target.to_string_lossy());
        self.mount_step(true, name, kind, target, kind, flags, options);
    }

    #[expect(clippy::too_many_arguments, reason = "mount(2) has five")]
    fn mount_step(
        &mut self,
        optional: bool,
        name: String,
        source: &CStr,
        target: &CStr,
        kind: &CStr,
        flags: u64,
        options: &CStr,
    ) {
        let step = self.step(Kind::Mount, optional, name);
        step.string(source);
        step.string(target);
        step.string(kind);
        step.long(flags);
        step.string(options);
    }

    /// Takes hold of what is mounted at a path, to be attached elsewhere when this path is out of sight.
    pub(in crate::sandbox) fn copy_mount(
        &mut self,
        path: &CStr,
        recursive: bool,
    ) -> Result<Tree, TooManyTrees> {
        self.copy(path, recursive, ANY)
    }

    /// The same, where it has to be this one still: else it fails with `ESTALE`.
    pub(in crate::sandbox) fn copy_mount_of(
        &mut self,
        path: &CStr,
        identity: Identity,
    ) -> Result<Tree, TooManyTrees> {
        self.copy(path, true, identity)
    }

    fn copy(&mut self, path: &CStr, recursive: bool, identity: Identity) -> Result<Tree, TooManyTrees> {
        let tree = self.trees;
        if tree as usize >= TREES {
            return Err(TooManyTrees);
        }
        self.trees += 1;
        let step = self.step(Kind::CopyMount, false, format!("finding {}", path.to_string_lossy()));
        step.number(tree);
        step.string(path);
        step.number(recursive.into());
        step.long(identity.0);
        step.long(identity.1);
        Ok(Tree(tree))
    }

    /// Fails with `ESTALE` where a path does not lead to this file any more.
    pub(in crate::sandbox) fn check(&mut self, path: &CStr, identity: Identity) {
        let name = format!("finding {} as it was", path.to_string_lossy());
        let step = self.step(Kind::Check, false, name);
        step.string(path);
        step.long(identity.0);
        step.long(identity.1);
    }

    /// Has the files of a tree belong to nobody who is there: what everybody may do with them is all that anybody may.
    /// `optional`: where the kernel or the file system cannot, they belong to whom they belong.
    pub(in crate::sandbox) fn disown(&mut self, tree: Tree, path: &CStr, optional: bool) {
        let name = format!("taking the owners from the files of {}", path.to_string_lossy());
        self.step(Kind::Disown, optional, name).number(tree.0);
    }

    /// Goes into a directory, no part of whose path may be a link: who can write there could lead it anywhere. Relative
    /// paths of later steps begin there.
    pub(in crate::sandbox) fn enter(&mut self, path: &CStr) {
        let name = format!("entering {}, no part of which may be a link in a volume", path.to_string_lossy());
        self.step(Kind::Enter, false, name).string(path);
    }

    /// Attaches a tree at a path, no part of which may be a link.
    pub(in crate::sandbox) fn attach_beneath(&mut self, tree: Tree, target: &CStr, attributes: u64) {
        let name = format!(
            "mounting a volume at {}, no part of which may be a link in a volume",
            target.to_string_lossy()
        );
        let step = self.step(Kind::AttachBeneath, false, name);
        step.number(tree.0);
        step.string(target);
        step.long(attributes);
    }

    /// Attaches it, with these attributes on everything in it.
    pub(in crate::sandbox) fn attach(&mut self, tree: Tree, target: &CStr, attributes: u64) {
        let step =
            self.step(Kind::Attach, false, format!("mounting a volume at {}", target.to_string_lossy()));
        step.number(tree.0);
        step.string(target);
        step.long(attributes);
    }

    /// Adds attributes to the mount at a path.
    pub(in crate::sandbox) fn restrict(&mut self, target: &CStr, attributes: u64) {
        let step = self.step(Kind::Restrict, false, format!("restricting {}", target.to_string_lossy()));
        step.string(target);
        step.long(attributes);
    }

    /// Makes what is mounted at a path the root, and lets go of all else.
    pub(in crate::sandbox) fn pivot(&mut self, root: &CStr) {
        self.step(Kind::Pivot, false, format!("making {} the root", root.to_string_lossy())).string(root);
    }

    /// Mounts the root once more, with all that is mounted below it, and takes that for the root: what is below is there
    /// to be pivoted away from. The copy is made in an empty directory.
    pub(in crate::sandbox) fn cover_root(&mut self, at: &CStr) {
        self.step(Kind::CoverRoot, false, "mounting the initramfs above itself").string(at);
    }

    /// Makes a directory where there is nothing.
    pub(in crate::sandbox) fn directory(&mut self, path: &CStr, mode: u32) {
        let step =
            self.step(Kind::Directory, false, format!("making the directory {}", path.to_string_lossy()));
        step.string(path);
        step.number(mode);
    }

    /// Makes a file, empty or not; one that is there is left as it is.
    pub(in crate::sandbox) fn file(&mut self, path: &CStr, content: &[u8]) {
        let step = self.step(Kind::File, false, format!("making the file {}", path.to_string_lossy()));
        step.string(path);
        step.bytes(content);
    }

    /// Makes a file that ends with the sandbox's host name and a line feed.
    pub(in crate::sandbox) fn host_file(&mut self, path: &CStr, content: &[u8]) {
        let step = self.step(Kind::HostFile, false, format!("making the file {}", path.to_string_lossy()));
        step.string(path);
        step.bytes(content);
    }

    /// Makes a symbolic link.
    pub(in crate::sandbox) fn link(&mut self, target: &CStr, path: &CStr) {
        let step = self.step(Kind::Link, false, format!("making the link {}", path.to_string_lossy()));
        step.string(target);
        step.string(path);
    }

    /// Makes a character device that everyone may use.
    pub(in crate::sandbox) fn device(&mut self, path: &CStr, major: u32, minor: u32) {
        let step = self.step(Kind::Device, false, format!("making the device {}", path.to_string_lossy()));
        step.string(path);
        step.long(libc::makedev(major, minor));
    }

    /// Hides a file behind an empty one, a directory behind an empty one; nothing where there is neither.
    pub(in crate::sandbox) fn mask(&mut self, path: &CStr, empty_file: &CStr, empty_directory: &CStr) {
        let step = self.step(Kind::Mask, false, format!("hiding {}", path.to_string_lossy()));
        step.string(path);
        step.string(empty_file);
        step.string(empty_directory);
    }

    /// Makes a path read-only, with all below it on the same file system. `required`: it has to be there.
    pub(in crate::sandbox) fn protect(&mut self, path: &CStr, attributes: u64, required: bool) {
        let step = self.step(Kind::Protect, false, format!("protecting {}", path.to_string_lossy()));
        step.string(path);
        step.long(attributes);
        step.number(required.into());
    }

    /// Lets go of a mount. What still uses it keeps it.
    pub(in crate::sandbox) fn unmount(&mut self, path: &CStr) {
        self.step(Kind::Unmount, false, format!("unmounting {}", path.to_string_lossy())).string(path);
    }

    /// Removes a file.
    pub(in crate::sandbox) fn remove(&mut self, path: &CStr) {
        self.step(Kind::Remove, false, format!("removing {}", path.to_string_lossy())).string(path);
    }

    /// Writes into a file that is there: one of the kernel's.
    pub(in crate::sandbox) fn write(&mut self, path: &CStr, content: &[u8]) {
        let step = self.step(Kind::Write, false, format!("writing {}", path.to_string_lossy()));
        step.string(path);
        step.bytes(content);
    }

    /// Sets the sandbox's host name.
    pub(in crate::sandbox) fn host_name(&mut self) {
        self.step(Kind::HostName, false, "setting the host name");
    }

    /// Sets up the loopback interface.
    pub(in crate::sandbox) fn loopback_up(&mut self) {
        self.step(Kind::LoopbackUp, false, "setting up the loopback interface");
    }

    /// Listens at an address of the network namespace that it is in, and sends the socket to dcgi.
    pub(in crate::sandbox) fn listen(&mut self, address: SocketAddr) {
        let mut encoded = Writer::default();
        match address {
            SocketAddr::V4(address) => {
                encoded.0.extend((libc::AF_INET as u16).to_ne_bytes());
                encoded.0.extend(address.port().to_be_bytes());
                encoded.0.extend(address.ip().octets());
                encoded.long(0);
            }
            SocketAddr::V6(address) => {
                encoded.0.extend((libc::AF_INET6 as u16).to_ne_bytes());
                encoded.0.extend(address.port().to_be_bytes());
                encoded.number(0);
                encoded.0.extend(address.ip().octets());
                encoded.number(0);
            }
        }
        self.step(Kind::Listen, false, format!("listening at {address}")).bytes(&encoded.0);
    }

    /// Leaves some namespaces for new ones: unshare(2).
    pub(in crate::sandbox) fn unshare(&mut self, namespaces: i32, name: &str) {
        self.step(Kind::Unshare, false, format!("making {name}")).long(namespaces as u64);
    }
}

/// The step that failed, and why.
pub(super) struct Failed {
    pub(super) index: u32,
    pub(super) errno: Errno,
}

/// Goes through a list. Async-signal-safe: it runs between `clone` and `exec`.
pub(super) fn run(encoded: &[u8], host_name: &[u8]) -> Result<(), Failed> {
    let mut reader = Reader(encoded);
    let mut held = Held { trees: [-1; TREES], nobodys: -1 };
    let mut index = 0;
    while !reader.is_empty() {
        run_one(&mut reader, &mut held, host_name).map_err(|errno| Failed { index, errno })?;
        index += 1;
    }
    if held.nobodys >= 0 {
        sys::close(held.nobodys);
    }
    Ok(())
}

/// What steps hold for later ones.
struct Held {
    trees: [Fd; TREES],
    /// A user namespace that maps no file's owner: made when it is first needed.
    nobodys: Fd,
}

fn run_one(reader: &mut Reader<'_>, held: &mut Held, host_name: &[u8]) -> sys::Result<()> {
    let trees = &mut held.trees;
    // What dcgi itself has written always reads back.
    const BROKEN: Errno = Errno(libc::EBADMSG);
    let kind = reader.number().and_then(Kind::from_number).ok_or(BROKEN)?;
    let optional = reader.number().ok_or(BROKEN)? != 0;
    let done = match kind {
        Kind::Mount => {
            let (source, target) = (reader.string().ok_or(BROKEN)?, reader.string().ok_or(BROKEN)?);
            let (kind, flags) = (reader.string().ok_or(BROKEN)?, reader.long().ok_or(BROKEN)?);
            sys::mount(source, target, kind, flags, reader.string().ok_or(BROKEN)?)
        }
        Kind::CopyMount => {
            let tree = reader.number().ok_or(BROKEN)?;
            let (path, recursive) = (reader.string().ok_or(BROKEN)?, reader.number().ok_or(BROKEN)? != 0);
            let identity = (reader.long().ok_or(BROKEN)?, reader.long().ok_or(BROKEN)?);
            let place = trees.get_mut(tree as usize).ok_or(BROKEN)?;
            let copy = sys::open_tree(path, recursive);
            copy.and_then(|copy| {
                *place = copy;
                is_still(copy, identity)
            })
        }
        Kind::Attach | Kind::AttachBeneath => {
            let tree = reader.number().and_then(|tree| trees.get_mut(tree as usize)).ok_or(BROKEN)?;
            let (target, attributes) = (reader.string().ok_or(BROKEN)?, reader.long().ok_or(BROKEN)?);
            let tree = std::mem::replace(tree, -1);
            let done = match attributes {
                0 => Ok(()),
                _ => sys::restrict_mount(tree, c"", attributes, true),
            };
            let done = done.and_then(|()| match kind {
                Kind::AttachBeneath => attach_beneath(tree, target),
                _ => sys::move_mount(tree, target),
            });
            sys::close(tree);
            done
        }
        Kind::Disown => {
            let tree = reader.number().and_then(|tree| trees.get(tree as usize)).ok_or(BROKEN)?;
            let namespace = match held.nobodys {
                -1 => nobodys_namespace(),
                made => Ok(made),
            };
            namespace.and_then(|namespace| {
                held.nobodys = namespace;
                sys::map_owners(*tree, namespace)
            })
        }
        Kind::Check => {
            let path = reader.string().ok_or(BROKEN)?;
            let identity = (reader.long().ok_or(BROKEN)?, reader.long().ok_or(BROKEN)?);
            sys::open(path, libc::O_PATH, 0).and_then(|file| {
                let done = is_still(file, identity);
                sys::close(file);
                done
            })
        }
        Kind::Enter => sys::enter(reader.string().ok_or(BROKEN)?),
        Kind::Restrict => {
            let (target, attributes) = (reader.string().ok_or(BROKEN)?, reader.long().ok_or(BROKEN)?);
            sys::restrict_mount(libc::AT_FDCWD, target, attributes, false)
        }
        Kind::Pivot => pivot(reader.string().ok_or(BROKEN)?),
        Kind::CoverRoot => cover_root(reader.string().ok_or(BROKEN)?),
        Kind::Directory => {
            let (path, mode) = (reader.string().ok_or(BROKEN)?, reader.number().ok_or(BROKEN)?);
            or_exists(sys::mkdir(path, mode))
        }
        Kind::File => {
            let (path, content) = (reader.string().ok_or(BROKEN)?, reader.bytes().ok_or(BROKEN)?);
            or_exists(make_file(path, content, b""))
        }
        Kind::HostFile => {
            let (path, content) = (reader.string().ok_or(BROKEN)?, reader.bytes().ok_or(BROKEN)?);
            make_file(path, content, host_name)
        }
        Kind::Link => {
            let target = reader.string().ok_or(BROKEN)?;
            or_exists(sys::symlink(target, reader.string().ok_or(BROKEN)?))
        }
        Kind::Device => {
            let (path, device) = (reader.string().ok_or(BROKEN)?, reader.long().ok_or(BROKEN)?);
            // For everybody, which the mask would not let it be.
            sys::umask(0);
            let made = sys::mknod(path, libc::S_IFCHR | 0o666, device);
            sys::umask(UMASK);
            made
        }
        Kind::Mask => {
            let path = reader.string().ok_or(BROKEN)?;
            let (file, directory) = (reader.string().ok_or(BROKEN)?, reader.string().ok_or(BROKEN)?);
            // Most of them are files. The kernel itself says which is which.
            let done = match sys::mount(file, path, c"", libc::MS_BIND, c"") {
                Err(Errno(libc::ENOTDIR)) => sys::mount(directory, path, c"", libc::MS_BIND, c""),
                done => done,
            };
            match done {
                Err(Errno(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
                done => done,
            }
        }
        Kind::Protect => {
            let (path, attributes) = (reader.string().ok_or(BROKEN)?, reader.long().ok_or(BROKEN)?);
            let required = reader.number().ok_or(BROKEN)? != 0;
            match sys::mount(path, path, c"", libc::MS_BIND, c"") {
                Ok(()) => sys::restrict_mount(libc::AT_FDCWD, path, attributes, false),
                Err(Errno(libc::ENOENT)) if !required => Ok(()),
                Err(error) => Err(error),
            }
        }
        Kind::Unmount => sys::unmount(reader.string().ok_or(BROKEN)?),
        Kind::Remove => sys::unlink(reader.string().ok_or(BROKEN)?),
        Kind::Write => {
            let (path, content) = (reader.string().ok_or(BROKEN)?, reader.bytes().ok_or(BROKEN)?);
            write_file(path, content)
        }
        Kind::HostName => sys::set_hostname(host_name),
        Kind::LoopbackUp => sys::loopback_up(),
        Kind::Listen => sys::listen(reader.bytes().ok_or(BROKEN)?).and_then(|socket| {
            let sent = sys::send_descriptor(MASTER, &record(LISTENING, [0; 3]), socket);
            sys::close(socket);
            sent
        }),
        Kind::Unshare => sys::unshare(reader.long().ok_or(BROKEN)? as i32),
    };
    if optional { Ok(()) } else { done }
}

/// Whether a descriptor is for a file.
fn is_still(fd: Fd, identity: Identity) -> sys::Result<()> {
    match identity == ANY || sys::identity(fd)? == identity {
        true => Ok(()),
        false => Err(Errno(libc::ESTALE)),
    }
}

fn attach_beneath(tree: Fd, target: &CStr) -> sys::Result<()> {
    let target = sys::reach(target, 0)?;
    let done = sys::move_mount_to(tree, target);
    sys::close(target);
    done
}

/// What a user namespace has to know of ids to be one that owners can be mapped by: one that no file has. All others it
/// maps to nobody.
const NOBODYS: &[u8] = b"4294967293 0 1";

/// How large an exit status is that tells of an error, and not of a descriptor.
const AN_ERROR: i32 = 128;

/// Makes such a namespace: a child does, which shares our descriptors, and leaves one of it.
fn nobodys_namespace() -> sys::Result<Fd> {
    let child = match sys::fork_unnoticed(libc::CLONE_NEWUSER | libc::CLONE_FILES)? {
        Fork::Child => sys::exit(match become_nobody() {
            Ok(namespace) if namespace < AN_ERROR => namespace,
            Ok(_) => AN_ERROR + libc::EMFILE,
            Err(Errno(errno)) => AN_ERROR + errno.min(AN_ERROR - 1),
        }),
        Fork::Parent(child) => child,
    };
    match sys::wait(child, libc::__WALL)?.map(|(_, status)| libc::WEXITSTATUS(status)) {
        Some(errno @ AN_ERROR..) => Err(Errno(errno - AN_ERROR)),
        Some(namespace @ 1..) => Ok(namespace),
        _ => Err(Errno(libc::ECHILD)),
    }
}

fn become_nobody() -> sys::Result<Fd> {
    write_file(c"/proc/self/setgroups", b"deny")?;
    write_file(c"/proc/self/uid_map", NOBODYS)?;
    write_file(c"/proc/self/gid_map", NOBODYS)?;
    sys::open(c"/proc/self/ns/user", libc::O_RDONLY, 0)
}

/// pivot_root(2), the way without a second directory: the old root lies under the new one until it is let go of.
fn pivot(root: &CStr) -> sys::Result<()> {
    sys::chdir(root)?;
    sys::pivot_root(c".", c".")?;
    sys::unmount(c".")?;
    sys::chdir(c"/")
}

/// As switch_root(8) does it, which leaves the first root below as well.
fn cover_root(at: &CStr) -> sys::Result<()> {
    sys::mount(c"/", at, c"", libc::MS_BIND | libc::MS_REC, c"")?;
    sys::chdir(at)?;
    sys::mount(c".", c"/", c"", libc::MS_MOVE, c"")?;
    sys::chroot(c".")?;
    sys::chdir(c"/")
}

fn make_file(path: &CStr, content: &[u8], host_name: &[u8]) -> sys::Result<()> {
    let file = sys::open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, 0o644)?;
    let mut done = Ok(());
    for part in [content, host_name, if host_name.is_empty() { b"" } else { b"\n" }] {
        if !part.is_empty() && done.is_ok() {
            done = sys::write(file, part).map(drop);
        }
    }
    sys::close(file);
    done
}

pub(super) fn write_file(path: &CStr, content: &[u8]) -> sys::Result<()> {
    let file = sys::open(path, libc::O_WRONLY, 0)?;
    let done = sys::write(file, content).map(drop);
    sys::close(file);
    done
}

fn or_exists(done: sys::Result<()>) -> sys::Result<()> {
    match done {
        Err(Errno(libc::EEXIST)) => Ok(()),
        done => done,
    }
}

/// A string for the kernel.
///
/// # Errors
/// Where it holds a NUL, which no path of the kernel's can.
pub(in crate::sandbox) fn c_string(text: impl Into<Vec<u8>>) -> Result<CString, std::ffi::NulError> {
    CString::new(text)
}
