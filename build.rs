//! What `dcgi --version` says: the version, and the commit where it is known.

use std::path::Path;
use std::process::Command;

/// How many digits of a commit name it.
const DIGITS: usize = 12;

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    let here = Path::new(&here);
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // To build anew for each commit is for what is shipped. While it is developed, it is that commit and what came after.
    let is_shipped = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let version = match commit(here) {
        Some(commit) if is_shipped => format!("{version} ({commit})"),
        Some(commit) => format!("{version} ({commit}+)"),
        None => version,
    };
    println!("cargo::rustc-env=DCGI_VERSION={version}");
    println!("cargo::rerun-if-env-changed=DCGI_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // Where a commit or a checkout shows. A path that is not there would have this run at every build.
    for file in ["HEAD", "logs/HEAD"].into_iter().filter(|_| is_shipped) {
        if let Some(path) =
            git(here, &["rev-parse", "--git-path", file]).filter(|path| here.join(path).exists())
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// The commit that this source is of: as whoever packages it says, as cargo has noted it in a package, or as the clone
/// has it. A package that lies in somebody else's repository is none of its commits.
pub(crate) fn commit(here: &Path) -> Option<String> {
    let said = std::env::var("DCGI_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = said.or_else(|| noted(here)).or_else(|| {
        let top = git(here, &["rev-parse", "--show-toplevel"])?;
        let is_ours = Path::new(&top).canonicalize().ok()? == here.canonicalize().ok()?;
        is_ours.then(|| git(here, &["rev-parse", "HEAD"])).flatten()
    })?;
    let digits: String = commit.chars().take(DIGITS).collect();
    (!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(digits)
}

/// What `cargo package` has written beside the manifest.
fn noted(here: &Path) -> Option<String> {
    let text = std::fs::read_to_string(here.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

#[allow(clippy::disallowed_methods, reason = "there is no runtime here")]
fn git(here: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(here).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
