//! Which mounts a container is put together from, and in which order.
//!
//! 1. Take hold of everything of the host's that will be seen inside (volumes, devices where they cannot be made);
//! 2. make the image's root file system the root, and let go of the host's;
//! 3. only now put things into it: a symbolic link in the image leads to another place in the image, never out of it;
//! 4. make the root read-only.
//!
//! Where the root refuses writes, a slot does that once and its sandboxes add what is private: `/proc`, `/dev/shm` and
//! the like. A root that takes writes is each sandbox's own.
//!
//! - `own`: the program's own mounts, and their order
//! - `root`: what becomes the root: a directory, with memory above it, or parts of this machine

mod own;
mod root;

use std::ffi::{CStr, CString};
use std::path::Path;

use crate::sandbox::error::PlanError;
use crate::sandbox::host::Host;
use crate::sandbox::launcher::{Steps, TooManyTrees, Tree, attribute, c_string};
use crate::sandbox::rootfs::{Found, Rootfs};
use crate::sandbox::spec::{Network, Root, Spec};
use crate::sandbox::user::User;
use own::{Own, What};

/// The size of `/dev/shm`: Docker's.
const SHM: &CStr = c"mode=1777,size=65536k";

/// Terminals are numbered from one store for the whole machine, `kernel.pty.max` of them: a container has few.
const PTYS: &CStr = c"newinstance,ptmxmode=0666,mode=0620,max=64";

/// Character devices that every container has: null, zero, full, random, urandom, tty.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What of `/proc` tells of the host or is of no use to a program: Docker's list.
const HIDDEN_IN_PROC: [&CStr; 10] = [
    c"/proc/acpi",
    c"/proc/asound",
    c"/proc/interrupts",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/proc/timer_list",
    c"/proc/timer_stats",
];

/// The same of `/sys`.
const HIDDEN_IN_SYS: [&CStr; 2] = [c"/sys/devices/virtual/powercap", c"/sys/firmware"];

/// What of `/proc` acts on the whole machine when written to.
const READ_ONLY_IN_PROC: [&CStr; 5] =
    [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// Where sandboxes put together what lies in memory: see [`Mounts::begin_overlays`].
const SCRATCH: &CStr = c"/dev/mqueue";

const NO_SUID_DEV: u64 = libc::MS_NOSUID | libc::MS_NODEV;
const NO_SUID_DEV_EXEC: u64 = NO_SUID_DEV | libc::MS_NOEXEC;

/// What is to be mounted, for one kind of container.
pub(super) struct Mounts<'a> {
    spec: &'a Spec,
    host: &'a Host,
    rootfs: Rootfs,
    own_network: bool,
    /// Whether the program is anybody but root.
    is_unprivileged: bool,
    own: Vec<Own<'a>>,
}

/// Where a slot keeps what its sandboxes will mount deeper than it can: the message queues will lie over it.
const PARKING: &str = "/dev/mqueue";

/// Something that is held, for the mount of this number among the program's own.
type Held = Vec<(usize, Tree)>;

impl<'a> Mounts<'a> {
    pub(super) fn new(spec: &'a Spec, host: &'a Host, rootfs: Rootfs, user: &User) -> Self {
        let own = own::in_order(spec, &rootfs);
        let own_network = spec.network == Network::Own;
        Self { spec, host, rootfs, own_network, is_unprivileged: user.uid != 0, own }
    }

