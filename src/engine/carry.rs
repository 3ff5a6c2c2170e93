//! What a program reaches without a network: listening sockets inside, and what comes to them carried to one address
//! outside.
//!
//! # Security
//! A program chooses what it says there, and nothing else: neither where that goes, nor as whom. To a unix socket outside,
//! where dcgi is root, it is the program's own user who connects: databases let in whom the kernel names (PostgreSQL's `peer`, MariaDB's
//! `unix_socket`).

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_send_buffer_size, set_socket_timeout,
};
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Gid, Resource, Uid, getrlimit};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;

use super::agent::Socket;

/// How many connections of one container, or to a unix socket inside of one route, are carried at once. Others wait to be
/// accepted.
const MOST: usize = 128;

/// How much the kernel may hold of one connection, in each direction and on each side, in bytes; it takes twice that. What a
/// program does not read is no memory of its own.
const HELD: usize = 32 << 10;

/// Of dcgi's descriptors, one in so many is for carried connections, which have two each.
const SHARE: u64 = 4;

/// How long an address outside may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long connections are refused once one could not be carried: then it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How many names are looked up at once.
const MOST_LOOK_UPS: usize = 4;

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
    Tcp(SocketAddr),
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

/// Sockets that listen in the network namespace of a process, which has to be another one than ours.
///
/// # Errors
/// Where that cannot be entered, which needs `CAP_SYS_ADMIN`, or an address is taken there.
///
/// # Cancel safety
/// Cancel safe: what listens already is closed.
pub(super) async fn listen_in(
    process: rustix::process::Pid,
    addresses: Vec<SocketAddr>,
) -> io::Result<Vec<OwnedFd>> {
    let (sender, listening) = tokio::sync::oneshot::channel();
    // A thread of its own, which ends there.
    std::thread::Builder::new().name("dcgi-connect".to_owned()).spawn(move || {
        let listen = || -> io::Result<Vec<OwnedFd>> {
            let namespace = File::open(format!("/proc/{}/ns/net", process.as_raw_pid()))?;
            let (own, other) = (fs::metadata("/proc/thread-self/ns/net")?, namespace.metadata()?);
            // SECURITY: nothing is listened at for it on this machine itself.
            if own.ino() == other.ino() {
                return Err(io::Error::other("it is in the network of this machine"));
            }
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            addresses.iter().map(|address| Ok(std::net::TcpListener::bind(address)?.into())).collect()
        };
        _ = sender.send(listen());
    })?;
    listening.await.map_err(io::Error::other)?
}

/// Carries what comes to a TCP socket, which may be another network namespace's. `tasks` has the carrier's task.
///
/// # Errors
/// Where it is no such socket.
pub(super) fn carry_tcp(listener: OwnedFd, target: Target, tasks: &TaskTracker) -> io::Result<Carrier> {
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    // For those that are accepted, too.
    set_socket_send_buffer_size(&listener, HELD)?;
    set_socket_recv_buffer_size(&listener, HELD)?;
    let listener = TcpListener::from_std(listener)?;
    let span = tracing::info_span!("connect", route = %target.route);
    let carrying = async move {
        let mut listener = listener;
        let mut carried = JoinSet::new();
        let (failed, mut failures) = mpsc::channel(1);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept(), if carried.len() < MOST => accepted,
                Some(_) = carried.join_next() => continue,
                Some(()) = failures.recv() => {
                    listener = match refuse_for_a_while(listener).await {
                        Ok(listener) => listener,
                        Err(error) => {
                            tracing::error!("{} is not carried to any more: {error}", target.outside);
                            return;
                        }
                    };
                    // Of those that came before.
                    while failures.try_recv().is_ok() {}
                    continue;
                }
            };
            let Ok((inside, _)) = accepted else {
                // Descriptors have run out.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (target, failed) = (target.clone(), failed.clone());
            let one = async move {
                let reached = match place().await {
                    Ok(place) => reach(&target).await.map(|outside| (place, outside)),
                    Err(error) => Err(error),
                };
                match reached {
                    Ok((_place, outside)) => {
                        _ = inside.set_nodelay(true);
                        carry(inside, outside).await;
                    }
                    Err(error) => {
                        // It is told at once. The kernel has accepted it, so it cannot be refused any more.
                        _ = inside.set_zero_linger();
                        if failed.try_send(()).is_ok() {
                            target.unreached(&error);
                        }
                    }
                }
            };
            carried.spawn(one.in_current_span());
        }
    };
    Ok(AbortOnDropHandle::new(tasks.spawn(carrying.instrument(span))))
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

