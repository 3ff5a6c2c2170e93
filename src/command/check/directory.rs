//! What can be seen of a directory that is served: whether it is one, and which of its scripts could not be executed.

use std::fs;
use std::path::{Path, PathBuf};

use dcgi::engine::embedded::RootUser;
use dcgi::engine::{Program, Volume};
use dcgi::site::{FilesRoute, ScriptsRoute};

use super::script;

/// How many files are looked at, and how many of them are told of.
const MOST_LOOKED_AT: usize = 10_000;
const MOST_TOLD: usize = 20;

/// Why requests for a directory's files would fail: each as a sentence.
pub(super) fn problems(route: &FilesRoute) -> Option<String> {
    is_none(&route.directory, "static")
}

/// Why scripts could not be executed. `user` is who they run as, where that is known.
pub(super) fn problems_of_scripts(route: &ScriptsRoute, user: Option<&RootUser>) -> Vec<String> {
    let program = &route.program.program;
    // What is in an image nobody knows who has not looked for it.
    let directory = match (route.is_in_image, &program.rootfs) {
        (false, _) => Some(route.directory.clone()),
        (true, root) => {
            root.as_ref().map(|root| root.join(route.directory.strip_prefix("/").unwrap_or(&route.directory)))
        }
    };
    let problem = directory.as_deref().and_then(|directory| match fs::symlink_metadata(directory) {
        Err(error) if route.is_in_image => {
            Some(format!("`scripts` names {}, which cannot be had: {error}", directory.display()))
        }
        _ => is_none(directory, "scripts"),
    });
    if let Some(problem) = problem {
        return vec![problem];
    }
    let mut problems = Vec::new();
    for (ending, handler) in &route.handlers {
        let Some(name) = handler.first() else { continue };
        let found = match is_missing(program, name) {
            true => vec![format!("the program {name} is not there")],
            false => script::problems(&executing(program, name), user),
        };
        problems.extend(found.into_iter().map(|problem| format!("in `handlers`, for {ending}: {problem}")));
    }
    // Those in there are packages', as a rule, and by their links not to be judged from outside.
    let mut files = if route.is_in_image { Vec::new() } else { files(&route.directory) };
    files.sort();
    let mut told = 0;
    for file in &files {
        let ending = file
            .extension()
            .and_then(|ending| ending.to_str())
            .map(|ending| format!(".{}", ending.to_lowercase()));
        let handler = ending.and_then(|ending| route.handlers.get(&ending));
        // Another program reads it, or the client does.
        if handler.is_some_and(|handler| !handler.is_empty()) || handler.is_none() && route.sends_files {
            continue;
        }
        let Some(name) = file.to_str() else { continue };
        // One is enough to have it looked at.
        for problem in script::problems(&executing(program, name), user).into_iter().take(1) {
            told += 1;
            if told <= MOST_TOLD {
                problems.push(problem);
            }
        }
    }
    if told > MOST_TOLD {
        problems.push(format!("{} more of its scripts cannot be executed either", told - MOST_TOLD));
    }
    problems
}

/// Whether a program is seen not to be in the root directory, nor in a volume.
fn is_missing(program: &Program, name: &str) -> bool {
    let Some(root) = &program.rootfs else { return false };
    let in_volume = |volume: &Volume| {
        let (Volume::Bind { target, .. } | Volume::Named { target, .. }) = volume;
        Path::new(name).starts_with(target)
    };
    // A link may lead to what is there in the container alone.
    let is_there = |below| fs::symlink_metadata(root.join(below)).is_ok();
    name.strip_prefix('/').is_some_and(|below| !is_there(below)) && !program.volumes.iter().any(in_volume)
}

fn executing(program: &Program, name: &str) -> Program {
    Program { entrypoint: Some(vec![name.to_owned()]), command: None, ..program.clone() }
}

/// Why a directory is none. That it is not there is said of every mount.
fn is_none(directory: &Path, key: &str) -> Option<String> {
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => {
            Some(format!("`{key}` names {shown}, which is a file: expected a directory"))
        }
        Ok(_) => None,
        Err(error) if key == "static" => Some(format!("`{key}` names {shown}, which cannot be had: {error}")),
        Err(_) => None,
    }
}

/// The files below a directory, but for hidden ones. Links are not followed.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if files.len() >= MOST_LOOKED_AT {
                return files;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if entry.file_name().to_str().is_none_or(|name| name.starts_with('.')) {
                continue;
            }
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files
}
