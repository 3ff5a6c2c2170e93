//! From a path to a file below a directory.
//!
//! A path is walked name by name until a file is met; what follows is that file's own (`PATH_INFO`). Nothing is opened but by
//! `O_PATH`, and nothing outside of the directory at all, unless a link's owner is that of what it leads to: as Apache's
//! `SymLinksIfOwnerMatch`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags, fstat, lstat, makedev, openat,
    openat2, readlinkat, statx,
};
use rustix::io::Errno;

use super::listing::{Entry, modified};
use super::reader::Reader;

/// The one hidden name that is there to be asked for, at the top (RFC 8615).
pub(super) const WELL_KNOWN: &str = ".well-known";

/// How what is in a directory is opened: a link as itself.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How a path is looked up in a root file system, as it will be inside.
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// File systems of this machine's own disks and memory (statfs(2)): ext2 to ext4, XFS, Btrfs, ZFS, F2FS, bcachefs, tmpfs, ramfs.
const LOCAL: [u64; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0xf2f5_2010, 0xca45_1a4e, 0x0102_1994, 0x8584_58f6];

/// Why a link is not followed.
const ELSEWHERE: &str = "it is a link out of the directory, and whose it is does not own what it leads to";

/// Why nothing is found, as a rule.
pub(super) const ABSENT: &str = "there is no such file";

/// How often it is looked again where the kernel could not tell, or another took the place of what was found.
const TRIES: u32 = 1000;

/// How many links may lead on to each other (MAXSYMLINKS).
const MOST_LINKS: u32 = 40;

/// Why what is there is not for whom it is to be.
const UNREADABLE: &str =
    "by its mode, or that of a directory on the way, it is not for the route's user, or others, to read";

/// How editors and administrators call their copies of a file: at the end of its name.
const COPIES: [&str; 20] = [
    "~",
    ".bak",
    ".bk",
    ".old",
    ".orig",
    ".save",
    ".rej",
    ".swp",
    ".swo",
    ".swn",
    ".rpmsave",
    ".rpmnew",
    ".rpmorig",
    ".dpkg-old",
    ".dpkg-dist",
    ".dpkg-new",
    ".dpkg-bak",
    ".dpkg-tmp",
    ".ucf-old",
    ".ucf-dist",
];

/// As long as a path may be for the kernel (PATH_MAX), with the NUL at its end.
pub(super) const LONGEST_PATH: usize = 4096;

/// A directory whose files are served.
///
/// It is looked up anew for each path: who puts another in its place, or switches a link to it, has that one served.
#[derive(Debug)]
pub(crate) struct Tree {
    directory: PathBuf,
    /// A root file system: the directory's path begins in it, and where links lead ends in it.
    within: Option<PathBuf>,
    /// The device that it is on, and one more, where that is known to be this machine's own: looks at it need no thread that may
    /// wait.
    local: AtomicU64,
    /// Who is to be able to read what is [opened](Candidate::open).
    reader: Reader,
}

/// A file that was found, and may be opened.
#[derive(Debug)]
pub(crate) struct Candidate {
    path: String,
    /// Itself, by `O_PATH`.
    opened: OwnedFd,
    /// Whether the reader may read it, and search the directories on the way.
    may_be_read: bool,
    /// What links on the way are called, and it is itself, where a link led to it.
    aliases: Vec<String>,
    size: u64,
    modified: Option<SystemTime>,
}

/// How long a look may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as the file system takes.
    Any,
    /// No longer than a disk of this machine's own.
    None,
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

/// What a path names, opened by `O_PATH`.
#[derive(Debug)]
enum Opened {
    File(Candidate),
    Directory {
        /// `None`: the served directory itself.
        opened: Option<OwnedFd>,
        /// As a [`Candidate`]'s.
        is_reached: bool,
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
    /// It could not be looked at.
    #[error("{path} cannot be looked at")]
    Failed {
        /// How far the path was walked.
        path: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// To look takes longer than there was patience for.
    #[error("it has not been looked at yet")]
    Later,
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

impl NotFound {
    /// That nothing is served at a path.
    pub(crate) fn missing(path: &str, why: &'static str) -> Self {
        Self::Missing { path: path.to_owned(), why }
    }

    /// Whether there is just nothing of that name.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Missing { why, .. } if *why == ABSENT)
    }

    /// Whether it is because descriptors or memory have run out, and may be had again.
    pub(crate) fn is_exhaustion(&self) -> bool {
        let (Self::Failed { error, .. } | Self::Unusable { error, .. }) = self else { return false };
        let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN];
        Errno::from_io_error(error).is_some_and(|error| exhausted.contains(&error))
    }
}

impl Tree {
    /// Of the files below a directory: an absolute path.
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self { directory, within: None, reader: Reader::default(), local: AtomicU64::new(0) }
    }

