//! What an agent tells about a program, on the connection that brought the request.

/// How many bytes an answer has.
pub const ANSWER: usize = 5;

/// A message that comes back where descriptors rode along. Where none says how it ended, the agent itself has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request is there, and the program is about to run: asked for, and before one of the others.
    Taken,
    /// The program ended by itself with this code.
    Exited {
        /// Its exit status.
        code: u8,
        /// Whether something of what it started still runs: then [`Over`](Self::Over) follows.
        left: bool,
    },
    /// This signal ended it.
    Signalled {
        /// The signal's number.
        signal: u8,
        /// As above.
        left: bool,
    },
    /// Nothing of what the program has left running runs any more.
    Over,
    /// It could not be executed: a number of errno(3), and above it what was in the way.
    Failed(i32),
    /// The request was malformed: nothing was run.
    Malformed,
}

impl Answer {
    /// As it travels: a letter, and a number with its lowest byte first.
    pub fn to_bytes(self) -> [u8; ANSWER] {
        let (letter, number) = match self {
            Self::Taken => (b'T', 0),
            Self::Exited { code, left } => (b'E', i32::from(code) | i32::from(left) << 8),
            Self::Signalled { signal, left } => (b'S', i32::from(signal) | i32::from(left) << 8),
            Self::Over => (b'O', 0),
            Self::Failed(errno) => (b'F', errno),
            Self::Malformed => (b'M', 0),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [letter, a, b, c, d]
    }

    /// Reads it back. `None`: it is not one.
    pub fn from_bytes([letter, number @ ..]: [u8; ANSWER]) -> Option<Self> {
        let number = i32::from_le_bytes(number);
        match letter {
            b'T' => Some(Self::Taken),
            b'E' => with_left(number).map(|(code, left)| Self::Exited { code, left }),
            b'S' => with_left(number).map(|(signal, left)| Self::Signalled { signal, left }),
            b'O' => Some(Self::Over),
            b'F' => Some(Self::Failed(number)),
            b'M' => Some(Self::Malformed),
            _ => None,
        }
    }
}

/// A number of eight bits, and whether something is left.
fn with_left(number: i32) -> Option<(u8, bool)> {
    let [number, left @ (0 | 1), 0, 0] = number.to_le_bytes() else { return None };
    Some((number, left == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back() {
        for answer in [
            Answer::Taken,
            Answer::Exited { code: 255, left: false },
            Answer::Exited { code: 1, left: true },
            Answer::Signalled { signal: 9, left: true },
            Answer::Over,
            Answer::Failed(2),
            Answer::Malformed,
        ] {
            assert_eq!(Answer::from_bytes(answer.to_bytes()), Some(answer));
        }
    }

    #[test]
    fn anything_else_is_none() {
        assert_eq!(Answer::from_bytes(*b"X\0\0\0\0"), None);
        assert_eq!(Answer::from_bytes([b'E', 0, 2, 0, 0]), None);
    }
}
