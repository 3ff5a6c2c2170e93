//! Images without an engine: probes that are compiled here, in stores of their own; and what the embedded engine's
//! processes leave to be seen on the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::server::{self, Server, unique_path};
use super::{PATIENCE, wait_until};

/// A store with these images: each a reference, the name of a probe's source in this folder, and an entrypoint. The
/// probe is `/app/NAME`; beside it there are mount points, and `/data/in-image`.
pub fn store_with(images: &[(&str, &str, &[&str])]) -> Store {
    let store = Store::new();
    for (reference, source, entrypoint) in images {
        store.import(reference, source, entrypoint);
    }
    store
}

/// A store of images in a directory of its own. Removed on drop, so declare it before the server that uses it.
pub struct Store(PathBuf);

impl Store {
    pub fn new() -> Self {
        let folder = unique_path("store");
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes an image of a probe (see [`store_with`]), by `dcgi image import`.
    #[track_caller]
    pub fn import(&self, reference: &str, source: &str, entrypoint: &[&str]) {
        let entrypoint = serde_json::to_string(entrypoint).unwrap();
        let store = self.0.to_str().unwrap();
        let arguments = ["image", "--store", store, "import", "-", reference, "--entrypoint", &*entrypoint];
        let (code, _, said) = server::dcgi(&arguments, &root_of(source));
        assert_eq!(code, 0, "{said}");
    }

    /// The same with what only a complete configuration can say, such as `Volumes`, by `dcgi image load`.
    #[track_caller]
    pub fn load(&self, reference: &str, source: &str, config: &serde_json::Value) {
        self.load_layer(reference, &root_of(source), config);
    }

    /// The same from any layer.
    #[track_caller]
    pub fn load_layer(&self, reference: &str, layer: &[u8], config: &serde_json::Value) {
        let config = serde_json::json!({
            "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))] },
        })
        .to_string();
        let manifest = serde_json::json!([
            { "Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"] }
        ])
        .to_string();
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in
            [("layer.tar", layer), ("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())]
        {
            append(&mut archive, name, 0o644, content);
        }
        let arguments = ["image", "--store", self.0.to_str().unwrap(), "load", "-"];
        let (code, _, said) = server::dcgi(&arguments, &archive.into_inner().unwrap());
        assert_eq!(code, 0, "{said}");
    }

    /// Serves routes (TOML, without `listen` and `engine`) from it.
    #[track_caller]
    pub fn serve(&self, config: &str) -> Server {
        self.serve_with(config, |_| {})
    }

    /// The same, with something changed about the command.
    #[track_caller]
    pub fn serve_with(&self, config: &str, change: impl FnOnce(&mut Command)) -> Server {
        Server::start_with(&format!("engine = \"embedded\"\n{config}"), |command| {
            command.env("DCGI_STORE", &self.0);
            change(command);
        })
    }

    /// Every path below it, without what belongs to an image.
    pub fn listing(&self) -> BTreeSet<PathBuf> {
        let mut paths = BTreeSet::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() && !path.ends_with("rootfs") {
                    folders.push(path.clone());
                }
                paths.insert(path);
            }
        }
        paths
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A probe, compiled statically: once for all suites, as long as its source is the same.
pub fn compiled(source: &str) -> PathBuf {
    static COMPILING: Mutex<()> = Mutex::new(());
    let _alone = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common").join(source);
    // Its modules are in a folder of its name.
    let folder =
        fs::read_dir(main.with_extension("")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut sources: Vec<_> = folder.chain([main.clone()]).collect();
    sources.sort();
    let text: Vec<u8> = sources.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    let name = format!("{}-{}", source.trim_end_matches(".rs"), &sha256(&text)[..16]);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        return path;
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let unfinished = unique_path(source);
    let status = Command::new(rustc)
        .args(["--edition=2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
        .args([&unfinished, &main])
        .status()
        .expect("rustc runs");
    assert!(status.success(), "{source} does not compile");
    // Whole at once, for other processes may do the same.
    fs::rename(unfinished, &path).unwrap();
    path
}

/// The archive of a root file system that holds a probe (see [`store_with`]).
pub fn root_of(source: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let folders = [("app", 0o755), ("data", 0o755), ("dev", 0o755), ("etc", 0o755)];
    for (folder, mode) in folders.into_iter().chain([("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777)]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(mode);
        archive.append_data(&mut header, format!("{folder}/"), std::io::empty()).unwrap();
    }
    let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
    append(&mut archive, "data/in-image", 0o644, b"as it is in the image");
    append(&mut archive, &format!("app/{name}"), 0o755, &fs::read(compiled(source)).unwrap());
    archive.into_inner().unwrap()
}

/// The archive of a root file system as a package of CGI programs leaves it: each is the probe.
pub fn root_of_scripts() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let probe = fs::read(compiled("probe.rs")).unwrap();
    for file in ["app/probe", "usr/lib/cgi-bin/a.cgi", "usr/lib/cgi-bin/sub/b.cgi"] {
        append(&mut archive, file, 0o755, &probe);
    }
    for file in ["usr/lib/cgi-bin/.hidden.cgi", "usr/lib/cgi-bin/a.cgi~", "usr/share/more/note"] {
        append(&mut archive, file, 0o644, b"");
    }
    for (path, target) in [
        ("usr/lib/cgi-bin/link.cgi", "/etc/alternatives/link"),
        ("etc/alternatives/link", "../../app/probe"),
        ("usr/lib/cgi-bin/more", "../../share/more"),
        ("usr/share/more/m.cgi", "/app/probe"),
        ("usr/lib/cgi-bin/gone.cgi", "/none"),
        ("usr/lib/cgi-bin/loop.cgi", "loop.cgi"),
        ("usr/lib/cgi-bin/copy.cgi", "a.cgi~"),
        ("srv", "usr/lib"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, path, target).unwrap();
    }
    archive.into_inner().unwrap()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, name, Cursor::new(content)).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A process of the machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// As `ps` shows it: `dcgi-slot`, say.
    pub name: String,
    /// A letter, as proc(5) has it: `Z` is dead already.
    pub state: char,
}

/// Every process that is there now.
pub fn processes() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let read = |pid: u32| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let (head, tail) = stat.rsplit_once(')')?;
        let mut tail = tail.split_ascii_whitespace();
        let state = tail.next()?.chars().next()?;
        let parent = tail.next()?.parse().ok()?;
        Some((pid, Process { pid, parent, name: head.split_once('(')?.1.to_owned(), state }))
    };
    pids.filter_map(read).collect()
}

/// All below a process, in the order of their ids.
pub fn descendants(of: u32) -> Vec<Process> {
    let all = processes();
    let is_below = |process: &&Process| {
        let mut at = process.parent;
        // A process may end while it is looked at, and its id come again: never in circles for long.
        for _ in 0..64 {
            if at == of {
                return true;
            }
            match all.get(&at) {
                Some(parent) => at = parent.parent,
                None => return false,
            }
        }
        false
    };
    all.values().filter(is_below).cloned().collect()
}

/// The ids of those below a process that have a name.
pub fn named(of: u32, name: &str) -> BTreeSet<u32> {
    descendants(of).into_iter().filter(|process| process.name == name).map(|process| process.pid).collect()
}

/// The slots of a server. An init in its first moments still has the name of the slot that made it, and is none.
pub fn slots_of(server: &Server) -> BTreeSet<u32> {
    let below = descendants(server.pid());
    let zygotes: BTreeSet<_> =
        below.iter().filter(|process| process.parent == server.pid()).map(|process| process.pid).collect();
    let slots =
        below.iter().filter(|process| process.name == "dcgi-slot" && zygotes.contains(&process.parent));
    slots.map(|slot| slot.pid).collect()
}

/// Waits until nothing is below a server but its zygote.
#[track_caller]
pub fn wait_until_idle(server: &Server) {
    wait_until("only the zygote is left", PATIENCE, || {
        let below = descendants(server.pid());
        // A slot's cgroups go a moment after it.
        let is_slots =
            |group: &PathBuf| group.file_name().is_some_and(|name| !name.to_string_lossy().contains('.'));
        below.len() == 1 && below[0].name == "dcgi-zygote" && !cgroups_of(server.pid()).iter().any(is_slots)
    });
}

/// The directories that a dcgi process has among the control groups, in every tree, and those within.
pub fn cgroups_of(pid: u32) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mark = format!(".{pid}.");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points =
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    for point in points {
        for folder in folders_below(Path::new(point)) {
            if folder.iter().any(|part| part.to_string_lossy().contains(&mark)) {
                found.insert(folder);
            }
        }
    }
    found
}

fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.flat_map(|entry| [vec![entry.path()], folders_below(&entry.path())].concat()).collect()
}
