//! `/`: what this is, and what to see.

use std::io::{self, Write};

use super::html::{self, Escaped};
use super::request::Request;
use crate::command::demo::ENGINE;

/// A configuration to begin with. A test reads it as `dcgi serve` would.
const SAMPLE: &str = include_str!("sample.toml");

/// Shows the way round, and where this very page comes from.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    let place = request.place;
    html::begin(out, "Every page a program in a container")?;
    out.write_all(include_bytes!("welcome.html"))?;
    let facts = [
        ("container", place.hostname.clone()),
        ("age", place.age_in_words()),
        ("engine", Some(request.variable(ENGINE).to_owned()).filter(|name| !name.is_empty())),
        ("process", Some(place.process.to_string())),
        ("user", place.user_in_words()),
        ("request", Some(request.variable("REQUEST_ID").to_owned()).filter(|id| !id.is_empty())),
    ];
    out.write_all(b"<dl class=\"label\">\n")?;
    for (name, value) in facts {
        if let Some(value) = value {
            writeln!(out, "<div class=\"{name}\"><dt>{name}</dt><dd>{}</dd></div>", Escaped(&value))?;
        }
    }
    out.write_all(b"</dl>\n")?;
    write!(
        out,
        include_str!("index.html"),
        base = Escaped(&request.base()),
        version = env!("CARGO_PKG_VERSION"),
        sample = Escaped(SAMPLE.trim_end()),
    )?;
    html::end(out, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_a_configuration() {
        let config = dcgi::config::Config::parse(SAMPLE, "dcgi.toml".as_ref()).unwrap();
        assert_eq!(config.routes.len(), 2);
    }
}
