//! What a program reaches without a network: listening sockets inside, and what comes to them carried to one address
//! outside.
//!
//! # Security
//! A program chooses what it says there, and nothing else: neither where that goes, nor as whom. To a unix socket outside it
//! is the program's own user who connects, not dcgi's: databases let in whom the kernel names (PostgreSQL's `peer`, MariaDB's
//! `unix_socket`).

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::Shutdown;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::agent::Socket;

/// How many connections of one container to one address are carried at once. Others wait to be accepted.
const MOST: usize = 128;

/// How long an address outside may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long connections are refused once one could not be carried: then it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// What a program may reach: an address inside that dcgi listens at, and where it carries what comes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Inside.
    pub inside: Inside,
    /// Outside.
    pub outside: Outside,
}

/// An address inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inside {
    /// An address of the loopback, and a port.
    Tcp(std::net::SocketAddr),
    /// An absolute path.
    Unix(String),
}

/// An address outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// A host, by name or address, and a port. A name is looked up for each connection.
    Tcp(String, u16),
    /// An absolute path.
    Unix(PathBuf),
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Where connections are carried to, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) outside: Outside,
    /// Who connects to a unix socket, where that is not dcgi's user: user, group, and other groups.
    pub(super) user: Option<(u32, u32, Vec<u32>)>,
    /// For the log.
    pub(super) route: Arc<str>,
}

/// Carries what comes to a socket that listens. Dropped, it ends, and all that it carries.
pub(super) type Carrier = AbortOnDropHandle<()>;

/// Carries what comes to a TCP socket, which may be another network namespace's.
///
/// # Errors
/// Where it is no such socket.
pub(super) fn carry_tcp(listener: OwnedFd, target: Target) -> io::Result<Carrier> {
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let route = target.route.clone();
    Ok(AbortOnDropHandle::new(tokio::spawn(
        async move {
            let mut listener = listener;
            let mut carried = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept(), if carried.len() < MOST => accepted,
                    Some(_) = carried.join_next() => continue,
                };
                let Ok((inside, _)) = accepted else {
                    // Descriptors have run out.
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                match reach(&target).await {
                    Ok(outside) => {
                        _ = inside.set_nodelay(true);
                        carried.spawn(async move { carry(inside, outside).await });
                    }
                    Err(error) => {
                        tracing::warn!(
                            "{} cannot be reached: {error}; the program's connection is ended",
                            target.outside
                        );
                        // It is told at once. The kernel has accepted it, so it cannot be refused any more.
                        _ = inside.set_zero_linger();
                        drop(inside);
                        listener = match refuse_for_a_while(listener).await {
                            Ok(listener) => listener,
                            Err(error) => {
                                tracing::error!("{} is not carried to any more: {error}", target.outside);
                                return;
                            }
                        };
                    }
                }
            }
        }
        .instrument(tracing::info_span!("connect", %route)),
    )))
}

/// Has the kernel refuse connections: a socket that does not listen any more keeps its address.
///
/// Not while tokio looks at it, for whom a socket that was shut down once stays at its end.
async fn refuse_for_a_while(listener: TcpListener) -> io::Result<TcpListener> {
    let listener = listener.into_std()?;
    rustix::net::shutdown(&listener, Shutdown::Read)?;
    tokio::time::sleep(PAUSE).await;
    rustix::net::listen(&listener, BACKLOG)?;
    TcpListener::from_std(listener)
}

/// Carries what comes to a unix socket, which goes with the carrier.
pub(super) fn carry_unix(socket: Socket, target: Target) -> Carrier {
    let route = target.route.clone();
    AbortOnDropHandle::new(tokio::spawn(
        async move {
            let mut carried = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = socket.accept(), if carried.len() < MOST => accepted,
                    Some(_) = carried.join_next() => continue,
                };
                let Ok(inside) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let target = target.clone();
                carried.spawn(
                    async move {
                        match reach(&target).await {
                            Ok(outside) => carry(inside, outside).await,
                            Err(error) => {
                                tracing::warn!(
                                    "{} cannot be reached: {error}; the program's connection is ended",
                                    target.outside
                                );
                            }
                        }
                    }
                    .in_current_span(),
                );
            }
        }
        .instrument(tracing::info_span!("connect", %route)),
    ))
}

/// A connection outside.
enum Reached {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn reach(target: &Target) -> io::Result<Reached> {
    let reaching = async {
        match &target.outside {
            Outside::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                _ = stream.set_nodelay(true);
                Ok(Reached::Tcp(stream))
            }
            Outside::Unix(path) => match &target.user {
                None => Ok(Reached::Unix(UnixStream::connect(path).await?)),
                Some(user) => Ok(Reached::Unix(connect_as(path, user.clone()).await?)),
            },
        }
    };
    tokio::time::timeout(PATIENCE, reaching).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Connects as another user: the kernel tells the other side who it was that did (`SO_PEERCRED`, unix(7)).
async fn connect_as(path: &Path, (uid, gid, groups): (u32, u32, Vec<u32>)) -> io::Result<UnixStream> {
    let path = path.to_owned();
    let (sender, connected) = tokio::sync::oneshot::channel();
    // A thread of its own, which ends as that user: its ids are its alone.
    std::thread::Builder::new().name("dcgi-connect".to_owned()).spawn(move || {
        let connect = || -> io::Result<std::os::unix::net::UnixStream> {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            let groups: Vec<_> = groups.into_iter().map(Gid::from_raw).collect();
            set_thread_groups(&groups)?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            std::os::unix::net::UnixStream::connect(path)
        };
        _ = sender.send(connect());
    })?;
    let stream = connected.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

async fn carry(inside: impl AsyncRead + AsyncWrite + Unpin, outside: Reached) {
    let mut inside = inside;
    // How it ends is for the two to tell each other.
    _ = match outside {
        Reached::Tcp(mut outside) => copy_bidirectional(&mut inside, &mut outside).await,
        Reached::Unix(mut outside) => copy_bidirectional(&mut inside, &mut outside).await,
    };
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn carried_to(outside: Outside) -> (std::net::SocketAddr, Carrier) {
        // By its number: one of the kernel's choice goes with the listening.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = std::net::TcpListener::bind(free).unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target { outside, user: None, route: "/x".into() };
        (address, carry_tcp(listener.into(), target).unwrap())
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_end_is_told() {
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = outside.local_addr().unwrap().port();
        let (address, _carrier) = carried_to(Outside::Tcp("localhost".into(), port)).await;
        let serving = tokio::spawn(async move {
            let (mut stream, _) = outside.accept().await.unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await.unwrap();
            heard.reverse();
            stream.write_all(&heard).await.unwrap();
        });
        let mut inside = TcpStream::connect(address).await.unwrap();
        inside.write_all(b"abc").await.unwrap();
        inside.shutdown().await.unwrap();
        let mut answer = String::new();
        inside.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "cba");
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_down_is_refused_and_reached_again_when_it_is_back() {
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = outside.local_addr().unwrap();
        drop(outside);
        let (address, _carrier) = carried_to(Outside::Tcp("127.0.0.1".into(), at.port())).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let error = first.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let outside = TcpListener::bind(at).await.unwrap();
        let accepting = tokio::spawn(async move { outside.accept().await.unwrap() });
        let reached = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
        accepting.await.unwrap();
    }
}
