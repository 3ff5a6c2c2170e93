//! Who asks, as a program is to see it.

use std::net::{IpAddr, SocketAddr};

/// The client's side of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The client, or the nearest proxy that is not trusted.
    pub(crate) remote: Option<SocketAddr>,
    /// Where the connection came in.
    pub(crate) server_addr: Option<IpAddr>,
    /// The host that was asked for, in lower case, IPv6 in brackets.
    pub(crate) host: String,
    /// The port that was asked for.
    pub(crate) port: u16,
    /// Whether the client's own connection is encrypted.
    pub(crate) https: bool,
}
