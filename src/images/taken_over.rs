//! Images that are a container engine's, and are here as well.
//!
//! An engine's name may mean another image tomorrow, and its images come and go without a word. So a reference that was
//! taken over remembers the engine's id: who knows what the name means over there can tell whether it means the same
//! here. What somebody has put into the store himself under the same name is never touched by it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use bollard::Docker;
use tokio_util::sync::CancellationToken;

use super::Store;
use super::digest::{digits, sha256_hex};
use super::error::{StoreError, StoreErrorKind};
use super::lock::Lock;
use super::reference::{self, Entry};
use super::removal::remove_tree;
use super::resolve::blocking;
use super::work::Work;

/// The file in an image's directory that says it is an engine's.
const MARK: &str = "taken-over";

/// What a name means in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meaning {
    /// The image's id, `sha256:` included.
    pub id: String,
    /// What the container engine called it when it was taken over under this name. Absent where somebody has put it here
    /// himself, and where the name is an id.
    pub taken_over: Option<String>,
}

/// What [`Store::remove_superseded`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Superseded {
    /// The images that are gone, by their ids.
    pub removed: Vec<String>,
    /// How many are left because somebody still uses them.
    pub in_use: usize,
}

/// What an image is called that is taken over.
#[derive(Clone, Copy, Debug)]
pub(super) struct EnginesName<'a> {
    /// Complete. Absent where it was asked for by its id.
    pub(super) name: Option<&'a str>,
    /// What the engine calls it.
    pub(super) engines_id: &'a str,
    /// Ends it in the middle.
    pub(super) stop: &'a CancellationToken,
}

/// A reader that breaks off when it is told to.
pub(super) struct Stoppable<'a, R> {
    reader: R,
    stop: Option<&'a CancellationToken>,
}

impl Store {
    /// What a name means: a reference, an id, or how an id begins. Unlike [`find`](Store::find), keeps nothing from being
    /// removed.
    ///
    /// # Errors
    /// As [`find`](Store::find).
    pub fn meaning(&self, name: &str) -> Result<Option<Meaning>, StoreError> {
        let Some((digits, key)) = self.look_up(name)? else { return Ok(None) };
        if !self.image_path(&digits).exists() {
            return Ok(None);
        }
        let entry = match key {
            Some(key) => reference::read(&self.path("references"), &key)?,
            None => None,
        };
        Ok(Some(Meaning {
            id: format!("sha256:{digits}"),
            taken_over: entry.and_then(|entry| entry.taken_over),
        }))
    }

    /// Takes over an image of a container engine, by the engine's id, under a name that means it there. Only pieces of it
    /// are held in memory. Where another process is about the same, this waits for that. `tell` hears of every piece as it
    /// comes, by its length.
    ///
    /// Where the store has an image of that name that was not taken over, the name goes on meaning that one.
    ///
    /// # Errors
    /// [`Missing`](StoreErrorKind::Missing) where the engine has no such image any more, [`Source`](StoreErrorKind::Source)
    /// where it breaks off, or `stop` was cancelled; [`Invalid`](StoreErrorKind::Invalid) where the name is an id by which
    /// the image is known there only; otherwise as [`load`](Store::load). Nothing half done is left then.
    ///
    /// # Cancel safety
    /// Cancel safe, but who has to know that nothing of it is left cancels `stop` and waits.
    pub async fn take_over(
        &self,
        engine: &Docker,
        name: &str,
        id: &str,
        tell: impl Fn(usize) + Send,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let _waiting = tokio::select! {
            waiting = self.waiting(sha256_hex(format!("take over {id}").as_bytes())) => waiting?,
            () = stop.cancelled() => return Err(stopped(name)),
        };
        let (store, asked) = (self.clone(), name.to_owned());
        let meaning = blocking(move || store.meaning(&asked)).await?;
        if meaning.is_some_and(|meaning| meaning.taken_over.as_deref() == Some(id)) {
            return Ok(());
        }
        self.export(engine, name, id, tell, stop).await?;
        let (store, asked) = (self.clone(), name.to_owned());
        if blocking(move || store.meaning(&asked)).await?.is_none() {
            // An engine may call an image by its manifest's digest.
            let what = format!("`{name}` is not the image's own id: a name would find it");
            return Err(StoreError::invalid(what));
        }
        Ok(())
    }

