//! A route: a host and a path prefix, and what answers there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderMap;

use super::guard::Access;
use super::sendfile::SendFile;
use crate::engine::Volume;
use crate::gateway::ProgramRoute;

/// What answers the requests below one path prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The host this route is for, in lower case and without a port. Absent: any.
    pub host: Option<String>,
    /// The path prefix, which becomes `SCRIPT_NAME`: `""` for the root, else `/` and segments, and no slash at
    /// the end.
    pub path: String,
    /// What answers.
    pub kind: RouteKind,
    /// Who may have it.
    pub access: Access,
    /// What every answer's head has beside its own, or instead.
    pub headers: HeaderMap,
    /// What answers in place of dcgi's own page, by status: a path of this site, asked for by GET.
    pub error_pages: BTreeMap<u16, String>,
    /// Where its programs may have files sent from, by `X-Sendfile` or `X-Accel-Redirect`. Without it these are fields like any
    /// other.
    pub sendfile: Option<SendFile>,
    /// Whether what programs print is compressed for clients that take it, where it is text.
    pub compress: bool,
}

/// What a route is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RouteKind {
    /// A program in a container.
    Program(ProgramRoute),
    /// The scripts of a directory, and maybe its other files.
    Scripts(ScriptsRoute),
    /// The files of a directory.
    Files(FilesRoute),
    /// Another place, to which clients are sent on.
    Redirect(RedirectRoute),
}

/// Another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectRoute {
    /// A URL, or a path of this host. `{path}` in it is what a request's path has behind the route's, without the slash in
    /// front, `{host}` the host that was asked for. A request's query is put behind, unless there is one.
    pub to: String,
    /// The status, one of 301, 302, 303, 307 and 308.
    pub status: u16,
}

/// What else a directory answers to a path that names nothing in it: for a front controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// A path in the directory, such as `/index.php` or `/index.php/{path}`, where `{path}` is the one that names nothing,
    /// without the slash in front.
    pub to: String,
}

/// A directory whose files are sent. Hidden ones are not, nor what editors and administrators leave as copies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilesRoute {
    /// The directory: an absolute path.
    pub directory: PathBuf,
    /// What is sent for a directory, the first that is there. Where none is, the directory is forbidden.
    pub index: Vec<String>,
    /// Whether a directory without an index is listed instead.
    pub autoindex: bool,
    /// `user` or `user:group`, by name or number, as this machine knows them: who is to be able to read a file for it to be
    /// sent. Nobody: all others (the last three bits of its mode).
    pub user: Option<String>,
    /// Whether error pages tell why.
    pub debug_errors: bool,
}

/// A directory whose files are programs: a request's path names one, and the rest of it is that one's `PATH_INFO`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptsRoute {
    /// How they run, and what answers. Its containers see the directory at its own path, read-only.
    pub program: ProgramRoute,
    /// The directory: absolute, and UTF-8, for a variable names it.
    pub directory: PathBuf,
    /// Whether it is one of the image, or the root directory, that the program is run by, and not of this machine.
    pub is_in_image: bool,
    /// What is run for a directory, the first that is there. Where none is, the directory is forbidden.
    pub index: Vec<String>,
    /// What runs a script, by the ending of its name, such as `.pl`, in lower case: a command line that the script's path is
    /// put behind. An empty one, or none: the script itself is executed.
    pub handlers: BTreeMap<String, Vec<String>>,
    /// Whether only files that a handler is for are scripts, and all others are sent as they are: to whom the program's user may
    /// read, where it has one, else others.
    pub sends_files: bool,
    /// Whether a directory without an index is listed.
    pub autoindex: bool,
    /// What answers where a path names neither a file nor a directory, the first of which does.
    pub rewrite: Vec<Rewrite>,
}

