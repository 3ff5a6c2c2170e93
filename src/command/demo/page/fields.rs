//! `application/x-www-form-urlencoded`, as queries and simple forms have it (WHATWG URL Standard §5.1).

use percent_encoding::percent_decode_str;

/// Names and values, in order. A name may come more than once.
pub(super) type Fields = Vec<(String, String)>;

/// Reads the fields of a text. Nothing is an error: a broken escape stands for itself, and bytes that are no UTF-8
/// become U+FFFD.
pub(super) fn parse(text: &str) -> Fields {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// The first value of a name.
pub(super) fn first<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_before_they_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            parse("a=1+2&&b%26=%3D%C3%A9&c&=d&a=x=y&e=%zz%ff"),
            [
                pair("a", "1 2"),
                pair("b&", "=é"),
                pair("c", ""),
                pair("", "d"),
                pair("a", "x=y"),
                pair("e", "%zz\u{fffd}")
            ]
        );
        assert!(parse("").is_empty());
    }
}
