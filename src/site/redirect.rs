//! Local redirects: the same client's request, for another path here.

use http::{Method, Uri, request};

use crate::connection::RawTarget;
use crate::gateway::Failure;

/// Turns a request into the GET that a local redirect asks for (RFC 3875 §6.2.2): the same client, another path,
/// no body and nothing that describes one.
pub(super) fn redirected(head: &mut request::Parts, mount: &str, location: &str) -> Result<(), Failure> {
    let target = match location.strip_prefix(mount) {
        Some(inside) if inside.starts_with('/') => inside.to_owned(),
        // The mount itself, with no slash behind it.
        Some(inside) if inside.is_empty() || inside.starts_with('?') => format!("/{inside}"),
        _ => return Err(Failure::NoRoute),
    };
    let target = target.parse().map_err(|_| Failure::Malformed("the local redirect is no path"))?;
    // An authority stays: it is the host that was asked for, and HTTP/2 has no Host field beside it.
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = Some(target);
    head.uri = Uri::from_parts(parts).map_err(|_| Failure::Malformed("the request has no usable target"))?;
    head.method = Method::GET;
    // The first target's.
    head.extensions.remove::<RawTarget>();
    let describes_body = |name: &str| name.starts_with("content-") || name == "transfer-encoding";
    let names: Vec<_> = head.headers.keys().filter(|name| describes_body(name.as_str())).cloned().collect();
    for name in names {
        head.headers.remove(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn after_redirect(uri: &str, mount: &str, location: &str) -> Result<String, Failure> {
        let (mut head, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
        redirected(&mut head, mount, location)?;
        Ok(head.uri.to_string())
    }

    #[test]
    fn a_local_redirect_replaces_path_and_query() {
        assert_eq!(after_redirect("/a?b", "", "/c?d").unwrap(), "/c?d");
        assert_eq!(after_redirect("/a?b", "", "/c").unwrap(), "/c");
    }

    #[test]
    fn a_local_redirect_keeps_the_host_that_the_target_names() {
        assert_eq!(after_redirect("http://h:81/a?b", "", "/c").unwrap(), "http://h:81/c");
    }

    #[test]
    fn a_local_redirect_stays_below_the_mount() {
        assert_eq!(after_redirect("/a", "/apps", "/apps/c").unwrap(), "/c");
        assert_eq!(after_redirect("/a", "/apps", "/apps").unwrap(), "/");
        assert_eq!(after_redirect("/a", "/apps", "/apps?x").unwrap(), "/?x");
        for outside in ["/c", "/appsc"] {
            assert!(matches!(after_redirect("/a", "/apps", outside), Err(Failure::NoRoute)), "{outside}");
        }
    }
}
