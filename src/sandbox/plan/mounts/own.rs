//! A program's own mounts: volumes, file systems in memory, what its image declares as volumes; in the order in which
//! they are made. The deeper one is made later, as Docker does it, so that it is the one that is seen.

use std::path::{Component, Path, PathBuf};

use super::super::THE_KERNELS;
use crate::sandbox::rootfs::Rootfs;
use crate::sandbox::spec::{Spec, Volume};

/// Memory that each sandbox has, and in which a program may want something mounted.
const SHARED_MEMORY: &str = "/dev/shm";

/// Where sandboxes find what they hide other things behind, and put together what lies in memory. SECURITY: what is mounted
/// over it comes last, and into each sandbox: a link in an image, or in a directory, may lead there.
pub(super) const DEVICES: &str = "/dev";

/// What is mounted.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    /// Of the host's.
    Volume(&'a Volume),
    /// A file system in memory, as the program's `tmpfs` says it.
    Tmpfs(&'a str),
    /// What the image has there, writable.
    OfImage,
}

/// One of a program's mounts.
#[derive(Debug)]
pub(super) struct Own<'a> {
    pub(super) what: What<'a>,
    /// Where it is, as it was given.
    pub(super) given: &'a str,
    /// Where that is: links in the root file system are followed, and nothing that is mounted there.
    pub(super) target: String,
    /// The place of the next one above it. SECURITY: then its own place is in something that programs may have written
    /// to, and no link on the way is to be followed.
    pub(super) above: Option<String>,
    /// Whether each sandbox has one of its own. Else what a slot has is for all of its sandboxes.
    pub(super) private: bool,
}

impl Own<'_> {
    /// Whether it is mounted when all else is.
    pub(super) fn is_last(&self) -> bool {
        Path::new(&self.target).starts_with(DEVICES)
    }

    pub(super) fn is_directory(&self) -> bool {
        match self.what {
            What::Volume(volume) => volume.is_directory,
            What::Tmpfs(_) | What::OfImage => true,
        }
    }

    /// Whether it is a volume of the image's whose place is in the image itself.
    pub(super) fn is_in_image(&self) -> bool {
        matches!(self.what, What::OfImage) && self.above.is_none()
    }
}

/// All of a program's mounts, in the order in which they are made.
pub(super) fn in_order<'a>(spec: &'a Spec, rootfs: &Rootfs) -> Vec<Own<'a>> {
    let volumes = spec.volumes.iter().map(|volume| (What::Volume(volume), &*volume.target));
    let tmpfs = spec.tmpfs.iter().map(|entry| (What::Tmpfs(entry), entry.split(':').next().unwrap_or(entry)));
    let of_image = spec.image_volumes.iter().map(|target| (What::OfImage, &**target));
    let all = volumes.chain(tmpfs).chain(of_image).map(|(what, given)| (what, given, clean(given)));
    let mut placed = Vec::new();
    for (what, given, target) in targets(all.collect(), rootfs) {
        let above = placed.iter().rev().find(|own: &&Own<'_>| target.starts_with(&own.target));
        if matches!(what, What::OfImage) {
            let is_taken = above.is_some_and(|own| target == Path::new(&own.target));
            // SECURITY: an overlay reads what is below it with the engine's own rights. Of the kernel's file systems it
            // would show what is hidden there.
            let is_kernels =
                target == Path::new("/") || THE_KERNELS.iter().any(|place| target.starts_with(place));
            if is_taken || is_kernels {
                continue;
            }
        }
        let in_memory = target.starts_with(SHARED_MEMORY).then(|| SHARED_MEMORY.to_owned());
        let own = Own {
            what,
            given,
            private: !matches!(what, What::Volume(_))
                || target.starts_with(DEVICES)
                || above.is_some_and(|own| own.private),
            above: above.map(|own| own.target.clone()).or(in_memory),
            target: target.to_string_lossy().into_owned(),
        };
        placed.push(own);
    }
    placed
}

