//! The store as a whole: archives in, images out, and nothing left behind.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Barrier;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::digest::sha256_hex;
use super::rootfs::tests::Layer;
use super::taken_over::EnginesName;
use super::*;
use crate::reason::Reason;

const NOTHING: [PathBuf; 0] = [];

/// A store in a directory of its own.
struct Place {
    folder: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        Self { folder, store }
    }

    /// What there is beside whole images.
    fn leftovers(&self) -> Vec<PathBuf> {
        let names = |folder: &str| {
            fs::read_dir(self.folder.path().join("store").join(folder))
                .unwrap()
                .map(|entry| entry.unwrap().path())
        };
        names("work").chain(names("locks")).collect()
    }

    #[track_caller]
    fn is_empty(&self) {
        assert_eq!(self.leftovers(), NOTHING);
        assert_eq!(self.store.ls().unwrap(), []);
        assert_eq!(fs::read_dir(self.store.root().join("references")).unwrap().count(), 0);
    }
}

fn rootfs() -> Layer {
    Layer::default().directory("bin", 0o755).file("bin/hello", "hello")
}

fn config(layers: &[&[u8]]) -> serde_json::Value {
    json!({
        "architecture": platform::ARCHITECTURE,
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": {
            "User": "7", "Env": ["A=1"], "Entrypoint": ["/bin/hello"], "Cmd": null, "WorkingDir": "/srv/app",
            "Volumes": { "/data": {}, "/cache": {} }, "Labels": { "a": "b" },
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| format!("sha256:{}", sha256_hex(layer))).collect::<Vec<_>>(),
        },
    })
}

/// As `docker save` writes it: the description comes last.
fn docker_archive(config: &serde_json::Value, layers: &[&[u8]], tags: &[&str]) -> Vec<u8> {
    let config = config.to_string();
    let name = format!("{}.json", sha256_hex(config.as_bytes()));
    let mut archive = tar::Builder::new(Vec::new());
    let mut paths = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        paths.push(format!("layer-{i}/layer.tar"));
        append(&mut archive, &paths[i], layer);
    }
    append(&mut archive, &name, config.as_bytes());
    let manifest = json!([{ "Config": name, "RepoTags": tags, "Layers": paths }]);
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    archive.into_inner().unwrap()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, content).unwrap();
}

/// Blobs by their digests.
#[derive(Default)]
struct Layout(Vec<(String, Vec<u8>)>);

impl Layout {
    fn blob(&mut self, content: &[u8]) -> serde_json::Value {
        let digits = sha256_hex(content);
        let path = format!("blobs/sha256/{digits}");
        if self.0.iter().all(|(other, _)| *other != path) {
            self.0.push((path, content.to_vec()));
        }
        json!({ "digest": format!("sha256:{digits}"), "size": content.len() })
    }

    fn manifest(&mut self, config: &serde_json::Value, layers: &[&[u8]]) -> serde_json::Value {
        let config = self.blob(config.to_string().as_bytes());
        let layers: Vec<_> = layers.iter().map(|layer| self.blob(layer)).collect();
        self.blob(json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string().as_bytes())
    }

    fn archive(&self, manifests: &[serde_json::Value]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        append(&mut archive, "index.json", json!({ "manifests": manifests }).to_string().as_bytes());
        for (path, content) in &self.0 {
            append(&mut archive, path, content);
        }
        archive.into_inner().unwrap()
    }
}

fn with(mut descriptor: serde_json::Value, key: &str, value: serde_json::Value) -> serde_json::Value {
    descriptor[key] = value;
    descriptor
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(content, flate2::Compression::fast());
    let mut out = Vec::new();
    encoder.read_to_end(&mut out).unwrap();
    out
}

fn said(error: &StoreError) -> String {
    Reason(error).to_string()
}

// === where it is ===