    /// Of the files below a directory in a root file system, an absolute path both. Links lead to wherever they lead in there:
    /// it is one thing, and made by one.
    pub(crate) fn within(root: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Self {
        Self { within: Some(root.into()), ..Self::new(directory) }
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens what this reader may read.
    pub(crate) fn read_by(self, reader: Reader) -> Self {
        Self { reader, ..self }
    }

    /// What a path names, and the file itself, if it is one. The path is decoded and without dot segments, and begins with a
    /// slash where it is not empty; a run of slashes counts as one. Blocks for as long as there is patience.
    ///
    /// Not served are hidden names, those of editors' copies (`x.cgi~`, `x.cgi.bak`), and those that are no UTF-8.
    ///
    /// # Errors
    /// Why it names nothing, and [`NotFound::Later`] where there was not enough patience.
    pub(crate) fn look(
        &self,
        path: &[u8],
        patience: Patience,
    ) -> Result<(Found, Option<Candidate>), NotFound> {
        let (found, opened) = self.walk(path, &mut self.open(patience)?)?;
        Ok((
            found,
            match opened {
                Opened::File(candidate) => Some(candidate),
                Opened::Directory { .. } => None,
            },
        ))
    }

    #[cfg(test)]
    fn find(&self, path: &[u8]) -> Result<Found, NotFound> {
        Ok(self.look(path, Patience::Any)?.0)
    }

    /// What is served of a directory that was [found](Self::look) at `path`, by name: directories first. Blocks.
    ///
    /// Files that are called so by links, and are none to be seen, are `is_concealed`.
    ///
    /// # Errors
    /// Where it cannot be read, or not by who is to be able to.
    pub(crate) fn list(
        &self,
        path: &str,
        is_concealed: impl Fn(&Candidate) -> bool,
    ) -> Result<Vec<Entry>, NotFound> {
        let mut root = self.open(Patience::Any)?;
        let (_, Opened::Directory { opened, is_reached }) = self.walk(path.as_bytes(), &mut root)? else {
            return Err(NotFound::Missing { path: path.to_owned(), why: "it is no directory any more" });
        };
        let at = opened.as_ref().map_or(root.opened.as_fd(), AsFd::as_fd);
        let unreadable = |error| refused(path, error);
        let opened = openat(at, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let opened = opened.map_err(unreadable)?;
        if !is_reached || !self.reader.may_read(&fstat(&opened).map_err(unreadable)?) {
            return Err(forbidden(path, UNREADABLE));
        }
        let mut entries = Vec::new();
        for entry in Dir::read_from(&opened).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if unserved(name).is_some() {
                continue;
            }
            // As whoever asks for it would find it.
            let Ok((_, found)) = self.walk(format!("{path}/{name}").as_bytes(), &mut root) else { continue };
            let (is_directory, size, modified) = match found {
                Opened::Directory { is_reached: true, .. } => (true, 0, None),
                Opened::File(candidate) if candidate.may_be_read && !is_concealed(&candidate) => {
                    (false, candidate.size, candidate.modified)
                }
                Opened::Directory { .. } | Opened::File(_) => continue,
            };
            entries.push(Entry { name: name.to_owned(), is_directory, size, modified });
        }
        entries.sort_by(|a, b| (!a.is_directory, &a.name).cmp(&(!b.is_directory, &b.name)));
        Ok(entries)
    }

    fn open(&self, patience: Patience) -> Result<Root, NotFound> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let unusable =
            |error: Errno| NotFound::Unusable { directory: self.directory.clone(), error: error.into() };
        let local = self.local.load(Ordering::Relaxed);
        if patience == Patience::None {
            if local == 0 {
                return Err(NotFound::Later);
            }
            // What the kernel has at hand, it gives at once (Linux 5.12); else, and on another device, somebody else waits.
            let opened = openat2(CWD, &self.directory, flags, Mode::empty(), ResolveFlags::CACHED);
            let opened = opened.map_err(|_| NotFound::Later)?;
            if device_of(&opened).is_none_or(|device| device.wrapping_add(1) != local) {
                return Err(NotFound::Later);
            }
            let found = fstat(&opened).map_err(unusable)?;
            return Ok(Root { opened, found, real: None, within: None, patience });
        }
        let (opened, within) = match &self.within {
            None => (rustix::fs::open(&self.directory, flags, Mode::empty()).map_err(unusable)?, None),
            Some(root) => {
                let root = rustix::fs::open(root, flags, Mode::empty()).map_err(unusable)?;
                let path = self.directory.as_os_str().as_bytes();
                (beneath(root.as_fd(), path, flags, IN_ROOT).map_err(unusable)?, Some(root))
            }
        };
        let found = fstat(&opened).map_err(unusable)?;
        let is_local =
            rustix::fs::fstatfs(&opened).is_ok_and(|system| LOCAL.contains(&(system.f_type as u64)));
        // Not where its path is in another root: to look it up there costs as much as what comes behind.
        let is_local = is_local && within.is_none();
        self.local.store(if is_local { found.st_dev.wrapping_add(1) } else { 0 }, Ordering::Relaxed);
        Ok(Root { opened, found, real: None, within, patience })
    }

    fn walk(&self, path: &[u8], root: &mut Root) -> Result<(Found, Opened), NotFound> {
        let mut walked = String::new();
        let mut at: Option<OwnedFd> = None;
        let mut rest = path;
        let mut is_reached = self.reader.may_search(&root.found);
        loop {
            let behind = &rest[rest.iter().take_while(|byte| **byte == b'/').count()..];
            if behind.is_empty() {
                let found = Found::Directory { path: walked, has_slash: !rest.is_empty() };
                return Ok((found, Opened::Directory { opened: at, is_reached }));
            }
            let end = behind.iter().position(|byte| *byte == b'/').unwrap_or(behind.len());
            let (name, after) = behind.split_at(end);
            let is_missing = |why| NotFound::Missing { path: format!("{walked}/{}", shown(name)), why };
            let Ok(text) = std::str::from_utf8(name) else {
                return Err(is_missing("a name that is no UTF-8 is not served"));
            };
            if let Some(why) = unserved(text).filter(|_| !walked.is_empty() || text != WELL_KNOWN) {
                return Err(is_missing(why));
            }
            // Nobody could execute it, and to walk on costs.
            if self.directory.as_os_str().len() + walked.len() + 1 + name.len() >= LONGEST_PATH {
                let path = walked.chars().take(64).chain("…".chars()).collect();
                return Err(NotFound::Forbidden { path, why: "the path is too long" });
            }
            let parent = at.as_ref().map_or(root.opened.as_fd(), AsFd::as_fd);
            let opened = root.look(parent, name).and_then(|opened| Ok((fstat(&opened)?, opened)));
            walked.push('/');
            walked.push_str(text);
            let mut aliases = Vec::new();
            let (mut found, mut opened) = opened.map_err(|error| match error {
                Errno::XDEV | Errno::AGAIN if root.patience == Patience::None => NotFound::Later,
                error => refused(&walked, error),
            })?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                let is_in_root = root.within.is_some();
                if root.patience == Patience::None {
                    return Err(NotFound::Later);
                }
                let led = root.follow(&walked, &found)?;
                is_reached &= root.is_reached(&led.real, &self.reader);
                if FileType::from_raw_mode(led.found.st_mode) == FileType::RegularFile {
                    let named = led.real.file_name().map(OsStr::to_owned);
                    let parent = at.as_ref().map_or(root.opened.as_fd(), AsFd::as_fd);
                    // In a root file system all are of one maker, and their paths are not this machine's.
                    let names = match is_in_root {
                        true => Vec::new(),
                        false => links(parent, opened).map_err(|error| refused(&walked, error))?,
                    };
                    for name in names.into_iter().chain(named) {
                        match name.into_string() {
                            Ok(name) if unserved(&name).is_none() => aliases.push(name),
                            _ => return Err(forbidden(&walked, "it is a link to what is not served")),
                        }
                    }
                }
                (found, opened) = (led.found, led.opened);
            }
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => {
                    is_reached &= self.reader.may_search(&found);
                    at = Some(opened);
                }
                FileType::RegularFile => {
                    let candidate = Candidate {
                        path: walked.clone(),
                        opened,
                        may_be_read: is_reached && self.reader.may_read(&found),
                        aliases,
                        size: found.st_size.try_into().unwrap_or(0),
                        modified: modified(found.st_mtime, i64::try_from(found.st_mtime_nsec).unwrap_or(0)),
                    };
                    let found = Found::File { path: walked, rest: after.to_owned() };
                    return Ok((found, Opened::File(candidate)));
                }
                _ => return Err(forbidden(&walked, "it is neither a file nor a directory")),
            }
            rest = after;
        }
    }
}