/// Carries what comes to a unix socket, which goes with the carrier. `tasks` has the carrier's task.
pub(super) fn carry_unix(socket: Socket, target: Target, tasks: &TaskTracker) -> Carrier {
    let span = tracing::info_span!("connect", route = %target.route);
    let carrying = async move {
        let mut carried = JoinSet::new();
        let failed = Arc::new(Mutex::new(None::<Instant>));
        let last = |failed: &Mutex<Option<Instant>>| *failed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept(), if carried.len() < MOST => accepted,
                Some(_) = carried.join_next() => continue,
            };
            let Ok(inside) = accepted else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // The socket is the route's: one that does not listen would be refused others too late.
            if last(&failed).is_some_and(|failed| failed.elapsed() < PAUSE) {
                continue;
            }
            let (target, failed) = (target.clone(), failed.clone());
            let one = async move {
                let place = place().await;
                // Who has gone while it waited said what nobody is to hear any more.
                if has_gone(&inside) {
                    return;
                }
                let reached = match place {
                    Ok(place) => reach(&target).await.map(|outside| (place, outside)),
                    Err(error) => Err(error),
                };
                match reached {
                    Ok((_place, outside)) => carry(inside, outside).await,
                    Err(error) => {
                        let before = last(&failed);
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                        if before.is_none_or(|before| before.elapsed() >= PAUSE) {
                            target.unreached(&error);
                        }
                    }
                }
            };
            carried.spawn(one.in_current_span());
        }
    };
    AbortOnDropHandle::new(tasks.spawn(carrying.instrument(span)))
}

impl Target {
    fn unreached(&self, error: &io::Error) {
        tracing::warn!("{} cannot be reached: {error}; the program's connection is ended", self.outside);
    }
}

/// Room for carried connections, of all routes.
fn places() -> &'static Semaphore {
    static PLACES: LazyLock<Semaphore> = LazyLock::new(|| {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let places = (descriptors / SHARE / 2).clamp(8, 16 << 10);
        Semaphore::new(usize::try_from(places).unwrap_or(8))
    });
    &PLACES
}

/// Waits for such room, for as long as for a target.
async fn place() -> io::Result<SemaphorePermit<'static>> {
    let place = tokio::time::timeout(PATIENCE, places().acquire()).await;
    place.ok().and_then(Result::ok).ok_or_else(|| {
        io::Error::other(
            "as many connections are carried as may be, an eighth of the descriptors that dcgi may have open: others have to \
             end first, or the limit (`ulimit -n`, `LimitNOFILE`) be higher",
        )
    })
}

/// Whether the other end of a connection is closed, and nobody will read an answer.
fn has_gone(inside: &UnixStream) -> bool {
    let mut watched = [PollFd::new(inside, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut watched, Some(&now)).is_ok() && watched[0].revents().contains(PollFlags::HUP)
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
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for address in looked_up(host, *port).await? {
                    let socket = match address {
                        SocketAddr::V4(_) => TcpSocket::new_v4()?,
                        SocketAddr::V6(_) => TcpSocket::new_v6()?,
                    };
                    // What the kernel holds is for it to say.
                    _ = socket.set_send_buffer_size(HELD as u32);
                    _ = socket.set_recv_buffer_size(HELD as u32);
                    match socket.connect(address).await {
                        Ok(stream) => {
                            _ = stream.set_nodelay(true);
                            return Ok(Reached::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Outside::Unix(path) => match &target.user {
                None => Ok(Reached::Unix(UnixStream::connect(path).await?)),
                Some(user) => Ok(Reached::Unix(connect_as(path, user.clone()).await?)),
            },
        }
    };
    tokio::time::timeout(PATIENCE, reaching).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The addresses of a host. A name is looked up on a thread that others need too, which a resolver that does not answer keeps.
async fn looked_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    static PLACES: Semaphore = Semaphore::const_new(MOST_LOOK_UPS);
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let place = PLACES.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    // A task, which keeps the place for as long as the thread is kept.
    let looking = tokio::spawn(async move {
        let found = tokio::net::lookup_host((host.as_str(), port)).await.map(Iterator::collect);
        drop(place);
        found
    });
    looking.await.map_err(io::Error::other)?
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
            let address = SocketAddrUnix::new(path)?;
            let flags = SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // One whose queue is full would keep the thread.
            set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
            set_thread_groups(&groups)?;
            // SECURITY: the effective ids alone. Who else is that user on this machine could signal a thread of whom it is
            // the real or the saved id too, and with it all of dcgi (kill(2)).
            set_thread_res_gid(Gid::ROOT, gid, Gid::ROOT)?;
            set_thread_res_uid(Uid::ROOT, uid, Uid::ROOT)?;
            rustix::net::connect(&socket, &address)?;
            set_socket_timeout(&socket, Timeout::Send, None)?;
            Ok(socket.into())
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

    async fn carried_to(outside: Outside) -> (SocketAddr, Carrier) {
        // By its number: one of the kernel's choice goes with the listening.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = std::net::TcpListener::bind(free).unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target { outside, user: None, route: "/x".into() };
        (address, carry_tcp(listener.into(), target, &TaskTracker::new()).unwrap())
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
