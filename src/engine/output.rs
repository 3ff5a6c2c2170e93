//! What a program prints, as far as the runtime has to hear of it.
//!
//! Having the runtime watch a pipe, and being woken because there is something in it and again because it has ended, costs
//! several times as much as reading it. Most programs print a little and end at once, and whoever started them is told of
//! that. So their pipes are read then, and watched only where a program takes longer, or has left somebody running who has
//! them open.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use rustix::io::Errno;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::task::coop::poll_proceed;

/// How long a program may take before its output is watched: so long what it prints first may wait, and a program that
/// prints more than a pipe holds (64 KiB) waits too.
const SHORT: Duration = Duration::from_millis(1);

/// How far a program has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stage: AtomicU8,
    readers: [AtomicWaker; 2],
}

/// Stages of a program's life.
const BEGUN: u8 = 0;
const LONGER: u8 = 1;
const ENDED: u8 = 2;

impl Progress {
    /// Waits for what says that the program has ended.
    ///
    /// # Cancel safety
    /// Dropped, it counts as ended: its output is read as far as it is there.
    pub(super) async fn follow<T>(&self, end: impl Future<Output = T>) -> T {
        struct Ended<'a>(&'a Progress);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.reach(ENDED);
            }
        }

        let _ended = Ended(self);
        let mut end = std::pin::pin!(end);
        if let Ok(end) = tokio::time::timeout(SHORT, &mut end).await {
            return end;
        }
        self.reach(LONGER);
        end.await
    }

    fn reach(&self, stage: u8) {
        self.stage.store(stage, Ordering::Release);
        self.readers.iter().for_each(AtomicWaker::wake);
    }

    /// The stage, and that whoever asks is woken at the next.
    fn stage(&self, reader: usize, cx: &Context<'_>) -> u8 {
        self.readers[reader].register(cx.waker());
        self.stage.load(Ordering::Acquire)
    }
}

/// One of a program's two outputs. It ends where nobody has the pipe open any more, which may be long after the program's
/// end.
#[derive(Debug)]
pub(super) struct Output {
    pipe: Pipe,
    progress: Arc<Progress>,
    reader: usize,
}

#[derive(Debug)]
enum Pipe {
    /// `None` where the runtime has refused to watch it.
    Unwatched(Option<OwnedFd>),
    Watched(pipe::Receiver),
}