#[test]
fn the_default_root_is_found_as_documented() {
    let root = |is_root, variables: &[(&str, &str)]| {
        let get = |name: &str| {
            variables.iter().find(|(found, _)| *found == name).map(|(_, value)| PathBuf::from(value))
        };
        default_root(is_root, get, || {
            home_of(5, "root:x:0:0::/root:/bin/sh\ngames:x:5:60:games:/usr/games:\n")
        })
    };
    let all = [("DCGI_STORE", "/s"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
    assert_eq!(root(true, &all), PathBuf::from("/s"));
    assert_eq!(root(true, &all[1..]), PathBuf::from("/var/lib/dcgi"));
    assert_eq!(root(false, &all[1..]), PathBuf::from("/x/dcgi"));
    assert_eq!(root(false, &all[2..]), PathBuf::from("/h/.local/share/dcgi"));
    assert_eq!(root(false, &[("XDG_DATA_HOME", "x"), all[2]]), PathBuf::from("/h/.local/share/dcgi"));
    assert_eq!(root(false, &[]), PathBuf::from("/usr/games/.local/share/dcgi"));
    assert_eq!(home_of(6, "games:x:5:60:games:/usr/games:\n"), None);
    assert_eq!(default_root(false, |_| None, || None), PathBuf::from("/.local/share/dcgi"));
}

#[test]
fn others_cannot_enter_what_holds_images() {
    let place = Place::new();
    for folder in ["", "images", "work", "references", "locks"] {
        assert_eq!(fs::metadata(place.store.path(folder)).unwrap().mode() & 0o7777, 0o700, "{folder}");
    }
}

#[test]
fn a_store_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = Store::open(folder.path().join("file/store")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Storage);
    assert!(error.to_string().contains("file/store"), "{error}");
}

#[test]
fn opening_removes_what_the_dead_have_left_and_nothing_of_the_living() {
    let place = Place::new();
    let living = place.store.work().unwrap();
    let dead = place.store.path("work").join("dead");
    fs::create_dir_all(dead.join("a/b")).unwrap();
    fs::write(dead.join("a/b/c"), "").unwrap();
    fs::write(place.store.path("locks").join("dead"), "").unwrap();
    Store::open(place.store.root()).unwrap();
    assert_eq!(place.leftovers(), [living.path()]);
}

// === archives of images ===

#[test]
fn an_archive_of_docker_save_is_loaded() {
    let place = Place::new();
    let lower = rootfs().file("gone", "1").bytes();
    let upper = gzip(&Layer::default().file(".wh.gone", "").file("new", "2").bytes());
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*upper).read_to_end(&mut plain).unwrap();
    let config = config(&[&lower, &plain]);
    let archive = docker_archive(&config, &[&lower, &upper], &["hello:1", "localhost:5000/hello:2"]);
    let [image] = place.store.load(&*archive).unwrap().try_into().unwrap();

    assert_eq!(image.id(), format!("sha256:{}", sha256_hex(config.to_string().as_bytes())));
    assert_eq!(image.reference(), "docker.io/library/hello:1");
    let expected = ImageConfig {
        entrypoint: vec!["/bin/hello".to_owned()],
        command: Vec::new(),
        working_dir: "/srv/app".to_owned(),
        env: vec!["A=1".to_owned()],
        user: "7".to_owned(),
    };
    assert_eq!(image.config(), &expected);
    assert_eq!(image.volumes(), ["/cache", "/data"]);
    assert_eq!(fs::read_to_string(image.rootfs().join("new")).unwrap(), "2");
    assert!(!image.rootfs().join("gone").exists());
    for made in ["srv/app", "data", "cache", "proc", "etc/hosts"] {
        assert!(image.rootfs().join(made).exists(), "{made}");
    }

    let listed = place.store.ls().unwrap();
    let names: Vec<_> = listed.iter().map(|listed| listed.reference.as_deref().unwrap()).collect();
    assert_eq!(names, ["docker.io/library/hello:1", "localhost:5000/hello:2"]);
    assert!(
        listed.iter().all(|l| l.id == image.id() && l.size == 6 && l.architecture == platform::ARCHITECTURE)
    );
    assert_eq!(listed[0].created, "2026-01-02T03:04:05Z");
    assert_eq!(place.leftovers(), NOTHING);
}

