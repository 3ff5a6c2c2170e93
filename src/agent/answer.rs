//! What an agent tells about a program, on the connection that brought the request.

/// How many bytes an answer has.
pub const ANSWER: usize = 5;

/// A message that comes back where descriptors rode along. Where none says how it ended, the agent itself has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request is there, and the program is about to run: asked for, and before one of the others.
    Taken,
    /// The program ended by itself with this code.
    Exited(u8),
    /// This signal ended it.
    Signalled(u8),
    /// It could not be executed: a number of errno(3).
    Failed(i32),
    /// The request was malformed: nothing was run.
    Malformed,
}

impl Answer {
    /// As it travels: a letter, and a number with its lowest byte first.
    pub fn to_bytes(self) -> [u8; ANSWER] {
        let (letter, number) = match self {
            Self::Taken => (b'T', 0),
            Self::Exited(code) => (b'E', i32::from(code)),
            Self::Signalled(signal) => (b'S', i32::from(signal)),
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
            b'E' => Some(Self::Exited(number.try_into().ok()?)),
            b'S' => Some(Self::Signalled(number.try_into().ok()?)),
            b'F' => Some(Self::Failed(number)),
            b'M' => Some(Self::Malformed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back() {
        for answer in
            [Answer::Taken, Answer::Exited(255), Answer::Signalled(9), Answer::Failed(2), Answer::Malformed]
        {
            assert_eq!(Answer::from_bytes(answer.to_bytes()), Some(answer));
        }
    }

    #[test]
    fn anything_else_is_none() {
        assert_eq!(Answer::from_bytes(*b"X\0\0\0\0"), None);
        assert_eq!(Answer::from_bytes([b'E', 0, 1, 0, 0]), None);
    }
}
