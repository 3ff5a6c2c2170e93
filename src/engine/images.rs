//! What is known of images: asked for once for many requests, and remembered for a short while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::time::MissedTickBehavior;

use super::{EngineError, EngineErrorKind, PullPolicy};
use crate::reason::Reason;

/// How long what an image's name stands for is believed. A tag that is moved meanwhile shows this much later.
const BELIEVED_FOR: Duration = Duration::from_secs(2);

/// How often an image is looked up ahead of its next use, and how long after the last one.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
const USED_FOR: Duration = Duration::from_secs(60);

/// Where images are looked up and pulled.
pub(super) trait Source: Send + Sync + 'static {
    /// What is known of an image.
    type Found: Clone + Send + 'static;

    /// What is remembered.
    fn images(&self) -> &Images<Self::Found>;

    /// Looks an image up where it is used from. `None`: it is not there.
    fn look_up<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<Self::Found>, EngineError>>;

    /// Gets it there.
    fn pull<'a>(&'a self, image: &'a str, policy: PullPolicy) -> BoxFuture<'a, Result<(), EngineError>>;

    /// What to say of an image that is not there.
    fn missing(&self, image: &str) -> String;

    /// What gets it there, in words that end a sentence.
    fn remedy(&self, image: &str) -> String;
}

/// Looks up what was used of late again and again, so that the next request need not wait for that, for as long as its
/// source is there.
pub(super) async fn refresh_regularly<S: Source>(source: Weak<S>) {
    let mut interval = tokio::time::interval(REFRESH_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(source) = source.upgrade() else { return };
        source.images().refresh(&*source).await;
    }
}

/// What is known of each image.
#[derive(Debug)]
pub(super) struct Images<T>(Mutex<HashMap<String, Arc<Entry<T>>>>);

#[derive(Debug)]
struct Entry<T> {
    known: Mutex<Option<(Instant, T)>>,
    used: Mutex<Option<Instant>>,
    /// Why the last pull failed, and when: those who waited for it need not each try again.
    failed: Mutex<Option<(Instant, EngineErrorKind, String)>>,
    /// Held while somebody asks or pulls, so that many requests ask once. True once pulled, for
    /// [`PullPolicy::Always`].
    asking: tokio::sync::Mutex<bool>,
}

impl<T> Default for Images<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + 'static> Images<T> {
    /// What was last heard of an image, however long ago.
    pub(super) fn recent(&self, image: &str) -> Option<T> {
        self.entry(image).known().as_ref().map(|(_, found)| found.clone())
    }

    /// Asks again at the next use.
    pub(super) fn forget(&self, image: &str) {
        *self.entry(image).known() = None;
    }

    /// An image, remembered or asked for, and pulled where the policy says so.
    pub(super) async fn get<S: Source<Found = T>>(
        &self,
        source: &Arc<S>,
        image: &str,
        policy: PullPolicy,
    ) -> Result<T, EngineError> {
        let entry = self.entry(image);
        *entry.used() = Some(Instant::now());
        if let Some(found) = entry.believed() {
            return Ok(found);
        }
        // A task, so that a caller who goes away does not end the pull that others wait for. Nobody waits for it at the
        // end: what it has begun is finished by whoever does it, or undone.
        let asking = ask(source.clone(), entry, image.to_owned(), policy);
        tokio::spawn(asking).await.unwrap_or_else(|e| {
            Err(EngineError::new(EngineErrorKind::Refused, "looking up an image failed").because(e))
        })
    }

    /// Looks up anew what was used of late.
    async fn refresh<S: Source<Found = T>>(&self, source: &S) {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (image, entry) in entries {
            if entry.used().is_none_or(|used| used.elapsed() > USED_FOR) {
                continue;
            }
            // Else somebody is about to know.
            let Ok(_asking) = entry.asking.try_lock() else { continue };
            // What is not known may have to be pulled first.
            let Some(before) = entry.asked() else { continue };
            match source.look_up(&image).await {
                // It may have been forgotten meanwhile, because another image is there.
                Ok(found) if entry.asked() == Some(before) => {
                    *entry.known() = found.map(|found| (Instant::now(), found));
                }
                Ok(_) => {}
                // Whoever wants to know hears why.
                Err(error) => tracing::debug!(image, "looking up an image: {}", Reason(&error)),
            }
        }
    }

    fn entry(&self, image: &str) -> Arc<Entry<T>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(image) {
            return entry.clone();
        }
        let entry = Arc::new(Entry {
            known: Mutex::new(None),
            used: Mutex::new(None),
            failed: Mutex::new(None),
            asking: tokio::sync::Mutex::new(false),
        });
        entries.insert(image.to_owned(), entry.clone());
        entry
    }
}

impl<T: Clone> Entry<T> {
    fn known(&self) -> MutexGuard<'_, Option<(Instant, T)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When that was asked for which is known.
    fn asked(&self) -> Option<Instant> {
        self.known().as_ref().map(|(asked, _)| *asked)
    }