impl Output {
    /// Standard output and error, by our ends of their pipes.
    ///
    /// # Errors
    /// Where they cannot be made not to block.
    pub(super) fn both(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<(Self, Self, Arc<Progress>)> {
        rustix::io::ioctl_fionbio(&stdout, true)?;
        rustix::io::ioctl_fionbio(&stderr, true)?;
        let progress = Arc::new(Progress::default());
        let output = |end, reader| {
            let pipe = Pipe::Unwatched(Some(end));
            Self { pipe, progress: progress.clone(), reader }
        };
        Ok((output(stdout, 0), output(stderr, 1), progress))
    }
}

impl Pipe {
    /// Has the runtime watch it.
    fn watched(&mut self) -> io::Result<Pin<&mut pipe::Receiver>> {
        if let Self::Unwatched(end) = self {
            let end = end.take().ok_or(io::ErrorKind::BrokenPipe)?;
            // It need not be asked whether it is a pipe.
            *self = Self::Watched(pipe::Receiver::from_owned_fd_unchecked(end)?);
        }
        match self {
            Self::Watched(receiver) => Ok(Pin::new(receiver)),
            Self::Unwatched(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn is_unwatched(&self) -> bool {
        matches!(self, Self::Unwatched(Some(_)))
    }

    /// What is there now, where nobody watches it: false where there is nothing yet, and may be.
    fn read_unwatched(&self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let Self::Unwatched(Some(end)) = self else { return Ok(false) };
        match rustix::io::read(end, buffer.initialize_unfilled()) {
            Ok(read) => buffer.advance(read),
            Err(Errno::AGAIN) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        Ok(true)
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let stage = this.progress.stage(this.reader, cx);
        match stage {
            BEGUN => Poll::Pending,
            // What the program has written is in the pipe when its end is told, and the end of that too, as a rule.
            ENDED if this.pipe.is_unwatched() => {
                // Whoever goes on printing must not keep this thread from others.
                let progress = ready!(poll_proceed(cx));
                if this.pipe.read_unwatched(buffer)? {
                    progress.made_progress();
                    return Poll::Ready(Ok(()));
                }
                drop(progress);
                this.pipe.watched()?.poll_read(cx, buffer)
            }
            _ => this.pipe.watched()?.poll_read(cx, buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::AsyncReadExt;
    use tokio::sync::oneshot;

    use super::*;

    /// A program's ends of its outputs, and ours.
    fn program() -> (io::PipeWriter, io::PipeWriter, Output, Output, Arc<Progress>) {
        let (our_stdout, stdout) = io::pipe().unwrap();
        let (our_stderr, stderr) = io::pipe().unwrap();
        let (ours, complaints, progress) = Output::both(our_stdout.into(), our_stderr.into()).unwrap();
        (stdout, stderr, ours, complaints, progress)
    }

    #[tokio::test]
    async fn all_that_was_printed_before_the_end_is_read() {
        let (mut stdout, mut stderr, mut ours, mut complaints, progress) = program();
        stdout.write_all(b"answer").unwrap();
        stderr.write_all(b"complaint").unwrap();
        drop((stdout, stderr));
        progress.follow(async {}).await;
        let (mut answer, mut complaint) = (String::new(), String::new());
        ours.read_to_string(&mut answer).await.unwrap();
        complaints.read_to_string(&mut complaint).await.unwrap();
        assert_eq!((answer.as_str(), complaint.as_str()), ("answer", "complaint"));
    }

    #[tokio::test]
    async fn what_others_print_after_the_programs_end_is_read_too() {
        let (mut stdout, _stderr, mut ours, _complaints, progress) = program();
        stdout.write_all(b"first").unwrap();
        progress.follow(async {}).await;
        let mut bytes = [0; 64];
        assert_eq!(ours.read(&mut bytes).await.unwrap(), 5);
        let reading = tokio::spawn(async move {
            let mut rest = String::new();
            ours.read_to_string(&mut rest).await.map(|_| rest)
        });
        tokio::task::yield_now().await;
        stdout.write_all(b"second").unwrap();
        drop(stdout);
        assert_eq!(reading.await.unwrap().unwrap(), "second");
    }

    #[tokio::test]
    async fn a_program_that_takes_longer_is_heard_meanwhile() {
        let (mut stdout, mut stderr, mut ours, mut complaints, progress) = program();
        let (_end, ended) = oneshot::channel::<()>();
        let following = tokio::spawn(async move { progress.follow(ended).await });
        for _ in 0..3 {
            // Each of them before there is more: nothing else wakes the reader.
            let mut bytes = [0; 64];
            stdout.write_all(b"one").unwrap();
            assert_eq!(ours.read(&mut bytes).await.unwrap(), 3);
            stderr.write_all(b"more").unwrap();
            assert_eq!(complaints.read(&mut bytes).await.unwrap(), 4);
        }
        following.abort();
    }

    #[tokio::test]
    async fn where_nobody_follows_any_more_the_output_is_still_read() {
        let (mut stdout, _stderr, mut ours, _complaints, progress) = program();
        let following = tokio::spawn(async move { progress.follow(std::future::pending::<()>()).await });
        let reading = tokio::spawn(async move {
            let mut all = String::new();
            ours.read_to_string(&mut all).await.map(|_| all)
        });
        tokio::task::yield_now().await;
        following.abort();
        stdout.write_all(b"more").unwrap();
        drop(stdout);
        assert_eq!(reading.await.unwrap().unwrap(), "more");
    }
}
