//! As much of ELF as tells who loads an executable (System V ABI, chapter 5).

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The program header that names the loader.
const PT_INTERP: u64 = 3;

/// More than any path.
const LONGEST_PATH: u64 = 4096;

/// The loader that an executable asks for. `None`: it is static and needs none.
///
/// # Errors
/// The file cannot be read, or is no ELF file.
pub(super) fn interpreter(file: &File) -> io::Result<Option<PathBuf>> {
    let mut ident = [0; 6];
    file.read_exact_at(&mut ident, 0)?;
    let [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2)] = ident else {
        return Err(invalid("no ELF executable"));
    };
    let header = Fields { file, is_64_bit: class == 2, is_big_endian: order == 2 };
    // e_phoff, e_phentsize, e_phnum; then of each p_type, p_offset, p_filesz.
    let headers = header.word(0x1c, 0x20)?;
    let size = header.half(0x2a, 0x36)?;
    let count = header.half(0x2c, 0x38)?;
    for at in (0..count).map(|index| headers.saturating_add(index * size)) {
        if header.number(at, 4)? != PT_INTERP {
            continue;
        }
        let offset = header.word(at.saturating_add(0x04), at.saturating_add(0x08))?;
        let length = header.word(at.saturating_add(0x10), at.saturating_add(0x20))?;
        if length > LONGEST_PATH {
            return Err(invalid("the name of the loader is too long"));
        }
        let mut path = vec![0; length as usize];
        file.read_exact_at(&mut path, offset)?;
        path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or(path.len()));
        return Ok(Some(OsString::from_vec(path).into()));
    }
    Ok(None)
}

/// Numbers in an ELF file. Where two places are given, they are those of the 32-bit and of the 64-bit form.
struct Fields<'a> {
    file: &'a File,
    is_64_bit: bool,
    is_big_endian: bool,
}

impl Fields<'_> {
    fn half(&self, at_32: u64, at_64: u64) -> io::Result<u64> {
        self.number(if self.is_64_bit { at_64 } else { at_32 }, 2)
    }

    fn word(&self, at_32: u64, at_64: u64) -> io::Result<u64> {
        if self.is_64_bit { self.number(at_64, 8) } else { self.number(at_32, 4) }
    }

    fn number(&self, at: u64, size: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes[..size], at)?;
        if self.is_big_endian {
            bytes[..size].reverse();
        }
        Ok(u64::from_le_bytes(bytes))
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// An executable of one program header, right behind the file's.
    fn executable(class: u8, order: u8, kind: u64) -> Vec<u8> {
        let wide = class == 2;
        let mut bytes = vec![0; 0x100];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order]);
        let mut put = |at: usize, size: usize, value: u64| {
            let mut number = value.to_le_bytes();
            if order == 2 {
                number[..size].reverse();
            }
            bytes[at..at + size].copy_from_slice(&number[..size]);
        };
        let word = if wide { 8 } else { 4 };
        put(if wide { 0x20 } else { 0x1c }, word, 0x40);
        put(if wide { 0x36 } else { 0x2a }, 2, 0x38);
        put(if wide { 0x38 } else { 0x2c }, 2, 1);
        put(0x40, 4, kind);
        put(0x40 + if wide { 0x08 } else { 0x04 }, word, 0xc0);
        put(0x40 + if wide { 0x20 } else { 0x10 }, word, 9);
        bytes[0xc0..0xc9].copy_from_slice(b"/lib/ld.\0");
        bytes
    }

    #[test]
    fn the_loader_is_found_in_every_class_and_byte_order() {
        for (class, order) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let found = interpreter(&file(&executable(class, order, PT_INTERP))).unwrap();
            assert_eq!(found, Some("/lib/ld.".into()), "class {class}, order {order}");
        }
    }

    #[test]
    fn a_static_executable_has_no_loader() {
        assert_eq!(interpreter(&file(&executable(2, 1, 1))).unwrap(), None);
    }

    #[test]
    fn what_is_no_elf_file_or_is_cut_is_an_error() {
        assert!(interpreter(&file(b"#!/bin/sh\n")).is_err());
        assert!(interpreter(&file(&executable(2, 1, PT_INTERP)[..0x60])).is_err());
    }
}
