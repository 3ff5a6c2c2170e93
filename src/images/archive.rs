//! Reading tar archives that are not to be trusted.
//!
//! The headers are [`tar`]'s; the walk over them is not. That crate's own iterator reads a long name or a PAX header
//! into memory whatever its size, and ends a PAX header at the first empty line of a binary value, so that a path
//! behind it is lost. Here both are bounded and read by their lengths, and what a header does not say is read as
//! Docker's reader (Go's `archive/tar`) reads it: the size of a link or a directory counts as none.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::error::shown;

const BLOCK: usize = 512;

/// More than any path that Linux takes, and less than would hurt.
const LONGEST_NAME: u64 = 64 << 10;

/// A PAX header holds a file's extended attributes, and each of those may have 64 KiB.
const LARGEST_PAX_HEADER: u64 = 1 << 20;

/// One archive. Iterate by [`next`](Archive::next); between two calls, the archive itself reads the entry's content.
pub(super) struct Archive<R> {
    reader: R,
    /// Of the current entry's content, and what fills up its last block.
    remaining: u64,
    padding: u64,
    /// Whether there has been a header.
    begun: bool,
    end: Option<End>,
}

/// How an archive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By the mark for it.
    Marked,
    /// The stream was over behind a whole entry. It may have been cut there.
    Unmarked,
}

/// What stands in front of an entry's content.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: EntryType,
    pub(super) path: Vec<u8>,
    /// Of links only.
    pub(super) target: Vec<u8>,
    /// Of the content that follows, in bytes.
    pub(super) size: u64,
    /// The twelve permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    /// Names and values.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Seconds since 1970, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// What extension headers say of the entry behind them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

// === impl Archive ===

impl<R: Read> Archive<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, remaining: 0, padding: 0, begun: false, end: None }
    }

    /// The next entry, behind whatever is left of this one. Absent at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        if self.end.is_some() {
            return Ok(None);
        }
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            let Some(header) = self.header()? else {
                return if extended {
                    Err(invalid("it ends behind a header that names what follows"))
                } else {
                    Ok(None)
                };
            };
            let kind = header.entry_type();
            if !matches!(
                kind,
                EntryType::GNULongName
                    | EntryType::GNULongLink
                    | EntryType::XHeader
                    | EntryType::XGlobalHeader
            ) {
                return self.entry(&header, extensions).map(Some);
            }
            let size = number(&header.as_bytes()[124..136], "size")?;
            self.begin(size);
            match kind {
                EntryType::GNULongName => extensions.path = Some(self.name()?),
                EntryType::GNULongLink => extensions.target = Some(self.name()?),
                EntryType::XHeader => {
                    let records = self.content(LARGEST_PAX_HEADER)?;
                    extensions.read(&records)?;
                }
                // Docker's reader leaves it to its caller, who ignores it.
                _ => continue,
            }
            extended = true;
        }
    }

    /// How the archive ended. Absent before its end.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Whatever follows the archive.
    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    /// The next header, if there is one.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let skip = self.remaining + self.padding;
        let skipped = io::copy(&mut self.reader.by_ref().take(skip), &mut io::sink())?;
        if skipped < skip {
            return Err(cut());
        }
        (self.remaining, self.padding) = (0, 0);

        let mut header = Header::new_old();
        let block: &mut [u8; BLOCK] = header.as_mut_bytes();
        let mut read = 0;
        while read < BLOCK {
            match self.reader.read(&mut block[read..]) {
                Ok(0) if read == 0 => {
                    self.end = Some(End::Unmarked);
                    return Ok(None);
                }
                Ok(0) => return Err(cut()),
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            self.end = Some(End::Marked);
            return Ok(None);
        }
        // POSIX ustar: the sum of the header's bytes, its own field counted as blanks.
        let sum = block.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            - block[148..156].iter().map(|byte| u64::from(*byte)).sum::<u64>()
            + 8 * u64::from(b' ');
        if number(&block[148..156], "checksum").ok() != Some(sum) {
            return Err(match self.begun {
                true => invalid("it is damaged: a header's checksum is wrong"),
                false => no_archive(block),
            });
        }
        self.begun = true;
        Ok(Some(header))
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> io::Result<Entry> {
        let bytes = header.as_bytes();
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let named = |error: io::Error| invalid(&format!("`{}`: {error}", shown(&path)));
        let kind = match header.entry_type() {
            // As before POSIX: a directory is what ends in a slash.
            EntryType::Regular if path.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        let size = match kind {
            EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo => 0,
            _ => match extensions.size {
                Some(size) => size,
                None => number(&bytes[124..136], "size").map_err(named)?,
            },
        };
        self.begin(size);
        let owner = |extension: Option<u64>, field: &[u8], what: &str| {
            let id = extension.map_or_else(|| number(field, what), Ok)?;
            u32::try_from(id).map_err(|_| invalid(&format!("no {what} is {id}")))
        };
        let mtime = || -> io::Result<Time> {
            // 2^63 seconds: the sun is gone.
            let seconds = i64::try_from(number(&bytes[136..148], "time")?).unwrap_or_default();
            Ok(Time { seconds, nanoseconds: 0 })
        };
        Ok(Entry {
            kind,
            size,
            target: extensions
                .target
                .or_else(|| header.link_name_bytes().map(Into::into))
                .unwrap_or_default(),
            mode: (number(&bytes[100..108], "mode").map_err(named)? & 0o7777) as u32,
            uid: owner(extensions.uid, &bytes[108..116], "owner").map_err(named)?,
            gid: owner(extensions.gid, &bytes[116..124], "group").map_err(named)?,
            mtime: extensions.mtime.map_or_else(mtime, Ok).map_err(named)?,
            xattrs: extensions.xattrs,
            path,
        })
    }

    /// Begins an entry's content.
    fn begin(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// A name that is too long for a header: it ends in a NUL.
    fn name(&mut self) -> io::Result<Vec<u8>> {
        let mut name = self.content(LONGEST_NAME)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn content(&mut self, largest: u64) -> io::Result<Vec<u8>> {
        if self.remaining > largest {
            return Err(invalid(&format!("an extended header of {} bytes", self.remaining)));
        }
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }
}

/// The current entry's content.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(cut());
        }
        self.remaining -= read as u64;
        Ok(read)
    }
}