    fn used(&self) -> MutexGuard<'_, Option<Instant>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn believed(&self) -> Option<T> {
        self.known()
            .as_ref()
            .filter(|(asked, _)| asked.elapsed() < BELIEVED_FOR)
            .map(|(_, found)| found.clone())
    }

    fn recent_failure(&self) -> Option<EngineError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, kind, what) = failed.as_ref().filter(|(when, ..)| when.elapsed() < BELIEVED_FOR)?;
        Some(EngineError::new(*kind, what.clone()))
    }

    /// Pulls, and remembers a failure.
    async fn pull<S: Source>(&self, source: &S, image: &str, policy: PullPolicy) -> Result<(), EngineError> {
        let result = source.pull(image, policy).await;
        let failure = result.as_ref().err();
        let failure = failure.map(|error| (Instant::now(), error.kind(), Reason(error).to_string()));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        result
    }
}

async fn ask<S: Source>(
    source: Arc<S>,
    entry: Arc<Entry<S::Found>>,
    image: String,
    policy: PullPolicy,
) -> Result<S::Found, EngineError> {
    let mut pulled = entry.asking.lock().await;
    if let Some(found) = entry.believed() {
        return Ok(found);
    }
    if policy != PullPolicy::Never
        && let Some(failure) = entry.recent_failure()
    {
        return Err(failure);
    }
    if policy == PullPolicy::Always && !*pulled {
        entry.pull(&*source, &image, policy).await?;
        *pulled = true;
    }
    let mut found = source.look_up(&image).await?;
    if found.is_none() && policy == PullPolicy::Missing {
        entry.pull(&*source, &image, policy).await?;
        found = source.look_up(&image).await?;
    }
    let Some(found) = found else {
        let hint =
            if policy == PullPolicy::Never { ", and `pull = \"never\"` forbids pulling it" } else { "" };
        let what = format!("{}{hint}; {}", source.missing(&image), source.remedy(&image));
        return Err(EngineError::new(EngineErrorKind::ImageMissing, what));
    };
    *entry.known() = Some((Instant::now(), found.clone()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;

    use super::*;

    /// Each look finds the number of looks so far, but for what is `gone`.
    #[derive(Default)]
    struct Counting {
        images: Images<usize>,
        looks: AtomicUsize,
        /// Whether pulls fail.
        fails: bool,
        /// Whether images are forgotten while they are looked up.
        forgets: bool,
    }

    impl Source for Counting {
        type Found = usize;

        fn images(&self) -> &Images<usize> {
            &self.images
        }

        fn look_up<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<usize>, EngineError>> {
            let look = self.looks.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                if self.forgets {
                    self.images.forget(image);
                }
                Ok((image != "gone" || look == 1).then_some(look))
            }
            .boxed()
        }

        fn pull<'a>(&'a self, _: &'a str, _: PullPolicy) -> BoxFuture<'a, Result<(), EngineError>> {
            let failed = || EngineError::new(EngineErrorKind::ImageMissing, "the registry is down");
            async move { if self.fails { Err(failed()) } else { Ok(()) } }.boxed()
        }

        fn missing(&self, image: &str) -> String {
            format!("there is no `{image}`")
        }

        fn remedy(&self, _: &str) -> String {
            "make one".to_owned()
        }
    }

    async fn get(source: &Arc<Counting>, image: &str) -> Result<usize, EngineError> {
        source.images.get(source, image, PullPolicy::Never).await
    }

    #[tokio::test]
    async fn an_image_in_use_is_looked_up_ahead_of_the_next_request() {
        let source = Arc::new(Counting::default());
        assert_eq!(get(&source, "image").await.unwrap(), 1);
        source.images.refresh(&*source).await;
        assert_eq!(get(&source, "image").await.unwrap(), 2);
        assert_eq!(source.looks.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_image_that_has_gone_meanwhile_is_missing() {
        let source = Arc::new(Counting::default());
        assert_eq!(get(&source, "gone").await.unwrap(), 1);
        source.images.refresh(&*source).await;
        assert_eq!(get(&source, "gone").await.unwrap_err().kind(), EngineErrorKind::ImageMissing);
    }

    #[tokio::test]
    async fn an_image_that_could_not_be_had_is_not_looked_up_past_its_policy() {
        let source = Arc::new(Counting { fails: true, ..Counting::default() });
        let pulled = || source.images.get(&source, "image", PullPolicy::Always);
        assert!(pulled().await.is_err());
        source.images.refresh(&*source).await;
        assert_eq!(source.looks.load(Ordering::Relaxed), 0);
        assert!(pulled().await.is_err());
    }

    #[tokio::test]
    async fn what_is_forgotten_while_it_is_looked_up_stays_forgotten() {
        let source = Arc::new(Counting { forgets: true, ..Counting::default() });
        assert_eq!(get(&source, "image").await.unwrap(), 1);
        source.images.refresh(&*source).await;
        assert_eq!(source.images.recent("image"), None);
    }

    #[tokio::test]
    async fn what_nobody_has_used_is_not_looked_up() {
        let source = Arc::new(Counting::default());
        assert_eq!(source.images.recent("image"), None);
        source.images.refresh(&*source).await;
        assert_eq!(source.looks.load(Ordering::Relaxed), 0);
    }
}
