//! What containers are made from: an image of the store, a directory, or this machine itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::sources::{self, Identity, Seen};
use crate::engine::{EngineError, EngineErrorKind, ImageConfig, Program, Volume};
use crate::images::Image;
use crate::sandbox::{Machine, Root, Rootfs, User};

/// How long it is believed what of this machine is hidden.
const BELIEVED_FOR: Duration = Duration::from_secs(3);

/// The same while it is looked at anew, which takes long where `/opt` is large.
const BELIEVED_FOR_WHILE_LOOKING: Duration = Duration::from_secs(30);

/// How long after its last use that is looked at ahead of the next one.
const USED_FOR: Duration = Duration::from_secs(60);

/// What has to be there for a directory to be taken for a root file system: any of these.
const OF_A_ROOT: [&str; 3] = ["/bin", "/usr", "/etc"];

/// A directory says nothing of a program.
static NOTHING: ImageConfig = ImageConfig {
    entrypoint: Vec::new(),
    command: Vec::new(),
    working_dir: String::new(),
    env: Vec::new(),
    user: String::new(),
};

/// What one program's containers are made from.
#[derive(Clone, Debug)]
pub(super) enum Base {
    Image(Image),
    /// The program says which; it was this one. `None`: it was not there.
    Directory(Option<Identity>),
    /// This machine, with what is hidden of it.
    Machine(Arc<Vec<PathBuf>>),
}

/// By what it is, not by its name.
impl PartialEq for Base {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Image(own), Self::Image(other)) => own.id() == other.id(),
            (Self::Directory(own), Self::Directory(other)) => own == other,
            (Self::Machine(own), Self::Machine(other)) => own == other,
            _ => false,
        }
    }
}

impl Base {
    /// What it says of the program in it.
    pub(super) fn config(&self) -> &ImageConfig {
        match self {
            Self::Image(image) => image.config(),
            Self::Directory(_) | Self::Machine(_) => &NOTHING,
        }
    }

    /// The directories that it declares as volumes.
    pub(super) fn volumes(&self) -> &[String] {
        match self {
            Self::Image(image) => image.volumes(),
            Self::Directory(_) | Self::Machine(_) => &[],
        }
    }

    /// Which one it is, among those that a program has had: see [`Seen`] for directories.
    pub(super) fn id(&self) -> String {
        match self {
            Self::Image(image) => image.id().to_owned(),
            Self::Directory(_) => String::new(),
            Self::Machine(hidden) => hidden.iter().map(|path| format!("{}\n", path.display())).collect(),
        }
    }

    /// What becomes the root. Blocks.
    ///
    /// # Errors
    /// Where the directory is not there, or is no root file system.
    pub(super) fn root(&self, program: &Program, machine: &Machine) -> Result<Root, EngineError> {
        match self {
            Self::Image(image) => Ok(Root::Image(image.rootfs().to_owned())),
            Self::Machine(hidden) => {
                let mut hidden: Vec<_> =
                    machine.hidden_of(&program.hidden).into_iter().chain(hidden.iter().cloned()).collect();
                hidden.sort();
                hidden.dedup();
                let all = hidden.clone();
                hidden.retain(|path| !path.ancestors().skip(1).any(|above| all.iter().any(|at| at == above)));
                Ok(Root::Machine { hidden })
            }
            Self::Directory(seen) => {
                let path = program.rootfs.as_deref().unwrap_or(Path::new("/"));
                let (path, identity) = root_directory(path, program)?;
                // SECURITY: it may be this machine's root by now, of which nothing would be hidden.
                if *seen != Some(identity) {
                    return Err(sources::changed());
                }
                Ok(Root::Directory { path, identity })
            }
        }
    }

    /// The files with which new named volumes begin.
    ///
    /// SECURITY: none of this machine's. They would be copied with dcgi's own rights, hidden ones too.
    ///
    /// # Errors
    /// Where they cannot be opened, or a directory is another by now.
    pub(super) fn files(&self, program: &Program) -> Result<Option<Rootfs>, EngineError> {
        let opened = |path: &Path| {
            Rootfs::open(path).map_err(|error| {
                let what = format!("opening {}", path.display());
                EngineError::new(EngineErrorKind::Refused, what).because(error)
            })
        };
        match self {
            Self::Image(image) => opened(image.rootfs()).map(Some),
            Self::Directory(seen) => {
                let Some(path) = &program.rootfs else { return Ok(None) };
                let root = opened(path)?;
                if root.identity().ok() != *seen {
                    return Err(sources::changed());
                }
                Ok(Some(root))
            }
            Self::Machine(_) => Ok(None),
        }
    }
}

