//! The request's id: one for each, in every line of the log that concerns it, and in the response.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::Instrument;

use crate::gateway::Input;

/// The tracing target of the span that each request has, with the fields `request_id` and `route`: at the level of errors,
/// so that whatever is logged of a request, at whichever level, carries both.
pub const REQUEST_SPAN: &str = "dcgi::request";

/// The response header that carries it.
const X_REQUEST_ID: &str = "x-request-id";

/// A layer that gives each request an id, and all that is logged for it a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestIdLayer;

/// See [`RequestIdLayer`].
#[derive(Clone, Debug)]
pub(super) struct SetRequestId<S>(S);

/// A request's id, as its extension.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) Arc<str>);

impl<S> Layer<S> for RequestIdLayer {
    type Service = SetRequestId<S>;

    fn layer(&self, inner: S) -> SetRequestId<S> {
        SetRequestId(inner)
    }
}

impl<S, B> Service<Request<Input>> for SetRequestId<S>
where
    S: Service<Request<Input>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<B>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Input>) -> Self::Future {
        // UUIDs of version 7 begin with the time: logs sort by them.
        let id: Arc<str> = uuid::Uuid::now_v7().simple().to_string().into();
        let route = tracing::field::Empty;
        let span = tracing::error_span!(target: REQUEST_SPAN, "request", request_id = &*id, route);
        request.extensions_mut().insert(RequestId(id.clone()));
        let answered = span.in_scope(|| self.0.call(request));
        async move {
            let mut response = answered.await?;
            let id = HeaderValue::from_str(&id).expect("an id is hexadecimal digits");
            response.headers_mut().insert(X_REQUEST_ID, id);
            Ok(response)
        }
        .instrument(span)
        .boxed()
    }
}
