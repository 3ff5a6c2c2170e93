//! Sockets that listen.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Listen;
use crate::connection::ConnectionInfo;

/// How much of an answer the kernel holds back for a client that does not keep up, in bytes, beside what is on its way:
/// `TCP_NOTSENT_LOWAT`, tcp(7). By default it is megabytes, and a client that reads slowly and steadily would look as if it
/// took nothing for as long as those last.
const UNSENT: u32 = 64 << 10;

/// How many connections may wait to be accepted; the kernel may have it less.
const BACKLOG: i32 = 1024;

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
        let context = |error: io::Error| {
            let hint = hint(address, error.kind());
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
        };
        match address {
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await.map_err(context)?)),
            Listen::Unix { path, mode, group } => {
                remove_stale(path).await.map_err(context)?;
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(context)?;
                socket.bind(&SockAddr::unix(path).map_err(context)?).map_err(context)?;
                let file = SocketFile(path.clone());
                // SECURITY: nobody can connect before `listen`, and then the file is whose it shall be.
                if let Some(group) = group {
                    give_to(path, group).map_err(context)?;
                }
                if let Some(mode) = mode {
                    std::fs::set_permissions(path, Permissions::from_mode(*mode)).map_err(context)?;
                }
                socket.listen(BACKLOG).map_err(context)?;
                socket.set_nonblocking(true).map_err(context)?;
                let listener = UnixListener::from_std(OwnedFd::from(socket).into()).map_err(context)?;
                Ok(Self::Unix(listener, Some(file)))
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

/// Whether what is at a path is something else than a socket.
fn is_no_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket())
}

/// What to do where an address cannot be listened on.
fn hint(address: &Listen, error: io::ErrorKind) -> &'static str {
    match (error, address) {
        (io::ErrorKind::AddrInUse, Listen::Unix { path, .. }) if is_no_socket(path) => {
            "; what is there is no socket, and is left alone: name another path, or remove it"
        }
        (io::ErrorKind::AddrInUse, _) => {
            "; another process listens there: end that one, or set `listen` (--listen) to another address"
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "; no interface of this machine has that address: 0.0.0.0 and [::] are all that there are"
        }
        (io::ErrorKind::PermissionDenied, Listen::Tcp(_)) => {
            "; ports below 1024 are root's: take a higher one, a socket of systemd's, or CAP_NET_BIND_SERVICE"
        }
        (io::ErrorKind::PermissionDenied, Listen::Unix { .. }) => {
            "; whoever runs dcgi has to be able to write to that directory"
        }
        (io::ErrorKind::NotFound, Listen::Unix { .. }) => "; the directory has to be there before",
        _ => "",
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

/// Gives a file to a group, by its name or number.
fn give_to(path: &Path, group: &str) -> io::Result<()> {
    let number = match group.parse() {
        Ok(number) => Some(number),
        Err(_) => group_number(&std::fs::read_to_string("/etc/group")?, group),
    };
    let Some(number) = number else {
        return Err(io::Error::other(format!("there is no group `{group}` in /etc/group")));
    };
    std::os::unix::fs::chown(path, None, Some(number)).map_err(|error| {
        let why =
            format!("its file cannot be given to group `{group}`, which dcgi's user has to be in: {error}");
        io::Error::other(why)
    })
}

/// A group's number: group(5).
fn group_number(groups: &str, name: &str) -> Option<u32> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_number_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nwww:x:80:\nwww-data:x:33:dcgi,other\n";
        assert_eq!(group_number(groups, "www-data"), Some(33));
        assert_eq!(group_number(groups, "www-dat"), None);
    }
}
