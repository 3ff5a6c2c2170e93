//! A client's socket as hyper is to see it: guarded while it is read, given up when it is not read, and closed
//! so that the client learns what it has to.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use percent_encoding::percent_encode_byte;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::head_guard::HeadGuard;
use crate::connection::{Taken, Watch};

/// How long a client may take no byte of its response.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// How long a connection is read on after its last response: in all, and without a byte. A client that still
/// sends when the socket is closed gets a reset, and may lose the response to it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(2);

/// A socket that can be a client's.
pub(super) trait Socket: AsFd + AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsFd + AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for T {}

/// See the module.
pub(super) struct ClientIo<S: Socket> {
    /// Present until it is dropped.
    socket: Option<S>,
    /// What was read to tell the protocol by.
    first: Bytes,
    /// Refuses ambiguous HTTP/1 heads. Absent for HTTP/2, whose framing is not text.
    guard: Option<HeadGuard>,
    /// What was read and has become longer than what there was room for.
    escaped: Bytes,
    /// Set by the connection when an answer was cut.
    abort: Arc<AtomicBool>,
    /// Told when the client takes something.
    taken: Taken,
    /// Runs while the client takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    read_closed: bool,
    write_shut: bool,
    /// Tells those who watch that the connection is over.
    watch: Option<Watch>,
    /// Held for as long as the socket is open.
    place: Option<OwnedSemaphorePermit>,
}

impl<S: Socket> ClientIo<S> {
    pub(super) fn new(
        socket: S,
        first: Bytes,
        guard: Option<HeadGuard>,
        watch: Option<Watch>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            socket: Some(socket),
            first,
            guard,
            escaped: Bytes::new(),
            abort: Arc::default(),
            taken: Taken::default(),
            stall: None,
            read_closed: false,
            write_shut: false,
            watch,
            place: Some(place),
        }
    }

    /// Set it, and the connection is reset instead of closed. A response that ends with its connection, as
    /// HTTP/1.0 has them, would otherwise look whole.
    pub(super) fn abort_switch(&self) -> Arc<AtomicBool> {
        self.abort.clone()
    }

    /// When the client last took something.
    pub(super) fn taken(&self) -> Taken {
        self.taken.clone()
    }

    fn socket(&mut self) -> Pin<&mut S> {
        Pin::new(self.socket.as_mut().expect("present until drop"))
    }

    fn watch_stall<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stall = None;
            self.taken.note();
            return poll;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_LIMIT)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Socket> Drop for ClientIo<S> {
    fn drop(&mut self) {
        drop(self.watch.take());
        let Some(socket) = self.socket.take() else { return };
        if self.abort.load(Ordering::Relaxed) {
            _ = set_socket_linger(&socket, Some(Duration::ZERO));
        } else if self.write_shut && !self.read_closed {
            let place = self.place.take();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(linger(socket, place));
            }
        }
    }
}

/// Gives as much as there is room for.
fn give(from: &mut Bytes, to: &mut ReadBuf<'_>) {
    let count = from.len().min(to.remaining());
    to.put_slice(&from[..count]);
    from.advance(count);
}

/// The bytes, those at these places percent-encoded.
fn escaped(bytes: &[u8], places: &[usize]) -> Bytes {
    let mut escaped = Vec::with_capacity(bytes.len() + 2 * places.len());
    let mut from = 0;
    for &place in places {
        escaped.extend_from_slice(&bytes[from..place]);
        escaped.extend_from_slice(percent_encode_byte(bytes[place]).as_bytes());
        from = place + 1;
    }
    escaped.extend_from_slice(&bytes[from..]);
    escaped.into()
}

async fn linger<S: Socket>(mut socket: S, _place: Option<OwnedSemaphorePermit>) {
    let read_on = async {
        let mut scrap = vec![0; 16 << 10];
        while let Ok(Ok(1..)) = tokio::time::timeout(LINGER_SILENCE, socket.read(&mut scrap)).await {}
    };
    _ = tokio::time::timeout(LINGER, read_on).await;
}

impl<S: Socket> AsyncRead for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.escaped.is_empty() {
            give(&mut this.escaped, buf);
            return Poll::Ready(Ok(()));
        }
        if this.guard.as_ref().is_some_and(HeadGuard::has_refused) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if this.first.is_empty() {
            std::task::ready!(this.socket().poll_read(cx, buf))?;
            this.read_closed = buf.filled().len() == before && buf.remaining() > 0;
        } else {
            give(&mut this.first, buf);
        }
        if let Some(guard) = &mut this.guard {
            let kept = guard.inspect(&mut buf.filled_mut()[before..]);
            buf.set_filled(before + kept);
            if !guard.odd().is_empty() {
                this.escaped = escaped(&buf.filled()[before..], guard.odd());
                buf.set_filled(before);
                give(&mut this.escaped, buf);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for ClientIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.socket().poll_write(cx, buf);
        self.watch_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.socket().poll_write_vectored(cx, bufs);
        self.watch_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_shut = true;
        self.socket().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_is_escaped_and_nothing_else() {
        assert_eq!(escaped(b"GET /<a>\xff HTTP", &[5, 7, 8]), "GET /%3Ca%3E%FF HTTP");
    }
}