/// Where each is, by depth. Of two at one place, the image's comes last.
fn targets<'a>(
    mut all: Vec<(What<'a>, &'a str, PathBuf)>,
    rootfs: &Rootfs,
) -> Vec<(What<'a>, &'a str, PathBuf)> {
    let depth = |path: &Path| path.components().count();
    all.sort_by_key(|(.., path)| depth(path));
    let mut known: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (.., path) in &mut all {
        // From the nearest that is above it by name, names mean what they mean in that one, not in the root.
        let outer = known.iter().rev().find(|(above, _)| path.starts_with(above));
        let target = match outer {
            Some((above, target)) => path.strip_prefix(above).unwrap_or(Path::new("")).components().fold(
                target.clone(),
                |mut target, part| {
                    target.push(part);
                    target
                },
            ),
            None => real(rootfs, path),
        };
        known.push((std::mem::replace(path, target.clone()), target));
    }
    all.sort_by_key(|(what, _, target)| (depth(target), matches!(what, What::OfImage)));
    all
}

/// A path without `.`, `..` and slashes that mean nothing.
fn clean(path: &str) -> PathBuf {
    Path::new(path).components().fold(PathBuf::from("/"), |mut clean, part| {
        match part {
            Component::ParentDir => _ = clean.pop(),
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
        clean
    })
}

/// Where a path leads to in the root file system, as far as there is anything.
fn real(rootfs: &Rootfs, path: &Path) -> PathBuf {
    for known in path.ancestors() {
        if let Some(found) = known.to_str().and_then(|known| rootfs.real_path(known)) {
            let rest = path.strip_prefix(known).unwrap_or(Path::new(""));
            // Joined with nothing, it would end in a slash.
            return if rest.as_os_str().is_empty() { found } else { found.join(rest) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sandbox::spec::{Limits, Network, Root};

    fn spec(volumes: &[&str], tmpfs: &[&str], of_image: &[&str]) -> Spec {
        let volume = |target: &&str| Volume {
            source: "/srv".into(),
            identity: (0, 0),
            target: (*target).to_owned(),
            read_only: false,
            is_directory: true,
        };
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Spec {
            name: "x".to_owned(),
            root: Root::Image("/".into()),
            user: String::new(),
            read_only: true,
            network: Network::Own,
            listen: Vec::new(),
            tmpfs: strings(tmpfs),
            volumes: volumes.iter().map(volume).collect(),
            image_volumes: strings(of_image),
            cap_add: Vec::new(),
            init: true,
            limits: Limits::default(),
        }
    }

    /// Each as `TARGET`, with `<ABOVE` and `*` where it is private, in order.
    fn order(spec: &Spec) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "run", "sys", "var", "srv/x"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        symlink("../run", folder.path().join("var/run")).unwrap();
        symlink("/sys", folder.path().join("kernels")).unwrap();
        let show = |own: Own<'_>| {
            let above = own.above.map(|above| format!("<{above}")).unwrap_or_default();
            format!("{}{above}{}", own.target, if own.private { "*" } else { "" })
        };
        in_order(spec, &Rootfs::open(folder.path()).unwrap()).into_iter().map(show).collect()
    }

    #[test]
    fn the_deeper_one_comes_later_whatever_it_is() {
        assert_eq!(
            order(&spec(&["/tmp/x", "/data"], &["/data/cache", "/tmp"], &["/tmp/x/y", "/srv"])),
            ["/data", "/tmp*", "/srv*", "/tmp/x</tmp*", "/data/cache</data*", "/tmp/x/y</tmp/x*"]
        );
    }

    #[test]
    fn volumes_within_volumes_are_for_all_sandboxes() {
        assert_eq!(order(&spec(&["/data/a//b/", "/data"], &[], &[])), ["/data", "/data/a/b</data"]);
    }

    #[test]
    fn a_link_in_the_root_is_followed_and_one_behind_a_mount_is_not() {
        assert_eq!(order(&spec(&["/run/x"], &["/var/run"], &[])), ["/run*", "/run/x</run*"]);
        assert_eq!(order(&spec(&["/var/run/x"], &["/var"], &[])), ["/var*", "/var/run/x</var*"]);
    }

    #[test]
    fn a_volume_of_an_image_is_left_out_where_the_program_has_its_own_or_the_kernel_has() {
        assert_eq!(order(&spec(&["/data"], &[], &["/data/", "/kernels", "/sys/firmware"])), ["/data"]);
    }

    #[test]
    fn what_lands_on_the_devices_is_each_sandboxes() {
        assert_eq!(
            order(&spec(&["/dev", "/devices", "/dev/x"], &[], &[])),
            ["/dev*", "/devices", "/dev/x</dev*"]
        );
    }

    #[test]
    fn what_is_in_shared_memory_comes_after_it() {
        assert_eq!(order(&spec(&["/dev/shm/x"], &[], &[])), ["/dev/shm/x</dev/shm*"]);
    }
}
