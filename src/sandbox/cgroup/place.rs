//! Where a controller's tree is mounted, and this instance's own directory in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Controller, Version, v1, v2};
use crate::instance::{Instance, Liveness};

/// Where a controller's tree is mounted, and where in it this process is.
pub(super) struct Place {
    version: Version,
    mount: PathBuf,
    own: PathBuf,
}

pub(super) fn find(controller: Controller, mounts: &str, own: &str) -> Result<Place, String> {
    let first = find_in(controller, Version::One, mounts, own);
    first
        .or_else(|| find_in(controller, Version::Two, mounts, own))
        .ok_or_else(|| format!("the kernel has no `{}` controller mounted", controller.name()))
}

fn find_in(controller: Controller, version: Version, mounts: &str, own: &str) -> Option<Place> {
    // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, …, `-`, type, source, super options.
    let (root, mount) = mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let kind = tail.next()?;
        let options = tail.nth(1)?;
        let matches = match version {
            Version::One => v1::is_mount(kind, options, controller),
            Version::Two => v2::is_mount(kind),
        };
        let mut head = head.split(' ').skip(3);
        matches.then_some((head.next()?, head.next()?))
    })?;
    // cgroups(7): hierarchy, controllers, path.
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let matches = match version {
            Version::One => v1::is_hierarchy(controllers, controller),
            Version::Two => v2::is_hierarchy(controllers),
        };
        matches.then_some(path)
    })?;
    let mount = PathBuf::from(mount);
    let inside = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    let own = if inside.is_empty() { mount.clone() } else { mount.join(inside) };
    if version == Version::Two && !v2::has(&mount, controller) {
        return None;
    }
    Some(Place { version, mount, own })
}

impl Place {
    /// Makes this instance's directory, where the controller counts.
    pub(super) fn prepare(
        self,
        controller: Controller,
        instance: &Instance,
        name: &str,
    ) -> Result<(Version, PathBuf), String> {
        let mut refusal = String::new();
        let candidates = match (self.version, self.own == self.mount) {
            // The root of a tree may be divided and have processes.
            (_, true) => vec![self.own.clone()],
            // Where our own group is not ours to divide, a system administrator may still use the whole tree.
            (Version::One, _) => vec![self.own.clone(), self.mount.clone()],
            // A group of version 2 that has processes cannot be divided: cgroups(7), "no internal processes". A service
            // manager that hands one over puts the service into a group below it, or leaves that to the service.
            (Version::Two, _) => {
                let mut candidates: Vec<_> = self.own.parent().map(Path::to_owned).into_iter().collect();
                candidates.push(self.mount.clone());
                if v2::is_delegated(&self.own) {
                    match v2::step_aside(&self.own) {
                        Ok(()) => candidates.insert(0, self.own.clone()),
                        Err(error) => refusal = format!("{}: {error}", self.own.display()),
                    }
                }
                candidates
            }
        };
        for base in candidates {
            let prepare = || prepare_below(&base, self.version, controller, instance, name);
            // Who ends in the same moment, and is the last, removes what all share.
            let is_removed = |result: &io::Result<_>| {
                result.as_ref().is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::NotFound)
            };
            let prepared = (1..PREPARE_TRIES).map(|_| prepare()).find(|result| !is_removed(result));
            match prepared.unwrap_or_else(prepare) {
                Ok(folder) => return Ok((self.version, folder)),
                Err(error) if refusal.is_empty() => refusal = format!("{}: {error}", base.display()),
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}

/// How often the directory that instances share is made again where it goes meanwhile.
const PREPARE_TRIES: u32 = 5;

fn prepare_below(
    base: &Path,
    version: Version,
    controller: Controller,
    instance: &Instance,
    name: &str,
) -> io::Result<PathBuf> {
    let shared = base.join("dcgi");
    let folder = shared.join(name);
    if version == Version::Two {
        v2::enable(base, controller)?;
    }
    make(&shared)?;
    if version == Version::Two {
        v2::enable(&shared, controller)?;
    }
    sweep(&shared, instance);
    make(&folder)?;
    if version == Version::Two {
        v2::enable(&folder, controller)?;
    }
    Ok(folder)
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Removes what dead instances have left. Their processes have ended with them, as a rule; what has got away from that is
/// killed, and its group removed the next time.
pub(super) fn sweep(shared: &Path, instance: &Instance) {
    for entry in fs::read_dir(shared).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let other = name.to_str().and_then(|name| Instance::parse(name.split_once('-')?.0));
        let dead = other.is_some_and(|other| match instance.liveness_of(&other) {
            Liveness::Dead => true,
            Liveness::Alive => false,
            // Groups do not survive a boot: it is in another PID namespace, and its own to clear.
            Liveness::Unknown => false,
        });
        if dead {
            for group in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                if group.path().is_dir() && !super::removed(&group.path()) {
                    super::kill(&group.path());
                }
            }
            _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 /outer /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const HYBRID_OWN: &str = "4:memory:/outer/inner\n1:cpu,cpuacct:/\n0::/x\n";

    #[test]
    fn a_controller_of_version_1_is_found_in_its_own_tree() {
        let place = find(Controller::Cpu, HYBRID_MOUNTS, HYBRID_OWN).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((place.version, place.own.to_str()), (Version::One, Some("/sys/fs/cgroup/cpu")));
        let place = find(Controller::Memory, HYBRID_MOUNTS, HYBRID_OWN).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(place.own.to_str(), Some("/sys/fs/cgroup/memory/inner"));
    }

    #[test]
    fn a_controller_that_is_nowhere_is_named() {
        let why = find(Controller::Pids, "", "").err().unwrap();
        assert_eq!(why, "the kernel has no `pids` controller mounted");
    }
}
