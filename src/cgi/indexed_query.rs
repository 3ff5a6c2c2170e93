//! The oldest way to give a CGI program its input: `<ISINDEX>`.

use super::percent;

/// The command-line arguments that a query string stands for (RFC 3875 §4.4): where it has no unencoded `=`,
/// it is words with `+` between them, each percent-encoded.
///
/// `None` where the query string is empty or a form, and, since arguments are all or nothing, where one word
/// has an invalid escape, holds a NUL or is not UTF-8.
///
/// SECURITY: the client writes these words, and a word may begin with `-`. php-cgi took such a word for an
/// option and gave away its source or ran what it was sent (CVE-2012-1823). Pass them only to a program that
/// is known to expect them.
pub fn indexed_query(query: &str) -> Option<Vec<String>> {
    if query.is_empty() || query.contains('=') {
        return None;
    }
    query
        .split('+')
        .map(|word| {
            let word = String::from_utf8(percent::decode(word).ok()?.into_owned()).ok()?;
            (!word.contains('\0')).then_some(word)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(query: &str) -> Option<Vec<String>> {
        indexed_query(query)
    }

    #[test]
    fn a_query_string_without_an_equals_sign_is_arguments() {
        assert_eq!(words("hello"), Some(vec!["hello".into()]));
    }

    #[test]
    fn arguments_are_separated_by_plus_signs() {
        assert_eq!(words("a+b+c"), Some(vec!["a".into(), "b".into(), "c".into()]));
    }

    #[test]
    fn each_argument_is_percent_decoded() {
        assert_eq!(words("a%20b+%C3%A4"), Some(vec!["a b".into(), "ä".into()]));
    }

    #[test]
    fn an_encoded_plus_sign_separates_nothing() {
        assert_eq!(words("a%2Bb"), Some(vec!["a+b".into()]));
    }

    #[test]
    fn an_encoded_equals_sign_makes_no_form() {
        assert_eq!(words("a%3Db"), Some(vec!["a=b".into()]));
    }

    #[test]
    fn a_query_string_with_an_equals_sign_gives_no_arguments() {
        assert_eq!(words("a=b"), None);
        assert_eq!(words("a+b="), None);
    }

    #[test]
    fn an_empty_query_string_gives_no_arguments() {
        assert_eq!(words(""), None);
    }

    #[test]
    fn one_invalid_escape_refuses_all_arguments() {
        assert_eq!(words("a+%zz"), None);
    }

    #[test]
    fn a_nul_refuses_all_arguments() {
        assert_eq!(words("a+%00"), None);
    }

    #[test]
    fn an_argument_that_is_not_utf_8_refuses_all() {
        assert_eq!(words("a+%ff"), None);
    }

    #[test]
    fn an_empty_word_is_an_empty_argument() {
        assert_eq!(words("a++b"), Some(vec!["a".into(), String::new(), "b".into()]));
    }
}
