//! Whether a program's user can write where its volumes let it.
//!
//! By owner, group and permission bits, of what is on this machine: access control lists, and what an engine elsewhere has,
//! are not seen. So it is a warning.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

use dcgi::engine::embedded::RootUser;
use dcgi::engine::{Program, Volume};

/// Whom a program runs as, as the kernel counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    /// `None`: only its image knows.
    groups: Option<Vec<u32>>,
}

/// The volumes of a program that are not read-only, and that its user cannot write to: each as a sentence. `known` is who
/// that is, where a root directory says it.
pub(super) fn refused(program: &Program, known: Option<RootUser>) -> Vec<String> {
    // As anybody else, dcgi maps users by what it was given: what is root inside is not root here.
    let privileged = |name: &String| matches!(name.as_str(), "ALL" | "DAC_OVERRIDE");
    if !rustix::process::geteuid().is_root() || program.cap_add.iter().any(privileged) {
        return Vec::new();
    }
    let known = known.map(|RootUser { uid, gid, mut groups }| {
        groups.insert(0, gid);
        User { uid, groups: Some(groups) }
    });
    let Some(user) = known.or_else(|| numbered(program.user.as_deref()?)) else { return Vec::new() };
    let writable = program.volumes.iter().filter_map(|volume| match volume {
        Volume::Bind { source, target, read_only: false } => Some((source, target)),
        _ => None,
    });
    let refused = writable.filter_map(|(source, target)| {
        let found = fs::metadata(source).ok()?;
        (!user.may_write(&found)).then(|| {
            let group = user.groups.as_ref().and_then(|groups| groups.first());
            format!(
                "its user {}{} cannot write to the volume at {target}: {} is {}:{}'s, with mode {:04o}; `chown` it, or \
                 say `:ro` where nothing is to be written",
                user.uid,
                group.map_or_else(String::new, |group| format!(":{group}")),
                source.display(),
                found.uid(),
                found.gid(),
                found.mode() & 0o7777
            )
        })
    });
    refused.collect()
}

/// A user in numbers, of whom nothing else has to be known.
fn numbered(user: &str) -> Option<User> {
    let (uid, gid) = match user.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (user, None),
    };
    let groups = match gid {
        Some(gid) => Some(vec![gid.parse().ok()?]),
        None => None,
    };
    Some(User { uid: uid.parse().ok()?, groups })
}

impl User {
    /// By the bits of whichever of owner, group and others it is. To make files in a directory takes going into it too.
    fn may_write(&self, file: &Metadata) -> bool {
        let needed = if file.is_dir() { 0o3 } else { 0o2 };
        let may = |shift: u32| (file.mode() >> shift) & needed == needed;
        let is_in_group = self.groups.as_ref().map(|groups| groups.contains(&file.gid()));
        match is_in_group {
            _ if self.uid == file.uid() => may(6),
            Some(true) => may(3),
            Some(false) => may(0),
            None => may(3) || may(0),
        }
    }
}
