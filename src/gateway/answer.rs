//! A program's output on its way to the client.

use std::fmt::{self, Write as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode, request};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{Body, Chunk};
use super::clock::Activity;
use super::failure::Failure;
use super::{Output, ProgramRoute};
use crate::cgi::{Answer, ChunkedDecoder, Head, HeaderBlock, LocalRedirect};
use crate::engine::{EngineError, ExitStatus};

/// How much output is read at once: most answers are short. Where there is always more, it grows.
const CHUNK: usize = 4 << 10;
const LARGE_CHUNK: usize = 32 << 10;

/// How long the beginning of an answer waits for its end, and how much of it may: most programs end at once. Then the
/// answer goes out whole, in one piece and with its length.
const HOLD: Duration = Duration::from_millis(1);
const HELD: usize = 16 << 10;

/// How long nothing may come, of the output where the program has ended and somebody has that open still, or of the
/// program's end where the output has ended, until the answer is taken for whole.
const SILENCE: Duration = Duration::from_secs(1);

/// How many chunks wait between the program and the client. More would only hide back-pressure.
const CHUNKS: usize = 1;

type Stdout = Pin<Box<dyn AsyncRead + Send>>;
type Exit = BoxFuture<'static, Result<ExitStatus, EngineError>>;
type Ended = BoxFuture<'static, ()>;

/// What a program has answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Response(Response<Body>),
    /// The request is to go on to another path, with its head. The next program may want the place that this one has
    /// until its exchange is over.
    LocalRedirect {
        redirect: LocalRedirect,
        head: request::Parts,
        exchange: JoinHandle<()>,
    },
}

/// What an exchange tells its caller.
#[derive(Debug)]
pub(super) enum Given {
    Response(Response<Body>),
    LocalRedirect(LocalRedirect),
}

/// A failure before there was anything for the client, with the program's last complaints.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) complaints: Vec<String>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, complaints: Vec::new() }
    }
}

/// The fields by which a program names a file to be sent in its body's stead, where its route says from where: a path as it is,
/// and one as in a URL.
pub(crate) const NAMES_FILE: [HeaderName; 2] =
    [HeaderName::from_static("x-sendfile"), HeaderName::from_static("x-accel-redirect")];

/// Gives a program's output to the client.
pub(super) struct Answering<'a> {
    route: &'a ProgramRoute,
    head_only: bool,
    /// Whether what the program prints in place of a file that it names is nobody's.
    names_files: bool,
    /// Present until there was a reply.
    reply: Option<oneshot::Sender<Result<Given, Failed>>>,
    /// The beginning of an answer that has not been given yet.
    held: Option<Held>,
    /// Present once there was one whose body the client wants.
    chunks: Option<mpsc::Sender<Chunk>>,
    /// Given to the response's body, which cancels it when it is dropped.
    abandoned: CancellationToken,
    /// Set once the client has had a reply without a body: it needs nothing more of the program.
    detached: &'a AtomicBool,
}

/// The beginning of an answer.
struct Held {
    response: Response<Body>,
    /// What has come of its body, and how much that is.
    first: Vec<Bytes>,
    size: usize,
    /// How long the body will be, where the program has said.
    length: Option<u64>,
    /// How long it waits. `None`: as long as the program runs.
    until: Option<Instant>,
}

impl<'a> Answering<'a> {
    pub(super) fn new(
        route: &'a ProgramRoute,
        head_only: bool,
        reply: oneshot::Sender<Result<Given, Failed>>,
        abandoned: CancellationToken,
        detached: &'a AtomicBool,
    ) -> Self {
        Self {
            route,
            head_only,
            names_files: false,
            reply: Some(reply),
            held: None,
            chunks: None,
            abandoned,
            detached,
        }
    }

    /// Whether the program may name a file to be sent in its body's stead. Then it is let run to its end.
    pub(super) fn naming_files(self, names_files: bool) -> Self {
        Self { names_files, ..self }
    }

