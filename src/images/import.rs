//! Images from a root file system's archive, as `docker import` makes them.

use std::io::Read;

use super::archive::End;
use super::compression::decompress;
use super::digest::sha256_hex;
use super::error::StoreError;
use super::image::{ConfigFile, Image, ImageConfig, Layers, Settings};
use super::install::Naming;
use super::{Store, install, platform, reference};

impl Store {
    /// Makes an image of one layer: a tar archive of a root file system, plain or compressed by gzip or Zstandard. It
    /// means the reference from now on. The same archive with the same configuration gives the same id.
    ///
    /// Blocks.
    ///
    /// # Errors
    /// [`Invalid`](super::StoreErrorKind::Invalid) where the archive is damaged, cut, or hostile;
    /// [`Storage`](super::StoreErrorKind::Storage) where the disk is full. Nothing is left behind then.
    pub fn import(
        &self,
        archive: impl Read,
        reference: &str,
        config: ImageConfig,
    ) -> Result<Image, StoreError> {
        let name = reference::key(&reference::parse(reference)?);
        if name.contains('@') {
            let what = format!("`{name}` is a digest: what is imported has none yet");
            return Err(StoreError::new(super::StoreErrorKind::Reference, what));
        }
        let work = self.work()?;
        let image = work.directory("image")?;
        let mut rootfs = install::begin(&image)?;
        let within = |error: StoreError| error.within("the archive");
        let stream = decompress(archive)
            .map_err(|error| within(StoreError::invalid("it cannot be read").because(error)))?;
        let (diff_id, end) = rootfs.apply(stream).map_err(within)?;
        if end == End::Unmarked {
            return Err(within(StoreError::invalid("it is cut short: the mark for its end is missing")));
        }

        let parsed = ConfigFile {
            architecture: platform::ARCHITECTURE.to_owned(),
            os: platform::OS.to_owned(),
            created: None,
            config: Some(Settings {
                user: Some(config.user),
                env: Some(config.env),
                entrypoint: Some(config.entrypoint),
                cmd: Some(config.command),
                working_dir: Some(config.working_dir),
                volumes: None,
            }),
            rootfs: Layers { kind: "layers".to_owned(), diff_ids: vec![format!("sha256:{diff_id}")] },
        };
        let text = serde_json::to_vec(&parsed)
            .map_err(|error| StoreError::invalid("its configuration cannot be written").because(error))?;
        let digits = sha256_hex(&text);
        let _unpacking = self.unpacking(&digits)?;
        install::finish(&image, rootfs, &text, parsed)?;
        std::fs::rename(&image, work.path().join(&digits))
            .map_err(|error| StoreError::storage(format!("cannot make {}", image.display()), error))?;
        self.commit(&work, &digits, Naming::Given(&[name]))
    }
}
