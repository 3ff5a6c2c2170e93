//! What goes between dcgi and its launcher: written with allocations on one side, read without any on the other.
//!
//! Messages begin with a [`Record`] of 16 bytes. A [`Template`](super::Template) travels as a sealed memfd, and is
//! read where it lies.

use std::ffi::CStr;

/// The head of every message, and most messages are nothing else: a word that says what it is, and three numbers.
pub(super) type Record = [u8; RECORD];

/// Its size in bytes.
pub(super) const RECORD: usize = 16;

/// To the zygote, with a template's descriptor and a slot's socket: make a slot. The number is the template's size.
pub(super) const SLOT: u32 = 1;
/// To a slot, with a sandbox's control socket: make a sandbox. The numbers are its host name, 12 letters.
pub(super) const MAKE: u32 = 2;
/// To a sandbox, with three streams: run. The numbers are the size of what follows, how many of its strings are
/// candidates for the program's path, and how many are arguments.
pub(super) const RUN: u32 = 3;
/// From a slot: nothing is left of its sandbox. The number says whether the slot is as it was.
pub(super) const GONE: u32 = 4;
/// From a sandbox: it waits for `RUN`.
pub(super) const READY: u32 = 5;
/// From a sandbox: the program has ended by itself. The number is its exit status.
pub(super) const EXITED: u32 = 6;
/// From a sandbox: a signal has ended the program. The number is the signal's.
pub(super) const SIGNALLED: u32 = 7;
/// From a slot or a sandbox: it cannot go on. The numbers are a [`Step`](super::failure::Step), which one of them (or, of a
/// program that was not executed, the [`Obstacle`](super::refusal::Obstacle)), and errno.
pub(super) const FAILED: u32 = 8;
/// From a slot that is being made, with a socket's descriptor: it listens. One for each address, in their order.
pub(super) const LISTENING: u32 = 9;

/// Puts a record together.
pub(super) fn record(word: u32, numbers: [u32; 3]) -> Record {
    let mut record = [0; RECORD];
    let (head, rest) = record.split_at_mut(4);
    head.copy_from_slice(&word.to_ne_bytes());
    for (to, number) in rest.chunks_exact_mut(4).zip(numbers) {
        to.copy_from_slice(&number.to_ne_bytes());
    }
    record
}

/// Takes a record apart.
pub(super) fn parse(record: &Record) -> (u32, [u32; 3]) {
    let mut reader = Reader(record);
    let mut next = || reader.number().unwrap_or_default();
    (next(), [next(), next(), next()])
}

/// Appends numbers and strings.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    pub(super) fn long(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn string(&mut self, string: &CStr) {
        self.bytes(string.to_bytes_with_nul());
    }
}

/// Reads them back. Never panics, never allocates: what does not fit is `None`.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length as usize)
    }

    pub(super) fn string(&mut self) -> Option<&'a CStr> {
        CStr::from_bytes_with_nul(self.bytes()?).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        assert_eq!(parse(&record(FAILED, [1, 2, u32::MAX])), (FAILED, [1, 2, u32::MAX]));
    }

    #[test]
    fn what_was_written_reads_back_and_then_nothing() {
        let mut writer = Writer::default();
        writer.number(7);
        writer.long(1 << 40);
        writer.string(c"text");
        writer.bytes(b"a\0b");
        let mut reader = Reader(&writer.0);
        assert_eq!(reader.number(), Some(7));
        assert_eq!(reader.long(), Some(1 << 40));
        assert_eq!(reader.string(), Some(c"text"));
        assert_eq!(reader.bytes(), Some(&b"a\0b"[..]));
        assert!(reader.is_empty());
        assert_eq!(reader.number(), None);
    }

    #[test]
    fn a_length_that_is_not_there_is_nothing() {
        let mut writer = Writer::default();
        writer.number(u32::MAX);
        assert_eq!(Reader(&writer.0).bytes(), None);
    }
}
