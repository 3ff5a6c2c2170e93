//! The page that the result is written into, between two comments.

use std::fs;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- peers: begin -->";
const END: &str = "<!-- peers: end -->";

/// A page that has a place for the section.
#[derive(Debug)]
pub(crate) struct Page {
    file: PathBuf,
}

impl Page {
    /// # Panics
    /// Where it has none.
    pub(crate) fn open(file: &Path) -> Self {
        let page = Self { file: file.to_owned() };
        page.parts();
        page
    }

    /// What is before the section, and behind it.
    fn parts(&self) -> (String, String) {
        let text =
            fs::read_to_string(&self.file).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, behind) = parts.unwrap_or_else(|| panic!("{}: no {BEGIN} … {END}", self.file.display()));
        (before.to_owned(), behind.to_owned())
    }

    /// Where the chart is: beside the page.
    pub(crate) fn chart(&self) -> PathBuf {
        self.file.with_extension("svg")
    }

    pub(crate) fn write(&self, section: &str, chart: &str) {
        let (before, behind) = self.parts();
        fs::write(self.chart(), chart).unwrap();
        fs::write(&self.file, format!("{before}{BEGIN}\n{section}\n{END}{behind}")).unwrap();
    }
}
