use super::*;

const TYPE: &str = "multipart/form-data; boundary=b";

/// Gives at most so many bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(out.len());
        self.0.read(&mut out[..length])
    }
}

fn parts_of(content_type: &str, body: &[u8], at_once: usize) -> io::Result<Vec<(Part, Vec<u8>)>> {
    let mut multipart = Multipart::new(content_type, Slow(body, at_once)).expect("a boundary");
    let mut parts = Vec::new();
    while let Some(part) = multipart.next()? {
        let mut content = Vec::new();
        multipart.read_to_end(&mut content)?;
        parts.push((part, content));
    }
    Ok(parts)
}

/// Reads a body in several ways, which must not matter.
#[track_caller]
fn parts(body: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let named = |at_once| {
        let parts = parts_of(TYPE, body, at_once)?;
        Ok(parts.into_iter().map(|(part, content)| (part.name, content)).collect::<Vec<_>>())
    };
    let whole: io::Result<Vec<_>> = named(usize::MAX);
    for at_once in 1..12 {
        let slowly: io::Result<Vec<_>> = named(at_once);
        assert_eq!(format!("{whole:?}"), format!("{slowly:?}"), "{at_once} at once");
    }
    whole
}

fn text(name: &str, content: &str) -> (String, Vec<u8>) {
    (name.to_owned(), content.as_bytes().to_vec())
}

const A: &str = "Content-Disposition: form-data; name=a\r\n";

#[test]
fn parts_lie_between_their_boundaries() {
    let body = format!("--b\r\n{A}\r\none\r\n--b\r\n{A}\r\n\r\ntwo\r\n\r\n--b--\r\n");
    assert_eq!(parts(body.as_bytes()).unwrap(), [text("a", "one"), text("a", "\r\ntwo\r\n")]);
}

#[test]
fn preamble_epilogue_and_padding_are_nobodys() {
    let body = format!("not --b this\r\n--b \t\r\n{A}\r\none\r\n--b--  \r\nnor\r\n--b\r\nthat");
    assert_eq!(parts(body.as_bytes()).unwrap(), [text("a", "one")]);
}

#[test]
fn what_only_resembles_a_boundary_is_content() {
    let content = "--b\n--b\r\r\n--\r\n--ab\r\n-\r\n";
    let body = format!("--b\r\n{A}\r\n.{content}\r\n--b--");
    assert_eq!(parts(body.as_bytes()).unwrap(), [text("a", &format!(".{content}"))]);
}

#[test]
fn a_part_may_be_empty_with_or_without_a_line_for_it() {
    let body = format!("--b\r\n{A}\r\n\r\n--b\r\n{A}\r\n--b--");
    assert_eq!(parts(body.as_bytes()).unwrap(), [text("a", ""), text("a", "")]);
}

#[test]
fn a_body_may_have_no_parts() {
    assert_eq!(parts(b"--b--").unwrap(), []);
}

#[test]
fn a_part_that_is_not_read_is_passed_over() {
    let body = format!("--b\r\n{A}\r\n{}\r\n--b\r\n{A}\r\ntwo\r\n--b--", "x".repeat(3 * BUFFER));
    let mut multipart = Multipart::new(TYPE, body.as_bytes()).unwrap();
    multipart.next().unwrap().unwrap();
    multipart.read_exact(&mut [0; 10]).unwrap();
    multipart.next().unwrap().unwrap();
    assert_eq!(io::read_to_string(&mut multipart).unwrap(), "two");
    assert_eq!(multipart.next().unwrap(), None);
    assert_eq!(multipart.next().unwrap(), None);
    assert_eq!(io::read_to_string(&mut multipart).unwrap(), "");
}

#[test]
fn content_larger_than_the_buffer_comes_whole_wherever_the_boundary_lies() {
    for extra in 0..16 {
        let content: Vec<u8> = (0..BUFFER - 80 + extra * 8).map(|n| b"\r\n-b\0x"[n % 6]).collect();
        let body = [format!("--b\r\n{A}\r\n").as_bytes(), &content, b"\r\n--b--"].concat();
        let found = parts_of(TYPE, &body, usize::MAX).unwrap();
        assert!(found[0].1 == content, "{extra}");
    }
}

