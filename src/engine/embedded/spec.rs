//! From a program and its image to what its containers are to be.

use std::fs;

use super::volume::Volumes;
use crate::engine::{EngineError, EngineErrorKind, Network, Program, Volume};
use crate::images::Image;
use crate::sandbox::{self, Limits, PlanError, PlanErrorKind, Spec};

/// What a program's containers are to be.
///
/// # Errors
/// Where the program asks for a network that this engine does not have, or a volume's source is not there.
pub(super) fn spec(program: &Program, image: &Image, volumes: &Volumes) -> Result<Spec, EngineError> {
    let network = match &program.network {
        Network::None => sandbox::Network::Own,
        Network::Host => sandbox::Network::Host,
        network @ (Network::Bridge | Network::Named(_)) => {
            let what = format!(
                "the embedded engine has no network `{}`: it knows `none` and `host`; use engine = \"docker\"",
                network.as_str()
            );
            return Err(EngineError::new(EngineErrorKind::Refused, what));
        }
    };
    Ok(Spec {
        name: format!("image `{}`", program.image),
        root: image.rootfs().to_owned(),
        user: program.user.as_ref().unwrap_or(&image.config().user).clone(),
        read_only: program.read_only,
        network,
        tmpfs: program.tmpfs.clone(),
        volumes: program.volumes.iter().map(|volume| seen(volume, volumes)).collect::<Result<_, _>>()?,
        image_volumes: image.volumes().to_vec(),
        cap_add: program.cap_add.clone(),
        init: program.init,
        limits: limits(program),
    })
}

/// What a program's processes may use.
pub(super) fn limits(program: &Program) -> Limits {
    Limits { memory: program.memory, cpus: program.cpus, pids: program.pids }
}

/// Where a volume's files are, and where they go.
fn seen(volume: &Volume, volumes: &Volumes) -> Result<sandbox::Volume, EngineError> {
    let (source, target, read_only, is_directory) = match volume {
        Volume::Bind { source, target, read_only } => {
            let found = fs::metadata(source).map_err(|error| {
                let what = format!("finding the volume {}", source.display());
                EngineError::new(EngineErrorKind::Refused, what).because(error)
            })?;
            (source.clone(), target, read_only, found.is_dir())
        }
        Volume::Named { name, target, read_only } => (volumes.path(name), target, read_only, true),
    };
    Ok(sandbox::Volume { source, target: target.clone(), read_only: *read_only, is_directory })
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
