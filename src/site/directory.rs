//! A directory: which of its scripts a request is for, or which of its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::LOCATION;
use http::{HeaderValue, Method, Response, StatusCode, request};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::listing;
use super::route::{FilesRoute, Rewrite, ScriptsRoute};
use super::send::{Sendable, send};
use crate::engine::Folder;
use crate::files::{Candidate, Found, NotFound, Patience, Place, Reader, Tree};
use crate::gateway::{Asked, Body, Deadline, Failed, Failure, Gateway, Reply, Script};

/// What is escaped in the path of a URI: all that RFC 3986 §3.3 does not have in a segment, and `;`, for old clients.
pub(super) const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b';')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Answers by the script or the file that a request's path names: a [`tower::Service`].
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// What runs scripts.
    gateway: Option<Gateway>,
    inner: Arc<Inner>,
    interrupted: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    at: At,
    index: Vec<String>,
    scripts: Scripts,
    /// Whether a directory without an index is listed.
    autoindex: bool,
    rewrite: Vec<Rewrite>,
    debug_errors: bool,
    /// Whether a file is sent as its compressed sibling, to who takes that.
    has_siblings: bool,
    /// What stands in front of a file's path in the requests of clients.
    prefix: String,
    /// For looks at the directory.
    places: Arc<Semaphore>,
}

/// Where a directory is.
#[derive(Debug)]
enum At {
    /// On this machine.
    Here(Place),
    /// In the image or the root directory that its scripts are run by.
    InImage {
        path: PathBuf,
        /// How it was looked at last. A root file system that lies here is held by whoever looks.
        last: Mutex<Option<(PathBuf, Place)>>,
    },
}

/// How many threads may look at a directory at once. On a file system that does not answer, they are lost to other routes.
const MOST_LOOKS: usize = 8;

/// How long a file system may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which files are scripts.
#[derive(Debug)]
enum Scripts {
    None,
    All(Handlers),
    /// Those that a handler is named for. All others are sent.
    Handled(Handlers),
}

type Handlers = BTreeMap<String, Vec<String>>;

/// What was found by a path.
enum Looked {
    /// A file, and what of the path is left.
    File(String, Vec<u8>, Option<Candidate>),
    /// A directory that is to be listed.
    Directory(String),
    /// A directory that was asked for without the slash at its end.
    WithoutSlash(String),
}

/// What a path names.
pub(super) enum Named {
    /// A script, and what is left of the path for it.
    Script(Script, Vec<u8>),
    /// A file to be sent.
    File(Sendable),
    /// A page that lists a directory.
    List(String),
    /// A directory, whose paths end with a slash.
    Elsewhere(String),
}

impl Directory {
    /// A directory of scripts. `prefix`: the route's path with whatever a router above has stripped; `reader`: for whom files
    /// are sent, where they are.
    pub(super) fn of_scripts(
        gateway: Gateway,
        route: ScriptsRoute,
        prefix: String,
        reader: Reader,
        interrupted: CancellationToken,
    ) -> Self {
        let scripts = match route.sends_files {
            true => Scripts::Handled(route.handlers),
            false => Scripts::All(route.handlers),
        };
        let at = match route.is_in_image {
            true => At::InImage { path: route.directory, last: Mutex::default() },
            false => At::here(Tree::new(&route.directory).read_by(reader)),
        };
        let inner = Inner {
            at,
            index: route.index,
            scripts,
            autoindex: route.autoindex,
            rewrite: route.rewrite,
            debug_errors: route.program.debug_errors,
            has_siblings: true,
            prefix,
            places: places(),
        };
        Self { gateway: Some(gateway), inner: Arc::new(inner), interrupted }
    }

    /// A directory of files.
    pub(super) fn of_files(
        route: FilesRoute,
        prefix: String,
        reader: Reader,
        interrupted: CancellationToken,
    ) -> Self {
        let inner = Inner {
            at: At::here(Tree::new(&route.directory).read_by(reader)),
            index: route.index,
            scripts: Scripts::None,
            autoindex: route.autoindex,
            rewrite: Vec::new(),
            debug_errors: route.debug_errors,
            has_siblings: true,
            prefix,
            places: places(),
        };
        Self { gateway: None, inner: Arc::new(inner), interrupted }
    }

    /// A directory of files that programs name: all that is in it, whoever may read it, and nothing else.
    pub(super) fn of_named(directory: PathBuf, prefix: String, interrupted: CancellationToken) -> Self {
        // SECURITY: a program may make links in there, and where it is root inside, or dcgi is nobody but its user, what they
        // lead to would be theirs alike. They end in the directory.
        let reader = Reader::User { uid: 0, groups: Vec::new() };
        let inner = Inner {
            at: At::here(Tree::within(directory, "/").read_by(reader)),
            index: Vec::new(),
            scripts: Scripts::None,
            autoindex: false,
            rewrite: Vec::new(),
            // Its failures are told by the route whose program named it.
            debug_errors: false,
            has_siblings: false,
            prefix,
            places: places(),
        };
        Self { gateway: None, inner: Arc::new(inner), interrupted }
    }

