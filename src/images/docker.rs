//! Images from a container engine.

use std::io::{self, Read};
use std::time::Duration;

use bollard::Docker;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::{StoreError, StoreErrorKind};
use super::image::Image;
use super::taken_over::{self, EnginesName};
use super::{Store, reference};
use crate::reason::Reason;

/// How many pieces of an archive wait to be written.
const WAITING: usize = 16;

/// How long an engine may take until an archive begins.
const BEGINS_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Finds the container engine from which images may be taken, where one answers.
pub type FindEngine = fn() -> BoxFuture<'static, Option<Docker>>;

impl Store {
    /// Has [`resolve`](Store::resolve) look for missing images in a container engine. It is looked for anew for each: it
    /// may come and go. What was cloned before does not look there.
    #[must_use]
    pub fn with_engine(mut self, find: FindEngine) -> Self {
        self.engine = Some(find);
        self
    }

    /// Takes an image from a container engine, as `docker save` does. Only pieces of it are held in memory.
    ///
    /// # Errors
    /// [`Missing`](StoreErrorKind::Missing) where the engine has no such image, [`Source`](StoreErrorKind::Source) where
    /// it does not answer or breaks off; otherwise as [`load`](Store::load).
    ///
    /// # Cancel safety
    /// Cancel safe: what has come is removed. What is being unpacked by then is finished.
    pub async fn load_from_docker(&self, engine: &Docker, reference: &str) -> Result<Image, StoreError> {
        // An export of what is not there fails late, and by name it may mean several images.
        let found = engine.inspect_image(reference).await.map_err(|error| source(reference, error))?;
        let id = found.id.unwrap_or_else(|| reference.to_owned());
        self.export(engine, reference, &id, |_| {}, &CancellationToken::new()).await
    }

    /// Takes the image of an id under a name that means it in the engine. `tell` hears of every piece, by its length.
    pub(super) async fn export(
        &self,
        engine: &Docker,
        reference: &str,
        id: &str,
        tell: impl Fn(usize) + Send,
        stop: &CancellationToken,
    ) -> Result<Image, StoreError> {
        let name = match reference::Name::parse(reference)? {
            reference::Name::Id(_) => None,
            reference::Name::Reference(parsed) => Some(reference::key(&parsed)),
        };
        let (pieces, received) = mpsc::channel(WAITING);
        let (store, engines_id, stopped) = (self.clone(), id.to_owned(), stop.clone());
        let loading = tokio::task::spawn_blocking(move || {
            let archive = Pieces { received, current: Bytes::new(), done: false };
            let naming = EnginesName { name: name.as_deref(), engines_id: &engines_id, stop: &stopped };
            store.load_as(archive, Some(naming))
        });
        // Some engines write the whole archive to their disk before its first byte.
        let engine = engine.clone().with_timeout(BEGINS_WITHIN);
        let mut export = Box::pin(engine.export_image(id));
        loop {
            let next = tokio::select! {
                next = export.next() => next,
                () = stop.cancelled() => {
                    _ = pieces.send(Piece::Failed).await;
                    drop(pieces);
                    // Until nothing of it is left.
                    _ = loading.await;
                    return Err(taken_over::stopped(reference));
                }
            };
            let (piece, failure) = match next {
                Some(Ok(bytes)) => (Piece::Bytes(bytes), None),
                Some(Err(error)) => (Piece::Failed, Some(error)),
                None => (Piece::End, None),
            };
            if let Piece::Bytes(bytes) = &piece {
                tell(bytes.len());
            }
            let over = !matches!(piece, Piece::Bytes(_));
            // Where nobody takes it, loading has failed, and says why.
            let taken = pieces.send(piece).await.is_ok();
            if let Some(error) = failure {
                _ = loading.await;
                return Err(source(reference, error));
            }
            if over || !taken {
                break;
            }
        }
        drop(pieces);
        let loaded =
            loading.await.map_err(|error| StoreError::invalid("unpacking has failed").because(error))?;
        let loaded = match loaded {
            Err(_) if stop.is_cancelled() => return Err(taken_over::stopped(reference)),
            loaded => loaded?,
        };
        loaded.into_iter().next().ok_or_else(|| StoreError::invalid("the engine's archive holds no image"))
    }
}

fn source(reference: &str, error: bollard::errors::Error) -> StoreError {
    use bollard::errors::Error::DockerResponseServerError;
    match error {
        DockerResponseServerError { status_code: 404, .. } => StoreError::new(
            StoreErrorKind::Missing,
            format!("the container engine has no image `{reference}`"),
        ),
        error => StoreError::new(
            StoreErrorKind::Source,
            format!("the container engine does not give image `{reference}`"),
        )
        .because(Reason(&error).to_string()),
    }
}

enum Piece {
    Bytes(Bytes),
    /// The archive is whole: a stream that only stops is not.
    End,
    Failed,
}

/// A stream's pieces as a reader.
struct Pieces {
    received: mpsc::Receiver<Piece>,
    current: Bytes,
    done: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.done {
            match self.received.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.done = true,
                Some(Piece::Failed) | None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let length = self.current.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
