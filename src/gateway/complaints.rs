//! What a program writes to standard error: one event a line, and the last of it for those who debug.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::clock::Activity;

/// How many lines are kept for an error page.
const KEPT_LINES: usize = 20;

/// Where a line is cut, in bytes: nobody reads on, and memory is bounded.
const LINE_LENGTH: usize = 4096;

/// How many lines of one request are logged. A program that floods fills its own quota, not the disk.
const LOGGED_LINES: usize = 1000;

/// The last lines of a program's standard error.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<VecDeque<String>>);

impl Complaints {
    /// Reads to the end, logging each line within the request's span. What comes counts as activity.
    ///
    /// Cancel safe, but for a line that has only half arrived.
    pub(super) async fn collect(&self, mut stderr: Pin<Box<dyn AsyncRead + Send>>, activity: &Activity) {
        let mut chunk = vec![0; 4096];
        let mut lines = Lines::default();
        let mut count = 0;
        let mut note = |line: &[u8]| {
            let line = String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']).to_owned();
            count += 1;
            match count {
                ..=LOGGED_LINES => tracing::warn!(target: "dcgi::stderr", "{line}"),
                _ if count == LOGGED_LINES + 1 => {
                    tracing::warn!(
                        "more than {LOGGED_LINES} lines on standard error: the rest is not logged"
                    );
                }
                _ => {}
            }
            self.keep(line);
        };
        // A read error is the stream's end: what killed it shows elsewhere.
        while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
            activity.touch();
            lines.push(&chunk[..read], &mut note);
        }
        lines.end(&mut note);
    }

    fn keep(&self, line: String) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }

    /// The last lines so far.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Splits bytes into lines, cutting those that are too long.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_LENGTH.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                line(&self.partial);
                self.partial.clear();
            }
        }
    }

    fn end(self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collected(text: Vec<u8>) -> Vec<String> {
        let complaints = Complaints::default();
        complaints.collect(Box::pin(std::io::Cursor::new(text)), &Activity::new()).await;
        complaints.last_lines()
    }

    #[tokio::test]
    async fn the_last_lines_are_kept_with_or_without_a_line_end() {
        assert_eq!(collected(b"one\r\ntwo".to_vec()).await, ["one", "two"]);
    }

    #[tokio::test]
    async fn a_flood_keeps_no_more_than_its_end() {
        let flood = (0..100_000).map(|n| format!("line {n}\n")).collect::<String>();
        let lines = collected(flood.into_bytes()).await;
        assert_eq!(lines.len(), KEPT_LINES);
        assert_eq!(lines[KEPT_LINES - 1], "line 99999");
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let lines = collected(vec![b'x'; 1 << 20]).await;
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_LENGTH]);
    }
}
