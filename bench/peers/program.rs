//! The programs that are served, as files that a server without containers executes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stage::Stage;
use super::tool;

const PERL: &str = "#!/usr/bin/perl\nuse strict;\nuse warnings;\n\
                    print \"Content-Type: text/plain\\n\\nHello from Perl!\\n\";\n";

/// They say their interpreter and what is called in it, as files with `#!` do. Settings are nobody's: `-n`.
const PHP: &str = "<?php\nheader(\"Content-Type: text/plain\");\necho \"Hello from PHP!\\n\";\n";

/// Static, in C: name, source, flags.
const STATIC: [(&str, &str, &[&str]); 4] = [
    ("hello", "cgi-images/hello/hello.c", &[]),
    ("stream", "bench/peers/stream.c", &[]),
    ("echo", "bench/peers/echo.c", &[]),
    ("late-echo", "bench/peers/echo.c", &["-DLATE"]),
];

/// A folder of programs, and their interpreters.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) folder: PathBuf,
    pub(crate) perl: PathBuf,
    pub(crate) php: PathBuf,
    /// Whether php-cgi finds its libraries by itself.
    php_is_complete: bool,
}

impl Programs {
    pub(crate) fn build(stage: &Stage) -> Self {
        let folder = stage.path("cgi");
        fs::create_dir(&folder).unwrap();
        for (name, source, flags) in STATIC {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
            // As the image dcgi/hello is built.
            let mut compiler = Command::new("cc");
            compiler
                .args(["-std=gnu11", "-Os", "-s", "-static"])
                .args(flags)
                .arg("-o")
                .arg(folder.join(name));
            tool::output(compiler.arg(source));
        }
        let perl = PathBuf::from("/usr/bin/perl");
        let php = tool::find(&["usr/bin/php-cgi8.2"]).expect("no php-cgi: run bench/prerequisites");
        write_script(&folder.join("hello.pl"), PERL);
        write_script(&folder.join("hello.php"), &format!("#!{} -n\n{PHP}", php.display()));
        let listed = tool::output(Command::new("ldd").arg(&php));
        Self { folder, perl, php, php_is_complete: !listed.contains("not found") }
    }

    /// Names of the static ones.
    pub(crate) fn binaries() -> impl Iterator<Item = &'static str> {
        STATIC.iter().map(|(name, ..)| *name)
    }

    /// PHP as a container has it: the interpreter is said by the container.
    pub(crate) fn php_script() -> &'static str {
        PHP
    }

    /// Has a server hand on to its programs where unpacked libraries are, if one of them cannot do without.
    pub(crate) fn tell_libraries(&self, server: &mut Command) {
        if !self.php_is_complete {
            server.env("LD_LIBRARY_PATH", tool::library_path());
        }
    }
}

pub(crate) fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
