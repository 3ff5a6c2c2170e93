//! The demo's pages: CGI programs, one a file, all of the same form.
//!
//! A page reads its variables and its input from a [`Request`] and prints a header block, a blank line and a body.
//! What else it sees of the machine is in the request's [`Place`], so that each page is a function that a test can
//! call. Whatever comes from a request is escaped on its way into a page: `html`.

mod counter;
mod environment;
mod fields;
mod form;
mod guide;
mod hello;
mod html;
mod index;
mod multipart;
mod not_found;
mod place;
mod request;
mod rng;
mod script;
mod stream;
#[cfg(test)]
mod tests;
mod upload;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use place::Place;
use request::Request;

#[derive(Debug, Args)]
pub(in crate::command) struct Options {
    /// Which
    #[arg(value_enum)]
    page: Page,
}

/// A page of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Page {
    Index,
    Hello,
    Environment,
    Form,
    Stream,
    Rng,
    Counter,
    Script,
    Guide,
}

impl Page {
    pub(super) const ALL: [Self; 9] = [
        Self::Index,
        Self::Hello,
        Self::Environment,
        Self::Form,
        Self::Stream,
        Self::Rng,
        Self::Counter,
        Self::Script,
        Self::Guide,
    ];

    /// What the command line calls it.
    pub(super) fn name(self) -> &'static str {
        match self.path().trim_start_matches('/') {
            "" => "index",
            name => name,
        }
    }

    /// Where it is served.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Index => "/",
            Self::Hello => "/hello",
            Self::Environment => "/environment",
            Self::Form => "/form",
            Self::Stream => "/stream",
            Self::Rng => "/rng",
            Self::Counter => "/counter",
            Self::Script => "/script",
            Self::Guide => "/guide",
        }
    }

    /// The methods that it answers, as `Allow` lists them (RFC 9110 §10.2.1).
    fn methods(self) -> &'static str {
        match self {
            Self::Form => "GET, HEAD, POST",
            _ => "GET, HEAD",
        }
    }

    fn answer(self, request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
        if !self.methods().split(", ").any(|method| method == request.variable("REQUEST_METHOD")) {
            let allow = format!("Allow: {}\n", self.methods());
            let what = format!("This page answers {}.", self.methods());
            return html::refuse(request, out, "405 Method Not Allowed", &allow, &what);
        }
        match self {
            // The route / takes what no other does.
            Self::Index if !matches!(request.variable("PATH_INFO"), "" | "/") => {
                not_found::answer(request, out)
            }
            Self::Index => index::answer(request, out),
            Self::Hello => hello::answer(request, out),
            Self::Environment => environment::answer(request, out),
            Self::Form => form::answer(request, out),
            Self::Stream => stream::answer(request, out),
            Self::Rng => rng::answer(request, out),
            Self::Counter => counter::answer(request, out),
            Self::Script => script::answer(request, out),
            Self::Guide => guide::answer(request, out),
        }
    }
}

/// Answers the request that the environment and standard input hold, on standard output: `dcgi demo-page`.
pub(in crate::command) fn run(options: &Options) -> ExitCode {
    let place = Place::here();
    let mut input = io::stdin().lock();
    let mut request = Request::new(std::env::vars_os(), &mut input, &place);
    let mut out = BufWriter::new(io::stdout().lock());
    match options.page.answer(&mut request, &mut out).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the page `{}` has no end: {error}", options.page.name());
            ExitCode::FAILURE
        }
    }
}
