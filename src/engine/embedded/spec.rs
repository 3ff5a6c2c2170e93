//! From a program and its image to what its containers are to be.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::base::Base;
use super::volume::Volumes;
use crate::engine::agent::Socket;
use crate::engine::sources::{self, Seen, Sources};
use crate::engine::{EngineError, EngineErrorKind, Inside, Network, Program, Volume};
use crate::sandbox::{self, Limits, Machine, PlanError, PlanErrorKind, Root, Spec};

/// What a program's containers are to be.
///
/// # Errors
/// Where the program asks for a network that this engine does not have, a volume's source is not there, or its root
/// directory is none.
pub(super) fn spec(
    program: &Program,
    base: &Base,
    machine: &Machine,
    volumes: &Volumes,
) -> Result<Spec, EngineError> {
    if let Some(why) = program.needs_docker() {
        return Err(EngineError::new(EngineErrorKind::Refused, why));
    }
    let network = match &program.network {
        Network::Host => sandbox::Network::Host,
        Network::None | Network::Bridge | Network::Named(_) => sandbox::Network::Own,
    };
    program.has_command(base.config())?;
    if let (Base::Machine(_), Some(path)) = (base, unseen(program, base)) {
        let folder = path.parent().unwrap_or(&path).display();
        return Err(EngineError::new(
            EngineErrorKind::Refused,
            format!(
                "the program {} lies where nothing of this machine is seen with `rootfs = \"/\"`: mount its directory \
                 (volumes = [\"{folder}:{folder}:ro\"]), or put it below /usr or /opt",
                path.display()
            ),
        ));
    }
    Ok(Spec {
        name: program.made_from(),
        root: base.root(program, machine)?,
        user: program.user.as_ref().unwrap_or(&base.config().user).clone(),
        read_only: program.read_only,
        network,
        listen: listen(program),
        tmpfs: program.tmpfs.clone(),
        volumes: program.volumes.iter().map(|volume| mounted(volume, volumes)).collect::<Result<_, _>>()?,
        image_volumes: base.volumes().to_vec(),
        cap_add: program.cap_add.clone(),
        init: program.init,
        limits: limits(program),
    })
}

/// Where it is to be listened inside.
pub(super) fn listen(program: &Program) -> Vec<SocketAddr> {
    let addresses = program.connect.iter().filter_map(|connect| match &connect.inside {
        Inside::Tcp(address) => Some(*address),
        Inside::Unix(_) => None,
    });
    addresses.collect()
}

/// A socket of dcgi's own, as a file that is seen inside.
///
/// # Errors
/// Where it is not there any more.
pub(super) fn socket(socket: &Socket, target: &str) -> io::Result<sandbox::Volume> {
    let source = socket.path();
    let found = fs::metadata(&source)?;
    Ok(sandbox::Volume {
        identity: sources::identity(&found),
        source,
        target: target.to_owned(),
        read_only: true,
        is_directory: false,
    })
}

/// The program, where it is a file of this machine that is not seen in its containers.
fn unseen(program: &Program, base: &Base) -> Option<PathBuf> {
    let path = PathBuf::from(program.command_line(base.config()).into_iter().next()?);
    let volumes = program.volumes.iter().map(|volume| match volume {
        Volume::Bind { target, .. } | Volume::Named { target, .. } => target,
    });
    let is_elsewhere =
        !sandbox::is_seen(&path) && !volumes.into_iter().any(|target| path.starts_with(target));
    (path.is_absolute() && is_elsewhere && path.is_file()).then_some(path)
}

/// What a program's processes may use.
pub(super) fn limits(program: &Program) -> Limits {
    Limits { memory: program.memory, cpus: program.cpus, pids: program.pids }
}

/// Which directories of this machine a program's containers will see: see [`Sources`](crate::engine::sources::Sources).
pub(super) fn seen(program: &Program, spec: &Spec) -> Seen {
    let root = match &spec.root {
        Root::Image(_) => None,
        Root::Directory { identity, .. } => Some(Some(*identity)),
        Root::Machine { .. } => Some(Sources::look_now(program).first()),
    };
    let is_bind = |(volume, _): &(&Volume, _)| matches!(volume, Volume::Bind { .. });
    let binds = program.volumes.iter().zip(&spec.volumes).filter(is_bind);
    Seen::new(root.into_iter().chain(binds.map(|(_, mounted)| Some(mounted.identity))))
}

/// Where a volume's files are, and where they go.
fn mounted(volume: &Volume, volumes: &Volumes) -> Result<sandbox::Volume, EngineError> {
    let (source, target, read_only, what) = match volume {
        Volume::Bind { source, target, read_only } => {
            (source.clone(), target, read_only, sources::volume(source, target))
        }
        Volume::Named { name, target, read_only } => {
            (volumes.path(name), target, read_only, format!("the volume `{name}`"))
        }
    };
    // Without links: who switches one does not change what is at the end of it.
    let found = fs::canonicalize(&source).and_then(|real| Ok((fs::metadata(&real)?, real)));
    let (found, real) = found.map_err(|error| sources::missing(&what, &source, error))?;
    Ok(sandbox::Volume {
        source: real,
        identity: sources::identity(&found),
        target: target.clone(),
        read_only: *read_only,
        is_directory: found.is_dir(),
    })
}

/// What an engine says of a plan that cannot be made.
impl From<PlanError> for EngineError {
    fn from(error: PlanError) -> Self {
        let kind = match error.kind() {
            PlanErrorKind::Missing => EngineErrorKind::ImageMissing,
            PlanErrorKind::Refused => EngineErrorKind::Refused,
        };
        let (what, source) = error.into_parts();
        let converted = Self::new(kind, what);
        match source {
            Some(source) => converted.because(source),
            None => converted,
        }
    }
}
