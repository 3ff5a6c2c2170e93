//! The response body, with what the access log counts of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::access_log::Record;
use crate::gateway::{self, AnswerCut};

/// The body of a [`Handler`](super::Handler)'s response.
///
/// It streams what the program prints as it comes. Where the program cannot finish its answer, reading
/// yields an error, and a server must then abort the connection: a cut answer must not look whole. Dropping a
/// body before its end ends the program.
#[derive(Debug, Default)]
pub struct Body {
    content: gateway::Body,
    /// Written when the body is dropped, with what became of it.
    record: Option<Box<Record>>,
}

impl Body {
    pub(super) fn logged(content: gateway::Body, record: Record) -> Self {
        Self { content, record: Some(Box::new(record)) }
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
        let frame = ready!(Pin::new(&mut this.content).poll_frame(cx));
        if let Some(record) = &mut this.record {
            match &frame {
                Some(Ok(frame)) => {
                    record.bytes += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                }
                Some(Err(AnswerCut { .. })) => record.cut = true,
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
