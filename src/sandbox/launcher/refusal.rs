//! Why a program was not executed: what execve(2) does not tell by its error alone.
//!
//! One error stands for several things: of `No such file or directory` it may be the program that is missing, what its
//! `#!` line names, or the loader of its libraries. So whoever has tried looks at the file: it sees the container as the
//! program would have. Nothing here allocates or takes a lock.

use std::ffi::CStr;
use std::fmt;
use std::io;

use super::sys::{self, Errno};

/// A program that was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the kernel said: a number of errno(3).
    pub(crate) errno: i32,
    pub(crate) obstacle: Obstacle,
}

/// What was in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Obstacle {
    /// What the error says itself.
    Unknown,
    /// There is no such file.
    Missing,
    /// What its `#!` line names is not there.
    InterpreterMissing,
    /// Likewise, and the name there ends in a carriage return.
    CarriageReturn,
    /// It is linked to libraries, and the loader for them is not there.
    LoaderMissing,
    /// Its user may not execute it.
    NotExecutable,
    /// Its user may not enter a directory on the way to it.
    NoWay,
    /// What its `#!` line names is there, and cannot be executed.
    Interpreter,
    /// It is an executable of another machine's.
    OtherMachine,
    /// It is no executable, and has no `#!` line.
    NoFormat,
    /// It is the working directory that cannot be entered.
    WorkingDirectory,
}

/// Where the obstacle is in a number that also holds errno.
const OBSTACLE_SHIFT: u32 = 16;

/// How much of a file the kernel looks at: `BINPRM_BUF_SIZE`.
const HEAD: usize = 256;

const OBSTACLES: [Obstacle; 11] = [
    Obstacle::Unknown,
    Obstacle::Missing,
    Obstacle::InterpreterMissing,
    Obstacle::CarriageReturn,
    Obstacle::LoaderMissing,
    Obstacle::NotExecutable,
    Obstacle::NoWay,
    Obstacle::Interpreter,
    Obstacle::OtherMachine,
    Obstacle::NoFormat,
    Obstacle::WorkingDirectory,
];

// === impl Refusal ===

impl Refusal {
    /// Of no path at all: what there is before the first was tried.
    pub(super) const NOWHERE: Self = Self { errno: libc::ENOENT, obstacle: Obstacle::Missing };

    /// By an error alone.
    pub(crate) fn unknown(errno: i32) -> Self {
        Self { errno, obstacle: Obstacle::Unknown }
    }

    /// Notes that one more path was not executed. Gives whether to go on to the next, as execvp(3) does, which says
    /// `EACCES` where that was among them.
    pub(super) fn note(&mut self, path: &CStr, errno: Errno) -> bool {
        let next = Self { errno: errno.0, obstacle: look(path, errno) };
        let (goes_on, tells_more) = match errno.0 {
            libc::ENOENT | libc::ENOTDIR => {
                (true, self.errno == libc::ENOENT && next.obstacle != Obstacle::Missing)
            }
            libc::EACCES => (true, true),
            _ => (false, true),
        };
        if tells_more {
            *self = next;
        }
        goes_on
    }

    /// As one number, for a message that has no more room.
    pub(crate) fn to_number(self) -> i32 {
        self.errno | (self.obstacle as i32) << OBSTACLE_SHIFT
    }

    /// Reads it back. A number that is errno alone is one of an unknown obstacle.
    pub(crate) fn from_number(number: i32) -> Self {
        let errno = number & ((1 << OBSTACLE_SHIFT) - 1);
        Self { errno, obstacle: Obstacle::from_number((number >> OBSTACLE_SHIFT) as u32) }
    }

    /// What an attempt's error tells of it.
    pub(crate) fn of(error: &io::Error) -> Self {
        let told = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>());
        told.copied().unwrap_or_else(|| Self::unknown(error.raw_os_error().unwrap_or(libc::EINVAL)))
    }

    /// The kernel's word for it.
    pub(crate) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }

    /// What is wrong and what to do, in a sentence that goes on from the program's name; nothing, where the error says it.
    pub(crate) fn hint(self) -> Option<&'static str> {
        Some(match self.obstacle {
            Obstacle::Unknown => return None,
            Obstacle::Missing => "there is no such file; name it by its path in the container",
            Obstacle::InterpreterMissing => {
                "what its `#!` line names is not there; install that, or name one that is"
            }
            Obstacle::CarriageReturn => {
                "its `#!` line ends in CRLF, and the CR is part of the name there; save it with line ends of LF"
            }
            Obstacle::LoaderMissing => {
                "the loader of its libraries is not there; link it statically, or use an image of the system that it was made on"
            }
            Obstacle::NotExecutable => {
                "its user may not execute it; `chmod a+rx`, or set `user` to one who may, and no mount with `noexec`"
            }
            Obstacle::NoWay => {
                "its user may not enter a directory on the way to it; `chmod +x` those, or set `user`"
            }
            Obstacle::Interpreter => {
                "what its `#!` line names cannot be executed: no `chmod +x`, `noexec`, or made for another processor"
            }
            Obstacle::OtherMachine => {
                "it is made for another processor; build it, or the image, for this one"
            }
            Obstacle::NoFormat => {
                "it is no executable, and its first two bytes are no `#!`; begin it with such a line"
            }
            Obstacle::WorkingDirectory => {
                "its working directory is not there, or its user may not enter it: that is `working_dir`, else the folder of \
                 `script_filename` or of the program; `chmod a+x` it, or name another"
            }
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)?;
        match self.hint() {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal.obstacle {
            Obstacle::Unknown => refusal.error(),
            _ => Self::new(refusal.error().kind(), refusal),
        }
    }
}

