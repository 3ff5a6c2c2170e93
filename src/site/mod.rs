//! All routes together, and what every request passes on its way to one.
//!
//! [`Handler`] is the site as a [`tower::Service`]. Inside it are layers, each with a file of its own, in the order in
//! which a request meets them: `request_id`, `access_log`, `client`; then `dispatch`, which finds the [`Route`] by the
//! `router` and lets its kind answer. A new kind of route is a variant of [`RouteKind`] and a service for it; a new
//! thing that all requests pass is a layer, named where the [`Handler`] is built. What a route itself asks of a client (`guard`)
//! stands between `dispatch` and its kind; what its answers have (`error_page`, `compress`, `sendfile`, headers), behind it.
//!
//! It uses `gateway` for programs, `files` for what lies in a directory, and of `engine` that there is one to be drained and
//! who a root directory's users are. It never runs anything itself, and reads no more of a request than its head.

mod access_log;
mod body;
mod builder;
mod client;
mod compress;
mod directory;
mod dispatch;
mod elsewhere;
mod error_page;
mod guard;
mod inspect;
mod listing;
mod redirect;
mod request_id;
mod route;
mod router;
mod send;
mod sendfile;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response, request};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use access_log::ACCESS_LOG;
pub(crate) use access_log::log_refused;
pub use body::Body;
pub use builder::HandlerBuilder;
pub use client::ProxyHeaders;
pub use guard::{Access, BasicAuth, RateLimit};
pub use inspect::{InspectError, Inspection};
pub use request_id::REQUEST_SPAN;
pub use route::{FilesRoute, RedirectRoute, Rewrite, Route, RouteKind, ScriptsError, ScriptsRoute};
pub use router::{Match, Router};
pub use sendfile::SendFile;

use access_log::LogAccess;
use client::{IdentifyClient, Proxies};
use dispatch::{Dispatch, Routes};
use request_id::{RequestId, SetRequestId};

use crate::engine::Engine;
use crate::gateway::{self, Failed, Input, declared_length};

/// Answers requests by running programs: a [`tower::Service`] that any server or router can mount.
///
/// Cheap to clone; clones share the routes' limits. A response streams: its [`Body`] must be read or
/// dropped. Each request runs in a task of its own on the current tokio runtime, and [`drained`](Self::drained)
/// waits for the last of them.
///
/// Mounted below a path by a router that strips that path (axum's `nest_service`), a handler has to know:
/// [`HandlerBuilder::mounted_at`].
#[derive(Clone)]
pub struct Handler {
    stack: Stack,
    site: Arc<Site>,
}

/// What every request passes, outermost first.
type Stack = SetRequestId<LogAccess<IdentifyClient<Dispatch>>>;

/// What clones of a handler share.
struct Site {
    engine: Arc<dyn Engine>,
    routes: Arc<Routes>,
    proxies: Arc<Proxies>,
    /// One task for every program that runs.
    exchanges: TaskTracker,
    /// Cancelled when all of those are to end.
    interrupted: CancellationToken,
    /// How long that may take by what is configured.
    patience: Duration,
}

impl Handler {
    /// Begins a handler whose programs run on an engine.
    pub fn builder(engine: Arc<dyn Engine>) -> HandlerBuilder {
        HandlerBuilder { engine, routes: Vec::new(), proxies: Proxies::default(), mount: String::new() }
    }

    /// A handler with some routes and nothing else.
    pub fn new(engine: Arc<dyn Engine>, routes: impl IntoIterator<Item = Route>) -> Self {
        Self::builder(engine).routes(routes).build()
    }

    /// Ends all that runs: what is not answered yet gets 503, answers that have begun are cut, and each program is asked to
    /// end and then killed, within the longest `kill_grace` of a route, which this gives. Does not wait for that:
    /// [`drained`](Self::drained) does. It is final: what is asked for later is ended at once.
    pub fn interrupt(&self) -> Duration {
        self.site.interrupted.cancel();
        self.site.patience
    }

    /// Waits until no program runs any more and the engine has cleared away after the last one. New requests are
    /// served all the while: stop them first.
    ///
    /// # Cancel safety
    /// Cancel safe. Dropped, it no longer waits, and nothing else changes.
    pub async fn drained(&self) {
        self.site.exchanges.close();
        self.site.exchanges.wait().await;
        self.site.exchanges.reopen();
        self.site.engine.drained().await;
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("engine", &self.site.engine.name()).finish_non_exhaustive()
    }
}

impl<B> tower::Service<Request<B>> for Handler
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    /// Always ready: a route that has no place answers 503.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// Answers a request. Dropping the future, or the response's body, ends the program.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        // A length that cannot be read is told when there is somebody to tell it to.
        let length = declared_length(&head).ok().flatten();
        self.stack.call(Request::from_parts(head, Input::new(body, length)))
    }
}

/// The page of a request that was refused by its head.
fn refusal(head: &request::Parts, failed: &Failed, debug: bool) -> Response<gateway::Body> {
    let id = head.extensions.get::<RequestId>().map_or("", |RequestId(id)| id);
    page(id, failed, debug)
}

/// The page of a request that has no answer. `debug`: it may tell why.
fn page(id: &str, Failed { failure, complaints }: &Failed, debug: bool) -> Response<gateway::Body> {
    failure.log(&format!("the client gets {}", failure.status()));
    failure.page(id, debug.then_some(complaints))
}
