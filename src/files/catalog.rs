//! A directory that cannot be looked at again and again: what was in it once.

use std::collections::BTreeMap;

use super::tree::{ABSENT, Found, LONGEST_PATH, NotFound, WELL_KNOWN, forbidden, shown, unserved};

/// How many links may lead on to each other (MAXSYMLINKS).
const MOST_LINKS: u32 = 40;

/// What was in a directory, and what links in it lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    /// The directory: an absolute path without links.
    directory: String,
    /// By absolute paths, as links lead there.
    nodes: BTreeMap<String, Node>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File,
    /// A link, and where it leads: an absolute path.
    Link(String),
    Other,
}

impl Catalog {
    /// Of a directory: an absolute path without links.
    pub(crate) fn new(directory: impl Into<String>) -> Self {
        Self { directory: directory.into(), nodes: BTreeMap::new() }
    }

    /// Whether the directory is this one, or lies below it.
    pub(crate) fn lies_in(&self, path: &str) -> bool {
        std::path::Path::new(&self.directory).starts_with(path)
    }

    /// Puts down what is at an absolute path.
    pub(crate) fn insert(&mut self, path: String, node: Node) {
        self.nodes.insert(path, node);
    }

    /// How much is in it.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What is at an absolute path.
    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The links whose end is not in it, or by way of another link only: their own paths.
    pub(crate) fn open_links(&self) -> Vec<String> {
        let is_open = |node: &Node| match node {
            Node::Link(to) => !matches!(self.nodes.get(to), Some(Node::Directory | Node::File | Node::Other)),
            _ => false,
        };
        self.nodes.iter().filter(|(_, node)| is_open(node)).map(|(path, _)| path.clone()).collect()
    }

    /// What a path names: as a [`Tree`](super::Tree) says it. Does not block.
    ///
    /// # Errors
    /// Why it names nothing.
    pub(crate) fn look(&self, path: &[u8]) -> Result<Found, NotFound> {
        let mut walked = String::new();
        let mut at = self.directory.clone();
        let mut rest = path;
        loop {
            let behind = &rest[rest.iter().take_while(|byte| **byte == b'/').count()..];
            if behind.is_empty() {
                return Ok(Found::Directory { path: walked, has_slash: !rest.is_empty() });
            }
            let end = behind.iter().position(|byte| *byte == b'/').unwrap_or(behind.len());
            let (name, after) = behind.split_at(end);
            let missing = |why| NotFound::Missing { path: format!("{walked}/{}", shown(name)), why };
            let Ok(text) = std::str::from_utf8(name) else {
                return Err(missing("a name that is no UTF-8 is not served"));
            };
            if let Some(why) = unserved(text).filter(|_| !walked.is_empty() || text != WELL_KNOWN) {
                return Err(missing(why));
            }
            if self.directory.len() + walked.len() + 1 + name.len() >= LONGEST_PATH {
                return Err(forbidden(&walked, "the path is too long"));
            }
            walked.push('/');
            walked.push_str(text);
            let asked = format!("{at}/{text}");
            let (real, node) = self.resolved(asked.clone(), &walked)?;
            match node {
                Node::Directory => at = real,
                Node::File => {
                    let name = real.rsplit('/').next().unwrap_or_default();
                    if real != asked && unserved(name).is_some() {
                        return Err(forbidden(&walked, "it is a link to what is not served"));
                    }
                    return Ok(Found::File { path: walked, rest: after.to_owned() });
                }
                Node::Link(_) | Node::Other => {
                    return Err(forbidden(&walked, "it is neither a file nor a directory"));
                }
            }
            rest = after;
        }
    }

    /// What is at a path at last, links followed, and where.
    fn resolved(&self, path: String, walked: &str) -> Result<(String, &Node), NotFound> {
        let mut path = path;
        for _ in 0..MOST_LINKS {
            match self.nodes.get(&path) {
                Some(Node::Link(to)) => path = to.clone(),
                Some(node) => return Ok((path, node)),
                None => return Err(NotFound::Missing { path: walked.to_owned(), why: ABSENT }),
            }
        }
        Err(forbidden(walked, "its links go in a circle"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let mut catalog = Catalog::new("/usr/lib/cgi-bin");
        for (path, node) in [
            ("/usr/lib/cgi-bin/x.cgi", Node::File),
            ("/usr/lib/cgi-bin/sub", Node::Directory),
            ("/usr/lib/cgi-bin/sub/y.pl", Node::File),
            ("/usr/lib/cgi-bin/z.cgi~", Node::File),
            ("/usr/lib/cgi-bin/device", Node::Other),
            ("/usr/lib/cgi-bin/out", Node::Link("/usr/lib/more".into())),
            ("/usr/lib/more", Node::Directory),
            ("/usr/lib/more/m.cgi", Node::File),
            ("/usr/lib/cgi-bin/gone", Node::Link("/none".into())),
            ("/usr/lib/cgi-bin/copy.cgi", Node::Link("/usr/lib/cgi-bin/z.cgi~".into())),
            ("/usr/lib/cgi-bin/a", Node::Link("/usr/lib/cgi-bin/b".into())),
            ("/usr/lib/cgi-bin/b", Node::Link("/usr/lib/cgi-bin/a".into())),
        ] {
            catalog.insert(path.to_owned(), node);
        }
        catalog
    }

    #[test]
    fn a_path_is_walked_until_a_file_is_met() {
        let catalog = catalog();
        let file = |path: &str, rest: &str| Found::File { path: path.into(), rest: rest.into() };
        for (path, found) in [
            ("/x.cgi", file("/x.cgi", "")),
            ("//x.cgi//a/../b", file("/x.cgi", "//a/../b")),
            ("/sub//y.pl/", file("/sub/y.pl", "/")),
            ("/out/m.cgi/i", file("/out/m.cgi", "/i")),
            ("", Found::Directory { path: String::new(), has_slash: false }),
            ("/sub/", Found::Directory { path: "/sub".into(), has_slash: true }),
        ] {
            assert_eq!(catalog.look(path.as_bytes()).unwrap(), found, "{path}");
        }
    }

    #[test]
    fn what_is_not_there_or_not_to_be_seen_is_refused() {
        let catalog = catalog();
        for path in ["/none", "/z.cgi~", "/.hidden", "/gone", "/sub/none/x", "/..", "/sub/../x.cgi"] {
            assert!(matches!(catalog.look(path.as_bytes()), Err(NotFound::Missing { .. })), "{path}");
        }
        for path in ["/device", "/copy.cgi", "/a"] {
            assert!(matches!(catalog.look(path.as_bytes()), Err(NotFound::Forbidden { .. })), "{path}");
        }
        assert!(catalog.look(b"/\xff").is_err());
        assert_eq!(
            catalog.open_links(),
            ["/usr/lib/cgi-bin/a", "/usr/lib/cgi-bin/b", "/usr/lib/cgi-bin/gone"]
        );
    }
}
