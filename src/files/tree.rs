//! From a path to a file below a directory.
//!
//! A path is walked name by name until a file is met; what follows is that file's own (`PATH_INFO`). Nothing is opened but by
//! `O_PATH`, and nothing outside of the directory at all, unless a link's owner is that of what it leads to: as Apache's
//! `SymLinksIfOwnerMatch`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

/// How editors and administrators call their copies of a file: at the end of its name.
const COPIES: [&str; 7] = ["~", ".bak", ".old", ".orig", ".save", ".swp", ".swo"];

/// A directory whose files are served.
///
/// It is looked up anew for each path: who puts another in its place, or switches a link to it, has that one served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    directory: PathBuf,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file.
    File {
        /// Its path below the directory: a slash in front of each name.
        path: String,
        /// What of the path was left behind it: empty, or a slash and more. As it came.
        rest: Vec<u8>,
    },
    /// A directory.
    Directory {
        /// Its path, as a file's; empty for the served directory itself.
        path: String,
        /// Whether a slash was at the end.
        has_slash: bool,
    },
}

/// Why there is nothing to serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFound {
    /// Nothing of that name is served.
    #[error("{path}: {why}")]
    Missing {
        /// How far the path was walked.
        path: String,
        /// Why it ended there.
        why: &'static str,
    },
    /// It is there, and not for whoever asks.
    #[error("{path}: {why}")]
    Forbidden {
        /// As above.
        path: String,
        /// As above.
        why: &'static str,
    },
    /// The directory itself cannot be had.
    #[error("the directory {} cannot be opened", directory.display())]
    Unusable {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl Tree {
    /// Of the files below a directory: an absolute path.
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// What a path names: decoded and without dot segments, beginning with a slash where it is not empty. A run of slashes
    /// counts as one. Blocks.
    ///
    /// Not served are hidden names, those of editors' copies (`x.cgi~`, `x.cgi.bak`), and those that are no UTF-8.
    ///
    /// # Errors
    /// Why it names nothing.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Found, NotFound> {
        self.walk(path, &mut self.open()?)
    }

    /// The first of these names that is a file in a directory that was [found](Self::find) at `path`. Blocks.
    ///
    /// # Errors
    /// Where the directory cannot be opened, or such a file is there and may not be had.
    pub(crate) fn index(&self, path: &str, names: &[String]) -> Result<Option<String>, NotFound> {
        for name in names {
            let wanted = format!("{path}/{name}");
            match self.find(wanted.as_bytes()) {
                Ok(Found::File { path, rest }) if rest.is_empty() => return Ok(Some(path)),
                Ok(_) | Err(NotFound::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn open(&self) -> Result<Root, NotFound> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&self.directory, flags, Mode::empty());
        let unusable =
            |error: Errno| NotFound::Unusable { directory: self.directory.clone(), error: error.into() };
        Ok(Root { opened: opened.map_err(unusable)?, real: None })
    }

    fn walk(&self, path: &[u8], root: &mut Root) -> Result<Found, NotFound> {
        let mut walked = String::new();
        let mut at: Option<OwnedFd> = None;
        let mut rest = path;
        loop {
            let behind = &rest[rest.iter().take_while(|byte| **byte == b'/').count()..];
            if behind.is_empty() {
                return Ok(Found::Directory { path: walked, has_slash: !rest.is_empty() });
            }
            let end = behind.iter().position(|byte| *byte == b'/').unwrap_or(behind.len());
            let (name, after) = behind.split_at(end);
            let is_missing = |why| NotFound::Missing { path: format!("{walked}/{}", shown(name)), why };
            let Ok(text) = std::str::from_utf8(name) else {
                return Err(is_missing("a name that is no UTF-8 is not served"));
            };
            if let Some(why) = unserved(text) {
                return Err(is_missing(why));
            }
            let parent = at.as_ref().map_or(root.opened.as_fd(), AsFd::as_fd);
            let opened = look(parent, name).and_then(|opened| Ok((fstat(&opened)?, opened)));
            walked = format!("{walked}/{text}");
            let (mut found, mut opened) = opened.map_err(|error| refused(&walked, error))?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                (found, opened) = root.follow(&walked, &found)?;
            }
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => at = Some(opened),
                FileType::RegularFile => return Ok(Found::File { path: walked, rest: after.to_owned() }),
                _ => return Err(forbidden(&walked, "it is neither a file nor a directory")),
            }
            rest = after;
        }
    }
}

/// The directory, opened.
struct Root {
    opened: OwnedFd,
    /// Its real path, where somebody has asked.
    real: Option<PathBuf>,
}

impl Root {
    /// What the link at a path leads to: within the directory, or whose owner is the link's.
    fn follow(&mut self, path: &str, link: &Stat) -> Result<(Stat, OwnedFd), NotFound> {
        let relative = path.trim_start_matches('/');
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = match openat2(&self.opened, relative, flags, Mode::empty(), inside) {
            // It leads out of it, or back by an absolute path.
            Err(Errno::XDEV) => {
                let outside =
                    openat2(&self.opened, relative, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
                outside.and_then(|opened| Ok((fstat(&opened)?, opened)))
            }
            opened => {
                let opened = opened.and_then(|opened| Ok((fstat(&opened)?, opened)));
                return opened.map_err(|error| refused(path, error));
            }
        };
        let (found, opened) = opened.map_err(|error| refused(path, error))?;
        if found.st_uid == link.st_uid || self.holds(opened.as_fd()) {
            return Ok((found, opened));
        }
        Err(forbidden(
            path,
            "it is a link out of the directory, and whose it is does not own what it leads to",
        ))
    }

    /// Whether what was opened lies in it.
    fn holds(&mut self, opened: BorrowedFd<'_>) -> bool {
        let Ok(found) = real_path(opened) else { return false };
        if self.real.is_none() {
            self.real = real_path(self.opened.as_fd()).ok();
        }
        self.real.as_ref().is_some_and(|real| found.starts_with(real))
    }
}

/// Opens a name in a directory, a link as itself.
fn look(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn real_path(opened: BorrowedFd<'_>) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

/// Why a name is not served, whatever is there.
fn unserved(name: &str) -> Option<&'static str> {
    if name.starts_with('.') {
        return Some("a hidden name is not served");
    }
    let lower = name.to_ascii_lowercase();
    let is_copy =
        COPIES.iter().any(|end| lower.ends_with(end)) || name.starts_with('#') && name.ends_with('#');
    is_copy.then_some("an editor's or administrator's copy is not served")
}

fn refused(path: &str, error: Errno) -> NotFound {
    let path = path.to_owned();
    match error {
        Errno::NOENT | Errno::NOTDIR => NotFound::Missing { path, why: "there is no such file" },
        Errno::LOOP => NotFound::Forbidden { path, why: "its links go in a circle, or through /proc" },
        Errno::NAMETOOLONG => NotFound::Forbidden { path, why: "its name is too long" },
        Errno::ACCESS => NotFound::Forbidden { path, why: "dcgi may not look into its directory" },
        _ => NotFound::Forbidden { path, why: "it cannot be looked at" },
    }
}

fn forbidden(path: &str, why: &'static str) -> NotFound {
    NotFound::Forbidden { path: path.to_owned(), why }
}

fn shown(name: &[u8]) -> String {
    OsStr::from_bytes(name).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
