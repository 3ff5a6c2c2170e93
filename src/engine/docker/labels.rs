//! What every container of ours carries: whose it is, and what it is for.
//!
//! Where its maker cannot be judged from here, only [`EXPIRES`] says when a container is nobody's any more.

/// The label that says who made a container.
pub(super) const INSTANCE: &str = "dcgi.instance";
/// The label that says for which route.
pub(super) const ROUTE: &str = "dcgi.route";
/// The label that says for which request.
pub(super) const REQUEST: &str = "dcgi.request";
/// The label that says when the container's request must have ended, in seconds since 1970.
pub(super) const EXPIRES: &str = "dcgi.expires";
/// The label of a volume that holds the agent: of which version.
pub(super) const AGENT: &str = "dcgi.agent";
