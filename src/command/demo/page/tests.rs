//! The pages as functions: environment and input in, bytes out.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::*;

/// A place that is the same each time, and in which no time passes.
fn place(scratch: &Path) -> Place {
    Place {
        hostname: Some("c0ffee<b>".to_owned()),
        process: 7,
        user: Some(0),
        capabilities: Some(0),
        age: Some(Duration::from_millis(1234)),
        scratch: scratch.to_owned(),
        random: |buffer| {
            buffer.fill(0);
            Ok(())
        },
        pause: |_| {},
    }
}

/// What a page prints, as header block and body.
fn answer_in(scratch: &Path, page: Page, variables: &[(&str, &str)], mut input: &[u8]) -> (String, String) {
    let place = place(scratch);
    let method = [("REQUEST_METHOD", "GET")];
    let variables = method.iter().chain(variables).map(|(name, value)| (name.into(), value.into()));
    let input: &mut dyn Read = &mut input;
    let mut out = Vec::new();
    page.answer(&mut Request::new(variables, input, &place), &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    let (head, body) = out.split_once("\n\n").expect("a blank line");
    (head.to_owned(), body.to_owned())
}

fn answer(page: Page, variables: &[(&str, &str)], input: &[u8]) -> (String, String) {
    answer_in(tempfile::tempdir().unwrap().path(), page, variables, input)
}

fn post(content_type: &str, input: &[u8]) -> (String, String) {
    answer(Page::Form, &[("REQUEST_METHOD", "POST"), ("CONTENT_TYPE", content_type)], input)
}

const SCRIPT: &str = "<script>alert('1')</script>\"";
const ESCAPED: &str = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;";

#[test]
fn every_page_has_a_name_and_a_path_of_its_own() {
    for page in Page::ALL {
        assert_eq!(Page::from_str(page.name(), false).unwrap(), page);
        assert_eq!(Page::ALL.iter().filter(|other| other.path() == page.path()).count(), 1);
    }
    assert_eq!(Page::ALL.as_slice(), Page::value_variants());
}

#[test]
fn every_page_is_to_be_fetched_anew() {
    for page in Page::ALL {
        let (head, _) = answer(page, &[], b"");
        assert!(head.lines().any(|line| line == "Cache-Control: no-store"), "{page:?}: {head}");
    }
}

#[test]
fn the_index_shows_its_container_and_links_to_every_page() {
    let variables = [("PATH_INFO", "/"), ("DCGI_ENGINE", "docker"), ("REQUEST_ID", "id-1")];
    let (head, body) = answer(Page::Index, &variables, b"");
    assert!(head.contains("Content-Type: text/html; charset=utf-8"), "{head}");
    for fact in [
        "c0ffee&lt;b&gt;",
        "<dd>7</dd>",
        "<dd>0, no capabilities</dd>",
        "1.23 seconds",
        "<dd>docker</dd>",
        "id-1",
    ] {
        assert!(body.contains(fact), "{fact} is not in\n{body}");
    }
    for page in Page::ALL {
        assert!(body.contains(&format!("href=\"{}", page.path())), "{page:?}");
    }
}

#[test]
fn the_index_copies_no_host_that_a_shell_could_misread() {
    let (_, body) = answer(Page::Index, &[("HTTP_HOST", "localhost:8081")], b"");
    assert!(body.contains("curl http://localhost:8081/hello"), "{body}");
    let (_, body) = answer(Page::Index, &[("HTTP_HOST", "a;reboot")], b"");
    assert!(body.contains("curl http://127.0.0.1:8080/hello") && !body.contains("reboot"), "{body}");
}

#[test]
fn what_no_route_knows_is_not_found() {
    let (head, body) = answer(Page::Index, &[("PATH_INFO", &format!("/{SCRIPT}"))], b"");
    assert!(head.starts_with("Status: 404 Not Found\n"), "{head}");
    assert!(body.contains(ESCAPED) && !body.contains("<script"), "{body}");
}

#[test]
fn a_method_that_means_nothing_here_is_refused() {
    let (head, _) = answer(Page::Rng, &[("REQUEST_METHOD", "POST")], b"");
    assert!(head.starts_with("Status: 405 Method Not Allowed\nAllow: GET, HEAD\n"), "{head}");
    let (head, _) = answer(Page::Form, &[("REQUEST_METHOD", "DELETE")], b"");
    assert!(head.contains("Allow: GET, HEAD, POST\n"), "{head}");
}

#[test]
fn hello_is_plain_text_whoever_is_greeted() {
    let (head, body) = answer(Page::Hello, &[], b"");
    assert!(head.starts_with("Content-Type: text/plain; charset=utf-8\n"), "{head}");
    assert!(head.contains("X-Content-Type-Options: nosniff"), "{head}");
    assert_eq!(body, "Hello from a container!\n");
    let (_, body) = answer(Page::Hello, &[("QUERY_STRING", "name=Ada+L%C3%A9")], b"");
    assert_eq!(body, "Hello, Ada Lé, from a container!\n");
}

#[test]
fn hello_is_a_page_for_browsers() {
    let (head, body) =
        answer(Page::Hello, &[BROWSER, ("QUERY_STRING", "name=%3Cscript%3Ealert('1')%3C/script%3E%22")], b"");
    assert!(head.contains("Content-Type: text/html; charset=utf-8"), "{head}");
    assert!(body.contains(&format!("<h1>Hello, {ESCAPED}, from a container!</h1>")), "{body}");
    assert!(body.contains(&format!("value=\"{ESCAPED}\"")) && !body.contains("<script"), "{body}");
}

/// As every browser asks for what it is to show.
const BROWSER: (&str, &str) = ("HTTP_ACCEPT", "text/html,application/xhtml+xml,*/*;q=0.8");

#[test]
fn every_page_has_a_way_back_and_to_the_guide_and_fits_a_phone() {
    let mut pages: Vec<_> = Page::ALL.map(|page| (page, vec![BROWSER])).into();
    pages.push((Page::Rng, vec![BROWSER, ("QUERY_STRING", "n=many")]));
    pages.push((Page::Hello, vec![BROWSER, ("REQUEST_METHOD", "POST")]));
    pages.push((Page::Index, vec![BROWSER, ("PATH_INFO", "/nowhere")]));
    pages.push((Page::Guide, vec![BROWSER, ("PATH_INFO", "/configuration")]));
    for (page, variables) in pages {
        let (_, body) = answer(page, &variables, b"");
        for part in [
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
            "<a href=\"/\">All pages</a>",
            "<a href=\"/guide\">The guide</a>",
            "<a href=\"/script\">Your own script</a>",
        ] {
            assert!(body.contains(part), "{page:?} {variables:?} has no {part}: {body}");
        }
    }
}

#[test]
fn the_guide_lists_its_pages_and_shows_each() {
    let (_, body) = answer(Page::Guide, &[], b"");
    assert!(body.contains("<a href=\"/guide/configuration\">Configuration</a>"), "{body}");
    for path in ["/configuration", "/configuration.md"] {
        let (head, body) = answer(Page::Guide, &[("PATH_INFO", path)], b"");
        assert!(!head.contains("Status") && body.contains("| `max_concurrency` |"), "{head}\n{body}");
    }
    let (head, body) = answer(Page::Guide, &[("PATH_INFO", &format!("/{SCRIPT}"))], b"");
    assert!(head.starts_with("Status: 404 Not Found\n") && !body.contains("<script"), "{head}\n{body}");
}

#[test]
fn the_page_for_a_script_of_ones_own_has_all_that_is_to_be_written() {
    let (_, body) = answer(Page::Script, &[], b"");
    for part in
        ["#!/bin/sh", "chmod 755", "[[route]]", "entrypoint = [&quot;/cgi/mine.sh&quot;]", "dcgi serve"]
    {
        assert!(body.contains(part), "no {part}: {body}");
    }
}

#[test]
fn the_environment_keeps_the_requests_variables_and_the_images_apart() {
    let variables = [("PATH", "/bin"), ("QUERY_STRING", SCRIPT), ("HTTP_X_ODD", SCRIPT), ("SCRIPT_NAME", "")];
    let (_, body) = answer(Page::Environment, &variables, b"");
    assert!(!body.contains("<script"), "{body}");
    assert_eq!(body.matches(ESCAPED).count(), 2);
    let (requests, rest) = body.split_once("<h2>Request headers</h2>").unwrap();
    let (headers, own) = rest.split_once("<h2>The container's own</h2>").unwrap();
    assert!(requests.contains("§4.1.7") && requests.contains("<code>QUERY_STRING</code>"), "{requests}");
    assert!(headers.contains("<code>HTTP_X_ODD</code> <small>X-Odd</small>"), "{headers}");
    assert!(own.contains("<code>PATH</code>") && own.contains("<code>/bin</code>"), "{own}");
    assert!(!own.contains("QUERY_STRING") && !own.contains("HTTP_X_ODD"), "{own}");
    let row = |name: &str| body.lines().find(|line| line.contains(&format!("<code>{name}</code>"))).unwrap();
    assert!(row("SCRIPT_NAME").contains(">empty<"), "{}", row("SCRIPT_NAME"));
    assert!(row("AUTH_TYPE").contains(">not set<"), "{}", row("AUTH_TYPE"));
}

#[test]
fn a_query_is_shown_and_written_into_the_form_again() {
    let (head, body) = answer(Page::Form, &[("QUERY_STRING", "name=%22%3E%3Cb%3E&message=a+b")], b"");
    assert!(!head.contains("Status"), "{head}");
    assert!(body.contains("Hello, &quot;&gt;&lt;b&gt;."), "{body}");
    assert!(body.contains("value=\"&quot;&gt;&lt;b&gt;\"") && body.contains("value=\"a b\""), "{body}");
}

#[test]
fn a_posted_form_is_read_from_standard_input() {
    let (_, body) = post("application/x-www-form-urlencoded; charset=UTF-8", b"name=Ada&message=%3Ci%3E");
    assert!(body.contains("Hello, Ada.") && body.contains("&lt;i&gt;") && !body.contains("<i>"), "{body}");
}

#[test]
fn an_upload_is_named_measured_and_hashed() {
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n{SCRIPT}\r\n--b\r\nContent-Disposition: \
         form-data; name=\"file\"; filename=\"<script>.txt\"\r\nContent-Type: text/<x>\r\n\r\nabc\r\n--b--\r\n"
    );
    let (head, body) = post("multipart/form-data; boundary=b", body.as_bytes());
    assert!(!head.contains("Status"), "{head}");
    for shown in [
        ESCAPED,
        "&lt;script&gt;.txt",
        "text/&lt;x&gt;",
        "3 bytes",
        // FIPS 180-2, appendix B.1.
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "6162 63",
    ] {
        assert!(body.contains(shown), "{shown} is not in\n{body}");
    }
    assert!(!body.contains("<script") && !body.contains("<x>"), "{body}");
}

