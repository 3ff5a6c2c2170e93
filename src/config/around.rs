//! What stands around a route's program: where clients are sent, who may come in, what every answer has.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::Uri;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use toml::de::DeValue;

use super::mount;
use super::value::{Reading, any_string, string, text};
use crate::site::{BasicAuth, RateLimit, Rewrite, SendFile};

/// More at once, or in a time, is no limit.
const MOST_REQUESTS: u32 = 100_000;

/// What a redirect may be called.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// Fields that say how a message is to be read, or that are dcgi's own, and no route's.
const FRAMING: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "keep-alive",
    "location",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Where clients are sent.
pub(super) fn redirect(value: &DeValue<'_>) -> Reading<String> {
    const WHAT: &str =
        "a URL such as \"https://new.example/{path}\", or a path of this host such as \"/new/{path}\"";
    let to = text(value, WHAT)?;
    placeholders(to, &["{path}", "{host}"])?;
    let filled = to.replace("{path}", "x").replace("{host}", "x.example");
    let is_url = filled.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    let is_path = filled.starts_with('/') && !filled.starts_with("//") && filled.parse::<Uri>().is_ok();
    // SECURITY: with a path of the client's where a host's name ends, it would choose the host.
    let in_host = to.split_once("://").is_some_and(|(_, behind)| {
        behind.split(['/', '?']).next().is_some_and(|host| host.contains("{path}"))
    });
    match (is_url || is_path) && !in_host && !to.contains('\\') {
        true => Ok(to.to_owned()),
        false => Err(format!("expected {WHAT}")),
    }
}

pub(super) fn redirect_status(value: &DeValue<'_>) -> Reading<u16> {
    let status = super::value::integer(value).and_then(|status| u16::try_from(status).ok());
    status
        .filter(|status| REDIRECTS.contains(status))
        .ok_or_else(|| "expected 301 or 308 (for good), 302 or 307 (for now), or 303 (see there)".to_owned())
}

/// One entry of `rewrite`.
pub(super) fn rewrite(value: &DeValue<'_>) -> Reading<Rewrite> {
    const WHAT: &str = "{ when = \"not-a-file\", to = \"/index.php\" }";
    let mut to = None;
    let mut when = None;
    for (key, value) in table(value, WHAT)? {
        match key.as_str() {
            "when" => when = Some(any_string(&value)?),
            "to" => to = Some(any_string(&value)?),
            key => return Err(format!("it has the key `{}`; expected {WHAT}", key.escape_debug())),
        }
    }
    if when.as_deref() != Some("not-a-file") {
        return Err(format!("its `when` can be \"not-a-file\" alone; expected {WHAT}"));
    }
    let to = to.filter(|to| to.starts_with('/') && !to.contains(['?', '#']));
    let to = to.ok_or_else(|| {
        format!("its `to` is a path in the directory, which begins with a slash; expected {WHAT}")
    })?;
    placeholders(&to, &["{path}"])?;
    Ok(Rewrite { to })
}

/// A network of clients.
pub(super) fn network(value: &DeValue<'_>) -> Reading<IpNet> {
    string("a network or an address such as \"10.0.0.0/8\" or \"::1\", IPv4 written as IPv4", |text| {
        let network = text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))?;
        // A client is never known by such an address.
        let is_mapped = matches!(network, IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some());
        (!is_mapped).then_some(network)
    })(value)
}

/// So many requests a second, minute or hour, and so many at once.
pub(super) fn rate_limit(value: &DeValue<'_>) -> Reading<RateLimit> {
    string(
        "requests in a second, minute or hour such as \"20/s\", with how many at once such as \"20/s/100\"",
        |text| {
            let mut parts = text.split('/');
            let count =
                |text: &str| text.parse().ok().filter(|count: &NonZeroU32| count.get() <= MOST_REQUESTS);
            let requests = count(parts.next()?)?;
            let per = Duration::from_secs(match parts.next()? {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            });
            let burst = parts.next().map_or(Some(requests), count)?;
            parts.next().is_none().then_some(RateLimit { requests, per, burst })
        },
    )(value)
}

