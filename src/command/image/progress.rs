//! What a terminal shows while an image comes.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use dcgi::images::Progress;

/// How often the lines are drawn anew.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// What a terminal shows of a pull: a line for each layer, drawn anew in its place.
pub(super) struct Lines {
    is_terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: BTreeMap<String, (u64, u64)>,
    drawn: usize,
    last: Option<Instant>,
}

impl Lines {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, state: Mutex::default() }
    }

    pub(super) fn note(&self, progress: Progress) {
        if !self.is_terminal {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Layer { digest, received, total } => {
                let done = received == total;
                state.layers.insert(digest, (received, total));
                if done || state.last.is_none_or(|last| last.elapsed() >= REDRAW_INTERVAL) {
                    state.last = Some(Instant::now());
                    eprint!("{}", state.draw());
                }
            }
            Progress::Present => eprintln!("the image is here already"),
            Progress::Unpacking => eprintln!("unpacking"),
            _ => {}
        }
    }
}

impl State {
    fn draw(&mut self) -> String {
        // Up to the first line; each is cleared before it is written.
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        for (digest, (received, total)) in &self.layers {
            let digits: String = digest.trim_start_matches("sha256:").chars().take(12).collect();
            let (received, total) = (ByteSize::b(*received), ByteSize::b(*total));
            text += &format!("\x1b[2K{digits}  {received} of {total}\n");
        }
        self.drawn = self.layers.len();
        text
    }
}

/// An archive that is read, and shows how much of it has been.
pub(super) struct Watched<R> {
    archive: R,
    name: String,
    read: u64,
    /// Where that is known beforehand.
    size: Option<u64>,
    last: Option<Instant>,
}

impl<R> Watched<R> {
    pub(super) fn new(archive: R, name: &str, size: Option<u64>) -> Self {
        // A name is whatever somebody called a file.
        let name = name.chars().flat_map(char::escape_debug).collect();
        Self { archive, name, read: 0, size, last: None }
    }

    /// The line, in the place of the one before.
    fn draw(&mut self) -> String {
        let up = if self.last.replace(Instant::now()).is_some() { "\x1b[1A" } else { "" };
        let of = self.size.map(|size| format!(" of {}", ByteSize::b(size))).unwrap_or_default();
        format!("{up}\x1b[2K{}  {}{of}\n", self.name, ByteSize::b(self.read))
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.archive.read(buffer)?;
        self.read += read as u64;
        let is_due = self.last.is_none_or(|last| last.elapsed() >= REDRAW_INTERVAL);
        if is_due || (read > 0 && Some(self.read) == self.size) {
            eprint!("{}", self.draw());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_drawn_in_their_places() {
        let mut state = State::default();
        state.layers.insert("sha256:0123456789abcdef".to_owned(), (1024, 2048));
        assert_eq!(state.draw(), "\x1b[2K0123456789ab  1.0 KiB of 2.0 KiB\n");
        assert!(state.draw().starts_with("\x1b[1A\x1b[2K"));
    }

    #[test]
    fn an_archive_is_drawn_in_its_place() {
        let mut archive = Watched::new(io::Cursor::new(vec![0; 2048]), "a\u{1b}.tar", Some(2048));
        assert_eq!(archive.draw(), "\x1b[2Ka\\u{1b}.tar  0 B of 2.0 KiB\n");
        archive.read = 1024;
        assert_eq!(archive.draw(), "\x1b[1A\x1b[2Ka\\u{1b}.tar  1.0 KiB of 2.0 KiB\n");
        let mut pipe = Watched::new(io::empty(), "standard input", None);
        assert_eq!(pipe.draw(), "\x1b[2Kstandard input  0 B\n");
    }
}
