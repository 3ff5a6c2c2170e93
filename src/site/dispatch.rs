//! The innermost of a site: finds a request's route, and again after each local redirect.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ALLOW, SET_COOKIE};
use http::{HeaderMap, Method, Request, Response, request};
use tower::{Service, ServiceExt};

use super::compress::Taken;
use super::directory::Directory;
use super::elsewhere::Elsewhere;
use super::error_page::{Failing, headed};
use super::guard::Guard;
use super::redirect::redirected;
use super::request_id::RequestId;
use super::router::Router;
use super::send::Sent;
use super::sendfile::Sender;
use super::{page, refusal};
use crate::cgi::{AuthenticatedUser, NormalPath};
use crate::gateway::{
    self, ALLOWED, Asked, Body, Client, Deadline, Failed, Failure, Gateway, Input, MAX_LOCAL_REDIRECTS, Reply,
};

/// How long a local redirect waits for the program that asked for it to be gone.
const PLACE_PATIENCE: Duration = Duration::from_secs(1);

/// Answers a request of a client that is known.
#[derive(Clone)]
pub(super) struct Dispatch(pub(super) Arc<Routes>);

/// All routes.
pub(super) struct Routes {
    pub(super) router: Router<Target>,
    /// What a router above has stripped from the path: a prefix of every `SCRIPT_NAME`.
    pub(super) mount: Arc<str>,
}

/// A route, as it answers.
pub(super) struct Target {
    pub(super) name: Arc<str>,
    pub(super) guard: Guard,
    /// What every answer has beside its own.
    pub(super) headers: HeaderMap,
    pub(super) error_pages: BTreeMap<u16, String>,
    /// Whether what programs print is compressed.
    pub(super) compress: bool,
    /// What sends the files that programs name.
    pub(super) sender: Option<Sender>,
    pub(super) endpoint: Endpoint,
}

/// What answers, one of these for each [`RouteKind`](super::RouteKind).
#[derive(Debug)]
pub(super) enum Endpoint {
    Program(Gateway),
    Directory(Directory),
    Redirect(Elsewhere),
}

impl Endpoint {
    /// What runs programs for it, if any.
    fn gateway(&self) -> Option<&Gateway> {
        match self {
            Self::Program(gateway) => Some(gateway),
            Self::Directory(directory) => directory.gateway(),
            Self::Redirect(_) => None,
        }
    }

    /// Whether error pages tell why.
    fn debug_errors(&self) -> bool {
        match self {
            Self::Program(gateway) => gateway.debug_errors(),
            Self::Directory(directory) => directory.debug_errors(),
            Self::Redirect(_) => false,
        }
    }

    async fn answer(&self, asked: Asked) -> Result<Reply, Failed> {
        match self {
            Self::Program(gateway) => gateway.clone().oneshot(asked).await,
            Self::Directory(directory) => directory.clone().oneshot(asked).await,
            Self::Redirect(elsewhere) => elsewhere.clone().oneshot(asked).await,
        }
    }
}

/// The route that answered, as a response's extension: for the layers in front.
#[derive(Clone, Debug)]
pub(super) struct RouteName(pub(super) Arc<str>);

impl Service<Request<Input>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    /// Always ready: a route that has no place answers 503.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Input>) -> Self::Future {
        let routes = self.0.clone();
        async move { Ok(routes.respond(request).await) }.boxed()
    }
}

/// The answer to `OPTIONS *`, which asks for the server and not for what it serves (RFC 9110 §9.3.7).
fn options() -> Response<Body> {
    let mut response = Response::new(Body::default());
    response.headers_mut().insert(ALLOW, ALLOWED);
    response
}

impl Target {
    /// What comes of a failure: the request for the route's own page, or dcgi's. `before` is the request as it was.
    fn fails(
        &self,
        failing: Option<Failing>,
        failure: Failure,
        page: Response<Body>,
        before: Option<request::Parts>,
        mount: &str,
    ) -> ControlFlow<Response<Body>, (request::Parts, Failing)> {
        let response = match (failing, before) {
            // The page for another failure has failed.
            (Some(failing), _) => return ControlFlow::Break(failing.end(Err(failure))),
            (None, None) => page,
            (None, Some(mut head)) => {
                match Failing::begin(&self.error_pages, &self.headers, &mut head, mount, page) {
                    ControlFlow::Continue(begun) => return ControlFlow::Continue((head, begun)),
                    ControlFlow::Break(page) => page,
                }
            }
        };
        ControlFlow::Break(headed(response, &self.headers))
    }
}

/// The answer to a request that no route has, or has any more.
fn gone(failing: Option<Failing>, failure: Failure, head: &request::Parts) -> Response<Body> {
    match failing {
        Some(failing) => failing.end(Err(failure)),
        None => refusal(head, &failure.into(), false),
    }
}

