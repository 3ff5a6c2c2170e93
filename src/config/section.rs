//! One table of the file, read key by key.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::Problems;
use super::value::Reading;

/// What is said of a key or value that is planned and not there yet.
pub(super) const LATER: &str = "not supported by this version of dcgi; it comes later";

/// A table, and which of its keys were asked for: those that were not are unknown.
pub(super) struct Section<'s> {
    table: &'s DeTable<'s>,
    /// How a message says which table: `""`, or ` in route …` with the space before it.
    place: String,
    asked: Vec<&'static str>,
    /// Those of them that cannot be here.
    refused: Vec<&'static str>,
    problems: &'s Problems<'s>,
}

/// Keys of another table, for those who wrote them in this one.
pub(super) struct Elsewhere<'k> {
    pub(super) keys: &'k [&'static str],
    /// Where they belong: the end of a sentence.
    pub(super) place: &'static str,
}

impl<'s> Section<'s> {
    pub(super) fn new(table: &'s DeTable<'s>, place: String, problems: &'s Problems<'s>) -> Self {
        Self { table, place, asked: Vec::new(), refused: Vec::new(), problems }
    }

    /// The value of `key`, where it is there and `read` can read it.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Reading<T>,
    ) -> Option<T> {
        let value = self.find(key)?;
        self.read(key, value, &value.span(), read)
    }

    /// The items of `key`, where it is there and `read` can read every one.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Reading<T>,
    ) -> Option<Vec<T>> {
        let value = self.find(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, &value.span(), "expected a list, in brackets");
            return None;
        };
        // Every item is read before the first failure ends it: all problems are wanted.
        let read: Vec<_> = items.iter().map(|item| self.read(key, item, &value.span(), &read)).collect();
        read.into_iter().collect()
    }

    /// The entries of the table `key`, those that `read_name` and `read` can read.
    pub(super) fn entries<T>(
        &mut self,
        key: &'static str,
        read_name: impl Fn(&str) -> Reading<()>,
        read: impl Fn(&DeValue<'_>) -> Reading<T>,
    ) -> Vec<(String, T)> {
        let Some(value) = self.find(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, &value.span(), "expected a table such as { NAME = \"value\" }");
            return Vec::new();
        };
        let entry = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let text = name.get_ref().as_ref();
            if let Err(why) = read_name(text) {
                let message = format!("`{key}` has the name {text:?}{}: {why}", self.place);
                self.problems.note(name.span(), message);
                return None;
            }
            let value = self.read(&format!("{key}.{}", text.escape_debug()), value, &value.span(), &read)?;
            Some((text.to_owned(), value))
        };
        table.iter().filter_map(entry).collect()
    }

    /// Puts the value of `key` into `slot`, where [`get`](Self::get) has one.
    pub(super) fn set<T: Into<S>, S>(
        &mut self,
        slot: &mut S,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Reading<T>,
    ) {
        if let Some(value) = self.get(key, read) {
            *slot = value.into();
        }
    }

    /// Puts the items of `key` into `slot`, where [`list`](Self::list) has them.
    pub(super) fn set_list<T, S: From<Vec<T>>>(
        &mut self,
        slot: &mut S,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Reading<T>,
    ) {
        if let Some(items) = self.list(key, read) {
            *slot = items.into();
        }
    }

    /// Puts the value of `key`, or its items, into `slot`.
    pub(super) fn set_one_or_list<T>(
        &mut self,
        slot: &mut Vec<T>,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Reading<T>,
    ) {
        match self.table.get(key).is_some_and(|value| value.get_ref().is_array()) {
            true => self.set_list(slot, key, read),
            false => self.set(slot, key, |value| Ok(vec![read(value)?])),
        }
    }

    /// Whether the table has `key`, readable or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of `key` as it stands. To have looked is to know the key.
    pub(super) fn find(&mut self, key: &'static str) -> Option<&'s Spanned<DeValue<'s>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// Refuses a key that a later version knows.
    pub(super) fn later(&mut self, key: &'static str) {
        self.refuse(key, &format!("is {LATER}"));
    }

    /// Refuses a known key here: `why` goes on from its name.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str) {
        self.asked.push(key);
        self.refused.push(key);
        if let Some((name, _)) = self.table.get_key_value(key) {
            self.problems.note(name.span(), format!("`{key}`{} {why}", self.place));
        }
    }

    /// Notes what is wrong with the value of `key` beside its own form.
    pub(super) fn complain(&self, key: &str, why: &str) {
        if let Some(value) = self.table.get(key) {
            self.wrong(key, value, &value.span(), why);
        }
    }

    /// Notes that the table, whose header stands at `header`, lacks `key`.
    pub(super) fn lacks(&self, key: &str, header: Range<usize>) {
        self.problems.note(header, format!("no `{key}`{}", self.place));
    }

    /// The keys that were asked for so far.
    pub(super) fn asked(&self) -> &[&'static str] {
        &self.asked
    }

    /// Those of them that may be here.
    fn offered(&self) -> Vec<&'static str> {
        self.asked.iter().filter(|key| !self.refused.contains(key)).copied().collect()
    }

    /// Notes every key that nobody asked for, and gives those that were asked for.
    pub(super) fn finish(self, elsewhere: &Elsewhere<'_>) -> Vec<&'static str> {
        for name in self.table.keys() {
            let key = name.get_ref().as_ref();
            if self.asked.contains(&key) {
                continue;
            }
            let (shown, place) = (key.escape_debug(), &self.place);
            let mut message = format!("unknown key `{shown}`{place}");
            if elsewhere.keys.contains(&key) {
                message = format!("`{shown}`{place} belongs {}", elsewhere.place);
            } else if let Some(near) = nearest(key, &self.offered()) {
                message = format!("{message}; did you mean `{near}`?");
            }
            self.problems.note(name.span(), message);
        }
        self.asked
    }

    fn read<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        whole: &Range<usize>,
        read: impl Fn(&DeValue<'_>) -> Reading<T>,
    ) -> Option<T> {
        read(value.get_ref()).map_err(|why| self.wrong(key, value, whole, &why)).ok()
    }

    /// `value` is the key's own, or an item of it.
    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, whole: &Range<usize>, why: &str) {
        let verb = if value.span() == *whole { "=" } else { "has" };
        // A table's range is its header's, which says nothing here.
        let quote = self.problems.quote(value.span()).filter(|_| !value.get_ref().is_table());
        let shown = quote.map(|quote| format!(" {verb} {quote}")).unwrap_or_default();
        self.problems.note(value.span(), format!("`{key}`{shown}{}: {why}", self.place));
    }
}

/// The known key that was most likely meant.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key = key.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|&candidate| (strsim::damerau_levenshtein(&key, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= candidate.len().div_ceil(3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_hyphens_or_capitals_is_near() {
        assert_eq!(nearest("Max-Concurrency", &["memory", "max_concurrency"]), Some("max_concurrency"));
    }

    #[test]
    fn two_swapped_letters_are_near() {
        assert_eq!(nearest("timeuot", &["path", "timeout"]), Some("timeout"));
    }

    #[test]
    fn a_key_like_no_other_has_no_neighbour() {
        assert_eq!(nearest("colour", &["path", "timeout", "image"]), None);
    }
}
