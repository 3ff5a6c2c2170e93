//! `dcgi image` and the store below it: real archives, a real registry, and ends that nobody planned.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::docker::docker;
use common::server::unique_path;
use common::{PATIENCE, wait_until};
use dcgi::engine::docker::answering;
use dcgi::images::{PullPolicy, Store};

/// A store in a directory of its own.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let folder = unique_path("store");
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dcgi"));
        command.arg("image").args(arguments).env("DCGI_STORE", self.store());
        command
    }

    /// Runs `dcgi image` to its end: its exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        finish(&mut self.command(arguments), b"")
    }

    /// The same, where it must do what it should.
    #[track_caller]
    fn image(&self, arguments: &[&str]) -> String {
        let (code, out, said) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        out
    }

    /// The only image's directory.
    fn only(&self) -> PathBuf {
        let images: Vec<_> = names(&self.store().join("images"));
        assert_eq!(images.len(), 1, "{images:?}");
        self.store().join("images").join(&images[0])
    }

    /// Nothing is there but whole images.
    #[track_caller]
    fn is_tidy(&self) {
        assert_eq!(names(&self.store().join("work")), [""; 0]);
        assert_eq!(names(&self.store().join("locks")), [""; 0]);
    }

    #[track_caller]
    fn is_empty(&self) {
        self.is_tidy();
        assert_eq!(names(&self.store().join("images")), [""; 0]);
        assert_eq!(names(&self.store().join("references")), [""; 0]);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[allow(clippy::disallowed_methods)]
fn finish(command: &mut Command, input: &[u8]) -> (i32, String, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Whoever has seen enough does not read the rest.
    _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// What `docker save` writes of the probe's image.
fn probe_archive(place: &Place) -> PathBuf {
    let path = place.0.join("probe.tar");
    docker(&["save", "-o", path.to_str().unwrap(), common::docker::probe_image()]);
    // For whoever is to load it.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

fn probe_id() -> String {
    docker(&["inspect", "-f", "{{.Id}}", common::docker::probe_image()]).trim().to_owned()
}

/// Everything in a tree that an image decides: kind, mode, owner, link target or content, and how many names it has.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let content = if about.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if about.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            let links = if about.is_dir() { 0 } else { about.nlink() };
            let (uid, gid) = (about.uid(), about.gid());
            let digest = content.iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            let said = format!(
                "{:o} {uid}:{gid} {links} {} {} {digest:x}",
                about.mode(),
                about.mtime(),
                if about.is_dir() { 0 } else { about.len() }
            );
            found.insert(path.strip_prefix(root).unwrap().to_owned(), said);
            if about.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// An image with everything that layers can say, in several of them.
fn rich_image(place: &Place) -> String {
    common::images::example_images(&["perl-form"]);
    let name = format!("dcgi-test/rich-{}", std::process::id());
    let script = "FROM dcgi/perl-form
USER 0
RUN mkdir -p /t/closed /t/sub/deep /t/opaque && cd /t && echo a >file && ln file hard && ln -s file soft \
    && ln -s /etc/passwd absolute && ln -s ../../../../out climbing && ln -s nowhere dangling && mkfifo -m 620 fifo \
    && echo x >sub/deep/gone && echo x >opaque/old && cp /bin/true suid && chmod 6755 suid && chmod 000 closed \
    && chown -R 1000:1001 sub && mkdir sticky && chmod 1777 sticky && touch -d '2001-02-03 04:05:06.789' file
RUN cd /t && rm -rf sub/deep opaque /usr/share/perl && mkdir opaque && echo new >opaque/new \
    && ln hard later && rm soft && mkdir soft && printf '%0200d' 0 >\"$(printf '%0200d' 0)\"
RUN cd /t && rm -rf soft && echo now-a-file >soft && chmod 555 opaque && mv hard moved
VOLUME /volume
WORKDIR /work/dir
";
    fs::write(place.0.join("Dockerfile"), script).unwrap();
    finish(
        Command::new("docker").args(["build", "-q", "-t", &name, "-"]).env("DOCKER_BUILDKIT", "0"),
        script.as_bytes(),
    );
    name
}

#[test]
fn an_image_of_docker_save_has_the_files_that_docker_export_gives() {
    let place = Place::new();
    let name = rich_image(&place);
    let archive = place.0.join("image.tar");
    docker(&["save", "-o", archive.to_str().unwrap(), &name]);
    let id = docker(&["inspect", "-f", "{{.Id}}", &name]);
    let out = place.image(&["load", archive.to_str().unwrap()]);
    assert_eq!(out, format!("docker.io/{name}:latest {id}"));

    // The same from the engine's own idea of it.
    let exported = place.0.join("exported");
    fs::create_dir(&exported).unwrap();
    let container = docker(&["create", &name, "x"]);
    let export = place.0.join("export.tar");
    docker(&["export", "-o", export.to_str().unwrap(), container.trim()]);
    docker(&["rm", container.trim()]);
    docker(&["rmi", &name]);
    let status = Command::new("tar").arg("-xpf").arg(&export).arg("-C").arg(&exported).status().unwrap();
    assert!(status.success());

    let (mut ours, mut theirs) = (tree(&place.only().join("rootfs")), tree(&exported));
    // What `docker create` puts there for a container, and the directories whose times it changes by that.
    let made = [
        "",
        "dev",
        "etc",
        "proc",
        "sys",
        "volume",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/mtab",
        ".dockerenv",
    ];
    for tree in [&mut ours, &mut theirs] {
        tree.retain(|path, _| !made.iter().any(|made| path == Path::new(made)) && !path.starts_with("dev"));
    }
    assert!(theirs.len() > 1000, "{}", theirs.len());
    let differ: Vec<_> = ours
        .iter()
        .filter(|(path, said)| theirs.get(*path) != Some(said))
        .map(|(path, said)| (path, said, theirs.get(path)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    let lacking: Vec<_> = theirs.keys().filter(|path| !ours.contains_key(*path)).collect();
    assert!(lacking.is_empty(), "{lacking:#?}");

    // And what only we promise.
    for directory in ["volume", "work/dir", "proc", "sys", "dev", "tmp"] {
        assert!(place.only().join("rootfs").join(directory).is_dir(), "{directory}");
    }
    place.image(&["rm", &name]);
    place.is_empty();
}

#[test]
fn an_archive_is_read_from_standard_input_compressed_or_not() {
    let place = Place::new();
    let archive = fs::read(probe_archive(&place)).unwrap();
    for compress in [None, Some("gzip"), Some("zstd")] {
        let input = compress.map_or(archive.clone(), |program| {
            let mut child =
                Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            let mut compressed = Vec::new();
            std::thread::scope(|scope| {
                let archive = &archive;
                scope.spawn(move || input.write_all(archive).unwrap());
                child.stdout.take().unwrap().read_to_end(&mut compressed).unwrap();
            });
            child.wait().unwrap();
            compressed
        });
        let (code, out, said) = finish(&mut place.command(&["load", "-"]), &input);
        assert_eq!(code, 0, "{compress:?}: {said}");
        assert_eq!(out.trim(), format!("docker.io/dcgi-test/probe:latest {}", probe_id()));
        place.image(&["rm", "dcgi-test/probe"]);
        place.is_empty();
    }
}

#[test]
fn what_docker_exports_is_imported_with_a_command_line_of_ones_own() {
    let place = Place::new();
    let container = docker(&["create", common::docker::probe_image()]);
    let export = place.0.join("export.tar");
    docker(&["export", "-o", export.to_str().unwrap(), container.trim()]);
    docker(&["rm", container.trim()]);
    let export = export.to_str().unwrap();
    let options = [
        "--env",
        "A=1",
        "--env",
        "B=",
        "--entrypoint",
        r#"["/app/probe", "-x"]"#,
        "--cmd",
        "-a",
        "--cmd",
        "b c",
        "--workdir",
        "/srv/new",
        "--user",
        "7:8",
    ];
    let out = place.image(&[&["import", export, "mine:1"][..], &options].concat());
    assert!(out.starts_with("docker.io/library/mine:1 sha256:"), "{out}");
    let image = Store::open(place.store()).unwrap().find("mine:1").unwrap().unwrap();
    let config = image.config();
    assert_eq!(config.env, ["A=1", "B="]);
    assert_eq!(config.entrypoint, ["/app/probe", "-x"]);
    assert_eq!(config.command, ["-a", "b c"]);
    assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/srv/new", "7:8"));
    assert!(image.rootfs().join("srv/new").is_dir());
    assert!(image.rootfs().join("app/probe").is_file());
}

#[test]
fn ls_prints_a_table_and_rm_says_what_it_has_done() {
    let place = Place::new();
    assert_eq!(place.image(&["ls"]).lines().count(), 1);
    place.image(&["load", probe_archive(&place).to_str().unwrap()]);
    let out = place.image(&["ls"]);
    let rows: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["REFERENCE", "ID", "ARCHITECTURE", "SIZE", "CREATED", "IMPORTED"]);
    let (id, about) = (probe_id(), &rows[1]);
    assert_eq!(about[..2], ["docker.io/dcgi-test/probe:latest", &id[7..19]]);
    assert_eq!(about[4], "MiB");
    for time in &about[5..7] {
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }

    let (code, out, said) = place.run(&["rm", "no/such", "dcgi-test/probe"]);
    assert_eq!(code, 1);
    assert_eq!(out, format!("forgot docker.io/dcgi-test/probe:latest\nremoved {id}\n"));
    assert_eq!(said, format!("dcgi: there is no image `no/such` in {}\n", place.store().display()));
    place.is_empty();
}

#[test]
fn what_cannot_be_done_is_one_line_that_names_it() {
    let place = Place::new();
    let damaged = place.0.join("damaged.tar");
    fs::write(&damaged, [b'x'; 2048]).unwrap();
    let damaged = damaged.to_str().unwrap();
    let xz = place.0.join("root.tar.xz");
    fs::write(&xz, [b"\xfd7zXZ\0".as_slice(), &[0; 600]].concat()).unwrap();
    let (xz, folder) = (xz.to_str().unwrap(), place.0.to_str().unwrap());
    let cases: [(&[&str], &[&str]); 7] = [
        (&["import", xz, "x"], &["compressed by xz", "`xz -dc FILE`"]),
        (&["import", folder, "x"], &[folder, "is a directory: `tar -C"]),
        (&["load", "/nowhere/image.tar"], &["/nowhere/image.tar", "No such file"]),
        (&["load", damaged], &["cannot load", damaged, "is no tar archive"]),
        (&["import", damaged, "x"], &["cannot import", damaged, "is no tar archive"]),
        (&["pull", "No/Reference"], &["`No/Reference` is no reference"]),
        (&["pull", "localhost:1/no/such:image"], &["localhost:1/no/such:image", "the registry localhost:1"]),
    ];
    for (arguments, expected) in cases {
        let (code, out, said) = place.run(arguments);
        assert_eq!((code, out.as_str()), (1, ""), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("dcgi: ") && expected.iter().all(|text| last.contains(text)), "{said}");
        place.is_empty();
    }
}

/// An archive of these files.
fn archive_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn an_archive_does_not_say_what_a_pinned_digest_means() {
    let place = Place::new();
    let archive = place.0.join("archive.tar");
    fs::write(&archive, archive_of(&[("x".to_owned(), Vec::new())])).unwrap();
    let pinned = format!("docker.io/library/hello@sha256:{}", "0".repeat(64));
    // An image like any other, but for its name.
    let layer = fs::read(&archive).unwrap();
    let digest = |bytes: &[u8]| {
        use sha2::Digest;
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = serde_json::json!({ "architecture": machine, "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] } });
    let config = config.to_string().into_bytes();
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [pinned], "Layers": ["layer.tar"] }]);
    let docker = archive_of(&[
        ("layer.tar".to_owned(), layer.clone()),
        ("config.json".to_owned(), config.clone()),
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
    ]);
    let named =
        |bytes: &[u8]| serde_json::json!({ "digest": format!("sha256:{}", digest(bytes)), "size": 1 });
    let manifest =
        serde_json::json!({ "schemaVersion": 2, "config": named(&config), "layers": [named(&layer)] });
    let manifest = manifest.to_string().into_bytes();
    let mut descriptor = named(&manifest);
    descriptor["annotations"] = serde_json::json!({ "io.containerd.image.name": pinned });
    let index = serde_json::json!({ "manifests": [descriptor] }).to_string().into_bytes();
    let blob = |bytes: Vec<u8>| (format!("blobs/sha256/{}", digest(&bytes)), bytes);
    let layout = archive_of(&[blob(layer), blob(config), blob(manifest), ("index.json".to_owned(), index)]);
    for forged in [docker, layout] {
        fs::write(&archive, forged).unwrap();
        let (code, out, said) = place.run(&["load", archive.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (1, ""), "{said}");
        assert!(said.contains(&pinned) && said.contains("`dcgi image pull`"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        place.is_empty();
    }
}

#[test]
fn indexes_that_name_each_other_again_and_again_are_refused_before_any_of_it_is_there() {
    use sha2::Digest;
    let place = Place::new();
    let mut files = Vec::new();
    let mut blob = |value: serde_json::Value| {
        let text = value.to_string().into_bytes();
        let digits: String = sha2::Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        files.push((format!("blobs/sha256/{digits}"), text));
        serde_json::json!({ "digest": format!("sha256:{digits}"), "size": 1 })
    };
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = blob(serde_json::json!({ "architecture": machine, "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [] } }));
    let mut descriptor = blob(serde_json::json!({ "config": config, "layers": [] }));
    for _ in 0..3 {
        descriptor = blob(serde_json::json!({ "manifests": vec![descriptor; 64] }));
    }
    let index = serde_json::json!({ "manifests": [descriptor] }).to_string().into_bytes();
    files.push(("index.json".to_owned(), index));
    let (code, out, said) = finish(&mut place.command(&["load", "-"]), &archive_of(&files));
    assert_eq!((code, out.as_str()), (1, ""), "{said}");
    assert!(said.contains("the archive has more than 512 images"), "{said}");
    place.is_empty();
}

#[test]
#[allow(clippy::disallowed_methods)]
fn on_a_terminal_it_is_shown_how_much_of_an_archive_has_been_read() {
    let place = Place::new();
    let archive = probe_archive(&place);
    let size = fs::metadata(&archive).unwrap().len();
    let load = format!("{} image load {}", env!("CARGO_BIN_EXE_dcgi"), archive.display());
    // script(1) gives it a terminal.
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &load, "/dev/null"])
        .env("DCGI_STORE", place.store())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let whole = bytesize::ByteSize::b(size).to_string();
    assert!(said.contains(&format!("{}  {whole} of {whole}", archive.display())), "{said}");
    // Into a file there is only what is printed.
    let plain = place.command(&["load", archive.to_str().unwrap()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&plain.stderr), "");
}

// === ends that nobody planned ===

#[test]
fn a_load_that_is_killed_leaves_nothing_for_the_next_one() {
    let place = Place::new();
    let archive = fs::read(probe_archive(&place)).unwrap();
    let mut child = place.command(&["load", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&archive[..archive.len() / 2]).unwrap();
    let spooled = || {
        let work = place.store().join("work");
        work.exists() && names(&work).iter().any(|name| !names(&work.join(name)).is_empty())
    };
    wait_until("some of it is on the disk", PATIENCE, spooled);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(spooled());

    let (code, _, said) = finish(&mut place.command(&["load", "-"]), &archive);
    assert_eq!(code, 0, "{said}");
    place.is_tidy();
    assert!(place.only().join("rootfs/app/probe").is_file());
}

#[test]
fn an_image_in_use_by_another_process_is_not_removed() {
    let place = Place::new();
    place.image(&["load", probe_archive(&place).to_str().unwrap()]);
    let lease = place.only().join("lease");
    let mut user = Command::new("flock")
        .args(["--shared", lease.to_str().unwrap(), "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // `cat` answers once the lock is held.
    let mut input = user.stdin.take().unwrap();
    input.write_all(b"held\n").unwrap();
    let mut line = String::new();
    BufReader::new(user.stdout.take().unwrap()).read_line(&mut line).unwrap();

    let (code, _, said) = place.run(&["rm", "dcgi-test/probe"]);
    assert_eq!(code, 1);
    let expected = format!("image `dcgi-test/probe` is in use ({})", &probe_id()[7..19]);
    assert!(said.contains(&expected) && said.lines().count() == 1, "{said}");
    assert_eq!(place.image(&["ls"]).lines().count(), 2);

    drop(input);
    user.wait().unwrap();
    place.image(&["rm", "dcgi-test/probe"]);
    place.is_empty();
}

#[test]
fn a_full_disk_is_an_error_that_says_so_and_leaves_nothing() {
    let place = Place::new();
    let archive = probe_archive(&place);
    let size = fs::metadata(&archive).unwrap().len() >> 10;
    let disk = place.0.join("disk");
    fs::create_dir(&disk).unwrap();
    // Too small for the archive itself; then large enough for it, and too small for what is in it.
    for kibibytes in [size / 2, size + size / 2] {
        let script =
            "mount -t tmpfs -o size=\"$1k\" none \"$2\" && \"$3\" image --store \"$2/store\" load \"$4\"
            echo \"code $?\"; cd \"$2/store\" && find images references work locks -mindepth 1";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh", &kibibytes.to_string()]);
        command.arg(&disk).arg(env!("CARGO_BIN_EXE_dcgi")).arg(&archive);
        let (_, out, said) = finish(&mut command, b"");
        assert_eq!(out, "code 1\n", "{said}");
        assert!(said.contains("the disk is full") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn an_ordinary_user_keeps_a_store_too() {
    let place = Place::new();
    let tree = place.0.join("tree");
    let script = "mkdir -p \"$1/closed/inner\" \"$1/readonly\" && echo x >\"$1/closed/inner/f\" && \
        echo y >\"$1/readonly/f\" && chown -R 12:34 \"$1\" && chmod 0 \"$1/closed/inner/f\" \"$1/closed/inner\" \"$1/closed\" && \
        chmod 555 \"$1/readonly\" && cp /bin/true \"$1/suid\" && chmod 4755 \"$1/suid\" && tar -C \"$1\" -cf \"$2\" .";
    let archive = place.0.join("tree.tar");
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(&tree).arg(&archive).status().unwrap();
    assert!(status.success());
    fs::create_dir(place.store()).unwrap();
    std::os::unix::fs::chown(place.store(), Some(65534), Some(65534)).unwrap();
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            env!("CARGO_BIN_EXE_dcgi"),
            "image",
        ]);
        let (code, out, said) = finish(command.args(arguments).env("DCGI_STORE", place.store()), b"");
        assert_eq!(code, 0, "{arguments:?}: {said}");
        out
    };
    as_user(&["import", archive.to_str().unwrap(), "mine"]);
    as_user(&["load", probe_archive(&place).to_str().unwrap()]);
    assert_eq!(as_user(&["ls"]).lines().count(), 3);

    let image = Store::open(place.store()).unwrap().find("mine").unwrap().unwrap();
    let modes =
        [("closed", 0), ("closed/inner", 0), ("closed/inner/f", 0), ("readonly", 0o555), ("suid", 0o4755)];
    for (path, mode) in modes {
        let about = fs::metadata(image.rootfs().join(path)).unwrap();
        assert_eq!((about.mode() & 0o7777, about.uid(), about.gid()), (mode, 65534, 65534), "{path}");
    }
    drop(image);
    as_user(&["rm", "mine", "dcgi-test/probe"]);
    place.is_empty();
}

// === registries and engines ===

/// A registry with the probe's image in it: Docker's own, on a port and in a folder that are this test's.
struct Registry {
    process: Child,
    folder: PathBuf,
    image: String,
}

impl Registry {
    fn start() -> Self {
        let folder = unique_path("registry");
        fs::create_dir(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n",
            folder.display()
        );
        fs::write(folder.join("config.yml"), config).unwrap();
        let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/usr/bin/docker-registry");
        let program = if Path::new(unpacked).exists() { unpacked } else { "docker-registry" };
        let log = || fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let process = Command::new(program)
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdout(log())
            .stderr(log())
            .spawn()
            .expect("scripts/prerequisites has been run");
        let image = format!("localhost:{port}/store/probe");
        let registry = Self { process, folder, image };
        wait_until("the registry listens", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        docker(&["tag", common::docker::probe_image(), &registry.image]);
        docker(&["push", "-q", &registry.image]);
        registry
    }

    /// How the registry's image is called by its manifest's digest.
    fn by_digest(&self) -> String {
        let digests = docker(&["inspect", "-f", "{{range .RepoDigests}}{{println .}}{{end}}", &self.image]);
        let ours = format!("{}@", self.image);
        digests.lines().find(|line| line.starts_with(&ours)).expect("it was pushed").to_owned()
    }

    /// The files that hold blobs, by their digests.
    fn blobs(&self) -> BTreeMap<String, PathBuf> {
        let folder = self.folder.join("docker/registry/v2/blobs/sha256");
        let within =
            |folder: PathBuf| names(&folder).into_iter().map(move |name| (name.clone(), folder.join(&name)));
        within(folder)
            .flat_map(|(_, folder)| within(folder))
            .map(|(digits, f)| (digits, f.join("data")))
            .collect()
    }

    /// The largest one: the probe's layer.
    fn layer(&self) -> (String, PathBuf) {
        self.blobs().into_iter().max_by_key(|(_, path)| fs::metadata(path).unwrap().len()).unwrap()
    }

    /// How often a blob was asked for.
    fn asked(&self, digits: &str) -> usize {
        let log = fs::read_to_string(self.folder.join("log")).unwrap();
        log.lines()
            .filter(|line| line.contains(&format!("GET /v2/store/probe/blobs/sha256:{digits}")))
            .count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        _ = fs::remove_dir_all(&self.folder);
        _ = Command::new("docker")
            .args(["rmi", &self.image])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

#[test]
fn an_image_is_pulled_from_a_registry_and_found_by_its_digest_too() {
    let (place, registry) = (Place::new(), Registry::start());
    let (code, out, said) = place.run(&["pull", &registry.image]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(out, format!("{}:latest {}\n", registry.image, probe_id()));
    // No terminal: a line at the beginning, and one at the end.
    assert_eq!(said, format!("pulling {0}\npulled {0}\n", registry.image));
    assert!(place.only().join("rootfs/app/probe").is_file());
    place.is_tidy();

    let store = Store::open(place.store()).unwrap();
    let found = store.find(&registry.by_digest()).unwrap().expect("the digest names it");
    assert_eq!(found.id(), probe_id());
    drop(found);
    assert_eq!(place.image(&["ls"]).lines().count(), 2);

    // Again: nothing of it is downloaded.
    let (layer, _) = registry.layer();
    assert_eq!(registry.asked(&layer), 1);
    place.image(&["pull", &registry.image]);
    place.image(&["pull", &registry.by_digest()]);
    assert_eq!(registry.asked(&layer), 1);
    place.image(&["rm", &registry.image]);
    place.is_empty();
}

#[test]
fn many_who_pull_one_image_at_once_download_it_once() {
    let (place, registry) = (Place::new(), Registry::start());
    let pulling: Vec<_> = (0..4)
        .map(|_| {
            place
                .command(&["pull", &registry.image])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in pulling {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(registry.asked(&registry.layer().0), 1);
    place.only();
    place.is_tidy();
}

#[test]
fn a_layer_that_a_registry_has_damaged_is_refused() {
    let (place, registry) = (Place::new(), Registry::start());
    let (digits, path) = registry.layer();
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&path, content).unwrap();
    let (code, _, said) = place.run(&["pull", &registry.image]);
    assert_eq!(code, 1);
    assert!(said.contains(&digits) && said.contains(&registry.image), "{said}");
    place.is_empty();
}

#[test]
fn an_image_that_a_registry_does_not_have_is_missing() {
    let (place, registry) = (Place::new(), Registry::start());
    for name in [format!("{}:other", registry.image), registry.image.replace("probe", "other")] {
        let (code, _, said) = place.run(&["pull", &name]);
        assert_eq!(code, 1);
        assert!(said.contains("has no image") && said.contains(&name), "{said}");
    }
    place.is_empty();
}

#[test]
fn an_index_of_a_registry_is_an_oci_layout_once_it_is_in_an_archive() {
    let (place, registry) = (Place::new(), Registry::start());
    let layout = place.0.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    for (digits, path) in registry.blobs() {
        fs::copy(path, layout.join("blobs/sha256").join(digits)).unwrap();
    }
    let (_, digest) =
        registry.by_digest().split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest, "size": 1,
        "annotations": { "org.opencontainers.image.ref.name": "example.org/probe:2" },
    }] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let archive = place.0.join("oci.tar");
    let status =
        Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg(".").status().unwrap();
    assert!(status.success());
    let out = place.image(&["load", archive.to_str().unwrap()]);
    assert_eq!(out, format!("example.org/probe:2 {}\n", probe_id()));
}

#[tokio::test]
async fn a_missing_image_is_taken_from_the_engine_that_answers() {
    let place = Place::new();
    let name = common::docker::probe_image();
    let store = Store::open(place.store()).unwrap().with_engine(answering);
    store.resolve(name, PullPolicy::Never).await.unwrap_err();
    let image = store.resolve(name, PullPolicy::Missing).await.unwrap();
    assert_eq!(image.id(), probe_id());
    assert_eq!(image.reference(), "docker.io/dcgi-test/probe:latest");
    assert_eq!(store.resolve(name, PullPolicy::Never).await.unwrap().id(), image.id());
    place.is_tidy();
}

#[tokio::test]
async fn an_image_that_no_engine_has_is_pulled_once_for_all_who_ask() {
    let (place, registry) = (Place::new(), Registry::start());
    docker(&["rmi", &registry.image]);
    let store = Store::open(place.store()).unwrap().with_engine(answering);
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (store, name) = (store.clone(), registry.image.clone());
            tokio::spawn(async move { store.resolve(&name, PullPolicy::Missing).await })
        })
        .collect();
    for image in asking {
        assert_eq!(image.await.unwrap().unwrap().id(), probe_id());
    }
    assert_eq!(registry.asked(&registry.layer().0), 1);
    // Always: the registry is asked, and nothing is downloaded that is here.
    store.resolve(&registry.image, PullPolicy::Always).await.unwrap();
    assert_eq!(registry.asked(&registry.layer().0), 1);
    place.is_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_does_not_end_the_pull_that_others_wait_for() {
    let (place, registry) = (Place::new(), Registry::start());
    docker(&["rmi", &registry.image]);
    let store = Store::open(place.store()).unwrap().with_engine(answering);
    let begun = async {
        while names(&place.store().join("locks")).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        image = store.resolve(&registry.image, PullPolicy::Missing) => panic!("nobody saw it begin: {image:?}"),
        () = begun => {}
    }
    wait_until("it comes all the same", PATIENCE, || store.find(&registry.image).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_given_up_leaves_nothing() {
    let (place, registry) = (Place::new(), Registry::start());
    let store = Store::open(place.store()).unwrap();
    let begun = std::sync::atomic::AtomicBool::new(false);
    let tell = |_| begun.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::select! {
        biased;
        () = async { while !begun.load(std::sync::atomic::Ordering::Relaxed) { tokio::task::yield_now().await } } => {}
        image = store.pull(&registry.image, tell) => panic!("nobody saw it begin: {image:?}"),
    }
    place.is_empty();
}