#[test]
fn an_image_is_found_by_every_name_that_it_has() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let archive = gzip(&docker_archive(&config(&[&layer]), &[&layer], &["hello"]));
    let id = place.store.load(&*archive).unwrap()[0].id().to_owned();
    let digits = id.strip_prefix("sha256:").unwrap();
    for name in ["hello", "hello:latest", "docker.io/library/hello", &id, digits, &id[..20], &digits[..12]] {
        let found = place.store.find(name).unwrap().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.id(), id);
    }
    for name in ["hello:1", "other", "sha256:0000", &"0".repeat(64)] {
        assert!(place.store.find(name).unwrap().is_none(), "{name}");
    }
    assert_eq!(place.store.find("Hello").unwrap_err().kind(), StoreErrorKind::Reference);
}

#[test]
fn layers_that_are_links_to_others_are_followed() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let config = config(&[&layer, &layer]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "a/layer.tar", &layer);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "b/layer.tar", "../a/layer.tar").unwrap();
    append(&mut archive, "config.json", config.as_bytes());
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"] }]);
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    let images = place.store.load(&*archive.into_inner().unwrap()).unwrap();
    // Without a tag, an image goes by its id.
    assert_eq!(images[0].reference(), images[0].id());
    assert_eq!(place.store.ls().unwrap()[0].reference, None);
}

#[test]
fn of_files_of_one_name_the_last_counts() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let config = config(&[&layer]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for layer in [b"an older one".as_slice(), &layer] {
        append(&mut archive, "layer.tar", layer);
    }
    append(&mut archive, "config.json", config.as_bytes());
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["hello"], "Layers": ["layer.tar"] }]);
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    let images = place.store.load(&*archive.into_inner().unwrap()).unwrap();
    assert_eq!(fs::read_to_string(images[0].rootfs().join("bin/hello")).unwrap(), "hello");
}

#[test]
fn an_oci_layout_is_loaded_with_the_image_for_this_machine() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let mut layout = Layout::default();
    let ours = layout.manifest(&config(&[&layer]), &[&gzip(&layer)]);
    let ours = with(ours, "platform", json!({ "os": "linux", "architecture": platform::ARCHITECTURE }));
    // Its blobs are not even there.
    let other = json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 1,
        "platform": { "os": "linux", "architecture": "other" } });
    let index = layout.blob(json!({ "manifests": [other, ours] }).to_string().as_bytes());
    let named = with(
        index,
        "annotations",
        json!({
        "io.containerd.image.name": "docker.io/library/hello:1", "org.opencontainers.image.ref.name": "1" }),
    );
    let images = place.store.load(&*layout.archive(&[named])).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].reference(), "docker.io/library/hello:1");
    assert_eq!(fs::read_to_string(images[0].rootfs().join("bin/hello")).unwrap(), "hello");
}

#[test]
fn an_archive_for_other_machines_only_is_refused_and_both_are_named() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let other = with(config(&[&layer]), "architecture", json!("other"));
    let mut layout = Layout::default();
    let manifest = layout.manifest(&other, &[&layer]);
    let platform = json!({ "os": "linux", "architecture": "other" });
    let archives = [
        docker_archive(&other, &[&layer], &["hello"]),
        layout.archive(&[with(manifest.clone(), "platform", platform)]),
        layout.archive(&[manifest]),
    ];
    for archive in archives {
        let error = place.store.load(&*archive).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Platform);
        let ours = format!("linux/{}", platform::ARCHITECTURE);
        assert!(error.to_string().contains("linux/other") && error.to_string().contains(&ours), "{error}");
        place.is_empty();
    }
}

#[test]
fn a_layer_with_a_wrong_digest_is_refused() {
    let place = Place::new();
    let (layer, other) = (rootfs().bytes(), rootfs().file("more", "").bytes());
    let error = place.store.load(&*docker_archive(&config(&[&layer]), &[&other], &["hello"])).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    let (wanted, found) = (sha256_hex(&layer), sha256_hex(&other));
    assert!(said(&error).contains(&wanted) && said(&error).contains(&found), "{error}");
    place.is_empty();
}

