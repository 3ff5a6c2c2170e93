//! The path of a request as routing and `PATH_INFO` see it.

use super::percent;

/// A path that was percent-decoded once and whose dot segments are resolved.
///
/// It begins with `/`, holds no NUL and no segment `.` or `..`, also not one that was spelt `%2e` or set
/// apart by `%2f`: decoding comes first. It never climbs above the root. Empty segments (`//`) stay, since a
/// program may tell them apart. These are bytes: nothing promises that a path is UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NormalPath(Vec<u8>);

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits behind it.
    #[error("the path holds an invalid percent escape")]
    BadEscape,
    /// `%00`: no environment variable and no file name could hold it.
    #[error("the path holds a NUL")]
    Nul,
}

impl NormalPath {
    /// Decodes and normalizes the path of a request target, without its query.
    ///
    /// # Errors
    ///
    /// Where the path is not absolute, has an invalid escape or holds a NUL; a client gets 400 for each.
    pub fn parse(raw_path: &str) -> Result<Self, PathError> {
        let decoded = percent::decode(raw_path).map_err(|_| PathError::BadEscape)?;
        let rest = decoded.strip_prefix(b"/").ok_or(PathError::NotAbsolute)?;
        if rest.contains(&0) {
            return Err(PathError::Nul);
        }
        Ok(Self(resolve_dot_segments(rest)))
    }

    /// The decoded path, from its leading slash on.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// RFC 3986 §5.2.4, for a path whose leading slash is already taken off; gives it back with one.
fn resolve_dot_segments(path: &[u8]) -> Vec<u8> {
    // Every segment so far with its slash in front; a dot segment at the end leaves a bare slash.
    let mut resolved = Vec::with_capacity(path.len() + 1);
    let mut segments = path.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let dots = match segment {
            b"." => true,
            b".." => {
                let parent = resolved.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                resolved.truncate(parent);
                true
            }
            _ => false,
        };
        if !dots {
            resolved.push(b'/');
            resolved.extend_from_slice(segment);
        } else if segments.peek().is_none() {
            resolved.push(b'/');
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Vec<u8> {
        NormalPath::parse(raw).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn the_root_stays_the_root() {
        assert_eq!(parse("/"), b"/");
    }

    #[test]
    fn a_path_is_percent_decoded() {
        assert_eq!(parse("/a%20b/%C3%a4"), "/a b/ä".as_bytes());
    }

    #[test]
    fn a_path_is_percent_decoded_only_once() {
        assert_eq!(parse("/%2541"), b"/%41");
    }

    #[test]
    fn a_path_decoded_once_shows_no_dot_segments_at_a_second_look() {
        assert_eq!(parse("/a/%252e%252e/b"), b"/a/%2e%2e/b");
    }

    #[test]
    fn a_path_need_not_be_utf_8() {
        assert_eq!(parse("/%ff"), b"/\xff");
    }

    #[test]
    fn a_plus_in_a_path_is_a_plus() {
        assert_eq!(parse("/a+b"), b"/a+b");
    }

    #[test]
    fn an_encoded_nul_is_refused() {
        assert_eq!(NormalPath::parse("/a%00.cgi"), Err(PathError::Nul));
    }

    #[test]
    fn a_percent_sign_alone_is_refused() {
        assert_eq!(NormalPath::parse("/100%"), Err(PathError::BadEscape));
    }

    #[test]
    fn half_an_escape_is_refused() {
        assert_eq!(NormalPath::parse("/%4"), Err(PathError::BadEscape));
    }

    #[test]
    fn an_escape_that_is_not_hexadecimal_is_refused() {
        assert_eq!(NormalPath::parse("/%zz"), Err(PathError::BadEscape));
    }

    #[test]
    fn an_escape_with_a_sign_is_refused() {
        assert_eq!(NormalPath::parse("/%+1"), Err(PathError::BadEscape));
    }

    #[test]
    fn a_doubled_percent_sign_is_refused() {
        assert_eq!(NormalPath::parse("/%%41"), Err(PathError::BadEscape));
    }

    #[test]
    fn an_escape_split_by_a_multibyte_character_is_refused() {
        assert_eq!(NormalPath::parse("/%aä"), Err(PathError::BadEscape));
    }

    #[test]
    fn an_empty_path_is_refused() {
        assert_eq!(NormalPath::parse(""), Err(PathError::NotAbsolute));
    }

    #[test]
    fn a_relative_path_is_refused() {
        assert_eq!(NormalPath::parse("a/b"), Err(PathError::NotAbsolute));
    }

    #[test]
    fn the_asterisk_form_is_no_path() {
        assert_eq!(NormalPath::parse("*"), Err(PathError::NotAbsolute));
    }

    #[test]
    fn a_single_dot_segment_vanishes() {
        assert_eq!(parse("/a/./b"), b"/a/b");
    }

    #[test]
    fn a_single_dot_at_the_end_leaves_the_slash() {
        assert_eq!(parse("/a/."), b"/a/");
    }

    #[test]
    fn a_double_dot_segment_takes_its_parent_along() {
        assert_eq!(parse("/a/b/../c"), b"/a/c");
    }

    #[test]
    fn a_double_dot_at_the_end_leaves_the_slash() {
        assert_eq!(parse("/a/.."), b"/");
        assert_eq!(parse("/a/b/.."), b"/a/");
    }

    #[test]
    fn double_dots_never_climb_above_the_root() {
        assert_eq!(parse("/../../etc/passwd"), b"/etc/passwd");
        assert_eq!(parse("/a/../../.."), b"/");
    }

    #[test]
    fn encoded_dots_are_dot_segments() {
        assert_eq!(parse("/cgi-bin/.%2e/%2e%2E/bin/sh"), b"/bin/sh");
    }

    #[test]
    fn encoded_slashes_set_dot_segments_apart() {
        assert_eq!(parse("/a/b%2f..%2fc"), b"/a/c");
    }

    #[test]
    fn more_than_two_dots_are_a_name() {
        assert_eq!(parse("/a/.../b"), b"/a/.../b");
    }

    #[test]
    fn a_hidden_file_is_a_name() {
        assert_eq!(parse("/.well-known/..x/x.."), b"/.well-known/..x/x..");
    }

    #[test]
    fn double_slashes_are_kept() {
        assert_eq!(parse("//a//b//"), b"//a//b//");
    }

    #[test]
    fn a_double_dot_takes_an_empty_segment_as_its_parent() {
        assert_eq!(parse("/a//../b"), b"/a/b");
    }

    #[test]
    fn a_backslash_separates_nothing() {
        assert_eq!(parse("/a\\..\\b"), b"/a\\..\\b");
    }
}
