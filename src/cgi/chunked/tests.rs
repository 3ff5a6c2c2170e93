use super::*;

/// Decodes a body that comes in one piece.
fn decode(body: &'static [u8]) -> Result<(Vec<u8>, bool), ChunkedError> {
    let mut decoder = ChunkedDecoder::new();
    let data = decoder.push(Bytes::from_static(body))?;
    Ok((data.concat(), decoder.is_done()))
}

fn whole(data: &[u8]) -> Result<(Vec<u8>, bool), ChunkedError> {
    Ok((data.to_vec(), true))
}

#[test]
fn chunks_are_put_together() {
    assert_eq!(decode(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), whole(b"hello world"));
}

#[test]
fn a_body_of_the_last_chunk_alone_is_empty() {
    assert_eq!(decode(b"0\r\n\r\n"), whole(b""));
}

#[test]
fn chunk_lines_may_end_in_a_bare_line_feed() {
    assert_eq!(decode(b"5\nhello\n0\n\n"), whole(b"hello"));
}

#[test]
fn a_chunk_may_hold_line_ends() {
    assert_eq!(decode(b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), whole(b"\r\n\r\n"));
}

#[test]
fn sizes_are_hexadecimal_in_any_letter_case() {
    assert_eq!(decode(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), whole(b"01234567890123456789"));
}

#[test]
fn sizes_may_have_leading_zeros() {
    assert_eq!(decode(b"0001\r\nx\r\n000\r\n\r\n"), whole(b"x"));
}

#[test]
fn chunk_extensions_are_ignored() {
    assert_eq!(decode(b"1;a=b;c=\"d\"\r\nx\r\n0 ;e\r\n\r\n"), whole(b"x"));
}

#[test]
fn trailers_are_thrown_away() {
    assert_eq!(decode(b"1\r\nx\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"), whole(b"x"));
}

#[test]
fn a_body_without_its_last_chunk_is_not_done() {
    assert_eq!(decode(b"1\r\nx\r\n"), Ok((b"x".to_vec(), false)));
}

#[test]
fn a_body_without_the_blank_line_at_its_end_is_not_done() {
    assert_eq!(decode(b"1\r\nx\r\n0\r\n"), Ok((b"x".to_vec(), false)));
}

#[test]
fn what_there_is_of_a_chunk_is_given_at_once() {
    assert_eq!(decode(b"ff\r\nfirst"), Ok((b"first".to_vec(), false)));
}

#[test]
fn a_body_byte_by_byte_is_the_same_body() {
    let mut decoder = ChunkedDecoder::new();
    let mut data = Vec::new();
    for &byte in b"5;x\r\nhello\r\n6\n world\n0\r\nT: 1\r\n\r\n" {
        data.extend(decoder.push(Bytes::copy_from_slice(&[byte])).unwrap().concat());
    }
    assert!(decoder.is_done());
    assert_eq!(data, b"hello world");
}

#[test]
fn data_is_not_copied() {
    let body = Bytes::from_static(b"5\r\nhello\r\n");
    let data = ChunkedDecoder::new().push(body.clone()).unwrap();
    assert_eq!(data[0].as_ptr(), body[3..].as_ptr());
}

#[test]
fn output_behind_the_last_chunk_is_an_error() {
    assert_eq!(decode(b"0\r\n\r\nx"), Err(ChunkedError::TrailingData));
}

#[test]
fn a_body_that_is_not_chunked_is_an_error() {
    assert_eq!(decode(b"<html>\n"), Err(ChunkedError::BadSize));
}

#[test]
fn an_empty_size_is_an_error() {
    assert_eq!(decode(b"\r\n"), Err(ChunkedError::BadSize));
    assert_eq!(decode(b";x\r\n"), Err(ChunkedError::BadSize));
}

#[test]
fn a_size_with_a_sign_is_an_error() {
    assert_eq!(decode(b"+5\r\nhello\r\n"), Err(ChunkedError::BadSize));
}

#[test]
fn a_size_with_a_space_in_front_is_an_error() {
    assert_eq!(decode(b" 5\r\nhello\r\n"), Err(ChunkedError::BadSize));
}

#[test]
fn a_size_with_a_prefix_is_an_error() {
    assert_eq!(decode(b"0x5\r\nhello\r\n"), Err(ChunkedError::BadSize));
}

#[test]
fn a_size_above_64_bits_is_an_error() {
    assert_eq!(decode(b"10000000000000000\r\n"), Err(ChunkedError::BadSize));
}

#[test]
fn the_largest_size_does_no_harm() {
    assert_eq!(decode(b"ffffffffffffffff\r\nx"), Ok((b"x".to_vec(), false)));
}

#[test]
fn a_chunk_longer_than_its_size_is_an_error() {
    assert_eq!(decode(b"1\r\nxy\r\n"), Err(ChunkedError::BadEnd));
}

#[test]
fn a_line_of_framing_without_end_is_an_error() {
    let mut decoder = ChunkedDecoder::new();
    let result = (0..=MAX_LINE).try_for_each(|_| decoder.push(Bytes::from_static(b"0")).map(drop));
    assert_eq!(result, Err(ChunkedError::TooLong));
}

#[test]
fn trailers_without_end_are_an_error() {
    let mut decoder = ChunkedDecoder::new();
    decoder.push(Bytes::from_static(b"0\r\n")).unwrap();
    let result = (0..=MAX_TRAILERS).try_for_each(|_| decoder.push(Bytes::from_static(b"a: b\r\n")).map(drop));
    assert_eq!(result, Err(ChunkedError::TooLong));
}
