//! A program's output on its way to the client.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::body::{Body, Chunk};
use super::clock::Activity;
use super::failure::Failure;
use crate::cgi::{Answer, ChunkedDecoder, Head, HeaderBlock, LocalRedirect};
use crate::engine::{EngineError, ExitStatus};
use crate::route::{Output, Route};

/// How much output is read at once.
const CHUNK: usize = 32 << 10;

/// How many chunks wait between the program and the client. More would only hide back-pressure.
const CHUNKS: usize = 1;

type Stdout = Pin<Box<dyn AsyncRead + Send>>;
type Exit = BoxFuture<'static, Result<ExitStatus, EngineError>>;

/// What an exchange tells its caller.
#[derive(Debug)]
pub(super) enum Reply {
    Response(Response<Body>),
    LocalRedirect(LocalRedirect),
}

/// A failure before there was anything for the client, with the program's last complaints.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) complaints: Vec<String>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, complaints: Vec::new() }
    }
}

/// Gives a program's output to the client.
pub(super) struct Answering<'a> {
    route: &'a Route,
    head_only: bool,
    /// Present until there was a reply.
    reply: Option<oneshot::Sender<Result<Reply, Failed>>>,
    /// Present once there was one whose body the client wants.
    chunks: Option<mpsc::Sender<Chunk>>,
    /// Given to the response's body, which cancels it when it is dropped.
    abandoned: CancellationToken,
    /// Set once the client has had a reply without a body: it needs nothing more of the program.
    detached: &'a AtomicBool,
}

impl<'a> Answering<'a> {
    pub(super) fn new(
        route: &'a Route,
        head_only: bool,
        reply: oneshot::Sender<Result<Reply, Failed>>,
        abandoned: CancellationToken,
        detached: &'a AtomicBool,
    ) -> Self {
        Self { route, head_only, reply: Some(reply), chunks: None, abandoned, detached }
    }

    /// Reads the program's output to its end, and gives it on as it comes. An answer counts as complete only
    /// once it is known how the program ended.
    pub(super) async fn give(
        &mut self,
        stdout: Stdout,
        exit: Exit,
        activity: &Activity,
    ) -> Result<(), Failure> {
        let mut source = Source { stdout, exit, activity, buffer: BytesMut::new() };
        match &self.route.output {
            Output::Cgi => self.give_document(&mut source).await,
            Output::Raw { content_type } => self.give_raw(content_type.as_deref(), &mut source).await,
        }
    }

    /// Tells the client, by a reply where there was none yet, else by cutting the answer.
    pub(super) fn fail(mut self, failure: Failure, complaints: Vec<String>) {
        match self.reply.take() {
            None => failure.log("the answer is cut"),
            Some(reply) => {
                if let Err(Err(Failed { failure, .. })) = reply.send(Err(Failed { failure, complaints })) {
                    failure.log("nobody waits for an answer");
                }
            }
        }
    }

