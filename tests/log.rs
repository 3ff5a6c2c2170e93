//! The log: what each line says of its request at every level, and that no line looks like another.

mod common;

use common::embedded::{Store, store_with};
use common::server::dcgi;
use common::{PATIENCE, Server, encoded, wait_until};

const ROUTE: &str = "[[route]]\npath = \"/p\"\nimage = \"probe\"\npull = \"never\"\n";

fn probe() -> Store {
    store_with(&[("probe", "probe.rs", &["/app/probe"])])
}

/// A server whose log is at this level, maybe with options of the command line.
fn logging(store: &Store, log: &str, options: &[&str]) -> Server {
    store.serve_with(ROUTE, |command| {
        command.env("DCGI_LOG", log).args(options);
    })
}

#[test]
fn every_line_of_a_request_has_its_id_and_route_at_every_level() {
    let store = probe();
    for log in ["warn", "info", "off,dcgi::stderr=warn", "dcgi::access=off"] {
        let server = logging(&store, log, &[]);
        let response = server.get("/p?err=complaint%0A&text&print=x");
        assert_eq!(response.text(), "x");
        server.wait_for_log("complaint");
        let line = server.log().lines().find(|line| line.contains("complaint")).unwrap().to_owned();
        let carries = format!("request{{request_id=\"{}\" route=\"/p\"}}: dcgi::stderr", response.id());
        assert!(line.contains(&carries), "{log}: {line}");
    }
}

#[test]
fn a_line_of_json_has_id_and_route_in_one_place_whatever_it_is_about() {
    let store = probe();
    let server = logging(&store, "info", &["--log-format", "json"]);
    let response = server.get("/p?err=complaint%0A&text&print=x");
    server.wait_for_log("dcgi::access");
    server.wait_for_log("complaint");
    for text in ["complaint", "dcgi::access"] {
        let line = server.log().lines().find(|line| line.contains(text)).unwrap().to_owned();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["span"]["request_id"], response.id());
        assert_eq!(line["span"]["route"], "/p");
        assert!(line.get("request_id").is_none() && line.get("id").is_none(), "{line}");
    }
}

#[test]
fn a_request_that_is_refused_in_its_head_has_a_line_in_the_access_log() {
    let store = probe();
    let server = logging(&store, "info", &[]);
    let twice = "GET /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx".to_owned();
    let large = format!("GET /p HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    for (head, status) in [(twice, 400), (large, 431)] {
        let mut connection = server.connect();
        connection.send(head);
        assert_eq!(connection.response().status, status);
        let line = "dcgi::access: refused before there was a request: ";
        wait_until("it is logged", PATIENCE, || {
            let log = server.log();
            let found: Vec<_> = log.lines().filter(|found| found.contains(line)).collect();
            found.iter().any(|line| line.contains(&format!("remote=127.0.0.1 status={status} ")))
        });
    }
    assert_eq!(server.log().matches("dcgi::access").count(), 2, "{}", server.log());
}

#[test]
fn a_client_that_left_before_there_was_an_answer_has_a_line_in_the_access_log() {
    let store = probe();
    let server = logging(&store, "info", &[]);
    let mut connection = server.connect();
    connection.send("GET /p?err=begun%0A&forever HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_for_log("dcgi::stderr: begun");
    drop(connection);
    server.wait_for_log("dcgi::access");
    let lines: Vec<_> =
        server.log().lines().filter(|line| line.contains("dcgi::access")).map(str::to_owned).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["route=\"/p\"", "remote=127.0.0.1", "uri=/p?err=begun%0A&forever", "bytes=0"] {
        assert!(lines[0].contains(part), "`{part}` is not in {}", lines[0]);
    }
    assert!(!lines[0].contains("status="), "{}", lines[0]);
}

#[test]
fn a_client_that_left_in_the_middle_of_its_body_has_a_line_in_the_access_log() {
    let store = probe();
    let server = logging(&store, "info", &[]);
    let mut connection = server.connect();
    connection.send(
        "POST /p?text&echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    );
    drop(connection);
    server.wait_for_log("dcgi::access");
    assert_eq!(server.log().matches("dcgi::access").count(), 1, "{}", server.log());
}

/// What would overwrite a line, begin another one, colour it or turn it round.
const UNSAFE: &str = "\0\r\t\u{b}\u{1b}[31m\u{7f}\u{85}\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}";

/// Whether a character may stand in a line as it is.
fn is_plain(c: char) -> bool {
    !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c) && !"\u{200f}\u{2066}".contains(c)
}

#[test]
fn what_programs_and_clients_write_is_escaped_in_text_and_in_json() {
    let store = probe();
    for options in [&[][..], &["--log-format", "json"]] {
        let server = logging(&store, "debug", options);
        let complaint = encoded(format!("complaint {UNSAFE} end\n"));
        let header = encoded(format!("No header {UNSAFE}\n\n"));
        server.get(&format!("/p?err={complaint}&print={header}"));
        server.send(format!("GET /p/\u{202e}{} HTTP/1.1\r\nHost: localhost\r\n\r\n", encoded(UNSAFE)));
        server.wait_for_log("complaint");
        server.wait_for_log("is not a header");
        let log = server.log();
        assert!(log.lines().all(|line| line.chars().all(is_plain)), "{log:?}");
        let line = log.lines().find(|line| line.contains("complaint")).unwrap();
        assert!(line.contains("end"), "the complaint is one line: {line}");
    }
}

#[test]
fn a_level_that_is_none_is_refused_with_those_that_there_are() {
    let (code, _, said) = dcgi(&["--log", "loud", "check"], b"");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("`loud`: expected error, warn, info, debug, trace or off"), "{said}");
}