impl ScriptsRoute {
    /// The scripts of a directory, run by a program's image or root directory, and by its limits. What the program itself
    /// executes means nothing.
    ///
    /// # Errors
    /// Where the directory's path is relative, no UTF-8, or `/`: it is mounted at its own path.
    pub fn new(directory: impl Into<PathBuf>, route: impl Into<ProgramRoute>) -> Result<Self, ScriptsError> {
        let mut scripts = Self::in_image(directory, route)?;
        scripts.is_in_image = false;
        let target = scripts.directory.to_string_lossy().into_owned();
        let source = scripts.directory.clone();
        scripts.program.program.volumes.push(Volume::Bind { source, target, read_only: true });
        Ok(scripts)
    }

    /// The scripts of a directory that is in the program's image or root directory, as they were installed there.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_image(
        directory: impl Into<PathBuf>,
        route: impl Into<ProgramRoute>,
    ) -> Result<Self, ScriptsError> {
        // Normal, as far as that goes without looking.
        let directory: PathBuf = directory.into().components().collect();
        let mut program = route.into();
        let is_some = directory.is_absolute() && directory != Path::new("/");
        let target = directory.to_str().filter(|_| is_some).ok_or(ScriptsError)?.to_owned();
        // So that there is a command: nobody executes it.
        program.program.entrypoint = Some(vec![target]);
        program.program.command = None;
        program.program.working_dir = None;
        Ok(Self {
            program,
            directory,
            is_in_image: true,
            index: Vec::new(),
            handlers: BTreeMap::new(),
            sends_files: false,
            autoindex: false,
            rewrite: Vec::new(),
        })
    }
}

/// A directory of scripts whose path cannot be told to a program.
#[derive(Debug, thiserror::Error)]
#[error("a directory of scripts is mounted at its own path: an absolute one, in UTF-8, and not \"/\"")]
#[non_exhaustive]
pub struct ScriptsError;

impl Route {
    /// A route for any host. From a [`Program`](crate::engine::Program) alone it is one with the safe defaults.
    pub fn new(path: impl Into<String>, kind: impl Into<RouteKind>) -> Self {
        let mut path = path.into();
        path.truncate(path.trim_end_matches('/').len());
        Self {
            host: None,
            path,
            kind: kind.into(),
            access: Access::default(),
            headers: HeaderMap::new(),
            error_pages: BTreeMap::new(),
            compress: false,
            sendfile: None,
        }
    }

    /// The route's name in logs and labels: its host, where it has one, and its path.
    pub fn name(&self) -> Arc<str> {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        format!("{}{path}", self.host.as_deref().unwrap_or_default()).into()
    }

    /// The directory of this machine that it serves, if any.
    pub fn directory(&self) -> Option<&Path> {
        match &self.kind {
            RouteKind::Scripts(scripts) => Some(&*scripts.directory).filter(|_| !scripts.is_in_image),
            RouteKind::Files(files) => Some(&files.directory),
            RouteKind::Program(_) | RouteKind::Redirect(_) => None,
        }
    }

    /// What runs for its requests, where that is a program, or each of a directory of them.
    pub fn program(&self) -> Option<&ProgramRoute> {
        match &self.kind {
            RouteKind::Program(program) => Some(program),
            RouteKind::Scripts(scripts) => Some(&scripts.program),
            RouteKind::Files(_) | RouteKind::Redirect(_) => None,
        }
    }
}

impl From<RedirectRoute> for RouteKind {
    fn from(redirect: RedirectRoute) -> Self {
        Self::Redirect(redirect)
    }
}

impl From<FilesRoute> for RouteKind {
    fn from(files: FilesRoute) -> Self {
        Self::Files(files)
    }
}

impl From<ScriptsRoute> for RouteKind {
    fn from(scripts: ScriptsRoute) -> Self {
        Self::Scripts(scripts)
    }
}

impl<T: Into<ProgramRoute>> From<T> for RouteKind {
    fn from(program: T) -> Self {
        Self::Program(program.into())
    }
}
