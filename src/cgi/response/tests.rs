use http::StatusCode;
use hyper::ext::ReasonPhrase;

use super::*;

type Outcome = Result<Option<(Answer, Bytes)>, HeaderBlockError>;

fn push(output: impl AsRef<[u8]>) -> Outcome {
    HeaderBlock::new().push(output.as_ref())
}

/// The head of a response that a whole output begins with.
fn head(output: impl AsRef<[u8]>) -> Head {
    match push(output).unwrap() {
        Some((Answer::Response(head), _)) => head,
        other => panic!("not a response: {other:?}"),
    }
}

fn redirect(output: &str) -> LocalRedirect {
    match push(output).unwrap() {
        Some((Answer::LocalRedirect(redirect), _)) => redirect,
        other => panic!("not a local redirect: {other:?}"),
    }
}

fn error(output: impl AsRef<[u8]>) -> HeaderBlockError {
    push(output).unwrap_err()
}

/// What is wrong with an output that ended without a whole block.
fn error_at_end(output: &str) -> HeaderBlockError {
    let mut block = HeaderBlock::new();
    match block.push(output.as_bytes()) {
        Ok(None) => block.end(),
        other => panic!("did not wait for more: {other:?}"),
    }
}

fn status(output: &str) -> u16 {
    head(output).parts.status.as_u16()
}

fn reason(output: &str) -> Option<String> {
    let head = head(output);
    let reason = head.parts.extensions.get::<ReasonPhrase>()?;
    Some(String::from_utf8(reason.as_bytes().to_vec()).unwrap())
}

/// The value of a header in the response, where it has it.
fn header(output: &str, name: &str) -> Option<String> {
    let head = head(output);
    let value = head.parts.headers.get(name)?;
    Some(value.to_str().unwrap().to_owned())
}

fn malformed(line: usize, text: &str) -> HeaderBlockError {
    HeaderBlockError::Malformed { line, text: text.into() }
}

// --- where the block ends ---

#[test]
fn lines_end_in_lf() {
    assert_eq!(header("Content-Type: text/plain\n\n", "content-type").unwrap(), "text/plain");
}

#[test]
fn lines_end_in_crlf() {
    assert_eq!(header("Content-Type: text/plain\r\n\r\n", "content-type").unwrap(), "text/plain");
}

#[test]
fn lines_end_in_a_mixture_of_lf_and_crlf() {
    for output in ["A: 1\nB: 2\r\n\n", "A: 1\r\nB: 2\n\r\n", "A: 1\nB: 2\n\r\n", "A: 1\r\nB: 2\r\n\n"] {
        assert_eq!(header(output, "a").unwrap(), "1", "{output:?}");
        assert_eq!(header(output, "b").unwrap(), "2", "{output:?}");
    }
}

#[test]
fn the_block_ends_at_the_first_blank_line() {
    let (_, body) = push("A: 1\n\nB: 2\n\nbody").unwrap().unwrap();
    assert_eq!(body, "B: 2\n\nbody");
}

#[test]
fn a_body_may_begin_with_a_blank_line() {
    let (_, body) = push("A: 1\r\n\r\n\r\n").unwrap().unwrap();
    assert_eq!(body, "\r\n");
}

#[test]
fn what_belongs_to_the_body_is_given_back_untouched() {
    let (_, body) = push(b"A: 1\n\n\0\xff\r\n").unwrap().unwrap();
    assert_eq!(body, &b"\0\xff\r\n"[..]);
}

#[test]
fn a_block_is_waited_for_until_its_blank_line_comes() {
    let mut block = HeaderBlock::new();
    for piece in ["Content-Ty", "pe: text/plain\r", "\n", "\r"] {
        assert!(block.push(piece.as_bytes()).unwrap().is_none());
    }
    let (_, body) = block.push(b"\nbody").unwrap().unwrap();
    assert_eq!(body, "body");
}

#[test]
fn nothing_pushed_changes_nothing() {
    let mut block = HeaderBlock::new();
    assert!(block.push(b"").unwrap().is_none());
    assert!(block.push(b"A: 1\n\n").unwrap().is_some());
}

// --- what is no block ---

#[test]
fn a_program_that_prints_nothing_is_told_so() {
    assert_eq!(error_at_end(""), HeaderBlockError::Empty);
    assert_eq!(HeaderBlockError::Empty.to_string(), "the program printed nothing");
}

