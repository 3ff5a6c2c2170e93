//! A request on its way to an agent, and what comes back.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::process::leaves_something;
use crate::agent::scgi::{Head, LONGEST_HEAD};
use crate::agent::{
    ANSWER, ARGUMENT, Answer, COMMAND, CONFIRM, DIRECTORY, KILL_GRACE, LINGER, NO_LENGTH, REQUEST,
};
use crate::engine::Invocation;

/// An invocation as an agent takes it; `None` where it is longer than that. `confirmed`: it is to say so before the
/// program runs.
pub(in crate::engine) fn head(invocation: &Invocation, confirmed: bool) -> Option<Vec<u8>> {
    let mut head = Head { content_length: 0, variables: Vec::with_capacity(invocation.env.len() + 2) };
    let mut has_length = false;
    for (name, value) in &invocation.env {
        if name == "CONTENT_LENGTH" {
            let length = std::str::from_utf8(value.as_bytes()).ok().and_then(|length| length.parse().ok());
            head.content_length = length.unwrap_or_default();
            has_length = length.is_some();
        } else {
            head.variables.push((name.into(), value.clone()));
        }
    }
    let mut own = |name: String, value: OsString| head.variables.push((name.into(), value));
    if !has_length {
        own(NO_LENGTH.to_owned(), "1".into());
    }
    if confirmed {
        own(CONFIRM.to_owned(), "1".into());
    } else {
        // Where others are in the container, only the agent can tell what is left of whom.
        own(LINGER.to_owned(), invocation.linger.as_millis().to_string().into());
        own(KILL_GRACE.to_owned(), invocation.kill_grace.as_millis().to_string().into());
    }
    if let Some(directory) = &invocation.working_dir {
        own(DIRECTORY.to_owned(), directory.into());
    }
    for (number, word) in invocation.command.iter().flatten().enumerate() {
        own(format!("{COMMAND}{number}"), word.into());
    }
    for (number, argument) in invocation.args.iter().enumerate() {
        own(format!("{ARGUMENT}{number}"), argument.into());
    }
    let head = head.write();
    (head.len() <= LONGEST_HEAD).then_some(head)
}

/// Why a request was not taken.
#[derive(Debug)]
pub(in crate::engine) enum Refusal {
    /// Its agent had gone before it looked at it: nothing has run, and another may have it.
    Untouched(io::Error),
    /// Something of ours has run out.
    Exhausted(io::Error),
}

/// A request that is handed to an agent.
pub(in crate::engine) struct HandOver<'a> {
    /// See [`head`].
    pub(in crate::engine) head: &'a [u8],
    /// The program's standard input, output and error, or the last two of them where there is nothing to read.
    pub(in crate::engine) streams: &'a [OwnedFd],
}

impl HandOver<'_> {
    /// Hands it over on a connection that has no other request now.
    ///
    /// # Cancel safety
    /// Dropped, the connection is to be closed: the agent then runs nothing.
    pub(in crate::engine) async fn on(&self, connection: &UnixStream) -> Result<(), Refusal> {
        let sent = self.begin(connection).await?;
        self.finish(connection, sent).await
    }

    /// Sends what fits at once, with the streams: how much of the head that is.
    async fn begin(&self, connection: &UnixStream) -> Result<usize, Refusal> {
        send(connection, self.head, self.streams).await.map_err(refusal)
    }

    /// Sends the rest.
    async fn finish(&self, connection: &UnixStream, mut sent: usize) -> Result<(), Refusal> {
        while let Some(rest) = self.head.get(sent..).filter(|rest| !rest.is_empty()) {
            sent += send(connection, rest, &[]).await.map_err(refusal)?;
        }
        Ok(())
    }

    /// Hands it over on a connection that an earlier request was done with, else on a new one that goes over an agent's
    /// master connection. Gives our end of it.
    ///
    /// # Cancel safety
    /// Dropped, the connection is closed: the agent then runs nothing.
    pub(in crate::engine) async fn over(
        &self,
        master: &UnixStream,
        idle: &Idle,
    ) -> Result<UnixStream, Refusal> {
        while let Some(connection) = idle.take() {
            match self.on(&connection).await {
                Ok(()) => return Ok(connection),
                // The agent, about to end, has closed it.
                Err(Refusal::Untouched(_)) => {}
                Err(exhausted) => return Err(exhausted),
            }
        }
        let (ours, theirs) = pair().map_err(Refusal::Exhausted)?;
        // First what it brings: the agent then finds it whole, unless it is very long. Then somebody has to read it.
        let sent = self.begin(&ours).await?;
        send(master, &[REQUEST], std::slice::from_ref(&theirs)).await.map_err(refusal)?;
        drop(theirs);
        self.finish(&ours, sent).await?;
        Ok(ours)
    }
}

