//! Files as a tar archive that is read as it is made: nothing of it is ever held in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

/// Everything in a tar archive comes in blocks of this many bytes.
const BLOCK: u64 = 512;

/// What an archive holds at a path.
#[derive(Debug)]
pub(super) enum Entry {
    /// An executable file, with this content.
    File(File),
    /// A symbolic link to this path.
    Link(PathBuf),
}

/// The archive (POSIX ustar) of entries at absolute paths, with the folders that they are in. All belongs to root and
/// to no time, so that the same files make the same archive.
///
/// # Errors
/// A file cannot be looked at, or a path is too long. Reading the archive fails where a file cannot be read, or has
/// become shorter.
pub(super) fn archive(entries: BTreeMap<PathBuf, Entry>) -> io::Result<Box<dyn Read + Send>> {
    let mut archive: Box<dyn Read + Send> = Box::new(io::empty());
    let mut folders: Vec<&Path> = entries.keys().flat_map(|path| path.ancestors().skip(1)).collect();
    folders.retain(|folder| *folder != Path::new("/"));
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        archive = Box::new(archive.chain(head(folder, EntryType::Directory, 0, None)?));
    }
    for (path, entry) in entries {
        match entry {
            Entry::Link(target) => {
                archive = Box::new(archive.chain(head(&path, EntryType::Symlink, 0, Some(&target))?));
            }
            Entry::File(file) => {
                let size = file.metadata()?.len();
                let padding = io::repeat(0).take(size.next_multiple_of(BLOCK) - size);
                let content = Exactly { file, left: size }.chain(padding);
                archive =
                    Box::new(archive.chain(head(&path, EntryType::Regular, size, None)?).chain(content));
            }
        }
    }
    // Its end: two blocks of zeros.
    Ok(Box::new(archive.chain(io::repeat(0).take(2 * BLOCK))))
}

fn head(path: &Path, kind: EntryType, size: u64, target: Option<&Path>) -> io::Result<Cursor<Vec<u8>>> {
    let mut header = Header::new_ustar();
    header.set_path(path.strip_prefix("/").unwrap_or(path))?;
    header.set_entry_type(kind);
    if let Some(target) = target {
        header.set_link_name(target)?;
    }
    header.set_size(size);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(Cursor::new(header.as_bytes().to_vec()))
}

/// A file's first bytes: neither fewer nor more.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read(&mut buffer[..wanted])?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn an_archive_holds_the_folders_the_files_and_the_links() {
        let big = vec![b'x'; 70_001];
        let entries = BTreeMap::from([
            (PathBuf::from("/bin/program"), Entry::File(file(&big))),
            (PathBuf::from("/usr/lib/b.so.1"), Entry::File(file(b""))),
            (PathBuf::from("/usr/lib/b.so"), Entry::Link("b.so.1".into())),
        ]);
        let mut found = Vec::new();
        let mut archive = tar::Archive::new(archive(entries).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let path = entry.path().unwrap().display().to_string();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            found.push((path, content.len(), link));
        }
        let plain = |path: &str, size| (path.to_owned(), size, None);
        assert_eq!(
            found,
            [
                plain("bin", 0),
                plain("usr", 0),
                plain("usr/lib", 0),
                plain("bin/program", big.len()),
                ("usr/lib/b.so".to_owned(), 0, Some("b.so.1".to_owned())),
                plain("usr/lib/b.so.1", 0),
            ]
        );
    }

    #[test]
    fn a_file_that_became_shorter_cuts_the_archive() {
        let shrunk = file(b"0123456789");
        let entries = BTreeMap::from([(PathBuf::from("/a"), Entry::File(shrunk.try_clone().unwrap()))]);
        let mut archive = archive(entries).unwrap();
        shrunk.set_len(4).unwrap();
        let error = archive.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
