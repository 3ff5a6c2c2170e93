//! One request: from its head to a program, and from what the program prints to a response.
//!
//! The only place where HTTP, CGI and containers meet. The request's way, top to bottom: `Handler::call` →
//! `answer` finds the route, and again after each local redirect → `serve` admits the request, takes its body,
//! makes its meta-variables → `exchange` runs the program → `answer` (the module) gives its output to the
//! client. Every refusal on the way is a `Failure`, and becomes a response in one place.

mod access_log;
mod admission;
mod answer;
mod body;
mod builder;
mod client;
mod clock;
mod complaints;
mod exchange;
mod failure;
mod input;
mod inspect;
mod invocation;
mod redirect;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, HeaderValue, SET_COOKIE};
use http::{Method, Request, Response, request};
use ipnet::IpNet;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use access_log::ACCESS_LOG;
pub use body::{AnswerCut, Body};
pub use builder::HandlerBuilder;
pub use inspect::{InspectError, Inspection};

use access_log::Record;
use admission::Gate;
use answer::{Failed, Reply};
use client::Client;
use clock::{Activity, Deadline};
use exchange::Exchange;
use failure::Failure;
use input::Input;
use redirect::redirected;

use crate::cgi::NormalPath;
use crate::connection::ClientConnection;
use crate::engine::{Engine, Lease};
use crate::route::{Output, RequestBody, Route};
use crate::router::Router;

/// How often one request may be sent on to another path here.
const MAX_LOCAL_REDIRECTS: usize = 5;

/// The response header that carries the request's id.
const X_REQUEST_ID: &str = "x-request-id";

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
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    router: Router<Target>,
    trusted_proxies: Vec<IpNet>,
    /// What a router above has stripped from the path: a prefix of every `SCRIPT_NAME`.
    mount: String,
    /// One task for every program that runs.
    exchanges: TaskTracker,
}

/// A route, and what it takes to serve it.
struct Target {
    route: Arc<Route>,
    name: Arc<str>,
    gate: Gate,
}

impl Handler {
    /// Begins a handler whose programs run on an engine.
    pub fn builder(engine: Arc<dyn Engine>) -> HandlerBuilder {
        HandlerBuilder { engine, routes: Vec::new(), trusted_proxies: Vec::new(), mount: String::new() }
    }

    /// A handler with some routes and nothing else.
    pub fn new(engine: Arc<dyn Engine>, routes: impl IntoIterator<Item = Route>) -> Self {
        Self::builder(engine).routes(routes).build()
    }

    /// Waits until no program runs any more and the engine has cleared away after the last one. New requests are
    /// served all the while: stop them first.
    ///
    /// # Cancel safety
    /// Cancel safe. Dropped, it no longer waits, and nothing else changes.
    pub async fn drained(&self) {
        self.inner.exchanges.close();
        self.inner.exchanges.wait().await;
        self.inner.exchanges.reopen();
        self.inner.engine.drained().await;
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("engine", &self.inner.engine.name()).finish_non_exhaustive()
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

    /// Answers a request. Dropping the future, or the response's body, kills the program.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        // UUIDs of version 7 begin with the time: logs sort by them.
        let request_id: Arc<str> = uuid::Uuid::now_v7().simple().to_string().into();
        let span = tracing::info_span!("request", id = &*request_id, route = tracing::field::Empty);
        async move { Ok(inner.respond(request_id, request).await) }.instrument(span).boxed()
    }
}

impl Inner {
    /// A response, whatever happens.
    async fn respond<B>(self: Arc<Self>, request_id: Arc<str>, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let (method, uri, version) = (head.method.clone(), head.uri.clone(), head.version);
        let (mut remote, mut route) = (None, None);

        let answered = match Client::of(&head, &self.trusted_proxies) {
            Ok(client) => {
                remote = client.remote.map(|remote| remote.ip().to_canonical());
                match declared_length(&head) {
                    Ok(length) => {
                        self.answer(&request_id, client, head, Input::new(body, length), &mut route).await
                    }
                    Err(failure) => Err(failure.into()),
                }
            }
            Err(failure) => Err(failure.into()),
        };
        let mut response = answered.unwrap_or_else(|Unanswered { failed, debug }| {
            failed.failure.log(&format!("the client gets {}", failed.failure.status()));
            failed.failure.page(&request_id, debug.then_some(&failed.complaints))
        });

        if method == Method::HEAD {
            // Servers of HTTP/2 send what there is.
            response = response.map(Body::without_content);
        }
        let id = HeaderValue::from_str(&request_id).expect("an id is hexadecimal digits");
        response.headers_mut().insert(X_REQUEST_ID, id);
        let status = response.status();
        let record =
            Record { request_id, remote, route, method, uri, version, began, status, bytes: 0, cut: false };
        response.body_mut().set_record(record);
        response
    }

