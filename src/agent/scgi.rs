//! SCGI, the head of a request: a netstring of variables, then the body.
//!
//! As published by Neil Schemenauer in 2006 (<https://python.ca/scgi/protocol.txt>): the length in decimal, a colon,
//! names and values each ended by a NUL, a comma. `CONTENT_LENGTH` comes first and is always there; `SCGI` is `1`.
//! Nothing here reads from anywhere.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use thiserror::Error;

/// How long a head may be, in bytes. The kernel takes no more than 6 MiB of strings in a program's beginning:
/// execve(2).
pub const LONGEST_HEAD: usize = 1 << 20;

/// How many digits its length may have.
const DIGITS: usize = 7;

/// The variables of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `CONTENT_LENGTH`: how many bytes of body follow.
    pub content_length: u64,
    /// All other variables but `SCGI`, in their order.
    pub variables: Vec<(OsString, OsString)>,
}

/// Why a head is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// What should be the length is no decimal number, or has a superfluous zero before it.
    #[error("the netstring has no length")]
    Length,
    /// The head is longer than [`LONGEST_HEAD`].
    #[error("the netstring is longer than {LONGEST_HEAD} bytes")]
    TooLong,
    /// No comma stands where the length says that the netstring ends.
    #[error("the netstring does not end with a comma")]
    End,
    /// A name without a value, or an empty name, or a name with an equals sign.
    #[error("the variables are not names and values ended by NULs")]
    Variables,
    /// The first variable is not `CONTENT_LENGTH`, or not a number.
    #[error("the first variable is not CONTENT_LENGTH, a number")]
    ContentLength,
    /// There is no variable `SCGI` with the value `1`.
    #[error("the variable SCGI is not 1")]
    Version,
    /// A name stands there twice.
    #[error("a variable stands there twice")]
    Twice,
}

impl Head {
    /// Reads a head from the beginning of what has come so far: it, and how many bytes it took. `None`: more has to
    /// come. Asked again with more, it looks at the beginning again.
    ///
    /// # Errors
    /// Where no more bytes can make a head of it.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((start, length)) = netstring(bytes)? else { return Ok(None) };
        let Some(content) = bytes.get(start..start + length) else { return Ok(None) };
        match bytes.get(start + length) {
            None => return Ok(None),
            Some(b',') => {}
            Some(_) => return Err(Malformed::End),
        }
        Ok(Some((Self::from_content(content)?, start + length + 1)))
    }

    /// How many bytes are certainly still to come: never so many that one of them belongs to the body. 0: none.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn missing(bytes: &[u8]) -> Result<usize, Malformed> {
        Ok(match netstring(bytes)? {
            // One byte at a time: the next may be the colon already.
            None => 1,
            Some((start, length)) => (start + length + 1).saturating_sub(bytes.len()),
        })
    }

    fn from_content(content: &[u8]) -> Result<Self, Malformed> {
        let strings = content.strip_suffix(b"\0").ok_or(Malformed::Variables)?;
        let mut strings = strings.split(|byte| *byte == 0);
        let (Some(b"CONTENT_LENGTH"), Some(length)) = (strings.next(), strings.next()) else {
            return Err(Malformed::ContentLength);
        };
        let content_length = decimal(length).ok_or(Malformed::ContentLength)?;
        let mut variables = Vec::with_capacity(32);
        let mut version = None;
        while let Some(name) = strings.next() {
            let value = strings.next().ok_or(Malformed::Variables)?;
            match name {
                b"" => return Err(Malformed::Variables),
                b"CONTENT_LENGTH" => return Err(Malformed::Twice),
                b"SCGI" if version.replace(value).is_some() => return Err(Malformed::Twice),
                b"SCGI" => {}
                // No environment can hold it.
                name if name.contains(&b'=') => return Err(Malformed::Variables),
                name => variables.push((owned(name), owned(value))),
            }
        }
        if version != Some(b"1") {
            return Err(Malformed::Version);
        }
        let mut names: Vec<_> = variables.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Malformed::Twice);
        }
        Ok(Self { content_length, variables })
    }

    /// Writes it as it travels.
    ///
    /// A NUL in a name or a value would end it: it is cut off there, as in every environment.
    pub fn write(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(2048);
        let mut push = |name: &[u8], value: &[u8]| {
            for text in [name, value] {
                content.extend(text.iter().take_while(|byte| **byte != 0));
                content.push(0);
            }
        };
        push(b"CONTENT_LENGTH", self.content_length.to_string().as_bytes());
        push(b"SCGI", b"1");
        for (name, value) in &self.variables {
            push(name.as_bytes(), value.as_bytes());
        }
        let mut out = Vec::with_capacity(content.len() + DIGITS + 2);
        out.extend_from_slice(content.len().to_string().as_bytes());
        out.push(b':');
        out.append(&mut content);
        out.push(b',');
        out
    }
}

