//! The rooms of the house: each top-level module uses only such as stand below it, so that no two need each other.
//!
//! What a file uses is read from its text: every path that begins with `crate::`, in `use` lines and elsewhere, tests
//! included; comments do not count. What is found is the drawing in `ARCHITECTURE.md`; `cargo test --test rooms --
//! --nocapture` prints it. A path that climbs out of its room by `super::` would pass unseen, so there may be none.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, top to bottom: a room may use those in later lines. Behind its name stands what the crate's root has of it.
///
/// The command stands above them all, in a crate of its own.
const ROOMS: [&[&str]; 14] = [
    &["server"],
    &["config"],
    &["site", "Handler"],
    &["gateway"],
    &["cgi"],
    &["engine"],
    &["agent"],
    &["images"],
    &["sandbox"],
    // Leaves, which use nothing.
    &["files"],
    &["connection"],
    &["instance"],
    &["reason"],
    &["variables"],
];

/// What stands around the drawing.
const BEGIN: &str = "<!-- rooms: begin -->";
const END: &str = "<!-- rooms: end -->";

/// One room's use of another.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    from: String,
    to: String,
    /// `FILE:LINE`.
    at: String,
}

#[test]
fn each_room_uses_only_those_below_it() {
    let wrong: Vec<_> = uses().iter().filter_map(Use::complaint).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn architecture_md_draws_the_rooms_as_they_are() {
    let drawing = mermaid();
    println!("{drawing}");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let there = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(between, _)| between);
    let there = there.unwrap_or_else(|| panic!("ARCHITECTURE.md has no {BEGIN} with an {END} behind it"));
    assert!(
        there.trim() == drawing.trim(),
        "ARCHITECTURE.md does not draw what the code does; put this between {BEGIN} and {END}:\n\n{drawing}"
    );
}

#[test]
fn a_use_of_what_stands_above_is_told_with_its_place() {
    let told =
        |from: &str, to: &str| Use { from: from.into(), to: to.into(), at: "src/x.rs:7".into() }.complaint();
    assert_eq!(
        told("sandbox", "engine").as_deref(),
        Some("src/x.rs:7: `sandbox` may not use `engine`, which stands above it")
    );
    assert_eq!(told("engine", "sandbox"), None);
    assert_eq!(told("site", "Handler"), None);
    assert!(told("attic", "engine").is_some() && told("engine", "attic").is_some());
}

#[test]
fn only_the_launcher_is_unsafe() {
    let allowing =
        |source: &Source| source.text.lines().any(|line| code(line).contains("allow(unsafe_code)"));
    let files: Vec<_> = sources().into_iter().filter(allowing).map(|source| source.file).collect();
    assert_eq!(files, [Path::new("src/sandbox/launcher/mod.rs")]);
}

#[test]
fn no_path_climbs_out_of_its_room() {
    let climbing: Vec<_> = sources().iter().flat_map(Source::climbing).collect();
    assert!(climbing.is_empty(), "these reach the crate's root by `super::`; write `crate::`: {climbing:#?}");
}

#[test]
fn every_room_is_seen_and_none_is_left_out() {
    let seen: BTreeSet<_> = sources().into_iter().map(|source| source.room).collect();
    let known: BTreeSet<_> = ROOMS.iter().map(|names| names[0].to_owned()).collect();
    assert_eq!(seen, known);
    let uses = |from: &str, to: &str| uses().iter().any(|used| used.from == from && used.to == to);
    assert!(uses("engine", "sandbox") && uses("agent", "sandbox") && uses("config", "engine"));
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let found = |text: &str| {
        crate_paths(text).into_iter().map(|(line, room)| format!("{line} {room}")).collect::<Vec<_>>()
    };
    assert_eq!(found("use crate::a::B;\n    let x = crate::b::c();"), ["1 a", "2 b"]);
    assert_eq!(found("use crate::{\n    a::{B, c::D},\n    e,\n};"), ["2 a", "3 e"]);
    assert_eq!(found("//! [`crate::a`]\n    // crate::b\nuse crate::c; // crate::d"), ["3 c"]);
    assert_eq!(found("pub(in crate::a) fn b() { my_crate::c() }"), ["1 a"]);
}