#[test]
fn a_block_without_a_blank_line_is_told_so() {
    assert_eq!(error_at_end("Content-Type: text/html\n"), HeaderBlockError::NoBlankLine);
    assert_eq!(error_at_end("Content-Type: text/html\r"), HeaderBlockError::NoBlankLine);
    assert_eq!(error_at_end("Content-Type: text/html"), HeaderBlockError::NoBlankLine);
}

#[test]
fn a_block_that_begins_with_a_blank_line_is_an_error() {
    assert_eq!(error("\nbody"), HeaderBlockError::BlankFirstLine);
    assert_eq!(error("\r\nbody"), HeaderBlockError::BlankFirstLine);
}

#[test]
fn a_page_without_any_header_is_quoted() {
    assert_eq!(error_at_end("Hello, world!"), malformed(1, "Hello, world!"));
    assert_eq!(error("Hello\n\nworld\n"), malformed(1, "Hello"));
}

#[test]
fn a_line_without_a_colon_is_an_error_that_names_the_line() {
    let error = error("A: 1\r\nB: 2\r\nfoo bar\r\n\r\n");
    assert_eq!(error.to_string(), "line 3 is not a header: `foo bar`");
}

#[test]
fn a_quoted_line_is_cut_and_escaped() {
    let error = error(format!("\x1b[31m{}\n\n", "x".repeat(1000)));
    let HeaderBlockError::Malformed { line: 1, text } = error else { panic!("{error:?}") };
    assert!(text.starts_with("\\u{1b}[31mxxx"), "{text}");
    assert!(text.ends_with("x…") && text.len() < 100, "{text}");
}

#[test]
fn a_continued_line_is_an_error() {
    assert_eq!(error("A: 1\n 2\n\n"), malformed(2, " 2"));
    assert_eq!(error("A: 1\n\t2\n\n"), malformed(2, "\\t2"));
}

#[test]
fn a_line_of_nothing_but_spaces_is_no_blank_line() {
    assert_eq!(error("A: 1\n \n\n"), malformed(2, " "));
}

#[test]
fn a_space_before_the_colon_is_an_error() {
    assert_eq!(error("Content-Type : text/html\n\n"), malformed(1, "Content-Type : text/html"));
}

#[test]
fn a_header_without_a_name_is_an_error() {
    assert_eq!(error(": x\n\n"), malformed(1, ": x"));
}

#[test]
fn a_header_name_that_is_no_token_is_an_error() {
    for name in ["a b", "a/b", "a@b", "ä", "a\"", "(a)"] {
        assert!(
            matches!(error(format!("{name}: 1\n\n")), HeaderBlockError::Malformed { line: 1, .. }),
            "{name}"
        );
    }
}

#[test]
fn a_control_character_in_a_value_is_an_error() {
    for byte in (0..0x20).filter(|byte| !b"\t\n".contains(byte)).chain([0x7f]) {
        let output = [b"A: x", &[byte][..], b"y\n\n"].concat();
        assert!(matches!(error(output), HeaderBlockError::Malformed { line: 1, .. }), "{byte:#x}");
    }
}

#[test]
fn a_bare_carriage_return_never_splits_a_header() {
    assert_eq!(error("A: 1\rSet-Cookie: b=2\n\n"), malformed(1, "A: 1\\rSet-Cookie: b=2"));
}

#[test]
fn a_carriage_return_before_crlf_is_an_error() {
    assert!(matches!(error("A: 1\r\r\n\r\n"), HeaderBlockError::Malformed { line: 1, .. }));
}

#[test]
fn a_control_character_in_a_name_is_an_error() {
    assert_eq!(error("A\0: 1\n\n"), malformed(1, "A\\0: 1"));
}

#[test]
fn a_status_line_after_the_first_line_is_an_error() {
    assert_eq!(error("A: 1\nHTTP/1.1 200 OK\n\n"), malformed(2, "HTTP/1.1 200 OK"));
}

// --- how much of it ---

/// A block of so many bytes, blank line included.
fn block_of(bytes: usize) -> Vec<u8> {
    [b"A: ", &b"x".repeat(bytes - 5)[..], b"\n\n"].concat()
}

#[test]
fn a_block_of_64_kib_is_read() {
    assert!(push(block_of(65536)).unwrap().is_some());
}

