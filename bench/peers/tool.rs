//! Programs of others: installed, or unpacked by `bench/prerequisites`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `bench/prerequisites` has unpacked what is not installed.
pub(crate) fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/peers")
}

/// Where a file is: below `/`, or below what was unpacked.
pub(crate) fn find(candidates: &[&str]) -> Option<PathBuf> {
    let roots = [PathBuf::from("/"), unpacked()];
    let files = roots.iter().flat_map(|root| candidates.iter().map(move |path| root.join(path)));
    files.into_iter().find(|file| file.exists())
}

/// What the loader has to be told for unpacked programs.
pub(crate) fn library_path() -> OsString {
    let folders = ["usr/lib", "lib"].map(|folder| {
        let folder = unpacked().join(folder);
        folder.join(format!("{}-linux-gnu", std::env::consts::ARCH))
    });
    std::env::join_paths(folders).unwrap()
}

/// A program of this machine's, or an unpacked one with its libraries.
///
/// # Panics
/// Where there is neither.
pub(crate) fn tool(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let installed = std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if let Some(file) = installed {
        return Command::new(file);
    }
    let found = ["usr/sbin", "usr/bin"].map(|folder| unpacked().join(folder).join(name));
    let file = found.into_iter().find(|file| file.is_file());
    let mut command = Command::new(file.unwrap_or_else(|| panic!("no {name}: run bench/prerequisites")));
    command.env("LD_LIBRARY_PATH", library_path());
    command
}

/// Runs a command that is to succeed, and gives what it prints.
///
/// # Panics
/// Where it fails.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.stdin(std::process::Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
