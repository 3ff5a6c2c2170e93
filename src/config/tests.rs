//! Whole files: what they mean, and what an operator reads about those that mean nothing.

use std::path::PathBuf;

use super::*;
use crate::engine::{Isolation, Network, PullPolicy, Volume, Warm};
use crate::gateway::{Limits, Output, ProgramRoute, RequestBody};
use crate::site::RouteKind;

const ROUTE: &str = "[[route]]\npath = '/x'\nimage = 'i'\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    let environment = |name: &str| match name {
        "TZ" => Some("Europe/Paris".to_owned()),
        "TOKEN" => Some("secret".to_owned()),
        _ => None,
    };
    Config::parse_with(text, Path::new("/etc/dcgi/dcgi.toml"), &environment)
}

/// The one route of a file.
fn whole_route(text: &str) -> Route {
    parse(text).unwrap().routes.remove(0)
}

/// The same, which is a program's.
fn route(text: &str) -> ProgramRoute {
    match whole_route(text).kind {
        RouteKind::Program(route) => route,
        kind => panic!("{kind:?}"),
    }
}

/// A route with some lines more.
fn route_with(lines: &str) -> ProgramRoute {
    route(&format!("{ROUTE}{lines}"))
}

/// What is said about a file, without the directory and without the lines shown below.
fn errors(text: &str) -> Vec<String> {
    let shown = parse(text).unwrap_err().to_string();
    let messages = shown.lines().filter_map(|line| line.strip_prefix("/etc/dcgi/"));
    messages.map(str::to_owned).collect()
}

