//! One client connection, from its first byte to its close.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::sync::OwnedSemaphorePermit;
use tower::Service;

use super::Shared;
use super::client_io::{ClientIo, Socket};
use super::head_guard::HeadGuard;
use crate::connection::{ClientConnection, ConnectionInfo, RawTarget, Taken};
use crate::site::log_refused;

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many requests of one HTTP/2 connection are served at once.
const HTTP2_STREAMS: u32 = 128;

/// How much of a response waits for an HTTP/2 client, in bytes a stream.
const HTTP2_SEND_BUFFER: usize = 64 << 10;

/// How often an HTTP/2 client is asked whether it is there, and how long it may take to say so.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// Smaller than this hyper does not take.
const HTTP1_MIN_BUFFER: usize = 8192;

/// Serves one connection to its end.
pub(super) async fn serve<S: Socket>(
    mut socket: S,
    info: ConnectionInfo,
    place: OwnedSemaphorePermit,
    shared: Arc<Shared>,
) {
    let first = tokio::select! {
        first = tokio::time::timeout(shared.limits.header_timeout, first_bytes(&mut socket)) => first,
        () = shared.closing.cancelled() => return,
    };
    let Ok(Ok(first)) = first else { return };
    let result = if first.starts_with(HTTP2_PREFACE) {
        serve_http2(ClientIo::new(socket, first, None, None, place), info, &shared).await
    } else {
        serve_http1(socket, first, info, place, &shared).await
    };
    if let Err(error) = result {
        if let Some(status) = refused_with(&error) {
            log_refused(info.remote.map(|remote| remote.ip()), status, &error);
        }
        tracing::debug!(error = %crate::reason::Reason(&error), "the connection broke");
    }
}

/// What hyper has answered to a head that is none.
fn refused_with(error: &hyper::Error) -> Option<StatusCode> {
    match error {
        // A kind of its own, which hyper tells by its words alone.
        error if error.is_parse_too_large() && error.to_string().contains("URI too long") => {
            Some(StatusCode::URI_TOO_LONG)
        }
        // Answered with nothing.
        error if error.is_parse_version_h2() => None,
        error if error.is_parse_too_large() => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        error if error.is_parse() => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

/// Reads until it can be told whether this is HTTP/2.
async fn first_bytes(socket: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Bytes> {
    let mut first = BytesMut::with_capacity(1024);
    loop {
        if socket.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let compared = first.len().min(HTTP2_PREFACE.len());
        if compared == HTTP2_PREFACE.len() || first[..compared] != HTTP2_PREFACE[..compared] {
            return Ok(first.freeze());
        }
    }
}

async fn serve_http1<S: Socket>(
    socket: S,
    first: Bytes,
    info: ConnectionInfo,
    place: OwnedSemaphorePermit,
    shared: &Shared,
) -> hyper::Result<()> {
    // Without a watch, a client that leaves while its body is not read is noticed late, and no more than that.
    let (client, watch) = ClientConnection::watch(&socket).ok().unzip();
    let limit = shared.limits.max_header_size.max(HTTP1_MIN_BUFFER);
    let guard = HeadGuard::new(limit);
    let (targets, requests) = (guard.raw_targets(), AtomicU64::new(0));
    let io = ClientIo::new(socket, first, Some(guard), watch, place);
    let (abort, taken) = (io.abort_switch(), io.taken());
    let service = service_fn(|mut request: Request<Incoming>| {
        // One after the other: heads come here in the order in which they have passed the guard.
        if let Some(target) = targets.take(requests.fetch_add(1, Ordering::Relaxed)) {
            request.extensions_mut().insert(RawTarget(target));
        }
        respond(request, info, client.clone(), taken.clone(), shared)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_timeout)
        .max_buf_size(limit)
        .max_header_size(limit)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shared.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection.as_mut() => result,
                () = shared.aborting.cancelled() => {
                    abort.store(true, Ordering::Relaxed);
                    return Ok(());
                }
            }
        }
    };
    // The service cannot fail: a user's error is a body that was cut.
    if result.as_ref().is_err_and(hyper::Error::is_user) {
        abort.store(true, Ordering::Relaxed);
    }
    result
}

async fn serve_http2<S: Socket>(io: ClientIo<S>, info: ConnectionInfo, shared: &Shared) -> hyper::Result<()> {
    // Bodies of HTTP/2 run in tasks of hyper's own, so the service owns what it needs.
    // What goes over the connection says nothing of one stream: there, each has its own flow control to go by.
    let handler = shared.handler.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info);
        handler.clone().call(request)
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(shared.limits.max_header_size).unwrap_or(u32::MAX))
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => result,
        () = shared.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection.as_mut() => result,
                () = shared.aborting.cancelled() => Ok(()),
            }
        }
    }
}

async fn respond(
    mut request: Request<Incoming>,
    info: ConnectionInfo,
    client: Option<ClientConnection>,
    taken: Taken,
    shared: &Shared,
) -> Result<http::Response<crate::site::Body>, std::convert::Infallible> {
    let extensions = request.extensions_mut();
    extensions.insert(info);
    extensions.insert(taken);
    if let Some(client) = client {
        extensions.insert(client);
    }
    shared.handler.clone().call(request).await
}
