//! The access log: one event a request, when its response is through, under a tracing target of its own.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use tower::{Layer, Service};

use super::body::Body;
use super::client::Remote;
use super::dispatch::RouteName;
use super::request_id::RequestId;
use crate::gateway::{self, Input};

/// The tracing target of the access log, to be filtered by.
pub const ACCESS_LOG: &str = "dcgi::access";

/// A layer that writes a line for each response, when its body is done with.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccessLogLayer;

/// See [`AccessLogLayer`].
#[derive(Clone, Debug)]
pub(super) struct LogAccess<S>(S);

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

    fn call(&mut self, request: Request<Input>) -> Self::Future {
        let began = Instant::now();
        let request_id = request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone());
        let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
        let answered = self.0.call(request);
        async move {
            let mut response = answered.await?;
            let extensions = response.extensions_mut();
            let remote = extensions.remove::<Remote>().map(|Remote(remote)| remote);
            let route = extensions.remove::<RouteName>().map(|RouteName(route)| route);
            let status = response.status();
            let record = Record {
                request_id,
                remote,
                route,
                method,
                uri,
                version,
                began,
                status,
                bytes: 0,
                cut: false,
            };
            Ok(response.map(|body| Body::logged(body, record)))
        }
        .boxed()
    }
}

/// What is known of a request when it has been answered. Dropping it writes it.
#[derive(Debug)]
pub(super) struct Record {
    request_id: Option<Arc<str>>,
    remote: Option<IpAddr>,
    /// The route that answered, after all local redirects.
    route: Option<Arc<str>>,
    method: Method,
    uri: Uri,
    version: Version,
    began: Instant,
    status: StatusCode,
    /// Body bytes that were handed to the server.
    pub(super) bytes: u64,
    /// Whether the program failed to finish its answer.
    pub(super) cut: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        tracing::info!(
            target: ACCESS_LOG,
            request_id = self.request_id.as_deref(),
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
