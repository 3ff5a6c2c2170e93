//! The request body on its way to a program's standard input.

use std::io::{self, SeekFrom};
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::clock::Activity;
use super::failure::Failure;

/// A program's standard input.
pub(super) type Stdin = Pin<Box<dyn AsyncWrite + Send>>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How much of a body of unknown length is kept in memory before it goes to a file.
const SPOOL_MEMORY: usize = 64 << 10;

/// How much of a spooled body is read from its file at once.
const SPOOL_CHUNK: usize = 64 << 10;

/// A request body.
pub(crate) enum Input {
    /// There is none.
    None,
    /// It comes from the client as it is read, `length` bytes where that is known.
    Stream { body: UnsyncBoxBody<Bytes, BoxError>, length: Option<u64> },
    /// It has come in whole, and this much of it waits in memory.
    Memory(Bytes),
    /// It has come in whole, into a file that has no name any more.
    File { file: File, length: u64 },
}

impl Input {
    /// A request's body, of this length where its headers say one.
    pub(crate) fn new<B>(body: B, declared: Option<u64>) -> Self
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let length = declared.or_else(|| body.size_hint().exact());
        // RFC 9112 §6: it is the length's presence that tells of a body, be it an empty one.
        if declared.is_none() && body.is_end_stream() {
            return Self::None;
        }
        let body = body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())));
        Self::Stream { body: body.map_err(Into::into).boxed_unsync(), length }
    }

    /// How long it is. `None`: there is no body, or nobody knows.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Stream { length, .. } => *length,
            Self::Memory(bytes) => Some(bytes.len() as u64),
            Self::File { length, .. } => Some(*length),
        }
    }

    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether its length would have to be found out by taking it in.
    pub(super) fn is_unmeasured(&self) -> bool {
        matches!(self, Self::Stream { length: None, .. })
    }

    /// Takes in a body of unknown length: small ones into memory, others into an unlinked temporary file.
    ///
    /// Cancel safe in that nothing is left behind.
    pub(super) async fn spool(self, limit: Option<u64>, activity: &Activity) -> Result<Self, Failure> {
        let Self::Stream { mut body, length: None } = self else { return Ok(self) };
        let mut memory = BytesMut::new();
        let mut file: Option<File> = None;
        let mut length = 0;
        while let Some(chunk) = next_chunk(&mut body).await? {
            activity.touch();
            length += chunk.len() as u64;
            if let Some(limit) = limit.filter(|limit| length > *limit) {
                return Err(Failure::RequestTooLarge(limit));
            }
            if let Some(file) = &mut file {
                file.write_all(&chunk).await.map_err(Failure::Spool)?;
            } else {
                memory.extend_from_slice(&chunk);
                if memory.len() > SPOOL_MEMORY {
                    let mut new = File::from_std(tempfile::tempfile().map_err(Failure::Spool)?);
                    new.write_all(&memory).await.map_err(Failure::Spool)?;
                    memory = BytesMut::new();
                    file = Some(new);
                }
            }
        }
        match file {
            None => Ok(Self::Memory(memory.freeze())),
            Some(mut file) => {
                // tokio's file writes in the background: a full disk shows in the flush.
                file.flush().await.map_err(Failure::Spool)?;
                file.seek(SeekFrom::Start(0)).await.map_err(Failure::Spool)?;
                Ok(Self::File { file, length })
            }
        }
    }

    /// Writes the body to a program and gives it end-of-file at exactly the body's end, and nowhere else: where the body
    /// breaks off, this fails and leaves the program's input open. Where the program does not
    /// read on, or has `ended`, the rest is taken from the client all the same and thrown away: a client that
    /// still sends does not yet read the answer.
    pub(super) async fn feed(
        self,
        stdin: &mut Stdin,
        limit: Option<u64>,
        activity: &Activity,
        ended: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut source = Source::from(self);
        let mut open = true;
        let mut total = 0;
        while let Some(chunk) = source.next(total).await? {
            activity.touch();
            total += chunk.len() as u64;
            if let Some(limit) = limit.filter(|limit| source.is_unmeasured() && total > *limit) {
                return Err(Failure::RequestTooLarge(limit));
            }
            if open {
                open = tokio::select! {
                    biased;
                    () = ended.cancelled() => false,
                    written = write(stdin, &chunk) => written.is_ok(),
                };
                activity.touch();
            } else if !source.comes_from_client() {
                break;
            }
        }
        if open {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                // EPIPE: the program has closed its input, which it may.
                _ = stdin.shutdown() => {}
            }
        }
        Ok(())
    }
}

async fn write(stdin: &mut Stdin, chunk: &[u8]) -> io::Result<()> {
    stdin.write_all(chunk).await?;
    stdin.flush().await
}

/// Where [`Input::feed`] reads.
enum Source {
    Stream { body: UnsyncBoxBody<Bytes, BoxError>, length: Option<u64> },
    Memory(Bytes),
    File(File),
}

impl From<Input> for Source {
    fn from(input: Input) -> Self {
        match input {
            Input::None => Self::Memory(Bytes::new()),
            Input::Memory(bytes) => Self::Memory(bytes),
            Input::Stream { body, length } => Self::Stream { body, length },
            Input::File { file, .. } => Self::File(file),
        }
    }
}

impl Source {
    /// The next piece, where `so_far` bytes have come.
    async fn next(&mut self, so_far: u64) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Memory(bytes) => Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Self::File(file) => {
                let mut chunk = BytesMut::with_capacity(SPOOL_CHUNK);
                let read = file.read_buf(&mut chunk).await.map_err(Failure::Spool)?;
                Ok((read > 0).then(|| chunk.freeze()))
            }
            Self::Stream { body, length } => {
                let chunk = next_chunk(body).await?;
                let now = so_far + chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                match *length {
                    // Servers see to this; what an embedding program hands us may not have gone through one.
                    Some(length) if now > length => Err(Failure::Malformed("more body than declared")),
                    Some(length) if chunk.is_none() && now < length => Err(Failure::ClientGone),
                    _ => Ok(chunk),
                }
            }
        }
    }

    fn is_unmeasured(&self) -> bool {
        matches!(self, Self::Stream { length: None, .. })
    }

    fn comes_from_client(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }
}

/// The next piece of data of a body; trailers are passed over.
async fn next_chunk(body: &mut UnsyncBoxBody<Bytes, BoxError>) -> Result<Option<Bytes>, Failure> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            },
            Some(Err(error)) => {
                tracing::debug!(%error, "the request body broke off");
                return Err(Failure::ClientGone);
            }
        }
    }
}
