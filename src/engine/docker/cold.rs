//! A container that is made when its request is there already.
//!
//! Where the engine is on this machine, an agent waits in it too, if not for long: so a program's end, what it leaves
//! running and why it cannot be run are the same as in a container that has waited.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::agent::{Purpose, Uninhabited, Whose, inhabit};
use super::image::Found;
use super::offer::{Offer, offer};
use super::warm::Turn;
use crate::engine::agent::head;
use crate::engine::{EngineError, EngineErrorKind, Invocation, Process, Program};
use crate::reason::Reason;

/// How long an agent may take to say that it has the request that its container was made for: nobody else would have it.
const CONFIRMATION: Duration = Duration::from_secs(20);

/// Begins a program in a container with an agent. `None`: nothing has run, and it is to be tried without one.
///
/// # Cancel safety
/// Cancel safe: whatever was made is removed.
pub(super) async fn begin(
    engine: &Arc<Shared>,
    program: &Program,
    image: &Found,
    invocation: &Invocation,
    turn: Option<&Arc<Turn>>,
) -> Option<Result<Process, EngineError>> {
    // Without an init the program is process 1, and nobody else can be that.
    let agents = engine.agents().ok().filter(|agents| program.init && agents.come(&invocation.route))?;
    let head = head(invocation, true)?;
    Some(match inhabit(engine, program, image, &invocation.route, Purpose::Once, Some(invocation)).await {
        Ok(inhabited) => {
            let command = program.command_of(&image.config, invocation).join(" ");
            match offer(engine, inhabited, &head, &command, turn, CONFIRMATION).await {
                Ok(Offer::Taken(process)) => Ok(*process),
                Ok(Offer::Declined(why)) => Err(untaken(why)),
                Ok(Offer::Unanswered) => Err(untaken("it does not answer".to_owned())),
                Err(error) => Err(error),
            }
        }
        Err(Uninhabited::NoAgent(error, whose)) => {
            let whom = match whose {
                Whose::Engine => "containers are",
                Whose::Container => "the route's containers are",
            };
            tracing::warn!("{whom} made without an agent for a while: {}", Reason(&error));
            agents.missed(&invocation.route, whose);
            return None;
        }
        Err(Uninhabited::Failed(error)) => {
            if error.kind() == EngineErrorKind::ImageMissing {
                // Removed since it was looked up: the next request asks, or pulls, again.
                engine.images.forget(&program.image);
            }
            Err(error)
        }
    })
}

fn untaken(why: String) -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, "a container's agent has not taken the request")
        .because(why)
}