    pub(super) fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    /// Whether error pages tell why.
    pub(super) fn debug_errors(&self) -> bool {
        self.inner.debug_errors
    }

    /// What a path below the route's prefix names. `pulls`: whether the image that the directory is in may be pulled for that.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn named(
        &self,
        path: Vec<u8>,
        pulls: bool,
        deadline: Deadline,
    ) -> Result<Named, Failure> {
        let (at, held) = tokio::select! {
            biased;
            place = self.place(pulls) => place?,
            timeout = deadline.passed() => return Err(Failure::DeadlinePassed(timeout)),
            () = self.interrupted.cancelled() => return Err(Failure::Interrupted),
        };
        // What is at hand needs no other thread: to ask one costs more than the look.
        match self.inner.named(&at, &path, Patience::None) {
            Err(NotFound::Later) => {}
            named => return Ok(named?),
        }
        let inner = self.inner.clone();
        let looking = async {
            // Held by the look, and not by who waits for it: one that does not return keeps its place.
            let place = inner.places.clone().acquire_owned().await.map_err(|_| Failure::Interrupted)?;
            let looked = tokio::task::spawn_blocking(move || {
                let named = inner.named(&at, &path, Patience::Any);
                drop((place, held));
                named
            });
            Ok(looked.await.map_err(|_| Failure::Interrupted)??)
        };
        tokio::select! {
            biased;
            named = looking => named,
            () = tokio::time::sleep(PATIENCE) => Err(Failure::FilesSilent(PATIENCE)),
            () = self.interrupted.cancelled() => Err(Failure::Interrupted),
        }
    }
}

impl Directory {
    /// Where paths are looked up now, and what is held meanwhile.
    async fn place(&self, pulls: bool) -> Result<(Place, Option<Folder>), Failure> {
        let (path, last) = match &self.inner.at {
            At::Here(place) => return Ok((place.clone(), None)),
            At::InImage { path, last } => (path, last),
        };
        let Some(gateway) = &self.gateway else { return Err(Failure::NoFile(path.display().to_string())) };
        let folder = gateway.folder(&path.to_string_lossy(), pulls).await?;
        if let Some(catalog) = folder.catalog() {
            return Ok((Place::Catalog(catalog.clone()), Some(folder)));
        }
        let root = folder.root().unwrap_or(Path::new("/"));
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match &*last {
            Some((before, place)) if before == root => place.clone(),
            _ => {
                let place = Place::Tree(Arc::new(Tree::within(root, path)));
                *last = Some((root.to_owned(), place.clone()));
                place
            }
        };
        drop(last);
        Ok((place, Some(folder)))
    }
}

impl At {
    fn here(tree: Tree) -> Self {
        Self::Here(Place::Tree(Arc::new(tree)))
    }

    /// The path that containers see it at.
    fn path(&self) -> &Path {
        match self {
            Self::Here(place) => place.tree().map_or(Path::new("/"), Tree::directory),
            Self::InImage { path, .. } => path,
        }
    }
}

impl Service<Asked> for Directory {
    type Response = Reply;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Reply, Failed>>;

    /// Always ready: where there is no place, the answer is that.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut asked: Asked) -> Self::Future {
        let directory = self.clone();
        async move {
            let path = std::mem::take(&mut asked.path_info);
            let response = match (directory.named(path, true, asked.deadline).await?, directory.gateway) {
                (Named::Script(script, rest), Some(gateway)) => {
                    asked.path_info = rest;
                    asked.script = Some(script);
                    return gateway.oneshot(asked).await;
                }
                (Named::Script(script, _), None) => return Err(Failure::NoFile(script.name).into()),
                (Named::Elsewhere(path), _) => moved(&path, &asked.head),
                // RFC 9110 §9.1: who has no other method for it says so.
                (Named::File(_) | Named::List(_), _) if !is_read(&asked.head.method) => {
                    return Err(Failure::NotAllowed.into());
                }
                (Named::File(file), _) => send(file, &asked.head).await?,
                (Named::List(page), _) => listing::response(page),
            };
            Ok(Reply::Response(response))
        }
        .boxed()
    }
}

impl Inner {
    fn named(&self, at: &Place, path: &[u8], patience: Patience) -> Result<Named, NotFound> {
        let missing = match self.look(at, path, patience) {
            Err(error) if error.is_absence() => error,
            looked => return self.answer(at, looked?, patience),
        };
        let first = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
        for Rewrite { to } in &self.rewrite {
            let to = match to.split_once("{path}") {
                Some((before, behind)) => [before.as_bytes(), &path[first..], behind.as_bytes()].concat(),
                None => to.as_bytes().to_vec(),
            };
            match self.look(at, &to, patience) {
                Err(error) if error.is_absence() => {}
                looked => return self.answer(at, looked?, patience),
            }
        }
        Err(missing)
    }

