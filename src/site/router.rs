//! Which route answers: the request's host and path decide.

use std::collections::HashMap;

/// Finds a target by host and path prefix.
#[derive(Clone, Debug)]
pub struct Router<T> {
    /// By host, in lower case and without a port.
    hosts: HashMap<String, Prefixes<T>>,
    /// For every host that has no match of its own.
    any: Prefixes<T>,
}

/// A target, and what the prefix left of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'r, 'p, T> {
    /// What stands under the matched prefix.
    pub target: &'r T,
    /// What follows the prefix: empty, or `/` and more. `PATH_INFO`.
    pub path_info: &'p [u8],
}

/// Prefixes and their targets, the longest first.
///
/// A scan and not a map of prefixes: a map would hash the path once for each of its segments, so that a client
/// could buy work with slashes.
#[derive(Clone, Debug)]
struct Prefixes<T>(Vec<(String, T)>);

// === impl Router ===

impl<T> Router<T> {
    /// A router over `(host, prefix, target)`.
    ///
    /// Host and prefix are in the form of [`Route::host`](super::Route::host) and
    /// [`Route::path`](super::Route::path): a host is in lower case and has no port, and none stands for any
    /// host; a prefix is `""` or begins with a slash and ends without one. Of two equal entries the first wins.
    pub fn new(entries: impl IntoIterator<Item = (Option<String>, String, T)>) -> Self {
        let mut router = Self { hosts: HashMap::new(), any: Prefixes(Vec::new()) };
        for (host, prefix, target) in entries {
            let prefixes = match host {
                Some(host) => router.hosts.entry(host).or_insert_with(|| Prefixes(Vec::new())),
                None => &mut router.any,
            };
            prefixes.0.push((prefix, target));
        }
        for prefixes in router.hosts.values_mut().chain([&mut router.any]) {
            prefixes.0.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        router
    }

    /// The target with the longest prefix of `path`, whole segments compared.
    ///
    /// Any target of the request's own host goes before those for all hosts, however long their prefixes are.
    /// `host` is in lower case and has no port; `path` is decoded and has no dot segments. A run of slashes in it counts as
    /// one where a prefix has one; what the prefix leaves is as it came.
    pub fn find<'r, 'p>(&'r self, host: &str, path: &'p [u8]) -> Option<Match<'r, 'p, T>> {
        self.hosts.get(host).and_then(|own| own.find(path)).or_else(|| self.any.find(path))
    }
}

// === impl Prefixes ===

impl<T> Prefixes<T> {
    fn find<'r, 'p>(&'r self, path: &'p [u8]) -> Option<Match<'r, 'p, T>> {
        self.0.iter().find_map(|(prefix, target)| {
            let path_info = strip_prefix(path, prefix.as_bytes())?;
            matches!(path_info.first(), None | Some(b'/')).then_some(Match { target, path_info })
        })
    }
}

/// What a prefix leaves of a path, in which each of the prefix's slashes may be a run of them.
fn strip_prefix<'p>(mut path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    for byte in prefix {
        path = path.strip_prefix(&[*byte])?;
        if *byte == b'/' {
            let run = path.iter().take_while(|&&byte| byte == b'/').count();
            path = &path[run..];
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The target and the path info, as text.
    fn find<'a>(router: &'a Router<&str>, host: &str, path: &'a str) -> Option<(&'a str, &'a str)> {
        let found = router.find(host, path.as_bytes())?;
        Some((found.target, std::str::from_utf8(found.path_info).unwrap()))
    }

    /// Routes written as `/prefix` or `host/prefix`; each is its own target.
    fn router(routes: &[&'static str]) -> Router<&'static str> {
        Router::new(routes.iter().map(|&route| {
            let (host, prefix) = route.split_at(route.find('/').unwrap_or(route.len()));
            ((!host.is_empty()).then(|| host.to_owned()), prefix.to_owned(), route)
        }))
    }

    #[test]
    fn a_path_equal_to_the_prefix_leaves_no_path_info() {
        assert_eq!(find(&router(&["/hello"]), "h", "/hello"), Some(("/hello", "")));
    }

    #[test]
    fn a_slash_after_the_prefix_is_path_info() {
        assert_eq!(find(&router(&["/hello"]), "h", "/hello/"), Some(("/hello", "/")));
    }

    #[test]
    fn a_prefix_matches_whole_segments_only() {
        assert_eq!(find(&router(&["/vote"]), "h", "/votes"), None);
    }

    #[test]
    fn the_longest_prefix_wins_in_whatever_order_routes_stand() {
        for routes in [["/a", "/a/b"], ["/a/b", "/a"]] {
            assert_eq!(find(&router(&routes), "h", "/a/b/c"), Some(("/a/b", "/c")));
        }
    }

    #[test]
    fn a_longer_prefix_that_ends_inside_a_segment_does_not_hide_a_shorter_one() {
        assert_eq!(find(&router(&["/a", "/a/b"]), "h", "/a/bc"), Some(("/a", "/bc")));
    }

    #[test]
    fn the_root_route_matches_everything_and_keeps_the_whole_path() {
        let router = router(&[""]);
        assert_eq!(find(&router, "h", "/"), Some(("", "/")));
        assert_eq!(find(&router, "h", "/x/y"), Some(("", "/x/y")));
    }

    #[test]
    fn a_route_of_the_host_wins_over_a_longer_one_for_any_host() {
        let router = router(&["/a/b", "example.org/a"]);
        assert_eq!(find(&router, "example.org", "/a/b"), Some(("example.org/a", "/b")));
    }

    #[test]
    fn where_the_host_has_no_match_a_route_for_any_host_answers() {
        let router = router(&["/b", "example.org/a"]);
        assert_eq!(find(&router, "example.org", "/b"), Some(("/b", "")));
    }

    #[test]
    fn a_route_of_another_host_never_answers() {
        assert_eq!(find(&router(&["example.org/a"]), "example.com", "/a"), None);
    }

    #[test]
    fn a_run_of_slashes_counts_as_one_where_the_prefix_has_one() {
        let router = router(&["/a/b", "/a"]);
        assert_eq!(find(&router, "h", "//a/b"), Some(("/a/b", "")));
        assert_eq!(find(&router, "h", "/a///b/c"), Some(("/a/b", "/c")));
        assert_eq!(find(&router, "h", "//a//bc"), Some(("/a", "//bc")));
        assert_eq!(find(&router, "h", "//ab"), None);
    }

    #[test]
    fn a_run_of_slashes_behind_the_prefix_stays() {
        assert_eq!(find(&router(&["/a"]), "h", "/a//b///c//"), Some(("/a", "//b///c//")));
        assert_eq!(find(&router(&[""]), "h", "//x"), Some(("", "//x")));
    }

    #[test]
    fn a_path_need_not_be_utf_8() {
        let router = router(&["/a"]);
        assert_eq!(router.find("h", b"/a/\xff").unwrap().path_info, b"/\xff");
    }

    #[test]
    fn an_empty_router_finds_nothing() {
        assert_eq!(find(&router(&[]), "h", "/"), None);
    }
}