/// Who may come in.
pub(super) fn auth(value: &DeValue<'_>, base: &Path) -> Reading<BasicAuth> {
    const WHAT: &str = "{ basic = \"./.htpasswd\", realm = \"Staff\" }, maybe with `groups` and `require`";
    let path = |value: &DeValue<'_>, key: &str| -> Reading<PathBuf> {
        let path = any_string(value).ok().filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| format!("its `{key}` is a file's path; expected {WHAT}"))?;
        Ok(mount::normal(&base.join(path)))
    };
    let mut auth =
        BasicAuth { file: PathBuf::new(), groups: None, realm: "dcgi".to_owned(), require: Vec::new() };
    for (key, value) in table(value, WHAT)? {
        match key.as_str() {
            "basic" => auth.file = path(&value, "basic")?,
            "groups" => auth.groups = Some(path(&value, "groups")?),
            "realm" => {
                let realm = any_string(&value).ok();
                // What would end it, or the field.
                let realm = realm.filter(|realm| {
                    realm.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\')
                });
                auth.realm = realm.ok_or("its `realm` is plain text, without quotes and backslashes")?;
            }
            "require" => {
                let names =
                    value.as_array().ok_or_else(|| format!("its `require` is a list; expected {WHAT}"))?;
                auth.require = names.iter().map(|name| any_string(name.get_ref())).collect::<Reading<_>>()?;
            }
            key => return Err(format!("it has the key `{}`; expected {WHAT}", key.escape_debug())),
        }
    }
    if auth.file.as_os_str().is_empty() {
        return Err(format!("it has no `basic`; expected {WHAT}"));
    }
    if let Some(group) = auth.require.iter().find(|name| name.starts_with('@'))
        && auth.groups.is_none()
    {
        return Err(format!("its `require` names the group `{group}`, and there is no file of `groups`"));
    }
    Ok(auth)
}

/// The name of a field that every answer has.
pub(super) fn header_name(name: &str) -> Reading<()> {
    let parsed =
        HeaderName::try_from(name).map_err(|_| "expected a header's name, such as \"X-Frame-Options\"")?;
    match FRAMING.contains(&parsed.as_str()) {
        true => Err("it says how an answer is to be read, and is set for each".to_owned()),
        false => Ok(()),
    }
}

pub(super) fn header_value(value: &DeValue<'_>) -> Reading<HeaderValue> {
    string("a header's value, in one line", |text| HeaderValue::try_from(text).ok())(value)
}

/// The status of a failure that has a page.
pub(super) fn failing_status(name: &str) -> Reading<()> {
    match name.parse::<u16>() {
        Ok(400..=599) => Ok(()),
        _ => Err("expected a status from 400 to 599".to_owned()),
    }
}

/// What is asked for instead.
pub(super) fn error_page(value: &DeValue<'_>) -> Reading<String> {
    string("a path of this site, such as \"/errors/404.html\"", |text| {
        let is_path = text.starts_with('/') && !text.starts_with("//") && text.parse::<Uri>().is_ok();
        is_path.then(|| text.to_owned())
    })(value)
}

/// Where programs may have files sent from: a directory, and what they call it.
///
/// SECURITY: not one that holds the file that is read, which may have secrets.
pub(super) fn sendfile(value: &DeValue<'_>, file: &Path) -> Reading<SendFile> {
    const WHAT: &str =
        "a directory such as \"./private\", maybe with what programs call it: \"./private:/protected\"";
    let text = text(value, WHAT)?;
    let (directory, called) = match text.split_once(':') {
        Some((directory, called)) => (directory, Some(called)),
        None => (text, None),
    };
    let is_called = |called: &str| called.starts_with('/') && !called.contains("/.") && !called.contains(':');
    if directory.is_empty() || called.is_some_and(|called| !is_called(called)) {
        return Err(format!("expected {WHAT}"));
    }
    let directory = mount::normal(&file.parent().unwrap_or(Path::new("/")).join(directory));
    if file.starts_with(&directory) {
        return Err(
            "this file is in it, and a program could have it sent: name a directory of its own".to_owned()
        );
    }
    let called = match called {
        Some(called) => called.to_owned(),
        None => directory.to_str().ok_or_else(|| format!("expected {WHAT}"))?.to_owned(),
    };
    Ok(SendFile { directory, called })
}

/// The entries of a table that stands in a line.
fn table<'v>(value: &DeValue<'v>, what: &str) -> Reading<Vec<(String, DeValue<'v>)>> {
    let table = value.as_table().ok_or_else(|| format!("expected a table such as {what}"))?;
    Ok(table.iter().map(|(name, value)| (name.get_ref().to_string(), value.get_ref().clone())).collect())
}

/// That all in braces is known.
fn placeholders(text: &str, known: &[&str]) -> Reading<()> {
    let rest = known.iter().fold(text.to_owned(), |text, known| text.replace(known, ""));
    match rest.contains(['{', '}']) {
        true => Err(format!("in braces it knows {} alone", known.join(" and "))),
        false => Ok(()),
    }
}