    /// Reads the program's output to its end, and gives it on as it comes. An answer counts as complete only
    /// once it is known how the program ended.
    pub(super) async fn give(&mut self, source: &mut Source<'_>) -> Result<(), Failure> {
        match &self.route.output {
            Output::Cgi => self.give_document(source).await,
            Output::Raw { content_type } => self.give_raw(content_type.as_deref(), source).await,
        }
    }

    /// Tells the client, by a reply where there was none yet, else by cutting the answer.
    pub(super) fn fail(mut self, failure: Failure, complaints: Vec<String>) {
        // How long it would have been held is no reason for another answer.
        if self.held.as_ref().is_some_and(|held| held.until.is_some()) {
            self.release();
        }
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
        let mut beginning = Beginning::default();
        let (answer, rest) = loop {
            let Some(bytes) = source.read().await? else {
                return Err(match source.ended().await? {
                    status @ ExitStatus::Signalled { .. } => {
                        beginning.log();
                        Failure::Killed(status)
                    }
                    status => {
                        beginning.log();
                        Failure::NoHeaderBlock { error: block.end(), status }
                    }
                });
            };
            beginning.push(&bytes);
            match block.push(&bytes) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(error) => {
                    beginning.log();
                    return Err(Failure::BadHeaderBlock(error));
                }
            }
        };
        match answer {
            Answer::Response(head) => self.give_response(head, rest, source).await,
            Answer::LocalRedirect(redirect) => {
                // RFC 3875 §6.2.2: such an answer has no body. The program still runs to its end.
                while source.read().await?.is_some() {}
                finished(source.settled().await?)?;
                self.send_reply(Given::LocalRedirect(redirect));
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
        let is_named = self.names_files
            && status == StatusCode::OK
            && NAMES_FILE.iter().any(|name| response.headers().contains_key(name));
        let bodyless =
            self.head_only || is_named || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut tally = Tally {
            declared: content_length.filter(|_| !bodyless),
            limit: self.route.limits.max_response_body,
            total: 0,
            last: None,
        };
        tally.check_declared()?;
        // An empty answer would be complete for the client before the program could disprove it.
        if bodyless {
            self.send_without_body(response);
        } else {
            self.hold(response, tally.declared);
        }
        let mut decoder = chunked.then(ChunkedDecoder::default);
        let mut next = if rest.is_empty() { self.read(source).await? } else { Some(rest) };
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
            next = self.read(source).await?;
        }
        if let Some(decoder) = &decoder
            && !decoder.is_done()
        {
            return Err(Failure::NoLastChunk);
        }
        finished(self.settled(source).await?)?;
        self.complete(tally.end()?).await
    }

    async fn give_raw(&mut self, content_type: Option<&str>, source: &mut Source<'_>) -> Result<(), Failure> {
        let content_type = content_type.unwrap_or("application/octet-stream");
        let mut response = Response::new(Body::default());
        let value = HeaderValue::from_str(content_type);
        let value = value.map_err(|_| Failure::Malformed("the route's `content_type` is no header value"))?;
        response.headers_mut().insert(CONTENT_TYPE, value);

        let limit = self.route.limits.max_response_body;
        let mut tally = Tally { declared: None, limit, total: 0, last: None };
        let Some(first) = source.read().await? else {
            return match source.ended().await? {
                status @ ExitStatus::Signalled { .. } => Err(Failure::Killed(status)),
                status if !status.success() => Err(Failure::NothingPrinted(status)),
                _ => {
                    self.send_without_body(response);
                    Ok(())
                }
            };
        };
        if self.head_only {
            self.send_without_body(response);
        } else {
            self.hold(response, None);
        }
        let mut next = Some(first);
        while let Some(bytes) = next {
            self.send(tally.count(bytes)?).await?;
            source.activity.touch();
            next = self.read(source).await?;
        }
        finished(self.settled(source).await?)?;
        self.complete(None).await
    }

