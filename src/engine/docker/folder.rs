//! What is in a directory of an image: learnt once, from a container that is never started.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder};
use futures_util::TryStreamExt;
use tokio::sync::oneshot;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::container::Container;
use super::image::Found;
use super::{Shared, api, options};
use crate::engine::{EngineError, EngineErrorKind};
use crate::files::{Catalog, Node};
use crate::reason::Reason;

/// How many files and links a directory may have, with those that links lead to.
const MOST_NODES: usize = 100_000;

/// How many bytes are read of all that is in it: the engine sends the files themselves too.
const MOST_BYTES: u64 = 4 << 30;

/// For how long a failure is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(5);

/// How many links the engine is asked about.
const MOST_LINKS: usize = 10_000;

/// What is known of directories, by the image's name and the directory: of the image with that id.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<HashMap<(String, String), Known>>);

#[derive(Debug)]
struct Known {
    id: String,
    /// Held while somebody learns it, so that many requests learn once.
    learnt: Arc<tokio::sync::Mutex<Option<Learnt>>>,
}

#[derive(Debug)]
enum Learnt {
    Catalog(Arc<Catalog>),
    /// Why not, and when: those who ask soon after need not each try again.
    Failed(Instant, EngineErrorKind, String),
}

impl Folders {
    /// What is in a directory of an image.
    ///
    /// # Errors
    /// Where it is not there, is too large, or the engine fails.
    ///
    /// # Cancel safety
    /// Cancel safe. What has begun goes on for the next caller.
    pub(super) async fn get(
        &self,
        engine: &Arc<Shared>,
        name: &str,
        image: &Found,
        directory: &str,
    ) -> Result<Arc<Catalog>, EngineError> {
        let known = {
            let mut folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known =
                folders.entry((name.to_owned(), directory.to_owned())).or_insert_with(|| Known::of(image));
            if known.id != image.id {
                *known = Known::of(image);
            }
            known.learnt.clone()
        };
        let mut learnt = known.lock_owned().await;
        match &*learnt {
            Some(Learnt::Catalog(catalog)) => return Ok(catalog.clone()),
            Some(Learnt::Failed(when, kind, what)) if when.elapsed() < BELIEVED_FOR => {
                return Err(EngineError::new(*kind, what.clone()));
            }
            _ => {}
        }
        let (engine, image, directory) = (engine.clone(), image.clone(), directory.to_owned());
        // A task, so that a caller who goes away does not end what others wait for.
        let learning = tokio::spawn(async move {
            let result = learn(&engine, &image, &directory).await;
            match result {
                Ok(catalog) => {
                    tracing::debug!(
                        image = image.id,
                        directory,
                        files = catalog.len(),
                        "learnt what is in a directory of an image"
                    );
                    let catalog = Arc::new(catalog);
                    *learnt = Some(Learnt::Catalog(catalog.clone()));
                    Ok(catalog)
                }
                Err(error) => {
                    let what = Reason(&error).to_string();
                    *learnt = Some(Learnt::Failed(Instant::now(), error.kind(), what));
                    Err(error)
                }
            }
        });
        let lost =
            |error| EngineError::new(EngineErrorKind::Refused, "looking into an image failed").because(error);
        learning.await.unwrap_or_else(|error| Err(lost(error)))
    }
}

impl Known {
    fn of(image: &Found) -> Self {
        Self { id: image.id.clone(), learnt: Arc::default() }
    }
}

async fn learn(engine: &Arc<Shared>, image: &Found, directory: &str) -> Result<Catalog, EngineError> {
    let id = uuid::Uuid::now_v7().simple().to_string();
    let mut container = Container::new(engine.clone(), engine.instance.container_name(&id));
    let body = options::looking_body(&image.id, &engine.instance);
    let (sender, learnt) = oneshot::channel();
    let (shared, directory) = (engine.clone(), directory.to_owned());
    // A task: whoever asks may go away, and the container is to be removed all the same.
    engine.containers.spawn(async move {
        if let Err(failure) = container.create(body).await {
            _ = sender.send(Err(failure.error));
            if failure.outcome_unknown {
                container.remove_if_it_appears().await;
            }
            return;
        }
        let look = Look { engine: &shared, container: container.name() };
        _ = sender.send(look.catalog(&directory).await);
        container.remove().await;
    });
    let lost = EngineError::new(EngineErrorKind::Unreachable, "the runtime is shutting down");
    learnt.await.unwrap_or(Err(lost))
}

struct Look<'a> {
    engine: &'a Shared,
    container: &'a str,
}

