//! Which mounts a container is put together from, and in which order.
//!
//! 1. Take hold of everything of the host's that will be seen inside (volumes, devices where they cannot be made);
//! 2. make the image's root file system the root, and let go of the host's;
//! 3. only now put things into it: a symbolic link in the image leads to another place in the image, never out of it;
//! 4. make the root read-only.
//!
//! Where the root refuses writes, a slot does that once and its sandboxes add what is private: `/proc`, `/dev/shm` and
//! the like. A root that takes writes is each sandbox's own.

use std::ffi::{CStr, CString};
use std::path::Path;

use super::THE_KERNELS;
use crate::sandbox::error::PlanError;
use crate::sandbox::host::Host;
use crate::sandbox::launcher::{Steps, TooManyTrees, Tree, attribute, c_string};
use crate::sandbox::rootfs::{Found, Rootfs};
use crate::sandbox::spec::Spec;

/// The size of `/dev/shm`: Docker's.
const SHM: &CStr = c"mode=1777,size=65536k";

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

const NO_SUID_DEV: u64 = libc::MS_NOSUID | libc::MS_NODEV;
const NO_SUID_DEV_EXEC: u64 = NO_SUID_DEV | libc::MS_NOEXEC;

/// What is to be mounted, for one kind of container.
pub(super) struct Mounts<'a> {
    pub(super) spec: &'a Spec,
    pub(super) host: &'a Host,
    pub(super) rootfs: Rootfs,
    pub(super) own_network: bool,
}

