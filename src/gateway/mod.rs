//! One request and one program: from a request that has found its route to what the program prints for it.
//!
//! The only room where HTTP, CGI and containers meet. The request's way, top to bottom: `Gateway` admits it
//! (`admission`), takes its body (`input`), makes its meta-variables (`invocation`), and has an `exchange` run the
//! program; `answer` gives its output to the client as a [`Body`]. Every refusal on the way is a `Failure`, and
//! becomes a status in one place.
//!
//! It uses `cgi` and `engine`. It knows nothing of other routes, and never looks for one: a local redirect goes back to
//! whoever asked.

mod admission;
mod answer;
mod body;
mod client;
mod clock;
mod complaints;
mod exchange;
mod failure;
mod input;
mod invocation;
mod program_route;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::request;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use body::{AnswerCut, Body};
pub use program_route::{Limits, Output, ProgramRoute, RequestBody};

pub(crate) use answer::{Failed, NAMES_FILE, Reply};
pub(crate) use client::Client;
pub(crate) use clock::Deadline;
pub(crate) use failure::{ALLOWED, Escaped, Failure};
pub(crate) use input::Input;
pub(crate) use invocation::Told;

use admission::Gate;
use clock::Activity;
use exchange::Exchange;

use crate::connection::{ClientConnection, Taken};
use crate::engine::{Engine, EngineError, Folder, ImageConfig, Invocation, Lease, Program, PullPolicy};

/// How often one request may be sent on to another path here.
pub(crate) const MAX_LOCAL_REDIRECTS: usize = 5;

/// Answers the requests of one route by running its program: a [`tower::Service`].
///
/// Cheap to clone; clones share the route's places.
#[derive(Clone)]
pub(crate) struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    route: Arc<ProgramRoute>,
    /// The route's name.
    name: Arc<str>,
    /// The path prefix that the program is found under, with whatever a router above has stripped: `SCRIPT_NAME`.
    script_name: String,
    /// What a router above has stripped.
    mount: Arc<str>,
    gate: Gate,
    /// One task for every program that runs.
    exchanges: TaskTracker,
    /// Cancelled when all of those are to end.
    interrupted: CancellationToken,
}

/// A request that has found its route.
pub(crate) struct Asked {
    pub(crate) id: Arc<str>,
    pub(crate) client: Arc<Client>,
    pub(crate) head: request::Parts,
    /// What follows the route's prefix, or the script's name where there is one, decoded.
    pub(crate) path_info: Vec<u8>,
    /// What of the route's directory of scripts is to run.
    pub(crate) script: Option<Script>,
    pub(crate) input: Input,
    /// Whether the client wants the head alone. As it came: a redirect makes the request a GET for the next program,
    /// not for the client.
    pub(crate) head_only: bool,
    /// Whether the program may name a file to be sent in its body's stead.
    pub(crate) names_files: bool,
    /// When the whole request has to be over; the route's own timeout comes on top.
    pub(crate) deadline: Deadline,
}

/// A script of a directory, as the container has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Its path below the directory: what `SCRIPT_NAME` has behind the route's prefix.
    pub(crate) name: String,
    /// Its file: `SCRIPT_FILENAME`. Where that lies is its working directory.
    pub(crate) file: String,
    /// What is executed, with the arguments.
    pub(crate) command: Vec<String>,
}

impl Gateway {
    /// A gateway to a program. `path` is the route's prefix, `mount` what a router above strips from the front of every
    /// path; `exchanges` gets a task for each program that runs, and `interrupted` ends them all.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        route: ProgramRoute,
        name: Arc<str>,
        path: &str,
        mount: Arc<str>,
        exchanges: TaskTracker,
        interrupted: CancellationToken,
    ) -> Self {
        let gate = Gate::new(&route.limits);
        let script_name = format!("{mount}{path}");
        let route = Arc::new(route);
        let inner = Inner { engine, route, name, script_name, mount, gate, exchanges, interrupted };
        Self { inner: Arc::new(inner) }
    }

    /// Whether error pages may tell what went wrong.
    pub(crate) fn debug_errors(&self) -> bool {
        self.inner.route.debug_errors
    }

    /// A directory of what its program runs in. `pulls`: whether its image may be pulled for that.
    pub(crate) async fn folder(&self, path: &str, pulls: bool) -> Result<Folder, Failure> {
        let program = &self.inner.route.program;
        let found = match pulls {
            true => self.inner.engine.folder(program, path).await,
            false => {
                let program = Program { pull: PullPolicy::Never, ..program.clone() };
                self.inner.engine.folder(&program, path).await
            }
        };
        found.map_err(Failure::from)
    }

    /// When a request that comes now has to be over.
    pub(crate) fn deadline(&self, whole: Deadline) -> Deadline {
        whole.within(self.inner.route.limits.timeout)
    }

    /// What a request would run, without running or pulling it: the route, what its image says or why that is not known,
    /// what the program would get, and the container in the engine's own words.
    pub(crate) async fn inspect(
        &self,
        client: &Client,
        head: &request::Parts,
        path_info: &[u8],
        script: Option<&Script>,
    ) -> (Arc<ProgramRoute>, Result<ImageConfig, EngineError>, Invocation, serde_json::Value) {
        let Inner { engine, route, .. } = &*self.inner;
        let looked_for = Program { pull: PullPolicy::Never, ..route.program.clone() };
        let found = engine.image(&looked_for).await;
        let image = found.as_ref().ok().cloned().unwrap_or_default();
        let length = head.headers.get(CONTENT_LENGTH);
        let request = invocation::Request {
            id: &"inspect".into(),
            client,
            head,
            path_info,
            script,
            has_body: length.is_some(),
            content_length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        let invocation = self.inner.invocation(&image, &request);
        let container = engine.describe(&route.program, &invocation);
        (route.clone(), found, invocation, container)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("route", &self.inner.name).finish_non_exhaustive()
    }
}

