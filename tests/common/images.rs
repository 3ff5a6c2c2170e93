//! The example images: `cgi-images/build` makes them.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Builds the example images of these names, or all of them where none is named; each once a process. Quick where the
/// engine has them.
#[track_caller]
#[allow(clippy::disallowed_methods)]
pub fn example_images(names: &[&'static str]) {
    static BUILT: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    const ALL: &str = "";
    // Held over the build: tests that need the same image wait for it. One that failed fails each of them.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = if names.is_empty() { &[ALL] } else { names };
    if built.contains(ALL) || wanted.iter().all(|name| built.contains(name)) {
        return;
    }
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cgi-images/build"))
        .args(names)
        .output()
        .expect("cgi-images/build runs");
    assert!(
        output.status.success(),
        "cgi-images/build {names:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    built.extend(wanted);
}
