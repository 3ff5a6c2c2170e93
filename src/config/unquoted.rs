//! Strings without their quotes: what everybody writes who comes from another server's configuration.

use std::ops::Range;

use toml::de::DeValue;

/// Where a value without its quotes is, on the line of a text that the parser could not read.
pub(super) fn value_on_line(text: &str, at: usize) -> Option<Range<usize>> {
    let at = text.floor_char_boundary(at);
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next()?;
    let value_start = line_start + line.find('=')? + 1;
    let value = &text[value_start..line_start + line.len()];
    // Where there is a quote, it is not the want of one.
    if value.contains(['"', '\'']) {
        return None;
    }
    let value = value.split('#').next()?;
    let whole = within(value_start, value, value.trim());
    let list = value.trim().strip_prefix('[');
    let items = list.map(|list| list.strip_suffix(']').unwrap_or(list));
    let candidates = match items {
        Some(items) => items.split(',').map(|item| within(value_start, value, item.trim())).collect(),
        None => vec![whole],
    };
    candidates.into_iter().find(|candidate| is_bare(&text[candidate.clone()]))
}

/// Where a part of a text is, which begins at `start`.
fn within(start: usize, text: &str, part: &str) -> Range<usize> {
    let from = start + (part.as_ptr() as usize - text.as_ptr() as usize);
    from..from + part.len()
}

/// Whether this is no value of any kind, and would be a string in quotes.
fn is_bare(value: &str) -> bool {
    // What looks like a number, or a word of TOML's, is wrong in another way.
    let begins_number = |value: &str| {
        let value = value.trim_start_matches(['+', '-', '.']);
        value.starts_with(|c: char| c.is_ascii_digit()) && value.parse::<f64>().is_ok()
    };
    let is_word =
        |value: &str| ["true", "false", "inf", "nan"].iter().any(|word| value.eq_ignore_ascii_case(word));
    !value.is_empty()
        && !value.contains(['{', '}', '[', ']', '='])
        && !is_word(value)
        && !begins_number(value)
        && DeValue::parse(value).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        value_on_line(text, text.find('=').unwrap()).map(|at| &text[at])
    }

    #[test]
    fn a_value_without_quotes_is_found() {
        assert_eq!(found("listen = 127.0.0.1:8080\n"), Some("127.0.0.1:8080"));
        assert_eq!(found("path=/hello # there"), Some("/hello"));
        assert_eq!(found("memory = 256MiB"), Some("256MiB"));
    }

    #[test]
    fn an_item_without_quotes_is_found() {
        assert_eq!(found("command = [perl, -w]"), Some("perl"));
        assert_eq!(found("listen = [127.0.0.1:8080"), Some("127.0.0.1:8080"));
    }

    #[test]
    fn what_is_wrong_in_another_way_is_not_taken_for_it() {
        for text in [
            "path = \"/a",
            "pids = 1 2 [",
            "env = { A = b }",
            "memory =",
            "pids = 128",
            "a = [1, 2",
            "a = True",
            "cpus = .5",
            "pids = 012",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
