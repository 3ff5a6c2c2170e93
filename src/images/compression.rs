//! Archives that may be compressed: gzip and Zstandard are told by their first bytes, never by a name or media type.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::errors::ReadFrameHeaderError::SkipFrame;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// RFC 1952, section 2.3.1.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// RFC 8878, section 3.1.1.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// RFC 8878, section 3.1.2: sixteen magic numbers that differ in the first byte.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// What a stream holds, decompressed where it is compressed.
pub(super) fn decompress<'r>(reader: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut magic = [0; 4];
    let mut reader = reader;
    let mut read = 0;
    while read < magic.len() {
        match reader.read(&mut magic[read..]) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let magic = &magic[..read];
    let whole = BufReader::with_capacity(64 << 10, io::Cursor::new(magic.to_vec()).chain(reader));
    Ok(if magic.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(whole))
    } else if magic == ZSTD || magic.get(1..) == Some(ZSTD_SKIPPABLE) {
        Box::new(ZstdFrames { source: whole, decoder: FrameDecoder::new(), within: false })
    } else {
        Box::new(whole)
    })
}

/// Frame after frame: compressors that work in parallel write many, and some add frames to skip.
struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    /// Begins the next frame. False at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(invalid(&error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.within && self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.within && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(|error| invalid(&error))?;
                continue;
            }
            if self.within && self.decoder.get_checksum_from_data() != self.calculated_checksum() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a Zstandard frame's checksum is wrong",
                ));
            }
            self.within = self.begin()?;
            if !self.within {
                return Ok(0);
            }
        }
    }
}

impl<R> ZstdFrames<R> {
    /// What the frame's checksum must be, where it has one: RFC 8878, section 3.1.1.
    fn calculated_checksum(&self) -> Option<u32> {
        self.decoder.get_checksum_from_data().and(self.decoder.get_calculated_checksum())
    }
}

fn invalid(error: &FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(stream)?.read_to_end(&mut out)?;
        Ok(out)
    }

    /// A frame of one raw block, without a checksum: RFC 8878, sections 3.1.1 and 3.1.1.2.
    fn zstd(content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        let block = (u32::from(length) << 3 | 1).to_le_bytes();
        [ZSTD, &[0x20, length], &block[..3], content].concat()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_not_compressed_comes_as_it_is() {
        for stream in [&b""[..], b"a", b"abc", b"plain text"] {
            assert_eq!(read(stream).unwrap(), stream);
        }
    }

    #[test]
    fn every_member_of_a_gzip_stream_is_read() {
        assert_eq!(read(&[gzip(b"one "), gzip(b"two")].concat()).unwrap(), b"one two");
    }

    #[test]
    fn every_frame_of_a_zstandard_stream_is_read_and_skippable_ones_are_skipped() {
        let skippable = [&[0x53], ZSTD_SKIPPABLE, &[3, 0, 0, 0], b"xyz"].concat();
        let stream = [skippable.clone(), zstd(b"one "), skippable, zstd(b"two")].concat();
        assert_eq!(read(&stream).unwrap(), b"one two");
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error() {
        let (gzip, zstd) = (gzip(b"some content"), zstd(b"some content"));
        assert!(read(&gzip[..gzip.len() - 1]).is_err());
        assert!(read(&zstd[..zstd.len() - 1]).is_err());
        assert!(read(&[0x53, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1]).is_err());
    }
}