    /// What a slot does once, for all of its sandboxes.
    pub(super) fn slot(&self, steps: &mut Steps) -> Result<(), PlanError> {
        if self.spec.read_only {
            // Else the host's mounts stay in sight here, and what the host unmounts goes here too.
            steps.mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"");
        }
        if self.own_network {
            steps.loopback_up();
        }
        if self.spec.read_only {
            self.root(steps)?;
        }
        Ok(())
    }

    /// What each sandbox does for itself.
    pub(super) fn sandbox(&self, steps: &mut Steps) -> Result<(), PlanError> {
        steps.host_name();
        let held = match self.spec.read_only {
            true => self.unpark(steps)?,
            false => self.root(steps)?,
        };
        steps.mount(c"proc", c"/proc", c"proc", NO_SUID_DEV_EXEC, c"");
        for path in HIDDEN_IN_PROC {
            // Nothing is mounted at /dev/shm yet: it is an empty directory that nobody can write to.
            steps.mask(path, c"/dev/null", c"/dev/shm");
        }
        for path in READ_ONLY_IN_PROC {
            let also = attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;
            // It is there, or this is not the /proc that it is taken for.
            steps.protect(path, attribute::READ_ONLY | also, path == c"/proc/sys");
        }
        steps.mount(c"shm", c"/dev/shm", c"tmpfs", NO_SUID_DEV_EXEC, SHM);
        self.image_volumes(steps)?;
        steps.mount(c"mqueue", c"/dev/mqueue", c"mqueue", NO_SUID_DEV_EXEC, c"");
        steps.try_mount(c"devpts", c"/dev/pts", libc::MS_NOSUID | libc::MS_NOEXEC, PTYS);
        self.host_files(steps);
        self.private_mounts(steps, &held)
    }

    /// Options of a tmpfs, with a size where memory has a limit: that of the cgroup may not be there to be enforced.
    fn memory_options(&self, options: &str) -> Result<CString, PlanError> {
        match self.spec.limits.memory {
            Some(bytes) if !options.contains("size=") => path(format!("{options},size={bytes}")),
            _ => path(options),
        }
    }

    /// `/dev`, with what is parked in it.
    fn devices(
        &self,
        steps: &mut Steps,
        devices: &[(&str, Device)],
        parked: &[(usize, Tree)],
    ) -> Result<(), PlanError> {
        self.mount_point(steps, c"/dev", true);
        let flags = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_STRICTATIME;
        steps.mount(c"dev", c"/dev", c"tmpfs", flags, c"mode=755,size=64k");
        for (name, device) in devices {
            let target = path(format!("/dev/{name}"))?;
            match device {
                Device::Made(major, minor) => steps.device(&target, *major, *minor),
                Device::Copied(tree) => {
                    steps.file(&target, b"");
                    steps.attach(*tree, &target, attribute::NO_SUID | attribute::NO_EXEC);
                }
            }
        }
        for (target, link) in [
            (c"/proc/self/fd", c"/dev/fd"),
            (c"/proc/self/fd/0", c"/dev/stdin"),
            (c"/proc/self/fd/1", c"/dev/stdout"),
            (c"/proc/self/fd/2", c"/dev/stderr"),
            (c"pts/ptmx", c"/dev/ptmx"),
        ] {
            steps.link(target, link);
        }
        for directory in [c"/dev/shm", c"/dev/mqueue", c"/dev/pts"] {
            steps.directory(directory, 0o755);
        }
        for own in self.own.iter().filter(|own| own.is_last() && own.above.is_none()) {
            for (at, _) in own.target.match_indices('/').skip(2) {
                steps.directory(&path(&own.target[..at])?, 0o755);
            }
            match (&*own.target == own::DEVICES, own.is_directory()) {
                (true, _) => {}
                (false, true) => steps.directory(&path(&*own.target)?, 0o755),
                (false, false) => steps.file(&path(&*own.target)?, b""),
            }
        }
        for (number, tree) in parked {
            let place = path(format!("{PARKING}/{number}"))?;
            match self.own[*number].is_directory() {
                true => steps.directory(&place, 0o755),
                false => steps.file(&place, b""),
            }
            steps.attach(*tree, &place, attributes_of(&self.own[*number]));
        }
        steps.restrict(c"/dev", attribute::READ_ONLY);
        Ok(())
    }

    /// Takes hold of what the slot has parked.
    fn unpark(&self, steps: &mut Steps) -> Result<Held, PlanError> {
        let mut held = Vec::new();
        for (number, own) in self.own.iter().enumerate().filter(|(_, own)| self.is_held(own)) {
            let place = path(format!("{PARKING}/{number}"))?;
            held.push((number, steps.copy_mount(&place, true).map_err(too_many)?));
            steps.unmount(&place);
            debug_assert!(own.private, "the slot has it");
        }
        Ok(held)
    }

    /// Whether it is taken hold of before something hides it, for each sandbox to mount.
    fn is_held(&self, own: &Own<'_>) -> bool {
        match own.what {
            What::Volume(_) => own.private,
            What::Tmpfs(_) => false,
            What::OfImage => !own.is_in_image() && self.rootfs.find(&own.target) == Found::Directory,
        }
    }

    fn sysfs(&self, steps: &mut Steps) {
        if !self.host.shows_sysfs() {
            return;
        }
        self.mount_point(steps, c"/sys", true);
        steps.mount(c"sysfs", c"/sys", c"sysfs", NO_SUID_DEV_EXEC | libc::MS_RDONLY, c"");
        for path in HIDDEN_IN_SYS {
            steps.mask(path, c"/dev/null", c"/dev/shm");
        }
    }

    /// `/etc/hosts` and `/etc/hostname`, which say the sandbox's own name, where `/etc` is the root's own. They lie in the memory of `/dev/shm`, and
    /// have no name there any more when the program starts.
    fn host_files(&self, steps: &mut Steps) {
        let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t";
        let restricted = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;
        for (target, own, content) in [
            ("/etc/hosts", c"/dev/shm/hosts", hosts.as_bytes()),
            ("/etc/hostname", c"/dev/shm/hostname", b""),
        ] {
            // SECURITY: what programs may write to has links by now, which a mount would follow.
            let is_mounted = |own: &Own<'_>| Path::new(target).starts_with(&own.target);
            if !self.can_have_file(target) || self.own.iter().any(is_mounted) {
                continue;
            }
            let target = path(target).expect("it has no NUL");
            if !self.spec.read_only {
                // Its own root: a slot's has been made by now.
                self.mount_point(steps, &target, false);
            }
            steps.host_file(own, content);
            steps.mount(own, &target, c"", libc::MS_BIND, c"");
            steps.restrict(&target, restricted);
            steps.remove(own);
        }
    }

    /// What of the program's own each sandbox has for itself, in order; what lies over the devices last.
    fn private_mounts(&self, steps: &mut Steps, held: &[(usize, Tree)]) -> Result<(), PlanError> {
        let private = || self.own.iter().enumerate().filter(|(_, own)| own.private && !own.is_in_image());
        let has_overlay = private().any(|(_, own)| matches!(own.what, What::OfImage));
        if has_overlay {
            self.begin_overlays(steps)?;
        }
        for (number, own) in private().filter(|(_, own)| !own.is_last()) {
            self.private_mount(steps, number, own, held)?;
        }
        if has_overlay {
            steps.enter(c"/");
            steps.unmount(SCRATCH);
        }
        for (number, own) in private().filter(|(_, own)| own.is_last()) {
            self.private_mount(steps, number, own, held)?;
        }
        if private().next().is_some() {
            steps.enter(c"/");
        }
        Ok(())
    }

    /// One of these.
    fn private_mount(
        &self,
        steps: &mut Steps,
        number: usize,
        own: &Own<'_>,
        held: &[(usize, Tree)],
    ) -> Result<(), PlanError> {
        let tree = held.iter().find(|(held, _)| *held == number).map(|(_, tree)| *tree);
        let target = path(&*own.target)?;
        if let Some(above) = &own.above {
            self.nested_mount_point(steps, above, own)?;
        }
        match own.what {
            What::Volume(_) => {
                let tree = tree.expect("it was taken hold of");
                // Parked, it has its own already.
                let attributes = if self.spec.read_only { 0 } else { attributes_of(own) };
                steps.attach_beneath(tree, &target, attributes);
            }
            What::Tmpfs(entry) => {
                steps.enter(&target);
                self.tmpfs(steps, &target, entry)?;
            }
            What::OfImage => {
                let lower = path(format!("{PARKING}/l{number}"))?;
                steps.directory(&lower, 0o755);
                if let Some(tree) = tree {
                    steps.attach(tree, &lower, attributes_of(own));
                }
                steps.enter(&target);
                self.private_overlay(steps, number, &lower, c".")?;
            }
        }
        Ok(())
    }

    /// Makes what is missing between a mount and the place of one within it.
    ///
    /// SECURITY: programs may have written there. No link is followed on the way.
    fn nested_mount_point(&self, steps: &mut Steps, above: &str, own: &Own<'_>) -> Result<(), PlanError> {
        let mut at = above.to_owned();
        let mut parts = own.target[above.len()..].split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            steps.enter(&path(&*at)?);
            match parts.peek().is_some() || own.is_directory() {
                true => steps.directory(&path(part)?, 0o755),
                false => steps.file(&path(part)?, b""),
            }
            at = format!("{at}/{part}");
        }
        Ok(())
    }

    /// Where the steps are; `target` is what that is called.
    fn tmpfs(&self, steps: &mut Steps, target: &CStr, entry: &str) -> Result<(), PlanError> {
        let (_, options) = entry.split_once(':').unwrap_or((entry, ""));
        let (flags, mut rest) = tmpfs_options(options);
        if !rest.split(',').any(|option| option.starts_with("mode=")) {
            rest = if rest.is_empty() { "mode=1777".to_owned() } else { format!("{rest},mode=1777") };
        }
        steps.mount_here(c"tmpfs", target, flags, &self.memory_options(&rest)?);
        Ok(())
    }

    /// The directories that the image declares as volumes: each sandbox has them as they are in the image, and may
    /// write to them. Those that lie in another mount come later.
    fn image_volumes(&self, steps: &mut Steps) -> Result<(), PlanError> {
        let mut volumes = self.own.iter().enumerate().filter(|(_, own)| own.is_in_image()).peekable();
        if !self.spec.read_only || volumes.peek().is_none() {
            return Ok(());
        }
        self.begin_overlays(steps)?;
        for (number, own) in volumes {
            // SECURITY: where it was found to be, with no link on the way.
            let volume = path(&*own.target)?;
            self.private_overlay(steps, number, &volume, &volume)?;
        }
        steps.unmount(SCRATCH);
        Ok(())
    }

    /// Where the message queues will be, or are, until it is unmounted: nothing of it is in sight when the program starts.
    fn begin_overlays(&self, steps: &mut Steps) -> Result<(), PlanError> {
        steps.mount(c"volumes", SCRATCH, c"tmpfs", NO_SUID_DEV, &self.memory_options("mode=755")?);
        Ok(())
    }

    fn private_overlay(
        &self,
        steps: &mut Steps,
        number: usize,
        lower: &CStr,
        target: &CStr,
    ) -> Result<(), PlanError> {
        let (upper, work) = (path(format!("{PARKING}/u{number}"))?, path(format!("{PARKING}/w{number}"))?);
        steps.directory(&upper, 0o755);
        steps.directory(&work, 0o755);
        self.mount_overlay(steps, lower, &upper, &work, target, NO_SUID_DEV)
    }

    /// Where sandboxes will mount something of their own.
    fn private_directories(&self) -> impl Iterator<Item = &str> {
        let own = self.own.iter().filter(|own| own.above.is_none() && !matches!(own.what, What::Volume(_)));
        ["/proc"].into_iter().chain(own.map(|own| &*own.target))
    }

    /// Whether a file can be mounted at a path: there is one, or one can be made. A link that leads nowhere is neither.
    fn can_have_file(&self, path: &str) -> bool {
        let writable = !self.spec.read_only;
        match (self.rootfs.find(path), self.rootfs.find_itself(path)) {
            (Found::Other, _) => true,
            (Found::Nothing, Found::Nothing) => writable,
            _ => false,
        }
    }

    fn has_every_mount_point(&self) -> bool {
        let directories = ["/dev", "/sys"].into_iter().chain(self.private_directories());
        let mut volumes =
            self.own.iter().filter(|own| own.above.is_none() && matches!(own.what, What::Volume(_)));
        directories.into_iter().all(|path| self.rootfs.find(path) == Found::Directory)
            && volumes.all(|volume| self.rootfs.has(&volume.target))
    }

    /// Whether the root file system is as it lies on the disk, with no place to make a mount point in: a directory of
    /// somebody's, who may change it while it is used, which an overlay need not show. And an image's, where overlays of its
    /// volumes would lie upon two others: the kernel takes no third (`FILESYSTEM_MAX_STACK_DEPTH`).
    fn is_bare(&self) -> bool {
        let is_third =
            || self.own.iter().any(|own| matches!(own.what, What::OfImage)) && self.rootfs.is_overlay();
        let is_kept = match self.spec.root {
            Root::Machine { .. } => false,
            Root::Directory { .. } => true,
            Root::Image(_) => is_third(),
        };
        is_kept && self.spec.read_only && self.has_every_mount_point()
    }

    /// Makes a mount point, where the root is one that can be written to.
    fn mount_point(&self, steps: &mut Steps, target: &CStr, is_directory: bool) {
        let text = target.to_string_lossy();
        if self.is_bare() || self.rootfs.has(&text) {
            return;
        }
        for (at, _) in text.match_indices('/').skip(1) {
            steps.directory(&c_string(&text[..at]).expect("it came from one"), 0o755);
        }
        match is_directory {
            true => steps.directory(target, 0o755),
            false => steps.file(target, b""),
        }
    }
}

