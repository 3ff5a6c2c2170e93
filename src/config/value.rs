//! How a value of the file becomes one of the program's: each function makes a reader for one kind.
//!
//! A reader that cannot read says what it expected, with an example, in a phrase that begins with `expected`.

use std::time::Duration;

use bytesize::ByteSize;
use toml::de::DeValue;

use super::section::LATER;
use crate::engine::EngineChoice;

/// What a reader makes of a value, or what it expected.
pub(super) type Reading<T> = Result<T, String>;

/// Longer is not meant as a limit, and sums of times must not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A string, turned into what `accept` makes of it; `what` is the phrase for what it takes.
pub(super) fn string<T>(
    what: &str,
    accept: impl Fn(&str) -> Option<T>,
) -> impl Fn(&DeValue<'_>) -> Reading<T> {
    move |value| {
        let text = text(value, what)?;
        accept(text).ok_or_else(|| format!("expected {what}"))
    }
}

/// The text of a string. NUL is refused everywhere: neither an argument nor a variable can hold it.
pub(super) fn text<'v>(value: &'v DeValue<'_>, what: &str) -> Reading<&'v str> {
    let unquoted = match value {
        DeValue::String(text) if text.contains('\0') => {
            return Err("expected a string without NUL".to_owned());
        }
        DeValue::String(text) => return Ok(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        _ => return Err(format!("expected {what}")),
    };
    Err(format!("expected {what}; a string is quoted: \"{unquoted}\""))
}

/// Any string, also an empty one.
pub(super) fn any_string(value: &DeValue<'_>) -> Reading<String> {
    text(value, "a string").map(str::to_owned)
}

/// One of a few words, each with what it stands for.
pub(super) fn word<T: Clone>(words: &[(&str, T)]) -> impl Fn(&DeValue<'_>) -> Reading<T> {
    move |value| {
        let quoted: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let text = text(value, &quoted.join(" or "))?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| meaning.clone()).ok_or_else(|| format!("expected {}", quoted.join(" or ")))
    }
}

/// An engine, or the choice between them.
pub(super) fn engine(value: &DeValue<'_>) -> Reading<EngineChoice> {
    match value.as_str() {
        Some("auto") => Ok(EngineChoice::Auto),
        Some("docker") => Ok(EngineChoice::Docker),
        Some("embedded") => Ok(EngineChoice::Embedded),
        Some("swarm") => Err(LATER.to_owned()),
        _ => Err("expected \"auto\", \"docker\" or \"embedded\"".to_owned()),
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Reading<bool> {
    value.as_bool().ok_or_else(|| "expected true or false, without quotes".to_owned())
}

/// A whole number from `least` on, small enough for every counter it may meet.
pub(super) fn count<T: TryFrom<u32>>(least: u32) -> impl Fn(&DeValue<'_>) -> Reading<T> {
    move |value| {
        integer(value)
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number >= least)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("expected a whole number from {least} to {}, without quotes", u32::MAX))
    }
}

/// The value as an integer, in whatever base it is written.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A number of bytes: an integer, or a string with a unit.
pub(super) fn size(least: u64, most: u64) -> impl Fn(&DeValue<'_>) -> Reading<u64> {
    move |value| {
        let bytes = match value {
            DeValue::String(text) => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
            value => integer(value).and_then(|bytes| u64::try_from(bytes).ok()),
        };
        let bytes = bytes.ok_or("expected a size such as \"256MiB\"")?;
        match bytes {
            bytes if bytes < least => Err(format!("expected at least {}", quoted_size(least))),
            bytes if bytes > most => Err(format!("expected at most {}", quoted_size(most))),
            bytes => Ok(bytes),
        }
    }
}

fn quoted_size(bytes: u64) -> String {
    format!("\"{}\"", ByteSize::b(bytes).to_string().replace(".0 ", "").replace(' ', ""))
}

/// A time, always with its unit.
pub(super) fn duration(value: &DeValue<'_>) -> Reading<Duration> {
    match duration_or_zero(value)? {
        Duration::ZERO => Err("expected more than no time".to_owned()),
        duration => Ok(duration),
    }
}

/// The same, or `"0s"`.
pub(super) fn duration_or_zero(value: &DeValue<'_>) -> Reading<Duration> {
    let without_unit = |number: i64| format!("expected a duration with its unit; write \"{number}s\"");
    if let Some(number) = integer(value) {
        return Err(without_unit(number));
    }
    let duration = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    let bare = || value.as_str().and_then(|text| text.parse().ok()).map(without_unit);
    match duration
        .ok_or_else(|| bare().unwrap_or_else(|| "expected a duration such as \"30s\"".to_owned()))?
    {
        duration if duration > LONGEST => Err("expected at most \"365days\"".to_owned()),
        duration => Ok(duration),
    }
}