impl Routes {
    /// A response, whatever happens.
    async fn respond(&self, request: Request<Input>) -> Response<Body> {
        let (head, input) = request.into_parts();
        // Servers of HTTP/2 send what there is.
        let head_only = head.method == Method::HEAD;
        let mut route = None;
        let mut response = self.answer(head, input, &mut route).await;
        if head_only {
            response = response.map(Body::without_content);
        }
        if let Some(route) = route {
            response.extensions_mut().insert(RouteName(route));
        }
        response
    }

    /// Finds the route and lets it answer; and again, as often as programs send the request on.
    async fn answer(
        &self,
        mut head: request::Parts,
        mut input: Input,
        route: &mut Option<Arc<str>>,
    ) -> Response<Body> {
        let head_only = head.method == Method::HEAD;
        let id = head.extensions.get::<RequestId>().map(|RequestId(id)| id.clone()).unwrap_or_default();
        let client = head.extensions.get::<Arc<Client>>().cloned();
        let Some(client) = client else {
            return refusal(&head, &Failure::Malformed("nobody knows who asks").into(), false);
        };
        if let Err(failure) = gateway::declared_length(&head) {
            return refusal(&head, &failure.into(), false);
        }
        if head.method == Method::CONNECT {
            return refusal(&head, &Failure::Tunnel.into(), false);
        }
        if head.method == Method::OPTIONS && head.uri.path() == "*" {
            return options();
        }
        let mut deadline = Deadline::NEVER;
        let mut cookies = Vec::new();
        let mut failing: Option<Failing> = None;
        for _ in 0..=MAX_LOCAL_REDIRECTS {
            let (target, path_info) = match self.find(&client.host, &head) {
                Ok(found) => found,
                Err(failure) => return gone(failing, failure, &head),
            };
            tracing::Span::current().record("route", &*target.name);
            *route = Some(target.name.clone());
            if let Some(gateway) = target.endpoint.gateway() {
                // The whole request's: a redirect does not begin it anew.
                deadline = gateway.deadline(deadline);
            }
            let asked_first = (failing.is_none() && !target.error_pages.is_empty()).then(|| head.clone());
            let taken = target.compress.then(|| Taken::of(&head.headers));
            let answered = match target.guard.admit(&client, &mut head).await {
                Ok(()) => {
                    let before = target.sender.as_ref().map(|sender| (sender, head.clone()));
                    let asked = Asked {
                        id: id.clone(),
                        client: client.clone(),
                        head,
                        path_info,
                        script: None,
                        input,
                        head_only,
                        names_files: target.sender.is_some(),
                        deadline,
                    };
                    match (target.endpoint.answer(asked).await, before) {
                        (Ok(Reply::Response(response)), Some((sender, head))) => {
                            sender.answer(response, &head).await.map(Reply::Response).map_err(Failed::from)
                        }
                        (answered, _) => answered,
                    }
                }
                Err(failure) => Err(failure.into()),
            };
            match answered {
                Ok(Reply::Response(mut response)) => {
                    if let Some(taken) = taken.filter(|_| response.extensions().get::<Sent>().is_none()) {
                        response = taken.compressed(response).await;
                    }
                    // Once, what adds up.
                    if !failing.as_ref().is_some_and(|failing| failing.has_headers(&target.headers)) {
                        response = headed(response, &target.headers);
                    }
                    if let Some(failing) = failing {
                        response = failing.end(Ok(response));
                    }
                    for cookie in cookies {
                        response.headers_mut().append(SET_COOKIE, cookie);
                    }
                    return response;
                }
                Ok(Reply::LocalRedirect { redirect, head: before, exchange }) => {
                    head = before;
                    // Who it was for the one is nobody to another that does not ask.
                    if target.guard.knows_users() {
                        head.extensions.remove::<AuthenticatedUser>();
                    }
                    // The next program may want the place that this one had. What that has left running is not waited for.
                    tokio::select! {
                        _ = exchange => {}
                        () = tokio::time::sleep(PLACE_PATIENCE) => {}
                        _ = deadline.passed() => {}
                    }
                    cookies.extend(redirect.set_cookie);
                    if let Err(failure) = redirected(&mut head, &self.mount, &redirect.location) {
                        return gone(failing, failure, &head);
                    }
                    input = Input::None;
                }
                Err(failed) => {
                    let page = page(&id, &failed, target.endpoint.debug_errors());
                    match target.fails(failing, failed.failure, page, asked_first, &self.mount) {
                        ControlFlow::Continue((instead, begun)) => {
                            (head, failing, input) = (instead, Some(begun), Input::None);
                        }
                        ControlFlow::Break(response) => return response,
                    }
                }
            }
        }
        gone(failing, Failure::TooManyRedirects, &head)
    }

    /// A request's route, and what its prefix leaves of the path.
    pub(super) fn find(&self, host: &str, head: &request::Parts) -> Result<(&Target, Vec<u8>), Failure> {
        let path = NormalPath::parse(head.uri.path()).map_err(Failure::from)?;
        let found = self.router.find(host, path.as_bytes()).ok_or(Failure::NoRoute)?;
        let path_info = found.path_info.to_owned();
        Ok((found.target, path_info))
    }
}
