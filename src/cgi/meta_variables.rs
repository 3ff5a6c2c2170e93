//! The environment of a CGI program, as far as the request makes it.

/// Meta-variables in the order they were set, each name once.
///
/// No value holds a NUL: an environment could not carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaVariables {
    // One buffer for all names and one for all values: this is made for every request, and two allocations a
    // variable would cost more than all else about it.
    names: String,
    values: Vec<u8>,
    /// Where each name ends in `names` and its value in `values`.
    ends: Vec<(usize, usize)>,
}

impl MetaVariables {
    /// None yet, with room for so many.
    pub(super) fn with_capacity(variables: usize) -> Self {
        Self {
            names: String::with_capacity(16 * variables),
            values: Vec::with_capacity(32 * variables),
            ends: Vec::with_capacity(variables),
        }
    }

    /// Adds a variable that is not there yet. One whose value holds a NUL stays unset: cut at the NUL, as an
    /// environment would cut it, the value would be another one than was checked.
    pub(super) fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        debug_assert!(self.get(name).is_none(), "{name} set twice");
        let value = value.as_ref();
        if !value.contains(&0) {
            self.names.push_str(name);
            self.values.extend_from_slice(value);
            self.ends.push((self.names.len(), self.values.len()));
        }
    }

    /// The value of a variable, where it is set.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find_map(|(set, value)| (set == name).then_some(value))
    }

    /// All variables, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut start = (0, 0);
        self.ends.iter().map(move |&end| {
            let (name, value) = std::mem::replace(&mut start, end);
            (&self.names[name..end.0], &self.values[value..end.1])
        })
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether none is set; never so for what [`meta_variables`](super::meta_variables()) makes.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl IntoIterator for MetaVariables {
    type Item = (String, Vec<u8>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        let owned = self.iter().map(|(name, value)| (name.to_owned(), value.to_vec()));
        owned.collect::<Vec<_>>().into_iter()
    }
}
