//! Directories that are served, and what stands around a route.

use super::*;

const ROUTE2: &str = "[[route]]\npath = '/y'\nimage = 'i'\n";

// === directories of scripts ===

const SCRIPTS: &str = "[[route]]\npath = '/x'\nrootfs = '/'\nscripts = './cgi'\n";

#[test]
fn a_directory_of_scripts_begins_where_the_file_is_and_is_mounted_at_its_own_path() {
    let lines = "index = ['a.cgi']\nhandlers = { '.PL' = ['/usr/bin/perl', '-w'], '.cgi' = [] }\n";
    let RouteKind::Scripts(route) = whole_route(&format!("{SCRIPTS}{lines}")).kind else {
        panic!("it is another kind");
    };
    assert_eq!(route.directory, Path::new("/etc/dcgi/cgi"));
    assert_eq!(route.index, ["a.cgi"]);
    let handler = |ending: &str| route.handlers[ending].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(handler(".pl"), ["/usr/bin/perl", "-w"]);
    assert_eq!(handler(".cgi"), [""; 0]);
    let source = route.directory.clone();
    assert_eq!(
        route.program.program.volumes,
        [Volume::Bind { source, target: "/etc/dcgi/cgi".into(), read_only: true }]
    );
}

#[test]
fn handlers_of_the_defaults_are_those_of_each_directory_and_a_route_adds_to_them() {
    let text = format!(
        "[defaults]\nindex = ['i']\nhandlers = {{ '.a' = ['/a'], '.b' = ['/b'] }}\n{SCRIPTS}handlers = {{ '.b' = ['/c'] }}\n{ROUTE2}"
    );
    let routes = parse(&text).unwrap().routes;
    let RouteKind::Scripts(route) = &routes[0].kind else { panic!("it is another kind") };
    assert_eq!((&route.handlers[".a"][0], &route.handlers[".b"][0]), (&"/a".to_owned(), &"/c".to_owned()));
    assert_eq!(route.index, ["i"]);
    assert!(matches!(routes[1].kind, RouteKind::Program(_)), "it has no scripts");
}

