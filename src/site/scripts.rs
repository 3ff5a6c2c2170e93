//! A directory of scripts: which of them a request is for.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode, request};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tower::{Service, ServiceExt};

use super::route::ScriptsRoute;
use crate::files::{Found, NotFound, Tree};
use crate::gateway::{Asked, Body, Failed, Failure, Gateway, Reply, Script};

/// What is escaped in the path of a URI: all that RFC 3986 §3.3 does not have in a segment, and `;`, for old clients.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b';')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Answers by the script that a request's path names: a [`tower::Service`].
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    gateway: Gateway,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tree: Tree,
    route: ScriptsRoute,
    /// What stands in front of a script's path in the requests of clients.
    prefix: String,
}

/// Which script a path names, and what is left of it for that one; or where to look for it.
pub(super) enum Named {
    Script(Script, Vec<u8>),
    /// A directory, whose paths end with a slash.
    Elsewhere(String),
}

impl Scripts {
    /// `prefix`: the route's path with whatever a router above has stripped.
    pub(super) fn new(gateway: Gateway, route: ScriptsRoute, prefix: String) -> Self {
        let tree = Tree::new(&route.directory);
        Self { gateway, inner: Arc::new(Inner { tree, route, prefix }) }
    }

    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// What a path below the route's prefix names.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn named(&self, path: Vec<u8>) -> Result<Named, Failure> {
        let inner = self.inner.clone();
        // The directory may be large, and on a file system that does not answer.
        let looked = tokio::task::spawn_blocking(move || inner.named(&path)).await;
        looked.unwrap_or(Err(Failure::Interrupted))
    }
}

impl Service<Asked> for Scripts {
    type Response = Reply;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Reply, Failed>>;

    /// Always ready: where there is no place, the answer is that.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut asked: Asked) -> Self::Future {
        let scripts = self.clone();
        async move {
            let path = std::mem::take(&mut asked.path_info);
            match scripts.named(path).await? {
                Named::Script(script, rest) => {
                    asked.path_info = rest;
                    asked.script = Some(script);
                    scripts.gateway.oneshot(asked).await
                }
                Named::Elsewhere(path) => Ok(Reply::Response(moved(&path, &asked.head))),
            }
        }
        .boxed()
    }
}

impl Inner {
    fn named(&self, path: &[u8]) -> Result<Named, Failure> {
        let (name, rest) = match self.tree.find(path)? {
            Found::File { path, rest } => (path, rest),
            Found::Directory { path, has_slash: false } => {
                return Ok(Named::Elsewhere(format!("{}{path}/", self.prefix)));
            }
            Found::Directory { path, .. } => match self.tree.index(&path, &self.route.index)? {
                Some(index) => (index, Vec::new()),
                None => {
                    let why = match self.route.index.is_empty() {
                        true => "it is a directory, and the route names no `index`",
                        false => "it is a directory, and none of the route's `index` is in it",
                    };
                    return Err(Failure::Forbidden(format!("{path}/: {why}")));
                }
            },
        };
        // UTF-8 both, as they were found to be.
        let file = format!("{}{name}", self.route.directory.display());
        let command = self.handler(&name).iter().cloned().chain([file.clone()]).collect();
        Ok(Named::Script(Script { name, file, command }, rest))
    }

    /// What runs a file, in front of it. A name may be written in capitals: nobody means another file by that.
    fn handler(&self, name: &str) -> &[String] {
        let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
        let ending = ending.map(|ending| format!(".{}", ending.to_ascii_lowercase()));
        ending.and_then(|ending| self.route.handlers.get(&ending)).map_or(&[], Vec::as_slice)
    }
}

/// That it is there under another path.
///
/// SECURITY: the path is the directory's own, not what the client wrote, which may begin with two slashes and so be another
/// host's.
fn moved(path: &str, head: &request::Parts) -> Response<Body> {
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}{query}", utf8_percent_encode(path, PATH));
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    // A query has passed through a parser that lets nothing else through.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

impl From<NotFound> for Failure {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Missing { .. } => Self::NoFile(error.to_string()),
            NotFound::Forbidden { .. } => Self::Forbidden(error.to_string()),
            NotFound::Unusable { .. } => Self::Files(error.into()),
        }
    }
}
