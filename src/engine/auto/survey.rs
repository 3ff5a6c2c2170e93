//! Which engines programs would run on, where none of them is to run.

use super::choice::{self, Choice, Decision, Known, Surroundings, TakeOver, Why};
use super::daemon::Daemon;
use super::{keepers, look_up};
use crate::engine::Program;
use crate::engine::docker::Endpoint;
use crate::engine::embedded::EmbeddedEngine;
use crate::images::Store;
use crate::reason::Reason;

/// What an [`AutoEngine`](super::AutoEngine) would choose for each of some programs, in their order. Asks the store, where
/// there is one, and a Docker Engine on this machine, where one answers within two seconds; makes no container, takes nothing
/// over and pulls nothing.
///
/// # Cancel safety
/// Cancel safe.
pub async fn survey<'a>(
    programs: impl IntoIterator<Item = &'a Program>,
    store: Option<&Store>,
) -> Vec<Choice> {
    let place = Place::look(store).await;
    let mut choices = Vec::new();
    for program in programs {
        choices.push(place.decide(program).await.into());
    }
    choices
}

/// What choices are made by.
struct Place<'a> {
    surroundings: Surroundings,
    daemon: Option<Daemon>,
    store: Option<&'a Store>,
}

impl<'a> Place<'a> {
    async fn look(store: Option<&'a Store>) -> Self {
        let probed = tokio::task::spawn_blocking(EmbeddedEngine::probe);
        let (daemon, elsewhere) = match Endpoint::from_env().and_then(|endpoint| Daemon::new(endpoint, None))
        {
            Ok(daemon) => {
                let elsewhere = daemon.elsewhere();
                (Some(daemon), elsewhere)
            }
            // It names none at all.
            Err(error) => (None, Some(Reason(&error).to_string().into())),
        };
        if let Some(daemon) = &daemon
            && elsewhere.is_none()
        {
            daemon.ping().await;
        }
        let refused = match probed.await {
            Ok(Err(error)) => Some(Reason(&error).to_string().into()),
            _ => None,
        };
        Self { surroundings: Surroundings { refused, elsewhere }, daemon, store }
    }

    async fn decide(&self, program: &Program) -> Decision {
        if let Some(settled) = choice::settled(program, &self.surroundings) {
            return settled;
        }
        // Where there is none, it is elsewhere.
        let Some(daemon) = &self.daemon else { return Decision::embedded(Why::Nowhere) };
        let mut volumes = Vec::new();
        for name in program.named_volumes() {
            let keeper = match self.store.and_then(|store| keepers::noted(store, name)) {
                Some(keeper) => keeper,
                None => daemon.keeper_of(name).await,
            };
            volumes.push((name, keeper));
        }
        if let Some(settled) = choice::by_volumes(&volumes) {
            return settled;
        }
        let known = match self.store {
            Some(store) => look_up(store, daemon, &program.image, None).await,
            None if daemon.answers() => {
                let docker = daemon.look_up(&program.image).await.unwrap_or_default();
                Known { stored: None, docker }
            }
            None => Known::default(),
        };
        choice::by_image(program, &volumes, &known, daemon.voice(), || TakeOver::Coming)
    }
}
