//! Where an agent's requests come from.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::net::SendFlags;

use super::connection::{Received, receive};

/// What comes over a master connection with a request's connection.
pub(crate) const REQUEST: u8 = b'R';
/// What comes alone, and goes back as it came: the agent is there.
pub(crate) const PING: u8 = b'P';

/// Brings connections.
#[derive(Debug)]
pub(super) enum Source {
    /// A connection to dcgi, over which others come as descriptors.
    Master(UnixStream),
    /// A listening socket, and its path, which goes with it.
    Unix(UnixListener, PathBuf),
    /// A listening socket.
    Tcp(TcpListener),
}

impl Source {
    /// What is there now, put behind `found`: connections that do not block. False: nothing more will come.
    ///
    /// # Errors
    /// Where descriptors have run out: what waits goes on waiting.
    pub(super) fn take(&self, found: &mut Vec<OwnedFd>) -> io::Result<bool> {
        match self {
            Self::Master(master) => {
                let mut bytes = Vec::new();
                let is_open = receive(master.as_fd(), &mut bytes, found)? != Received::End;
                bytes.retain(|byte| *byte == PING);
                // Who does not read the answers does not get them.
                _ = rustix::net::send(master, &bytes, SendFlags::NOSIGNAL);
                Ok(is_open)
            }
            Self::Unix(listener, _) => accepted(listener.accept().map(|(stream, _)| stream.into()), found),
            Self::Tcp(listener) => accepted(listener.accept().map(|(stream, _)| stream.into()), found),
        }
    }
}

fn accepted(result: io::Result<OwnedFd>, found: &mut Vec<OwnedFd>) -> io::Result<bool> {
    match result {
        Ok(socket) => {
            rustix::io::ioctl_fionbio(&socket, true)?;
            found.push(socket);
        }
        // Somebody has given up, or was quicker.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {}
        Err(error) => return Err(error),
    }
    Ok(true)
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Master(master) => master.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        match self {
            // Whoever has it open here too would keep requests that nobody reads: the other end is to see that.
            Self::Master(master) => _ = master.shutdown(std::net::Shutdown::Read),
            Self::Unix(_, path) => _ = std::fs::remove_file(path),
            Self::Tcp(_) => {}
        }
    }
}