    /// Reads on. What is held is released where that takes longer.
    async fn read(&mut self, source: &mut Source<'_>) -> Result<Option<Bytes>, Failure> {
        if let Some(until) = self.held.as_ref().and_then(|held| held.until) {
            match tokio::time::timeout_at(until, source.read()).await {
                Ok(read) => return read,
                Err(_) => self.release(),
            }
        }
        source.read().await
    }

    /// Waits for the program's end, like [`read`](Self::read).
    async fn settled(&mut self, source: &mut Source<'_>) -> Result<Option<ExitStatus>, Failure> {
        if let Some(until) = self.held.as_ref().and_then(|held| held.until) {
            match tokio::time::timeout_at(until, source.settled()).await {
                Ok(settled) => return settled,
                Err(_) => self.release(),
            }
        }
        source.settled().await
    }

    /// Keeps the head of an answer for a moment. An empty one is kept until the program has ended: it would be complete
    /// for the client before the program could disprove it.
    fn hold(&mut self, response: Response<Body>, length: Option<u64>) {
        let until = (length != Some(0)).then(|| Instant::now() + HOLD);
        self.held = Some(Held { response, first: Vec::new(), size: 0, length, until });
    }

    /// Gives what is held, and opens the way for the rest.
    fn release(&mut self) {
        let Some(Held { mut response, first, length, .. }) = self.held.take() else { return };
        let first = joined(first);
        let (sender, receiver) = mpsc::channel(CHUNKS);
        self.chunks = Some(sender);
        *response.body_mut() = Body::program(first, receiver, length, self.abandoned.clone().drop_guard());
        self.send_reply(Given::Response(response));
    }

    fn send_without_body(&mut self, response: Response<Body>) {
        self.detached.store(true, Ordering::Relaxed);
        self.send_reply(Given::Response(response));
    }

    fn send_reply(&mut self, reply: Given) {
        if let Some(sender) = self.reply.take() {
            // Where nobody waits any more, `abandoned` says so too.
            _ = sender.send(Ok(reply));
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(held) = &mut self.held {
            held.push(bytes);
            if held.size > HELD {
                self.release();
            }
            return Ok(());
        }
        match &self.chunks {
            Some(chunks) => chunks.send(Chunk::Bytes(bytes)).await.map_err(|_| Failure::ClientGone),
            None => Ok(()),
        }
    }

    /// Sends the last byte, where it was held back, else that this is all.
    async fn complete(&mut self, last: Option<Bytes>) -> Result<(), Failure> {
        if let Some(mut held) = self.held.take() {
            if let Some(last) = last {
                held.push(last);
            }
            *held.response.body_mut() = Body::full(joined(held.first));
            self.send_without_body(held.response);
            return Ok(());
        }
        match (last, &self.chunks) {
            // With it the declared length is there, and nobody reads on.
            (Some(last), _) => self.send(last).await,
            (None, Some(chunks)) => chunks.send(Chunk::End).await.map_err(|_| Failure::ClientGone),
            (None, None) => Ok(()),
        }
    }
}

impl Held {
    fn push(&mut self, bytes: Bytes) {
        self.size += bytes.len();
        self.first.push(bytes);
    }
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        1 => pieces.remove(0),
        _ => pieces.concat().into(),
    }
}

/// The beginning of an output, for the log where it is no answer. A page that says what went wrong, as Python's cgitb
/// prints it, stands in front of the header block that the program never came to, and nowhere else.
#[derive(Default)]
struct Beginning(Vec<u8>);

impl Beginning {
    /// How much of it is kept, in bytes.
    const KEPT: usize = 2 << 10;

    fn push(&mut self, bytes: &[u8]) {
        let room = Self::KEPT - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// One event a line, within the request's span.
    fn log(&self) {
        let text = String::from_utf8_lossy(&self.0);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            tracing::warn!("the program printed: {}", Escaped(line));
        }
    }
}

/// A text that may hold anything, as a line of the log: what would not be seen as it is, or not where it stands, is
/// escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\'' | '"' | '\\' => f.write_char(c)?,
                c => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

