//! A request and a route, put together as one use of the route's program.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request;

use super::{Client, ProgramRoute, Script};
use crate::cgi::{AuthenticatedUser, Context, HeaderPolicy, indexed_query, meta_variables};
use crate::connection::RawTarget;
use crate::engine::{ImageConfig, Invocation, Lease, Program};

/// How long after its request's deadline a container belongs to nobody, whoever made it.
const GRACE: Duration = Duration::from_secs(60);

/// The longest string that a program can begin with, in bytes, be it an argument or a variable with its name: execve(2),
/// where it is 32 pages. The NUL at its end counts.
const LONGEST_STRING: usize = 128 << 10;

/// How much all of them together may be, each with its NUL and a pointer to it. The kernel takes a quarter of what the stack may
/// have, 2 MiB where nobody has changed that; agents get their variables in a message of at most 1 MiB. Some of it is
/// for what engines add.
const LONGEST_BEGINNING: usize = (1 << 20) - (16 << 10);

/// What a request has that matters to a program.
pub(crate) struct Request<'a> {
    pub(crate) id: &'a Arc<str>,
    pub(crate) client: &'a Client,
    pub(crate) head: &'a request::Parts,
    pub(crate) path_info: &'a [u8],
    pub(crate) script: Option<&'a Script>,
    pub(crate) content_length: Option<u64>,
    pub(crate) has_body: bool,
}