// === impl Obstacle ===

impl Obstacle {
    /// Reads back what `as u32` has made of one.
    pub(super) fn from_number(number: u32) -> Self {
        OBSTACLES.get(number as usize).copied().unwrap_or(Self::Unknown)
    }
}

/// Looks at a file that was not executed.
fn look(path: &CStr, Errno(errno): Errno) -> Obstacle {
    let mut head = [0; HEAD];
    let head = begin(path, &mut head);
    match (errno, head) {
        (libc::ENOENT | libc::ENOTDIR, Err(Errno(libc::ENOENT | libc::ENOTDIR))) => Obstacle::Missing,
        (libc::ENOENT, Ok(head)) => match interpreter(head) {
            Some(name) if name.ends_with(b"\r") => Obstacle::CarriageReturn,
            Some(_) => Obstacle::InterpreterMissing,
            None if is_elf(head) => Obstacle::LoaderMissing,
            None => Obstacle::Unknown,
        },
        (libc::EACCES, head) => match head {
            Ok(head) if interpreter(head).is_some() && sys::may_execute(path) => Obstacle::Interpreter,
            Err(Errno(libc::EACCES)) if !sys::is_reachable(path) => Obstacle::NoWay,
            _ => Obstacle::NotExecutable,
        },
        (libc::ENOEXEC, Ok(head)) => match interpreter(head) {
            Some(_) => Obstacle::Interpreter,
            None if is_elf(head) => Obstacle::OtherMachine,
            None => Obstacle::NoFormat,
        },
        _ => Obstacle::Unknown,
    }
}

/// How a file begins.
fn begin<'a>(path: &CStr, head: &'a mut [u8; HEAD]) -> sys::Result<&'a [u8]> {
    // It may be a pipe that nobody writes to.
    let file = sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)?;
    let read = sys::read(file, head);
    sys::close(file);
    Ok(head.get(..read?).unwrap_or_default())
}

/// What the `#!` line of a script names, where it is one.
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())
}

fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn looked(path: &Path, errno: i32) -> Obstacle {
        look(&CString::new(path.as_os_str().as_bytes()).unwrap(), Errno(errno))
    }

    /// What is found of an executable file of this content.
    fn found(content: &[u8], errno: i32) -> Obstacle {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        looked(&path, errno)
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        assert_eq!(looked(Path::new("/nowhere/x"), libc::ENOENT), Obstacle::Missing);
        assert_eq!(looked(Path::new("/etc/passwd/x"), libc::ENOTDIR), Obstacle::Missing);
        assert_eq!(found(b"#! /no/perl -w\n", libc::ENOENT), Obstacle::InterpreterMissing);
        assert_eq!(found(b"#!/bin/sh\r\n", libc::ENOENT), Obstacle::CarriageReturn);
        // Here it is the option's and no part of the name.
        assert_eq!(found(b"#!/no/perl -w\r\n", libc::ENOENT), Obstacle::InterpreterMissing);
        assert_eq!(found(b"\x7fELF\x02\x01", libc::ENOENT), Obstacle::LoaderMissing);
    }

    #[test]
    fn what_may_not_be_executed_is_told_apart() {
        assert_eq!(looked(Path::new("/etc/passwd"), libc::EACCES), Obstacle::NotExecutable);
        assert_eq!(looked(Path::new("/usr"), libc::EACCES), Obstacle::NotExecutable);
        assert_eq!(found(b"#!/etc/passwd\n", libc::EACCES), Obstacle::Interpreter);
    }

    #[test]
    fn what_has_no_format_is_told_apart() {
        assert_eq!(found(b"\x7fELF\x01\x02", libc::ENOEXEC), Obstacle::OtherMachine);
        assert_eq!(found(b"print 'hello'\n", libc::ENOEXEC), Obstacle::NoFormat);
        // A byte order mark in front of it.
        assert_eq!(found(b"\xef\xbb\xbf#!/bin/sh\n", libc::ENOEXEC), Obstacle::NoFormat);
        assert_eq!(found(b"", libc::ENOEXEC), Obstacle::NoFormat);
        assert_eq!(found(b"#!/made/elsewhere\n", libc::ENOEXEC), Obstacle::Interpreter);
    }

    #[test]
    fn every_obstacle_reads_back_from_its_number() {
        for obstacle in OBSTACLES {
            let refusal = Refusal { errno: libc::EACCES, obstacle };
            assert_eq!(Refusal::from_number(refusal.to_number()), refusal);
        }
        assert_eq!(Refusal::from_number(libc::ENOENT), Refusal::unknown(libc::ENOENT));
    }

    #[test]
    fn of_several_paths_the_one_that_is_there_is_told_of() {
        let mut refusal = Refusal::NOWHERE;
        assert!(refusal.note(c"/nowhere", Errno(libc::ENOENT)));
        assert_eq!(refusal, Refusal::NOWHERE);
        assert!(refusal.note(c"/etc/passwd", Errno(libc::EACCES)));
        assert!(refusal.note(c"/nowhere", Errno(libc::ENOENT)));
        assert_eq!(refusal, Refusal { errno: libc::EACCES, obstacle: Obstacle::NotExecutable });
        assert!(!refusal.note(c"/etc/passwd", Errno(libc::ENOEXEC)));
        assert_eq!(refusal.obstacle, Obstacle::NoFormat);
    }
}