enum Device {
    Made(u32, u32),
    Copied(Tree),
}

/// What a volume is restricted by.
fn attributes_of(own: &Own<'_>) -> u64 {
    let read_only = match own.what {
        What::Volume(volume) => volume.read_only,
        What::Tmpfs(_) => false,
        // What is below an overlay.
        What::OfImage => true,
    };
    attribute::NO_SUID | attribute::NO_DEV | if read_only { attribute::READ_ONLY } else { 0 }
}

/// A path as an option of overlayfs, in which colons and commas separate.
fn escaped(path: &CStr) -> Vec<u8> {
    path.to_bytes().iter().fold(Vec::new(), |mut out, byte| {
        if matches!(byte, b':' | b',' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
        out
    })
}

/// Splits Docker's options of a tmpfs into flags, and what the file system itself reads.
fn tmpfs_options(options: &str) -> (u64, String) {
    let mut flags = NO_SUID_DEV_EXEC;
    let mut rest = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" | "defaults" => flags &= !libc::MS_RDONLY,
            "ro" => flags |= libc::MS_RDONLY,
            "suid" => flags &= !libc::MS_NOSUID,
            "nosuid" => flags |= libc::MS_NOSUID,
            "dev" => flags &= !libc::MS_NODEV,
            "nodev" => flags |= libc::MS_NODEV,
            "exec" => flags &= !libc::MS_NOEXEC,
            "noexec" => flags |= libc::MS_NOEXEC,
            "sync" => flags |= libc::MS_SYNCHRONOUS,
            "noatime" => flags |= libc::MS_NOATIME,
            "nodiratime" => flags |= libc::MS_NODIRATIME,
            "relatime" => flags |= libc::MS_RELATIME,
            "strictatime" => flags |= libc::MS_STRICTATIME,
            other => rest.push(other),
        }
    }
    (flags, rest.join(","))
}

fn too_many(error: TooManyTrees) -> PlanError {
    PlanError::refused("putting the container together").because(error)
}

fn path(text: impl Into<Vec<u8>>) -> Result<CString, PlanError> {
    c_string(text).map_err(|error| PlanError::refused("a path of the container").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_tmpfs_are_flags_or_its_own() {
        assert_eq!(tmpfs_options(""), (NO_SUID_DEV_EXEC, String::new()));
        assert_eq!(tmpfs_options("size=64m,exec,mode=700"), (NO_SUID_DEV, "size=64m,mode=700".into()));
        assert_eq!(tmpfs_options("ro").0, NO_SUID_DEV_EXEC | libc::MS_RDONLY);
    }
}
