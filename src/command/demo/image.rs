//! This executable as an image: nothing else is in it, but for a loader and libraries where it needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dcgi::engine::ImageConfig;
use sha2::{Digest, Sha256};

use super::archive::{Entry, archive};
use super::elf;

/// What all images of the demo are called; their tags tell them apart.
pub(super) const REPOSITORY: &str = "dcgi/demo";

/// Where the executable is in the image.
const PROGRAM: &str = "/bin/dcgi";

/// An image that is yet to be made.
#[derive(Debug)]
pub(super) struct Image {
    reference: String,
    config: ImageConfig,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Image {
    /// The image of the executable that runs here. It is read when the archive is.
    ///
    /// # Errors
    /// `/proc` is not there, or a file cannot be opened.
    pub(super) fn of_this_executable() -> anyhow::Result<Self> {
        // The file that runs, also where another has taken its name since.
        let program = File::open("/proc/self/exe").context("the running executable cannot be read")?;
        let reference = format!("{REPOSITORY}:{}-{}", env!("CARGO_PKG_VERSION"), build(&program)?);
        let mut config = ImageConfig { entrypoint: vec![PROGRAM.to_owned()], ..ImageConfig::default() };
        let mut entries = BTreeMap::new();
        if let Some(loader) = elf::interpreter(&program).context("the running executable")? {
            let maps = fs::read_to_string("/proc/self/maps")?;
            let own = fs::read_link("/proc/self/exe")?;
            let libraries: BTreeSet<_> = mapped(&maps).filter(|path| *path != own).collect();
            // The loader that put them here may have known its places from files that the image has not.
            let folders: BTreeSet<_> = libraries.iter().filter_map(|path| path.parent()).collect();
            let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            config.env.push(format!("LD_LIBRARY_PATH={}", folders.join(":")));
            for library in libraries {
                for link in links_to(&library)? {
                    entries.insert(link, Entry::Link(library.clone()));
                }
                entries.insert(library.clone(), Entry::File(open(&library)?));
            }
            let content = Entry::File(open(&loader)?);
            entries.insert(loader, content);
        }
        entries.insert(PROGRAM.into(), Entry::File(program));
        Ok(Self { reference, config, entries })
    }

    /// Its name and tag: another build has another.
    pub(super) fn reference(&self) -> &str {
        &self.reference
    }

    /// What it says of the program in it.
    pub(super) fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its root file system, as a tar archive.
    ///
    /// # Errors
    /// A file cannot be looked at, or a path is too long for an archive.
    pub(super) fn into_archive(self) -> io::Result<impl Read + Send + 'static> {
        archive(self.entries)
    }
}

/// What tells one build from another: which file it is, and when that was written or put in its place. Not its
/// content, for a debug build is large, and reading it would take longer than all else.
fn build(program: &File) -> io::Result<String> {
    let file = program.metadata()?;
    let identity = [file.dev(), file.ino(), file.size()].map(|number| number.to_string()).join(" ")
        + &format!(" {}.{} {}.{}", file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
    let digest = Sha256::digest(identity);
    Ok(digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

/// The files that are mapped as code: the columns are those of `proc_pid_maps(5)`.
fn mapped(maps: &str) -> impl Iterator<Item = PathBuf> {
    maps.lines().filter_map(|line| {
        let permissions = line.split_ascii_whitespace().nth(1)?;
        let path = &line[line.find('/')?..];
        permissions.contains('x').then(|| path.into())
    })
}

/// The links beside a library that lead to it. The loader knows libraries by their soname, which may be one of them.
fn links_to(library: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(folder) = library.parent() else { return Ok(Vec::new()) };
    let mut links = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_symlink() && fs::canonicalize(&path).is_ok_and(|target| target == library) {
            links.push(path);
        }
    }
    Ok(links)
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path)
        .with_context(|| format!("{}, which the executable needs, cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_mapped_as_code_count() {
        let maps = "\
55d0c0000000-55d0c0001000 r--p 00000000 fe:00 11    /usr/bin/x
55d0c0001000-55d0c0002000 r-xp 00001000 fe:00 11    /usr/bin/x
7f0000000000-7f0000001000 r-xp 00000000 fe:00 12    /opt/my libs/libc.so.6
7f0000002000-7f0000003000 r--p 00000000 fe:00 13    /usr/lib/locale/C.utf8/LC_CTYPE
7f0000004000-7f0000005000 rw-p 00000000 00:00 0
7ffe00000000-7ffe00001000 r-xp 00000000 00:00 0     [vdso]
";
        let found: Vec<_> = mapped(maps).collect();
        assert_eq!(found, [PathBuf::from("/usr/bin/x"), PathBuf::from("/opt/my libs/libc.so.6")]);
    }

    #[test]
    fn a_library_is_found_under_its_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let library = root.join("libx-2.31.so");
        fs::write(&library, "").unwrap();
        fs::write(root.join("other"), "").unwrap();
        std::os::unix::fs::symlink("libx-2.31.so", root.join("libx.so.6")).unwrap();
        std::os::unix::fs::symlink("other", root.join("liby.so")).unwrap();
        assert_eq!(links_to(&library).unwrap(), [root.join("libx.so.6")]);
    }

    #[test]
    fn the_image_of_this_executable_begins_with_what_runs_here() {
        let image = Image::of_this_executable().unwrap();
        assert!(image.reference().starts_with("dcgi/demo:"), "{}", image.reference());
        assert_eq!(image.reference(), Image::of_this_executable().unwrap().reference());
        assert_eq!(image.config().entrypoint, [PROGRAM]);
        let size = fs::metadata("/proc/self/exe").unwrap().len();
        let mut archive = tar::Archive::new(image.into_archive().unwrap());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let program = entries.find(|entry| entry.path().unwrap() == Path::new("bin/dcgi")).unwrap();
        assert_eq!(program.size(), size);
    }

    #[test]
    fn another_file_is_another_build() {
        let (one, two) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        assert_ne!(build(&one).unwrap(), build(&two).unwrap());
        assert_eq!(build(&one).unwrap(), build(&one).unwrap());
    }
}
