//! Images from archives: what `docker save` writes, OCI image layouts, and the mixed form of newer engines.

mod bounds;
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
use bounds::Bounds;

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
    names: Vec<Claim>,
}

/// A name that an archive gives an image: what anybody may have written there.
#[derive(Debug)]
struct Claim {
    name: String,
    /// What the name was given to, where its content has been seen to have this digest.
    verified: Option<String>,
}

/// The files of an archive, each in a file of the same content on the disk. Its own names lead nowhere but here.
#[derive(Debug)]
struct Files {
    files: HashMap<Vec<u8>, Spooled>,
    /// Symbolic and hard links, and what they point at.
    links: HashMap<Vec<u8>, Vec<u8>>,
    /// What may still be looked at.
    left: Bounds,
}

#[derive(Debug)]
struct Spooled {
    path: PathBuf,
    size: u64,
    digits: String,
}

impl Store {
    /// Takes every image for this machine from an archive: what `docker save` writes, an OCI image layout, or both in one,
    /// plain or compressed by gzip or Zstandard. Each comes under all names that it has in there. A name with a digest must be
    /// that of what it was given to, so that a pinned digest never means what somebody has only called so.
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
        // What an archive calls an image that is taken over is nobody's.
        let names = if taken_over.is_some() {
            described.truncate(1);
            vec![Vec::new(); described.len()]
        } else {
            complete(&described)?
        };
        let install = |(image, names): (&Described, &Vec<String>)| {
            let naming = taken_over.map_or(Naming::Given(names), Naming::TakenOver);
            self.install(&work, &image.config, &image.layers, naming).map_err(|error| match names.first() {
                Some(name) => error.within(format_args!("image `{name}`")),
                None => error.within(format_args!("image sha256:{}", digest::sha256_hex(&image.config))),
            })
        };
        described.iter().zip(&names).map(install).collect()
    }
}

// === impl Files ===

impl Files {
    /// Reads an archive to its end.
    fn spool(archive: impl Read, work: &Work) -> Result<Self, StoreError> {
        let unreadable = |error: io::Error| StoreError::invalid("the archive cannot be read").because(error);
        let folder = work.directory("archive")?;
        let mut archive = Archive::new(decompress(archive).map_err(unreadable)?);
        let mut files = Self { files: HashMap::new(), links: HashMap::new(), left: Bounds::default() };
        let mut count = 0;
        while let Some(entry) = archive.next().map_err(unreadable)? {
            // Each that comes, for a name may come again: the last one counts, as for tar.
            count += 1;
            if count > MOST_FILES {
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
        self.left.part()?;
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
        self.left.description(found.size)?;
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

/// The complete names of each image.
fn complete(described: &[Described]) -> Result<Vec<Vec<String>>, StoreError> {
    // SECURITY: by a digest, content is meant that somebody has looked at before.
    let mut pinned: HashMap<String, &[u8]> = HashMap::new();
    let mut names = Vec::new();
    for image in described {
        let mut own = Vec::new();
        for claim in &image.names {
            let name = claim.complete()?;
            if name.contains('@') && *pinned.entry(name.clone()).or_insert(&image.config) != image.config {
                let what = format!("the archive has several images for this machine that `{name}` means");
                return Err(StoreError::invalid(what));
            }
            own.push(name);
        }
        names.push(own);
    }
    Ok(names)
}

// === impl Claim ===

impl Claim {
    /// The complete name. A digest in it must be what was found.
    fn complete(&self) -> Result<String, StoreError> {
        let parsed = reference::parse(&self.name).map_err(|error| {
            StoreError::invalid("the archive gives an image a name that is none").because(error)
        })?;
        let Some(digest) = parsed.digest() else { return Ok(reference::key(&parsed)) };
        if self.verified.as_deref() != Some(digest) {
            let found = match &self.verified {
                Some(verified) => format!("what has this name is {verified}"),
                None => "nothing in the archive shows that it is".to_owned(),
            };
            return Err(StoreError::invalid(format!(
                "the archive calls an image `{}`, a name by digest, and {found}. Save the image by a tag, or take it from \
                 its registry by `dcgi image pull`",
                shown(self.name.as_bytes())
            )));
        }
        Ok(reference::key(&parsed))
    }
}