    /// What a path names, its index where that is a directory.
    fn look(&self, at: &Place, path: &[u8], patience: Patience) -> Result<Looked, NotFound> {
        let (found, candidate) = match at.look(path, patience)? {
            (Found::Directory { path, has_slash: false }, _) => return Ok(Looked::WithoutSlash(path)),
            (Found::Directory { path, .. }, _) => match at.index(&path, &self.index, patience)? {
                Some(index) => index,
                None if self.autoindex => return Ok(Looked::Directory(path)),
                None => {
                    let why = match self.index.is_empty() {
                        true => "it is a directory, and the route names no `index`",
                        false => "it is a directory, and none of the route's `index` is in it",
                    };
                    return Err(NotFound::Forbidden { path: format!("{path}/"), why });
                }
            },
            found => found,
        };
        Ok(match found {
            Found::File { path, rest } => Looked::File(path, rest, candidate),
            // Another put a directory there meanwhile.
            Found::Directory { path, .. } => Looked::WithoutSlash(path),
        })
    }

    fn answer(&self, at: &Place, looked: Looked, patience: Patience) -> Result<Named, NotFound> {
        let (name, rest, candidate) = match looked {
            Looked::File(name, rest, candidate) => (name, rest, candidate),
            Looked::WithoutSlash(path) => return Ok(Named::Elsewhere(format!("{}{path}/", self.prefix))),
            Looked::Directory(_) if patience == Patience::None => return Err(NotFound::Later),
            Looked::Directory(path) => {
                let missing = || NotFound::missing(&path, "what is in an image's directory is not listed");
                let tree = at.tree().ok_or_else(missing)?;
                let entries = tree.list(&path, |candidate| self.is_disguised(candidate))?;
                return Ok(Named::List(listing::page(&format!("{}{path}/", self.prefix), &entries)));
            }
        };
        if let Some(handler) = self.handler(&name) {
            // UTF-8 both, as they were found to be.
            let file = format!("{}{name}", self.at.path().display());
            let command = handler.iter().cloned().chain([file.clone()]).collect();
            return Ok(Named::Script(Script { name, file, command }, rest));
        }
        let (Some(tree), Some(candidate)) = (at.tree(), candidate) else {
            return Err(NotFound::missing(&name, "files of an image are not sent"));
        };
        if self.is_disguised(&candidate) {
            return Err(NotFound::Forbidden {
                path: name,
                why: "it is a link to a script, and not called as one",
            });
        }
        if !rest.is_empty() {
            return Err(NotFound::Missing { path: name, why: "it is a file, and nothing is below it" });
        }
        let is_script = |name: &str| !self.has_siblings || self.handler(name).is_some();
        Ok(Named::File(Sendable::open(tree, &candidate, is_script, patience)?))
    }

    /// SECURITY: whether it is a script that a link calls something else: its source is not to be had by another name.
    fn is_disguised(&self, candidate: &Candidate) -> bool {
        let is_script = |name: &str| self.handler(name).is_some();
        !is_script(candidate.path()) && candidate.aliases().any(is_script)
    }

    /// What runs a file, in front of it, if it is a script. A name may be written in capitals: nobody means another file by
    /// that.
    fn handler(&self, name: &str) -> Option<&[String]> {
        let ending = name.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
        let ending = ending.map(|(_, ending)| format!(".{}", ending.to_ascii_lowercase()));
        let handler =
            |handlers| ending.and_then(|ending| Handlers::get(handlers, &ending)).map(Vec::as_slice);
        match &self.scripts {
            Scripts::None => None,
            Scripts::All(handlers) => Some(handler(handlers).unwrap_or_default()),
            Scripts::Handled(handlers) => handler(handlers),
        }
    }
}

fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_LOOKS))
}

/// Whether a method asks for what is there.
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// That it is there under another path.
///
/// SECURITY: the path is the directory's own, not what the client wrote, which may begin with two slashes and so be another
/// host's.
fn moved(path: &str, head: &request::Parts) -> Response<Body> {
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}{query}", utf8_percent_encode(path, PATH));
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    // A query has passed through a parser that lets nothing else through.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

impl From<NotFound> for Failure {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Missing { .. } => Self::NoFile(error.to_string()),
            NotFound::Forbidden { .. } => Self::Forbidden(error.to_string()),
            NotFound::Failed { .. } | NotFound::Unusable { .. } if error.is_exhaustion() => {
                Self::FilesExhausted(error.into())
            }
            NotFound::Failed { .. } | NotFound::Unusable { .. } | NotFound::Later => {
                Self::Files(error.into())
            }
        }
    }
}
