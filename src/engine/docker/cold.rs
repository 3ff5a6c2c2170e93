//! A container that is made when its request is there already.
//!
//! Where the engine is on this machine, an agent waits in it too, if not for long: so a program's end, what it leaves
//! running and why it cannot be run are the same as in a container that has waited.

use std::sync::Arc;

use super::Shared;
use super::agent::{Agents, Purpose, Uninhabited, inhabit};
use super::image::Found;
use super::offer::{Offer, offer};
use super::warm::Turn;
use crate::engine::agent::head;
use crate::engine::{EngineError, EngineErrorKind, Invocation, Process, Program};
use crate::reason::Reason;

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
    let agents = engine.agents().ok().filter(|agents| program.init && agents.come())?;
    let head = head(invocation, true)?;
    Some(match inhabit(engine, program, image, &invocation.route, Purpose::Once, Some(invocation)).await {
        Ok(inhabited) => {
            let command = program.command_line(&image.config).join(" ");
            match offer(engine, inhabited, &head, &command, turn).await {
                Ok(Offer::Taken(process)) => Ok(*process),
                Ok(Offer::Declined(why)) => Err(gone(why)),
                Ok(Offer::Unanswered) => Err(gone("it does not answer".to_owned())),
                Err(error) => Err(error),
            }
        }
        Err(Uninhabited::NoAgent(error)) => return without(agents, &error),
        Err(Uninhabited::Failed(error)) => {
            if error.kind() == EngineErrorKind::ImageMissing {
                // Removed since it was looked up: the next request asks, or pulls, again.
                engine.images.forget(&program.image);
            }
            Err(error)
        }
    })
}

fn without<T>(agents: &Agents, why: &EngineError) -> Option<T> {
    tracing::warn!("containers are made without an agent for a while: {}", Reason(why));
    agents.missed();
    None
}

fn gone(why: String) -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, "a container's agent has gone before it took the request")
        .because(why)
}