#[test]
fn what_a_directory_of_scripts_has_no_use_for_is_refused() {
    let error = |lines: &str| {
        let errors = errors(&format!("{SCRIPTS}{lines}"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors[0].clone()
    };
    for (line, why) in [
        ("entrypoint = ['/x']", "each script is a program"),
        ("command = ['/x']", "each script is a program"),
        ("script_filename = '/x'", "names each script itself"),
        ("working_dir = '/x'", "the directory that it lies in"),
        ("volumes = ['./v:/etc/dcgi/cgi']", "is mounted by `volumes` or `tmpfs` too"),
        ("index = ['a/b']", "expected the name of a file"),
        ("index = ['.htaccess']", "expected the name of a file"),
        ("handlers = { 'pl' = [] }", "expected how names end"),
        ("handlers = { '.tar.gz' = [] }", "expected how names end"),
        ("handlers = { '.pl' = '/usr/bin/perl' }", "expected a list such as"),
    ] {
        assert!(error(line).contains(why), "{line}: {}", error(line));
    }
    assert!(error_with("index = ['x']").contains("only a route with `scripts` or `static` has it"));
    assert!(error_with("handlers = { '.x' = [] }").contains("only a route with `scripts` has it"));
    let in_image = |lines: &str| {
        format!("[[route]]\npath = '/x'\nimage = 'x'\nscripts = 'image:/usr/lib/./cgi-bin/'\n{lines}")
    };
    let RouteKind::Scripts(route) =
        whole_route(&in_image("index = ['i']\nrewrite = [{ when = 'not-a-file', to = '/i' }]")).kind
    else {
        panic!("it has scripts");
    };
    assert!(route.is_in_image && route.program.program.volumes.is_empty());
    assert_eq!(
        (&*route.directory, route.index.len(), route.rewrite.len()),
        (Path::new("/usr/lib/cgi-bin"), 1, 1)
    );
    for (lines, why) in [
        ("static = './htdocs'", "files are sent from directories of this machine alone"),
        ("volumes = ['./x:/usr/lib']", "mount something there: name the directory of this machine"),
        ("tmpfs = ['/usr/lib/cgi-bin/']", "mount something there: name the directory of this machine"),
        ("command = ['x']", "each script is a program"),
    ] {
        let found = errors(&in_image(lines));
        assert!(found.iter().any(|found| found.contains(why)), "{lines}: {found:?}");
    }
    let route = whole_route(&format!(
        "{SCRIPTS}sendfile = './private:/protected'\nconnect = ['localhost:1=db:2', 'unix:/run/x=unix:/run/y']"
    ));
    let sendfile = route.sendfile.clone().unwrap();
    assert_eq!((&*sendfile.directory, &*sendfile.called), (Path::new("/etc/dcgi/private"), "/protected"));
    let connect = &route.program().unwrap().program.connect;
    let shown: Vec<_> = connect.iter().map(|one| format!("{} {}", one.inside, one.outside)).collect();
    assert_eq!(shown, ["127.0.0.1:1 db:2", "unix:/run/x unix:/run/y"]);
    for (text, why) in [
        (format!("{SCRIPTS}sendfile = '.'"), "this file is in it"),
        (
            format!("{SCRIPTS}sendfile = './private'\nauth = {{ basic = './private/users' }}"),
            "lies in the directory that route `/x` serves",
        ),
        (format!("{SCRIPTS}connect = ['localhost:1=db:2', '127.0.0.1:1=db:3']"), "leads to two places"),
        (format!("{SCRIPTS}connect = ['unix:/tmp=db:2']"), "`/tmp` is mounted twice"),
        (
            format!("{SCRIPTS}network = 'host'\nconnect = ['localhost:1=db:2']"),
            "is for programs without a network",
        ),
        (
            format!("[defaults]\nnetwork = 'host'\nconnect = ['localhost:1=db:2']\n{SCRIPTS}"),
            "is for programs without a network",
        ),
    ] {
        let found = errors(&text);
        assert!(found.iter().any(|found| found.contains(why)), "{text}: {found:?}");
    }
    assert!(error_with("scripts = 'image:usr'").contains("by its path in the image"));
    assert!(error_with("scripts = 'image:/'").contains("an absolute one, in UTF-8, and not"));
    let sent = errors("[[route]]\npath = '/x'\nstatic = 'image:/usr'\n");
    assert!(sent[0].contains("files are sent from directories of this machine alone"), "{sent:?}");
}

// === directories of files ===

#[test]
fn a_directory_of_files_needs_no_image() {
    let lines = "[[route]]\npath = '/s'\nstatic = './public'\nindex = ['i']\nautoindex = true\nuser = 'x'\n";
    let RouteKind::Files(files) = whole_route(lines).kind else { panic!("it is another kind") };
    assert_eq!(
        files,
        crate::site::FilesRoute {
            directory: "/etc/dcgi/public".into(),
            index: vec!["i".into()],
            autoindex: true,
            user: Some("x".into()),
            debug_errors: false,
        }
    );
}

#[test]
fn files_and_scripts_lie_in_one_directory() {
    let text =
        "[[route]]\npath = '/'\nimage = 'i'\nstatic = './w'\nscripts = 'w'\nhandlers = { '.cgi' = [] }\n";
    let RouteKind::Scripts(route) = whole_route(text).kind else { panic!("it is another kind") };
    assert!(route.sends_files && !route.autoindex);
}

#[test]
fn what_makes_no_sense_of_files_is_refused() {
    let files = "[[route]]\npath = '/s'\nstatic = './w'\n";
    for (text, why) in [
        (
            format!("{files}image = 'i'"),
            "`image` = 'i' in route `/s`: a route with `static` alone runs nothing",
        ),
        (format!("{files}memory = '64MiB'"), "a route with `static` alone runs nothing"),
        (format!("{files}handlers = {{ '.x' = [] }}"), "only a route with `scripts` has it"),
        (
            format!("{files}scripts = './v'\nimage = 'i'\nhandlers = {{ '.x' = [] }}"),
            "`scripts` is another directory",
        ),
        (format!("{files}scripts = './w'\nimage = 'i'"), "`handlers` say which files are scripts"),
        (
            format!("{files}scripts = './w'\nhandlers = {{ '.x' = [] }}"),
            "no `image` or `rootfs` in route `/s`",
        ),
        (format!("{ROUTE}autoindex = true"), "only a route with `static` has it"),
        (format!("[defaults]\nstatic = './w'\n{ROUTE}"), "`static` in [defaults] is out of place"),
        (format!("[defaults]\nscripts = './w'\n{ROUTE}"), "`scripts` in [defaults] is out of place"),
        // The file itself would be sent.
        ("[[route]]\npath = '/s'\nstatic = '.'".to_owned(), "this file is in it"),
        ("[[route]]\npath = '/s'\nstatic = '/etc'".to_owned(), "this file is in it"),
        ("[[route]]\npath = '/s'\nstatic = '/'".to_owned(), "this file is in it"),
        (format!("{ROUTE}scripts = '../dcgi'"), "this file is in it"),
    ] {
        let errors = errors(&text);
        assert!(errors.len() == 1 && errors[0].contains(why), "{text}: {errors:?}");
    }
}

// === what stands around ===

#[test]
fn a_redirect_needs_no_image() {
    let text = "[[route]]\npath = '/old'\nredirect = 'https://new.example/{path}'\nstatus = 308\n";
    let RouteKind::Redirect(redirect) = whole_route(text).kind else { panic!("it is another kind") };
    assert_eq!((&*redirect.to, redirect.status), ("https://new.example/{path}", 308));
}

#[test]
fn who_may_is_read_with_what_every_answer_has() {
    let route = whole_route(&format!(
        "{ROUTE}allow_from = ['10.0.0.0/8', '::1']\nrate_limit = '20/m/100'\ncompress = true\n\
         auth = {{ basic = './users', groups = '/g', realm = 'Staff', require = ['ada', '@ops'] }}\n\
         headers = {{ X-Frame-Options = 'DENY' }}\nerror_pages = {{ 404 = '/errors/404.html', 502 = '/down.cgi?x' }}\n"
    ));
    let limit = route.access.rate_limit.unwrap();
    assert_eq!((limit.requests.get(), limit.per.as_secs(), limit.burst.get()), (20, 60, 100));
    assert_eq!(route.access.allow_from.len(), 2);
    let auth = route.access.auth.unwrap();
    assert_eq!((auth.file, auth.groups), (PathBuf::from("/etc/dcgi/users"), Some(PathBuf::from("/g"))));
    assert_eq!((&*auth.realm, auth.require), ("Staff", vec!["ada".to_owned(), "@ops".to_owned()]));
    assert_eq!(route.headers["x-frame-options"], "DENY");
    assert_eq!(route.error_pages[&502], "/down.cgi?x");
    assert!(route.compress);
}

#[test]
fn what_stands_around_is_refused_with_what_it_could_be() {
    for (line, why) in [
        ("redirect = 'ftp://x/'", "expected a URL such as"),
        ("redirect = '//evil'", "expected a URL such as"),
        ("redirect = 'x'", "expected a URL such as"),
        ("redirect = 'https://{path}/'", "expected a URL such as"),
        ("redirect = 'https://x{path}'", "expected a URL such as"),
        ("redirect = 'https://x/{paht}'", "in braces it knows {path} and {host} alone"),
        ("status = 301", "only a route with `redirect` has it"),
        ("rewrite = [{ when = 'not-a-file', to = '/i' }]", "only a route with `scripts` has it"),
        ("allow_from = ['10.0.0.0/33']", "expected a network or an address"),
        ("rate_limit = '20'", "expected requests in a second"),
        ("rate_limit = '0/s'", "expected requests in a second"),
        ("rate_limit = '20/d'", "expected requests in a second"),
        ("rate_limit = '20/s/1/1'", "expected requests in a second"),
        ("rate_limit = '1/h/4294967295'", "expected requests in a second"),
        ("allow_from = []", "nobody could come in"),
        ("allow_from = ['::ffff:192.0.2.0/120']", "IPv4 written as IPv4"),
        ("redirect = '/\\evil'", "expected a URL such as"),
        ("headers = { Content-Encoding = 'gzip' }", "it says how an answer is to be read"),
        ("auth = './users'", "expected a table such as { basic"),
        ("auth = { basic = '' }", "its `basic` is a file's path"),
        ("auth = { realm = 'x' }", "it has no `basic`"),
        ("auth = { basic = 'u', relam = 'x' }", "it has the key `relam`"),
        ("auth = { basic = 'u', realm = 'a\"b' }", "its `realm` is plain text"),
        ("auth = { basic = 'u', require = 'x' }", "its `require` is a list"),
        ("auth = { basic = 'u', require = ['@ops'] }", "there is no file of `groups`"),
        ("headers = { 'a b' = 'x' }", "expected a header's name"),
        ("headers = { Content-Length = '1' }", "it says how an answer is to be read"),
        ("headers = { X = \"a\\nb\" }", "expected a header's value, in one line"),
        ("error_pages = { 200 = '/x' }", "expected a status from 400 to 599"),
        ("error_pages = { 404 = 'https://x/' }", "expected a path of this site"),
        ("error_pages = { 404 = '//x' }", "expected a path of this site"),
        ("compress = 'yes'", "expected true or false"),
        ("sendfile = ''", "expected a directory such as"),
        ("sendfile = './x:protected'", "expected a directory such as"),
        ("sendfile = './x:/a/../b'", "expected a directory such as"),
    ] {
        let error = errors(&format!("{ROUTE}{line}"));
        assert!(error.iter().any(|error| error.contains(why)), "{line}: {error:?}");
    }
    for (line, is_refused) in [
        ("auth = { basic = './cgi/users' }", true),
        ("auth = { basic = './cgi/.htpasswd' }", false),
        ("auth = { basic = './users', groups = './cgi/groups' }", true),
    ] {
        let text = format!("{SCRIPTS}{line}");
        let said = parse(&text).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            said.contains("lies in the directory that route `/x` serves"),
            is_refused,
            "{line}: {said}"
        );
    }
    // Whoever's they are, and wherever that is said.
    let other = "[[route]]\npath = '/staff'\nimage = 'x'\n";
    for text in [
        format!("{SCRIPTS}\n{other}auth = {{ basic = './cgi/users' }}"),
        format!("[defaults]\nauth = {{ basic = './cgi/users' }}\n{SCRIPTS}\n{other}"),
    ] {
        let found = errors(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("cgi/users lies in the directory that route `/x` serves"), "{found:?}");
    }
    let rewriting = |entry: &str| {
        let error = errors(&format!("{SCRIPTS}rewrite = [{entry}]"));
        assert_eq!(error.len(), 1, "{error:?}");
        error[0].clone()
    };
    for (entry, why) in [
        ("'x'", "expected a table such as { when"),
        ("{ to = '/i' }", "its `when` can be \"not-a-file\" alone"),
        ("{ when = 'never', to = '/i' }", "its `when` can be \"not-a-file\" alone"),
        ("{ when = 'not-a-file' }", "its `to` is a path in the directory"),
        ("{ when = 'not-a-file', to = 'i' }", "its `to` is a path in the directory"),
        ("{ when = 'not-a-file', to = '/i?x' }", "its `to` is a path in the directory"),
        ("{ when = 'not-a-file', to = '/{x}' }", "in braces it knows {path} alone"),
        ("{ when = 'not-a-file', to = '/i', or = 1 }", "it has the key `or`"),
    ] {
        assert!(rewriting(entry).contains(why), "{entry}: {}", rewriting(entry));
    }
    // Together they make no sense.
    let redirecting = "[[route]]\npath = '/x'\nredirect = '/y'\n";
    for line in ["image = 'i'", "static = './w'", "index = ['i']", "memory = '64MiB'"] {
        let errors = errors(&format!("{redirecting}{line}"));
        assert!(errors.len() == 1 && errors[0].contains("sends clients on, and nothing else"), "{errors:?}");
    }
}
