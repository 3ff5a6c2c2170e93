//! Sandboxes that stay: an agent in them runs the program for each request.
//!
//! To the launcher, the agent is the program: its standard input is the connection over which requests come. The
//! executable itself comes along as an open file, so that nothing of it has to be in the image.
//!
//! # Security
//! It is a copy in memory that nobody can change, see [`Unchangeable`]: a program may see it as `/proc/1/exe`, and with the
//! right user could otherwise write to dcgi's own executable (CVE-2019-5736).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::Shared;
use super::base::Base;
use super::pool::{Pool, exhausted};
use super::process::{Hangup, attend};
use super::unchangeable::Unchangeable;
use crate::agent::{Executable, PING};
use crate::engine::agent::{Home, Resident};
use crate::engine::output::Progress;
use crate::engine::sources::{self, Seen};
use crate::engine::{EngineError, EngineErrorKind, Program, Warm};

/// How long an agent may take to answer at first.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a line in the log may be, in bytes, and how many there may be in a second.
const LINE: u64 = 4 << 10;
const LINES: u32 = 20;

/// What is an agent.
#[derive(Debug)]
pub(super) struct Agent {
    executable: Executable,
    /// Made when it is first needed.
    sealed: Mutex<Option<Arc<Unchangeable>>>,
}

impl Agent {
    pub(super) fn new(executable: Executable) -> Self {
        Self { executable, sealed: Mutex::default() }
    }

    /// The executable, where nobody can change it. Blocks while it is read for the first time.
    fn sealed(&self) -> io::Result<Arc<Unchangeable>> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sealed) = &*sealed {
            sealed.restore()?;
            return Ok(sealed.clone());
        }
        Ok(sealed.insert(Arc::new(Unchangeable::copy(self.executable.open()?)?)).clone())
    }
}

/// Shared sandboxes of one route.
#[derive(Debug)]
pub(super) struct Lodging {
    pub(super) engine: Weak<Shared>,
    pub(super) program: Program,
    pub(super) base: Base,
    /// Which directories of this machine its sandboxes are to see: where they are others by now, so are the requests'
    /// containers.
    pub(super) seen: Seen,
    pub(super) route: Arc<str>,
}

impl Home for Lodging {
    fn settle(self: Arc<Self>) -> BoxFuture<'static, Result<Resident, EngineError>> {
        async move {
            let gone = || EngineError::new(EngineErrorKind::Unreachable, "the engine is not in use any more");
            let engine = self.engine.upgrade().ok_or_else(gone)?;
            // It is kept by itself, so nobody waits in its stead; and the agent is the init.
            let program = Program { warm: Warm::Fixed(0), init: false, ..self.program.clone() };
            let pool = Arc::new(engine.plan(program, self.base.clone(), &self.seen, &self.route).await?);
            if pool.seen != self.seen {
                return Err(sources::changed());
            }
            let settled = settle(&engine, &pool, &self.route).await;
            if pool.is_stale() { Err(sources::changed()) } else { settled }
        }
        .boxed()
    }
}

async fn settle(engine: &Arc<Shared>, pool: &Arc<Pool>, route: &Arc<str>) -> Result<Resident, EngineError> {
    let failed = |error: io::Error| exhausted("making a shared container's streams", error);
    let shared = engine.clone();
    let sealing = tokio::task::spawn_blocking(move || shared.agent.get().map(Agent::sealed));
    let sealed = sealing.await.map_err(|error| exhausted("reading the agent's executable", error))?;
    let Some(executable) = sealed else {
        return Err(EngineError::new(EngineErrorKind::Refused, "no executable was named that is an agent"));
    };
    let executable = executable.map_err(|error| exhausted("reading the agent's executable", error))?;
    let sandbox = pool.take(engine).await?;
    let name = String::from_utf8_lossy(&sandbox.host_name).into_owned();
    let (master, theirs) = UnixStream::pair().map_err(failed)?;
    let (complaints, output) = io::pipe().map_err(failed)?;
    let output = OwnedFd::from(output);
    let run = pool.run_agent(&sandbox.host_name);
    let streams = [theirs.as_fd(), executable.as_fd(), output.as_fd()];
    let control = sandbox.control.clone();
    let removal = Hangup(control.clone());
    let sent = run.send(control.as_fd(), streams).map(<[u8]>::is_empty);
    drop((theirs, output));
    let (exit_sender, exit) = oneshot::channel();
    let (gone_sender, gone) = oneshot::channel::<()>();
    let (shared, own) = (engine.clone(), pool.clone());
    engine.tasks.spawn(async move {
        // Its slot is not used again: what many requests have left there is not looked at.
        drop(attend(&shared, &own, sandbox, None, &Progress::default(), exit_sender).await);
        own.give_back(&shared, None);
        own.close();
        drop(gone_sender);
    });
    match sent {
        Ok(true) => {}
        Ok(false) => {
            return Err(exhausted(
                "handing over to an agent",
                io::Error::other("its command line is too long"),
            ));
        }
        Err(error) => return Err(exhausted("handing over to an agent", error)),
    }
    let complaints = pipe::Receiver::from_owned_fd(complaints.into()).map_err(failed)?;
    engine.tasks.spawn(pass_on(complaints, route.clone()));
    let answered = async {
        master.writable().await?;
        master.try_write(&[PING])?;
        master.readable().await?;
        match master.try_read(&mut [0])? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(()),
        }
    };
    let unable = |why: io::Error| exhausted("starting a shared container's agent", why);
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(())) => {}
        // It has ended, and how says more.
        Ok(Err(error)) => {
            return Err(match exit.await {
                Ok(Err(why)) => why,
                Ok(Ok(status)) => unable(io::Error::other(format!("it ended: {status}"))),
                Err(_) => unable(error),
            });
        }
        Err(_) => return Err(unable(io::ErrorKind::TimedOut.into())),
    }
    let gone = async move { _ = gone.await }.boxed();
    Ok(Resident { master: Arc::new(master), owner: pool.plan.owner, name, removal: Box::new(removal), gone })
}

/// Logs what an agent, or a program that has outlived its request, complains about.
async fn pass_on(complaints: pipe::Receiver, route: Arc<str>) {
    let mut lines = BufReader::new(complaints);
    let mut line = Vec::new();
    let (mut since, mut count) = (Instant::now(), 0);
    // SECURITY: a program may have the agent's own rights, and so write here what it likes.
    while let Ok(1..) = (&mut lines).take(LINE).read_until(b'\n', &mut line).await {
        if since.elapsed() >= Duration::from_secs(1) {
            (since, count) = (Instant::now(), 0);
        }
        count += 1;
        if count <= LINES {
            tracing::warn!(%route, "{}", String::from_utf8_lossy(&line).trim_end());
        }
        line.clear();
    }
}
