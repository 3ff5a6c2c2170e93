//! Images from archives: what `docker save` writes, OCI image layouts, and the mixed form of newer engines.

mod docker_archive;
mod oci_layout;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tar::EntryType;

use super::archive::{Archive, End};
use super::compression::decompress;
use super::digest::Hashing;
use super::error::{StoreError, is_full, shown};
use super::image::Image;
use super::install::{LARGEST_CONFIG, Naming};
use super::taken_over::EnginesName;
use super::work::Work;
use super::{Store, digest, reference};

/// More than any archive of images has files: each is a layer or a description.
const MOST_FILES: usize = 64 << 10;

/// Links to links: what writes archives makes none.
const MOST_LINKS: usize = 8;

/// An image as an archive describes it.
#[derive(Debug)]
struct Described {
    config: Vec<u8>,
    /// The lowest first.
    layers: Vec<PathBuf>,
    /// Complete.
    names: Vec<String>,
}

/// The files of an archive, each in a file of the same content on the disk. Its own names lead nowhere but here.
#[derive(Debug)]
struct Files {
    files: HashMap<Vec<u8>, Spooled>,
    /// Symbolic and hard links, and what they point at.
    links: HashMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug)]
struct Spooled {
    path: PathBuf,
    size: u64,
    digits: String,
}

impl Store {
    /// Takes every image for this machine from an archive: what `docker save` writes, an OCI image layout, or both in one,
    /// plain or compressed by gzip or Zstandard. Each comes under all names that it has in there.
    ///
    /// The archive is read once from beginning to end, and held on the store's disk meanwhile. Blocks.
    ///
    /// # Errors
    /// [`Invalid`](super::StoreErrorKind::Invalid) where the archive is damaged, cut, or hostile;
    /// [`Platform`](super::StoreErrorKind::Platform) where it is for other machines;
    /// [`Storage`](super::StoreErrorKind::Storage) where the disk is full. Images that stood in front of the one that fails are
    /// kept, and nothing else.
    pub fn load(&self, archive: impl Read) -> Result<Vec<Image>, StoreError> {
        self.load_as(archive, None)
    }

    /// The same; or the first image alone, under the name that it is taken over by.
    pub(super) fn load_as(
        &self,
        archive: impl Read,
        taken_over: Option<EnginesName<'_>>,
    ) -> Result<Vec<Image>, StoreError> {
        let work = self.work()?;
        let files = Files::spool(archive, &work)?;
        let mut described = if files.has("manifest.json") {
            docker_archive::images(&files)?
        } else if files.has("index.json") {
            oci_layout::images(&files)?
        } else {
            let what = "the archive has neither manifest.json nor index.json: it is none of images. \
                        A root file system is taken by `dcgi image import`";
            return Err(StoreError::invalid(what));
        };
        if taken_over.is_some() {
            described.truncate(1);
        }
        let install = |image: &Described| {
            let naming = taken_over.map_or(Naming::Given(&image.names), Naming::TakenOver);
            self.install(&work, &image.config, &image.layers, naming).map_err(|error| {
                match image.names.first() {
                    Some(name) => error.within(format_args!("image `{name}`")),
                    None => error.within(format_args!("image sha256:{}", digest::sha256_hex(&image.config))),
                }
            })
        };
        described.iter().map(install).collect()
    }
}

// === impl Files ===

