//! `/script`: what it takes to serve a script of one's own.

use std::io::{self, Write};

use super::html::{self, Escaped};
use super::request::Request;

/// What the page asks the reader to write. `tests/rootfs.rs` serves it.
const SCRIPT: &str = include_str!("script.sh");
const ROUTE: &str = include_str!("script.toml");
const WITH_IMAGE: &str = include_str!("script-image.toml");

/// Tells it step by step.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    html::begin(out, "Your own script")?;
    write!(
        out,
        include_str!("script.html"),
        script = Escaped(SCRIPT.trim_end()),
        route = Escaped(ROUTE.trim_end()),
        image = Escaped(WITH_IMAGE.trim_end()),
    )?;
    html::end(out, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_configurations() {
        for text in [ROUTE, WITH_IMAGE] {
            let config = dcgi::config::Config::parse(text, "dcgi.toml".as_ref()).unwrap();
            assert_eq!(config.routes.len(), 1);
        }
    }
}