/// A number of processors, whole or not. Docker's own least is a hundredth.
pub(super) fn processors(value: &DeValue<'_>) -> Reading<f64> {
    let number = match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        value => integer(value).map(|number| number as f64),
    };
    number
        .filter(|number: &f64| number.is_finite() && *number >= 0.01)
        .ok_or_else(|| "expected a number of processors such as 1.5, at least 0.01".to_owned())
}

/// What `read` takes, or `"none"` for no limit.
pub(super) fn or_none<T>(
    read: impl Fn(&DeValue<'_>) -> Reading<T>,
) -> impl Fn(&DeValue<'_>) -> Reading<Option<T>> {
    move |value| match value.as_str() {
        Some("none") => Ok(None),
        _ => read(value).map(Some).map_err(|why| why + " or \"none\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(text: &str, read: impl Fn(&DeValue<'_>) -> Reading<T>) -> Reading<T> {
        read(DeValue::parse(text).unwrap().get_ref())
    }

    #[test]
    fn a_size_has_a_unit_or_is_in_bytes() {
        let size = size(0, u64::MAX);
        assert_eq!(read("\"256MiB\"", &size), Ok(256 << 20));
        assert_eq!(read("\"16MB\"", &size), Ok(16_000_000));
        assert_eq!(read("\"512\"", &size), Ok(512));
        assert_eq!(read("0x10_00", &size), Ok(4096));
    }

    #[test]
    fn a_size_of_no_known_unit_is_refused() {
        assert_eq!(
            read("\"12 parsecs\"", size(0, u64::MAX)),
            Err("expected a size such as \"256MiB\"".to_owned())
        );
    }

    #[test]
    fn a_negative_size_is_refused() {
        assert_eq!(read("-1", size(0, u64::MAX)), Err("expected a size such as \"256MiB\"".to_owned()));
    }

    #[test]
    fn a_size_out_of_range_names_the_end_of_the_range() {
        let size = size(6 << 20, 16 << 20);
        assert_eq!(read("\"1KiB\"", &size), Err("expected at least \"6MiB\"".to_owned()));
        assert_eq!(read("\"1GiB\"", &size), Err("expected at most \"16MiB\"".to_owned()));
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(read("\"1m 30s\"", duration), Ok(Duration::from_secs(90)));
        assert_eq!(read("\"250ms\"", duration), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn a_bare_number_is_no_duration_and_is_told_how_to_become_one() {
        for bare in ["30", "'30'"] {
            assert_eq!(
                read(bare, duration),
                Err("expected a duration with its unit; write \"30s\"".to_owned())
            );
        }
    }

    #[test]
    fn no_time_at_all_is_no_limit_anyone_means() {
        assert_eq!(read("\"0s\"", duration), Err("expected more than no time".to_owned()));
    }

    #[test]
    fn a_duration_beyond_a_year_is_refused() {
        assert_eq!(read("\"2years\"", duration), Err("expected at most \"365days\"".to_owned()));
    }

    #[test]
    fn none_is_no_limit_where_that_may_be() {
        assert_eq!(read("\"none\"", or_none(duration)), Ok(None));
        assert_eq!(
            read("\"soon\"", or_none(duration)),
            Err("expected a duration such as \"30s\" or \"none\"".to_owned())
        );
    }

    #[test]
    fn processors_may_be_whole_or_not() {
        assert_eq!(read("2", processors), Ok(2.0));
        assert_eq!(read("0.5", processors), Ok(0.5));
    }

    #[test]
    fn processors_are_never_infinite_nor_none_at_all() {
        for value in ["inf", "nan", "0", "-1.0"] {
            assert!(read(value, processors).is_err(), "{value}");
        }
    }

    #[test]
    fn a_count_has_a_least_value() {
        assert_eq!(read("1", count::<usize>(1)), Ok(1));
        assert_eq!(
            read("0", count::<usize>(1)),
            Err("expected a whole number from 1 to 4294967295, without quotes".to_owned())
        );
    }

    #[test]
    fn a_number_where_a_string_belongs_is_shown_quoted() {
        assert_eq!(
            read("8080", any_string),
            Err("expected a string; a string is quoted: \"8080\"".to_owned())
        );
    }

    #[test]
    fn a_string_never_holds_nul() {
        assert_eq!(read("\"a\\u0000\"", any_string), Err("expected a string without NUL".to_owned()));
    }

    #[test]
    fn a_word_outside_its_list_is_refused_with_the_list() {
        assert_eq!(read("\"b\"", word(&[("a", 1), ("c", 2)])), Err("expected \"a\" or \"c\"".to_owned()));
    }
}
