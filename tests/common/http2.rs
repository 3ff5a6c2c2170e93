//! An HTTP/2 client without TLS, which knows beforehand what it talks to (RFC 9113 §3.3).

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Sends one request, its body in these pieces and of no declared length, and reads the response to its end.
#[track_caller]
pub fn exchange(address: SocketAddr, request: Request<Vec<Bytes>>) -> Response<Bytes> {
    let request = request.map(|pieces| match pieces.len() {
        0 => Empty::new().boxed_unsync(),
        _ => StreamBody::new(frames(pieces)).boxed_unsync(),
    });
    let exchange = async {
        let (head, body) = send(address, request).await?.into_parts();
        Result::Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    };
    runtime().block_on(exchange).expect("the server answers over HTTP/2")
}

/// Sends one request whose body does not end behind these pieces, and reads the response's head. Dropping what comes
/// back closes the connection.
#[track_caller]
pub fn begin(address: SocketAddr, request: Request<Vec<Bytes>>) -> Runtime {
    let endless = |pieces| StreamBody::new(frames(pieces).chain(stream::pending())).boxed_unsync();
    let runtime = runtime();
    let response = runtime.block_on(send(address, request.map(endless)));
    response.expect("the server begins to answer over HTTP/2");
    runtime
}

async fn send(address: SocketAddr, request: Request<Body>) -> Result<Response<Incoming>> {
    let io = TokioIo::new(tokio::net::TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

fn frames(pieces: Vec<Bytes>) -> impl Stream<Item = std::result::Result<Frame<Bytes>, Infallible>> + Send {
    stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(piece))))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
