//! The response body, and the receiving end of a program's output.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

/// What a program answers, or a page that is at hand.
///
/// It streams what the program prints as it comes. Where the program cannot finish its answer, reading
/// yields an error, and a server must then abort the connection: a cut answer must not look whole. Dropping a
/// body before its end ends the program.
#[derive(Debug, Default)]
pub struct Body {
    content: Content,
}

#[derive(Debug, Default)]
enum Content {
    #[default]
    Empty,
    Full(Bytes),
    Boxed(UnsyncBoxBody<Bytes, AnswerCut>),
    Program(Output),
}

/// A program's output on its way to the client.
#[derive(Debug)]
pub(super) struct Output {
    /// What had come of it when the response began.
    first: Bytes,
    /// Filled by the request's exchange.
    chunks: mpsc::Receiver<Chunk>,
    /// How many bytes are still to come, where the program has said.
    remaining: Option<u64>,
    /// Whether it has ended before its end, and the next poll is to say so.
    is_cut: bool,
    /// Tells the exchange that nobody reads any more.
    _abandoned: DropGuard,
}

/// What the exchange sends. A channel that closes without [`Chunk::End`], or before all of a declared length has
/// come, is an answer that was cut.
#[derive(Debug)]
pub(super) enum Chunk {
    Bytes(Bytes),
    End,
}

/// The program did not finish its answer. Why is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerCut(());

impl fmt::Display for AnswerCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the program did not finish its answer")
    }
}

impl std::error::Error for AnswerCut {}

impl Body {
    /// A body that is at hand.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Full(bytes.into()) }
    }

    /// A body of so many bytes that is read from a file. Where that fails, or the file has become shorter, it is cut; what the
    /// file has grown by does not belong to it.
    pub(crate) fn file(
        content: impl http_body::Body<Data = Bytes, Error = io::Error> + Send + 'static,
        length: u64,
    ) -> Self {
        let cut = |error| {
            tracing::warn!("the file cannot be read on: {error}; the client's answer is cut");
            AnswerCut(())
        };
        let content = Exactly { content: content.map_err(cut).boxed_unsync(), remaining: length };
        Self { content: Content::Boxed(content.boxed_unsync()) }
    }

    /// A body that another has been made into.
    pub(crate) fn compressed<B>(content: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
    {
        // Why is in the log already: it is the program's own that fails.
        Self { content: Content::Boxed(content.map_err(|_| AnswerCut(())).boxed_unsync()) }
    }

    /// A body that a program prints.
    pub(super) fn program(
        first: Bytes,
        chunks: mpsc::Receiver<Chunk>,
        length: Option<u64>,
        abandoned: DropGuard,
    ) -> Self {
        let output = Output { first, chunks, remaining: length, is_cut: false, _abandoned: abandoned };
        Self { content: Content::Program(output) }
    }

    /// What is left for a client that asked for the head alone: a page at hand is not sent. A program's answer has
    /// no content then, in the first place.
    pub(crate) fn without_content(self) -> Self {
        match self.content {
            Content::Full(_) => Self { content: Content::Empty },
            _ => self,
        }
    }
}

/// So many bytes of a body.
struct Exactly {
    content: UnsyncBoxBody<Bytes, AnswerCut>,
    remaining: u64,
}

impl http_body::Body for Exactly {
    type Data = Bytes;
    type Error = AnswerCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerCut>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(match std::task::ready!(Pin::new(&mut self.content).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let mut bytes = frame.into_data().unwrap_or_default();
                bytes.truncate(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                self.remaining -= bytes.len() as u64;
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(cut)) => Some(Err(cut)),
            None => {
                tracing::warn!("the file has become shorter while it was sent; the client's answer is cut");
                self.remaining = 0;
                Some(Err(AnswerCut(())))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl Output {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let chunk = match std::mem::take(&mut self.first) {
            first if first.is_empty() => std::task::ready!(self.chunks.poll_recv(cx)),
            first => Some(Chunk::Bytes(first)),
        };
        if let (Some(Chunk::Bytes(bytes)), Some(remaining)) = (&chunk, &mut self.remaining) {
            *remaining = remaining.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(chunk)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = AnswerCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerCut>>> {
        let this = self.get_mut();
        let bytes = match &mut this.content {
            Content::Empty => return Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                if bytes.is_empty() {
                    return Poll::Ready(None);
                }
                bytes
            }
            Content::Boxed(boxed) => return Pin::new(boxed).poll_frame(cx),
            // All that was promised has come: no end is announced behind it.
            Content::Program(Output { remaining: Some(0), .. }) => return Poll::Ready(None),
            Content::Program(output) => match std::task::ready!(output.poll(cx)) {
                Some(Chunk::Bytes(bytes)) => bytes,
                Some(Chunk::End) => {
                    this.content = Content::Empty;
                    return Poll::Ready(None);
                }
                // Once more: a server that is told of the cut at once would not send what it has of the answer.
                None if !std::mem::replace(&mut output.is_cut, true) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                None => {
                    this.content = Content::Empty;
                    return Poll::Ready(Some(Err(AnswerCut(()))));
                }
            },
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(bytes) => bytes.is_empty(),
            Content::Boxed(boxed) => boxed.is_end_stream(),
            Content::Program(output) => output.remaining == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Boxed(boxed) => boxed.size_hint(),
            Content::Program(output) => output.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
