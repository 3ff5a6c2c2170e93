//! What a request would run, without running it.

use std::sync::Arc;

use http::request;

use super::Handler;
use super::directory::Named;
use super::dispatch::Endpoint;
use crate::engine::{EngineError, ImageConfig, Invocation};
use crate::gateway::{Client, Deadline, Failure, ProgramRoute};

/// What [`Handler::inspect`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The name of the route that would answer.
    pub name: Arc<str>,
    /// What is configured for it.
    pub route: Arc<ProgramRoute>,
    /// What its image says, or why that is not known. Then what follows is without what the image has to say.
    pub image: Result<ImageConfig, EngineError>,
    /// What the program would get.
    pub invocation: Invocation,
    /// What the engine would be asked for, in its own words.
    pub container: serde_json::Value,
}

/// Why nothing would run.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InspectError(#[from] Reason);

#[derive(Debug, thiserror::Error)]
enum Reason {
    /// The request is malformed, or no route matches.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// It is answered without.
    #[error("no program runs: {0}")]
    Without(String),
}

impl From<Failure> for InspectError {
    fn from(failure: Failure) -> Self {
        Self(failure.into())
    }
}

fn without(what: impl Into<String>) -> InspectError {
    InspectError(Reason::Without(what.into()))
}

impl Handler {
    /// Finds out what a request would run. The image is looked up, and not pulled; nothing is started.
    ///
    /// # Errors
    /// Where nothing would run.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn inspect(&self, head: &request::Parts) -> Result<Inspection, InspectError> {
        let mut head = head.clone();
        let client = Client::of(&mut head, &self.site.proxies)?;
        let (target, path_info) = self.site.routes.find(&client.host, &head)?;
        let (gateway, path_info, script) = match &target.endpoint {
            Endpoint::Redirect(elsewhere) => {
                let to = elsewhere.location(&client.host, &path_info, head.uri.query());
                return Err(without(format!("the client is sent on to {to}")));
            }
            Endpoint::Program(gateway) => (gateway, path_info, None),
            Endpoint::Directory(directory) => {
                match (directory.named(path_info, false, Deadline::NEVER).await?, directory.gateway()) {
                    (Named::Script(script, rest), Some(gateway)) => (gateway, rest, Some(script)),
                    (Named::Elsewhere(path), _) => {
                        return Err(without(format!("the client is sent on to {path}")));
                    }
                    (Named::List(_), _) => {
                        return Err(without("the client gets a list of a directory".to_owned()));
                    }
                    (Named::Script(..) | Named::File(_), _) => {
                        return Err(without("the client gets a file".to_owned()));
                    }
                }
            }
        };
        let (route, image, invocation, container) =
            gateway.inspect(&client, &head, &path_info, script.as_ref()).await;
        Ok(Inspection { name: target.name.clone(), route, image, invocation, container })
    }
}
