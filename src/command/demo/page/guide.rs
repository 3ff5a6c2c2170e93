//! `/guide`: the guide, as it came with this executable.

use std::io::{self, Write};

use super::html::{self, Escaped};
use super::request::Request;

/// A page of the guide: its name, what it is called, and for what it is read; its text.
struct Chapter {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    text: &'static str,
}

macro_rules! chapters {
    ($($name:literal, $title:literal, $about:literal;)*) => {
        [$(Chapter {
            name: $name,
            title: $title,
            about: $about,
            text: include_str!(concat!("../../../../docs/", $name, ".md")),
        }),*]
    };
}

/// In the order in which they are wanted.
const CHAPTERS: [Chapter; 12] = chapters![
    "configuration", "Configuration", "Which path runs what, and how much it may use.";
    "scripts", "Scripts and files", "A cgi-bin or a web root as it is: which file answers, what runs it, what is not served.";
    "writing-an-image", "Writing an image", "From a script or a program to an image, and why it does not work.";
    "errors-and-limits", "Errors and limits", "What a client gets when something fails, and what the log says.";
    "cgi-environment", "The CGI environment", "What a program finds, and by which rule.";
    "containers", "Containers", "Made for each request, waiting for one, or shared.";
    "embedded-engine", "The embedded engine", "Without Docker: what that needs, and where it differs.";
    "behind-another-server", "Behind another server", "nginx, Apache or Caddy in front: what each needs to say.";
    "images", "Images", "Getting them onto a machine without Docker.";
    "security", "Security", "Whether to let strangers at it.";
    "benchmarks", "Benchmarks", "How fast it is, and how to measure it.";
    "demo", "The demo", "What these pages show, and how they are made.";
];

/// Lists the pages of the guide, or shows one: `/guide/configuration`.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    let asked = request.variable("PATH_INFO").trim_matches('/');
    // As the pages name each other.
    let name = asked.strip_suffix(".md").unwrap_or(asked);
    if name.is_empty() {
        return list(request, out);
    }
    match CHAPTERS.iter().find(|chapter| chapter.name == name) {
        Some(chapter) => show(chapter, request, out),
        None => {
            let why = format!("The guide has no page {name}.");
            html::refuse(request, out, "404 Not Found", "", &why)
        }
    }
}

fn list(request: &Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    html::begin(out, "The guide")?;
    write!(
        out,
        "<h1>The guide</h1>\n<p class=\"lead\">As it came with this executable, dcgi {}. Begin with \
         <a href=\"/script\">your own script</a>.</p>\n<ul class=\"pages\">\n",
        env!("CARGO_PKG_VERSION")
    )?;
    for Chapter { name, title, about, .. } in &CHAPTERS {
        writeln!(out, "<li><a href=\"/guide/{name}\">{title}</a><p>{about}</p></li>")?;
    }
    out.write_all(b"</ul>\n")?;
    html::end(out, request)
}

fn show(chapter: &Chapter, request: &Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    html::begin(out, chapter.title)?;
    // As text: it is written to be read so.
    write!(
        out,
        "<p><a href=\"/guide\">The guide</a></p>\n<pre class=\"text\">{}</pre>\n",
        Escaped(chapter.text.trim_end())
    )?;
    html::end(out, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_the_guide_is_there_and_no_other() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let names = files.filter_map(|name| name.to_str()?.strip_suffix(".md").map(str::to_owned));
        // What is in it stands in the list here.
        let mut names: Vec<_> = names.filter(|name| name != "README").collect();
        let mut chapters: Vec<_> = CHAPTERS.iter().map(|chapter| chapter.name).collect();
        names.sort();
        chapters.sort_unstable();
        assert_eq!(chapters, names);
    }
}
