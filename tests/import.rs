//! Images that are made from an archive, as the engine has them.

mod common;

use std::io::Read;
use std::time::Duration;

use common::docker::docker;
use dcgi::engine::ImageConfig;
use dcgi::engine::docker::DockerEngine;

/// A repository that no other test uses, whose images go when it is dropped.
struct Repository(String);

impl Repository {
    fn new(name: &str) -> Self {
        Self(format!("dcgi-test/{name}-{}", std::process::id()))
    }

    fn tags(&self) -> Vec<String> {
        let listed = docker(&["image", "ls", "--format", "{{.Tag}}", &self.0]);
        listed.lines().map(str::to_owned).collect()
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        for tag in self.tags() {
            docker(&["image", "rm", &format!("{}:{tag}", self.0)]);
        }
    }
}

/// An archive of one file.
fn archive(content: &str) -> impl Read + Send + use<> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "file", content.as_bytes()).unwrap();
    std::io::Cursor::new(archive.into_inner().unwrap())
}

#[tokio::test]
async fn an_imported_image_says_of_its_program_what_it_was_given() {
    let repository = Repository::new("import");
    let reference = format!("{}:one", repository.0);
    let config = ImageConfig {
        entrypoint: vec!["/bin/a b".into(), "say \"hi\"".into()],
        command: vec!["$HOME".into(), "a\nb".into()],
        working_dir: "/srv/$HOME".into(),
        env: vec!["QUOTED=a \"b\" 'c' $HOME \\ #d".into(), "EMPTY=".into()],
        user: "65534:65534".into(),
    };
    let engine = DockerEngine::connect_with_env().await.unwrap();
    engine.import(archive("content"), &reference, &config).await.unwrap();

    let said = docker(&["image", "inspect", "--format", "{{json .Config}}", &reference]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["Entrypoint"], serde_json::json!(config.entrypoint));
    assert_eq!(said["Cmd"], serde_json::json!(config.command));
    assert_eq!(said["WorkingDir"], config.working_dir);
    assert_eq!(said["User"], config.user);
    let variables: Vec<String> = serde_json::from_value(said["Env"].clone()).unwrap();
    for variable in &config.env {
        assert!(variables.contains(variable), "{variable} is not in {variables:?}");
    }
}

#[tokio::test]
async fn an_archive_that_breaks_off_makes_no_image() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk on fire"))
        }
    }
    let repository = Repository::new("broken");
    let engine = DockerEngine::connect_with_env().await.unwrap();
    let broken = archive(&"x".repeat(1 << 20)).take(1 << 19).chain(Broken);
    let reference = format!("{}:one", repository.0);
    engine.import(broken, &reference, &ImageConfig::default()).await.unwrap_err();
    assert!(repository.tags().is_empty());
    let error = engine.import(archive("x"), &repository.0, &ImageConfig::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("it has no tag"), "{error}");
}

#[tokio::test]
async fn old_images_go_but_for_the_one_to_keep_and_those_in_use() {
    let repository = Repository::new("old");
    let name = |tag: &str| format!("{}:{tag}", repository.0);
    let engine = DockerEngine::connect_with_env().await.unwrap();
    for tag in ["new", "used", "old"] {
        let config = ImageConfig { entrypoint: vec!["/file".into()], ..Default::default() };
        engine.import(archive(tag), &name(tag), &config).await.unwrap();
    }
    let container = docker(&["create", &name("used")]);
    let hour = Duration::from_secs(3600);
    let young = engine.remove_old_images(&repository.0, &name("new"), hour).await.unwrap();
    let removed = engine.remove_old_images(&repository.0, &name("new"), Duration::ZERO).await;
    docker(&["rm", container.trim()]);
    assert!(young.is_empty(), "{young:?}");
    assert_eq!(removed.unwrap(), [name("old")]);
    let mut left = repository.tags();
    left.sort_unstable();
    assert_eq!(left, ["new", "used"]);
}