impl tower::Service<Asked> for Gateway {
    type Response = Reply;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Reply, Failed>>;

    /// Always ready: where there is no place, the answer is that.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    /// Answers a request. Dropping the future, or the response's body, ends the program.
    fn call(&mut self, asked: Asked) -> Self::Future {
        let inner = self.inner.clone();
        async move { inner.serve(asked).await }.boxed()
    }
}

impl Inner {
    /// Admits a request and runs the program for it.
    async fn serve(&self, asked: Asked) -> Result<Reply, Failed> {
        let Asked { id, client, head, path_info, script, input, head_only, names_files, deadline } = asked;
        let route = &self.route;
        let limits = &route.limits;
        if let (Some(length), Some(limit)) = (input.length(), limits.max_request_body)
            && length > limit
        {
            return Err(Failure::RequestTooLarge(limit).into());
        }
        let busy = |refusal| Failure::Busy { refusal, retry_after: self.gate.retry_after() };
        // Before the body is read, and `100 Continue` sent, for nothing.
        self.gate.check().map_err(busy)?;
        let input = match (&route.output, route.request_body) {
            (Output::Cgi, RequestBody::Spool) if input.is_unmeasured() => {
                let _room = self.gate.spool().map_err(busy)?;
                let activity = Activity::new();
                tokio::select! {
                    spooled = input.spool(limits.max_request_body, &activity) => spooled?,
                    of = activity.ceased(limits.idle_timeout, None) => {
                        return Err(Failure::RequestTooSlow { limit: "idle_timeout", of }.into());
                    }
                    of = deadline.passed() => return Err(Failure::RequestTooSlow { limit: "timeout", of }.into()),
                    () = self.interrupted.cancelled() => return Err(Failure::Interrupted.into()),
                }
            }
            _ => input,
        };
        // After it: a slow client must not hold a place.
        let place = tokio::select! {
            place = self.gate.enter() => place.map_err(busy)?,
            timeout = deadline.passed() => return Err(Failure::DeadlinePassed(timeout).into()),
            () = self.interrupted.cancelled() => return Err(Failure::Interrupted.into()),
        };
        let image = tokio::select! {
            image = self.engine.image(&route.program) => image.map_err(Failure::from)?,
            timeout = deadline.passed() => return Err(Failure::DeadlinePassed(timeout).into()),
            () = self.interrupted.cancelled() => return Err(Failure::Interrupted.into()),
        };
        route.program.has_command(&image).map_err(Failure::from)?;
        let request = invocation::Request {
            id: &id,
            client: &client,
            head: &head,
            path_info: &path_info,
            script: script.as_ref(),
            content_length: input.length(),
            has_body: !input.is_none(),
        };
        let mut invocation = self.invocation(&image, &request);
        if !invocation::can_begin(&route.program, &image, &invocation) {
            return Err(Failure::HeadTooLarge.into());
        }
        invocation.lease = Lease::new(place);

        let (sender, reply) = oneshot::channel();
        let abandoned = CancellationToken::new();
        let exchange = Exchange {
            engine: self.engine.clone(),
            route: route.clone(),
            invocation,
            input,
            head_only,
            names_files,
            deadline,
            client: head.extensions.get::<ClientConnection>().cloned(),
            taken: head.extensions.get::<Taken>().cloned(),
            interrupted: self.interrupted.clone(),
            abandoned: abandoned.clone(),
        };
        // Dropped with this future, should the client leave before there is a reply.
        let guard = abandoned.drop_guard();
        let exchange = self.exchanges.spawn(exchange.run(sender).in_current_span());
        let given = reply.await.unwrap_or(Err(Failure::Interrupted.into()));
        guard.disarm();
        given.map(|given| match given {
            answer::Given::Response(response) => Reply::Response(response),
            answer::Given::LocalRedirect(redirect) => Reply::LocalRedirect { redirect, head, exchange },
        })
    }

    fn invocation(&self, image: &ImageConfig, request: &invocation::Request<'_>) -> Invocation {
        invocation::invocation(&self.route, &self.name, &self.script_name, &self.mount, image, request)
    }
}

/// What `Content-Length` says. Servers have checked it; what an embedding program hands us may not have gone
/// through one.
pub(crate) fn declared_length(head: &request::Parts) -> Result<Option<u64>, Failure> {
    let parse = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
    match head.headers.get(CONTENT_LENGTH) {
        Some(value) => parse(value).map(Some).ok_or(Failure::Malformed("Content-Length is no number")),
        None => Ok(None),
    }
}
