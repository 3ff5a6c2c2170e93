//! The executable that an agent is.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

/// How much of it is looked at: linkers put the program headers first.
const BEGINNING: u64 = 64 << 10;

/// An executable that is an agent where its first argument is `agent`: dcgi's own, linked statically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable(PathBuf);

impl Executable {
    /// The one that this process runs, though another may have taken its place on the disk by now.
    ///
    /// Only for a program that is one: it hands over to [`Agent`](super::Agent) as the `dcgi` command does. Any other would
    /// be run inside containers with arguments that it does not know.
    pub fn current() -> Self {
        Self("/proc/self/exe".into())
    }

    /// The one at a path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Opens it.
    ///
    /// # Errors
    /// Where it cannot be read, or wants an interpreter (a dynamic linker), which an image need not have.
    pub(crate) fn open(&self) -> io::Result<File> {
        let mut file = File::open(&self.0)?;
        let mut beginning = Vec::new();
        file.by_ref().take(BEGINNING).read_to_end(&mut beginning)?;
        file.rewind()?;
        let path = self.0.display();
        match wants_interpreter(&beginning) {
            Some(false) => Ok(file),
            Some(true) => Err(io::Error::other(format!(
                "{path} is linked dynamically, and so would not run in other people's images: link it statically, as \
                 dcgi's own sources have it"
            ))),
            None => Err(io::Error::other(format!("{path} is no 64-bit ELF executable"))),
        }
    }
}

/// Whether an ELF executable has a program header `PT_INTERP`: elf(5). `None`: it is none, of 64 bits and this byte order.
fn wants_interpreter(bytes: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    const CLASS_64: u8 = 2;
    if !bytes.starts_with(b"\x7fELF") || *bytes.get(4)? != CLASS_64 {
        return None;
    }
    let word = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let table = u64::from_ne_bytes(bytes.get(32..40)?.try_into().ok()?);
    let (size, count) = (usize::from(word(54)?), usize::from(word(56)?));
    let table = bytes.get(usize::try_from(table).ok()?..)?;
    let mut kinds = table.chunks_exact(size.max(4)).take(count);
    Some(kinds.any(|header| header.starts_with(&PT_INTERP.to_ne_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_executable_is_told_from_others() {
        // This test is linked as dcgi is; a shell as distributions do it.
        assert!(Executable::current().open().is_ok());
        let why = Executable::at("/bin/sh").open().unwrap_err().to_string();
        assert!(why.contains("linked dynamically"), "{why}");
        let why = Executable::at("/etc/passwd").open().unwrap_err().to_string();
        assert!(why.contains("no 64-bit ELF"), "{why}");
    }
}
