//! A program's standard input, which ends where all has been written and nowhere else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::sync::oneshot;

/// Somewhere to write what a program reads.
///
/// Closed, whatever was written would be all to the program, as if it were a whole body. So what is dropped before it was
/// shut down is not closed but handed to whoever sees to the program, and held there until that has ended.
#[derive(Debug)]
pub(super) struct Input<W> {
    /// `None` where it was shut down.
    writer: Option<W>,
    keeper: Option<oneshot::Sender<W>>,
}

/// Where it goes that was not finished. To be dropped when the program has ended.
pub(super) type Unfinished<W> = oneshot::Receiver<W>;

impl<W> Input<W> {
    pub(super) fn new(writer: W) -> (Self, Unfinished<W>) {
        let (keeper, unfinished) = oneshot::channel();
        (Self { writer: Some(writer), keeper: Some(keeper) }, unfinished)
    }
}

impl<W> Drop for Input<W> {
    fn drop(&mut self) {
        if let (Some(writer), Some(keeper)) = (self.writer.take(), self.keeper.take()) {
            // Where nobody takes it, the program has ended.
            _ = keeper.send(writer);
        }
    }
}

impl<W: AsyncWrite + Unpin> Input<W> {
    fn writer(&mut self) -> io::Result<Pin<&mut W>> {
        self.writer.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Input<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Ok(writer) = self.writer() else { return Poll::Ready(Ok(())) };
        let done = std::task::ready!(writer.poll_shutdown(cx));
        self.writer = None;
        Poll::Ready(done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_shut_down_has_ended() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let (mut input, _unfinished) = Input::new(ours);
        input.write_all(b"whole").await.unwrap();
        input.shutdown().await.unwrap();
        let mut read = String::new();
        theirs.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "whole");
    }

    #[tokio::test]
    async fn what_is_dropped_has_no_end_before_its_program_has() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let (mut input, unfinished) = Input::new(ours);
        input.write_all(b"half").await.unwrap();
        drop(input);
        let mut read = [0; 8];
        assert_eq!(theirs.read(&mut read).await.unwrap(), 4);
        tokio::select! {
            biased;
            end = theirs.read(&mut read) => panic!("half a body looks whole: {end:?}"),
            () = tokio::task::yield_now() => {}
        }
        drop(unfinished);
        assert_eq!(theirs.read(&mut read).await.unwrap(), 0);
    }
}
