//! An error told whole.

use std::error::Error;
use std::fmt;

/// An error with everything below it, in one line.
pub(crate) struct Reason<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut said = self.0.to_string();
        let mut below = self.0.source();
        while let Some(error) = below {
            // Many wrappers repeat what they wrap.
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            below = error.source();
        }
        Ok(())
    }
}
