//! dcgi's side of the agent: how one dials in, how a request is handed to it, how residents are kept.
//!
//! What runs inside the container is [`crate::agent`].

mod dial;
mod hand_over;
mod places;
mod process;
mod resident;

pub(super) use dial::{Door, RuntimeDir, Socket};
pub(super) use hand_over::{HandOver, Refusal, head, is_alive, outcome};
pub(super) use places::{Key, Places};
pub(super) use process::{HangUp, leaves_something, status};
pub(super) use resident::{Home, Resident, Residents};
