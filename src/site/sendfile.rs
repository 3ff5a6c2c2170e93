//! Files that a program has sent in its answer's stead: `X-Sendfile`, as Apache's mod_xsendfile and lighttpd know it, and
//! nginx's `X-Accel-Redirect`.

use std::path::PathBuf;

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use http::{HeaderName, Method, Response, StatusCode, request};
use percent_encoding::percent_decode;
use tokio_util::sync::CancellationToken;

use super::directory::{Directory, Named};
use super::send::send;
use crate::gateway::{Body, Deadline, Failure, NAMES_FILE};
use crate::reason::Reason;

/// What of the answer is the file's, whatever the program says of it.
const OF_FILES: [HeaderName; 7] =
    [ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, TRANSFER_ENCODING];

/// Where a route's programs may have files sent from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendFile {
    /// The directory: an absolute path of this machine's.
    pub directory: PathBuf,
    /// What programs call it: the beginning of the paths that they name.
    pub called: String,
}

/// Sends them.
#[derive(Debug)]
pub(super) struct Sender {
    directory: Directory,
    called: String,
}

impl Sender {
    pub(super) fn new(route: SendFile, interrupted: CancellationToken) -> Self {
        let called = route.called.trim_end_matches('/').to_owned();
        Self { directory: Directory::of_named(route.directory, called.clone(), interrupted), called }
    }

    /// An answer with the file in it that a program's names, or the program's own. `head` is the request's.
    ///
    /// # Errors
    /// Where there is no such file to be sent.
    pub(super) async fn answer(
        &self,
        mut response: Response<Body>,
        head: &request::Parts,
    ) -> Result<Response<Body>, Failure> {
        let [plain, encoded] = NAMES_FILE.map(|name| response.headers_mut().remove(name));
        let named = match (plain, encoded) {
            (None, None) => return Ok(response),
            (Some(plain), _) => plain.as_bytes().to_vec(),
            (None, Some(encoded)) => {
                let path = encoded.as_bytes().split(|byte| *byte == b'?').next().unwrap_or_default();
                percent_decode(path).collect()
            }
        };
        if response.status() != StatusCode::OK {
            tracing::warn!(
                "the program names a file to be sent, and a status that is not 200: it is not sent"
            );
            return Ok(response);
        }
        let (program, _) = response.into_parts();
        let path = String::from_utf8_lossy(&named);
        let sent = async {
            let below = self.below(&named).ok_or_else(|| {
                Failure::NoFile(format!("it is not in {}, which `sendfile` names", self.called))
            })?;
            match self.directory.named(below, false, Deadline::NEVER).await? {
                Named::File(file) => send(file, &reading(head)).await,
                _ => Err(Failure::NoFile("it is a directory".to_owned())),
            }
        };
        let mut response = sent.await.inspect_err(|failure| {
            tracing::warn!(
                "the file {path:?}, which the program has named, cannot be sent: {}",
                Reason(failure)
            );
        })?;
        // Its media type, say, is the program's to tell.
        for name in program.headers.keys().filter(|name| !OF_FILES.contains(name)) {
            response.headers_mut().remove(name);
            for value in program.headers.get_all(name) {
                response.headers_mut().append(name, value.clone());
            }
        }
        Ok(response)
    }

    /// The path below the directory, of what a program has named.
    fn below(&self, named: &[u8]) -> Option<Vec<u8>> {
        if named.is_empty() || named.contains(&0) {
            return None;
        }
        if !named.starts_with(b"/") {
            return Some([b"/", named].concat());
        }
        let below = named.strip_prefix(self.called.as_bytes())?;
        below.starts_with(b"/").then(|| below.to_vec())
    }
}

/// The request as one for the file.
fn reading(head: &request::Parts) -> request::Parts {
    let mut reading = head.clone();
    if reading.method != Method::HEAD && reading.method != Method::GET {
        reading.method = Method::GET;
        // They were about something else.
        for name in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
            reading.headers.remove(name);
        }
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_what_programs_call_the_directory() {
        let route = SendFile { directory: "/srv/private".into(), called: "/protected/".into() };
        let sender = Sender::new(route, CancellationToken::new());
        let below = |named: &str| sender.below(named.as_bytes()).map(|path| String::from_utf8(path).unwrap());
        for (named, path) in [
            ("/protected/a/b.zip", Some("/a/b.zip")),
            ("a/b.zip", Some("/a/b.zip")),
            ("/protected", None),
            ("/protectedx/a", None),
            ("/etc/passwd", None),
            ("", None),
            ("a\0b", None),
        ] {
            assert_eq!(below(named).as_deref(), path, "{named:?}");
        }
    }
}
