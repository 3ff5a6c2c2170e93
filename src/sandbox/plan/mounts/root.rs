//! What becomes a container's root.

use std::ffi::CStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::own::What;
use super::{DEVICES, Device, Held, Mounts, NO_SUID_DEV, attributes_of, escaped, path, too_many};
use crate::sandbox::error::PlanError;
use crate::sandbox::launcher::{Steps, Tree, attribute};
use crate::sandbox::machine::{APART, EMPTY, PARTS};
use crate::sandbox::spec::Root;

/// `/etc/resolv.conf` of a machine whose resolver writes it elsewhere is a link to that.
const RESOLV: &str = "/etc/resolv.conf";

impl Mounts<'_> {
    /// Makes the root file system the root, with all in it that sandboxes may share. Gives what they mount themselves,
    /// where they do all this.
    pub(super) fn root(&self, steps: &mut Steps) -> Result<Held, PlanError> {
        let mut held = Vec::new();
        for (number, own) in self.own.iter().enumerate() {
            if let What::Volume(volume) = own.what {
                let source = path(volume.source.as_os_str().as_bytes())?;
                held.push((number, steps.copy_mount_of(&source, volume.identity).map_err(too_many)?));
            }
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
        let resolver = match self.resolver() {
            Some(target) => Some((steps.copy_mount(c"/etc/resolv.conf", false).map_err(too_many)?, target)),
            None => None,
        };
        // In a user namespace, the kernel gives a fresh /proc only to who sees one already. It is mounted over by each
        // sandbox's own.
        let witness = match self.host.is_root() {
            true => None,
            false => Some(steps.copy_mount(c"/proc", true).map_err(too_many)?),
        };

        match &self.spec.root {
            Root::Image(root) => self.directory_root(steps, root)?,
            Root::Directory { path: root, identity } => {
                steps.check(&path(root.as_os_str().as_bytes())?, *identity);
                self.directory_root(steps, root)?;
            }
            Root::Machine { .. } => self.machine(steps)?,
        }
        for (number, own) in self.own.iter().enumerate() {
            // Before it is hidden.
            if matches!(own.what, What::OfImage) && self.is_held(own) {
                held.push((number, steps.copy_mount(&path(&*own.target)?, false).map_err(too_many)?));
            }
        }
        let (later, now): (Held, Held) =
            held.into_iter().partition(|(number, _)| self.is_held(&self.own[*number]));
        if let Some(witness) = witness {
            self.mount_point(steps, c"/proc", true);
            steps.attach(witness, c"/proc", attribute::READ_ONLY);
        }

        self.devices(steps, &devices, if self.spec.read_only { &later } else { &[] })?;
        self.sysfs(steps);
        if let Root::Machine { hidden } = &self.spec.root {
            for hidden in hidden {
                // The kernel's own empty ones: see `devices`.
                steps.mask(&path(hidden.as_os_str().as_bytes())?, c"/dev/null", c"/dev/shm");
            }
        }
        if let Some((resolver, target)) = resolver {
            let target = path(target.as_os_str().as_bytes())?;
            self.mount_point(steps, &target, false);
            steps.attach(resolver, &target, attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV);
        }
        self.shared_mounts(steps, &now)?;
        for target in self.private_directories() {
            self.mount_point(steps, &path(target)?, true);
        }
        // Set-user-id programs have no effect in here anyway, and devices are in /dev.
        let read_only = if self.spec.read_only { attribute::READ_ONLY } else { 0 };
        steps.restrict(c"/", read_only | attribute::NO_SUID | attribute::NO_DEV);
        Ok(later)
    }

    /// What of the program's own all of a slot's sandboxes may share.
    fn shared_mounts(&self, steps: &mut Steps, trees: &[(usize, Tree)]) -> Result<(), PlanError> {
        for (number, tree) in trees {
            let own = &self.own[*number];
            match &own.above {
                None => {
                    let target = path(&*own.target)?;
                    self.mount_point(steps, &target, own.is_directory());
                    steps.attach_beneath(*tree, &target, attributes_of(own));
                }
                Some(above) => {
                    self.nested_mount_point(steps, above, own)?;
                    steps.attach_beneath(*tree, &path(&*own.target)?, attributes_of(own));
                }
            }
        }
        if trees.iter().any(|(number, _)| self.own[*number].above.is_some()) {
            steps.enter(c"/");
        }
        Ok(())
    }

    /// A directory as the root, with memory above it: for a root that takes writes, for mount points that it lacks, and, of an
    /// image's, so that its files are a slot's own.
    ///
    /// SECURITY: what is opened through a mount of its own has an inode of its own. Locks, leases and watches on an image's
    /// files, and what else the kernel keeps with an inode, are nobody else's of the same image.
    fn directory_root(&self, steps: &mut Steps, root: &Path) -> Result<(), PlanError> {
        let source = path(root.as_os_str().as_bytes())?;
        if self.is_bare() {
            steps.mount(&source, &source, c"", libc::MS_BIND, c"");
            steps.pivot(&source);
            return Ok(());
        }
        self.overlay(steps, &source)
    }

    /// Parts of this machine in a root of our own, that lies in memory.
    fn machine(&self, steps: &mut Steps) -> Result<(), PlanError> {
        let mut parts = Vec::new();
        for part in PARTS.iter().chain(&APART) {
            match fs::symlink_metadata(part) {
                // Within another part it is there already.
                Ok(found) if found.is_symlink() && APART.contains(part) => {}
                Ok(found) if found.is_symlink() => {
                    let target = fs::read_link(part).unwrap_or_default();
                    parts.push((*part, Part::Link(target)));
                }
                Ok(found) if found.is_dir() => {
                    let source = path(*part)?;
                    // What else is mounted below it is not asked for; an ordinary user cannot have the one without the
                    // other: mount_namespaces(7).
                    let tree = steps.copy_mount(&source, !self.host.is_root()).map_err(too_many)?;
                    // SECURITY: root inside is the owner of files that are no program's business.
                    steps.disown(tree, &source, self.is_unprivileged || !self.host.is_root());
                    parts.push((*part, Part::Tree(tree)));
                }
                _ => {}
            }
        }
        let scratch = self.host.scratch();
        let below = |name: &str| path([scratch.to_bytes(), name.as_bytes()].concat());
        steps.mount(c"root", scratch, c"tmpfs", NO_SUID_DEV, &self.memory_options("mode=755")?);
        for (part, what) in &parts {
            let place = below(part)?;
            match what {
                Part::Link(target) => steps.link(&path(target.as_os_str().as_bytes())?, &place),
                Part::Tree(tree) => {
                    if !APART.contains(part) {
                        steps.directory(&place, 0o755);
                    }
                    steps.attach(
                        *tree,
                        &place,
                        attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV,
                    );
                }
            }
        }
        for empty in EMPTY {
            steps.directory(&below(empty)?, 0o755);
        }
        steps.link(c"../run", &below("/var/run")?);
        steps.pivot(scratch);
        for own in self.own.iter().filter(|own| own.above.is_none()) {
            let at = Path::new(own.given);
            if let Root::Machine { hidden } = &self.spec.root
                && let Some(hidden) = hidden.iter().find(|hidden| at != *hidden && at.starts_with(hidden))
            {
                return Err(PlanError::refused(format!(
                    "{} lies in {}, of which a program sees nothing where this machine is its root, so that nothing can be mounted \
                     there: put it elsewhere, such as below /srv",
                    own.given,
                    hidden.display()
                )));
            }
            if PARTS.iter().any(|part| at.starts_with(part)) && !self.rootfs.has(own.given) {
                return Err(PlanError::refused(format!(
                    "there is no {} on this machine to mount something at: make it, or mount it elsewhere",
                    own.given
                )));
            }
        }
        Ok(())
    }

    /// Where the host's resolver is to be told of, if anywhere.
    fn resolver(&self) -> Option<PathBuf> {
        if self.own_network || !self.host.has_resolver() || self.own.iter().any(|own| own.target == RESOLV) {
            return None;
        }
        if let Root::Machine { .. } = self.spec.root {
            // Where the link leads to, in a directory that is empty here.
            return fs::canonicalize(RESOLV)
                .ok()
                .filter(|real| self.rootfs.has(RESOLV) || EMPTY.iter().any(|empty| real.starts_with(empty)));
        }
        self.can_have_file(RESOLV).then(|| RESOLV.into())
    }

    /// What is given below, memory above.
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

    pub(super) fn mount_overlay(
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
}

/// A part of this machine.
enum Part {
    Link(PathBuf),
    Tree(Tree),
}
