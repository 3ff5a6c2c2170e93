//! `/rng`: random numbers, and an answer for those who ask for nonsense.

use std::io::{self, Write};
use std::ops::RangeInclusive;

use super::fields::Fields;
use super::html::{self, Escaped, text_head};
use super::request::Request;

/// How many numbers there may be, and how large.
const COUNT: RangeInclusive<u64> = 1..=1000;
const MAX: RangeInclusive<u64> = 1..=1_000_000_000_000;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    count: u64,
    /// The largest number; the smallest is 1.
    max: u64,
    /// Absent: as whoever asks likes best.
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// `/rng?n=5&max=100`: so many numbers, from 1 to that; one a line, with `format=json` as a list, and without a format
/// as a page for who asks for one.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    let wish = match wish(&request.query()) {
        Ok(wish) => wish,
        Err(why) if request.wants_page() => {
            return html::refuse(request, out, "400 Bad Request", "", &why);
        }
        Err(why) => {
            out.write_all(b"Status: 400 Bad Request\n")?;
            text_head(out, "text/plain")?;
            return writeln!(out, "{why}\nAsk for example for /rng?n=5&max=100, or /rng?format=json.");
        }
    };
    let mut next = || {
        let mut bytes = [0; 8];
        (request.place.random)(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    };
    let numbers = (0..wish.count).map(|_| draw(wish.max, &mut next).map(|number| number.to_string()));
    let numbers = numbers.collect::<io::Result<Vec<_>>>()?;
    match wish.format {
        Some(Format::Json) => {
            text_head(out, "application/json")?;
            writeln!(out, "[{}]", numbers.join(", "))
        }
        None if request.wants_page() => page(request, out, &wish, &numbers),
        _ => {
            text_head(out, "text/plain")?;
            writeln!(out, "{}", numbers.join("\n"))
        }
    }
}

fn page(request: &Request<'_>, out: &mut dyn Write, wish: &Wish, numbers: &[String]) -> io::Result<()> {
    html::begin(out, "Random numbers")?;
    write!(
        out,
        "<h1>Random numbers</h1>\n<p class=\"lead\">From 1 to {max}, each as likely as the others.</p>\n\
         <p class=\"numbers\">{numbers}</p>\n\
         <form action=\"/rng\" method=\"get\">\n\
         <label>How many <input name=\"n\" value=\"{count}\" inputmode=\"numeric\" autocomplete=\"off\"></label>\n\
         <label>Up to <input name=\"max\" value=\"{max}\" inputmode=\"numeric\" autocomplete=\"off\"></label>\n\
         <button>Draw</button>\n</form>\n\
         <p>What is no number is a 400. The same comes <a href=\"/rng?n={count}&amp;max={max}&amp;format=json\">as JSON</a> and \
         <a href=\"/rng?n={count}&amp;max={max}&amp;format=text\">as text</a>:</p>\n\
         <pre>curl '{base}/rng?n={count}&amp;max={max}&amp;format=json'</pre>\n",
        numbers = numbers.join(" "),
        count = wish.count,
        max = wish.max,
        base = Escaped(&request.base()),
    )?;
    html::end(out, request)
}

fn wish(fields: &Fields) -> Result<Wish, String> {
    let mut wish = Wish { count: 5, max: 100, format: None };
    for (name, value) in fields {
        match (name.as_str(), value.as_str()) {
            ("n", value) => wish.count = number("n", value, COUNT)?,
            ("max", value) => wish.max = number("max", value, MAX)?,
            ("format", "json") => wish.format = Some(Format::Json),
            ("format", "text") => wish.format = Some(Format::Text),
            ("format", _) => return Err("`format` is `text` or `json`.".to_owned()),
            _ => return Err(format!("There is no `{name}` here: only `n`, `max` and `format`.")),
        }
    }
    Ok(wish)
}

fn number(name: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    // `parse` would let a sign pass.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && range.contains(number));
    number.ok_or_else(|| format!("`{name}` is a whole number from {} to {}.", range.start(), range.end()))
}

/// A number from 1 to `max`, each as likely as the others: what lies beyond the last whole multiple is thrown away.
fn draw(max: u64, next: &mut dyn FnMut() -> io::Result<u64>) -> io::Result<u64> {
    let end = u64::MAX - u64::MAX % max;
    loop {
        let number = next()?;
        if number < end {
            return Ok(number % max + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::demo::page::fields;

    #[test]
    fn what_is_not_said_has_a_default() {
        let asked = |query| wish(&fields::parse(query));
        assert_eq!(asked(""), Ok(Wish { count: 5, max: 100, format: None }));
        assert_eq!(
            asked("n=1000&max=1&format=json"),
            Ok(Wish { count: 1000, max: 1, format: Some(Format::Json) })
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for query in [
            "n=0",
            "n=1001",
            "n=-1",
            "n=%2B1",
            "n=",
            "n=1.5",
            "max=0",
            "max=1000000000001",
            "format=xml",
            "x",
        ] {
            assert!(wish(&fields::parse(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn a_number_beyond_the_last_whole_multiple_is_drawn_again() {
        let mut source = [u64::MAX, u64::MAX - 1, 3].into_iter();
        // 2^64 - 1 is 5 mod 10, so the last whole multiple ends at 2^64 - 6.
        let drawn = draw(10, &mut || Ok(source.next().unwrap())).unwrap();
        assert_eq!((drawn, source.next()), (4, None));
        assert_eq!(draw(1, &mut || Ok(77)).unwrap(), 1);
    }
}