/// A directory that is a root file system as far as can be told from outside: its real path, and which it is.
fn root_directory(path: &Path, program: &Program) -> Result<(PathBuf, Identity), EngineError> {
    let what = sources::root_directory(path);
    let refused = |why: &str| EngineError::new(EngineErrorKind::Refused, format!("{what} {why}"));
    let found = fs::canonicalize(path).and_then(|real| Ok((fs::metadata(&real)?, real)));
    let (metadata, real) = found.map_err(|error| sources::missing(&what, path, error))?;
    if !metadata.is_dir() {
        return Err(refused("is a file: `rootfs` is a directory that holds a root file system"));
    }
    let rootfs = Rootfs::open(&real).map_err(|error| refused("cannot be opened").because(error))?;
    let is_program = |name: &String| Path::new(name).is_absolute() && rootfs.has(name);
    let is_root = OF_A_ROOT.iter().any(|folder| rootfs.has(folder))
        || program.command_line(&NOTHING).first().is_some_and(is_program);
    if !is_root {
        let is_empty = fs::read_dir(&real).is_ok_and(|mut entries| entries.next().is_none());
        return Err(refused(match is_empty {
            true => "is empty: unpack a root file system there, or name another in `rootfs`",
            false => {
                "is no root file system: it has no /bin, /usr or /etc, and not the program either; name the directory \
                 that holds them in `rootfs`"
            }
        }));
    }
    if let Some(interpreter) = missing_interpreter(&rootfs, program) {
        return Err(refused(&format!(
            "has no {interpreter}, which `{}` names in its first line: it is not there, or a link that leads nowhere",
            program.command_line(&NOTHING).join(" ")
        )));
    }
    Ok((real, sources::identity(&metadata)))
}

/// Who a program in a root directory is, and what can be seen to be wrong with it before it is asked for. Blocks.
pub(super) fn survey(program: &Program) -> (Option<User>, Vec<EngineError>) {
    let Some(path) = &program.rootfs else { return (None, Vec::new()) };
    let root = match path == Path::new("/") {
        true => Root::Machine { hidden: Vec::new() },
        false => match root_directory(path, program) {
            Ok((path, identity)) => Root::Directory { path, identity },
            Err(error) => return (None, vec![error]),
        },
    };
    let what = sources::root_directory(path);
    let rootfs = match crate::sandbox::opened(&root, &what) {
        Ok(rootfs) => rootfs,
        Err(error) => return (None, vec![error.into()]),
    };
    let command_line = program.command_line(&NOTHING);
    // By a link it may lie in a volume; and who may not look cannot say.
    let missing = command_line.first().filter(|name| {
        name.starts_with('/')
            && !rootfs.has(name)
            && !is_in_volume(program, name)
            && rootfs.is_plain(name)
            && rustix::process::geteuid().is_root()
    });
    let missing = missing.map(|name| {
        let is_hidden = matches!(root, Root::Machine { .. }) && Path::new(name).exists();
        let why = match is_hidden {
            true => "which lies where nothing of this machine is seen: mount its directory with `volumes`",
            false => "which `command` (or `entrypoint`) names: name it by its path in there",
        };
        EngineError::new(EngineErrorKind::Refused, format!("{what} has no {name}, {why}"))
    });
    let user = crate::sandbox::user_of(&root, &what, &rootfs, program.user.as_deref().unwrap_or_default());
    let (user, unknown) = match user {
        Ok(user) => (Some(user), None),
        Err(error) => (None, Some(error.into())),
    };
    (user, missing.into_iter().chain(unknown).collect())
}

/// Whether a path is in a program's volume.
fn is_in_volume(program: &Program, path: &str) -> bool {
    program.volumes.iter().any(|volume| match volume {
        Volume::Bind { target, .. } | Volume::Named { target, .. } => Path::new(path).starts_with(target),
    })
}

/// Whether a path is in what a program has mounted.
fn is_mounted(program: &Program, path: &str) -> bool {
    let mut in_memory = program.tmpfs.iter().map(|target| target.split(':').next().unwrap_or(target));
    is_in_volume(program, path) || in_memory.any(|target| Path::new(path).starts_with(target))
}

