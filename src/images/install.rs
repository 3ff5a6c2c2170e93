//! From layers to an image of the store.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::compression::decompress;
use super::digest::sha256_hex;
use super::error::StoreError;
use super::image::{ConfigFile, Image, Record};
use super::lock::Lock;
use super::reference::{self, Entry};
use super::rootfs::{BOUNDS, Rootfs};
use super::taken_over::{self, EnginesName, Stoppable};
use super::work::Work;
use super::{Store, platform, sync};

/// Configurations are a few kilobytes.
pub(super) const LARGEST_CONFIG: u64 = 8 << 20;

/// What an image is to be called once it is in its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Naming<'a> {
    /// By these names, complete, whatever they have meant before: somebody wants it so.
    Given(&'a [String]),
    /// As a container engine calls it.
    TakenOver(EnginesName<'a>),
}

impl Store {
    /// Unpacks an image, unless it is there already, and gives it names. `layers` are files, compressed or not, the lowest
    /// first. Waits where another process unpacks the same image.
    pub(super) fn install(
        &self,
        work: &Work,
        config: &[u8],
        layers: &[PathBuf],
        naming: Naming<'_>,
    ) -> Result<Image, StoreError> {
        let digits = sha256_hex(config);
        let parsed = ConfigFile::parse(config)?;
        platform::check(&parsed.os, &parsed.architecture)?;
        if parsed.rootfs.diff_ids.len() != layers.len() {
            let (said, found) = (parsed.rootfs.diff_ids.len(), layers.len());
            return Err(StoreError::invalid(format!(
                "its configuration has {said} layers, and it has {found}"
            )));
        }
        let _unpacking = self.unpacking(&digits)?;
        if !self.image_path(&digits).exists() {
            let image = work.directory(&digits)?;
            let stop = match naming {
                Naming::Given(_) => None,
                Naming::TakenOver(naming) => {
                    taken_over::mark(&image, &naming)?;
                    Some(naming.stop)
                }
            };
            let mut rootfs = begin(&image)?;
            for (layer, diff_id) in layers.iter().zip(&parsed.rootfs.diff_ids) {
                let file = File::open(layer).map_err(|error| {
                    StoreError::storage(format!("cannot read {}", layer.display()), error)
                })?;
                unpack(&mut rootfs, Stoppable::new(file, stop), diff_id)?;
            }
            finish(&image, rootfs, config, parsed)?;
        }
        self.commit(work, &digits, naming)
    }

    /// The lock under which an image is unpacked.
    pub(super) fn unpacking(&self, digits: &str) -> Result<Lock, StoreError> {
        let path = self.path("locks").join(digits);
        Lock::passing(&path)
            .map_err(|error| StoreError::storage(format!("cannot lock {}", path.display()), error))
    }

    /// Puts an image that is whole in `work` into its place, unless one is there, and gives it names.
    pub(super) fn commit(&self, work: &Work, digits: &str, naming: Naming<'_>) -> Result<Image, StoreError> {
        let _changing = self.lock()?;
        let (from, to) = (work.path().join(digits), self.image_path(digits));
        if !to.exists() {
            fs::rename(&from, &to)
                .map_err(|error| StoreError::storage(format!("cannot make {}", to.display()), error))?;
            sync(&self.path("images"))?;
        }
        let folder = self.path("references");
        let image = format!("sha256:{digits}");
        let first = match naming {
            Naming::Given(names) => {
                taken_over::unmark(&to)?;
                for name in names {
                    let entry = Entry { reference: name.clone(), image: image.clone(), taken_over: None };
                    reference::write(&folder, work, &entry)?;
                }
                names.first().cloned()
            }
            Naming::TakenOver(naming) => naming.write(&folder, work, image)?,
        };
        sync(&folder)?;
        // Before anyone can remove it.
        let image = self.image(digits, first)?;
        image.ok_or_else(|| {
            StoreError::storage(
                format!("{} is damaged", to.display()),
                io::Error::from(io::ErrorKind::NotFound),
            )
        })
    }
}

/// The empty root file system of an image in the making.
pub(super) fn begin(image: &Path) -> Result<Rootfs, StoreError> {
    let rootfs = image.join("rootfs");
    fs::create_dir(&rootfs)
        .map_err(|error| StoreError::storage(format!("cannot make {}", rootfs.display()), error))?;
    Rootfs::new(&rootfs, BOUNDS)
}

/// Applies one layer, which must be the one that is expected.
fn unpack(rootfs: &mut Rootfs, layer: impl Read, diff_id: &str) -> Result<(), StoreError> {
    let within = |error: StoreError| error.within(format_args!("layer {}", diff_id.escape_debug()));
    let stream =
        decompress(layer).map_err(|error| within(StoreError::invalid("it cannot be read").because(error)))?;
    // What the digest vouches for is whole: whether it ends in the mark for it does not matter.
    let (digest, _) = rootfs.apply(stream).map_err(within)?;
    if diff_id.strip_prefix("sha256:") != Some(&digest) {
        return Err(within(StoreError::invalid(format!("its content is sha256:{digest}"))));
    }
    Ok(())
}

/// Makes an image whole, and waits until it is on the disk.
pub(super) fn finish(
    image: &Path,
    mut rootfs: Rootfs,
    config: &[u8],
    parsed: ConfigFile,
) -> Result<(), StoreError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut about = parsed.about(Record { size: 0, imported: now.as_secs() });
    let working_dir = &about.config.working_dir;
    rootfs.make_mount_points(about.volumes.iter().chain([working_dir]).map(String::as_str))?;
    about.record.size = rootfs.finish()?;

    let failed = |error: io::Error| StoreError::storage(format!("cannot write {}", image.display()), error);
    fs::write(image.join("config.json"), config).map_err(failed)?;
    let record = serde_json::to_vec(&about.record).map_err(|error| failed(error.into()))?;
    fs::write(image.join("image.json"), record).map_err(failed)?;
    File::create(image.join("lease")).map_err(failed)?;
    // One call for thousands of files.
    let image = File::open(image).map_err(failed)?;
    rustix::fs::syncfs(&image).map_err(|error| failed(error.into()))
}
