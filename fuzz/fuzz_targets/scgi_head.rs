//! The agent's side: what its clients send, dcgi or any other that speaks SCGI.
//!
//! Invariant: whatever comes, the head of a request is read without a panic. If that gives one, every beginning of it
//! wants more, nothing behind it changes it, and written and read again it is the same. `missing` never asks for more
//! than what is left of it, so that whoever reads as much at a time reads the head, and not a byte of the body.
#![no_main]

use dcgi::agent::scgi::{Head, Malformed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = Head::read(input);
    match &whole {
        Ok(Some((head, taken))) => {
            assert!(*taken <= input.len());
            for length in 0..*taken {
                assert_eq!(Head::read(&input[..length]), Ok(None), "{length}");
            }
            assert_eq!(Head::read(&input[..*taken]), whole);
            let written = head.write();
            assert_eq!(Head::read(&written), Ok(Some((head.clone(), written.len()))));
        }
        Ok(None) => {}
        // More does not mend it.
        Err(error) => assert_eq!(Head::read(&[input, b"0:,\0"].concat()).as_ref(), Err(error)),
    }
    match (as_asked(input), whole) {
        (Ok(Some(read)), Ok(Some((_, taken)))) => assert_eq!(read, taken),
        (Ok(None), Ok(None)) => {}
        (Err(error), Err(again)) => assert_eq!(error, again),
        (asked, whole) => panic!("{asked:?} as asked, {whole:?} at once"),
    }
});

/// Reads as much at a time as is missing: how much a head took, `None` where the input ends before.
fn as_asked(input: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut read = 0;
    loop {
        let missing = Head::missing(&input[..read])?;
        if missing == 0 {
            return Ok(Head::read(&input[..read])?.map(|(_, taken)| taken));
        }
        read += missing;
        if read > input.len() {
            // Where the whole gives a head, this was too much.
            return Head::read(input).map(|_| None);
        }
    }
}