#[test]
fn a_blob_with_a_wrong_digest_is_refused() {
    let place = Place::new();
    let layer = rootfs().bytes();
    for damaged in 0..3 {
        let mut layout = Layout::default();
        let manifest = layout.manifest(&config(&[&layer]), &[&layer]);
        layout.0[damaged].1.push(b' ');
        let error = place.store.load(&*layout.archive(&[manifest])).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        assert!(said(&error).contains("is damaged: its content is sha256:"), "{error}");
        place.is_empty();
    }
}

#[test]
fn an_archive_that_lacks_something_is_refused() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let (two, one) = (config(&[&layer, &layer]), config(&[&layer]));
    let cases = [
        (docker_archive(&two, &[&layer], &["hello"]), "has 2 layers, and it has 1"),
        (docker_archive(&one, &[&layer], &["Hello"]), "a name that is none"),
        (docker_archive(&json!([]), &[], &["hello"]), "configuration cannot be read"),
        (Layout::default().archive(&[]), "holds no image"),
        (
            Layout::default().archive(&[json!({ "digest": "../../etc/passwd", "size": 1 })]),
            "no SHA-256 digest",
        ),
        (
            Layout::default()
                .archive(&[json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 1 })]),
            "lacks",
        ),
        (layer.clone(), "dcgi image import"),
        (b"no archive at all".repeat(100), "is no tar archive"),
        (Vec::new(), "cut short"),
    ];
    for (archive, why) in cases {
        let error = place.store.load(&*archive).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{why}");
        assert!(said(&error).contains(why), "{why}: {}", said(&error));
        place.is_empty();
    }
}

/// A digest that no content has.
fn nobodys() -> String {
    format!("sha256:{}", "0".repeat(64))
}

fn called(descriptor: serde_json::Value, name: &str) -> serde_json::Value {
    with(descriptor, "annotations", json!({ "io.containerd.image.name": name }))
}

#[test]
fn a_digest_that_an_archive_only_claims_is_refused() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let forged = format!("docker.io/library/hello@{}", nobodys());
    let id = format!("sha256:{}", sha256_hex(config(&[&layer]).to_string().as_bytes()));
    let mut layout = Layout::default();
    let manifest = layout.manifest(&config(&[&layer]), &[&layer]);
    let index = layout.blob(json!({ "manifests": [manifest] }).to_string().as_bytes());
    let own = |descriptor: &serde_json::Value| {
        format!("docker.io/library/hello@{}", descriptor["digest"].as_str().unwrap())
    };
    let by_ref_name = json!({ "org.opencontainers.image.ref.name": forged });
    let inner =
        layout.blob(json!({ "manifests": [called(manifest.clone(), &own(&index))] }).to_string().as_bytes());
    let archives = [
        docker_archive(&config(&[&layer]), &[&layer], &["hello", &forged]),
        docker_archive(&config(&[&layer]), &[&layer], &[&format!("hello:1@{}", nobodys())]),
        // The image's id is no manifest's digest.
        docker_archive(&config(&[&layer]), &[&layer], &[&format!("hello@{id}")]),
        layout.archive(&[called(manifest.clone(), &forged)]),
        layout.archive(&[with(manifest.clone(), "annotations", by_ref_name)]),
        layout.archive(&[called(index.clone(), &forged)]),
        // Of another one in the same archive.
        layout.archive(&[called(index.clone(), &own(&manifest))]),
        layout.archive(&[inner]),
    ];
    for (i, archive) in archives.iter().enumerate() {
        let error = place.store.load(&**archive).expect_err(&i.to_string());
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        assert!(error.to_string().contains("a name by digest"), "{i}: {error}");
        place.is_empty();
    }
}

#[test]
fn a_digest_that_the_content_has_is_a_name() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let mut layout = Layout::default();
    let manifest = layout.manifest(&config(&[&layer]), &[&layer]);
    let index = layout.blob(json!({ "manifests": [manifest] }).to_string().as_bytes());
    for descriptor in [manifest, index] {
        let name = format!("docker.io/library/hello@{}", descriptor["digest"].as_str().unwrap());
        let [image] =
            place.store.load(&*layout.archive(&[called(descriptor, &name)])).unwrap().try_into().unwrap();
        assert_eq!(image.reference(), name);
        assert_eq!(place.store.find(&name).unwrap().unwrap().id(), image.id());
    }
}

