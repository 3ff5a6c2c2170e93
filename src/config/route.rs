//! `[defaults]` and `[[route]]`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use http::HeaderMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::engine::{EngineChoice, ImageConfig, Isolation, Network, Program, PullPolicy, Warm};
use crate::gateway::{Output, ProgramRoute, RequestBody};
use crate::site::{Access, FilesRoute, RedirectRoute, Rewrite, Route, RouteKind, ScriptsRoute, SendFile};
use crate::variables::is_request_variable;

use super::address;
use super::around;
use super::capability::capability;
use super::connect::connect;
use super::error::Problems;
use super::mount;
use super::section::{Elsewhere, Section};
use super::value::{
    Reading, any_string, boolean, count, duration, duration_or_zero, engine, integer, or_none, processors,
    size, string, word,
};

/// What reading the routes needs beside their tables.
pub(super) struct Context<'s> {
    /// The directory that holds the file: absolute, and where relative paths begin.
    pub(super) base: &'s Path,
    /// The file itself, absolute.
    pub(super) file: &'s Path,
    /// A variable of dcgi's own environment.
    pub(super) environment: &'s dyn Fn(&str) -> Option<String>,
    pub(super) problems: &'s Problems<'s>,
}

/// A route in the making: `[defaults]` makes one, and each `[[route]]` goes on from a copy of it.
#[derive(Clone)]
struct Draft {
    host: Option<String>,
    path: String,
    route: ProgramRoute,
    raw: bool,
    content_type: Option<String>,
    pass_env: Vec<String>,
    shared: bool,
    replicas: u32,
    said: Said,
    served: Served,
    access: Access,
    headers: HeaderMap,
    error_pages: BTreeMap<u16, String>,
    sendfile: Option<SendFile>,
    compress: bool,
}

/// What a route serves, where that is not one program.
#[derive(Clone, Default)]
struct Served {
    /// The directory of scripts, where it is a route of those.
    scripts: Option<ScriptsAt>,
    /// The directory of files, where it has one.
    files: Option<PathBuf>,
    /// Where it sends clients, where it does.
    redirect: Option<String>,
    status: Option<u16>,
    index: Vec<String>,
    autoindex: bool,
    handlers: BTreeMap<String, Vec<String>>,
    rewrite: Vec<Rewrite>,
}

/// Which limits of the container the file itself says, in `[defaults]` or in the route.
#[derive(Clone, Copy, Default)]
struct Said {
    memory: bool,
    cpus: bool,
    pids: bool,
}

/// Docker refuses to run anything in less.
const LEAST_MEMORY: u64 = 6 << 20;

/// Of containers that wait. Each is three processes with mounts of their own.
const MOST_WARM: i64 = 1024;

/// What a container with an init needs at least, and one that is shared: the agent, its three workers and a program.
const LEAST_PIDS: u32 = 2;
const LEAST_SHARED_PIDS: u32 = 5;

/// As many as the kernel numbers, `PID_MAX_LIMIT`.
const MOST_PIDS: u32 = 4 << 20;

/// As much as the engine's API, which counts in signed numbers, can say.
const MOST_BYTES: u64 = i64::MAX as u64;

/// What only a route that runs something has a use for.
const OF_PROGRAMS: [&str; 28] = [
    "image",
    "rootfs",
    "entrypoint",
    "command",
    "working_dir",
    "script_filename",
    "document_root",
    "env",
    "pass_env",
    "output",
    "request_body",
    "isolation",
    "replicas",
    "warm",
    "memory",
    "cpus",
    "pids",
    "network",
    "connect",
    "read_only",
    "tmpfs",
    "volumes",
    "init",
    "cap_add",
    "pull",
    "linger",
    "kill_grace",
    "sendfile",
];