#[test]
fn a_form_that_is_broken_too_large_or_of_another_kind_has_a_status_of_its_own() {
    let status = |content_type, input: &[u8]| post(content_type, input).0.lines().next().unwrap().to_owned();
    assert_eq!(status("multipart/form-data; boundary=b", b"--b\r\n"), "Status: 400 Bad Request");
    assert_eq!(status("multipart/form-data", b""), "Status: 400 Bad Request");
    assert_eq!(status("application/json", b"{}"), "Status: 415 Unsupported Media Type");
    let large = vec![b'a'; 65537];
    assert_eq!(status("application/x-www-form-urlencoded", &large), "Status: 413 Content Too Large");
    let (head, _) = post("application/x-www-form-urlencoded", &large[1..]);
    assert!(!head.contains("Status"), "{head}");
}

#[test]
fn a_stream_has_twenty_lines_and_an_end() {
    let (_, body) = answer(Page::Stream, &[], b"");
    assert_eq!(body.matches("<li>").count(), 20);
    assert!(
        body.contains("<li>0.0 s, process 7</li>") && body.contains("<li>9.5 s, process 7</li>"),
        "{body}"
    );
    assert!(body.ends_with("</html>\n"), "{body}");
}

#[test]
fn a_stream_of_events_says_when_it_ends() {
    let (head, body) = answer(Page::Stream, &[("QUERY_STRING", "events")], b"");
    assert!(head.contains("Content-Type: text/event-stream"), "{head}");
    assert!(body.starts_with("id: 0\ndata: {\"seconds\": 0.0, \"process\": 7}\n\n"), "{body}");
    assert_eq!(body.matches("\ndata: {\"seconds\"").count(), 20);
    assert!(body.ends_with("\n\nevent: end\ndata: {}\n\n"), "{body}");
}