/// What a program's end means for an answer that is otherwise whole. `None`: it has closed its output, and runs on.
fn finished(status: Option<ExitStatus>) -> Result<(), Failure> {
    match status {
        None | Some(ExitStatus::Exited(0)) => Ok(()),
        Some(status @ ExitStatus::Exited(_)) => {
            tracing::warn!("the program answered, and then failed: {status}");
            Ok(())
        }
        Some(status @ ExitStatus::Signalled { .. }) => Err(Failure::Killed(status)),
    }
}

/// The program's end of it.
pub(super) struct Source<'a> {
    stdout: Stdout,
    /// Resolves where the program is known to have ended, if not how. `None` where that is not told apart, or has been.
    ended: Option<Ended>,
    exit: Exit,
    /// What `exit` has given.
    status: Option<Result<ExitStatus, EngineError>>,
    /// Whether the program itself has ended.
    has_ended: bool,
    /// Whether the output has ended.
    is_at_end: bool,
    activity: &'a Activity,
    buffer: BytesMut,
    /// How much is read at once.
    chunk: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(stdout: Stdout, ended: Option<Ended>, exit: Exit, activity: &'a Activity) -> Self {
        Self {
            stdout,
            ended,
            exit,
            status: None,
            has_ended: false,
            is_at_end: false,
            activity,
            buffer: BytesMut::new(),
            chunk: CHUNK,
        }
    }

    /// What is printed next. `None` is the end of the answer: of the output, or where somebody still has that open though
    /// the program has ended, a while in which nothing came.
    ///
    /// Cancel safe.
    async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        // What is left of it does for a line or two.
        if self.buffer.capacity() < CHUNK / 4 {
            self.buffer.reserve(self.chunk);
        }
        let room = self.buffer.capacity();
        let read = loop {
            if self.has_ended {
                match tokio::time::timeout(SILENCE, self.stdout.read_buf(&mut self.buffer)).await {
                    Ok(read) => break read,
                    Err(_) => return Ok(None),
                }
            }
            tokio::select! {
                biased;
                read = self.stdout.read_buf(&mut self.buffer) => break read,
                status = end(&mut self.ended, &mut self.exit) => self.note(status),
            }
        };
        let read = read.map_err(Failure::Output)?;
        if read == room {
            self.chunk = LARGE_CHUNK;
        }
        self.activity.touch();
        self.is_at_end = read == 0;
        Ok((read > 0).then(|| self.buffer.split().freeze()))
    }

    fn note(&mut self, status: Option<Result<ExitStatus, EngineError>>) {
        self.has_ended = true;
        self.ended = None;
        self.status = status;
    }

    /// How the program has ended, however long that takes.
    async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        match self.status.take() {
            Some(status) => Ok(status?),
            None => {
                let status = (&mut self.exit).await;
                self.has_ended = true;
                Ok(status?)
            }
        }
    }

    /// How the program has ended, once its answer has. `None`: it runs on, and will not be heard of here.
    ///
    /// A program's end is told a moment after that of its output. It is waited for, because a program that was killed has
    /// not finished its answer; but not without end. How it has ended, once it is known to have, is: nothing else says
    /// whether the answer is whole.
    async fn settled(&mut self) -> Result<Option<ExitStatus>, Failure> {
        if !self.has_ended {
            match tokio::time::timeout(SILENCE, end(&mut self.ended, &mut self.exit)).await {
                Ok(status) => self.note(status),
                Err(_) => return Ok(None),
            }
        }
        self.ended().await.map(Some)
    }

    /// Whether the program itself has ended, as far as anybody has asked.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Reads on for nobody, to the end of the output: who prints must not be stopped by that. How much it was is added to
    /// `lost`.
    ///
    /// Cancel safe.
    pub(super) async fn drain(&mut self, lost: &AtomicU64) {
        while !self.is_at_end {
            self.buffer.clear();
            self.buffer.reserve(CHUNK);
            match self.stdout.read_buf(&mut self.buffer).await {
                Ok(read @ 1..) => _ = lost.fetch_add(read as u64, Ordering::Relaxed),
                _ => self.is_at_end = true,
            }
        }
    }
}