#[test]
fn a_body_that_is_cut_anywhere_is_an_error() {
    let body = format!("--b\r\n{A}\r\none\r\n--b--");
    for length in 0..body.len() {
        let error = parts(&body.as_bytes()[..length]).expect_err("it is cut");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
    }
}

#[test]
fn what_is_no_form_is_refused() {
    for body in [
        "--b\r\n\r\nno head\r\n--b--".to_owned(),
        "--b\r\nContent-Disposition: attachment; name=a\r\n\r\n\r\n--b--".to_owned(),
        "--b\r\nContent-Disposition: form-data; filename=a\r\n\r\n\r\n--b--".to_owned(),
        format!("--b\r\nno colon\r\n{A}\r\n\r\n--b--"),
        format!("--bx\r\n{A}\r\n\r\n--b--"),
        format!("--b\r\nX: {}\r\n{A}\r\n\r\n--b--", "x".repeat(LONGEST_HEAD)),
        format!("--b\r\n{}{A}\r\n\r\n--b--", "X: y\r\n".repeat(LONGEST_HEAD / 6)),
        format!("--b\r\nX: {}", "x".repeat(2 * BUFFER)),
    ] {
        let error = parts_of(TYPE, body.as_bytes(), usize::MAX).expect_err(&body);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{body}");
    }
}

#[test]
fn a_boundary_may_be_quoted_and_has_to_be_valid() {
    let valid = |content_type: &str| {
        Multipart::new(content_type, io::empty())
            .map(|it| String::from_utf8_lossy(&it.delimiter).into_owned())
    };
    assert_eq!(valid("Multipart/Form-Data; charset=x; Boundary=\"a b:\"").unwrap(), "\r\n--a b:");
    assert_eq!(valid("multipart/form-data;boundary=----x").unwrap(), "\r\n------x");
    let longest = "x".repeat(LONGEST_BOUNDARY);
    assert!(valid(&format!("multipart/form-data; boundary={longest}")).is_some());
    for refused in [
        "multipart/form-data".to_owned(),
        "multipart/form-data; charset=x".to_owned(),
        "multipart/mixed; boundary=b".to_owned(),
        "multipart/form-data; boundary=".to_owned(),
        "multipart/form-data; boundary=\"b \"".to_owned(),
        "multipart/form-data; boundary=\"b\\\"\"".to_owned(),
        "multipart/form-data; boundary=\"b".to_owned(),
        format!("multipart/form-data; boundary={longest}x"),
    ] {
        assert_eq!(valid(&refused), None, "{refused}");
    }
}

#[test]
fn a_part_is_named_as_each_client_writes_it() {
    for (disposition, name, filename) in [
        ("form-data; name=\"a\"; filename=\"b.txt\"", "a", Some("b.txt")),
        ("Form-Data; FILENAME=b.txt; name=a", "a", Some("b.txt")),
        ("form-data; name=\"a; filename=b\"", "a; filename=b", None),
        // curl of old.
        ("form-data; name=\"a\"; filename=\"say \\\"hi\\\" \\\\.txt\"", "a", Some("say \"hi\" \\.txt")),
        // Browsers of today, and of long ago.
        ("form-data; name=\"%22\"; filename=\"a%0D%0A%41.txt\"", "\"", Some("a\r\n%41.txt")),
        ("form-data; name=\"a\"; filename=\"C:\\docs\\b.txt\"", "a", Some("C:\\docs\\b.txt")),
        // No file was chosen.
        ("form-data; name=\"a\"; filename=\"\"", "a", Some("")),
    ] {
        let body = format!("--b\r\nContent-Type: x/y\r\ncontent-disposition: {disposition}\r\n\r\n\r\n--b--");
        let part = parts_of(TYPE, body.as_bytes(), usize::MAX).unwrap().remove(0).0;
        let filename = filename.map(str::to_owned);
        assert_eq!(part, Part { name: name.to_owned(), filename, content_type: "x/y".to_owned() });
    }
}