    /// Removes the images that were taken over and that no reference means any more, but for those in use: the name has
    /// moved on. Blocks.
    ///
    /// # Errors
    /// [`Storage`](StoreErrorKind::Storage) where the store cannot be read or written.
    pub fn remove_superseded(&self) -> Result<Superseded, StoreError> {
        let mut superseded = Superseded::default();
        let is_marked = |digits: &String| self.image_path(digits).join(MARK).exists();
        let marked: Vec<_> = self.ids()?.into_iter().filter(is_marked).collect();
        if marked.is_empty() {
            return Ok(superseded);
        }
        let work = self.work()?;
        let changing = self.lock()?;
        let references = reference::all(&self.path("references"))?;
        for found in marked {
            let is_meant = |entry: &Entry| digits(&entry.image) == Some(&found);
            if references.iter().any(is_meant) {
                continue;
            }
            let image = self.image_path(&found);
            let failed = |error| StoreError::storage(format!("cannot remove {}", image.display()), error);
            let Some(_lease) = Lock::try_exclusive(&image.join("lease")).map_err(failed)? else {
                superseded.in_use += usize::from(image.exists());
                continue;
            };
            fs::rename(&image, work.path().join(&found)).map_err(failed)?;
            superseded.removed.push(format!("sha256:{found}"));
        }
        drop(changing);
        let failed = |error| StoreError::storage(format!("cannot clear {}", work.path().display()), error);
        let folder = File::open(work.path()).map_err(failed)?;
        for id in &superseded.removed {
            remove_tree(&folder, digits(id).unwrap_or_default().as_bytes()).map_err(failed)?;
        }
        Ok(superseded)
    }
}

// === impl Meaning ===

impl Meaning {
    /// For who has to do with meanings and no store.
    #[cfg(test)]
    pub(crate) fn new(id: String, taken_over: Option<String>) -> Self {
        Self { id, taken_over }
    }
}

// === impl EnginesName ===

impl EnginesName<'_> {
    /// Makes the name mean an image, unless it means one that somebody has put here himself. Gives the name that means it.
    /// Call with the store locked.
    pub(super) fn write(
        &self,
        folder: &Path,
        work: &Work,
        image: String,
    ) -> Result<Option<String>, StoreError> {
        let Some(name) = self.name else { return Ok(None) };
        let before = reference::read(folder, name)?;
        if before.is_some_and(|before| before.taken_over.is_none()) {
            return Ok(None);
        }
        let entry = Entry { reference: name.to_owned(), image, taken_over: Some(self.engines_id.to_owned()) };
        reference::write(folder, work, &entry)?;
        Ok(Some(entry.reference))
    }
}

/// Marks an image in the making. One without a name is nobody's to remove.
pub(super) fn mark(image: &Path, name: &EnginesName<'_>) -> Result<(), StoreError> {
    if name.name.is_none() {
        return Ok(());
    }
    let mark = image.join(MARK);
    File::create(&mark)
        .map(drop)
        .map_err(|error| StoreError::storage(format!("cannot write {}", mark.display()), error))
}

/// Somebody wants the image for himself.
pub(super) fn unmark(image: &Path) -> Result<(), StoreError> {
    let mark = image.join(MARK);
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::storage(format!("cannot remove {}", mark.display()), error))
        }
        _ => Ok(()),
    }
}

/// It was told to.
pub(super) fn stopped(name: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Source, format!("taking over image `{name}` was broken off"))
}

// === impl Stoppable ===

impl<'a, R> Stoppable<'a, R> {
    pub(super) fn new(reader: R, stop: Option<&'a CancellationToken>) -> Self {
        Self { reader, stop }
    }
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_some_and(CancellationToken::is_cancelled) {
            return Err(io::Error::other("it was broken off"));
        }
        self.reader.read(buffer)
    }
}
