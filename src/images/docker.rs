//! Images from a container engine.

use std::io::{self, Read};

use bollard::Docker;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::error::{StoreError, StoreErrorKind};
use super::image::Image;
use super::{Store, reference};
use crate::reason::Reason;

/// How many pieces of an archive wait to be written.
const WAITING: usize = 16;

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
        let name = match reference::Name::parse(reference)? {
            reference::Name::Id(_) => None,
            reference::Name::Reference(parsed) => Some(reference::key(&parsed)),
        };
        // An export of what is not there fails late, and by name it may mean several images.
        let found = engine.inspect_image(reference).await.map_err(|error| source(reference, error))?;
        let id = found.id.unwrap_or_else(|| reference.to_owned());

        let (pieces, received) = mpsc::channel(WAITING);
        let store = self.clone();
        let loading = tokio::task::spawn_blocking(move || {
            store.load_as(Pieces { received, current: Bytes::new(), done: false }, name.as_deref())
        });
        let mut export = Box::pin(engine.export_image(&id));
        loop {
            let (piece, failure) = match export.next().await {
                Some(Ok(bytes)) => (Piece::Bytes(bytes), None),
                Some(Err(error)) => (Piece::Failed, Some(error)),
                None => (Piece::End, None),
            };
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
            loading.await.map_err(|error| StoreError::invalid("unpacking has failed").because(error))??;
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