#[test]
fn a_digest_by_which_an_archive_has_several_images_is_refused() {
    let place = Place::new();
    let (layer, other) = (rootfs().bytes(), rootfs().file("more", "").bytes());
    let mut layout = Layout::default();
    let manifests = [&layer, &other].map(|layer| layout.manifest(&config(&[layer]), &[layer]));
    let index = layout.blob(json!({ "manifests": manifests }).to_string().as_bytes());
    let name = format!("docker.io/library/hello@{}", index["digest"].as_str().unwrap());
    let error = place.store.load(&*layout.archive(&[called(index, &name)])).unwrap_err();
    assert!(error.to_string().contains("several images for this machine"), "{error}");
    place.is_empty();
}

#[test]
fn what_is_an_index_and_a_manifest_at_once_is_refused() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let mut layout = Layout::default();
    let manifest = layout.manifest(&config(&[&layer]), &[&layer]);
    let config = layout.blob(config(&[&layer]).to_string().as_bytes());
    for more in [json!({ "config": config }), json!({ "layers": [] })] {
        let mut both = json!({ "manifests": [manifest] });
        both.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let both = layout.blob(both.to_string().as_bytes());
        let error = place.store.load(&*layout.archive(&[both])).unwrap_err();
        assert!(error.to_string().contains("is an index and a manifest at once"), "{error}");
        place.is_empty();
    }
}

#[test]
fn a_digest_that_an_engines_archive_claims_says_nothing() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let archive = docker_archive(&config(&[&layer]), &[&layer], &[&format!("hello@{}", nobodys())]);
    let stop = CancellationToken::new();
    let naming =
        EnginesName { name: Some("docker.io/library/a:latest"), engines_id: "sha256:1", stop: &stop };
    place.store.load_as(&*archive, Some(naming)).unwrap();
    let names: Vec<_> = place.store.ls().unwrap().into_iter().map(|listed| listed.reference).collect();
    assert_eq!(names, [Some("docker.io/library/a:latest".to_owned())]);
}

#[test]
fn what_a_small_archive_describes_again_and_again_is_bounded() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let config = config(&[&layer]);
    let mut layout = Layout::default();
    let mut descriptor = layout.manifest(&config, &[&layer]);
    // 16^4 images of one.
    for _ in 0..4 {
        descriptor = layout.blob(json!({ "manifests": vec![descriptor; 16] }).to_string().as_bytes());
    }
    let mut many = Layout::default();
    let manifest = many.manifest(&config, &vec![&*layer; 50_000]);
    let mut others = Layout::default();
    let other = with(others.blob(b"{}"), "platform", json!({ "os": "linux", "architecture": "other" }));
    let mut large = Layout::default();
    let mut padded = config.clone();
    padded["history"] = json!("x".repeat(4 << 20));
    let padded = large.manifest(&padded, &[&layer]);
    let tags: Vec<_> = (0..2_000).map(|i| format!("hello:{i}")).collect();
    let cases = [
        (layout.archive(&[descriptor]), "512 images"),
        (many.archive(&[manifest]), "40000 manifests and layers"),
        (others.archive(&vec![other; 50_000]), "40000 manifests and layers"),
        (large.archive(&vec![padded; 100]), "64 MiB of descriptions"),
        (
            docker_archive(&config, &[&layer], &tags.iter().map(String::as_str).collect::<Vec<_>>()),
            "1000 names",
        ),
    ];
    for (archive, what) in cases {
        let error = place.store.load(&*archive).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        assert!(error.to_string().contains(&format!("the archive has more than {what}")), "{what}: {error}");
        place.is_empty();
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_leaves_nothing() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let archive = docker_archive(&config(&[&layer]), &[&layer], &["hello"]);
    let end = archive.len() - 1024;
    for length in [end, end - 1, end - 512, end - 1536, end / 2, 1024, 700, 512, 1] {
        let error = place.store.load(&archive[..length]).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        assert!(said(&error).contains("cut short"), "{length}: {}", said(&error));
        let zipped = gzip(&archive);
        place.store.load(&zipped[..zipped.len() * length / archive.len()]).unwrap_err();
        place.is_empty();
    }
    place.store.load(&*archive).unwrap();
}

