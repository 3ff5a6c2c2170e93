//! The programs as root file systems that have nothing but them and what they need, and as images of both engines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::program::Programs;
use super::stage::{self, Stage};
use super::support;
use super::tool::{self, output};

/// Nobody's numbers.
pub(crate) const USER: &str = "65534:65534";

const NAMES: [&str; 3] = ["static", "perl", "php"];

/// What dcgi's own store calls an image.
pub(crate) fn name(name: &str) -> String {
    format!("bench/{name}")
}

/// What Docker calls it.
pub(crate) fn docker_name(name: &str) -> String {
    format!("dcgi-bench/peers-{name}")
}

/// Writes an archive for each image.
pub(crate) fn write_archives(stage: &Stage, programs: &Programs) {
    let mut archive = tar::Builder::new(Vec::new());
    for name in Programs::binaries() {
        archive.append_path_with_name(programs.folder.join(name), format!("bin/{name}")).unwrap();
    }
    stage.write("static.tar", archive.into_inner().unwrap());

    let mut archive = with_interpreter(&programs.perl);
    archive.append_path_with_name(programs.folder.join("hello.pl"), "hello.pl").unwrap();
    for folder in perl_modules() {
        archive.append_dir_all(folder.strip_prefix("/").unwrap(), &folder).unwrap();
    }
    stage.write("perl.tar", archive.into_inner().unwrap());

    let mut archive = with_interpreter(&programs.php);
    let script = stage.write("container.php", Programs::php_script());
    archive.append_path_with_name(script, "hello.php").unwrap();
    // Debian's PHP has no time zones of its own, and complains in its answer where there are none.
    let zone = Path::new("/usr/share/zoneinfo/UTC");
    if zone.exists() {
        archive.append_path_with_name(zone, zone.strip_prefix("/").unwrap()).unwrap();
    }
    stage.write("php.tar", archive.into_inner().unwrap());
}

/// Imports the archives into an image store of dcgi's, and gives its folder.
pub(crate) fn import(stage: &Stage) -> PathBuf {
    let store = stage.path("store");
    for image in NAMES {
        let mut command = Command::new(support::executable());
        command.args(["image", "import", "--store"]).arg(&store).arg(stage.path(&format!("{image}.tar")));
        output(command.arg(name(image)).args(["--user", USER, "--entrypoint", "/none"]));
    }
    store
}

/// The same for Docker, where they are gone with the stage. False where no engine answers.
pub(crate) fn import_into_docker(stage: &Stage) -> bool {
    let mut version = Command::new("docker");
    version.arg("version").stdout(Stdio::null()).stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        return false;
    }
    stage::remember_docker(NAMES.map(docker_name).to_vec());
    for image in NAMES {
        let user = format!("USER {USER}");
        let mut command = Command::new("docker");
        command.args(["import", "--change", "ENTRYPOINT []", "--change", &user]);
        output(command.arg(stage.path(&format!("{image}.tar"))).arg(docker_name(image)));
    }
    true
}

/// An interpreter with the libraries that it is linked to.
fn with_interpreter(program: &Path) -> tar::Builder<Vec<u8>> {
    let mut files = libraries(program);
    files.insert(program.to_owned());
    let mut archive = tar::Builder::new(Vec::new());
    // The loader looks for a library where it is called to be, whatever link it is there.
    archive.follow_symlinks(true);
    for file in files {
        let place = file.strip_prefix(tool::unpacked()).or_else(|_| file.strip_prefix("/")).unwrap();
        archive.append_path_with_name(&file, place).unwrap();
    }
    archive
}

/// What ldd(1) says, the dynamic loader included.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let mut command = Command::new("ldd");
    if program.starts_with(tool::unpacked()) {
        command.env("LD_LIBRARY_PATH", tool::library_path());
    }
    let listed = output(command.arg(program));
    listed.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Where `use strict` is found: `perl-base` in Debian's package of this name, which is all of Perl that is essential.
fn perl_modules() -> Vec<PathBuf> {
    let folders = output(Command::new("perl").args(["-e", "print map { qq($_\\n) } @INC"]));
    let folders: Vec<_> = folders.lines().map(PathBuf::from).filter(|folder| folder.is_dir()).collect();
    let essential: Vec<_> = folders.iter().filter(|folder| folder.ends_with("perl-base")).cloned().collect();
    if essential.is_empty() { folders } else { essential }
}