/// What the program's `#!` line names and the root file system has not. Of what lies in a volume nothing is said here.
fn missing_interpreter(rootfs: &Rootfs, program: &Program) -> Option<String> {
    let command_line = program.command_line(&NOTHING);
    let script = rootfs.read(command_line.first().filter(|name| name.starts_with('/'))?)?;
    let interpreter = script.strip_prefix("#!")?.lines().next()?.split_ascii_whitespace().next()?;
    let is_in_root = interpreter.starts_with('/')
        && ![interpreter, &*command_line[0]].iter().any(|path| is_mounted(program, path));
    (is_in_root && !rootfs.has(interpreter)).then(|| interpreter.to_owned())
}

/// This machine as a root, looked at for many requests at once.
#[derive(Debug, Default)]
pub(super) struct Watched {
    machine: Arc<Machine>,
    known: tokio::sync::Mutex<Option<Known>>,
    /// Whether it is looked ahead of the next request. That may take long, and requests go by what is known meanwhile.
    looking: AtomicBool,
}

#[derive(Debug)]
struct Known {
    looked: Instant,
    used: Instant,
    hidden: Arc<Vec<PathBuf>>,
}

impl Watched {
    /// For what blocks.
    pub(super) fn machine(&self) -> Arc<Machine> {
        self.machine.clone()
    }

    /// Whether a program's root directory, which is what was seen, is this machine's root, by whatever path.
    pub(super) fn is_root(program: &Program, seen: &Seen) -> bool {
        let is_slash = program.rootfs.as_deref() == Some(Path::new("/"));
        // SECURITY: not by its name alone. A link, or a mount of it elsewhere, would show all of it.
        is_slash
            || program.rootfs.is_some()
                && fs::metadata("/").is_ok_and(|root| seen.first() == Some(sources::identity(&root)))
    }

    /// What is hidden of it, as of the last few seconds. `own` is dcgi's.
    pub(super) async fn hidden(&self, own: &Arc<Vec<PathBuf>>) -> Arc<Vec<PathBuf>> {
        let mut known = self.known.lock().await;
        let is_believed = |known: &&mut Known| {
            // SECURITY: not for ever. What is looked at may hang, a file system of another machine's, and what is put into
            // `/etc` meanwhile is not to be seen.
            let believed_for = match self.looking.load(Ordering::Relaxed) {
                true => BELIEVED_FOR_WHILE_LOOKING,
                false => BELIEVED_FOR,
            };
            known.looked.elapsed() < believed_for
        };
        if let Some(known) = known.as_mut().filter(is_believed) {
            known.used = Instant::now();
            return known.hidden.clone();
        }
        let hidden = self.look(own).await;
        *known = Some(Known { looked: Instant::now(), used: Instant::now(), hidden: hidden.clone() });
        hidden
    }

    /// Looks ahead of the next request, where there was one of late, and nobody does.
    pub(super) async fn refresh(&self, own: &Arc<Vec<PathBuf>>) {
        let is_used = self.known.lock().await.as_ref().is_some_and(|known| known.used.elapsed() < USED_FOR);
        if !is_used || self.looking.swap(true, Ordering::Relaxed) {
            return;
        }
        let hidden = self.look(own).await;
        if let Some(known) = self.known.lock().await.as_mut() {
            (known.hidden, known.looked) = (hidden, Instant::now());
        }
        self.looking.store(false, Ordering::Relaxed);
    }

    async fn look(&self, own: &Arc<Vec<PathBuf>>) -> Arc<Vec<PathBuf>> {
        let (machine, own) = (self.machine.clone(), own.clone());
        let looking = tokio::task::spawn_blocking(move || {
            let mut hidden = machine.hidden();
            hidden.extend(machine.hidden_of(&*own));
            hidden.sort();
            hidden.dedup();
            hidden
        });
        // SECURITY: where that panics, all is hidden rather than nothing.
        Arc::new(looking.await.unwrap_or_else(|_| vec!["/etc".into(), "/opt".into()]))
    }
}

/// What of dcgi's own lies where its environment says: `DCGI_STORE` and the like.
pub(super) fn own_paths(store: &Path) -> Vec<PathBuf> {
    let named = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DCGI_"));
    let paths = named.map(|(_, value)| PathBuf::from(value)).filter(|path| path.is_absolute());
    [store.to_owned()].into_iter().chain(paths).collect()
}
