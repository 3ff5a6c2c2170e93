//! The engine under the tests, seen through the `docker` command: never through the code that is tested.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The image that holds the probe and nothing else.
pub const PROBE: &str = "dcgi-test/probe";

/// Runs `docker` and gives what it prints.
#[track_caller]
#[allow(clippy::disallowed_methods)]
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("the docker command runs");
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("docker prints text")
}

/// How many containers carry a label, running or not.
pub fn containers(label: &str) -> usize {
    docker(&["ps", "-aq", "--filter", &format!("label={label}")]).lines().count()
}

/// Compiles the probe and makes its image, once a process.
pub fn probe_image() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/probe.rs");
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let status = Command::new(rustc)
            .args(["--edition=2024", "-O", "-C", "target-feature=+crt-static", "-o"])
            .args([&folder.join("probe"), &PathBuf::from(source)])
            .status()
            .expect("rustc runs");
        assert!(status.success(), "the probe does not compile");
        std::fs::write(
            folder.join("Dockerfile"),
            "FROM scratch\nENV FROM_IMAGE=yes\nCOPY probe /app/probe\nENTRYPOINT [\"/app/probe\"]\n",
        )
        .unwrap();
        docker(&["build", "-q", "-t", PROBE, folder.to_str().unwrap()]);
        std::fs::remove_dir_all(folder).unwrap();
    });
    PROBE
}
