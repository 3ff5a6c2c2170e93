//! This machine as a container's root: what of it a program has any business with.
//!
//! The list says what is there, not what is left out, so that a directory which somebody makes tomorrow is not in sight by
//! itself: [`PARTS`], as they are at the moment, read-only, without what else is mounted below them. Of these is hidden
//! what [`Machine::hidden`] finds. All else of the root is the container's own, and empty.
//!
//! # Security
//! Hiding by name is for looks: what comes later is not hidden until it is found. What holds is that the files in here
//! belong to nobody inside (an idmapped mount): so everybody is one of the *others* to them, root included, and the kernel
//! asks for what these may do. Where it cannot have that (a file system without such mounts, an ordinary user), no program
//! runs as root, and the files' own modes say what an unprivileged user may.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is seen of it. A link in the root stays a link.
pub(super) const PARTS: [&str; 9] =
    ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/etc", "/opt"];

/// What of these may well be on a file system of its own.
pub(super) const APART: [&str; 1] = ["/usr/local"];

/// What is there because programs expect it, with nothing in it.
pub(super) const EMPTY: [&str; 2] = ["/run", "/var"];

/// Where configuration lies, and with it secrets: each file is looked at.
const CONFIGURATION: &str = "/etc";

/// Where somebody may have put anything: looked through for sockets now and then. Packages put none into the rest.
const FOREIGN: [&str; 2] = ["/usr/local", "/opt"];

/// dcgi's own, beside what it is told of.
const OWN: &str = "/etc/dcgi";

/// How long it is believed where sockets are.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

/// What others may do: read a file or a directory; go into one.
const READ: u32 = 0o004;
const ENTER: u32 = 0o001;

/// This machine, looked at again and again.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    foreign: Mutex<Option<(Instant, Vec<PathBuf>)>>,
}

impl Machine {
    /// What is to be hidden: of `/etc` what others may not read, and what is neither file nor directory; sockets and the
    /// like elsewhere. Blocks, for some milliseconds.
    pub(crate) fn hidden(&self) -> Vec<PathBuf> {
        let mut hidden = BTreeSet::new();
        walk(Path::new(CONFIGURATION), &in_configuration, &mut hidden);
        hidden.extend(self.foreign());
        hidden.into_iter().collect()
    }

    /// What of these files and directories of dcgi's own is to be hidden too. Blocks.
    pub(crate) fn hidden_of<'a>(&self, own: impl IntoIterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
        let own = own.into_iter().filter_map(|path| fs::canonicalize(path).ok()).chain([PathBuf::from(OWN)]);
        own.filter(|path| is_seen(path) && path.exists() && is_reached(path)).collect()
    }

    /// Sockets and the like where somebody may have put anything.
    fn foreign(&self) -> Vec<PathBuf> {
        let mut known = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known.as_ref().filter(|(when, _)| when.elapsed() < BELIEVED_FOR) {
            return found.clone();
        }
        let mut found = BTreeSet::new();
        for folder in FOREIGN {
            walk(Path::new(folder), &elsewhere, &mut found);
        }
        let found: Vec<_> = found.into_iter().collect();
        *known = Some((Instant::now(), found.clone()));
        found
    }
}

/// Whether a path is in a part that is seen.
pub(crate) fn is_seen(path: &Path) -> bool {
    PARTS.iter().any(|part| path.starts_with(part))
}

fn is_special(kind: fs::FileType) -> bool {
    kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device()
}

/// Whether others may go to where a path is.
fn is_reached(path: &Path) -> bool {
    let may_enter = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.mode() & ENTER != 0);
    path.ancestors().skip(1).all(may_enter)
}

enum Verdict {
    /// It may be seen; a directory is looked into.
    Show,
    Hide,
    /// Nobody can go there anyway.
    Leave,
}

fn in_configuration(entry: &fs::DirEntry) -> Verdict {
    let Ok(metadata) = entry.metadata() else { return Verdict::Leave };
    let kind = metadata.file_type();
    let needed = if kind.is_dir() { READ | ENTER } else { READ };
    match kind.is_symlink() || !is_special(kind) && metadata.mode() & needed == needed {
        true => Verdict::Show,
        false => Verdict::Hide,
    }
}

fn elsewhere(entry: &fs::DirEntry) -> Verdict {
    match entry.file_type() {
        Ok(kind) if is_special(kind) => Verdict::Hide,
        Ok(kind) if kind.is_dir() && entry.metadata().is_ok_and(|found| found.mode() & ENTER == 0) => {
            Verdict::Leave
        }
        Ok(_) => Verdict::Show,
        Err(_) => Verdict::Leave,
    }
}

/// Goes through a directory, but for what is hidden in it. Links are not followed.
fn walk(folder: &Path, judge: &dyn Fn(&fs::DirEntry) -> Verdict, hidden: &mut BTreeSet<PathBuf>) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            // What we may not look into, nobody else is to.
            Err(_) => {
                hidden.insert(folder);
                continue;
            }
        };
        for entry in entries.flatten() {
            match judge(&entry) {
                Verdict::Hide => _ = hidden.insert(entry.path()),
                Verdict::Show if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    folders.push(entry.path());
                }
                Verdict::Show | Verdict::Leave => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_not_read_of_etc_is_hidden_and_the_rest_is_not() {
        let hidden = Machine::default().hidden();
        assert!(hidden.iter().all(|path| is_seen(path)), "{hidden:?}");
        assert!(hidden.contains(&"/etc/shadow".into()) || !Path::new("/etc/shadow").exists(), "{hidden:?}");
        assert!(!hidden.contains(&"/etc/passwd".into()), "{hidden:?}");
    }

    #[test]
    fn what_is_told_as_dcgis_own_is_hidden_where_it_would_be_seen() {
        let own = ["/usr/../usr/lib".into(), "/home".into(), "/nowhere".into()];
        let hidden = Machine::default().hidden_of(&own);
        assert!(hidden.contains(&"/usr/lib".into()), "{hidden:?}");
        assert!(!hidden.iter().any(|path| path.starts_with("/home") || path.starts_with("/nowhere")));
    }
}
