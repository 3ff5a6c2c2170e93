//! The program's side.
//!
//! Invariant: whatever a program prints, and however that is cut into pieces, the header block comes to the
//! same one outcome, without a panic. If that is an answer, no header name, header value, reason or local
//! redirect in it holds a control character, no field of it says how the message is framed but one
//! `Content-Length` of digits, its status is no 1xx, and the body is exactly the rest of the output.
#![no_main]

use dcgi::cgi::{Answer, ChunkedDecoder, HeaderBlock};
use hyper::ext::ReasonPhrase;
use libfuzzer_sys::fuzz_target;

/// The first byte says how long the pieces are.
fn cut(input: &[u8]) -> Option<(usize, &[u8])> {
    let (length, output) = input.split_first()?;
    Some((usize::from(*length).max(1), output))
}

fuzz_target!(|input: &[u8]| {
    let Some((length, output)) = cut(input) else { return };
    let mut whole = HeaderBlock::new();
    let at_once = whole.push(output);

    let mut pieces = output.chunks(length);
    let mut block = HeaderBlock::new();
    let in_pieces = pieces.by_ref().find_map(|piece| block.push(piece).transpose());

    match (at_once, in_pieces) {
        (Ok(Some((answer, body))), Some(Ok((again, rest)))) => {
            assert_eq!(format!("{answer:?}"), format!("{again:?}"));
            assert!(output.ends_with(&body));
            assert_eq!(body, [&rest[..], &pieces.collect::<Vec<_>>().concat()].concat());
            check(&answer);
            if let Answer::Response(head) = answer
                && head.chunked
            {
                dechunk(&body, length);
            }
        }
        (Err(error), Some(Err(again))) => assert_eq!(error, again),
        (Ok(None), None) => {
            let error = whole.end();
            assert_eq!(error, block.end());
            assert!(!error.to_string().chars().any(char::is_control));
        }
        (at_once, in_pieces) => panic!("{at_once:?} at once, {in_pieces:?} in pieces"),
    }
});

fn check(answer: &Answer) {
    match answer {
        Answer::LocalRedirect(redirect) => {
            assert!(redirect.location.starts_with('/') && !redirect.location.starts_with("//"));
            let target: http::uri::PathAndQuery = redirect.location.parse().unwrap();
            assert_eq!(target.as_str(), redirect.location);
            assert!(redirect.set_cookie.iter().all(|value| is_clean(value.as_bytes())));
        }
        Answer::Response(head) => {
            assert!(head.parts.status.as_u16() >= 200);
            for (name, value) in &head.parts.headers {
                assert!(is_clean(value.as_bytes()), "{name}");
                assert!(!["connection", "transfer-encoding", "upgrade", "status"].contains(&name.as_str()));
            }
            let lengths = head.parts.headers.get_all("content-length");
            assert!(lengths.iter().count() <= 1);
            for length in lengths {
                assert_eq!(length.to_str().unwrap().parse().ok(), head.content_length);
            }
            assert!(!(head.chunked && head.content_length.is_some()));
            if let Some(reason) = head.parts.extensions.get::<ReasonPhrase>() {
                assert!(is_clean(reason.as_bytes()));
            }
        }
    }
}

fn is_clean(value: &[u8]) -> bool {
    !value.iter().any(|&byte| byte != b'\t' && byte.is_ascii_control())
}

/// A body that the program chunked is the same in pieces, and never more than was printed.
fn dechunk(body: &[u8], length: usize) {
    let decode = |pieces: std::slice::Chunks<'_, u8>| {
        let mut decoder = ChunkedDecoder::new();
        let mut data = Vec::new();
        for piece in pieces {
            data.extend(decoder.push(piece.to_vec().into())?.concat());
        }
        Ok::<_, dcgi::cgi::ChunkedError>((data, decoder.is_done()))
    };
    let whole = decode(body.chunks(body.len().max(1)));
    assert_eq!(decode(body.chunks(length)), whole);
    if let Ok((data, _)) = whole {
        assert!(data.len() <= body.len());
    }
}