/// Variables that a program is told beside its request's own, or instead, as a request's extension.
#[derive(Clone, Debug)]
pub(crate) struct Told(pub(crate) Vec<(&'static str, String)>);

/// The use of a route's program that answers a request.
pub(super) fn invocation(
    route: &ProgramRoute,
    name: &Arc<str>,
    script_name: &str,
    mount: &str,
    image: &ImageConfig,
    request: &Request<'_>,
) -> Invocation {
    let command_line = route.program.command_line(image);
    let program = command_line.first().map(String::as_str);
    let head = request.head;
    let of_script = request.script.map(|script| format!("{script_name}{}", script.name));
    let context = Context {
        script_name: of_script.as_deref().unwrap_or(script_name),
        path_info: request.path_info,
        script_filename: match request.script {
            Some(script) => Some(&script.file),
            None => route.script_filename.as_deref().or(program),
        },
        document_root: route.document_root.as_deref(),
        server_name: &request.client.host,
        server_port: request.client.port,
        server_addr: request.client.server_addr,
        remote: request.client.remote,
        https: request.client.https,
        request_id: request.id,
        user: head.extensions.get::<AuthenticatedUser>(),
        content_length: request.content_length,
        headers: HeaderPolicy { pass_authorization: route.pass_authorization, allow: &route.allow_headers },
    };
    let variables = meta_variables(head, &context);
    let raw = head.extensions.get::<RawTarget>();
    let env = variables.into_iter().map(|(name, value)| match name.as_str() {
        // The client's own, with what a router above has stripped.
        "REQUEST_URI" => {
            let raw = raw.and_then(RawTarget::path_and_query);
            (name, prefixed(mount, raw.unwrap_or(&value)))
        }
        "QUERY_STRING" => {
            let raw = raw.and_then(RawTarget::query).map(<[u8]>::to_vec);
            (name, OsString::from_vec(raw.unwrap_or(value)))
        }
        _ => (name, OsString::from_vec(value)),
    });
    let mut env: Vec<_> = env.collect();
    if let Some(told) = head.extensions.get::<Told>() {
        env.retain(|(name, _)| !told.0.iter().any(|(told, _)| told == name));
        env.extend(told.0.iter().map(|(name, value)| ((*name).to_owned(), value.into())));
    }
    Invocation {
        route: name.clone(),
        request_id: request.id.clone(),
        env,
        command: request.script.map(|script| script.command.clone()),
        args: if route.indexed_query {
            head.uri.query().and_then(indexed_query).unwrap_or_default()
        } else {
            Vec::new()
        },
        working_dir: match request.script {
            Some(script) => folder_of(&script.file),
            None => working_dir(route, image, program),
        },
        has_input: request.has_body,
        lease: Lease::default(),
        linger: route.limits.linger,
        kill_grace: route.limits.kill_grace,
        expires: route.limits.timeout.map(|timeout| {
            SystemTime::now() + timeout + route.limits.linger + route.limits.kill_grace + GRACE
        }),
    }
}

/// Whether a program can begin so: with these variables and arguments, and all that it has anyway.
pub(super) fn can_begin(program: &Program, image: &ImageConfig, invocation: &Invocation) -> bool {
    let variables = invocation.env.iter().map(|(name, value)| name.len() + 1 + value.len());
    let mut asked = variables.chain(invocation.args.iter().map(String::len));
    let given = program.env.iter().map(|(name, value)| name.len() + 1 + value.len());
    let given = given.chain(image.env.iter().map(String::len));
    let cost = |length: usize| length + 1 + size_of::<usize>();
    let total: usize = given.map(cost).sum::<usize>()
        + program.command_of(image, invocation).iter().map(|argument| cost(argument.len())).sum::<usize>();
    asked
        .try_fold(total, |total, length| (length < LONGEST_STRING).then(|| total + cost(length)))
        .is_some_and(|total| total <= LONGEST_BEGINNING)
}

fn prefixed(mount: &str, value: &[u8]) -> OsString {
    OsString::from_vec([mount.as_bytes(), value].concat())
}

/// The route's, else the folder of the script that the route names, else the image's, else the folder that holds the
/// program (RFC 3875 §7.2): scripts load what lies beside them. `None`: the image's.
fn working_dir(route: &ProgramRoute, image: &ImageConfig, program: Option<&str>) -> Option<String> {
    if let Some(own) = &route.program.working_dir {
        return Some(own.clone());
    }
    if let Some(folder) = route.script_filename.as_deref().and_then(folder_of) {
        return Some(folder);
    }
    if !image.working_dir.is_empty() {
        return None;
    }
    program.and_then(folder_of)
}

/// The folder that holds a file, where the path says which one that is.
fn folder_of(file: &str) -> Option<String> {
    match file.rsplit_once('/')? {
        ("", _) => Some("/".to_owned()),
        (folder, _) => folder.starts_with('/').then(|| folder.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Program;

    fn folder(route: &ProgramRoute, image_dir: &str, program: &str) -> Option<String> {
        let image = ImageConfig { working_dir: image_dir.to_owned(), ..Default::default() };
        working_dir(route, &image, Some(program))
    }

    #[test]
    fn the_working_directory_is_the_routes_then_the_images_then_the_programs() {
        let route = ProgramRoute::from(Program::new("x"));
        let mut with_own = route.clone();
        with_own.program.working_dir = Some("/own".into());
        assert_eq!(folder(&with_own, "/image", "/app/run").as_deref(), Some("/own"));
        assert_eq!(folder(&route, "/image", "/app/run"), None);
        assert_eq!(folder(&route, "", "/app/run").as_deref(), Some("/app"));
        assert_eq!(folder(&route, "", "/run").as_deref(), Some("/"));
    }

    #[test]
    fn a_script_that_the_route_names_goes_before_the_image_and_the_program() {
        let mut route = ProgramRoute::from(Program::new("x"));
        route.script_filename = Some("/srv/site/index.php".into());
        assert_eq!(folder(&route, "/image", "/app/run").as_deref(), Some("/srv/site"));
        assert_eq!(folder(&route, "", "php-cgi").as_deref(), Some("/srv/site"));
        route.script_filename = Some("index.php".into());
        assert_eq!(folder(&route, "", "/app/run").as_deref(), Some("/app"));
        route.program.working_dir = Some("/own".into());
        route.script_filename = Some("/srv/site/index.php".into());
        assert_eq!(folder(&route, "", "/app/run").as_deref(), Some("/own"));
    }

    /// Whether a program can begin with variables of these lengths, their names included.
    fn begins(lengths: &[usize]) -> bool {
        let env = lengths.iter().map(|length| ("A".to_owned(), "x".repeat(length - 2).into())).collect();
        let invocation = Invocation {
            route: "/".into(),
            request_id: "1".into(),
            env,
            command: None,
            args: Vec::new(),
            working_dir: None,
            has_input: false,
            lease: Lease::default(),
            linger: Duration::ZERO,
            kill_grace: Duration::ZERO,
            expires: None,
        };
        can_begin(&Program::new("x"), &ImageConfig::default(), &invocation)
    }

    #[test]
    fn a_program_begins_with_strings_that_the_kernel_takes() {
        assert!(begins(&[LONGEST_STRING - 1]));
        assert!(!begins(&[LONGEST_STRING]));
        let each = 96 << 10;
        assert!(begins(&[each; 10]));
        assert!(!begins(&[each; 11]));
    }

    #[test]
    fn a_program_found_by_the_path_has_no_folder_that_is_known() {
        let route = ProgramRoute::from(Program::new("x"));
        assert_eq!(folder(&route, "", "perl"), None);
        assert_eq!(folder(&route, "", "bin/run"), None);
    }
}