#[test]
fn a_block_of_more_than_64_kib_is_an_error() {
    assert_eq!(error(block_of(65537)), HeaderBlockError::TooLong);
}

#[test]
fn a_line_without_end_is_an_error_at_64_kib() {
    let mut block = HeaderBlock::new();
    let outcome = (0..17).try_for_each(|_| block.push(&[b'x'; 4096]).map(drop));
    assert_eq!(outcome, Err(HeaderBlockError::TooLong));
}

#[test]
fn the_body_does_not_count_against_the_block() {
    let (_, body) = push([b"A: 1\n\n", &[b'x'; 100_000][..]].concat()).unwrap().unwrap();
    assert_eq!(body.len(), 100_000);
}

#[test]
fn a_block_of_a_hundred_lines_is_read() {
    assert_eq!(head("A: 1\n".repeat(100) + "\n").parts.headers.get_all("a").iter().count(), 100);
}

#[test]
fn a_block_of_more_than_a_hundred_lines_is_an_error() {
    assert_eq!(error("A: 1\n".repeat(101) + "\n"), HeaderBlockError::TooManyLines);
}

#[test]
fn a_status_line_counts_among_the_hundred() {
    let headers = "A: 1\n".repeat(99);
    assert!(push(format!("HTTP/1.0 200 OK\n{headers}\n")).unwrap().is_some());
    assert_eq!(error(format!("HTTP/1.0 200 OK\n{headers}A: 1\n\n")), HeaderBlockError::TooManyLines);
}

#[test]
fn text_without_any_header_is_called_that_rather_than_too_long() {
    assert_eq!(error("Once upon a time\n".repeat(10_000)), malformed(1, "Once upon a time"));
}

// --- status ---

#[test]
fn a_block_without_a_status_is_200() {
    assert_eq!(status("Content-Type: text/plain\n\n"), 200);
}

#[test]
fn a_status_is_taken() {
    assert_eq!(status("Status: 404 Not Found\n\n"), 404);
}

#[test]
fn a_status_needs_no_reason() {
    assert_eq!(status("Status: 404\n\n"), 404);
    assert_eq!(reason("Status: 404 \n\n"), None);
}

#[test]
fn a_status_is_found_in_any_letter_case() {
    assert_eq!(status("sTaTuS: 404\n\n"), 404);
}

#[test]
fn a_status_is_found_in_any_position() {
    assert_eq!(status("A: 1\nStatus: 404\nB: 2\n\n"), 404);
    assert_eq!(status("A: 1\nB: 2\nStatus: 404\n\n"), 404);
}

#[test]
fn the_status_is_not_a_header_of_the_response() {
    assert_eq!(header("Status: 404\n\n", "status"), None);
}

#[test]
fn the_reason_survives() {
    assert_eq!(reason("Status: 404 Gone Fishing\n\n").unwrap(), "Gone Fishing");
}

#[test]
fn statuses_from_200_to_599_are_answered_with() {
    assert_eq!(status("Status: 200\n\n"), 200);
    assert_eq!(status("Status: 599\n\n"), 599);
}

#[test]
fn a_status_without_a_class_is_an_error() {
    for bad in ["600", "600 Odd", "999"] {
        assert_eq!(error(format!("Status: {bad}\n\n")), HeaderBlockError::BadStatus(bad.to_owned()));
    }
    assert_eq!(error("HTTP/1.1 600 Odd\r\n\r\n"), malformed(1, "HTTP/1.1 600 Odd"));
}

#[test]
fn a_status_that_is_none_is_an_error() {
    for bad in ["", "OK", "20", "2000", "200OK", "099", "000 Zero", "+20", "-20", "2 0", "0x1", "200.1"] {
        let error = error(format!("Status: {bad}\n\n"));
        assert_eq!(error, HeaderBlockError::BadStatus(bad.to_owned()), "{bad:?}");
    }
}

#[test]
fn a_bad_status_is_quoted() {
    assert_eq!(error("Status: fine\n\n").to_string(), "`fine` is not a status");
}

#[test]
fn two_different_statuses_are_an_error() {
    assert_eq!(error("Status: 200\nStatus: 404\n\n"), HeaderBlockError::Conflicting("Status"));
}

#[test]
fn the_same_status_twice_is_one() {
    assert_eq!(status("Status: 404\nStatus: 404\n\n"), 404);
}

