//! The programs that are served: hello in C, static; hello in Perl. As files, and as root file systems that have
//! nothing but them and what they need.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::stage::{self, Stage};
use super::support;

/// What Docker calls the image.
pub(crate) const DOCKER_IMAGE: &str = "dcgi-bench/peers-hello";

const PERL: &str = "#!/usr/bin/perl\nuse strict;\nuse warnings;\n\
                    print \"Content-Type: text/plain\\n\\nHello from Perl!\\n\";\n";

/// Puts the programs into a folder `cgi`, as servers without containers want them.
pub(crate) fn build(stage: &Stage) -> PathBuf {
    let folder = stage.path("cgi");
    fs::create_dir(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("cgi-images/hello/hello.c");
    // As the image dcgi/hello is built.
    succeed(
        Command::new("cc")
            .args(["-std=c11", "-Os", "-s", "-static", "-o"])
            .arg(folder.join("hello"))
            .arg(source),
    );
    let script = folder.join("hello.pl");
    fs::write(&script, PERL).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Imports both into an image store of dcgi's, as `bench/hello` and `bench/perl`, and gives its folder.
pub(crate) fn import(stage: &Stage, programs: &Path) -> PathBuf {
    let store = stage.path("store");
    let import = |archive: &Path, reference: &str, entrypoint: &str| {
        let mut command = Command::new(support::executable());
        command.args(["image", "import", "--store"]).arg(&store).arg(archive).arg(reference);
        succeed(command.args(["--user", "65534:65534", "--entrypoint", entrypoint]));
    };
    import(&hello_archive(stage, programs), "bench/hello", "/bin/hello");
    import(&perl_archive(stage, programs), "bench/perl", "/hello.pl");
    store
}

/// Imports hello into Docker. False where no engine answers.
pub(crate) fn import_into_docker(stage: &Stage, programs: &Path) -> bool {
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !quiet(Command::new("docker").arg("version")) {
        return false;
    }
    let mut command = Command::new("docker");
    command.args(["import", "--change", "ENTRYPOINT [\"/bin/hello\"]", "--change", "USER 65534:65534"]);
    stage::remember_image(DOCKER_IMAGE);
    succeed(command.arg(hello_archive(stage, programs)).arg(DOCKER_IMAGE));
    true
}

fn hello_archive(stage: &Stage, programs: &Path) -> PathBuf {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name(programs.join("hello"), "bin/hello").unwrap();
    stage.write("hello.tar", archive.into_inner().unwrap())
}

/// The script, this machine's Perl, the libraries that it is linked to, and the modules that it cannot do without.
fn perl_archive(stage: &Stage, programs: &Path) -> PathBuf {
    let perl = Path::new("/usr/bin/perl");
    let mut files = libraries(perl);
    files.insert(perl.to_owned());
    let mut archive = tar::Builder::new(Vec::new());
    // The loader looks for a library where it is called to be, whatever link it is there.
    archive.follow_symlinks(true);
    archive.append_path_with_name(programs.join("hello.pl"), "hello.pl").unwrap();
    for file in files {
        archive.append_path_with_name(&file, file.strip_prefix("/").unwrap()).unwrap();
    }
    for folder in module_folders() {
        archive.append_dir_all(folder.strip_prefix("/").unwrap(), &folder).unwrap();
    }
    stage.write("perl.tar", archive.into_inner().unwrap())
}

/// What ldd(1) says, the dynamic loader included.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let listed = output(Command::new("ldd").arg(program));
    listed.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Where `use strict` is found: `perl-base` in Debian's package of this name, which is all of Perl that is essential.
fn module_folders() -> Vec<PathBuf> {
    let folders = output(Command::new("perl").args(["-e", "print map { qq($_\\n) } @INC"]));
    let folders: Vec<_> = folders.lines().map(PathBuf::from).filter(|folder| folder.is_dir()).collect();
    let essential: Vec<_> = folders.iter().filter(|folder| folder.ends_with("perl-base")).cloned().collect();
    if essential.is_empty() { folders } else { essential }
}

fn succeed(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}

/// What a command prints on its standard output. Empty where it cannot be run.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}