/// How many connections wait for further requests to one agent.
const IDLE: usize = 32;

/// Connections to an agent over which requests have gone, and others may.
#[derive(Debug, Default)]
pub(in crate::engine) struct Idle(Mutex<Vec<UnixStream>>);

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<UnixStream> {
        self.lock().pop()
    }

    /// Keeps a connection whose request is done with: its program has ended, and that was told.
    pub(in crate::engine) fn keep(&self, connection: UnixStream) {
        let mut idle = self.lock();
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }
}

/// Two ends of a connection: ours, and one for an agent, which expects it not to block.
fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok((UnixStream::from_std(ours.into())?, theirs))
}

fn refusal(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
            Refusal::Untouched(error)
        }
        _ => Refusal::Exhausted(error),
    }
}

async fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<usize> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    socket
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
        })
        .await
}

/// Waits for what the agent has to tell of a program.
///
/// # Errors
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset) where the agent has gone without having looked at the request:
/// the kernel tells that apart. [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) where it has gone later.
///
/// # Cancel safety
/// Not cancel safe: a part of the answer may be lost.
pub(in crate::engine) async fn outcome(connection: &UnixStream) -> io::Result<Answer> {
    let mut answer = [0; ANSWER];
    let mut read = 0;
    while read < ANSWER {
        connection.readable().await?;
        match connection.try_read(&mut answer[read..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let answer = Answer::from_bytes(answer).ok_or(io::ErrorKind::InvalidData)?;
    let answer = Ok(answer);
    if !matches!(answer, Ok(Answer::Taken)) && !leaves_something(&answer) {
        // Nothing more comes before the next request: this spares a call that would say so. What comes with it would be
        // waited for in vain.
        _ = connection.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
    answer
}

/// Whether an agent that waits is still there: it says nothing by itself.
pub(in crate::engine) fn is_alive(connection: &UnixStream) -> bool {
    let mut nothing = [0];
    matches!(connection.try_read(&mut nothing), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Lease;

    fn invocation(env: &[(&str, &str)], args: &[&str], working_dir: Option<&str>) -> Invocation {
        Invocation {
            linger: Duration::from_secs(5),
            kill_grace: Duration::from_secs(2),
            route: "/".into(),
            request_id: "r1".into(),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect(),
            command: None,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            working_dir: working_dir.map(str::to_owned),
            has_input: false,
            expires: None,
            lease: Lease::default(),
        }
    }

    fn read(invocation: &Invocation) -> Head {
        Head::read(&head(invocation, false).unwrap()).unwrap().unwrap().0
    }

    #[test]
    fn a_body_has_its_length_in_front() {
        let head = read(&invocation(&[("A", "1"), ("CONTENT_LENGTH", "5")], &[], None));
        assert_eq!((head.content_length, &head.variables[0]), (5, &("A".into(), "1".into())));
        assert!(!head.variables.iter().any(|(name, _)| name == "CONTENT_LENGTH" || name == NO_LENGTH));
    }

    #[test]
    fn without_a_body_the_program_is_to_see_no_length() {
        let head = read(&invocation(&[("A", "1")], &[], None));
        assert_eq!(head.content_length, 0);
        assert!(head.variables.contains(&(NO_LENGTH.into(), "1".into())));
    }

    #[test]
    fn what_is_longer_than_an_agent_takes_is_not_sent() {
        let long = "x".repeat(LONGEST_HEAD);
        assert_eq!(head(&invocation(&[("A", &long)], &[], None), false), None);
    }

    #[tokio::test]
    async fn an_end_that_comes_with_the_word_that_nobody_is_left_is_heard() {
        use std::io::Write;
        let (ours, mut agent) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let left = Answer::Exited { code: 0, left: true };
        agent.write_all(&[left.to_bytes(), Answer::Over.to_bytes()].concat()).unwrap();
        assert_eq!(outcome(&ours).await.unwrap(), left);
        let over = tokio::time::timeout(Duration::from_secs(30), outcome(&ours)).await;
        assert_eq!(over.expect("it is heard").unwrap(), Answer::Over);
    }

    /// Longer than the buffer of a socket: somebody has to read while it is sent.
    #[tokio::test]
    async fn a_long_head_arrives_over_a_master() {
        let long = "x".repeat(LONGEST_HEAD / 2);
        let head = head(&invocation(&[("A", &long)], &[], None), false).unwrap();
        let (master, theirs) = UnixStream::pair().unwrap();
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let streams = [null(), null(), null()];
        let reading = tokio::task::spawn_blocking(move || {
            use std::io::Read;
            let theirs = theirs.into_std().unwrap();
            theirs.set_nonblocking(false).unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
            let mut word = [0];
            let mut parts = [io::IoSliceMut::new(&mut word)];
            rustix::net::recvmsg(&theirs, &mut parts, &mut ancillary, rustix::net::RecvFlags::empty())
                .unwrap();
            let mut rights = ancillary.drain().filter_map(|message| match message {
                rustix::net::RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            });
            let connection = rights.next().unwrap().next().unwrap();
            let mut connection = std::os::unix::net::UnixStream::from(connection);
            connection.set_nonblocking(false).unwrap();
            let mut read = Vec::new();
            connection.read_to_end(&mut read).unwrap();
            read
        });
        drop((HandOver { head: &head, streams: &streams }).over(&master, &Idle::default()).await.unwrap());
        assert!(reading.await.unwrap() == head);
    }

    #[test]
    fn arguments_and_the_directory_go_along() {
        let head = read(&invocation(&[], &["a", "b"], Some("/srv")));
        let expected = [
            (NO_LENGTH, "1"),
            (LINGER, "5000"),
            (KILL_GRACE, "2000"),
            (DIRECTORY, "/srv"),
            ("DCGI_AGENT_ARGUMENT_0", "a"),
            ("DCGI_AGENT_ARGUMENT_1", "b"),
        ];
        assert_eq!(head.variables, expected.map(|(name, value)| (name.into(), value.into())));

        let command = Some(vec!["/usr/bin/perl".to_owned(), "/cgi/x.pl".to_owned()]);
        let head = read(&Invocation { command, ..invocation(&[], &["a"], None) });
        let expected = [
            (NO_LENGTH, "1"),
            (LINGER, "5000"),
            (KILL_GRACE, "2000"),
            ("DCGI_AGENT_COMMAND_0", "/usr/bin/perl"),
            ("DCGI_AGENT_COMMAND_1", "/cgi/x.pl"),
            ("DCGI_AGENT_ARGUMENT_0", "a"),
        ];
        assert_eq!(head.variables, expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[tokio::test]
    async fn an_agent_that_goes_without_a_look_is_told_from_one_that_goes_later() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.writable().await.unwrap();
        ours.try_write(b"request").unwrap();
        drop(theirs);
        assert_eq!(outcome(&ours).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.writable().await.unwrap();
        ours.try_write(b"request").unwrap();
        theirs.readable().await.unwrap();
        theirs.try_read(&mut [0; 64]).unwrap();
        drop(theirs);
        assert_eq!(outcome(&ours).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