/// Where a netstring's content starts, and how long it is.
fn netstring(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > DIGITS {
        return Err(Malformed::TooLong);
    }
    match bytes.get(digits) {
        None => return Ok(None),
        Some(b':') => {}
        Some(_) => return Err(Malformed::Length),
    }
    let digits = &bytes[..digits];
    if digits.len() > 1 && digits[0] == b'0' {
        return Err(Malformed::Length);
    }
    let length = decimal(digits).ok_or(Malformed::Length)?;
    match usize::try_from(length) {
        Ok(length) if length <= LONGEST_HEAD => Ok(Some((digits.len() + 1, length))),
        _ => Err(Malformed::TooLong),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    // `parse` would take a plus sign.
    let plain = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

fn owned(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_owned())
}

/// The value of a variable.
pub(super) fn value<'a>(variables: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn netstring(content: &str) -> Vec<u8> {
        let content = content.replace('|', "\0");
        format!("{}:{content},", content.len()).into_bytes()
    }

    fn refusal(content: &str) -> Malformed {
        Head::read(&netstring(content)).unwrap_err()
    }

    /// The request of the specification's example.
    const EXAMPLE: &[u8] =
        b"70:CONTENT_LENGTH\x0027\0SCGI\x001\0REQUEST_METHOD\0POST\0REQUEST_URI\0/deepthought\0,\
        What is the answer to life?";

    #[test]
    fn the_example_of_the_specification_is_read() {
        let (head, taken) = Head::read(EXAMPLE).unwrap().unwrap();
        assert_eq!(head.content_length, 27);
        let expected = [("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/deepthought")];
        assert_eq!(head.variables, expected.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(&EXAMPLE[taken..], b"What is the answer to life?");
    }

    #[test]
    fn every_beginning_of_a_head_wants_more() {
        let (_, taken) = Head::read(EXAMPLE).unwrap().unwrap();
        for length in 0..taken {
            assert_eq!(Head::read(&EXAMPLE[..length]), Ok(None), "{length}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let head = Head {
            content_length: 0,
            variables: vec![("A".into(), "1".into()), ("B".into(), OsString::from_vec(vec![0xff]))],
        };
        let written = head.write();
        assert_eq!(Head::read(&written), Ok(Some((head, written.len()))));
    }

    #[test]
    fn a_nul_in_a_value_makes_no_other_variable() {
        let smuggling = OsString::from_vec(b"x\0REMOTE_USER\0root".to_vec());
        let head = Head { content_length: 0, variables: vec![("A".into(), smuggling)] };
        let (read, _) = Head::read(&head.write()).unwrap().unwrap();
        assert_eq!(read.variables, [("A".into(), "x".into())]);
    }

    #[test]
    fn a_length_that_is_none_is_refused() {
        for bytes in [&b"x:"[..], b":", b"-1:", b"+1:", b" 1:", b"01:", b"1 :"] {
            assert_eq!(Head::read(bytes), Err(Malformed::Length), "{bytes:?}");
        }
    }

    #[test]
    fn a_head_that_is_too_long_is_refused_before_it_comes() {
        assert_eq!(Head::read(b"1048577:"), Err(Malformed::TooLong));
        assert_eq!(Head::read(b"99999999"), Err(Malformed::TooLong));
        assert_eq!(Head::read(b"1048576:"), Ok(None));
    }

    #[test]
    fn a_netstring_without_its_comma_is_refused() {
        assert_eq!(Head::read(b"3:a\0b\0\0"), Err(Malformed::End));
    }

    #[test]
    fn variables_that_are_not_pairs_are_refused() {
        assert_eq!(refusal(""), Malformed::Variables);
        assert_eq!(refusal("CONTENT_LENGTH|0|SCGI|1|A|"), Malformed::Variables);
        assert_eq!(refusal("CONTENT_LENGTH|0|SCGI|1|A"), Malformed::Variables);
        assert_eq!(refusal("CONTENT_LENGTH|0|SCGI|1||x|"), Malformed::Variables);
        assert_eq!(refusal("CONTENT_LENGTH|0|SCGI|1|A=B|x|"), Malformed::Variables);
    }

    #[test]
    fn the_content_length_comes_first_and_is_a_number() {
        assert_eq!(refusal("SCGI|1|CONTENT_LENGTH|0|"), Malformed::ContentLength);
        assert_eq!(refusal("CONTENT_LENGTH||SCGI|1|"), Malformed::ContentLength);
        assert_eq!(refusal("CONTENT_LENGTH|-1|SCGI|1|"), Malformed::ContentLength);
        assert_eq!(refusal("CONTENT_LENGTH|+1|SCGI|1|"), Malformed::ContentLength);
        assert_eq!(refusal("CONTENT_LENGTH|18446744073709551616|SCGI|1|"), Malformed::ContentLength);
    }

    #[test]
    fn the_version_is_said_once_and_is_one() {
        assert_eq!(refusal("CONTENT_LENGTH|0|"), Malformed::Version);
        assert_eq!(refusal("CONTENT_LENGTH|0|SCGI|2|"), Malformed::Version);
        assert_eq!(refusal("CONTENT_LENGTH|0|SCGI|1|SCGI|1|"), Malformed::Twice);
    }

    #[test]
    fn a_variable_that_stands_there_twice_is_refused() {
        assert_eq!(refusal("CONTENT_LENGTH|0|SCGI|1|A|1|A|2|"), Malformed::Twice);
        assert_eq!(refusal("CONTENT_LENGTH|0|SCGI|1|CONTENT_LENGTH|9|"), Malformed::Twice);
    }
}