    async fn give_document(&mut self, source: &mut Source<'_>) -> Result<(), Failure> {
        let mut block = HeaderBlock::new();
        let (answer, rest) = loop {
            let Some(bytes) = source.read().await? else {
                return Err(match source.ended().await? {
                    status @ ExitStatus::Signalled { .. } => Failure::Killed(status),
                    status => Failure::NoHeaderBlock { error: block.end(), status },
                });
            };
            match block.push(&bytes) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(error) => return Err(Failure::BadHeaderBlock(error)),
            }
        };
        match answer {
            Answer::Response(head) => self.give_response(head, rest, source).await,
            Answer::LocalRedirect(redirect) => {
                // RFC 3875 §6.2.2: such an answer has no body. The program still runs to its end.
                while source.read().await?.is_some() {}
                finished(source.ended().await?)?;
                self.send_reply(Reply::LocalRedirect(redirect));
                Ok(())
            }
        }
    }

    async fn give_response(
        &mut self,
        head: Head,
        rest: Bytes,
        source: &mut Source<'_>,
    ) -> Result<(), Failure> {
        let has_content_type = head.has_content_type();
        let Head { parts, content_length, chunked } = head;
        let mut response = Response::from_parts(parts, Body::default());
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            // RFC 9110 §8.6.
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        let bodyless = self.head_only || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut tally = Tally {
            declared: content_length.filter(|_| !bodyless),
            limit: self.route.limits.max_response_body,
            total: 0,
            last: None,
        };
        tally.check_declared()?;
        // An empty answer would be complete for the client before the program could disprove it.
        let mut held = Some(response);
        if tally.declared != Some(0) {
            self.send_response(held.take(), bodyless, tally.declared);
        }
        let mut decoder = chunked.then(ChunkedDecoder::default);
        let mut next = if rest.is_empty() { source.read().await? } else { Some(rest) };
        while let Some(bytes) = next {
            if !has_content_type && tally.total == 0 && !bodyless {
                tracing::warn!("the program prints a body without a Content-Type");
            }
            let pieces = match &mut decoder {
                Some(decoder) => decoder.push(bytes)?,
                None => vec![bytes],
            };
            for piece in pieces {
                self.send(tally.count(piece)?).await?;
            }
            source.activity.touch();
            next = source.read().await?;
        }
        if let Some(decoder) = &decoder
            && !decoder.is_done()
        {
            return Err(Failure::NoLastChunk);
        }
        finished(source.ended().await?)?;
        let last = tally.end()?;
        // Where it was held until now, it is an empty one.
        self.send_response(held.take(), true, None);
        self.complete(last).await
    }

    async fn give_raw(&mut self, content_type: Option<&str>, source: &mut Source<'_>) -> Result<(), Failure> {
        let content_type = content_type.unwrap_or("application/octet-stream");
        let mut response = Response::new(Body::default());
        let value = HeaderValue::from_str(content_type);
        let value = value.map_err(|_| Failure::Malformed("the route's `content_type` is no header value"))?;
        response.headers_mut().insert(CONTENT_TYPE, value);

        let mut held = Some(response);
        let limit = self.route.limits.max_response_body;
        let mut tally = Tally { declared: None, limit, total: 0, last: None };
        while let Some(bytes) = source.read().await? {
            self.send_response(held.take(), self.head_only, None);
            self.send(tally.count(bytes)?).await?;
            source.activity.touch();
        }
        let status = source.ended().await?;
        if held.is_some() && !status.success() {
            return Err(match status {
                ExitStatus::Signalled { .. } => Failure::Killed(status),
                ExitStatus::Exited(_) => Failure::NothingPrinted(status),
            });
        }
        finished(status)?;
        self.send_response(held.take(), self.head_only, None);
        self.complete(None).await
    }

    /// Sends the head, where it has not been sent, and opens the way for the body.
    fn send_response(&mut self, response: Option<Response<Body>>, bodyless: bool, length: Option<u64>) {
        let Some(mut response) = response else { return };
        if bodyless {
            self.detached.store(true, Ordering::Relaxed);
        } else {
            let (sender, receiver) = mpsc::channel(CHUNKS);
            self.chunks = Some(sender);
            *response.body_mut() = Body::program(receiver, length, self.abandoned.clone().drop_guard());
        }
        self.send_reply(Reply::Response(response));
    }

    fn send_reply(&mut self, reply: Reply) {
        if let Some(sender) = self.reply.take() {
            // Where nobody waits any more, `abandoned` says so too.
            _ = sender.send(Ok(reply));
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Failure> {
        match &self.chunks {
            Some(chunks) if !bytes.is_empty() => {
                chunks.send(Chunk::Bytes(bytes)).await.map_err(|_| Failure::ClientGone)
            }
            _ => Ok(()),
        }
    }

    /// Sends the last byte, where it was held back, else that this is all.
    async fn complete(&mut self, last: Option<Bytes>) -> Result<(), Failure> {
        match (last, &self.chunks) {
            // With it the declared length is there, and nobody reads on.
            (Some(last), _) => self.send(last).await,
            (None, Some(chunks)) => chunks.send(Chunk::End).await.map_err(|_| Failure::ClientGone),
            (None, None) => Ok(()),
        }
    }
}

/// What a program's end means for an answer that is otherwise whole.
fn finished(status: ExitStatus) -> Result<(), Failure> {
    match status {
        ExitStatus::Exited(0) => Ok(()),
        ExitStatus::Exited(_) => {
            tracing::warn!("the program answered, and then failed: {status}");
            Ok(())
        }
        ExitStatus::Signalled { .. } => Err(Failure::Killed(status)),
    }
}

/// The program's end of it.
struct Source<'a> {
    stdout: Stdout,
    exit: Exit,
    activity: &'a Activity,
    buffer: BytesMut,
}

impl Source<'_> {
    async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        self.buffer.reserve(CHUNK);
        let read = self.stdout.read_buf(&mut self.buffer).await.map_err(Failure::Output)?;
        self.activity.touch();
        Ok((read > 0).then(|| self.buffer.split().freeze()))
    }

    async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        Ok((&mut self.exit).await?)
    }
}

/// Counts a body against what was declared and what is allowed.
struct Tally {
    declared: Option<u64>,
    limit: Option<u64>,
    total: u64,
    /// The last byte of a body of declared length. With it the client's message would be complete, before it
    /// is known whether more follows and how the program ended.
    last: Option<Bytes>,
}

impl Tally {
    fn check_declared(&self) -> Result<(), Failure> {
        match (self.declared, self.limit) {
            (Some(declared), Some(limit)) if declared > limit => Err(Failure::ResponseTooLarge),
            _ => Ok(()),
        }
    }

    /// Counts, and gives back what may be sent on.
    fn count(&mut self, mut bytes: Bytes) -> Result<Bytes, Failure> {
        self.total += bytes.len() as u64;
        if self.limit.is_some_and(|limit| self.total > limit) {
            return Err(Failure::ResponseTooLarge);
        }
        match self.declared {
            Some(declared) if self.total > declared => Err(Failure::WrongLength { declared, printed: None }),
            Some(declared) if self.total == declared && !bytes.is_empty() => {
                self.last = Some(bytes.split_off(bytes.len() - 1));
                Ok(bytes)
            }
            _ => Ok(bytes),
        }
    }

    /// The program has printed all it wanted: gives back what was held.
    fn end(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.declared {
            Some(declared) if self.total != declared => {
                Err(Failure::WrongLength { declared, printed: Some(self.total) })
            }
            _ => Ok(self.last.take()),
        }
    }
}
