//! What this machine runs, in the words of images.

use super::error::{StoreError, StoreErrorKind};

pub(super) const OS: &str = "linux";

/// Go's name for this machine's processor, as images have it.
pub(super) const ARCHITECTURE: &str = architecture(std::env::consts::ARCH.as_bytes());

const fn architecture(rust: &'static [u8]) -> &'static str {
    match rust {
        b"x86_64" => "amd64",
        b"aarch64" => "arm64",
        b"x86" => "386",
        b"powerpc64" => "ppc64le",
        b"loongarch64" => "loong64",
        _ => std::env::consts::ARCH,
    }
}

/// Refuses what cannot run here. An image that says nothing may be anything.
pub(super) fn check(os: &str, architecture: &str) -> Result<(), StoreError> {
    let fits = |said: &str, ours: &str| said.is_empty() || said == ours;
    if fits(os, OS) && fits(architecture, ARCHITECTURE) {
        return Ok(());
    }
    let or_unknown =
        |said: &'static str, text: &str| if text.is_empty() { said.to_owned() } else { text.to_owned() };
    let (os, architecture) = (or_unknown("unknown", os), or_unknown("unknown", architecture));
    Err(refused(&format!("{}/{}", os.escape_debug(), architecture.escape_debug())))
}

/// The error that names both.
pub(super) fn refused(theirs: &str) -> StoreError {
    let what = format!("the image is for {theirs}, and this machine is {OS}/{ARCHITECTURE}");
    StoreError::new(StoreErrorKind::Platform, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_for_this_machine_or_for_any_is_taken() {
        check(OS, ARCHITECTURE).unwrap();
        check("", "").unwrap();
    }

    #[test]
    fn an_image_for_another_machine_is_refused_and_both_are_named() {
        for (os, architecture, theirs) in [
            ("linux", "s390x", "linux/s390x"),
            ("windows", ARCHITECTURE, "windows/"),
            ("", "wasm", "unknown/wasm"),
        ] {
            let error = check(os, architecture).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Platform);
            let said = error.to_string();
            assert!(said.contains(theirs) && said.contains(&format!("{OS}/{ARCHITECTURE}")), "{said}");
        }
    }
}
