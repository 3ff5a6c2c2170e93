//! Which residents serve a route, and who comes after them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::resident::Residents;
use crate::engine::Program;
use crate::engine::sources::Seen;

/// The residents of every route.
#[derive(Debug, Default)]
pub(in crate::engine) struct Places(Mutex<HashMap<Arc<str>, Place>>);

#[derive(Debug)]
struct Place {
    current: (Key, Arc<Residents>),
    /// Those of another image or another configuration, until one of them is up.
    next: Option<(Key, Arc<Residents>)>,
}

/// What residents are made from.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct Key {
    pub(in crate::engine) program: Program,
    /// The image's id: its name may stand for another one by now.
    pub(in crate::engine) image: String,
    /// Which directories of this machine they see.
    pub(in crate::engine) seen: Seen,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who serves a route now. Where they are not of this kind, others are made, and serve once one of them can.
    pub(in crate::engine) fn get(
        &self,
        route: &Arc<str>,
        key: Key,
        make: impl FnOnce(&Key) -> Residents,
    ) -> Arc<Residents> {
        let mut places = self.lock();
        let Some(place) = places.get_mut(route) else {
            let residents = Arc::new(make(&key));
            let current = (key, residents.clone());
            places.insert(route.clone(), Place { current, next: None });
            return residents;
        };
        if place.current.0 == key {
            // Changed, and changed back.
            place.next = None;
            return place.current.1.clone();
        }
        // What is to be seen now is not to be had from those who see what was there before.
        let is_outdated = place.current.0.seen != key.seen;
        let next = place.next.take().filter(|(next, _)| *next == key);
        let next = next.unwrap_or_else(|| {
            tracing::info!(%route, "the image, a volume or the configuration has changed: making other shared containers");
            let residents = make(&key);
            (key, Arc::new(residents))
        });
        if is_outdated || next.1.is_up() || !place.current.1.is_up() {
            tracing::info!(%route, "the other shared containers take over");
            place.current = next;
        } else {
            place.next = Some(next);
        }
        place.current.1.clone()
    }

    /// Has a route's go, when what runs in them has ended.
    pub(in crate::engine) fn forget(&self, route: &str) {
        let gone = self.lock().remove(route);
        drop(gone);
    }

    /// Has them all go, when what runs in them has ended.
    pub(in crate::engine) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }
}