impl Candidate {
    /// Its path below the directory: a slash in front of each name.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// What links on the way are called, and it is itself, where a link led to it.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().map(String::as_str)
    }

    /// That it cannot be read, now that it is open.
    pub(crate) fn unreadable(&self, error: &io::Error) -> NotFound {
        refused(&self.path, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// Opens it for reading: what was found, whatever is at its path by now. Blocks.
    ///
    /// # Errors
    /// Where the reader may not read it, or dcgi cannot.
    pub(crate) fn open(&self) -> Result<File, NotFound> {
        if !self.may_be_read {
            return Err(forbidden(&self.path, UNREADABLE));
        }
        // What is no file any more does not hold us up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::open(in_proc(self.opened.as_fd()), flags, Mode::empty());
        Ok(opened.map_err(|error| refused(&self.path, error))?.into())
    }

    /// A file beside it whose name is its own with something behind it. Blocks.
    ///
    /// # Errors
    /// [`NotFound::Later`], where there was not enough patience.
    pub(crate) fn sibling(
        &self,
        root: &Tree,
        ending: &str,
        patience: Patience,
    ) -> Result<Option<Self>, NotFound> {
        match root.look(format!("{}{ending}", self.path).as_bytes(), patience) {
            Ok((Found::File { rest, .. }, sibling)) if rest.is_empty() => Ok(sibling),
            Err(NotFound::Later) => Err(NotFound::Later),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

/// The directory, opened.
struct Root {
    opened: OwnedFd,
    found: Stat,
    /// How long it may take to look at what is in it.
    patience: Patience,
    /// The root file system that it is in.
    within: Option<OwnedFd>,
    /// Its real path, where somebody has asked.
    real: Option<PathBuf>,
}

/// What a link led to.
struct Led {
    found: Stat,
    opened: OwnedFd,
    /// Where it was, when it had been opened.
    real: PathBuf,
}

impl Root {
    /// Opens a name in a directory below this one, a link as itself.
    fn look(&self, parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        match self.patience {
            Patience::Any => look(parent, name),
            // What is mounted there may not answer, nor a disk soon that many wait for.
            Patience::None => {
                let at_hand = ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
                openat2(parent, name, LOOK, Mode::empty(), at_hand)
            }
        }
    }

    /// What the link at a path leads to: within the directory, or whose owner is the link's.
    fn follow(&mut self, path: &str, link: &Stat) -> Result<Led, NotFound> {
        for _ in 0..TRIES {
            let (found, opened) = self.led_to(path, link)?;
            // Else another has taken its place in that moment.
            if let Ok(real) = real_path(opened.as_fd()) {
                return Ok(Led { found, opened, real });
            }
        }
        Err(refused(path, Errno::AGAIN))
    }

    fn led_to(&mut self, path: &str, link: &Stat) -> Result<(Stat, OwnedFd), NotFound> {
        let relative = path.trim_start_matches('/');
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        if let Some(root) = &self.within {
            let opened = self.path_in(root).and_then(|above| {
                let opened =
                    beneath(root.as_fd(), above.join(relative).as_os_str().as_bytes(), flags, IN_ROOT)?;
                Ok((fstat(&opened)?, opened))
            });
            return opened.map_err(|error| refused(path, error));
        }
        let opened = match beneath(self.opened.as_fd(), relative.as_bytes(), flags, inside) {
            // It leads out of it, or back by an absolute path.
            Err(Errno::XDEV) => {
                let outside =
                    openat2(&self.opened, relative, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
                let outside = outside.and_then(|opened| Ok((fstat(&opened)?, opened)));
                // Whoever made the link is not to learn by it what is where he may not look.
                outside.map_err(|error| match error {
                    Errno::NOENT | Errno::NOTDIR | Errno::ACCESS => forbidden(path, ELSEWHERE),
                    error => refused(path, error),
                })
            }
            opened => {
                let opened = opened.and_then(|opened| Ok((fstat(&opened)?, opened)));
                return opened.map_err(|error| refused(path, error));
            }
        };
        let (found, opened) = opened?;
        if found.st_uid == link.st_uid || self.holds(opened.as_fd()) {
            return Ok((found, opened));
        }
        Err(forbidden(path, ELSEWHERE))
    }

    /// Where it is in a root file system.
    fn path_in(&self, root: &OwnedFd) -> rustix::io::Result<PathBuf> {
        let real = |opened: &OwnedFd| {
            real_path(opened.as_fd()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::STALE))
        };
        Ok(real(&self.opened)?.strip_prefix(real(root)?).map_err(|_| Errno::XDEV)?.to_owned())
    }

    /// Whether what was opened lies in it.
    fn holds(&mut self, opened: BorrowedFd<'_>) -> bool {
        let Ok(found) = real_path(opened) else { return false };
        self.real().is_some_and(|real| found.starts_with(real))
    }

    /// Whether a reader may search the directories that lead to what a link led to: those below this one, else all.
    fn is_reached(&mut self, found: &Path, reader: &Reader) -> bool {
        let from = self.real().filter(|real| found.starts_with(real)).map(Path::to_owned);
        let mut on_the_way =
            found.ancestors().skip(1).take_while(|on_the_way| Some(*on_the_way) != from.as_deref());
        on_the_way.all(|directory| rustix::fs::stat(directory).is_ok_and(|found| reader.may_search(&found)))
    }

    fn real(&mut self) -> Option<&Path> {
        if self.real.is_none() {
            self.real = real_path(self.opened.as_fd()).ok();
        }
        self.real.as_deref()
    }
}

/// The device that a directory is on, without asking its file system.
fn device_of(opened: &OwnedFd) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(opened, "", flags, StatxFlags::empty()).ok()?;
    Some(makedev(found.stx_dev_major, found.stx_dev_minor))
}

/// Opens a name in a directory, a link as itself.
fn look(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, LOOK, Mode::empty())
}

/// Opens a path within a directory.
///
/// Where anything anywhere is renamed or mounted meanwhile, the kernel cannot tell whether `..` has led out, and says so by
/// EAGAIN (openat2(2)).
fn beneath(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// What the links are called that a link in a directory leads to, and what the last of them does.
fn links(parent: BorrowedFd<'_>, link: OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let resolve = ResolveFlags::NO_MAGICLINKS;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = openat2(parent, ".", folder, Mode::empty(), resolve)?;
    let mut link = link;
    let mut names = Vec::new();
    // As many as the kernel follows (path_resolution(7)).
    for _ in 0..MOST_LINKS {
        let to = readlinkat(&link, "", Vec::new())?.into_bytes();
        let to = Path::new(OsStr::from_bytes(&to));
        // Else a directory, by `..` or a slash.
        let Some(name) = to.file_name() else { break };
        names.push(name.to_owned());
        let above = to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        parent = openat2(&parent, above, folder, Mode::empty(), resolve)?;
        link = openat(&parent, name, LOOK, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&link)?.st_mode) != FileType::Symlink {
            break;
        }
    }
    Ok(names)
}

/// Where what was opened is now.
///
/// # Errors
/// Where it is nowhere any more: of what has lost its name, or had it taken by another, the kernel tells the old one with
/// ` (deleted)` behind it (proc(5)).
fn real_path(opened: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let path = fs::read_link(in_proc(opened))?;
    let (there, opened) = (lstat(&path)?, fstat(opened)?);
    match (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino) {
        true => Ok(path),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

fn in_proc(opened: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", opened.as_raw_fd())
}

/// Why a name is not served, whatever is there.
pub(super) fn unserved(name: &str) -> Option<&'static str> {
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
        Errno::NOENT | Errno::NOTDIR => NotFound::Missing { path, why: ABSENT },
        Errno::LOOP => NotFound::Forbidden { path, why: "its links go in a circle, or through /proc" },
        Errno::NAMETOOLONG => NotFound::Forbidden { path, why: "its name is too long" },
        Errno::ACCESS => NotFound::Forbidden { path, why: "dcgi may not look into its directory" },
        error => NotFound::Failed { path, error: error.into() },
    }
}

pub(super) fn forbidden(path: &str, why: &'static str) -> NotFound {
    NotFound::Forbidden { path: path.to_owned(), why }
}

pub(super) fn shown(name: &[u8]) -> String {
    OsStr::from_bytes(name).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