impl Use {
    /// What is wrong with it, if anything.
    fn complaint(&self) -> Option<String> {
        let Self { from, to, at } = self;
        match (floor(from), floor(to)) {
            (Some(user), Some(used)) if user <= used => None,
            (Some(_), Some(_)) => Some(format!("{at}: `{from}` may not use `{to}`, which stands above it")),
            (None, _) => Some(format!("{at}: ROOMS does not have the room `{from}`")),
            (_, None) => Some(format!("{at}: ROOMS does not have `{to}`, which `{from}` uses")),
        }
    }
}

/// The drawing, as Markdown has it: a line a pair of rooms.
fn mermaid() -> String {
    let pairs: BTreeSet<_> = uses()
        .iter()
        .filter_map(|used| Some((floor(&used.from)?, floor(&used.to)?)))
        .filter(|(from, to)| from != to)
        .collect();
    let mut drawing = String::from("```mermaid\ngraph TD\n");
    for (from, to) in pairs {
        writeln!(drawing, "    {} --> {}", ROOMS[from][0], ROOMS[to][0]).unwrap();
    }
    drawing + "```\n"
}

/// How far down a room is.
fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|names| names.contains(&room))
}

fn uses() -> Vec<Use> {
    let mut uses = Vec::new();
    for Source { file, room, text, .. } in sources() {
        for (line, to) in crate_paths(&text) {
            uses.push(Use { from: room.clone(), to, at: format!("{}:{line}", file.display()) });
        }
    }
    uses
}

/// A file of the library.
struct Source {
    /// From the repository on.
    file: PathBuf,
    room: String,
    /// How many modules its own is below the crate's root.
    depth: usize,
    text: String,
}

/// All of the library's files but its root.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(root.join("src")).unwrap().with_extension("");
            let mut modules: Vec<_> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            modules.pop_if(|last| last == "mod");
            let room = modules[0].clone();
            let is_library = !["lib", "main", "command"].contains(&&*room);
            if is_library && path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let file = path.strip_prefix(root).unwrap().to_owned();
                sources.push(Source { file, room, depth: modules.len(), text });
            }
        }
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}

impl Source {
    /// Where `super::` after `super::` leads to the crate's root.
    fn climbing(&self) -> Vec<String> {
        let mut found = Vec::new();
        // The indentation of the modules in this file that a line is in.
        let mut inside: Vec<usize> = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            let indentation = line.len() - line.trim_start().len();
            let code = code(line);
            let code = code.trim();
            if code == "}" && inside.last() == Some(&indentation) {
                inside.pop();
            }
            let climbed = code.match_indices("super::").map(|(at, _)| {
                let rest = &code[at..];
                rest.len() - rest.trim_start_matches("super::").len()
            });
            if climbed.max().unwrap_or(0) / "super::".len() >= self.depth + inside.len() {
                found.push(format!("{}:{}: {code}", self.file.display(), number + 1));
            }
            let words = code
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ");
            if words.starts_with("mod ") && words.ends_with('{') {
                inside.push(indentation);
            }
        }
        found
    }
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// The first names of all paths that begin at the crate, with their lines, from 1.
fn crate_paths(text: &str) -> Vec<(usize, String)> {
    const CRATE: &str = "crate::";
    let code: String = text.lines().map(|line| format!("{}\n", code(line))).collect();
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    let name = |at: usize| {
        let rest = &code[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (line_of(at), rest[..end].to_owned())
    };
    let mut found = Vec::new();
    for (start, _) in code.match_indices(CRATE) {
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let after = start + CRATE.len();
        if !code[after..].starts_with('{') {
            found.push(name(after));
            continue;
        }
        // A list: names at its own level.
        let mut level = 0;
        let mut is_first = false;
        for (at, c) in code[after..].char_indices() {
            match c {
                '{' => level += 1,
                '}' => level -= 1,
                _ if level == 1 && is_first && !c.is_whitespace() => found.push(name(after + at)),
                _ => {}
            }
            if level == 0 {
                break;
            }
            is_first = level == 1 && (matches!(c, '{' | ',') || is_first && c.is_whitespace());
        }
    }
    found
}
