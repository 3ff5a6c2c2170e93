//! Whether a program's user can write where its volumes let it.
//!
//! By owner, group and permission bits, of what is on this machine: access control lists, and what an engine elsewhere has,
//! are not seen. So it is a warning.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

use dcgi::engine::{Program, Volume};

/// Whom a program runs as, as the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
}

/// The volumes of a program that are not read-only, and that its user cannot write to: each as a sentence.
pub(super) fn refused(program: &Program) -> Vec<String> {
    // As anybody else, dcgi maps users by what it was given: what is root inside is not root here.
    let privileged = |name: &String| matches!(name.as_str(), "ALL" | "DAC_OVERRIDE");
    if !rustix::process::geteuid().is_root() || program.cap_add.iter().any(privileged) {
        return Vec::new();
    }
    let Some(user) = user(program) else { return Vec::new() };
    let writable = program.volumes.iter().filter_map(|volume| match volume {
        Volume::Bind { source, target, read_only: false } => Some((source, target)),
        _ => None,
    });
    let refused = writable.filter_map(|(source, target)| {
        let found = fs::metadata(source).ok()?;
        (!user.may_write(&found)).then(|| {
            format!(
                "its user {}:{} cannot write to the volume at {target}: {} is {}:{}'s, with mode {:04o}; `chown` it, or \
                 say `:ro` where nothing is to be written",
                user.uid,
                user.gid,
                source.display(),
                found.uid(),
                found.gid(),
                found.mode() & 0o7777
            )
        })
    });
    refused.collect()
}

/// Whom a program runs as, where that can be told without its image.
fn user(program: &Program) -> Option<User> {
    let (name, group) = match program.user.as_deref()?.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (program.user.as_deref()?, None),
    };
    let file = |name| program.rootfs.as_ref().and_then(|root| fs::read_to_string(root.join(name)).ok());
    let (passwd, groups) = (file("etc/passwd").unwrap_or_default(), file("etc/group").unwrap_or_default());
    let fields = |field: usize| entry(&passwd, name)?.split(':').nth(field)?.parse().ok();
    let gid = match group {
        Some(group) => {
            let listed = entry(&groups, group).and_then(|line| line.split(':').nth(2)?.parse().ok());
            listed.or_else(|| group.parse().ok())?
        }
        None => fields(3).unwrap_or(0),
    };
    Some(User { uid: fields(2).or_else(|| name.parse().ok())?, gid })
}

/// A line of passwd(5) or group(5).
fn entry<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    file.lines().find(|line| line.split(':').next() == Some(name))
}

impl User {
    /// By the bits of whichever of owner, group and others it is. To make files in a directory takes going into it too.
    fn may_write(self, file: &Metadata) -> bool {
        let bits = match self {
            Self { uid, .. } if uid == file.uid() => file.mode() >> 6,
            Self { gid, .. } if gid == file.gid() => file.mode() >> 3,
            _ => file.mode(),
        };
        let needed = if file.is_dir() { 0o3 } else { 0o2 };
        bits & needed == needed
    }
}