/// What is said about a line in a route: the fourth of the file.
fn error_with(line: &str) -> String {
    let errors = errors(&format!("{ROUTE}{line}"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

/// What is said about a line at the top of a file.
fn error_above(line: &str) -> String {
    let errors = errors(&format!("{line}\n{ROUTE}"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

// === the file ===

#[test]
fn a_route_of_path_and_image_has_the_safe_defaults() {
    assert_eq!(whole_route(ROUTE), Route::new("/x", crate::engine::Program::new("i")));
}

#[test]
fn what_the_top_of_a_file_leaves_out_has_a_default() {
    let config = parse(ROUTE).unwrap();
    assert_eq!(config.listen, [Listen::default()]);
    assert_eq!(config.engine, EngineChoice::Auto);
    assert_eq!(config.trusted_proxies, []);
    assert_eq!(config.proxy_headers, ProxyHeaders::Either);
    assert_eq!(config.server, ServerLimits::default());
}

#[test]
fn a_route_has_the_files_engine_or_that_of_the_defaults_or_its_own() {
    let text = "engine = 'docker'\n[[route]]\npath = '/a'\nimage = 'i'\n\
                [[route]]\npath = '/b'\nimage = 'i'\nengine = 'embedded'\n";
    let engines = |text: &str| -> Vec<_> {
        let routes = parse(text).unwrap().routes;
        routes.iter().map(|route| route.program().unwrap().program.engine).collect()
    };
    assert_eq!(engines(text), [EngineChoice::Docker, EngineChoice::Embedded]);
    let text = text.replacen("[[route]]", "[defaults]\nengine = 'auto'\n[[route]]", 1);
    assert_eq!(engines(&text), [EngineChoice::Auto, EngineChoice::Embedded]);
}

#[test]
fn a_problem_is_told_with_its_line_and_a_mark() {
    assert_eq!(
        parse("[[route]]\npath = '/hello'\nimage = 'i'\ntimeuot = '30s'\n").unwrap_err().to_string(),
        "/etc/dcgi/dcgi.toml:4:1: unknown key `timeuot` in route `/hello`; did you mean `timeout`?\n    \
             4 | timeuot = '30s'\n      \
               | ^^^^^^^"
    );
}

#[test]
fn all_problems_are_told_in_the_order_of_the_file() {
    assert_eq!(
        errors(
            "max_conections = 1\n[defaults]\nqueue = -1\n[[route]]\npath = 'x'\nimage = ''\n[[route]]\nqueeu = 1\n"
        ),
        [
            "dcgi.toml:1:1: unknown key `max_conections`; did you mean `max_connections`?",
            "dcgi.toml:3:9: `queue` = -1 in [defaults]: expected a whole number from 0 to 4294967295, without quotes",
            "dcgi.toml:5:8: `path` = 'x' in route `x`: expected a path that begins with \"/\", such as \"/hello\"",
            "dcgi.toml:6:9: `image` = '' in route `x`: expected an image such as \"perl:5\"",
            "dcgi.toml:7:1: no `path` in route number 2",
            "dcgi.toml:7:1: no `image` or `rootfs` in route number 2",
            "dcgi.toml:8:1: unknown key `queeu` in route number 2; did you mean `queue`?",
        ]
    );
}

#[test]
fn a_file_that_is_not_toml_is_told_by_its_syntax_alone() {
    let errors = errors("[[route]]\npath = /x\nimage = 'i'\nunknown = 1\n");
    assert_eq!(errors, ["dcgi.toml:2:8: a string is quoted: \"/x\""]);
    let errors = self::errors(&format!("listen = 127.0.0.1:8080\n{ROUTE}"));
    assert_eq!(errors, ["dcgi.toml:1:10: a string is quoted: \"127.0.0.1:8080\""]);
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    assert_eq!(error_with("image = 'j'"), "dcgi.toml:4:1: duplicate key");
}

#[test]
fn a_file_without_routes_is_refused() {
    assert_eq!(errors(""), ["dcgi.toml: no routes: write at least one [[route]]"]);
}

#[test]
fn a_route_in_single_brackets_is_told_of_the_second_pair() {
    assert_eq!(
        errors("[route]\npath = '/x'\nimage = 'i'\n"),
        ["dcgi.toml:1:1: `route`: expected tables in a list: write [[route]], in two pairs of brackets"]
    );
}

#[test]
fn defaults_in_double_brackets_are_told_so() {
    assert_eq!(
        errors(&format!("[[defaults]]\nqueue = 1\n{ROUTE}")),
        ["dcgi.toml:1:1: `defaults` = [[defaults]]: expected one table: write [defaults]"]
    );
}

#[test]
fn a_key_of_a_route_at_the_top_is_sent_to_its_place() {
    assert_eq!(
        error_above("timeout = '30s'"),
        "dcgi.toml:1:1: `timeout` belongs in a [[route]] or in [defaults]"
    );
    assert_eq!(error_above("image = 'i'"), "dcgi.toml:1:1: `image` belongs in a [[route]] or in [defaults]");
}

#[test]
fn a_key_of_the_server_below_a_route_is_sent_to_the_top() {
    assert_eq!(
        error_with("listen = '127.0.0.1:80'"),
        "dcgi.toml:4:1: `listen` in route `/x` belongs at the top of the file, before the first table"
    );
}

#[test]
fn an_unreadable_file_says_which_and_its_source_says_why() {
    let error = Config::load(Path::new("/nowhere/dcgi.toml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nowhere/dcgi.toml");
    assert!(std::error::Error::source(&error).unwrap().to_string().starts_with("No such file"));
}

// === the server ===

#[test]
fn listen_is_one_address_or_a_list() {
    let listen = |value: &str| parse(&format!("listen = {value}\n{ROUTE}")).unwrap().listen;
    assert_eq!(listen("'[::1]:80'"), ["[::1]:80".parse().unwrap()]);
    assert_eq!(listen("['[::1]:80', 'unix:/s']"), ["[::1]:80".parse().unwrap(), "unix:/s".parse().unwrap()]);
    assert_eq!(listen("[]"), []);
}

#[test]
fn a_unix_socket_is_taken_from_the_directory_of_the_file() {
    let config = parse(&format!("listen = 'unix:run/s'\n{ROUTE}")).unwrap();
    assert_eq!(config.listen, [Listen::unix("/etc/dcgi/run/s")]);
}

#[test]
fn a_unix_socket_may_have_a_mode_and_a_group() {
    let listen = |value: &str| parse(&format!("listen = {value}\n{ROUTE}")).unwrap().listen;
    let socket =
        Listen::Unix { path: PathBuf::from("/s"), mode: Some(0o660), group: Some("www-data".to_owned()) };
    let table = "{ address = 'unix:/s', mode = '0660', group = 'www-data' }";
    assert_eq!(listen(table), std::slice::from_ref(&socket));
    assert_eq!(listen(&format!("['[::1]:80', {table}]")), ["[::1]:80".parse().unwrap(), socket]);
    assert_eq!(listen("{ address = '[::1]:80' }"), ["[::1]:80".parse().unwrap()]);
}

#[test]
fn what_a_table_of_listen_cannot_mean_is_told() {
    for (table, why) in [
        ("{ address = 'unix:/s', mode = 660 }", "expected a `mode` in octal and in quotes, such as \"0660\""),
        (
            "{ address = 'unix:/s', mode = '0999' }",
            "expected a `mode` in octal and in quotes, such as \"0660\"",
        ),
        (
            "{ address = 'unix:/s', mod = '0660' }",
            "`mod` is unknown here; expected `address`, `mode` and `group`",
        ),
        ("{ address = '[::1]:1', mode = '0660' }", "`mode` and `group` are for a unix socket's file"),
        ("{ mode = '0660' }", "expected an `address` in the table"),
        ("{ address = '[::1]:1', tls = true }", "it comes later; expected `address`, `mode` and `group`"),
    ] {
        let error = error_above(&format!("listen = {table}"));
        assert!(error.ends_with(why), "{error}");
    }
}

#[test]
fn an_item_of_a_list_is_told_by_its_own_place() {
    assert_eq!(
        error_above("listen = ['127.0.0.1:1', 'here']"),
        "dcgi.toml:1:26: `listen` has 'here': expected an address such as \"127.0.0.1:8080\", \"[::1]:8080\" or \
         \"unix:/run/dcgi.sock\""
    );
}

#[test]
fn a_trusted_proxy_is_a_network_or_an_address() {
    let config = parse(&format!("trusted_proxies = ['10.0.0.0/8', '::1']\n{ROUTE}")).unwrap();
    assert_eq!(config.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
}

#[test]
fn trusted_proxies_write_one_kind_of_headers() {
    let config = parse(&format!("proxy_headers = 'forwarded'\n{ROUTE}")).unwrap();
    assert_eq!(config.proxy_headers, ProxyHeaders::Forwarded);
    assert_eq!(
        error_above("proxy_headers = 'both'"),
        "dcgi.toml:1:17: `proxy_headers` = 'both': expected \"either\" or \"x-forwarded\" or \"forwarded\""
    );
}

#[test]
fn the_server_has_limits_of_its_own() {
    let text = format!("max_connections = 9\nheader_timeout = '3s'\nmax_header_size = '16KiB'\n{ROUTE}");
    let expected = ServerLimits {
        max_connections: 9,
        header_timeout: Duration::from_secs(3),
        max_header_size: 16 << 10,
    };
    assert_eq!(parse(&text).unwrap().server, expected);
}

#[test]
fn a_header_limit_that_hyper_would_panic_on_is_refused() {
    assert_eq!(
        error_above("max_header_size = 4096"),
        "dcgi.toml:1:19: `max_header_size` = 4096: expected at least \"8KiB\""
    );
}

// === what comes later ===

#[test]
fn keys_of_later_versions_are_refused_with_a_word() {
    for (key, line) in [("tls", "tls = { cert = 'c' }"), ("admin", "admin = '127.0.0.1:9090'")] {
        assert_eq!(
            error_above(line),
            format!("dcgi.toml:1:1: `{key}` is not supported by this version of dcgi; it comes later")
        );
    }
}

#[test]
fn values_of_later_versions_are_refused_with_a_word() {
    assert_eq!(
        error_above("engine = 'swarm'"),
        "dcgi.toml:1:10: `engine` = 'swarm': not supported by this version of dcgi; it comes later"
    );
}

#[test]
fn isolation_is_fresh_unless_containers_are_shared() {
    assert_eq!(route_with("isolation = 'fresh'"), route(ROUTE));
    let isolation = |lines: &str| route_with(lines).program.isolation;
    assert_eq!(isolation("isolation = 'shared'"), Isolation::Shared { replicas: 1 });
    assert_eq!(isolation("isolation = 'shared'\nreplicas = 3"), Isolation::Shared { replicas: 3 });
    assert_eq!(
        error_with("isolation = 'none'"),
        "dcgi.toml:4:13: `isolation` = 'none' in route `/x`: expected \"fresh\" or \"shared\""
    );
}

#[test]
fn what_shared_containers_cannot_have_is_refused() {
    assert_eq!(
        error_with("isolation = 'shared'\nwarm = 2"),
        "dcgi.toml:5:8: `warm` = 2 in route `/x`: a route with `isolation = \"shared\"` has its containers anyway"
    );
    assert_eq!(
        error_with("isolation = 'shared'\ninit = false"),
        "dcgi.toml:5:8: `init` = false in route `/x`: a route with `isolation = \"shared\"` has an agent as process 1"
    );
    assert_eq!(
        error_with("replicas = 2"),
        "dcgi.toml:4:12: `replicas` = 2 in route `/x`: only a route with `isolation = \"shared\"` has them"
    );
}

#[test]
fn limits_that_nobody_says_are_for_all_requests_of_a_shared_container() {
    let limits = |lines: &str| {
        let program = route_with(lines).program;
        (program.memory, program.cpus, program.pids)
    };
    let mebibytes = |count: u64| Some(count << 20);
    assert_eq!(limits("isolation = 'shared'"), (mebibytes(16 * 256), None, Some(16 * 128)));
    assert_eq!(
        limits("isolation = 'shared'\nmax_concurrency = 3"),
        (mebibytes(3 * 256), None, Some(3 * 128))
    );
    // Each container may get them all.
    assert_eq!(
        limits("isolation = 'shared'\nmax_concurrency = 1\nreplicas = 4"),
        (mebibytes(256), None, Some(128))
    );
    assert_eq!(limits("isolation = 'fresh'\nmax_concurrency = 3"), (mebibytes(256), Some(1.0), Some(128)));
    // As many as there can be, and no more.
    let (memory, _, pids) = limits("isolation = 'shared'\nmax_concurrency = 4294967295");
    assert_eq!((memory, pids), (Some(u64::from(u32::MAX) * (256 << 20)), Some(4 << 20)));
}

#[test]
fn limits_that_somebody_says_are_the_shared_containers() {
    let said = (Some(64 << 20), Some(0.5), Some(40));
    let lines = "memory = '64MiB'\ncpus = 0.5\npids = 40\n";
    let limits = |text: &str| {
        let program = route(text).program;
        (program.memory, program.cpus, program.pids)
    };
    assert_eq!(limits(&format!("{ROUTE}isolation = 'shared'\n{lines}")), said);
    assert_eq!(limits(&format!("[defaults]\n{lines}{ROUTE}isolation = 'shared'\n")), said);
    assert_eq!(limits(&format!("[defaults]\nisolation = 'shared'\n{ROUTE}{lines}")), said);
    // One of them, and the others as if nothing was said.
    let program = route_with("isolation = 'shared'\ncpus = 1.0").program;
    assert_eq!((program.memory, program.cpus), (Some(4 << 30), Some(1.0)));
    let program = route_with("isolation = 'shared'\nmemory = 'none'\npids = 'none'").program;
    assert_eq!((program.memory, program.pids), (None, None));
}

#[test]
fn fewer_processes_than_a_container_needs_are_refused() {
    assert_eq!(
        error_with("pids = 1"),
        "dcgi.toml:4:8: `pids` = 1 in route `/x`: the init is one process and the program another: at least 2, or `init = false`"
    );
    assert_eq!(route_with("pids = 1\ninit = false").program.pids, Some(1));
    assert_eq!(route_with("pids = 2").program.pids, Some(2));
    assert_eq!(
        error_with("isolation = 'shared'\npids = 4"),
        "dcgi.toml:5:8: `pids` = 4 in route `/x`: the agent of a shared container and its workers are up to 4, so it needs at least 5"
    );
    assert_eq!(route_with("isolation = 'shared'\npids = 5").program.pids, Some(5));
    // Of the defaults, where a route makes it wrong.
    let with_defaults =
        |defaults: &str, more: &str| errors(&format!("[defaults]\n{defaults}\n{ROUTE}{more}\n"));
    let of_defaults = with_defaults("pids = 3", "isolation = 'shared'");
    assert_eq!(of_defaults.len(), 1, "{of_defaults:?}");
    assert!(
        of_defaults[0].contains("`isolation` = 'shared'") && of_defaults[0].contains("`pids` of [defaults]")
    );
    let of_defaults = with_defaults("pids = 1", "");
    assert!(
        of_defaults[0].contains("`path` = '/x' in route `/x`: with the `pids` of [defaults]"),
        "{of_defaults:?}"
    );
}

#[test]
fn containers_are_kept_ready_by_number_or_by_need() {
    assert_eq!(route(ROUTE).program.warm, Warm::Auto);
    assert_eq!(route_with("warm = 'auto'").program.warm, Warm::Auto);
    assert_eq!(route_with("warm = 0").program.warm, Warm::Fixed(0));
    assert_eq!(route_with("warm = 1024").program.warm, Warm::Fixed(1024));
    for value in ["-1", "1025", "'many'", "1.5"] {
        let error = error_with(&format!("warm = {value}"));
        assert!(
            error.ends_with("expected \"auto\", or how many containers to keep ready, at most 1024"),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_engine_is_told_the_known_ones() {
    assert_eq!(
        error_above("engine = 'podman'"),
        "dcgi.toml:1:10: `engine` = 'podman': expected \"auto\", \"docker\" or \"embedded\""
    );
}

// === routes ===

#[test]
fn two_routes_of_one_host_and_path_are_refused_with_both_lines() {
    assert_eq!(
        errors(&format!("{ROUTE}host = 'a'\n{ROUTE}\n[[route]]\nhost = 'A'\npath = '/x/'\nimage = 'i'\n")),
        ["dcgi.toml:11:8: route `a/x` is there twice: first on line 2"]
    );
}

#[test]
fn routes_whose_paths_are_wrong_are_not_taken_for_one() {
    let text = "[[route]]\npath = 'x'\nimage = 'i'\n[[route]]\npath = 'y'\nimage = 'i'\n";
    assert_eq!(errors(text).len(), 2);
}

#[test]
fn every_key_of_a_route_reaches_it() {
    let lines = "host = 'Example.org'
         entrypoint = ['/bin/e']
         command = ['--loud', '']
         working_dir = '/app'
         user = '1000:1000'
         pull = 'never'
         init = false
         script_filename = '/app/index.php'
         document_root = '/app'
         pass_authorization = true
         allow_headers = ['X_Api_Key']
         indexed_query = true
         request_body = 'stream'
         debug_errors = true
         timeout = 'none'
         idle_timeout = '1s'
         linger = '3s'
         kill_grace = '0s'
         max_concurrency = 1
         queue = 0
         queue_timeout = '2s'
         max_request_body = 'none'
         max_response_body = 5
         memory = 'none'
         cpus = 'none'
         pids = 'none'
         network = 'shop'
         read_only = false
         tmpfs = ['/run:size=1m']
         volumes = ['./d:/d:ro', 'v:/v']
         cap_add = ['cap_chown']
         env = { A = 'b' }";
    let mut expected = ProgramRoute::from(crate::engine::Program::new("i"));
    expected.script_filename = Some("/app/index.php".to_owned());
    expected.document_root = Some("/app".to_owned());
    expected.pass_authorization = true;
    expected.allow_headers = vec!["x_api_key".to_owned()];
    expected.indexed_query = true;
    expected.request_body = RequestBody::Stream;
    expected.debug_errors = true;
    expected.limits = Limits {
        timeout: None,
        idle_timeout: Some(Duration::from_secs(1)),
        linger: Duration::from_secs(3),
        kill_grace: Duration::ZERO,
        max_concurrency: 1,
        queue: 0,
        queue_timeout: Duration::from_secs(2),
        max_request_body: None,
        max_response_body: Some(5),
    };
    let program = &mut expected.program;
    program.entrypoint = Some(vec!["/bin/e".to_owned()]);
    program.command = Some(vec!["--loud".to_owned(), String::new()]);
    program.working_dir = Some("/app".to_owned());
    program.user = Some("1000:1000".to_owned());
    program.pull = PullPolicy::Never;
    program.init = false;
    program.memory = None;
    program.cpus = None;
    program.pids = None;
    program.network = Network::Named("shop".to_owned());
    program.read_only = false;
    program.tmpfs = vec!["/run:size=1m".to_owned()];
    program.volumes = vec![
        Volume::Bind { source: "/etc/dcgi/d".into(), target: "/d".to_owned(), read_only: true },
        Volume::Named { name: "v".to_owned(), target: "/v".to_owned(), read_only: false },
    ];
    program.cap_add = vec!["CHOWN".to_owned()];
    program.env = [("A".to_owned(), "b".to_owned())].into();
    let expected = Route { host: Some("example.org".to_owned()), ..Route::new("/x", expected) };
    assert_eq!(whole_route(&format!("{ROUTE}{lines}")), expected);
}

#[test]
fn a_root_directory_takes_the_place_of_an_image() {
    let route = route("[[route]]\npath = '/x'\nrootfs = './old/../root'\nentrypoint = ['/bin/x', 'y']\n");
    let mut expected = crate::engine::Program::of_rootfs("/etc/dcgi/root", ["/bin/x", "y"]);
    expected.hidden = vec!["/etc/dcgi/dcgi.toml".into()];
    assert_eq!(route.program, expected);
}

#[test]
fn a_route_has_an_image_or_a_root_directory() {
    assert_eq!(
        error_with("rootfs = '/'\ncommand = ['/bin/x']"),
        "dcgi.toml:4:10: `rootfs` = '/' in route `/x`: a route has an image or a root directory, not both"
    );
    assert_eq!(
        errors("[[route]]\npath = '/x'\ncommand = ['/bin/x']\n"),
        ["dcgi.toml:1:1: no `image` or `rootfs` in route `/x`"]
    );
}

#[test]
fn a_root_directory_says_nothing_of_a_program_so_the_route_has_to() {
    let needs = "a route with `rootfs` needs `entrypoint`, `command` or `scripts`";
    for more in ["", "entrypoint = []\n", "command = []\n"] {
        assert_eq!(
            errors(&format!("[[route]]\npath = '/x'\nrootfs = '/'\n{more}")),
            [format!("dcgi.toml:3:10: `rootfs` = '/' in route `/x`: {needs}")]
        );
    }
    assert_eq!(
        errors("[defaults]\nrootfs = '/'\n[[route]]\npath = '/x'\n"),
        [format!("dcgi.toml:4:8: `path` = '/x' in route `/x`: {needs}")]
    );
}

#[test]
fn a_root_directory_of_the_defaults_is_for_routes_without_an_image() {
    let text = format!("[defaults]\nrootfs = '/'\n{ROUTE}[[route]]\npath = '/y'\ncommand = ['/bin/x']\n");
    let routes = parse(&text).unwrap().routes;
    let rootfs = |route: &Route| route.program().unwrap().program.rootfs.clone();
    assert_eq!(routes.iter().map(rootfs).collect::<Vec<_>>(), [None, Some("/".into())]);
}

#[test]
fn a_root_directory_that_is_none_is_refused() {
    for value in ["''", "1", "['/']"] {
        let errors = errors(&format!("[[route]]\npath = '/x'\nrootfs = {value}\ncommand = ['x']\n"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("a directory such as \"./root\" or \"/\""), "{errors:?}");
    }
}

#[test]
fn a_wrong_value_is_told_with_what_was_expected() {
    assert_eq!(
        error_with("memory = \"12 parsecs\""),
        "dcgi.toml:4:10: `memory` = \"12 parsecs\" in route `/x`: expected a size such as \"256MiB\" or \"none\""
    );
    assert_eq!(
        error_with("timeout = 30"),
        "dcgi.toml:4:11: `timeout` = 30 in route `/x`: expected a duration with its unit; write \"30s\" or \"none\""
    );
    assert_eq!(
        error_with("pull = 'allways'"),
        "dcgi.toml:4:8: `pull` = 'allways' in route `/x`: expected \"missing\" or \"always\" or \"never\""
    );
    assert_eq!(
        error_with("user = 1000"),
        "dcgi.toml:4:8: `user` = 1000 in route `/x`: expected a user such as \"1000:1000\" or \"www-data\"; a string is \
         quoted: \"1000\""
    );
    assert_eq!(
        error_with("read_only = 'yes'"),
        "dcgi.toml:4:13: `read_only` = 'yes' in route `/x`: expected true or false, without quotes"
    );
    assert_eq!(
        error_with("command = '/bin/x'"),
        "dcgi.toml:4:11: `command` = '/bin/x' in route `/x`: expected a list, in brackets"
    );
}

#[test]
fn queue_timeout_has_no_none() {
    assert_eq!(
        error_with("queue_timeout = 'none'"),
        "dcgi.toml:4:17: `queue_timeout` = 'none' in route `/x`: expected a duration such as \"30s\""
    );
}

#[test]
fn less_memory_than_docker_takes_is_refused() {
    assert_eq!(
        error_with("memory = '4MiB'"),
        "dcgi.toml:4:10: `memory` = '4MiB' in route `/x`: expected at least \"6MiB\" or \"none\""
    );
}

#[test]
fn another_containers_network_is_refused() {
    assert_eq!(
        error_with("network = 'container:db'"),
        "dcgi.toml:4:11: `network` = 'container:db' in route `/x`: expected \"none\", \"bridge\", \"host\" or the name of \
         a network"
    );
}

#[test]
fn a_user_has_at_most_two_parts_and_none_is_empty() {
    for user in ["", ":", "a:", ":b", "a:b:c", "a b"] {
        assert!(error_with(&format!("user = '{user}'")).contains("expected a user"), "{user}");
    }
}

#[test]
fn no_list_of_headers_lets_a_plain_name_through() {
    assert_eq!(
        error_with("allow_headers = ['Proxy']"),
        "dcgi.toml:4:18: `allow_headers` has 'Proxy' in route `/x`: expected a header name with a character outside \
         A-Z, a-z, 0-9 and -, such as \"X_Api_Key\""
    );
}

#[test]
fn a_path_mounted_twice_is_refused() {
    assert_eq!(
        error_with("volumes = ['./t:/tmp']"),
        "dcgi.toml:4:11: `volumes` = ['./t:/tmp'] in route `/x`: `/tmp` is mounted twice; `volumes`, `tmpfs` and \
         the sockets of `connect` share no path"
    );
    assert_eq!(route_with("volumes = ['./t:/tmp']\ntmpfs = []").program.volumes.len(), 1);
}

// === raw routes ===

#[test]
fn a_raw_route_has_a_content_type_and_streams() {
    let route = route_with("output = 'raw'\ncontent_type = 'text/plain'");
    assert_eq!(route.output, Output::Raw { content_type: Some("text/plain".to_owned()) });
    assert_eq!(route.request_body, RequestBody::Stream);
}

#[test]
fn a_raw_route_that_says_spool_is_refused() {
    assert_eq!(
        error_with("output = 'raw'\nrequest_body = 'spool'"),
        "dcgi.toml:5:16: `request_body` = 'spool' in route `/x`: a route with `output = \"raw\"` always streams"
    );
}

#[test]
fn a_content_type_without_raw_is_refused() {
    assert_eq!(
        error_with("content_type = 'text/plain'"),
        "dcgi.toml:4:16: `content_type` = 'text/plain' in route `/x`: only a route with `output = \"raw\"` has one"
    );
}

#[test]
fn a_content_type_never_holds_a_second_header() {
    assert!(error_with("output = 'raw'\ncontent_type = \"a/b\\r\\nX: y\"").contains("expected a type"));
}

#[test]
fn a_default_content_type_is_for_the_raw_routes() {
    let text =
        format!("[defaults]\ncontent_type = 'a/b'\n{ROUTE}{}output = 'raw'\n", ROUTE.replace("/x", "/y"));
    let routes = parse(&text).unwrap().routes;
    assert_eq!(routes[0].program().unwrap().output, Output::Cgi);
    assert_eq!(routes[1].program().unwrap().output, Output::Raw { content_type: Some("a/b".to_owned()) });
}

// === defaults ===

#[test]
fn defaults_stand_under_every_route_and_the_route_wins() {
    let text = format!("[defaults]\nqueue = 7\npids = 3\n{ROUTE}pids = 4\n");
    let route = route(&text);
    assert_eq!((route.limits.queue, route.program.pids), (7, Some(4)));
}

#[test]
fn a_route_can_lift_a_limit_of_the_defaults() {
    assert_eq!(route(&format!("[defaults]\nmemory = '8MiB'\n{ROUTE}memory = 'none'\n")).program.memory, None);
}

#[test]
fn the_environment_is_merged_key_by_key() {
    let route = route(&format!("[defaults.env]\nA = '1'\nB = '2'\n{ROUTE}env = {{ B = '3', C = '4' }}\n"));
    let env: Vec<_> = route.program.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["A=1", "B=3", "C=4"]);
}

#[test]
fn lists_are_replaced() {
    let route = route(&format!("[defaults]\ntmpfs = ['/a', '/b']\n{ROUTE}tmpfs = ['/c']\n"));
    assert_eq!(route.program.tmpfs, ["/c"]);
}

#[test]
fn a_problem_of_the_defaults_is_told_once_however_many_routes_there_are() {
    let text = format!("[defaults]\ntimeout = 1\n{ROUTE}{}", ROUTE.replace("/x", "/y"));
    assert_eq!(
        errors(&text),
        [
            "dcgi.toml:2:11: `timeout` = 1 in [defaults]: expected a duration with its unit; write \"1s\" or \"none\""
        ]
    );
}

#[test]
fn what_is_a_routes_own_is_no_default() {
    for line in ["path = '/x'", "host = 'h'", "command = []", "entrypoint = []"] {
        let key = line.split(' ').next().unwrap();
        assert_eq!(
            errors(&format!("[defaults]\n{line}\n{ROUTE}")),
            [format!("dcgi.toml:2:1: `{key}` in [defaults] is out of place: each route has its own")]
        );
    }
}

#[test]
fn an_image_of_the_defaults_is_for_routes_without_an_image_or_a_root_directory_of_their_own() {
    let text = format!(
        "[defaults]\nimage = 'base'\n{ROUTE}[[route]]\npath = '/y'\n\
         [[route]]\npath = '/z'\nrootfs = '/'\ncommand = ['/bin/x']\n"
    );
    let programs = parse(&text).unwrap().routes.into_iter().map(|route| {
        let program = route.program().unwrap().program.clone();
        (program.image, program.rootfs.is_some())
    });
    let expected = [("i".to_owned(), false), ("base".to_owned(), false), (String::new(), true)];
    assert_eq!(programs.collect::<Vec<_>>(), expected);
}

#[test]
fn the_defaults_have_an_image_or_a_root_directory() {
    let text = "[defaults]\nimage = 'i'\nrootfs = '/'\n[[route]]\npath = '/x'\n";
    assert_eq!(
        errors(text)[0],
        "dcgi.toml:3:10: `rootfs` = '/' in [defaults]: routes have an image or a root directory by default, not both"
    );
}

// === the environment ===

#[test]
fn variables_of_dcgis_own_are_passed_by_name_and_only_where_they_are_set() {
    let route = route_with("pass_env = ['TZ', 'UNSET']");
    assert_eq!(route.program.env, [("TZ".to_owned(), "Europe/Paris".to_owned())].into());
}

#[test]
fn a_variable_written_out_wins_over_one_passed() {
    let route = route_with("pass_env = ['TZ']\nenv = { TZ = 'UTC' }");
    assert_eq!(route.program.env["TZ"], "UTC");
}

#[test]
fn a_variable_that_is_no_string_is_told_to_be_quoted() {
    assert_eq!(
        error_with("env = { PORT = 8080 }"),
        "dcgi.toml:4:16: `env.PORT` = 8080 in route `/x`: expected a string; a string is quoted: \"8080\""
    );
    assert_eq!(
        error_with("[route.env]\nDEBUG = true"),
        "dcgi.toml:5:9: `env.DEBUG` = true in route `/x`: expected a string; a string is quoted: \"true\""
    );
}

#[test]
fn a_variables_name_is_not_empty_and_has_no_equals_sign() {
    for (line, name) in [("env = { 'A=B' = 'c' }", "A=B"), ("env = { '' = 'c' }", "")] {
        assert_eq!(
            error_with(line),
            format!(
                "dcgi.toml:4:9: `env` has the name {name:?} in route `/x`: expected a variable's name, not empty and \
                 without = and NUL"
            )
        );
    }
    assert!(error_with("pass_env = ['A=B']").contains("expected a variable's name"));
}

#[test]
fn a_variable_of_the_requests_own_is_refused() {
    assert_eq!(
        error_with("env = { CONTENT_LENGTH = '5' }"),
        "dcgi.toml:4:9: `env` has the name \"CONTENT_LENGTH\" in route `/x`: it is each request's own, and set for it; \
         leave it out"
    );
    for name in ["CONTENT_TYPE", "PATH_INFO", "QUERY_STRING", "REQUEST_METHOD", "REMOTE_ADDR", "SERVER_NAME"]
    {
        assert!(error_with(&format!("env = {{ {name} = 'x' }}")).contains("each request's own"), "{name}");
        assert!(error_with(&format!("pass_env = ['{name}']")).contains("each request's own"), "{name}");
    }
    assert!(error_with("env = { SCRIPT_FILENAME = '/x' }").ends_with("write `script_filename`"));
}

#[test]
fn a_variable_that_requests_may_leave_unset_may_be_configured() {
    let route = route_with(
        "env = { REMOTE_USER = 'guest', HTTPS = 'on', HTTP_ACCEPT = '*/*', REDIRECT_STATUS = '1' }",
    );
    assert_eq!(route.program.env.len(), 4);
}

// === the guide ===

const GUIDE: &str = include_str!("../../docs/configuration.md");

/// The files in the guide.
fn examples() -> Vec<&'static str> {
    GUIDE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_example_of_the_guide_is_a_whole_and_valid_file() {
    for example in examples() {
        parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}

#[test]
fn the_defaults_that_the_guide_writes_out_change_nothing() {
    let examples = examples();
    assert_eq!(parse(examples.first().unwrap()).unwrap(), parse(examples.last().unwrap()).unwrap());
}

#[test]
fn the_guide_explains_every_key() {
    let problems = Problems::of("");
    let document = DeTable::new();
    let context = route::Context {
        base: Path::new("/"),
        file: Path::new("/x"),
        environment: &|_| None,
        problems: &problems,
    };
    let mut section = Section::new(&document, String::new(), &problems);
    Config::read_top_level(&mut Config::read(&document, &context), &mut section, Path::new("/"));
    let (_, route_keys) = route::routes(EngineChoice::Auto, &document, &[], &[], &context);
    let (tables, later) = GUIDE.split_once("## Not yet").unwrap();
    for key in section.asked().iter().chain(&route_keys) {
        assert!(
            tables.contains(&format!("\n| `{key}` |")) || later.contains(&format!("`{key}")),
            "{key} is not in the guide"
        );
    }
}

mod served;