    /// Finds the route and lets it serve; and again, as often as programs send the request on.
    async fn answer(
        &self,
        request_id: &Arc<str>,
        client: Client,
        mut head: request::Parts,
        mut input: Input,
        route: &mut Option<Arc<str>>,
    ) -> Result<Response<Body>, Unanswered> {
        // As it came: a redirect makes the request a GET for the next program, not for the client.
        let head_only = head.method == Method::HEAD;
        let mut deadline = Deadline::NEVER;
        let mut cookies = Vec::new();
        for _ in 0..=MAX_LOCAL_REDIRECTS {
            let path = NormalPath::parse(head.uri.path()).map_err(Failure::from)?;
            let found = self.router.find(&client.host, path.as_bytes()).ok_or(Failure::NoRoute)?;
            let target = found.target;
            tracing::Span::current().record("route", &*target.name);
            *route = Some(target.name.clone());
            let request = invocation::Request {
                id: request_id,
                client: &client,
                head: &head,
                path_info: found.path_info,
                mount: &self.mount,
                content_length: None,
                has_body: false,
            };
            // The whole request's: a redirect does not begin it anew.
            deadline = deadline.within(target.route.limits.timeout);
            let served = self.serve(target, request, head_only, deadline, input).await;
            match served.map_err(|failed| Unanswered { failed, debug: target.route.debug_errors })? {
                Reply::Response(mut response) => {
                    for cookie in cookies {
                        response.headers_mut().append(SET_COOKIE, cookie);
                    }
                    return Ok(response);
                }
                Reply::LocalRedirect(redirect) => {
                    cookies.extend(redirect.set_cookie);
                    redirected(&mut head, &self.mount, &redirect.location)?;
                    input = Input::None;
                }
            }
        }
        Err(Failure::TooManyRedirects.into())
    }

    /// Admits a request to a route and runs the route's program for it.
    async fn serve(
        &self,
        target: &Target,
        mut request: invocation::Request<'_>,
        head_only: bool,
        deadline: Deadline,
        input: Input,
    ) -> Result<Reply, Failed> {
        let route = &target.route;
        let limits = &route.limits;
        if let (Some(length), Some(limit)) = (input.length(), limits.max_request_body)
            && length > limit
        {
            return Err(Failure::RequestTooLarge.into());
        }
        let busy = |refusal| Failure::Busy { refusal, retry_after: target.gate.retry_after() };
        // Before the body is read, and `100 Continue` sent, for nothing.
        target.gate.check().map_err(busy)?;
        let input = match (&route.output, route.request_body) {
            (Output::Cgi, RequestBody::Spool) if input.is_unmeasured() => {
                let _room = target.gate.spool().map_err(busy)?;
                let activity = Activity::new();
                tokio::select! {
                    spooled = input.spool(limits.max_request_body, &activity) => spooled?,
                    () = activity.ceased(limits.idle_timeout) => return Err(Failure::RequestTooSlow.into()),
                    () = deadline.passed() => return Err(Failure::RequestTooSlow.into()),
                }
            }
            _ => input,
        };
        // After it: a slow client must not hold a place.
        let place = tokio::select! {
            place = target.gate.enter() => place.map_err(busy)?,
            () = deadline.passed() => return Err(Failure::DeadlinePassed.into()),
        };
        let image = tokio::select! {
            image = self.engine.image(&route.program) => image.map_err(Failure::from)?,
            () = deadline.passed() => return Err(Failure::DeadlinePassed.into()),
        };
        request.content_length = input.length();
        request.has_body = !input.is_none();
        let mut invocation = invocation::invocation(route, &target.name, &image, &request);
        invocation.lease = Lease::new(place);

        let (sender, reply) = oneshot::channel();
        let abandoned = CancellationToken::new();
        let exchange = Exchange {
            engine: self.engine.clone(),
            route: route.clone(),
            invocation,
            input,
            head_only,
            deadline,
            client: request.head.extensions.get::<ClientConnection>().cloned(),
            abandoned: abandoned.clone(),
        };
        // Dropped with this future, should the client leave before there is a reply.
        let guard = abandoned.drop_guard();
        let exchange = self.exchanges.spawn(exchange.run(sender).in_current_span());
        let reply = reply.await.unwrap_or(Err(Failure::Interrupted.into()));
        guard.disarm();
        if let Ok(Reply::LocalRedirect(_)) = reply {
            // The next program may want the place that this one had.
            _ = exchange.await;
        }
        reply
    }
}

/// A failure, and whether its page may tell.
struct Unanswered {
    failed: Failed,
    debug: bool,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self { failed: failure.into(), debug: false }
    }
}

/// What `Content-Length` says. Servers have checked it; what an embedding program hands us may not have gone
/// through one.
fn declared_length(head: &request::Parts) -> Result<Option<u64>, Failure> {
    let parse = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
    match head.headers.get(CONTENT_LENGTH) {
        Some(value) => parse(value).map(Some).ok_or(Failure::Malformed("Content-Length is no number")),
        None => Ok(None),
    }
}
