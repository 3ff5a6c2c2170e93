//! What the machine begins with: an archive in the form that the kernel unpacks, cpio's `newc` (the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;

#[derive(Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    known: BTreeSet<PathBuf>,
    count: u32,
}

impl Initramfs {
    /// One with the directories that every system has.
    pub(crate) fn new() -> Self {
        let mut new = Self::default();
        for folder in ["/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr", "/var"] {
            new.directory(folder, 0o755);
        }
        for folder in ["/tmp", "/var/tmp"] {
            new.directory(folder, 0o1777);
        }
        new.console();
        new
    }

    /// What the kernel gives to process 1 as its streams, before anything is mounted.
    fn console(&mut self) {
        self.entry(Path::new("/dev/console"), DEVICE | 0o600, (5, 1), &[]);
    }

    fn directory(&mut self, path: impl AsRef<Path>, mode: u32) {
        let path = path.as_ref();
        if path != Path::new("/") && self.known.insert(path.to_owned()) {
            self.directory(path.parent().unwrap(), 0o755);
            self.entry(path, DIRECTORY | mode, (0, 0), &[]);
        }
    }

    /// Adds a file, and the directories above it.
    pub(crate) fn file(&mut self, path: impl AsRef<Path>, mode: u32, content: &[u8]) {
        self.directory(path.as_ref().parent().unwrap(), 0o755);
        self.entry(path.as_ref(), FILE | mode, (0, 0), content);
    }

    /// Adds a file of this machine's, or all that is in a directory, where it is here.
    pub(crate) fn copy(&mut self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if metadata.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            entries.for_each(|entry| self.copy(entry));
        } else {
            self.file(path, metadata.permissions().mode() & 0o777, &fs::read(path).unwrap());
        }
    }

    /// Adds a command of this machine's by its name, and the libraries that it is linked with.
    pub(crate) fn command(&mut self, name: &str, at: &str) {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
        let mut found = std::env::split_paths(&search).chain([tools]).map(|folder| folder.join(name));
        let path = found.find(|path| path.is_file());
        let path = path.unwrap_or_else(|| panic!("there is no command {name}: run scripts/prerequisites"));
        self.file(at, 0o755, &fs::read(&path).unwrap());
        // ldd(1): a path a line, behind a name where there is one.
        for word in text(Command::new("ldd").arg(&path)).split_ascii_whitespace() {
            if word.starts_with('/') && !word.ends_with(':') && self.known.insert(word.into()) {
                self.file(word, 0o755, &fs::read(word).unwrap());
            }
        }
    }

    /// Adds an executable of this machine's without its symbols. Those are most of it.
    pub(crate) fn stripped(&mut self, path: &Path, at: &Path) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let stripped = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vm-{name}"));
        text(Command::new("strip").arg("-o").arg(&stripped).arg(path));
        self.file(at, 0o755, &fs::read(&stripped).unwrap());
        fs::remove_file(stripped).unwrap();
    }

    fn entry(&mut self, path: &Path, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.count += 1;
        let name = path.strip_prefix("/").unwrap().as_os_str().as_bytes();
        let size = u32::try_from(content.len()).unwrap();
        let name_size = u32::try_from(name.len()).unwrap() + 1;
        self.bytes.extend(b"070701");
        // Inode, mode, user, group, links, time, size, device, device that it is, name's size, checksum.
        for field in [self.count, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.iter().chain(&[0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("/TRAILER!!!"), 0, (0, 0), &[]);
        self.bytes
    }
}

/// What a command prints, which must succeed, or be `ldd` of something static.
#[track_caller]
#[allow(clippy::disallowed_methods)]
pub(crate) fn text(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let is_ldd = command.get_program() == "ldd";
    assert!(
        output.status.success() || is_ldd,
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