#[test]
fn a_first_line_of_http_1_is_read_as_the_status() {
    assert_eq!(status("HTTP/1.0 404 Not Found\r\n\r\n"), 404);
    assert_eq!(status("HTTP/1.1 404 Not Found\nA: 1\n\n"), 404);
}

#[test]
fn the_reason_of_a_status_line_survives() {
    assert_eq!(reason("HTTP/1.1 404 Gone Fishing\r\n\r\n").unwrap(), "Gone Fishing");
}

#[test]
fn a_status_line_needs_no_reason() {
    assert_eq!(status("HTTP/1.1 404\r\n\r\n"), 404);
}

#[test]
fn a_status_line_of_another_version_is_an_error() {
    assert_eq!(error("HTTP/2 200\r\n\r\n"), malformed(1, "HTTP/2 200"));
    assert_eq!(error("HTTP/1.2 200 OK\r\n\r\n"), malformed(1, "HTTP/1.2 200 OK"));
}

#[test]
fn a_status_line_whose_code_is_none_is_an_error() {
    assert_eq!(error("HTTP/1.1 099 x\r\n\r\n"), malformed(1, "HTTP/1.1 099 x"));
    assert_eq!(error("HTTP/1.1 OK\r\n\r\n"), malformed(1, "HTTP/1.1 OK"));
}

#[test]
fn a_status_line_and_the_same_status_are_one() {
    assert_eq!(status("HTTP/1.0 404 Not Found\nStatus: 404 Gone Fishing\n\n"), 404);
}

#[test]
fn a_status_line_and_another_status_are_an_error() {
    assert_eq!(error("HTTP/1.0 200 OK\nStatus: 404\n\n"), HeaderBlockError::Conflicting("Status"));
}

// --- 1xx ---

#[test]
fn a_1xx_block_is_never_the_answer() {
    assert_eq!(status("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n"), 404);
    assert_eq!(status("Status: 103 Early Hints\nLink: </a>\n\nStatus: 404\n\n"), 404);
}

#[test]
fn the_headers_of_a_1xx_block_are_skipped_with_it() {
    assert_eq!(header("Status: 103\nLink: </a>\n\nStatus: 200\n\n", "link"), None);
}

#[test]
fn a_location_in_a_1xx_block_redirects_nothing() {
    assert_eq!(status("Status: 103\nLocation: /x\n\nStatus: 200\n\n"), 200);
}

#[test]
fn a_1xx_block_alone_is_told_so() {
    assert_eq!(error_at_end("Status: 100\n\n"), HeaderBlockError::OnlyInterim);
}

#[test]
fn lines_after_a_1xx_block_are_numbered_from_the_start_of_the_output() {
    assert_eq!(error("Status: 100\n\nA: 1\nfoo\n\n"), malformed(4, "foo"));
}

#[test]
fn the_limit_on_bytes_holds_for_all_1xx_blocks_together() {
    let interim = format!("Status: 100\nA: {}\n\n", "x".repeat(30_000));
    assert_eq!(error(interim.repeat(3)), HeaderBlockError::TooLong);
}

#[test]
fn the_limit_on_lines_holds_for_all_1xx_blocks_together() {
    assert_eq!(error("Status: 100\n\n".repeat(101)), HeaderBlockError::TooManyLines);
}

// --- location ---

#[test]
fn a_location_with_a_path_and_no_status_is_a_local_redirect() {
    assert_eq!(redirect("Location: /x?y\n\n").location, "/x?y");
}

#[test]
fn a_local_redirect_is_one_whatever_other_fields_stand_beside_it() {
    assert_eq!(redirect("Content-Type: text/html\nLocation: /x\nContent-Length: 3\n\n").location, "/x");
}

#[test]
fn cookies_beside_a_local_redirect_survive() {
    let redirect = redirect("Set-Cookie: a=1\nLocation: /x\nX-A: 1\nSet-Cookie: b=2\n\n");
    assert_eq!(redirect.set_cookie, ["a=1", "b=2"]);
}

#[test]
fn a_location_with_two_slashes_is_no_path() {
    assert_eq!(status("Location: //host/x\n\n"), 302);
    assert_eq!(header("Location: //host/x\n\n", "location").unwrap(), "//host/x");
}

