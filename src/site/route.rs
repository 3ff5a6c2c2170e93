//! A route: a host and a path prefix, and what answers there.

use std::sync::Arc;

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
}

/// What a route is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RouteKind {
    /// A program in a container.
    Program(ProgramRoute),
}

impl Route {
    /// A route for any host. From a [`Program`](crate::engine::Program) alone it is one with the safe defaults.
    pub fn new(path: impl Into<String>, kind: impl Into<RouteKind>) -> Self {
        let mut path = path.into();
        path.truncate(path.trim_end_matches('/').len());
        Self { host: None, path, kind: kind.into() }
    }

    /// The route's name in logs and labels: its host, where it has one, and its path.
    pub fn name(&self) -> Arc<str> {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        format!("{}{path}", self.host.as_deref().unwrap_or_default()).into()
    }

    /// What runs for its requests, where that is a program.
    pub fn program(&self) -> Option<&ProgramRoute> {
        match &self.kind {
            RouteKind::Program(program) => Some(program),
        }
    }
}

impl<T: Into<ProgramRoute>> From<T> for RouteKind {
    fn from(program: T) -> Self {
        Self::Program(program.into())
    }
}