#[test]
fn many_who_load_one_image_at_once_unpack_it_once() {
    let place = Place::new();
    let layer = rootfs().bytes();
    let archive = docker_archive(&config(&[&layer]), &[&layer], &["hello"]);
    let barrier = Barrier::new(4);
    let inodes: Vec<_> = std::thread::scope(|scope| {
        let load = || {
            // As another process would open it.
            let store = Store::open(place.store.root()).unwrap();
            barrier.wait();
            let image = store.load(&*archive).unwrap().remove(0);
            fs::metadata(image.rootfs()).unwrap().ino()
        };
        let loading: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        loading.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
    assert_eq!(place.store.ls().unwrap().len(), 1);
    assert_eq!(place.leftovers(), NOTHING);
}

// === root file systems ===

#[test]
fn a_root_file_system_is_imported_plain_and_compressed_and_gives_one_image() {
    let place = Place::new();
    let config = ImageConfig {
        command: vec!["/bin/hello".to_owned()],
        working_dir: "/w".to_owned(),
        ..ImageConfig::default()
    };
    let archive = rootfs().bytes();
    let image = place.store.import(&*archive, "hello", config.clone()).unwrap();
    assert_eq!(image.config(), &config);
    assert!(image.rootfs().join("w").is_dir());
    let again = place.store.import(&*gzip(&archive), "again:1", config).unwrap();
    assert_eq!(image.id(), again.id());
    let listed: Vec<_> =
        place.store.ls().unwrap().into_iter().filter_map(|listed| listed.reference).collect();
    assert_eq!(listed, ["docker.io/library/again:1", "docker.io/library/hello:latest"]);
    assert_eq!(place.leftovers(), NOTHING);
}

#[test]
fn an_import_that_breaks_off_leaves_nothing() {
    /// Fails as a connection does.
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let place = Place::new();
    let archive = rootfs().directory("closed", 0o000).file("closed/x", "1").bytes();
    let half = &archive[..archive.len() - 1536];
    let error = place.store.import(half.chain(Broken), "hello", ImageConfig::default()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    place.is_empty();
    for (archive, why) in [(half, "cut short"), (b"", "cut short"), (&[b'x'; 4096], "is no tar archive")] {
        let error = place.store.import(archive, "hello", ImageConfig::default()).unwrap_err();
        assert!(said(&error).contains(why), "{}", said(&error));
        place.is_empty();
    }
}

#[test]
fn what_is_imported_cannot_be_called_a_digest() {
    let place = Place::new();
    let name = format!("hello@sha256:{}", "0".repeat(64));
    let error = place.store.import(&*rootfs().bytes(), &name, ImageConfig::default()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Reference);
    place.is_empty();
}

// === removing ===

#[test]
fn an_image_goes_with_its_last_tag() {
    let place = Place::new();
    let id = place.store.import(&*rootfs().bytes(), "a", ImageConfig::default()).unwrap().id().to_owned();
    place.store.import(&*rootfs().bytes(), "b", ImageConfig::default()).unwrap();
    let removed = place.store.rm("a").unwrap();
    assert_eq!(removed, Removed { references: vec!["docker.io/library/a:latest".to_owned()], image: None });
    assert!(place.store.find("a").unwrap().is_none());
    let removed = place.store.rm("b").unwrap();
    assert_eq!(
        removed,
        Removed { references: vec!["docker.io/library/b:latest".to_owned()], image: Some(id) }
    );
    place.is_empty();
}

#[test]
fn an_image_that_is_removed_by_its_id_goes_with_all_references() {
    let place = Place::new();
    let id = place.store.import(&*rootfs().bytes(), "a", ImageConfig::default()).unwrap().id().to_owned();
    place.store.import(&*rootfs().bytes(), "b", ImageConfig::default()).unwrap();
    assert_eq!(place.store.rm(&id[..19]).unwrap().references.len(), 2);
    place.is_empty();
}

#[test]
fn an_image_in_use_is_not_removed() {
    let place = Place::new();
    let image = place.store.import(&*rootfs().bytes(), "hello", ImageConfig::default()).unwrap();
    let clone = image.clone();
    drop(image);
    for name in ["hello", clone.id()] {
        let error = Store::open(place.store.root()).unwrap().rm(name).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::InUse);
        assert!(error.to_string().contains(&format!("`{name}` is in use")), "{error}");
        assert_eq!(fs::read_to_string(clone.rootfs().join("bin/hello")).unwrap(), "hello");
        assert!(place.store.find("hello").unwrap().is_some());
    }
    drop(clone);
    place.store.rm("hello").unwrap();
    place.is_empty();
}

#[test]
fn what_is_not_there_cannot_be_removed() {
    let place = Place::new();
    let error = place.store.rm("hello").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Missing);
    assert!(error.to_string().contains("`hello`"), "{error}");
    assert_eq!(place.store.rm("Hello").unwrap_err().kind(), StoreErrorKind::Reference);
}

#[test]
fn a_tag_that_moves_leaves_the_old_image_to_its_id() {
    let place = Place::new();
    let old = place.store.import(&*rootfs().bytes(), "a", ImageConfig::default()).unwrap().id().to_owned();
    let new = place.store.import(&*rootfs().file("x", "").bytes(), "a", ImageConfig::default()).unwrap();
    assert_eq!(place.store.find("a").unwrap().unwrap().id(), new.id());
    let listed: Vec<_> =
        place.store.ls().unwrap().into_iter().map(|listed| (listed.reference.is_some(), listed.id)).collect();
    assert_eq!(listed, [(true, new.id().to_owned()), (false, old.clone())]);
    place.store.rm(&old).unwrap();
    assert_eq!(place.store.ls().unwrap().len(), 1);
}

// === for an engine ===

#[tokio::test]
async fn an_image_that_may_not_be_pulled_is_taken_from_the_store_or_missing() {
    let place = Place::new();
    let error = place.store.resolve("hello", PullPolicy::Never).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Missing);
    assert!(error.to_string().contains("`pull = \"never\"` forbids"), "{error}");
    place.store.import(&*rootfs().bytes(), "hello", ImageConfig::default()).unwrap();
    let found = place.store.resolve("hello", PullPolicy::Never).await.unwrap();
    assert_eq!(found.reference(), "docker.io/library/hello:latest");
}

