//! What `--log` takes.

use std::str::FromStr;

use dcgi::site::REQUEST_SPAN;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// A level, or filters by target with a level below them.
#[derive(Clone, Debug)]
pub(super) struct Filter(EnvFilter);

impl Filter {
    pub(super) fn to_layer(&self) -> EnvFilter {
        self.0.clone()
    }
}

impl FromStr for Filter {
    type Err = String;

    /// A word that is neither a level nor begins as a target here does is refused: as a target of nobody's it would silence
    /// all there is.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut has_level = false;
        let mut text = text.to_owned();
        // Fields in braces may hold commas; then the whole is left to the parser.
        if !text.contains(['[', '{']) {
            let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            for part in &parts {
                let is_level = part.parse::<LevelFilter>().is_ok();
                has_level |= is_level;
                let is_target = part.contains('=') || *part == "dcgi" || part.starts_with("dcgi::");
                if !(is_level || is_target && part.parse::<Directive>().is_ok()) {
                    return Err(format!("`{part}`: {EXPECTED}"));
                }
            }
            // The parser takes a space for part of a target.
            text = parts.join(",");
        }
        let filter = EnvFilter::builder().parse(text).map_err(|error| format!("{error}: {EXPECTED}"))?;
        // Who names a target wants that beside the usual, and not alone.
        let filter = if has_level { filter } else { filter.add_directive(LevelFilter::INFO.into()) };
        // All that is logged of a request is logged in it, at every level, and by it has its id and route.
        let span = format!("{REQUEST_SPAN}=error").parse().map_err(|error| format!("{error}"))?;
        Ok(Self(filter.add_directive(span)))
    }
}

const EXPECTED: &str = "expected error, warn, info, debug, trace or off, or TARGET=LEVEL such as dcgi::access=off, with commas between";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        text.parse::<Filter>().map(|filter| {
            let text = filter.to_layer().to_string();
            let mut parts: Vec<_> = text.split(',').filter(|part| !part.starts_with(REQUEST_SPAN)).collect();
            parts.sort_unstable();
            parts.join(",")
        })
    }

    #[test]
    fn a_level_or_filters_are_taken() {
        for (text, is) in [
            ("warn", "warn"),
            ("OFF", "off"),
            ("info,dcgi::access=off", "dcgi::access=off,info"),
            ("dcgi=debug, error", "dcgi=debug,error"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(is));
        }
    }

    #[test]
    fn what_names_targets_alone_leaves_the_rest_as_it_is_by_default() {
        assert_eq!(parsed("dcgi::access=off").as_deref(), Ok("dcgi::access=off,info"));
        assert_eq!(parsed("dcgi::stderr").as_deref(), Ok("dcgi::stderr=trace,info"));
        assert_eq!(parsed("").as_deref(), Ok("info"));
    }

    #[test]
    fn what_would_silence_everything_is_refused_with_the_words_that_there_are() {
        for text in ["loud", "info,loud", "dcgi::access=loud", "hyper"] {
            let why = parsed(text).unwrap_err();
            assert!(why.ends_with(EXPECTED), "{text}: {why}");
        }
    }
}