// === impl Extensions ===

impl Extensions {
    /// Reads PAX records, `length key=value` and a line end each. `length` counts all of it: values may be binary.
    fn read(&mut self, mut records: &[u8]) -> io::Result<()> {
        let malformed = || invalid("a PAX header is malformed");
        while !records.is_empty() {
            let blank = records.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
            let length: usize = text(&records[..blank]).ok_or_else(malformed)?;
            let record = records.get(blank + 1..length).ok_or_else(malformed)?;
            let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            self.note(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn note(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let malformed = || invalid(&format!("the PAX record `{}` is malformed", shown(key)));
        let number = || text(value).ok_or_else(malformed);
        match key {
            // POSIX pax: no value at all takes the record back.
            b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.target = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(Time::parse(value).ok_or_else(malformed)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(invalid("a sparse file; make the archive without `--sparse`"));
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

impl Time {
    /// Seconds as PAX writes them, with a sign and decimals where they are needed.
    fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?;
        let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
        if !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let seconds: i64 = whole.parse().ok()?;
        let nanoseconds: u32 = format!("{decimals:0<9}").get(..9)?.parse().ok()?;
        Some(match (whole.starts_with('-'), nanoseconds) {
            // Nanoseconds count forward.
            (true, 1..) => {
                Self { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds }
            }
            _ => Self { seconds, nanoseconds },
        })
    }
}

/// What begins like this, and not as a tar archive does.
fn no_archive(beginning: &[u8]) -> io::Error {
    let what = match beginning {
        [b'P', b'K', 3, 4, ..] => "it is no tar archive but a zip file",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            "it is no tar archive but compressed by xz: `xz -dc FILE`, and - in its place, gives what can be read"
        }
        [b'B', b'Z', b'h', ..] => {
            "it is no tar archive but compressed by bzip2: `bzip2 -dc FILE`, and - in its place, gives what can be read"
        }
        _ => "it is no tar archive, plain or compressed by gzip or Zstandard",
    };
    invalid(what)
}

fn text<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A header's number: octal digits, or GNU's base 256 where the first bit is set. Blank is zero.
fn number(field: &[u8], what: &str) -> io::Result<u64> {
    let malformed = || invalid(&format!("a header's {what} is no number"));
    if field[0] & 0x80 != 0 {
        // 0xff and on would be negative: times before 1970, which nobody needs.
        return field
            .iter()
            .enumerate()
            .try_fold(0u64, |sum, (i, byte)| {
                let byte = if i == 0 { byte & 0x7f } else { *byte };
                sum.checked_mul(256)?.checked_add(byte.into())
            })
            .ok_or_else(malformed);
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let digits = field.iter().skip_while(|byte| blank(byte)).take_while(|byte| !blank(byte));
    digits
        .map(|digit| digit.is_ascii_digit().then(|| u64::from(digit - b'0')).filter(|digit| *digit < 8))
        .try_fold(0u64, |sum, digit| sum.checked_mul(8)?.checked_add(digit?))
        .ok_or_else(malformed)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short")
}