impl Mounts<'_> {
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
        if !self.spec.read_only {
            self.root(steps)?;
        }
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
        steps.try_mount(
            c"devpts",
            c"/dev/pts",
            libc::MS_NOSUID | libc::MS_NOEXEC,
            c"newinstance,ptmxmode=0666,mode=0620",
        );
        self.host_files(steps);
        for entry in &self.spec.tmpfs {
            self.tmpfs(steps, entry)?;
        }
        Ok(())
    }

    /// Makes the image's root file system the root, with all in it that sandboxes may share.
    fn root(&self, steps: &mut Steps) -> Result<(), PlanError> {
        let source = path(self.spec.root.as_os_str().as_encoded_bytes())?;
        let mut volumes = Vec::new();
        for volume in &self.spec.volumes {
            let source = path(volume.source.as_os_str().as_encoded_bytes())?;
            let tree = steps.copy_mount(&source, true).map_err(too_many)?;
            volumes.push((tree, volume));
        }
        let mut devices = Vec::new();
        for (name, major, minor) in DEVICES {
            if self.host.is_root() {
                devices.push((name, Device::Made(major, minor)));
            } else {
                let tree = steps.copy_mount(&path(format!("/dev/{name}"))?, false).map_err(too_many)?;
                devices.push((name, Device::Copied(tree)));
            }
        }
        let resolver =
            match !self.own_network && self.host.has_resolver() && self.can_have_file("/etc/resolv.conf") {
                true => Some(steps.copy_mount(c"/etc/resolv.conf", false).map_err(too_many)?),
                false => None,
            };
        // In a user namespace, the kernel gives a fresh /proc only to who sees one already. It is mounted over by each
        // sandbox's own.
        let witness = match self.host.is_root() {
            true => None,
            false => Some(steps.copy_mount(c"/proc", true).map_err(too_many)?),
        };

        if self.spec.read_only && self.has_every_mount_point() {
            steps.mount(&source, &source, c"", libc::MS_BIND, c"");
            steps.pivot(&source);
        } else {
            self.overlay(steps, &source)?;
        }
        if let Some(witness) = witness {
            steps.attach(witness, c"/proc", attribute::READ_ONLY);
        }

        self.devices(steps, &devices)?;
        self.sysfs(steps);
        let resolv = c"/etc/resolv.conf";
        if let Some(resolver) = resolver {
            self.mount_point(steps, resolv, false);
            steps.attach(resolver, resolv, attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV);
        }
        for (tree, volume) in volumes {
            let target = path(&*volume.target)?;
            self.mount_point(steps, &target, volume.is_directory);
            let read_only = if volume.read_only { attribute::READ_ONLY } else { 0 };
            steps.attach(tree, &target, read_only | attribute::NO_SUID | attribute::NO_DEV);
        }
        for target in self.private_directories() {
            self.mount_point(steps, &path(target)?, true);
        }
        // Set-user-id programs have no effect in here anyway, and devices are in /dev.
        let read_only = if self.spec.read_only { attribute::READ_ONLY } else { 0 };
        steps.restrict(c"/", read_only | attribute::NO_SUID | attribute::NO_DEV);
        Ok(())
    }

    /// The image below, memory above: for a root that takes writes, or that lacks a mount point.
    fn overlay(&self, steps: &mut Steps, lower: &CStr) -> Result<(), PlanError> {
        let scratch = self.host.scratch();
        let below = |name: &str| path([scratch.to_bytes(), b"/", name.as_bytes()].concat());
        let (upper, work, root) = (below("upper")?, below("work")?, below("root")?);
        steps.mount(c"overlay", scratch, c"tmpfs", NO_SUID_DEV, &self.memory_options("mode=755")?);
        for directory in [&upper, &work, &root] {
            steps.directory(directory, 0o755);
        }
        self.mount_overlay(steps, lower, &upper, &work, &root, 0)?;
        steps.pivot(&root);
        Ok(())
    }

    fn mount_overlay(
        &self,
        steps: &mut Steps,
        lower: &CStr,
        upper: &CStr,
        work: &CStr,
        target: &CStr,
        flags: u64,
    ) -> Result<(), PlanError> {
        let mut options = [b"lowerdir=", &*escaped(lower), b",upperdir=", &*escaped(upper)].concat();
        options.extend([b",workdir=", &*escaped(work)].concat());
        if !self.host.is_root() {
            // An ordinary user may not write the attributes that overlayfs takes otherwise.
            options.extend(b",userxattr");
        }
        steps.mount(c"overlay", target, c"overlay", flags, &path(options)?);
        Ok(())
    }

    /// Options of a tmpfs, with a size where memory has a limit: that of the cgroup may not be there to be enforced.
    fn memory_options(&self, options: &str) -> Result<CString, PlanError> {
        match self.spec.limits.memory {
            Some(bytes) if !options.contains("size=") => path(format!("{options},size={bytes}")),
            _ => path(options),
        }
    }

    fn devices(&self, steps: &mut Steps, devices: &[(&str, Device)]) -> Result<(), PlanError> {
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
        steps.restrict(c"/dev", attribute::READ_ONLY);
        Ok(())
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

    /// `/etc/hosts` and `/etc/hostname`, which say the sandbox's own name. They lie in the memory of `/dev/shm`, and
    /// have no name there any more when the program starts.
    fn host_files(&self, steps: &mut Steps) {
        let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t";
        let restricted = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;
        for (target, own, content) in [
            ("/etc/hosts", c"/dev/shm/hosts", hosts.as_bytes()),
            ("/etc/hostname", c"/dev/shm/hostname", b""),
        ] {
            if !self.can_have_file(target) {
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

    fn tmpfs(&self, steps: &mut Steps, entry: &str) -> Result<(), PlanError> {
        let (target, options) = entry.split_once(':').unwrap_or((entry, ""));
        let (flags, mut rest) = tmpfs_options(options);
        if !rest.split(',').any(|option| option.starts_with("mode=")) {
            rest = if rest.is_empty() { "mode=1777".to_owned() } else { format!("{rest},mode=1777") };
        }
        steps.mount(c"tmpfs", &path(target)?, c"tmpfs", flags, &self.memory_options(&rest)?);
        Ok(())
    }

    /// The directories that the image declares as volumes: each sandbox has them as they are in the image, and may
    /// write to them.
    fn image_volumes(&self, steps: &mut Steps) -> Result<(), PlanError> {
        if !self.spec.read_only {
            return Ok(());
        }
        // Where the message queues will be: nothing of it is in sight when the program starts.
        let scratch = c"/dev/mqueue";
        let mut volumes = self.own_image_volumes().enumerate().peekable();
        if volumes.peek().is_none() {
            return Ok(());
        }
        steps.mount(c"volumes", scratch, c"tmpfs", NO_SUID_DEV, &self.memory_options("mode=755")?);
        for (index, volume) in volumes {
            let (upper, work) = (format!("/dev/mqueue/u{index}"), format!("/dev/mqueue/w{index}"));
            steps.directory(&path(&*upper)?, 0o755);
            steps.directory(&path(&*work)?, 0o755);
            self.mount_overlay(
                steps,
                &path(volume)?,
                &path(upper)?,
                &path(work)?,
                &path(volume)?,
                NO_SUID_DEV,
            )?;
        }
        steps.unmount(scratch);
        Ok(())
    }

    /// The image's volumes, but for those at or below whose place the program has something else: who can write there
    /// could lead the path anywhere.
    fn own_image_volumes(&self) -> impl Iterator<Item = &str> {
        let tmpfs = self.spec.tmpfs.iter().map(|entry| entry.split(':').next().unwrap_or(entry));
        let taken: Vec<_> = tmpfs.chain(self.spec.volumes.iter().map(|volume| &*volume.target)).collect();
        let is_taken = move |volume: &str| taken.iter().any(|target| Path::new(volume).starts_with(target));
        // SECURITY: an overlay reads what is below it with the engine's own rights. Of the kernel's file systems it would
        // show what is hidden there.
        let is_kernels = |volume: &str| {
            let real = self.rootfs.real_path(volume);
            let real = real.as_deref().unwrap_or(Path::new(volume));
            real == Path::new("/")
                || !real.is_absolute()
                || THE_KERNELS.iter().any(|place| real.starts_with(place))
        };
        self.spec
            .image_volumes
            .iter()
            .map(String::as_str)
            .filter(move |volume| !is_taken(volume) && !is_kernels(volume))
    }

    /// Where sandboxes will mount something of their own.
    fn private_directories(&self) -> impl Iterator<Item = &str> {
        let tmpfs = self.spec.tmpfs.iter().map(|entry| entry.split(':').next().unwrap_or(entry));
        ["/proc"].into_iter().chain(tmpfs).chain(self.own_image_volumes())
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
        directories.into_iter().all(|path| self.rootfs.find(path) == Found::Directory)
            && self.spec.volumes.iter().all(|volume| self.rootfs.find(&volume.target) != Found::Nothing)
    }

    /// Makes a mount point, where the root is one that can be written to.
    fn mount_point(&self, steps: &mut Steps, target: &CStr, is_directory: bool) {
        let text = target.to_string_lossy();
        if self.spec.read_only && self.has_every_mount_point() || self.rootfs.find(&text) != Found::Nothing {
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
