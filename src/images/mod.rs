//! Images on this machine's disk, unpacked and ready to run from.
//!
//! This room uses the leaf `reason`, and no other room. It knows no engine, container, route or request: an engine that uses
//! a store says where else to look ([`Store::with_engine`]). It never executes anything of an image, and never asks for an
//! image that nobody has named.
//!
//! A [`Store`] is a directory that several processes may share. Nothing in it is ever half done: what is being made stands
//! in `work/` and is renamed into place when it is whole and on the disk. Other users cannot enter it, so that a
//! set-user-ID file of an image is of no use to them.
//!
//! | below the root | what |
//! | --- | --- |
//! | `images/ID/rootfs/` | an image's root file system: all of its layers in one directory (see `rootfs`) |
//! | `images/ID/config.json` | its configuration, byte for byte; `ID` is the SHA-256 of it, as Docker's image id |
//! | `images/ID/image.json` | its size, and when it came |
//! | `images/ID/taken-over` | empty: it is a container engine's, and goes when no reference means it any more |
//! | `images/ID/lease` | the lock that every [`Image`] shares, and that [`rm`](Store::rm) wants for itself |
//! | `references/HASH` | JSON: a complete reference, the id it means, and the engine's id where that was taken over; `HASH` is the SHA-256 of the reference |
//! | `work/UUID/` | what is unfinished, locked by the process that makes it |
//! | `locks/HASH` | held by who pulls a reference or unpacks an image, so that others wait and find it done |
//! | `lock` | held for the moment in which references and images change |
//!
//! All locks are `flock`'s, so they end with their process; `flock --shared STORE/images/ID/lease COMMAND` keeps an
//! image as dcgi itself does.
//!
//! What reads and writes the disk blocks; from a runtime, call it in `tokio::task::spawn_blocking`. What asks a
//! registry or an engine is asynchronous, and does that itself.

mod archive;
mod compression;
mod digest;
mod docker;
mod error;
mod image;
mod import;
mod install;
mod load;
mod lock;
mod platform;
mod reference;
mod registry;
mod removal;
mod resolve;
mod rootfs;
mod taken_over;
mod work;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

pub use docker::FindEngine;
pub use error::{StoreError, StoreErrorKind};
pub use image::{Image, ImageConfig};
pub use registry::Progress;
pub use resolve::PullPolicy;
pub use taken_over::{Meaning, Superseded};
pub(crate) use work::Work;

use image::{About, ConfigFile, Record, Shared};
use lock::Lock;
use reference::Name;
use removal::remove_tree;
use resolve::blocking;

/// A directory of images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    /// Where images are looked for before their registry is asked.
    engine: Option<FindEngine>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Held while a reference is pulled, so that one process waits at each file lock once, however many ask.
    pulls: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// One line of [`Store::ls`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Complete. Absent where an image is known by its id only.
    pub reference: Option<String>,
    /// `sha256:` included.
    pub id: String,
    /// As the image has it, such as `amd64`. Empty where it says nothing.
    pub architecture: String,
    /// Of all files, in bytes.
    pub size: u64,
    /// When the image was built, as it says itself (RFC 3339). Empty where it says nothing.
    pub created: String,
    /// When it came into this store.
    pub imported: SystemTime,
}

/// What [`Store::rm`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// References that mean nothing any more.
    pub references: Vec<String>,
    /// The image, where no other reference kept it.
    pub image: Option<String>,
}

/// Whether a text can name an image: by a reference, or by an id.
///
/// # Errors
/// [`Reference`](StoreErrorKind::Reference), with what is wrong with it.
pub fn check_name(text: &str) -> Result<(), StoreError> {
    Name::parse(text).map(drop)
}

// === impl Store ===

impl Store {
    /// Opens the store in a directory, which is made where it is missing, and removes what interrupted processes have left in
    /// it.
    ///
    /// # Errors
    /// [`Storage`](StoreErrorKind::Storage) where the directory cannot be made or written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let failed =
            |error| StoreError::storage(format!("cannot open the image store {}", root.display()), error);
        let root = std::path::absolute(&root).map_err(failed)?;
        let store = Self { inner: Arc::new(Inner { root, pulls: Mutex::default() }), engine: None };
        let failed = |error| {
            let shown = store.inner.root.display();
            StoreError::storage(
                format!(
                    "cannot open the image store {shown}; `DCGI_STORE` names another directory for it, one that may be written"
                ),
                error,
            )
        };
        if let Some(above) = store.inner.root.parent() {
            fs::create_dir_all(above).map_err(failed)?;
        }
        for directory in ["", "images", "references", "work", "locks"] {
            match DirBuilder::new().mode(0o700).create(store.path(directory)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
        }
        Work::sweep(&store.path("work"), &store.path("lock"))?;
        Lock::sweep(&store.path("locks")).map_err(failed)?;
        Ok(store)
    }

