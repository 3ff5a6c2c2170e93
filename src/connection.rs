//! What is known of the connection that a request came through.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Both ends of the connection that a request came through, as a request extension.
///
/// dcgi's own server sets it. Where a [`Handler`](crate::Handler) is part of another server, a layer that inserts it gives
/// programs `REMOTE_ADDR`, `REMOTE_PORT` and `SERVER_ADDR`; without it those stay unset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The server's end. Absent on a unix socket.
    pub local: Option<SocketAddr>,
    /// The client's end. Absent on a unix socket.
    pub remote: Option<SocketAddr>,
    /// Whether the connection is encrypted.
    pub https: bool,
}

/// A request's target as the client spelled it, as a request extension where it differs from the request's own: what may not
/// stand in one is percent-encoded there.
#[derive(Clone, Debug)]
pub(crate) struct RawTarget(pub(crate) Bytes);

impl RawTarget {
    /// Path and query, where the target has them.
    pub(crate) fn path_and_query(&self) -> Option<&[u8]> {
        let target = self.0.split(|byte| *byte == b'#').next()?;
        if target.starts_with(b"/") {
            return Some(target);
        }
        let behind_scheme = &target[target.windows(3).position(|part| part == b"://")? + 3..];
        let path = behind_scheme.iter().position(|byte| matches!(byte, b'/' | b'?'))?;
        Some(&behind_scheme[path..]).filter(|path| path.starts_with(b"/"))
    }

    /// What follows the question mark.
    pub(crate) fn query(&self) -> Option<&[u8]> {
        let path_and_query = self.path_and_query()?;
        let mark = path_and_query.iter().position(|byte| *byte == b'?')?;
        Some(&path_and_query[mark + 1..])
    }
}

/// When a client last took something of its answers, as a request extension: hyper and the kernel hold back much of an
/// answer, so that what was given to them may be long on its way.
///
/// The server notes it; requests look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken(Arc<Mutex<Option<Instant>>>);

impl Taken {
    /// The client has taken something, now.
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When that was, the last time.
    pub(crate) fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's socket, to be watched for its end while nobody reads from it: a server that waits for a program
/// to take in a body has stopped reading, and would not see the client leave.
///
/// The server holds the [`Watch`]; requests hold this, which keeps nothing open.
#[derive(Clone, Debug)]
pub(crate) struct ClientConnection {
    watch: Weak<Duplicate>,
    over: CancellationToken,
}

/// The server's half of a [`ClientConnection`]. Dropping it is the end of the connection for all who watch.
#[derive(Debug)]
pub(crate) struct Watch {
    _duplicate: Arc<Duplicate>,
    _over: DropGuard,
}

/// A second descriptor of a client's socket, so that waiting on it does not disturb the server's own. It has to
/// be closed for the socket to be.
#[derive(Debug)]
enum Duplicate {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How soon after bytes that mean nothing here the next look is taken. Events come per segment; a client's
/// end is wanted within a second.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl ClientConnection {
    /// Watches a socket through a duplicate of its descriptor.
    ///
    /// # Errors
    /// Where there are no more descriptors.
    pub(crate) fn watch(socket: impl AsFd) -> io::Result<(Self, Watch)> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let duplicate = Arc::new(match socket_domain(&socket)? {
            AddressFamily::UNIX => Duplicate::Unix(UnixStream::from_std(socket.into())?),
            _ => Duplicate::Tcp(TcpStream::from_std(socket.into())?),
        });
        let over = CancellationToken::new();
        let watch = Arc::downgrade(&duplicate);
        Ok((Self { watch, over: over.clone() }, Watch { _duplicate: duplicate, _over: over.drop_guard() }))
    }

    /// Resolves when the client has closed its sending half, or the connection is broken or over.
    ///
    /// Cancel safe.
    pub(crate) async fn closed(&self) {
        tokio::select! {
            () = self.over.cancelled() => {}
            () = self.read_closed() => {}
        }
    }

    async fn read_closed(&self) {
        let Some(socket) = self.watch.upgrade() else { return };
        while let Ok(ready) = socket.readable().await {
            if ready.is_read_closed() || ready.is_error() {
                return;
            }
            socket.forget_readiness();
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Duplicate {
    async fn readable(&self) -> io::Result<Ready> {
        match self {
            Self::Tcp(socket) => socket.ready(Interest::READABLE).await,
            Self::Unix(socket) => socket.ready(Interest::READABLE).await,
        }
    }

    /// Waits for the next event, not for the bytes that are there and are not ours to read.
    fn forget_readiness(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        _ = match self {
            Self::Tcp(socket) => socket.try_io(Interest::READABLE, nothing),
            Self::Unix(socket) => socket.try_io(Interest::READABLE, nothing),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_target_has_the_path_and_query_that_it_names() {
        let parts = |target: &'static str| {
            let target = RawTarget(Bytes::from_static(target.as_bytes()));
            let text = |part: Option<&[u8]>| part.map(|part| String::from_utf8(part.to_vec()).unwrap());
            (text(target.path_and_query()), text(target.query()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("/<a>?\"b\"?c#d"), (some("/<a>?\"b\"?c"), some("\"b\"?c")));
        assert_eq!(parts("/<a>"), (some("/<a>"), None));
        assert_eq!(parts("http://h:1/<a>?b"), (some("/<a>?b"), some("b")));
        assert_eq!(parts("http://h?<a>/b"), (None, None));
        assert_eq!(parts("h<:443"), (None, None));
    }
}