#[test]
fn a_location_with_a_uri_is_302_for_the_client() {
    assert_eq!(status("Location: https://example.org/\n\n"), 302);
    assert_eq!(header("Location: https://example.org/\n\n", "location").unwrap(), "https://example.org/");
}

#[test]
fn a_location_relative_to_the_page_is_for_the_client() {
    assert_eq!(status("Location: next.html\n\n"), 302);
    assert_eq!(status("Location: ?page=2\n\n"), 302);
}

#[test]
fn a_location_with_a_fragment_is_for_the_client() {
    assert_eq!(status("Location: /x#y\n\n"), 302);
}

#[test]
fn a_location_with_a_path_and_a_status_is_for_the_client() {
    assert_eq!(status("Status: 301\nLocation: /x\n\n"), 301);
    assert_eq!(header("Location: /x\nStatus: 201\n\n", "location").unwrap(), "/x");
}

#[test]
fn a_location_with_a_path_under_a_status_line_is_for_the_client() {
    assert_eq!(status("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"), 302);
}

#[test]
fn a_status_says_otherwise_than_302() {
    assert_eq!(status("Location: https://example.org/\nStatus: 307\n\n"), 307);
    assert_eq!(status("Location: https://example.org/\nStatus: 200\n\n"), 200);
}

#[test]
fn the_body_beside_a_location_is_kept() {
    let (_, body) = push("Location: https://example.org/\n\nmoved").unwrap().unwrap();
    assert_eq!(body, "moved");
}

#[test]
fn an_empty_location_is_an_error() {
    let error = error("Location:\n\n");
    assert_eq!(error, HeaderBlockError::BadHeader { name: "Location", value: String::new() });
}

#[test]
fn a_tab_in_a_location_is_an_error() {
    assert!(matches!(error("Location: /a\tb\n\n"), HeaderBlockError::BadHeader { name: "Location", .. }));
}

#[test]
fn of_two_locations_the_last_one_counts() {
    assert_eq!(redirect("Location: /a\nLocation: /b\n\n").location, "/b");
    assert_eq!(header("Location: /a\nLocation: http://h/b\n\n", "location").unwrap(), "http://h/b");
}

#[test]
fn of_a_field_that_stands_for_one_thing_the_last_one_counts() {
    for name in ["content-type", "ETag", "Last-Modified", "date", "SERVER", "Content-Range", "Expires", "Age"]
    {
        let head = head(format!("{name}: first\nX-A: 1\n{name}: second\nX-A: 2\n\n"));
        let values: Vec<_> = head.parts.headers.get_all(name).iter().collect();
        assert_eq!(values, ["second"], "{name}");
        assert_eq!(head.parts.headers.get_all("x-a").iter().count(), 2);
    }
}

#[test]
fn the_same_location_twice_is_one() {
    assert_eq!(redirect("Location: /a\nLocation: /a\n\n").location, "/a");
}

#[test]
fn what_cannot_stand_in_a_request_target_is_percent_encoded() {
    assert_eq!(redirect("Location: /a b/ä?\"<c>\\\n\n").location, "/a%20b/%C3%A4?%22%3Cc%3E%5C");
}

#[test]
fn what_is_percent_encoded_already_stays() {
    assert_eq!(redirect("Location: /a%20b%2f?100%25\n\n").location, "/a%20b%2f?100%25");
}

#[test]
fn a_percent_sign_that_escapes_nothing_is_percent_encoded() {
    assert_eq!(redirect("Location: /100%?50%z\n\n").location, "/100%25?50%25z");
}

// --- headers ---

#[test]
fn other_headers_pass() {
    assert_eq!(header("X-A: 1\nDate: today\nServer: me\n\n", "x-a").unwrap(), "1");
    assert_eq!(header("X-A: 1\nDate: today\nServer: me\n\n", "date").unwrap(), "today");
    assert_eq!(header("X-A: 1\nDate: today\nServer: me\n\n", "server").unwrap(), "me");
}

#[test]
fn a_header_with_an_empty_value_passes() {
    assert_eq!(header("X-A:\n\n", "x-a").unwrap(), "");
}

#[test]
fn white_space_around_a_value_is_no_part_of_it() {
    assert_eq!(header("X-A: \t 1 \t\n\n", "x-a").unwrap(), "1");
    assert_eq!(header("X-A:1\n\n", "x-a").unwrap(), "1");
}