    /// Where the store is unless someone says otherwise: `$DCGI_STORE`; else `/var/lib/dcgi` for root; else
    /// `$XDG_DATA_HOME/dcgi`, which is `~/.local/share/dcgi` by default. Without `HOME`, `~` is what `/etc/passwd` says, else `/`.
    pub fn default_root() -> PathBuf {
        let user = rustix::process::geteuid();
        let get = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || home_of(user.as_raw(), &fs::read_to_string("/etc/passwd").unwrap_or_default());
        default_root(user.is_root(), get, home)
    }

    /// The directory that this store is in.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The image of a name: a reference, with a digest too where it was pulled; an id; or how an id begins.
    ///
    /// # Errors
    /// [`Reference`](StoreErrorKind::Reference) where the name is none, or begins several ids;
    /// [`Storage`](StoreErrorKind::Storage) where the store cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Image>, StoreError> {
        match self.look_up(name)? {
            Some((digits, reference)) => self.image(&digits, reference),
            None => Ok(None),
        }
    }

    /// All images, each once for every reference, in their order.
    ///
    /// # Errors
    /// [`Storage`](StoreErrorKind::Storage) where the store cannot be read.
    pub fn ls(&self) -> Result<Vec<Listed>, StoreError> {
        let references = reference::all(&self.path("references"))?;
        let mut listed = Vec::new();
        for digits in self.ids()? {
            // Removed meanwhile is as good.
            let Some(about) = self.about(&digits)? else { continue };
            let id = format!("sha256:{digits}");
            let line = |reference: Option<&str>| Listed {
                reference: reference.map(str::to_owned),
                id: id.clone(),
                architecture: about.architecture.clone(),
                size: about.record.size,
                created: about.created.clone(),
                imported: SystemTime::UNIX_EPOCH + Duration::from_secs(about.record.imported),
            };
            let names: Vec<_> =
                references.iter().filter(|entry| entry.image == id).map(|entry| &*entry.reference).collect();
            // A digest beside a tag says nothing new.
            let tagged = names.iter().any(|name| !name.contains('@'));
            listed.extend(
                names.iter().filter(|name| !tagged || !name.contains('@')).map(|name| line(Some(name))),
            );
            if names.is_empty() {
                listed.push(line(None));
            }
        }
        listed.sort_by(|a, b| {
            (a.reference.is_none(), &a.reference, &a.id).cmp(&(b.reference.is_none(), &b.reference, &b.id))
        });
        Ok(listed)
    }

    /// Forgets a reference, and removes its image where that was the last one. By its id, an image is removed with all of
    /// its references.
    ///
    /// # Errors
    /// [`Missing`](StoreErrorKind::Missing) where there is no such image; [`InUse`](StoreErrorKind::InUse) where any process
    /// holds an [`Image`] of it, and then everything stays as it was.
    pub fn rm(&self, name: &str) -> Result<Removed, StoreError> {
        let work = self.work()?;
        let _changing = self.lock()?;
        let missing = || {
            let what = format!("there is no image `{}` in {}", name.escape_debug(), self.root().display());
            StoreError::new(StoreErrorKind::Missing, what)
        };
        let (digits, reference) = self.look_up(name)?.ok_or_else(missing)?;
        let id = format!("sha256:{digits}");
        let folder = self.path("references");
        let mut references: Vec<_> = reference::all(&folder)?
            .into_iter()
            .filter(|entry| entry.image == id)
            .map(|e| e.reference)
            .collect();
        if let Some(reference) = &reference {
            let by_digest = reference.contains('@');
            // A digest keeps nothing that was known by a tag.
            let kept =
                references.iter().any(|other| other != reference && (by_digest || !other.contains('@')));
            if kept {
                references.retain(|other| other == reference);
            }
            if kept || !self.image_path(&digits).exists() {
                reference::forget(&folder, reference)?;
                return Ok(Removed { references, image: None });
            }
        }

        let image = self.image_path(&digits);
        let lease = Lock::try_exclusive(&image.join("lease"));
        let failed = |error| StoreError::storage(format!("cannot remove {}", image.display()), error);
        let Some(lease) = lease.map_err(failed)? else {
            let what = format!(
                "image `{}` is in use ({}): a process runs programs from it",
                name.escape_debug(),
                &digits[..12]
            );
            return Err(StoreError::new(StoreErrorKind::InUse, what));
        };
        // In one step, so that nobody finds half of it. The work's end removes the rest.
        fs::rename(&image, work.path().join("removed")).map_err(failed)?;
        drop(lease);
        for reference in &references {
            reference::forget(&folder, reference)?;
        }
        sync(&folder)?;
        drop(_changing);
        let directory = fs::File::open(work.path()).map_err(failed)?;
        remove_tree(&directory, b"removed").map_err(failed)?;
        Ok(Removed { references, image: Some(id) })
    }

    // === for the modules of this room ===

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.inner.root.clone() } else { self.inner.root.join(name) }
    }

    fn image_path(&self, digits: &str) -> PathBuf {
        self.inner.root.join("images").join(digits)
    }

    /// A directory for what is unfinished.
    fn work(&self) -> Result<Work, StoreError> {
        Work::begin(&self.path("work"), &self.path("lock"))
    }

    /// For the moment in which references and images change.
    fn lock(&self) -> Result<Lock, StoreError> {
        Lock::exclusive(&self.path("lock"))
            .map_err(|error| StoreError::storage(format!("cannot lock {}", self.root().display()), error))
    }

    /// What a name means: an image's id without `sha256:`, and the complete reference, where it is one.
    fn look_up(&self, name: &str) -> Result<Option<(String, Option<String>)>, StoreError> {
        let begins = match Name::parse(name) {
            Ok(Name::Id(digits)) => digits,
            Ok(Name::Reference(reference)) => {
                let key = reference::key(&reference);
                if let Some(found) = reference::read(&self.path("references"), &key)? {
                    let digits = digest::digits(&found.image).unwrap_or_default().to_owned();
                    return Ok(Some((digits, Some(key))));
                }
                if !reference::may_be_id(name) {
                    return Ok(None);
                }
                name.to_owned()
            }
            Err(error) => return Err(error),
        };
        let mut found = self.ids()?.into_iter().filter(|digits| digits.starts_with(&begins));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => {
                let what = format!("`{name}` begins the ids of several images");
                Err(StoreError::new(StoreErrorKind::Reference, what))
            }
            (found, _) => Ok(found.map(|digits| (digits, None))),
        }
    }

    /// The ids of all images, without `sha256:`, in order.
    fn ids(&self) -> Result<Vec<String>, StoreError> {
        let folder = self.path("images");
        let failed = |error| StoreError::storage(format!("cannot read {}", folder.display()), error);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            ids.extend(entry.map_err(failed)?.file_name().into_string());
        }
        ids.sort();
        Ok(ids)
    }

    /// An image with a lease on it. Absent where it is not there.
    fn image(&self, digits: &str, reference: Option<String>) -> Result<Option<Image>, StoreError> {
        let path = self.image_path(digits);
        let failed = |error| StoreError::storage(format!("cannot read {}", path.display()), error);
        let Some(lease) = Lock::shared(&path.join("lease")).map_err(failed)? else { return Ok(None) };
        let Some(about) = self.about(digits)? else { return Ok(None) };
        let id = format!("sha256:{digits}");
        let reference = reference.unwrap_or_else(|| id.clone());
        let shared = Shared { id, reference, rootfs: path.join("rootfs"), about, _lease: lease };
        Ok(Some(Image { shared: Arc::new(shared) }))
    }

    fn about(&self, digits: &str) -> Result<Option<About>, StoreError> {
        let path = self.image_path(digits);
        let read = |name: &str| {
            let path = path.join(name);
            match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(StoreError::storage(format!("cannot read {}", path.display()), error)),
                Ok(text) => Ok(Some(text)),
            }
        };
        let (Some(config), Some(record)) = (read("config.json")?, read("image.json")?) else {
            return Ok(None);
        };
        let record: Record = serde_json::from_slice(&record).map_err(|error| {
            StoreError::storage(format!("{} is damaged", path.display()), io::Error::from(error))
        })?;
        Ok(Some(ConfigFile::parse(&config)?.about(record)))
    }
}

/// See [`Store::default_root`].
fn default_root(
    is_root: bool,
    get: impl Fn(&str) -> Option<PathBuf>,
    home: impl FnOnce() -> Option<PathBuf>,
) -> PathBuf {
    if let Some(root) = get("DCGI_STORE") {
        return root;
    }
    if is_root {
        return PathBuf::from("/var/lib/dcgi");
    }
    // XDG Base Directory Specification: a path that is not absolute is to be ignored.
    get("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| get("HOME").or_else(home).map(|home| home.join(".local/share")))
        // Never where somebody happens to stand.
        .unwrap_or_else(|| PathBuf::from("/.local/share"))
        .join("dcgi")
}

/// A user's home directory, by passwd(5).
fn home_of(user: u32, passwd: &str) -> Option<PathBuf> {
    let user = user.to_string();
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = users.find(|fields| fields.get(2) == Some(&&*user))?;
    fields.get(5).filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Waits until a directory's names are on the disk.
fn sync(directory: &Path) -> Result<(), StoreError> {
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| StoreError::storage(format!("cannot write {}", directory.display()), error))
}