#[tokio::test]
async fn who_waits_for_the_same_image_waits_for_its_turn() {
    let place = Place::new();
    let first = place.store.waiting("x".to_owned()).await.unwrap();
    let (other, same) = (Store::open(place.store.root()).unwrap(), place.store.clone());
    let other = tokio::spawn(async move { other.waiting("x".to_owned()).await.map(drop) });
    let same = tokio::spawn(async move { same.waiting("x".to_owned()).await.map(drop) });
    place.store.waiting("y".to_owned()).await.unwrap();
    assert!(!other.is_finished() && !same.is_finished());
    drop(first);
    other.await.unwrap().unwrap();
    same.await.unwrap().unwrap();
    assert_eq!(place.leftovers(), NOTHING);
}

// === taken over from an engine ===

/// Takes an image over as the export of one gives it, which a file tells from others.
fn take_over(place: &Place, name: Option<&str>, engines_id: &str, file: &str) -> Result<Image, StoreError> {
    let layer = rootfs().file(file, "").bytes();
    let archive = docker_archive(&config(&[&layer]), &[&layer], &["some-other:name"]);
    let stop = CancellationToken::new();
    let name = name.map(|name| format!("docker.io/library/{name}:latest"));
    let naming = EnginesName { name: name.as_deref(), engines_id, stop: &stop };
    Ok(place.store.load_as(&*archive, Some(naming))?.remove(0))
}