#[test]
fn a_colon_in_a_value_is_part_of_it() {
    assert_eq!(header("X-A: b: c\n\n", "x-a").unwrap(), "b: c");
}

#[test]
fn bytes_of_a_value_that_are_not_ascii_pass_unchanged() {
    assert_eq!(head(b"X-A: caf\xe9\n\n").parts.headers["x-a"], HeaderValue::from_bytes(b"caf\xe9").unwrap());
}

#[test]
fn two_set_cookie_headers_survive_in_order() {
    let head = head("Set-Cookie: b=2\nX-A: 1\nSet-Cookie: a=1\nSet-Cookie: b=2\n\n");
    let cookies: Vec<_> = head.parts.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["b=2", "a=1", "b=2"]);
}

#[test]
fn hop_by_hop_headers_are_dropped() {
    for name in [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ] {
        assert!(head(format!("{name}: x\n\n")).parts.headers.is_empty(), "{name}");
    }
}

#[test]
fn headers_that_the_programs_connection_names_are_dropped() {
    let output = "X-One: 1\nConnection: close, x-one\nConnection: X-Two\nX-Two: 2\nX-Three: 3\n\n";
    let head = head(output);
    let names: Vec<_> = head.parts.headers.keys().collect();
    assert_eq!(names, ["x-three"]);
}

#[test]
fn connection_cannot_name_the_content_length_away() {
    assert_eq!(head("Connection: content-length\nContent-Length: 5\n\n").content_length, Some(5));
}

#[test]
fn a_block_without_a_content_type_passes_as_it_is() {
    assert!(!head("X-A: 1\n\n").has_content_type());
    assert!(head("Content-Type: text/html\n\n").has_content_type());
}

// --- how long the body is ---

#[test]
fn a_content_length_is_taken() {
    assert_eq!(head("Content-Length: 5\n\n").content_length, Some(5));
}

#[test]
fn a_content_length_stays_a_header_of_the_response() {
    assert_eq!(header("Content-Length: 005\n\n", "content-length").unwrap(), "5");
}

#[test]
fn a_block_without_a_content_length_says_none() {
    assert_eq!(head("A: 1\n\n").content_length, None);
}

#[test]
fn a_content_length_that_is_no_number_is_an_error() {
    for bad in ["", "x", "-1", "+1", "1.0", "0x1", "1 2", "1, 1", "18446744073709551616"] {
        let error = error(format!("Content-Length: {bad}\n\n"));
        assert_eq!(
            error,
            HeaderBlockError::BadHeader { name: "Content-Length", value: bad.into() },
            "{bad:?}"
        );
    }
}

#[test]
fn two_content_lengths_that_differ_are_an_error() {
    let error = error("Content-Length: 5\nContent-Length: 6\n\n");
    assert_eq!(error, HeaderBlockError::Conflicting("Content-Length"));
}

#[test]
fn the_same_content_length_twice_is_one() {
    let head = head("Content-Length: 5\nContent-Length: 5\n\n");
    assert_eq!(head.parts.headers.get_all("content-length").iter().count(), 1);
}

#[test]
fn an_answer_of_204_says_no_content_length() {
    let head = head("Status: 204\nContent-Length: 0\n\n");
    assert_eq!(head.parts.status, StatusCode::NO_CONTENT);
    assert_eq!(head.parts.headers.get("content-length"), None);
}

#[test]
fn an_answer_of_304_keeps_its_content_length() {
    assert_eq!(header("Status: 304\nContent-Length: 5\n\n", "content-length").unwrap(), "5");
}

#[test]
fn a_script_that_chunks_its_own_body_is_decoded_if_nph() {
    assert!(head("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n").chunked);
}

#[test]
fn a_script_that_chunks_its_own_body_is_not_decoded_if_not_nph() {
    assert!(!head("Status: 200\nTransfer-Encoding: chunked\n\n").chunked);
}

#[test]
fn only_the_chunked_coding_alone_is_decoded() {
    assert!(!head("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n").chunked);
    let twice = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n";
    assert!(!head(twice).chunked);
}

#[test]
fn the_transfer_encoding_never_passes() {
    assert_eq!(header("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "transfer-encoding"), None);
}

#[test]
fn chunks_win_over_a_content_length() {
    let head = head("HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked\n\n");
    assert_eq!(head.content_length, None);
    assert_eq!(head.parts.headers.get("content-length"), None);
}