impl Files {
    /// Reads an archive to its end.
    fn spool(archive: impl Read, work: &Work) -> Result<Self, StoreError> {
        let unreadable = |error: io::Error| StoreError::invalid("the archive cannot be read").because(error);
        let folder = work.directory("archive")?;
        let mut archive = Archive::new(decompress(archive).map_err(unreadable)?);
        let mut files = Self { files: HashMap::new(), links: HashMap::new() };
        while let Some(entry) = archive.next().map_err(unreadable)? {
            let count = files.files.len() + files.links.len();
            if count >= MOST_FILES {
                return Err(StoreError::invalid("the archive has more files than one of images may have"));
            }
            let name = plain(&entry.path);
            match entry.kind {
                EntryType::Regular | EntryType::Continuous => {
                    let spooled = Spooled::new(&mut archive, folder.join(count.to_string()), entry.size)?;
                    files.files.insert(name, spooled);
                }
                EntryType::Symlink => {
                    let beside = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
                    let target = plain(&[&name[..beside], &entry.target].concat());
                    files.links.insert(name, target);
                }
                EntryType::Link => {
                    files.links.insert(name, plain(&entry.target));
                }
                _ => {}
            }
        }
        if archive.end() != Some(End::Marked) {
            return Err(StoreError::invalid("the archive is cut short: the mark for its end is missing"));
        }
        // Whoever writes it into a pipe wants to write all of it.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(unreadable)?;
        Ok(files)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name.as_bytes()).is_some()
    }

    fn get(&self, name: &[u8]) -> Option<&Spooled> {
        let mut name = plain(name);
        for _ in 0..MOST_LINKS {
            match self.links.get(&name) {
                Some(target) => name = target.clone(),
                None => return self.files.get(&name),
            }
        }
        None
    }

    /// A file that must be there. Where its name is a digest's digits, as names in archives mostly are, its content
    /// must have that digest.
    fn named(&self, name: &str) -> Result<&Spooled, StoreError> {
        let shown = shown(name.as_bytes());
        let found = self
            .get(name.as_bytes())
            .ok_or_else(|| StoreError::invalid(format!("the archive lacks `{shown}`, which it speaks of")))?;
        let last = name.rsplit('/').next().unwrap_or_default();
        let last = last.strip_suffix(".json").or(last.strip_suffix(".tar")).unwrap_or(last);
        if digest::digits(&format!("sha256:{last}")).is_some_and(|digits| digits != found.digits) {
            let what = format!("`{shown}` of the archive is damaged: its content is sha256:{}", found.digits);
            return Err(StoreError::invalid(what));
        }
        Ok(found)
    }

    /// The content of a description, which is small.
    fn description(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let found = self.named(name)?;
        if found.size > LARGEST_CONFIG {
            let what = format!("`{}` of the archive has {} bytes", shown(name.as_bytes()), found.size);
            return Err(StoreError::invalid(what));
        }
        fs::read(&found.path)
            .map_err(|error| StoreError::storage(format!("cannot read {}", found.path.display()), error))
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        serde_json::from_slice(&self.description(name)?).map_err(|error| {
            StoreError::invalid(format!("`{}` of the archive cannot be read", shown(name.as_bytes())))
                .because(error)
        })
    }

    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        self.named(name).map(|found| found.path.clone())
    }
}

impl Spooled {
    fn new(content: impl Read, path: PathBuf, size: u64) -> Result<Self, StoreError> {
        let failed = |error| unwritable(&path, error);
        let mut file = File::create_new(&path).map_err(failed)?;
        let mut content = Hashing::new(content);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(StoreError::invalid("the archive cannot be read").because(error)),
            };
            io::Write::write_all(&mut file, &buffer[..read]).map_err(failed)?;
        }
        let digits = content.finish().map_err(failed)?;
        Ok(Self { path, size, digits })
    }
}

/// What is held on the way into the store cannot be written.
pub(super) fn unwritable(path: &Path, error: io::Error) -> StoreError {
    if is_full(&error) {
        return StoreError::storage("the disk is full", error);
    }
    StoreError::storage(format!("cannot write {}", path.display()), error)
}

/// A name without what means nothing, `..` taken back: a key, and never a path.
fn plain(name: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => _ = components.pop(),
            _ => components.push(component),
        }
    }
    components.join(&b'/')
}

/// A name that an archive gives an image.
fn complete(name: &str) -> Result<String, StoreError> {
    reference::parse(name)
        .map(|reference| reference::key(&reference))
        .map_err(|error| StoreError::invalid("the archive gives an image a name that is none").because(error))
}
