//! What the form shows of a part of an upload, however large that is.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::html::{Escaped, hex};
use super::multipart::Part;

/// How many bytes of a field's text, and of a file, are kept to be shown.
const TEXT_SHOWN: usize = 4096;
const FILE_SHOWN: usize = 96;

/// How many bytes a line of the dump has.
const LINE: usize = 16;

/// What was found out about some content in one reading.
pub(super) struct Content {
    pub(super) size: u64,
    digest: [u8; 32],
    beginning: Vec<u8>,
}

impl Content {
    /// Reads it to its end.
    pub(super) fn read(mut source: impl Read) -> io::Result<Self> {
        let mut content = Self { size: 0, digest: [0; 32], beginning: Vec::new() };
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 32 << 10];
        loop {
            let read = match source.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => &chunk[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hash.update(read);
            content.size += read.len() as u64;
            let wanted = TEXT_SHOWN - content.beginning.len();
            content.beginning.extend_from_slice(&read[..read.len().min(wanted)]);
        }
        content.digest = hash.finalize().into();
        Ok(content)
    }

    /// Prints it as what a field holds.
    pub(super) fn show_text(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.beginning);
        let more = match self.size.saturating_sub(self.beginning.len() as u64) {
            0 => String::new(),
            more => format!(" <small>and {more} bytes more</small>"),
        };
        writeln!(
            out,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"text\">{}{more}</td></tr>",
            Escaped(name),
            Escaped(&text)
        )
    }

    /// Prints it as a file.
    pub(super) fn show_file(&self, part: &Part, filename: &str, out: &mut dyn Write) -> io::Result<()> {
        let mut row = |name: &str, value: &str| {
            writeln!(
                out,
                "<tr><th scope=\"row\">{name}</th><td class=\"text\"><code>{}</code></td></tr>",
                Escaped(value)
            )
        };
        row("Field", &part.name)?;
        row("File", filename)?;
        row("Type", if part.content_type.is_empty() { "not said" } else { &part.content_type })?;
        row("Size", &format!("{} bytes", self.size))?;
        row("SHA-256", &hex(&self.digest))?;
        if self.size > 0 {
            let shown = &self.beginning[..self.beginning.len().min(FILE_SHOWN)];
            writeln!(
                out,
                "<tr><th scope=\"row\">Begins with</th><td><pre>{}</pre></td></tr>",
                Escaped(&dump(shown))
            )?;
        }
        Ok(())
    }
}

/// Bytes as hexadecimal digits and as text, a line for each sixteen.
fn dump(bytes: &[u8]) -> String {
    let lines = bytes.chunks(LINE).map(|line| {
        let digits: Vec<_> = line.chunks(2).map(hex).collect();
        let text = line.iter().map(|&byte| if matches!(byte, b' '..=b'~') { byte.into() } else { '.' });
        format!("{:39}  {}", digits.join(" "), text.collect::<String>())
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_measured_hashed_and_kept_only_in_part() {
        let content = Content::read(io::repeat(b'a').take(1_000_000)).unwrap();
        assert_eq!(content.size, 1_000_000);
        // FIPS 180-2, appendix B.3: a million times "a".
        let expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(hex(&content.digest), expected);
        assert_eq!(content.beginning.len(), TEXT_SHOWN);
        let mut shown = Vec::new();
        content.show_text("x", &mut shown).unwrap();
        assert!(String::from_utf8(shown).unwrap().contains("and 995904 bytes more"));
    }

    #[test]
    fn a_dump_shows_bytes_and_what_is_printable_of_them() {
        let bytes = b"\x7fELF<0123456789ab>";
        let expected = "7f45 4c46 3c30 3132 3334 3536 3738 3961  .ELF<0123456789a\n\
             623e                                     b>";
        assert_eq!(dump(bytes), expected);
    }
}
