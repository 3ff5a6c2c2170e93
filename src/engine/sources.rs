//! Files and directories of this machine that programs see: are they still what they were?
//!
//! A volume's source may be a link that is switched, or a directory that is renamed over; so may a program's root
//! directory. Whoever keeps containers for the next request asks here first, for each request. Programs without such
//! sources ask nothing.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{EngineError, EngineErrorKind, Invocation, Process, Program, Volume};

/// Which file something is: its device, and its number there. As long as a container sees it, the kernel gives the number
/// to no other.
pub(super) type Identity = (u64, u64);

/// What a program's sources are: its root directory first, then its volumes in their order. Empty where it has none of
/// either; `None` is one that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(Vec<Option<Identity>>);

impl Seen {
    pub(super) fn new(identities: impl IntoIterator<Item = Option<Identity>>) -> Self {
        Self(identities.into_iter().collect())
    }

    /// An error about the sources that were seen as these: whether to look at them again. What was missing then and is now has
    /// not changed.
    pub(super) fn told_of(&self, error: EngineError, now: impl FnOnce() -> Self) -> EngineError {
        let is_changed = error.is_changed() && (self.0.iter().all(Option::is_some) || *self != now());
        error.changed_meanwhile(is_changed)
    }

    /// Whether there is nothing that could be another by now.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first: the root directory, where the program has one.
    pub(super) fn first(&self) -> Option<Identity> {
        self.0.first().copied().flatten()
    }
}

/// Looks at sources.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// A lock a route. A file system that does not answer holds up one thread a route, and no other route.
    looking: Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>,
}

impl Sources {
    /// What a program's sources are now: looked up after this was called, links followed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn look(&self, program: &Program, route: &Arc<str>) -> Seen {
        let paths: Vec<PathBuf> = paths(program).map(Path::to_owned).collect();
        if paths.is_empty() {
            return Seen::default();
        }
        let turn = {
            let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
            match looking.get(route) {
                Some(turn) => turn.clone(),
                None => looking.entry(route.clone()).or_default().clone(),
            }
        };
        let turn = turn.lock_owned().await;
        // Held until it is done, though nobody may wait for it any more.
        let looked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            Seen(paths.iter().map(|path| fs::metadata(path).ok().map(|found| identity(&found))).collect())
        });
        looked.await.unwrap_or_default()
    }

    /// The same at once. Blocks.
    pub(super) fn look_now(program: &Program) -> Seen {
        Seen(paths(program).map(|path| fs::metadata(path).ok().map(|found| identity(&found))).collect())
    }

    /// Whether a program has any.
    fn concern(program: &Program) -> bool {
        paths(program).next().is_some()
    }
}

/// Which file it is.
pub(super) fn identity(found: &fs::Metadata) -> Identity {
    (found.dev(), found.ino())
}

fn paths(program: &Program) -> impl Iterator<Item = &Path> {
    let volumes = program.volumes.iter().filter_map(|volume| match volume {
        Volume::Bind { source, .. } => Some(&**source),
        Volume::Named { .. } => None,
    });
    program.rootfs.as_deref().into_iter().chain(volumes)
}

/// How often a request asks for a container that sees what is there now, and how long it waits in between.
pub(super) const TRIES: u32 = 20;
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The error of a container that would see something else than it is to see: others can be had that see what is there now.
pub(super) fn changed() -> EngineError {
    let what = "a directory that it was to see has changed";
    EngineError::new(EngineErrorKind::Refused, what).changed_meanwhile(true)
}

/// Begins a request in a container that stays, in another one where the first would see what has changed since.
///
/// # Errors
/// Those of `begin`, the last time.
///
/// # Cancel safety
/// As safe as `begin`.
pub(super) async fn begin<B, F>(
    program: &Program,
    mut invocation: Invocation,
    begin: B,
) -> Result<Process, EngineError>
where
    B: Fn(Invocation) -> F,
    F: Future<Output = Result<Process, EngineError>>,
{
    if !Sources::concern(program) {
        return begin(invocation).await;
    }
    let mut tries = 0;
    loop {
        let again = invocation.clone();
        match begin(invocation).await {
            Err(error) if tries < TRIES && error.is_changed() => tokio::time::sleep(PAUSE).await,
            begun => return begun,
        }
        invocation = again;
        tries += 1;
    }
}