#[test]
fn what_is_taken_over_goes_by_the_engines_name_and_remembers_the_engines_id() {
    let place = Place::new();
    let id = take_over(&place, Some("a"), "sha256:1", "x").unwrap().id().to_owned();
    let meaning = place.store.meaning("a").unwrap().unwrap();
    assert_eq!(meaning, Meaning { id, taken_over: Some("sha256:1".to_owned()) });
    // A name that the archive gives is nobody's.
    assert_eq!(place.store.meaning("some-other:name").unwrap(), None);
}

#[test]
fn what_somebody_puts_under_a_name_himself_is_his() {
    let place = Place::new();
    take_over(&place, Some("a"), "sha256:1", "x").unwrap();
    let own = place.store.import(&*rootfs().bytes(), "a", ImageConfig::default()).unwrap();
    let expected = Meaning { id: own.id().to_owned(), taken_over: None };
    assert_eq!(place.store.meaning("a").unwrap().as_ref(), Some(&expected));
    // And stays, though the engine's comes again.
    take_over(&place, Some("a"), "sha256:2", "y").unwrap();
    assert_eq!(place.store.meaning("a").unwrap(), Some(expected));
}

#[test]
fn what_was_taken_over_goes_when_its_name_has_moved_and_nobody_uses_it() {
    let place = Place::new();
    let first = take_over(&place, Some("a"), "sha256:1", "x").unwrap();
    let second = take_over(&place, Some("a"), "sha256:2", "y").unwrap();
    let still = Superseded { removed: Vec::new(), in_use: 1 };
    assert_eq!(place.store.remove_superseded().unwrap(), still);
    let gone = first.id().to_owned();
    drop(first);
    assert_eq!(place.store.remove_superseded().unwrap(), Superseded { removed: vec![gone], in_use: 0 });
    assert_eq!(place.store.remove_superseded().unwrap(), Superseded::default());
    assert_eq!(place.store.find("a").unwrap().unwrap().id(), second.id());
    assert_eq!(place.leftovers(), NOTHING);
}

#[test]
fn an_image_that_somebody_wants_for_himself_stays_when_its_name_moves() {
    let place = Place::new();
    let id = take_over(&place, Some("a"), "sha256:1", "x").unwrap().id().to_owned();
    let layer = rootfs().file("x", "").bytes();
    let archive = docker_archive(&config(&[&layer]), &[&layer], &["mine"]);
    assert_eq!(place.store.load(&*archive).unwrap()[0].id(), id);
    take_over(&place, Some("a"), "sha256:2", "y").unwrap();
    place.store.rm("a").unwrap();
    assert_eq!(place.store.remove_superseded().unwrap(), Superseded::default());
    assert_eq!(place.store.find("mine").unwrap().unwrap().id(), id);
}

#[test]
fn what_was_left_without_a_name_by_somebody_is_not_superseded() {
    let place = Place::new();
    place.store.import(&*rootfs().bytes(), "a", ImageConfig::default()).unwrap();
    place.store.import(&*rootfs().file("x", "").bytes(), "a", ImageConfig::default()).unwrap();
    // One that was asked for by its id has none either.
    take_over(&place, None, "sha256:1", "y").unwrap();
    assert_eq!(place.store.remove_superseded().unwrap(), Superseded::default());
    assert_eq!(place.store.ls().unwrap().len(), 3);
}

#[test]
fn a_take_over_that_is_stopped_while_it_is_unpacked_leaves_nothing() {
    /// Stops it behind the last byte of the archive.
    struct Stopping<'a>(&'a [u8], &'a CancellationToken);
    impl Read for Stopping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(buffer)?;
            if read == 0 {
                self.1.cancel();
            }
            Ok(read)
        }
    }
    let place = Place::new();
    let layer = rootfs().bytes();
    let archive = docker_archive(&config(&[&layer]), &[&layer], &[]);
    let stop = CancellationToken::new();
    let naming =
        EnginesName { name: Some("docker.io/library/a:latest"), engines_id: "sha256:1", stop: &stop };
    let error = place.store.load_as(Stopping(&archive, &stop), Some(naming)).unwrap_err();
    assert!(said(&error).contains("broken off"), "{}", said(&error));
    place.is_empty();
}
