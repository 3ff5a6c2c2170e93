//! The access log: one event a request, when its response is through or its client has left, under a tracing target of its
//! own.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use tower::{Layer, Service};
use tracing::Span;

use super::body::Body;
use super::dispatch::RouteName;
use super::request_id::RequestId;
use crate::gateway::{self, Input};
use crate::reason::Reason;

/// The tracing target of the access log, to be filtered by.
pub const ACCESS_LOG: &str = "dcgi::access";

/// Writes the line of what was refused before it was a request, and has passed no layer.
pub(crate) fn log_refused(
    remote: Option<IpAddr>,
    status: StatusCode,
    why: &(dyn std::error::Error + 'static),
) {
    tracing::info!(
        target: ACCESS_LOG,
        remote = remote.map(tracing::field::display),
        status = status.as_u16(),
        bytes = 0,
        cut = false,
        "refused before there was a request: {}",
        Reason(why)
    );
}

/// A layer that writes a line for each request, when its response's body is done with, or it is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccessLogLayer;

/// See [`AccessLogLayer`].
#[derive(Clone, Debug)]
pub(super) struct LogAccess<S>(S);

/// What the layers behind find out about who asks, as a request's extension: it may be given up before it has a response.
#[derive(Clone, Debug, Default)]
pub(super) struct Remote(Arc<OnceLock<IpAddr>>);

impl Remote {
    pub(super) fn is(&self, address: IpAddr) {
        // A request has one.
        _ = self.0.set(address);
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = LogAccess<S>;

    fn layer(&self, inner: S) -> LogAccess<S> {
        LogAccess(inner)
    }
}

impl<S> Service<Request<Input>> for LogAccess<S>
where
    S: Service<Request<Input>, Response = Response<gateway::Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Input>) -> Self::Future {
        let mut record = Record {
            span: Span::current(),
            request_id: request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone()),
            remote: Remote::default(),
            route: None,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            began: Instant::now(),
            status: None,
            bytes: 0,
            cut: false,
        };
        request.extensions_mut().insert(record.remote.clone());
        let answered = self.0.call(request);
        async move {
            let mut response = answered.await?;
            record.route = response.extensions_mut().remove::<RouteName>().map(|RouteName(route)| route);
            record.status = Some(response.status());
            Ok(response.map(|body| Body::logged(body, record)))
        }
        .boxed()
    }
}

/// What is known of a request. Dropping it writes it.
#[derive(Debug)]
pub(super) struct Record {
    /// The request's, with its id and route.
    span: Span,
    request_id: Option<Arc<str>>,
    remote: Remote,
    /// The route that answered, after all local redirects.
    route: Option<Arc<str>>,
    method: Method,
    uri: Uri,
    version: Version,
    began: Instant,
    /// Absent: the client left before there was one.
    status: Option<StatusCode>,
    /// Body bytes that were handed to the server.
    pub(super) bytes: u64,
    /// Whether the program failed to finish its answer.
    pub(super) cut: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        // Where nobody takes the span, the line says for itself what it would.
        let alone = self.span.is_disabled();
        tracing::info!(
            target: ACCESS_LOG,
            request_id = self.request_id.as_deref().filter(|_| alone),
            remote = self.remote.0.get().map(tracing::field::display),
            route = self.route.as_deref().filter(|_| alone),
            method = %self.method,
            uri = %self.uri,
            version = ?self.version,
            status = self.status.map(|status| status.as_u16()),
            bytes = self.bytes,
            cut = self.cut,
            milliseconds = self.began.elapsed().as_micros() as f64 / 1000.0,
        );
    }
}
