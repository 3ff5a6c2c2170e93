//! The image of a program: from the store, or from wherever else it is.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::digest::sha256_hex;
use super::error::{StoreError, StoreErrorKind};
use super::lock::Lock;
use super::reference::Name;
use super::{Image, Progress, Store, reference};
use crate::reason::Reason;

/// When to pull an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// When the route is first used, even where the engine has one already.
    Always,
    /// Never: an image that is not there is an error.
    Never,
}

/// Held by who fetches an image, for all others to wait.
#[derive(Debug)]
pub(super) struct Waiting {
    _lock: Lock,
    _guard: tokio::sync::OwnedMutexGuard<()>,
}

impl Store {
    /// The image of a program. Where it is missing and may be fetched: first from the container engine, where
    /// [there is one](Store::with_engine) and it answers, then from its registry. [`PullPolicy::Always`] asks the registry
    /// first, at each call.
    ///
    /// # Errors
    /// [`Missing`](StoreErrorKind::Missing) where there is no such image;
    /// [`Reference`](StoreErrorKind::Reference) where the name is none; [`Storage`](StoreErrorKind::Storage) where the
    /// store itself fails; otherwise as [`pull`](Store::pull).
    ///
    /// # Cancel safety
    /// Cancel safe. What has begun to be fetched goes on for the next caller.
    pub async fn resolve(&self, image: &str, policy: PullPolicy) -> Result<Image, StoreError> {
        if policy != PullPolicy::Always
            && let Some(found) = self.find_in_background(image).await?
        {
            return Ok(found);
        }
        if policy == PullPolicy::Never {
            let what = format!(
                "the image store {} has no image `{image}`, and `pull = \"never\"` forbids pulling it; \
                 `dcgi image pull`, `load` or `import` puts it there",
                self.root().display()
            );
            return Err(StoreError::new(StoreErrorKind::Missing, what));
        }
        // A task, so that a caller who goes away does not end what others wait for.
        let (store, image) = (self.clone(), image.to_owned());
        let fetching = tokio::spawn(async move { store.fetch(&image, policy).await });
        fetching.await.unwrap_or_else(|error| {
            Err(StoreError::new(StoreErrorKind::Storage, "fetching an image has failed").because(error))
        })
    }

    async fn fetch(&self, image: &str, policy: PullPolicy) -> Result<Image, StoreError> {
        let Name::Reference(parsed) = Name::parse(image)? else {
            let what = format!("the image store {} has no image `{image}`", self.root().display());
            return Err(StoreError::new(StoreErrorKind::Missing, what));
        };
        let _waiting = self.waiting(sha256_hex(reference::key(&parsed).as_bytes())).await?;
        if policy == PullPolicy::Always {
            return self.pull_and_tell(image).await;
        }
        // Whoever was waited for may have fetched it.
        if let Some(found) = self.find_in_background(image).await? {
            return Ok(found);
        }
        let engine = match self.engine {
            Some(find) => find().await,
            None => None,
        };
        let refused = match engine {
            Some(engine) => match self.load_from_docker(&engine, image).await {
                Ok(loaded) => {
                    tracing::info!(
                        image,
                        "took image from the container engine; with engine = \"auto\" it is kept in step"
                    );
                    return Ok(loaded);
                }
                Err(error) if error.kind() == StoreErrorKind::Storage => return Err(error),
                Err(error) => (error.kind() != StoreErrorKind::Missing).then_some(error),
            },
            None => None,
        };
        self.pull_and_tell(image).await.map_err(|error| {
            let error = match refused {
                Some(refused) => error.within(Reason(&refused)),
                None => error,
            };
            if error.kind() == StoreErrorKind::Storage {
                return error;
            }
            error.within(format_args!(
                "the image store {} has no image `{image}` (`dcgi image load` or `import` puts one there that is in no registry)",
                self.root().display()
            ))
        })
    }

    async fn pull_and_tell(&self, image: &str) -> Result<Image, StoreError> {
        tracing::info!(image, "pulling image");
        let began = Instant::now();
        let tell = |progress| {
            if let Progress::Begun { layers, bytes } = progress {
                tracing::info!(image, "pulling image: {layers} layers, {} MiB", bytes >> 20);
            }
        };
        let pulled = self.pull(image, tell).await?;
        tracing::info!(image, seconds = began.elapsed().as_secs_f32(), "pulled image");
        Ok(pulled)
    }

    async fn find_in_background(&self, image: &str) -> Result<Option<Image>, StoreError> {
        let (store, image) = (self.clone(), image.to_owned());
        blocking(move || store.find(&image)).await
    }

    /// Waits until nobody else, in this process or in another, does what `name` stands for.
    pub(super) async fn waiting(&self, name: String) -> Result<Waiting, StoreError> {
        let turn = {
            let mut pulls = self.inner.pulls.lock().unwrap_or_else(PoisonError::into_inner);
            pulls.retain(|_, turn| turn.strong_count() > 0);
            pulls.get(&name).and_then(std::sync::Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                pulls.insert(name.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        // First here: a thread waits for the file, and all of them together must not.
        let guard = turn.lock_owned().await;
        let path = self.path("locks").join(name);
        let lock = blocking(move || {
            Lock::passing(&path)
                .map_err(|error| StoreError::storage(format!("cannot lock {}", path.display()), error))
        });
        Ok(Waiting { _lock: lock.await?, _guard: guard })
    }
}

/// Runs what blocks on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(StoreError::new(StoreErrorKind::Storage, "a task of the image store has failed").because(error))
    })
}