/// Reads all routes, whose engine is this one where they do not say otherwise; gives them, and every key that a route knows.
pub(super) fn routes(
    engine: EngineChoice,
    defaults: &DeTable<'_>,
    tables: &[Spanned<DeValue<'_>>],
    top_level: &[&'static str],
    context: &Context<'_>,
) -> (Vec<Route>, Vec<&'static str>) {
    let elsewhere = Elsewhere { keys: top_level, place: "at the top of the file, before the first table" };

    let mut base = Draft::new();
    base.route.program.engine = engine;
    let mut section = Section::new(defaults, " in [defaults]".to_owned(), context.problems);
    for key in ["path", "host", "command", "entrypoint", "scripts", "static", "redirect", "status", "rewrite"]
    {
        section.refuse(key, "is out of place: each route has its own");
    }
    base.read(&mut section, context);
    base.check_mounts(&section);
    if section.has("image") {
        section.complain("rootfs", "routes have an image or a root directory by default, not both");
    }
    let known = section.finish(&elsewhere);

    let mut routes = Vec::new();
    let mut addresses = HashMap::new();
    let mut users = Vec::new();
    for (number, table) in (1..).zip(tables) {
        let Some(keys) = table.get_ref().as_table() else {
            context.problems.note(table.span(), "`route`: expected a table: write [[route]]".to_owned());
            continue;
        };
        let mut section = Section::new(keys, format!(" in {}", name(keys, number)), context.problems);
        let mut draft = base.clone();
        let address = draft.read_own(&mut section, table.span(), context);
        draft.read(&mut section, context);
        let route = draft.into_route(&section, context);
        section.finish(&elsewhere);
        if let Some(address) = address {
            addresses.entry(address).or_insert_with(Vec::new).push((route.name(), keys["path"].span()));
        }
        if let Some(auth) = keys.get("auth").or(defaults.get("auth")) {
            users.push((auth.span(), routes.len()));
        }
        routes.push(route);
    }
    check_users(&users, &routes, context.problems);
    for same in addresses.values() {
        let line = context.problems.line(&same[0].1);
        for (name, at) in &same[1..] {
            context.problems.note(at.clone(), format!("route `{name}` is there twice: first on line {line}"));
        }
    }
    (routes, known)
}

/// Notes where a file of users is sent to whoever asks, by any route. `users`: where each `auth` stands, and its route.
fn check_users(users: &[(Range<usize>, usize)], routes: &[Route], problems: &Problems<'_>) {
    let mut noted = HashSet::new();
    for (at, route) in users {
        let Some(auth) = &routes[*route].access.auth else { continue };
        for file in [Some(&auth.file), auth.groups.as_ref()].into_iter().flatten() {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_sent = |route: &&Route| {
                let named = route.sendfile.as_ref().map(|sendfile| &*sendfile.directory);
                route.directory().into_iter().chain(named).any(|directory| file.starts_with(directory))
            };
            let Some(sending) = routes.iter().find(is_sent).filter(|_| !name.starts_with('.')) else {
                continue;
            };
            // One of the defaults is that of many routes.
            if noted.insert((at.start, file)) {
                let message = format!(
                    "`auth`: {} lies in the directory that route `{}` serves: put it elsewhere, or begin its name with a dot",
                    file.display(),
                    sending.name(),
                );
                problems.note(at.clone(), message);
            }
        }
    }
}

/// What a message calls a route: as [`Route::name`] does, from the table alone.
fn name(table: &DeTable<'_>, number: usize) -> String {
    let text = |key: &str| table.get(key).and_then(|value| value.get_ref().as_str());
    match text("path") {
        Some(path) => {
            format!("route `{}{}`", text("host").unwrap_or_default().escape_debug(), path.escape_debug())
        }
        None => format!("route number {number}"),
    }
}

// === impl Draft ===

impl Draft {
    fn new() -> Self {
        Self {
            host: None,
            path: String::new(),
            route: Program::new("").into(),
            raw: false,
            content_type: None,
            pass_env: Vec::new(),
            shared: false,
            replicas: 1,
            said: Said::default(),
            served: Served::default(),
            access: Access::default(),
            headers: HeaderMap::new(),
            error_pages: BTreeMap::new(),
            sendfile: None,
            compress: false,
        }
    }

    /// Reads the keys that only a route has; gives its host and path, where both are in order.
    fn read_own(
        &mut self,
        section: &mut Section<'_>,
        header: Range<usize>,
        context: &Context<'_>,
    ) -> Option<(Option<String>, String)> {
        let served = &mut self.served;
        served.scripts = section.get("scripts", |value| scripts_at(value, context));
        served.files = section.get("static", |value| directory(value, context, "./htdocs"));
        served.redirect = section.get("redirect", around::redirect);
        served.status = section.get("status", around::redirect_status);
        section.set_list(&mut served.rewrite, "rewrite", around::rewrite);
        let path = section.get("path", address::path);
        self.path = path.clone().unwrap_or_default();
        self.host = section.get("host", address::host);
        section.set_list(&mut self.route.program.entrypoint, "entrypoint", any_string);
        section.set_list(&mut self.route.program.command, "command", any_string);
        // Files need none.
        let is_answered = section.has("redirect") || section.has("static") && !section.has("scripts");
        let has_root = is_answered || ["image", "rootfs"].iter().any(|key| section.has(key));
        let Program { image, rootfs, .. } = &self.route.program;
        let has_root = has_root || rootfs.is_some() || !image.is_empty();
        let required = if has_root { &["path"][..] } else { &["path", "image"] };
        for key in required.iter().filter(|key| !section.has(key)) {
            match *key {
                "image" => section.lacks("image` or `rootfs", header.clone()),
                key => section.lacks(key, header.clone()),
            }
        }
        let host_in_order = self.host.is_some() || !section.has("host");
        path.filter(|_| host_in_order).map(|path| (self.host.clone(), path))
    }

    /// Reads the keys that `[defaults]` and routes share.
    fn read(&mut self, section: &mut Section<'_>, context: &Context<'_>) {
        let (base, file) = (context.base, context.file);
        let Self { route, raw, content_type, pass_env, shared, replicas, said, .. } = &mut *self;
        let absolute = || string("an absolute path in the container", absolute_path);
        let any_bytes = || or_none(size(0, MOST_BYTES));

        section.set(&mut route.document_root, "document_root", absolute());
        section.set(
            &mut route.script_filename,
            "script_filename",
            string("a path in the container", non_empty),
        );
        section.set(&mut route.pass_authorization, "pass_authorization", boolean);
        section.set_list(&mut route.allow_headers, "allow_headers", header_name);
        section.set(&mut route.indexed_query, "indexed_query", boolean);
        section.set(&mut route.debug_errors, "debug_errors", boolean);
        section.set(raw, "output", word(&[("cgi", false), ("raw", true)]));
        section.set(content_type, "content_type", string("a type such as \"text/plain\"", media_type));
        let body = [("spool", RequestBody::Spool), ("stream", RequestBody::Stream)];
        section.set(&mut route.request_body, "request_body", word(&body));

        let limits = &mut route.limits;
        section.set(&mut limits.timeout, "timeout", or_none(duration));
        section.set(&mut limits.idle_timeout, "idle_timeout", or_none(duration));
        section.set(&mut limits.linger, "linger", duration_or_zero);
        section.set(&mut limits.kill_grace, "kill_grace", duration_or_zero);
        section.set(&mut limits.max_concurrency, "max_concurrency", count::<usize>(1));
        section.set(&mut limits.queue, "queue", count::<usize>(0));
        section.set(&mut limits.queue_timeout, "queue_timeout", duration);
        section.set(&mut limits.max_request_body, "max_request_body", any_bytes());
        section.set(&mut limits.max_response_body, "max_response_body", any_bytes());

        let program = &mut route.program;
        section.set(&mut program.engine, "engine", engine);
        let image = string("an image such as \"perl:5\"", |text| {
            (!text.is_empty() && !text.contains(char::is_whitespace)).then(|| text.to_owned())
        });
        section.set(&mut program.image, "image", image);
        let directory = string("a directory such as \"./root\" or \"/\"", non_empty);
        let rootfs = section.get("rootfs", |value| Ok(mount::normal(&base.join(directory(value)?))));
        // What a route says itself wins over the defaults' other.
        if rootfs.is_some() && !section.has("image") {
            program.image.clear();
        }
        program.rootfs = rootfs.or(program.rootfs.take()).filter(|_| !section.has("image"));
        section.set(&mut program.working_dir, "working_dir", absolute());
        program.env.extend(section.entries("env", variable_name, any_string));
        section.set_list(pass_env, "pass_env", |value| {
            let name = any_string(value)?;
            variable_name(&name).map(|()| name)
        });
        section.set(&mut program.memory, "memory", or_none(size(LEAST_MEMORY, MOST_BYTES)));
        section.set(&mut program.cpus, "cpus", or_none(processors));
        section.set(&mut program.pids, "pids", or_none(count::<u32>(1)));
        said.memory |= section.has("memory");
        said.cpus |= section.has("cpus");
        said.pids |= section.has("pids");
        section.set(&mut program.network, "network", network);
        section.set_list(&mut program.connect, "connect", connect);
        let mut insides = HashSet::new();
        if let Some(twice) = program.connect.iter().find(|connect| !insides.insert(connect.inside.clone())) {
            section.complain("connect", &format!("`{}` leads to two places", twice.inside));
        }
        section.set(&mut program.read_only, "read_only", boolean);
        section.set_list(&mut program.tmpfs, "tmpfs", mount::tmpfs);
        section.set_list(&mut program.volumes, "volumes", mount::volume(base));
        section.set(&mut program.user, "user", user);
        section.set(&mut program.init, "init", boolean);
        section.set_list(&mut program.cap_add, "cap_add", capability);
        let policies =
            [("missing", PullPolicy::Missing), ("always", PullPolicy::Always), ("never", PullPolicy::Never)];
        section.set(&mut program.pull, "pull", word(&policies));

        section.set(shared, "isolation", word(&[("fresh", false), ("shared", true)]));
        section.set(replicas, "replicas", count::<u32>(1));
        section.set(&mut program.warm, "warm", |value| match (value.as_str(), integer(value)) {
            (Some("auto"), _) => Ok(Warm::Auto),
            (_, Some(count @ 0..=MOST_WARM)) => Ok(Warm::Fixed(count as u32)),
            _ => Err(format!("expected \"auto\", or how many containers to keep ready, at most {MOST_WARM}")),
        });

        let served = &mut self.served;
        section.set_list(&mut served.index, "index", index_name);
        let handlers = section.entries("handlers", ending, command_line);
        served
            .handlers
            .extend(handlers.into_iter().map(|(ending, line)| (ending.to_ascii_lowercase(), line)));
        section.set(&mut served.autoindex, "autoindex", boolean);
        section.set_list(&mut self.access.allow_from, "allow_from", around::network);
        if section.has("allow_from") && self.access.allow_from.is_empty() {
            section
                .complain("allow_from", "nobody could come in: name at least one network, or leave it out");
        }
        section.set(&mut self.access.rate_limit, "rate_limit", around::rate_limit);
        section.set(&mut self.access.auth, "auth", |value| around::auth(value, base));
        for (name, value) in section.entries("headers", around::header_name, around::header_value) {
            if let Ok(name) = http::HeaderName::try_from(name) {
                self.headers.insert(name, value);
            }
        }
        section.set(&mut self.compress, "compress", boolean);
        section.set(&mut self.sendfile, "sendfile", |value| around::sendfile(value, file));
        let pages = section.entries("error_pages", around::failing_status, around::error_page);
        self.error_pages
            .extend(pages.into_iter().filter_map(|(status, page)| Some((status.parse().ok()?, page))));
    }

    /// The route, once what its keys say together makes sense.
    fn into_route(self, section: &Section<'_>, context: &Context<'_>) -> Route {
        self.check_mounts(section);
        let Self { host, path, mut route, raw, content_type, pass_env, shared, replicas, said, .. } = self;
        if raw {
            if section.has("request_body") && route.request_body == RequestBody::Spool {
                section.complain("request_body", "a route with `output = \"raw\"` always streams");
            }
            route.request_body = RequestBody::Stream;
            route.output = Output::Raw { content_type };
        } else {
            section.complain("content_type", "only a route with `output = \"raw\"` has one");
        }
        if shared {
            route.program.isolation = Isolation::Shared { replicas };
            said.share(&mut route);
            if matches!(route.program.warm, Warm::Fixed(1..)) {
                section.complain("warm", "a route with `isolation = \"shared\"` has its containers anyway");
            }
            if !route.program.init {
                // Where it stands; it may be among the defaults.
                let key = if section.has("init") { "init" } else { "isolation" };
                section.complain(key, "a route with `isolation = \"shared\"` has an agent as process 1");
            }
        } else {
            section.complain("replicas", "only a route with `isolation = \"shared\"` has them");
        }
        check_pids(&route.program, section);
        if route.program.network != Network::None && !route.program.connect.is_empty() {
            // Where it stands; both may be among the defaults.
            let key = ["connect", "network"].into_iter().find(|key| section.has(key)).unwrap_or("path");
            section.complain(
                key,
                "`connect` is for programs without a network: with this one they reach it themselves",
            );
        }
        let program = &mut route.program;
        if section.has("image") {
            section.complain("rootfs", "a route has an image or a root directory, not both");
        } else if program.rootfs.is_some() {
            let has_command = ["scripts", "static", "redirect"].iter().any(|key| section.has(key));
            if program.command_line(&ImageConfig::default()).is_empty() && !has_command {
                // Where it stands; it may be among the defaults.
                let key = if section.has("rootfs") { "rootfs" } else { "path" };
                section.complain(key, "a route with `rootfs` needs `entrypoint`, `command` or `scripts`");
            }
            // Its environment may hold what is no program's business.
            program.hidden = vec![context.file.to_owned()];
        }
        for name in pass_env {
            if let Some(value) = (context.environment)(&name) {
                route.program.env.entry(name).or_insert(value);
            }
        }
        let Self { served, access, headers, error_pages, compress, sendfile, .. } = self;
        let route = Route::new(path, served.into_kind(route, section));
        Route { host, access, headers, error_pages, compress, sendfile, ..route }
    }

    /// Notes where a mount hides another, if this section mounts anything.
    fn check_mounts(&self, section: &Section<'_>) {
        if let Some(target) = mount::mounted_twice(&self.route.program) {
            let key = ["volumes", "connect"].into_iter().find(|key| section.has(key)).unwrap_or("tmpfs");
            let why = format!(
                "`{target}` is mounted twice; `volumes`, `tmpfs` and the sockets of `connect` share no path"
            );
            section.complain(key, &why);
        }
    }
}

// === impl Served ===

impl Served {
    /// What the route is, with what its keys say of a program.
    fn into_kind(self, route: ProgramRoute, section: &Section<'_>) -> RouteKind {
        let has_files = section.has("static");
        if !has_files {
            section.complain("autoindex", "only a route with `static` has it");
        }
        if !section.has("redirect") {
            section.complain("status", "only a route with `redirect` has it");
        }
        if !section.has("scripts") {
            section.complain("handlers", "only a route with `scripts` has it");
            section.complain("rewrite", "only a route with `scripts` has it");
        }
        if let Some(to) = self.redirect {
            for key in OF_PROGRAMS.iter().chain(&["scripts", "static", "index", "user"]) {
                section.complain(
                    key,
                    "a route with `redirect` sends clients on, and nothing else: leave it out",
                );
            }
            return RedirectRoute { to, status: self.status.unwrap_or(301) }.into();
        }
        let Some(directory) = self.scripts else {
            if !has_files {
                section.complain("index", "only a route with `scripts` or `static` has it");
                return route.into();
            }
            for key in OF_PROGRAMS {
                let why = "a route with `static` alone runs nothing: leave it out, or name `scripts` too";
                section.complain(key, why);
            }
            return FilesRoute {
                directory: self.files.unwrap_or_default(),
                index: self.index,
                autoindex: self.autoindex,
                user: route.program.user,
                debug_errors: route.debug_errors,
            }
            .into();
        };
        let by_handlers = "each script is a program; `handlers` say what runs it, where that is not itself";
        section.complain("entrypoint", by_handlers);
        section.complain("command", by_handlers);
        section.complain("script_filename", "a route with `scripts` names each script itself");
        section.complain("working_dir", "each script's is the directory that it lies in");
        let directory = match directory {
            ScriptsAt::Here(directory) => directory,
            ScriptsAt::InImage(directory) => {
                let why = "files are sent from directories of this machine alone; leave it out, or copy the directory out of the image";
                section.complain("static", why);
                section.complain("autoindex", why);
                let is_mounted = |target: &str| directory.starts_with(target);
                if mount::targets(&route.program).any(is_mounted) {
                    let why = "`volumes`, `tmpfs` or `connect` mount something there: name the directory of this machine that is seen there";
                    section.complain("scripts", why);
                }
                return match ScriptsRoute::in_image(directory, route) {
                    Ok(scripts) => ScriptsRoute {
                        index: self.index,
                        handlers: self.handlers,
                        rewrite: self.rewrite,
                        ..scripts
                    }
                    .into(),
                    Err(error) => {
                        section.complain("scripts", &error.to_string());
                        Program::new("").into()
                    }
                };
            }
        };
        if self.files.is_some_and(|files| files != directory) {
            let why = "`scripts` is another directory: beside scripts, files are sent of the same one; make it two routes";
            section.complain("static", why);
        }
        if has_files && self.handlers.is_empty() {
            let why = "beside `static`, `handlers` say which files are scripts, such as `{ \".cgi\" = [] }`: all others are sent";
            section.complain("scripts", why);
        }
        let scripts = match ScriptsRoute::new(directory, route) {
            Ok(scripts) => scripts,
            Err(error) => {
                section.complain("scripts", &error.to_string());
                return Program::new("").into();
            }
        };
        if let Some(target) = mount::mounted_twice(&scripts.program.program) {
            let why = format!("`{target}` is mounted by `volumes` or `tmpfs` too; leave it out there");
            section.complain("scripts", &why);
        }
        ScriptsRoute {
            index: self.index,
            handlers: self.handlers,
            sends_files: has_files,
            autoindex: self.autoindex,
            rewrite: self.rewrite,
            ..scripts
        }
        .into()
    }
}

// === impl Said ===

impl Said {
    /// What nobody has said is for one request. Of a container that is shared it is for as many as may be in it at once;
    /// processors are nobody's then, for one would be that of all.
    fn share(self, route: &mut ProgramRoute) {
        let ProgramRoute { program, limits, .. } = route;
        let requests = u64::try_from(limits.max_concurrency).unwrap_or(u64::MAX);
        if !self.memory {
            program.memory = program.memory.map(|bytes| bytes.saturating_mul(requests).min(MOST_BYTES));
        }
        if !self.cpus {
            program.cpus = None;
        }
        if !self.pids {
            let together = |pids: u32| u64::from(pids).saturating_mul(requests).min(MOST_PIDS.into());
            program.pids = program.pids.map(|pids| together(pids) as u32);
        }
    }
}

/// Notes where a program could never be started beside what is in its container with it.
fn check_pids(program: &Program, section: &Section<'_>) {
    let (least, why) = match (&program.isolation, program.init) {
        (Isolation::Shared { .. }, _) => (
            LEAST_SHARED_PIDS,
            "the agent of a shared container and its workers are up to 4, so it needs at least 5",
        ),
        (Isolation::Fresh, true) => {
            (LEAST_PIDS, "the init is one process and the program another: at least 2, or `init = false`")
        }
        (Isolation::Fresh, false) => return,
    };
    if program.pids.is_some_and(|pids| pids < least) {
        // Where it stands; it may be among the defaults.
        let key = ["pids", "isolation", "init"].into_iter().find(|key| section.has(key)).unwrap_or("path");
        let why = match key {
            "pids" => why.to_owned(),
            _ => format!("with the `pids` of [defaults] no program could start: {why}"),
        };
        section.complain(key, &why);
    }
}

// === the kinds of string a route has ===

pub(super) fn network(value: &DeValue<'_>) -> Reading<Network> {
    string("\"none\", \"bridge\", \"host\" or the name of a network", |text| {
        Some(match text {
            "none" => Network::None,
            "bridge" => Network::Bridge,
            "host" => Network::Host,
            name if mount::is_name(name) => Network::Named(name.to_owned()),
            _ => return None,
        })
    })(value)
}

fn absolute_path(text: &str) -> Option<String> {
    text.starts_with('/').then(|| text.to_owned())
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// `user` or `user:group`.
pub(super) fn user(value: &DeValue<'_>) -> Reading<String> {
    let valid = |name: &str| !name.is_empty() && !name.contains(|c: char| c == ':' || c.is_whitespace());
    string("a user such as \"1000:1000\" or \"www-data\"", |text| {
        let (user, group) = text.split_once(':').unwrap_or((text, "-"));
        (valid(user) && valid(group)).then(|| text.to_owned())
    })(value)
}

/// Where the scripts of a route are.
#[derive(Clone, Debug)]
enum ScriptsAt {
    Here(PathBuf),
    InImage(PathBuf),
}

fn scripts_at(value: &DeValue<'_>, context: &Context<'_>) -> Reading<ScriptsAt> {
    let in_image = value.as_str().and_then(|text| text.strip_prefix("image:"));
    let Some(in_image) = in_image else {
        return directory(value, context, "./cgi-bin").map(ScriptsAt::Here);
    };
    match in_image.starts_with('/') {
        true => Ok(ScriptsAt::InImage(mount::normal(Path::new(in_image)))),
        false => {
            Err("expected a directory by its path in the image, such as \"image:/usr/lib/cgi-bin\""
                .to_owned())
        }
    }
}

/// A directory that is served.
///
/// SECURITY: not one that holds the file that is read: it may have secrets, and would be sent, or be scripts' to read.
fn directory(value: &DeValue<'_>, context: &Context<'_>, example: &str) -> Reading<PathBuf> {
    let what = format!("a directory such as \"{example}\"");
    let text = string(&what, non_empty)(value)?;
    if text.starts_with("image:") {
        return Err(
            "files are sent from directories of this machine alone: copy it out of the image".to_owned()
        );
    }
    let directory = mount::normal(&context.base.join(text));
    match context.file.starts_with(&directory) {
        true => Err(
            "this file is in it, and would be served, or be scripts' to read: name a directory of its own"
                .to_owned(),
        ),
        false => Ok(directory),
    }
}

/// The name of a file that is served for its directory.
pub(super) fn index_name(value: &DeValue<'_>) -> Reading<String> {
    string("the name of a file, such as \"index.cgi\"", |text| {
        (!text.is_empty() && !text.contains('/') && !text.starts_with('.')).then(|| text.to_owned())
    })(value)
}

/// How the names of files end.
pub(super) fn ending(name: &str) -> Reading<()> {
    let plain = name.strip_prefix('.').filter(|rest| !rest.is_empty() && !rest.contains(['.', '/']));
    plain.map(drop).ok_or_else(|| "expected how names end, from the last dot on, such as \".php\"".to_owned())
}

/// A command line, which may be empty.
fn command_line(value: &DeValue<'_>) -> Reading<Vec<String>> {
    let expected =
        || "expected a list such as [\"/usr/bin/perl\"], or [] for what is executable itself".to_owned();
    let words = value.as_array().ok_or_else(expected)?;
    words.iter().map(|word| any_string(word.get_ref())).collect()
}

fn media_type(text: &str) -> Option<String> {
    let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
    let (kind, rest) = text.split_once('/')?;
    (printable && !kind.is_empty() && !rest.is_empty()).then(|| text.to_owned())
}

/// A header name that would not pass by itself, in lower case.
///
/// SECURITY: names of the plain form are refused, so that no list can let `Proxy` through (httpoxy).
fn header_name(value: &DeValue<'_>) -> Reading<String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    string("a header name with a character outside A-Z, a-z, 0-9 and -, such as \"X_Api_Key\"", |text| {
        (text.bytes().all(token) && !text.bytes().all(plain)).then(|| text.to_ascii_lowercase())
    })(value)
}

fn variable_name(name: &str) -> Reading<()> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("expected a variable's name, not empty and without = and NUL".to_owned());
    }
    if is_request_variable(name) {
        let instead = match name {
            "SCRIPT_FILENAME" => "write `script_filename`",
            "PATH_TRANSLATED" => "write `document_root`, from which it is made",
            _ => "leave it out",
        };
        return Err(format!("it is each request's own, and set for it; {instead}"));
    }
    Ok(())
}
