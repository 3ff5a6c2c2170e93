//! What a request would run, without running it.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::request;

use super::client::Client;
use super::failure::Failure;
use super::{Handler, invocation};
use crate::cgi::NormalPath;
use crate::engine::{ImageConfig, Invocation};
use crate::route::Route;

/// What [`Handler::inspect`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The route that would answer.
    pub route: Arc<Route>,
    /// What its image says.
    pub image: ImageConfig,
    /// What the program would get.
    pub invocation: Invocation,
    /// What the engine would be asked for, in its own words.
    pub container: serde_json::Value,
}

/// Why nothing would run: the request is malformed, no route matches, or the engine does not know the image.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InspectError(#[from] Failure);

impl Handler {
    /// Finds out what a request would run. The image is looked up, and pulled where its policy says so; nothing
    /// is started.
    ///
    /// # Errors
    /// Where nothing would run.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn inspect(&self, head: &request::Parts) -> Result<Inspection, InspectError> {
        let inner = &self.inner;
        let client = Client::of(head, &inner.trusted_proxies)?;
        let path = NormalPath::parse(head.uri.path()).map_err(Failure::from)?;
        let found = inner.router.find(&client.host, path.as_bytes()).ok_or(Failure::NoRoute)?;
        let route = found.target.route.clone();
        let image = inner.engine.image(&route.program).await.map_err(Failure::from)?;
        let length = head.headers.get(CONTENT_LENGTH);
        let request = invocation::Request {
            id: &"inspect".into(),
            client: &client,
            head,
            path_info: found.path_info,
            mount: &inner.mount,
            has_body: length.is_some(),
            content_length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        let invocation = invocation::invocation(&route, &found.target.name, &image, &request);
        let container = inner.engine.describe(&route.program, &invocation);
        Ok(Inspection { route, image, invocation, container })
    }
}
