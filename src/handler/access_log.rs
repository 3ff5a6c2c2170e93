//! The access log: one event a request, when its response is through, under a tracing target of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode, Uri, Version};

/// The tracing target of the access log, to be filtered by.
pub const ACCESS_LOG: &str = "dcgi::access";

/// What is known of a request when it has been answered. Dropping it writes it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) request_id: Arc<str>,
    pub(super) remote: Option<IpAddr>,
    /// The route that answered, after all local redirects.
    pub(super) route: Option<Arc<str>>,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) began: Instant,
    pub(super) status: StatusCode,
    /// Body bytes that were handed to the server.
    pub(super) bytes: u64,
    /// Whether the program failed to finish its answer.
    pub(super) cut: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        tracing::info!(
            target: ACCESS_LOG,
            request_id = &*self.request_id,
            remote = self.remote.map(tracing::field::display),
            route = self.route.as_deref(),
            method = %self.method,
            uri = %self.uri,
            version = ?self.version,
            status = self.status.as_u16(),
            bytes = self.bytes,
            cut = self.cut,
            milliseconds = self.began.elapsed().as_micros() as f64 / 1000.0,
        );
    }
}