impl Look<'_> {
    async fn catalog(&self, directory: &str) -> Result<Catalog, EngineError> {
        let what = |why: &str| {
            let what = format!(
                "the image's directory {directory} {why}: `scripts = \"image:DIR\"` names one by its path in there"
            );
            EngineError::new(EngineErrorKind::Refused, what)
        };
        let (real, is_directory) = self.real(directory).await?.ok_or_else(|| what("is not there"))?;
        if !is_directory {
            return Err(what("is none"));
        }
        let mut catalog = Catalog::new(real.trim_end_matches('/'));
        self.add(&mut catalog, &real).await?;
        // What links lead to, and what is in there; until there is nothing new.
        let mut asked = BTreeSet::new();
        loop {
            let links: Vec<_> =
                catalog.open_links().into_iter().filter(|link| asked.insert(link.clone())).collect();
            if links.is_empty() {
                return Ok(catalog);
            }
            if asked.len() > MOST_LINKS {
                return Err(too_large(directory));
            }
            for link in links {
                let Some((real, is_directory)) = self.real(&link).await? else { continue };
                if catalog.get(&real).is_none() {
                    match is_directory {
                        // It has the whole in it once more, or all of the image.
                        true if catalog.lies_in(&real) => catalog.insert(real.clone(), Node::Other),
                        true => self.add(&mut catalog, &real).await?,
                        false => catalog.insert(real.clone(), Node::File),
                    }
                }
                catalog.insert(link, Node::Link(real));
            }
        }
    }

    /// Where a path leads, links followed, and whether that is a directory. `None`: nothing is there.
    async fn real(&self, path: &str) -> Result<Option<(String, bool)>, EngineError> {
        let stat = |path: String| async move {
            let options = ContainerArchiveInfoOptionsBuilder::default().path(&path).build();
            match self.engine.docker.get_container_archive_info(self.container, Some(options)).await {
                Ok(stat) => Ok(Some(stat)),
                Err(error) if api::has_status(&error, 404) => Ok(None),
                Err(error) => {
                    let error = self.engine.failure(error, format!("looking at {path} in an image")).await;
                    // Else there are too many links on the way, for which the engine has no word.
                    if error.is_unreachable() { Err(error) } else { Ok(None) }
                }
            }
        };
        let Some(mut found) = stat(path.to_owned()).await? else { return Ok(None) };
        let mut real = path.to_owned();
        // A link's target is told with all links on its way followed.
        if !found.link_target.is_empty() {
            real = absolute("/", &found.link_target);
            match stat(real.clone()).await? {
                Some(target) => found = target,
                None => return Ok(None),
            }
        }
        // The most significant bit, as Go's `os.FileMode` has it.
        Ok(Some((real, found.file_mode & (1 << 31) != 0)))
    }

    /// Adds a directory, and what is in it.
    async fn add(&self, catalog: &mut Catalog, directory: &str) -> Result<(), EngineError> {
        let options = DownloadFromContainerOptionsBuilder::default().path(directory).build();
        let stream = self.engine.docker.download_from_container(self.container, Some(options));
        let reader = SyncIoBridge::new(StreamReader::new(Box::pin(stream.map_err(io::Error::other))));
        let (at, before) = (directory.to_owned(), std::mem::take(catalog));
        let reading = tokio::task::spawn_blocking(move || {
            let mut catalog = before;
            read(&mut catalog, &at, reader.take(MOST_BYTES)).map(|()| catalog)
        });
        match reading.await.map_err(io::Error::other).and_then(|read| read) {
            Ok(read) => *catalog = read,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(too_large(directory)),
            Err(error) => {
                let what = format!("looking at {directory} in an image");
                return Err(EngineError::new(EngineErrorKind::Refused, what).because(error));
            }
        }
        Ok(())
    }
}

fn too_large(directory: &str) -> EngineError {
    let what = format!("the image's directory {directory} has more in it than can be kept in mind");
    EngineError::new(EngineErrorKind::Refused, what)
        .because(format!("{MOST_NODES} files and directories, {MOST_LINKS} links: name one below it"))
}

/// Reads the archive of a directory, which has its last name in front of all others. Blocks.
fn read(catalog: &mut Catalog, directory: &str, archive: impl Read) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?;
        let mut parts = path.components().filter(|part| !matches!(part, Component::CurDir));
        if directory != "/" {
            parts.next();
        }
        // What is no UTF-8 is not served.
        let Some(below) = parts.collect::<PathBuf>().to_str().map(str::to_owned) else { continue };
        let at = absolute(directory, &below);
        let kind = entry.header().entry_type();
        let node = if kind.is_dir() {
            Node::Directory
        } else if kind.is_file() || kind.is_hard_link() {
            Node::File
        } else if kind.is_symlink() {
            let target = entry.link_name()?.unwrap_or_default();
            let above = Path::new(&at).parent().and_then(Path::to_str).unwrap_or("/");
            Node::Link(target.to_str().map(|to| absolute(above, to)).unwrap_or_default())
        } else {
            Node::Other
        };
        catalog.insert(at, node);
        if catalog.len() > MOST_NODES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
    Ok(())
}

/// A path from a directory on, dot segments resolved as they are written.
fn absolute(directory: &str, path: &str) -> String {
    let mut whole = PathBuf::from("/");
    for part in Path::new(directory).join(path).components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => _ = whole.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    whole.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_put_where_it_was() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut append = |kind, path: &str, link: Option<&str>| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            match link {
                Some(link) => archive.append_link(&mut header, path, link).unwrap(),
                None => archive.append_data(&mut header, path, io::empty()).unwrap(),
            }
        };
        append(tar::EntryType::Directory, "cgi-bin/", None);
        append(tar::EntryType::Regular, "cgi-bin/x.cgi", None);
        append(tar::EntryType::Symlink, "cgi-bin/y", Some("../share/y"));
        append(tar::EntryType::Symlink, "cgi-bin/z", Some("/etc/../z"));
        append(tar::EntryType::Fifo, "cgi-bin/fifo", None);
        let bytes = archive.into_inner().unwrap();
        let mut catalog = Catalog::new("/usr/lib/cgi-bin");
        read(&mut catalog, "/usr/lib/cgi-bin", &*bytes).unwrap();
        for (path, node) in [
            ("/usr/lib/cgi-bin", Node::Directory),
            ("/usr/lib/cgi-bin/x.cgi", Node::File),
            ("/usr/lib/cgi-bin/y", Node::Link("/usr/lib/share/y".into())),
            ("/usr/lib/cgi-bin/z", Node::Link("/z".into())),
            ("/usr/lib/cgi-bin/fifo", Node::Other),
        ] {
            assert_eq!(catalog.get(path), Some(&node), "{path}");
        }
        assert!(read(&mut catalog, "/usr/lib/cgi-bin", &bytes[..700]).is_err());
    }
}
