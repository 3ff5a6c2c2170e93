//! A file as a response: by tower-http, which knows ranges, conditions and media types.
//!
//! It asks for files by name; here it gets those that have been opened already, and no others.

use std::future::{Ready, ready};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, IF_RANGE, LAST_MODIFIED, RANGE, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, request};
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::ServeDir;
use tower_http::services::fs::{self, Backend, DefaultServeDirFallback};

use crate::files::{self, Candidate, NotFound, Patience, Tree};
use crate::gateway::{Body, Failure};

/// What is read of a file at once. More of a small one than most have.
const PIECE: usize = 64 << 10;
const LARGE_PIECE: usize = 256 << 10;

/// How the names of compressed siblings end.
const COMPRESSED: [&str; 3] = [".gz", ".br", ".zst"];

/// A file that is sent, and its compressed siblings.
#[derive(Clone, Debug)]
pub(super) struct Sendable {
    /// How its name ends, for its media type.
    ending: String,
    /// Each with what its name has behind the file's own.
    opened: Arc<Vec<(&'static str, Opened)>>,
}

/// That a response is a file, as its extension: it is sent as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent;

/// A file, or the first piece of it.
#[derive(Debug)]
struct Opened {
    metadata: Metadata,
    content: Mutex<Option<Content>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    size: u64,
    modified: Option<SystemTime>,
}

/// A file's content, as it is read.
#[derive(Debug)]
enum Content {
    /// All of a small one.
    Whole(io::Cursor<Vec<u8>>),
    File(tokio::fs::File),
}

/// What tower-http reads.
#[derive(Debug)]
pub(super) struct Reading {
    metadata: Metadata,
    content: Content,
}

impl Sendable {
    /// Opens a file that was found in a tree. `is_script`: what is called so beside it is none of its own. Blocks.
    ///
    /// # Errors
    /// Where it may not be read.
    pub(super) fn open(
        tree: &Tree,
        candidate: &Candidate,
        is_script: impl Fn(&str) -> bool,
        patience: Patience,
    ) -> Result<Self, NotFound> {
        let path = Path::new(candidate.path());
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let open = |file| {
            Opened::new(file, patience).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => NotFound::Later,
                _ => candidate.unreadable(&error),
            })
        };
        let mut opened = vec![("", open(candidate.open()?)?)];
        for name in COMPRESSED.into_iter().filter(|name| !is_script(name)) {
            let Some(sibling) = candidate.sibling(tree, name, patience)? else { continue };
            // SECURITY: as the file itself, by a link.
            if sibling.aliases().any(&is_script) {
                continue;
            }
            match sibling.open().and_then(open) {
                Ok(sibling) => opened.push((name, sibling)),
                Err(NotFound::Later) => return Err(NotFound::Later),
                // What may not be read is none.
                Err(_) => {}
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let ending = if ending.chars().all(plain) { ending.to_owned() } else { String::new() };
        Ok(Self { ending, opened: Arc::new(opened) })
    }

    /// The one that tower-http means by a path.
    fn at(&self, path: &Path) -> io::Result<&Opened> {
        let asked = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let own = self.name();
        let found = self.opened.iter().find(|(ending, _)| asked.strip_prefix(&own) == Some(ending));
        found.map(|(_, opened)| opened).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What tower-http is told that it is called.
    fn name(&self) -> String {
        match &*self.ending {
            "" => "file".to_owned(),
            ending => format!("file.{ending}"),
        }
    }
}

impl Opened {
    /// # Errors
    /// Where it cannot be read, and [`WouldBlock`](io::ErrorKind::WouldBlock) where it is not in memory and that is too long.
    fn new(file: std::fs::File, patience: Patience) -> io::Result<Self> {
        let metadata = Metadata::of(&file.metadata()?);
        let Some(size @ ..=PIECE) = usize::try_from(metadata.size).ok() else {
            let content = Mutex::new(Some(Content::File(tokio::fs::File::from_std(file))));
            return Ok(Self { metadata, content });
        };
        let mut whole = vec![0; size];
        let mut read = 0;
        while read < size {
            let piece = &mut whole[read..];
            read += match patience {
                Patience::Any => match (&file).read(piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // Shorter by now, it is what it is.
                    Ok(0) => break,
                    some => some?,
                },
                // All that the kernel has in memory, or nothing.
                Patience::None => {
                    let parts = &mut [io::IoSliceMut::new(piece)];
                    match preadv2(&file, parts, read as u64, ReadWriteFlags::NOWAIT) {
                        Ok(some @ 1..) => some,
                        _ => return Err(io::ErrorKind::WouldBlock.into()),
                    }
                }
            };
        }
        whole.truncate(read);
        let metadata = Metadata { size: read as u64, ..metadata };
        Ok(Self { metadata, content: Mutex::new(Some(Content::Whole(io::Cursor::new(whole)))) })
    }
}

impl Metadata {
    fn of(found: &std::fs::Metadata) -> Self {
        Self { size: found.len(), modified: files::modified(found.mtime(), found.mtime_nsec()) }
    }
}

/// Answers a GET or HEAD with a file.
///
/// # Errors
/// Where it cannot be read.
pub(super) async fn send(file: Sendable, head: &request::Parts) -> Result<Response<Body>, Failure> {
    let mut headers = head.headers.clone();
    // Of what it does not understand, it is as if it were not there (RFC 9110 §14.2): tower-http refuses it.
    match headers.remove(RANGE).as_ref().and_then(in_bytes) {
        // A range is of a GET alone (§14.2). What has compressed siblings may be sent as one.
        Some(range)
            if head.method == Method::GET
                && !file.opened.iter().any(|(_, opened)| is_whole(&range, opened.metadata.size)) =>
        {
            headers.insert(RANGE, range);
        }
        _ => {}
    }
    // Only of what the client has a part of is the rest of use to it (RFC 9110 §13.1.5). tower-http does not look.
    if let Some(validator) = headers.remove(IF_RANGE)
        && let Some(range) = headers.remove(RANGE)
    {
        let known = serve(&file, Method::HEAD, headers.clone()).await?;
        if is_same(&validator, known.headers()) {
            headers.insert(RANGE, range);
        }
    }
    serve(&file, head.method.clone(), headers).await
}

/// Whether a range is the last bytes of a file, and more of them than it has, or all of one that has none: that is the
/// whole of it (RFC 9110 §14.1.2). tower-http takes it for one that cannot be had.
fn is_whole(range: &HeaderValue, size: u64) -> bool {
    let ranges = range.to_str().unwrap_or_default().trim_start_matches("bytes=").trim();
    match ranges.strip_prefix('-') {
        Some(last) => last.parse().is_ok_and(|last: u64| last >= size && last > 0),
        None => size == 0 && ranges.trim_end_matches('-') == "0",
    }
}

/// Ranges in bytes of which nothing else is said, as tower-http reads them.
fn in_bytes(range: &HeaderValue) -> Option<HeaderValue> {
    let (unit, ranges) = range.as_bytes().split_at_checked(6)?;
    let in_place = |byte: &u8| byte.is_ascii_digit() || b"-, \t".contains(byte);
    let is_plain =
        unit.eq_ignore_ascii_case(b"bytes=") && ranges.contains(&b'-') && ranges.iter().all(in_place);
    is_plain.then(|| HeaderValue::from_bytes(&[b"bytes=", ranges].concat()).ok())?
}

/// Whether a validator is that of a response.
fn is_same(validator: &HeaderValue, headers: &HeaderMap) -> bool {
    let known = match validator.as_bytes().first() {
        Some(b'"') => headers.get(ETAG),
        // A weak one, in no case.
        _ => headers.get(LAST_MODIFIED),
    };
    known == Some(validator)
}

async fn serve(file: &Sendable, method: Method, headers: HeaderMap) -> Result<Response<Body>, Failure> {
    let uri = format!("/{}", file.name()).parse::<Uri>();
    let mut request = Request::new(Body::default());
    *request.uri_mut() = uri.map_err(|error| Failure::Files(error.into()))?;
    let is_head = method == Method::HEAD;
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let largest = file.opened.iter().map(|(_, opened)| opened.metadata.size).max().unwrap_or(0);
    let piece = match usize::try_from(largest) {
        // With a byte more, so that its end is seen at once.
        Ok(size @ ..=PIECE) => size + 1,
        _ => LARGE_PIECE,
    };
    let mut service: ServeDir<DefaultServeDirFallback, Sendable> = ServeDir::with_backend("", file.clone())
        .append_index_html_on_directories(false)
        .redirect_to_trailing_slash(false)
        .ignore_multi_range_requests(true)
        .with_buf_chunk_size(piece);
    // Who has none needs no `Vary`, and no look at what the client takes.
    if file.opened.len() > 1 {
        service = service.precompressed_gzip().precompressed_br().precompressed_zstd();
    } else {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    let response = service.try_call(request).await.map_err(|error| Failure::Files(error.into()))?;
    if response.status() == StatusCode::NOT_FOUND {
        return Err(Failure::Files("a file that was opened is not there".into()));
    }
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length = length.filter(|_| !is_head).unwrap_or(0);
    let mut response = response.map(|body| Body::file(body, length));
    // What a cache is to know of the whole, it is to know of its being the same (RFC 9110 §15.4.5).
    if file.opened.len() > 1 {
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    response.extensions_mut().insert(Sent);
    Ok(response)
}

impl Backend for Sendable {
    type File = Reading;
    type Metadata = Metadata;
    type OpenFuture = Ready<io::Result<Reading>>;
    type MetadataFuture = Ready<io::Result<Metadata>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        ready(self.at(&path).and_then(|opened| {
            let content = opened.content.lock().unwrap_or_else(PoisonError::into_inner).take();
            let content = content.ok_or(io::ErrorKind::NotFound)?;
            Ok(Reading { metadata: opened.metadata, content })
        }))
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        ready(self.at(&path).map(|opened| opened.metadata))
    }
}

impl fs::Metadata for Metadata {
    fn is_dir(&self) -> bool {
        false
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.modified.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.size
    }
}

impl fs::File for Reading {
    type Metadata = Metadata;
    type MetadataFuture<'a> = Ready<io::Result<Metadata>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.metadata))
    }
}

impl AsyncRead for Reading {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.content {
            Content::Whole(whole) => Pin::new(whole).poll_read(cx, into),
            Content::File(file) => Pin::new(file).poll_read(cx, into),
        }
    }
}

impl AsyncSeek for Reading {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        match &mut self.content {
            Content::Whole(whole) => Pin::new(whole).start_seek(position),
            Content::File(file) => Pin::new(file).start_seek(position),
        }
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        match &mut self.content {
            Content::Whole(whole) => Pin::new(whole).poll_complete(cx),
            Content::File(file) => Pin::new(file).poll_complete(cx),
        }
    }
}