/// What to say of a source that cannot be found. `what` names it: "the volume /x". Who has seen it before may look again:
/// where a link is switched by two calls, there is none in between.
pub(super) fn missing(what: &str, path: &Path, error: io::Error) -> EngineError {
    let says = match (error.kind(), fs::read_link(path)) {
        (io::ErrorKind::NotFound, Ok(target)) => {
            format!("{what} is not there: it is a link to {}, which leads nowhere", target.display())
        }
        (io::ErrorKind::NotFound, _) => format!("{what} is not there"),
        _ => format!("{what} cannot be looked at"),
    };
    EngineError::new(EngineErrorKind::Refused, says).because(error).changed_meanwhile(true)
}

/// What messages call a program's root directory.
pub(super) fn root_directory(path: &Path) -> String {
    format!("the root directory {}", path.display())
}

/// What messages call a volume of a directory of this machine.
pub(super) fn volume(source: &Path, target: &str) -> String {
    format!("the volume {} (for {target})", source.display())
}

/// What of a program's sources is not there now. Blocks.
pub(super) fn missing_of(program: &Program) -> Vec<EngineError> {
    let root = program.rootfs.as_deref().map(|path| (root_directory(path), path));
    let volumes = program.volumes.iter().filter_map(|of| match of {
        Volume::Bind { source, target, .. } => Some((volume(source, target), &**source)),
        Volume::Named { .. } => None,
    });
    let is_missing = |(what, path): (String, &Path)| {
        // Who may not look cannot say.
        let error = fs::metadata(path).err().filter(|error| error.kind() == io::ErrorKind::NotFound)?;
        Some(missing(&what, path, error))
    };
    root.into_iter().chain(volumes).filter_map(is_missing).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn program(source: &Path) -> Program {
        let bind = Volume::Bind { source: source.to_owned(), target: "/data".into(), read_only: true };
        let named = Volume::Named { name: "n".into(), target: "/n".into(), read_only: true };
        Program { volumes: vec![named, bind], ..Program::new("x") }
    }

    #[tokio::test]
    async fn a_link_that_is_switched_is_another_source() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["r1", "r2"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let link = folder.path().join("cur");
        let program = program(&link);
        let (sources, route) = (Sources::default(), "/".into());
        let mut seen = vec![sources.look(&program, &route).await];
        for target in ["r1", "r2", "r1"] {
            _ = fs::remove_file(&link);
            symlink(target, &link).unwrap();
            seen.push(sources.look(&program, &route).await);
        }
        assert_eq!(seen[0], Seen(vec![None]));
        assert_eq!(seen[1], seen[3]);
        assert_ne!(seen[1], seen[2]);
        assert_eq!(seen[3], Sources::look_now(&program));
    }

    /// A link is switched by two calls, and between them there is none: whoever has seen one looks again.
    #[test]
    fn what_was_there_and_is_missing_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("cur");
        let program = program(&link);
        let look = || Sources::look_now(&program);
        let error = || missing("the volume x", &link, fs::metadata(&link).unwrap_err());
        let before = look();
        assert!(!before.told_of(error(), look).is_changed(), "it was never there");
        let of_something_else = EngineError::new(EngineErrorKind::Refused, "no");
        let missed = error();
        symlink(".", &link).unwrap();
        let there = look();
        assert!(before.told_of(missed, look).is_changed(), "it has come");
        fs::remove_file(&link).unwrap();
        assert!(there.told_of(error(), look).is_changed(), "it has gone");
        assert!(!there.told_of(of_something_else, look).is_changed(), "another error");
    }

    #[tokio::test]
    async fn who_has_no_sources_of_this_machine_has_nothing_to_look_at() {
        let mut program = program(Path::new("/"));
        program.volumes.pop();
        let sources = Sources::default();
        assert!(sources.look(&program, &"/".into()).await.is_empty());
        assert!(sources.looking.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_missing_is_named_and_a_link_with_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("cur");
        symlink("r1", &link).unwrap();
        let said = |path: &Path| missing("the volume x", path, fs::metadata(path).unwrap_err()).to_string();
        assert_eq!(said(&link), "the volume x is not there: it is a link to r1, which leads nowhere");
        assert_eq!(said(&folder.path().join("none")), "the volume x is not there");
        assert_eq!(said(Path::new("/etc/passwd/x")), "the volume x cannot be looked at");
    }
}
