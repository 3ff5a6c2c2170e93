//! Sockets that listen.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Listen;
use crate::connection::ConnectionInfo;

/// How much of an answer the kernel holds back for a client that does not keep up, in bytes, beside what is on its way:
/// `TCP_NOTSENT_LOWAT`, tcp(7). By default it is megabytes, and a client that reads slowly and steadily would look as if it
/// took nothing for as long as those last.
const UNSENT: u32 = 64 << 10;

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// With the file that goes when we go, where it is ours.
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] Option<SocketFile>),
}

/// A connection, and both its ends.
pub(super) enum Accepted {
    Tcp(TcpStream, ConnectionInfo),
    Unix(UnixStream, ConnectionInfo),
}

/// A unix socket's file that we made: removed with us.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    pub(super) async fn bind(address: &Listen) -> io::Result<Self> {
        let context =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        match address {
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await.map_err(context)?)),
            Listen::Unix(path) => {
                remove_stale(path).await.map_err(context)?;
                let listener = UnixListener::bind(path).map_err(context)?;
                Ok(Self::Unix(listener, Some(SocketFile(path.clone()))))
            }
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}"),
                Err(error) => format!("tcp:({error})"),
            },
            Self::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                format!("unix:{}", path.map_or_else(Default::default, |path| path.display().to_string()))
            }
        }
    }

    /// Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (socket, remote) = listener.accept().await?;
                // An answer's end must not wait for the acknowledgement of its beginning.
                socket.set_nodelay(true)?;
                // What the kernel holds back is no sign of what the client takes.
                _ = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT);
                let local = socket.local_addr().ok();
                let info = ConnectionInfo { local, remote: Some(remote), https: false };
                Ok(Accepted::Tcp(socket, info))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept().await?;
                Ok(Accepted::Unix(socket, ConnectionInfo::default()))
            }
        }
    }
}

/// Sockets that systemd has opened for us (`sd_listen_fds(3)`): with them `listen` does not count.
pub(super) fn from_systemd() -> io::Result<Vec<Listener>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
            socket.set_nonblocking(true)?;
            listeners.push(Listener::Tcp(TcpListener::from_std(socket)?));
        } else if let Some(socket) = passed.take_unix_listener(index)? {
            socket.set_nonblocking(true)?;
            listeners.push(Listener::Unix(UnixListener::from_std(socket)?, None));
        }
    }
    Ok(listeners)
}

/// Removes a socket file that nobody listens on any more. One in use, or another kind of file, is left.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
