//! Images that are made from a root file system instead of pulled.

use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use bollard::models::ImageSummary;
use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::DockerEngine;
use crate::engine::{EngineError, EngineErrorKind, ImageConfig};

/// How much of an archive is read at once, and how many such pieces wait for the engine.
const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 2;

impl DockerEngine {
    /// Makes an image of one layer from a tar archive of its root file system, under a reference with a tag. An image
    /// that had the reference loses it.
    ///
    /// The archive is read on a thread of its own, as fast as the engine takes it.
    ///
    /// # Errors
    /// The reference has no tag, a variable of the configuration holds a line break, the archive cannot be read, or
    /// the engine refuses.
    ///
    /// # Cancel safety
    /// Dropped, the archive is cut. The engine makes no image of a part.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        reference: &str,
        config: &ImageConfig,
    ) -> Result<(), EngineError> {
        let refused = |why: &str| {
            EngineError::new(EngineErrorKind::Refused, format!("image `{reference}` cannot be made: {why}"))
        };
        let (repository, tag) = reference.rsplit_once(':').ok_or_else(|| refused("it has no tag"))?;
        let changes = changes(config).ok_or_else(|| refused("its configuration holds a line break"))?;
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .changes(changes)
            .build();
        let body = bollard::body_try_stream(pieces(archive));
        let mut steps = Box::pin(self.shared.docker.create_image(Some(options), Some(body), None));
        while let Some(step) = steps.next().await {
            if let Err(error) = step {
                let what = format!("image `{reference}` cannot be made");
                return Err(self.shared.failure(error, what).await);
            }
        }
        self.shared.images.forget(reference);
        Ok(())
    }

    /// Removes the images of a repository that were made longer than `age` ago, but for the reference `keep` and for
    /// those that a container uses. Gives the references that are gone.
    ///
    /// # Errors
    /// The engine does not list its images. One that it does not remove is left.
    pub async fn remove_old_images(
        &self,
        repository: &str,
        keep: &str,
        age: Duration,
    ) -> Result<Vec<String>, EngineError> {
        let filters = std::collections::HashMap::from([("reference", vec![repository])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = match self.shared.docker.list_images(Some(options)).await {
            Ok(images) => images,
            Err(error) => return Err(self.shared.failure(error, "listing images").await),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut removed = Vec::new();
        for reference in images.iter().flat_map(|image| outdated(image, repository, keep, now, age)) {
            // Without force: the engine keeps what is in use.
            match self.shared.docker.remove_image(reference, None::<RemoveImageOptions>, None).await {
                Ok(_) => removed.push(reference.to_owned()),
                Err(error) => tracing::debug!(image = reference, %error, "an old image stays"),
            }
        }
        Ok(removed)
    }
}

/// The references of an image that is too old.
fn outdated<'a>(
    image: &'a ImageSummary,
    repository: &'a str,
    keep: &'a str,
    now: Duration,
    age: Duration,
) -> impl Iterator<Item = &'a str> {
    let made = Duration::from_secs(u64::try_from(image.created).unwrap_or_default());
    let is_old = now.saturating_sub(made) > age;
    image.repo_tags.iter().map(String::as_str).filter(move |reference| {
        let of_repository = reference.rsplit_once(':').is_some_and(|(name, _)| name == repository);
        is_old && of_repository && *reference != keep
    })
}

/// A configuration as a Dockerfile's instructions, which is how an import takes it. `None` where a value would end
/// its line.
fn changes(config: &ImageConfig) -> Option<Vec<String>> {
    // Lists are JSON, in which a line break has an escape.
    let list = |words: &[String]| serde_json::to_string(words).expect("words are plain JSON");
    let mut changes = Vec::new();
    if !config.entrypoint.is_empty() {
        changes.push(format!("ENTRYPOINT {}", list(&config.entrypoint)));
    }
    if !config.command.is_empty() {
        changes.push(format!("CMD {}", list(&config.command)));
    }
    if !config.working_dir.is_empty() {
        changes.push(format!("WORKDIR {}", quoted(&config.working_dir)));
    }
    if !config.user.is_empty() {
        changes.push(format!("USER {}", quoted(&config.user)));
    }
    for variable in &config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        changes.push(format!("ENV {name}=\"{}\"", quoted(value)));
    }
    changes.iter().all(|change| !change.contains(['\n', '\r'])).then_some(changes)
}

/// A value in which the Dockerfile's parser finds nothing to expand.
fn quoted(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        if matches!(c, '\\' | '"' | '$') {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

/// What a blocking reader gives, piece by piece.
pub(super) fn pieces(
    mut source: impl Read + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = BytesMut::zeroed(CHUNK);
            let read = match source.read(&mut piece) {
                Ok(0) => return,
                Ok(read) => Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let ended = read.is_err();
            let piece = read.map(|read| piece.split_to(read).freeze());
            if sender.blocking_send(piece).is_err() || ended {
                return;
            }
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_becomes_instructions_that_expand_nothing() {
        let config = ImageConfig {
            entrypoint: vec!["/bin/a".into(), "say \"hi\"\n".into()],
            command: vec!["x".into()],
            working_dir: "/srv/$HOME".into(),
            env: vec!["A=b \"c\" $d\\".into()],
            user: "1:2".into(),
        };
        let expected = [
            r#"ENTRYPOINT ["/bin/a","say \"hi\"\n"]"#,
            r#"CMD ["x"]"#,
            r"WORKDIR /srv/\$HOME",
            "USER 1:2",
            r#"ENV A="b \"c\" \$d\\""#,
        ];
        assert_eq!(changes(&config).unwrap(), expected);
    }

    #[test]
    fn a_value_with_a_line_break_is_no_way_to_another_instruction() {
        let config = ImageConfig { env: vec!["A=b\nUSER 0".into()], ..Default::default() };
        assert_eq!(changes(&config), None);
    }

    #[test]
    fn only_old_images_of_the_same_repository_are_outdated() {
        let image = |created, tags: &[&str]| ImageSummary {
            created,
            repo_tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Default::default()
        };
        let now = Duration::from_secs(1000);
        let age = Duration::from_secs(100);
        let found = |image: &ImageSummary| {
            outdated(image, "a/b", "a/b:new", now, age).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(found(&image(899, &["a/b:1", "a/b:new", "a/bc:1", "x/a/b:1"])), ["a/b:1"]);
        assert!(found(&image(901, &["a/b:1"])).is_empty());
    }

    #[tokio::test]
    async fn an_archive_that_cannot_be_read_is_an_error_and_not_an_end() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk on fire"))
            }
        }
        let read: Vec<_> = pieces(b"begun".chain(Broken)).collect().await;
        assert_eq!(read[0].as_ref().unwrap(), "begun");
        assert_eq!(read[1].as_ref().unwrap_err().to_string(), "disk on fire");
        assert_eq!(read.len(), 2);
    }
}
