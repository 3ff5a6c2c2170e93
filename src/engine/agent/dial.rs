//! Where an agent dials in: a socket in a directory of its own, and a word to say there.
//!
//! # Security
//! The directories lie below one that nobody but us may enter; a container has only its own mounted. When its agent has
//! come, or has not come in time, socket and directory are removed: a program finds nothing to dial.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use crate::instance::{Instance, Liveness};

/// The socket's name in its directory.
const SOCKET: &str = "agent.sock";

/// How long whoever connects may take to say the word.
const PATIENCE: Duration = Duration::from_secs(1);

/// A directory of this instance's, for sockets. Removed on drop.
#[derive(Debug)]
pub(in crate::engine) struct RuntimeDir(PathBuf);

impl RuntimeDir {
    /// Makes it, and removes those of instances that are dead.
    ///
    /// It is below `DCGI_RUNTIME_DIR`, else below `/run/dcgi` for root, else below `$XDG_RUNTIME_DIR/dcgi` or a
    /// directory for temporary files.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(in crate::engine) fn new(instance: &Instance) -> io::Result<Self> {
        let base = base();
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", base.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&base).map_err(at)?;
        lets_nobody_in(&base).map_err(at)?;
        Self::sweep(instance).map_err(at)?;
        // One process may have more engines than one.
        let own = base.join(instance.label());
        match DirBuilder::new().mode(0o700).create(&own) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_ours(&own).map_err(at)?,
            result => result.map_err(at)?,
        }
        Ok(Self(own))
    }

    /// Removes those of instances that are dead.
    ///
    /// # Errors
    /// Where nobody can say which there are.
    pub(in crate::engine) fn sweep(instance: &Instance) -> io::Result<()> {
        for entry in fs::read_dir(base())?.flatten() {
            let other = entry.file_name().to_str().and_then(Instance::parse);
            if other.is_some_and(|other| instance.liveness_of(&other) == Liveness::Dead) {
                _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // Where another engine still has something in it, it stays.
        _ = fs::remove_dir(&self.0);
    }
}

/// SECURITY: who may rename what is in the directory could put sockets of his own in our directory's place, to which
/// containers then speak. Somebody else may have made it, or a link there, where it is in one for temporary files.
fn lets_nobody_in(base: &Path) -> io::Result<()> {
    let is_named = std::env::var_os("DCGI_RUNTIME_DIR").is_some_and(|path| !path.is_empty());
    let found = if is_named { fs::metadata(base)? } else { fs::symlink_metadata(base)? };
    let is_owner_trusted = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    // In one that is sticky, nobody renames what is another's.
    let may_others = found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0;
    if found.is_dir() && is_owner_trusted && !may_others {
        return Ok(());
    }
    Err(io::Error::other(
        "others may change what is in it, so it is no place for dcgi's sockets: remove it, or name a directory of this user's, of \
         mode 0700, by DCGI_RUNTIME_DIR",
    ))
}

/// SECURITY: where everybody may make directories, somebody else may have made this one, to change what is in it.
fn is_ours(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let is_ours = found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.permissions().mode() & 0o077 == 0;
    is_ours
        .then_some(())
        .ok_or_else(|| io::Error::other("somebody else has made the directory for sockets there"))
}

fn base() -> PathBuf {
    if let Some(named) = std::env::var_os("DCGI_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        return named.into();
    }
    if rustix::process::geteuid().is_root() {
        return "/run/dcgi".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        Some(path) => Path::new(&path).join("dcgi"),
        None => std::env::temp_dir().join(format!("dcgi-{}", rustix::process::geteuid().as_raw())),
    }
}

/// A socket that listens in a directory of its own. Dropped, both are removed.
#[derive(Debug)]
pub(in crate::engine) struct Socket {
    listener: UnixListener,
    folder: PathBuf,
}

impl Socket {
    /// # Errors
    /// Where it cannot be made.
    pub(in crate::engine) fn open(within: &RuntimeDir) -> io::Result<Self> {
        let name = uuid::Uuid::now_v7().simple().to_string();
        let folder = within.0.join(name);
        // The container's user may be anybody. What is above lets nobody else in.
        // Another engine of this process may have ended, or somebody tidied up: what is above is made again.
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        // A socket's own path has 107 bytes, unix(7): as many as it takes to get here may be gone.
        let bound = fs::File::open(&folder).and_then(|opened| {
            let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()))?;
            fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
            fs::set_permissions(folder.join(SOCKET), Permissions::from_mode(0o666))?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self { listener, folder }),
            Err(error) => {
                _ = fs::remove_dir_all(&folder);
                Err(error)
            }
        }
    }

    /// Waits for whoever connects.
    ///
    /// # Errors
    /// Where the kernel accepts nobody.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(in crate::engine) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Where it is.
    pub(in crate::engine) fn path(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// A socket that one agent is to dial.
#[derive(Debug)]
pub(in crate::engine) struct Door {
    socket: Socket,
    token: String,
}

impl Door {
    /// # Errors
    /// Where the socket cannot be made.
    pub(in crate::engine) fn open(within: &RuntimeDir) -> io::Result<Self> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { socket: Socket::open(within)?, token })
    }

    /// What is to be mounted into the container.
    pub(in crate::engine) fn folder(&self) -> &Path {
        &self.socket.folder
    }

    /// The socket's name in it.
    pub(in crate::engine) fn socket_name() -> &'static str {
        SOCKET
    }

    /// What the agent is to say.
    pub(in crate::engine) fn token(&self) -> &str {
        &self.token
    }

    /// Waits for the agent. Whoever says something else, or nothing, is sent away.
    ///
    /// # Errors
    /// Where the kernel accepts nobody.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(in crate::engine) async fn agent(&self) -> io::Result<UnixStream> {
        loop {
            let mut stream = self.socket.accept().await?;
            let mut said = vec![0; self.token.len() + 1];
            let heard = tokio::time::timeout(PATIENCE, stream.read_exact(&mut said)).await;
            match heard {
                Ok(Ok(_)) if said.strip_suffix(b"\n") == Some(self.token.as_bytes()) => return Ok(stream),
                _ => tracing::warn!("somebody who is no agent of ours has dialled in, and was sent away"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn runtime_dir() -> (tempfile::TempDir, RuntimeDir) {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        (folder, RuntimeDir(own))
    }

    async fn dialled(door: &Door, words: &str) -> UnixStream {
        let mut stream = UnixStream::connect(door.folder().join(SOCKET)).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn only_who_knows_the_word_is_let_in() {
        let (_folder, within) = runtime_dir();
        let door = Door::open(&within).unwrap();
        let wrong = "0".repeat(door.token().len());
        let _wrong = dialled(&door, &format!("{wrong}\n")).await;
        let _unended = dialled(&door, &format!("{}x", door.token())).await;
        drop(dialled(&door, "half").await);
        let mut right = dialled(&door, &format!("{}\n", door.token())).await;
        let mut agent = door.agent().await.unwrap();
        right.write_all(b"here").await.unwrap();
        let mut heard = [0; 4];
        agent.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"here");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_does_not_keep_the_agent_out() {
        let (_folder, within) = runtime_dir();
        let door = Door::open(&within).unwrap();
        let _silent = dialled(&door, "").await;
        let _agent = dialled(&door, &format!("{}\n", door.token())).await;
        door.agent().await.unwrap();
    }

    #[tokio::test]
    async fn a_door_may_be_far_down() {
        let (folder, _) = runtime_dir();
        let deep = folder.path().join("a".repeat(100)).join("b".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        Door::open(&RuntimeDir(deep)).unwrap();
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_door() {
        let (_folder, within) = runtime_dir();
        let door = Door::open(&within).unwrap();
        let folder = door.folder().to_owned();
        assert!(folder.exists());
        drop(door);
        assert!(!folder.exists());
        let own = within.0.clone();
        drop(within);
        assert!(!own.exists());
    }
}
