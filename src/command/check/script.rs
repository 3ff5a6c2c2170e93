//! What can be seen of a program's file, where it is on this machine: in a directory that is the root, or in a volume.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dcgi::engine::embedded::RootUser;
use dcgi::engine::{Program, Volume};

/// How much of a file the kernel looks at to execute it.
const HEAD: usize = 256;

/// Why a program cannot be executed, as far as its file tells: each as a sentence. `user` is who it runs as, where that is known.
pub(super) fn problems(program: &Program, user: Option<&RootUser>) -> Vec<String> {
    // In front of a `command` there may be the image's own entrypoint.
    if program.rootfs.is_none() && program.entrypoint.is_none() {
        return Vec::new();
    }
    let mut command_line = program.entrypoint.iter().chain(&program.command).flatten();
    let Some(name) = command_line.next().filter(|name| name.starts_with('/')) else { return Vec::new() };
    let Some(file) = file_of(program, name) else { return Vec::new() };
    let shown = match file == Path::new(name) {
        true => name.clone(),
        false => format!("{name} ({})", file.display()),
    };
    let found = match fs::metadata(&file) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound && in_volume(program, name).is_some() => {
            return vec![format!("the program {shown} is not there")];
        }
        // Who may not look cannot say; and of a root directory it has been said.
        Err(_) => return Vec::new(),
    };
    if found.is_dir() {
        return vec![format!("the program {shown} is a directory")];
    }
    let mut problems = Vec::new();
    let bits = match user {
        Some(user) if user.uid == 0 => found.mode() | found.mode() >> 3 | found.mode() >> 6,
        Some(user) if user.uid == found.uid() => found.mode() >> 6,
        Some(user) if user.gid == found.gid() || user.groups.contains(&found.gid()) => found.mode() >> 3,
        Some(_) => found.mode(),
        None => found.mode() | found.mode() >> 3 | found.mode() >> 6,
    };
    // As anybody else, dcgi maps users by what it was given: what owns the file here may be the program's own user there.
    if bits & 1 == 0 && rustix::process::geteuid().is_root() {
        let mode = found.mode() & 0o7777;
        problems.push(format!(
            "its user may not execute the program {shown}, with mode {mode:04o}; `chmod a+rx` it"
        ));
    }
    let mut head = Vec::new();
    let read = File::open(&file).and_then(|opened| opened.take(HEAD as u64).read_to_end(&mut head));
    if read.is_ok() {
        problems.extend(of_head(&head).map(|why| format!("the program {shown} {why}")));
    }
    problems
}

/// What is wrong with how a file begins: a sentence that goes on from its name.
fn of_head(head: &[u8]) -> Option<&'static str> {
    let Some(line) = head.strip_prefix(b"#!") else {
        return (!head.starts_with(b"\x7fELF"))
            .then_some("is no executable, and its first two bytes are no `#!`: begin it with such a line");
    };
    let line = line.split(|byte| *byte == b'\n').next()?;
    let interpreter = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    interpreter
        .ends_with(b"\r")
        .then_some("has a `#!` line that ends in CRLF, and the CR is part of the name there: save it with line ends of LF")
}

/// Where a program's file is on this machine, if that can be told.
fn file_of(program: &Program, name: &str) -> Option<PathBuf> {
    if let Some(file) = in_volume(program, name) {
        return file;
    }
    let mut in_memory = program.tmpfs.iter().map(|entry| entry.split(':').next().unwrap_or(entry));
    if in_memory.any(|target| Path::new(name).starts_with(target)) {
        return None;
    }
    let root = program.rootfs.as_deref()?;
    let file = root.join(name.trim_start_matches('/'));
    // A link in a root directory leads somewhere in there, and not from here.
    let is_plain = || file.ancestors().take_while(|at| *at != root).all(|at| !at.is_symlink());
    (root == Path::new("/") || is_plain()).then_some(file)
}

/// The file in the innermost volume that a path is in: `None` where it is in none, and within that where the volume is
/// no directory of this machine's, or a link is on the way: it leads to where it does inside.
fn in_volume(program: &Program, name: &str) -> Option<Option<PathBuf>> {
    let inner = program.volumes.iter().filter_map(|volume| {
        let (source, target) = match volume {
            Volume::Bind { source, target, .. } => (Some(source), target),
            Volume::Named { target, .. } => (None, target),
        };
        let rest = Path::new(name).strip_prefix(target).ok()?;
        let file = source.and_then(|source| {
            let mut file = source.clone();
            for part in rest {
                file.push(part);
                if file.is_symlink() {
                    return None;
                }
            }
            Some(file)
        });
        Some((target.len(), file))
    });
    inner.max_by_key(|(depth, _)| *depth).map(|(_, file)| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_file_begins_says_whether_it_can_be_executed() {
        for good in [&b"#!/bin/sh\n"[..], b"#! /usr/bin/perl -w\r\n", b"\x7fELF\x02"] {
            assert_eq!(of_head(good), None, "{good:?}");
        }
        assert!(of_head(b"#!/bin/sh\r\n").unwrap().contains("CRLF"));
        for none in [&b""[..], b"print 1\n", b"\xef\xbb\xbf#!/bin/sh\n"] {
            assert!(of_head(none).unwrap().contains("no `#!`"), "{none:?}");
        }
    }

    #[test]
    fn a_file_is_in_the_innermost_volume() {
        let bind = |source: &str, target: &str| Volume::Bind {
            source: source.into(),
            target: target.into(),
            read_only: true,
        };
        let named = Volume::Named { name: "n".into(), target: "/a/n".into(), read_only: true };
        let volumes = vec![bind("/s", "/a"), bind("/t", "/a/b"), bind("/f", "/a/file"), named];
        let program = Program { volumes, ..Program::new("x") };
        let file = |name| file_of(&program, name);
        assert_eq!(file("/a/x"), Some("/s/x".into()));
        assert_eq!(file("/a/b/x"), Some("/t/x".into()));
        assert_eq!(file("/a/file"), Some("/f".into()));
        assert_eq!(file("/a/n/x"), None);
        assert_eq!(file("/other"), None);
    }
}