#[test]
fn a_stream_of_which_only_the_head_is_wanted_does_not_run() {
    let (_, body) = answer(Page::Stream, &[("REQUEST_METHOD", "HEAD")], b"");
    assert!(!body.contains("<li>"), "{body}");
}

#[test]
fn random_numbers_come_as_lines_or_as_json() {
    let (head, body) = answer(Page::Rng, &[("QUERY_STRING", "n=3&max=6")], b"");
    assert!(head.contains("text/plain"), "{head}");
    assert_eq!(body, "1\n1\n1\n");
    let (head, body) = answer(Page::Rng, &[("QUERY_STRING", "n=2&format=json")], b"");
    assert!(head.contains("application/json"), "{head}");
    assert_eq!(body, "[1, 1]\n");
}

#[test]
fn random_numbers_are_a_page_for_browsers_that_name_no_format() {
    let (head, body) = answer(Page::Rng, &[BROWSER, ("QUERY_STRING", "n=3&max=6")], b"");
    assert!(head.contains("text/html") && body.contains(">1 1 1</p>"), "{head}\n{body}");
    let (head, _) = answer(Page::Rng, &[BROWSER, ("QUERY_STRING", "format=text")], b"");
    assert!(head.contains("text/plain"), "{head}");
    let (head, _) = answer(Page::Rng, &[BROWSER, ("QUERY_STRING", "format=json")], b"");
    assert!(head.contains("application/json"), "{head}");
    let (head, body) = answer(Page::Rng, &[BROWSER, ("QUERY_STRING", "n=many")], b"");
    assert!(head.starts_with("Status: 400 Bad Request\n") && head.contains("text/html"), "{head}");
    assert!(body.contains("`n` is a whole number from 1 to 1000."), "{body}");
}

#[test]
fn a_wish_that_cannot_be_met_is_a_bad_request() {
    let (head, body) = answer(Page::Rng, &[("QUERY_STRING", "n=many")], b"");
    assert!(head.starts_with("Status: 400 Bad Request\n"), "{head}");
    assert!(body.starts_with("`n` is a whole number from 1 to 1000.\n"), "{body}");
}

#[test]
fn the_counter_counts_where_something_stays() {
    let folder = tempfile::tempdir().unwrap();
    let visit = || answer_in(folder.path(), Page::Counter, &[], b"").1;
    assert!(visit().contains("<span class=\"number\">1</span>"));
    assert!(visit().contains("<span class=\"number\">2</span>"));
}