/// Waits for a program's end, and says how it was where that is told at once.
///
/// Cancel safe.
async fn end(ended: &mut Option<Ended>, exit: &mut Exit) -> Option<Result<ExitStatus, EngineError>> {
    match ended {
        None => Some(exit.await),
        Some(ended) => tokio::select! {
            biased;
            status = exit => Some(status),
            () = ended => None,
        },
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
            (Some(declared), Some(limit)) if declared > limit => Err(Failure::ResponseTooLarge(limit)),
            _ => Ok(()),
        }
    }

    /// Counts, and gives back what may be sent on.
    fn count(&mut self, mut bytes: Bytes) -> Result<Bytes, Failure> {
        self.total += bytes.len() as u64;
        if let Some(limit) = self.limit.filter(|limit| self.total > *limit) {
            return Err(Failure::ResponseTooLarge(limit));
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::engine::Program;

    const DOCUMENT: &[u8] = b"Content-Type: text/plain\n\nbody";

    /// What a client gets of a program that prints this, and then goes on.
    async fn reply(
        printed: &'static [u8],
        then: impl Future<Output = ()> + Send + 'static,
        exit: ExitStatus,
    ) -> Result<Given, Failed> {
        reply_of(printed, then, None, async move { exit }).await
    }

    async fn reply_of(
        printed: &'static [u8],
        then: impl Future<Output = ()> + Send + 'static,
        ended: Option<Ended>,
        exit: impl Future<Output = ExitStatus> + Send + 'static,
    ) -> Result<Given, Failed> {
        let (mut program, stdout) = tokio::io::duplex(1024);
        let (sender, reply) = oneshot::channel();
        tokio::spawn(async move {
            let route = ProgramRoute::from(Program::new("image"));
            let detached = AtomicBool::new(false);
            let mut answering = Answering::new(&route, false, sender, CancellationToken::new(), &detached);
            let exit = Box::pin(async move { Ok(exit.await) });
            let activity = Activity::new();
            let mut source = Source::new(Box::pin(stdout), ended, exit, &activity);
            if let Err(failure) = answering.give(&mut source).await {
                answering.fail(failure, Vec::new());
            }
        });
        tokio::spawn(async move {
            program.write_all(printed).await.unwrap();
            then.await;
        });
        reply.await.unwrap()
    }

    fn response(reply: Result<Given, Failed>) -> Response<Body> {
        match reply {
            Ok(Given::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_answer_of_a_program_that_ends_at_once_has_its_length() {
        let response = response(reply(DOCUMENT, async {}, ExitStatus::Exited(0)).await);
        assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(4));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_program_prints_does_not_wait_for_its_end() {
        let began = Instant::now();
        let mut body =
            response(reply(DOCUMENT, std::future::pending(), ExitStatus::Exited(0)).await).into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first, began.elapsed() < Duration::from_millis(5)), ("body".into(), true));
    }

    #[tokio::test]
    async fn an_answer_that_was_begun_is_cut_however_soon_its_program_is_killed() {
        let killed = ExitStatus::Signalled { signal: 9, out_of_memory: None };
        let response = response(reply(DOCUMENT, async {}, killed).await);
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.into_body().collect().await.is_err());
    }

    /// Says after a while that a program was killed.
    async fn killed_in(seconds: u64) -> ExitStatus {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        ExitStatus::Signalled { signal: 9, out_of_memory: None }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_not_whole_before_it_is_known_how_its_program_has_ended() {
        let has_ended: Ended = Box::pin(async {});
        let response = response(reply_of(DOCUMENT, async {}, Some(has_ended), killed_in(30)).await);
        assert!(response.into_body().collect().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_program_runs_on_without_its_output_is_whole() {
        let response = response(
            reply_of(DOCUMENT, async {}, Some(Box::pin(std::future::pending())), killed_in(30)).await,
        );
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
    }
}
