//! What contenders are asked for, and in which sizes.

use super::contender::Contender;

/// How large an echo is, in bytes.
pub(crate) const ECHO: usize = 64 << 20;

/// A program, and a way to ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Exercise {
    Hello,
    /// Hello with a pause before each request, so that a warm container is ready.
    Ready,
    Perl,
    Php,
    /// A thousand lines, each by a write of its own.
    Stream,
    /// 64 MiB, answered once they are all there.
    LateEcho,
    /// 64 MiB, each piece answered when it is there.
    Echo,
}

impl Exercise {
    pub(crate) const ALL: [Self; 7] =
        [Self::Hello, Self::Ready, Self::Perl, Self::Php, Self::Stream, Self::LateEcho, Self::Echo];

    /// The same at all servers.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Hello | Self::Ready => "/hello",
            Self::Perl => "/hello.pl",
            Self::Php => "/hello.php",
            Self::Stream => "/stream",
            Self::LateEcho => "/late-echo",
            Self::Echo => "/echo",
        }
    }

    pub(crate) fn is_echo(self) -> bool {
        matches!(self, Self::LateEcho | Self::Echo)
    }

    /// Whether an answer is the program's.
    pub(crate) fn is_answer(self, text: &str) -> bool {
        match self {
            Self::Hello | Self::Ready => text == "Hello from a container!\n",
            Self::Perl => text == "Hello from Perl!\n",
            Self::Php => text == "Hello from PHP!\n",
            Self::Stream => text.lines().count() == 1000,
            Self::LateEcho | Self::Echo => text.is_empty(),
        }
    }

    /// With how many connections that always have a request.
    pub(crate) fn connections(self, contender: Contender) -> &'static [usize] {
        use Contender::{DockerWarm, EmbeddedCold, Lighttpd};
        match self {
            // What sleeps between requests wakes up slower: the other one's are to be told beside the same.
            Self::Ready if matches!(contender, DockerWarm | Lighttpd) => &[1],
            Self::Ready => &[],
            Self::Hello if contender.is_slow() => &[1, 8],
            _ if contender.is_slow() => &[],
            Self::Hello => &[1, 8, 64],
            Self::Perl | Self::Php => &[1, 8],
            Self::Stream => &[8],
            // What waits for a program matters to no large body.
            Self::LateEcho | Self::Echo if contender == EmbeddedCold => &[],
            Self::LateEcho | Self::Echo => &[1],
        }
    }
}
