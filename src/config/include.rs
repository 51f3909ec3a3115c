//! Which files the patterns of `[include] channels` name. Called by the loader.
//!
//! The walk is vitald's own: the one of the `glob` crate panics on a name that is not
//! UTF-8, and finds nothing where there is nothing without saying so.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::files::{LoadProgress, plain_error};
use crate::channel::violation::quoted;

const WILDCARDS: [char; 3] = ['*', '?', '['];

const OPTIONS: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Why a pattern cannot be followed, and what to do about it; one line each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IncludeProblem {
    pub(super) message: String,
    pub(super) remedy: &'static str,
}

/// What the patterns of a configuration name.
#[derive(Debug, Default)]
pub(super) struct Includes {
    /// The files, in no order; a file that two patterns name is here twice.
    pub(super) files: Vec<PathBuf>,
    /// What is no mistake but may not be meant; one line each.
    pub(super) notes: Vec<String>,
    /// What is being read.
    pub(super) progress: LoadProgress,
}

impl Includes {
    /// Adds the files that a pattern names, hidden ones and what is neither `.toml` nor
    /// `.json`, such as an editor's backup, passed over.
    ///
    /// # Errors
    /// What the pattern names without wildcards is not there, or a directory cannot be
    /// read.
    pub(super) fn add(&mut self, pattern: &str, base: &Path) -> Result<(), IncludeProblem> {
        let Some(wild) = pattern.find(WILDCARDS) else {
            if !is_channel_file(Path::new(pattern)) {
                return Err(IncludeProblem {
                    message: format!("{} is neither a .toml nor a .json file", quoted(pattern)),
                    remedy: "rename the file by what it holds",
                });
            }
            self.files.push(base.join(pattern));
            return Ok(());
        };
        let fixed = pattern.get(..wild).and_then(|before| before.rfind('/')).map_or(0, |slash| slash + 1);
        let (fixed, rest) = pattern.split_at(fixed);
        let directory = base.join(fixed);
        self.progress.begin(or_here(&directory));
        judge_directory(pattern, &directory)?;
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let before = self.files.len();
        self.walk(&directory, &parts)?;
        if self.files.len() == before {
            self.notes.push(format!("{} names no .toml or .json file", quoted(pattern)));
        }
        Ok(())
    }

    /// Follows the parts of a pattern from a directory. `**` stands for any number of
    /// directories, links to directories left out: they may lead in a circle.
    fn walk(&mut self, directory: &Path, parts: &[&str]) -> Result<(), IncludeProblem> {
        let Some((&part, rest)) = parts.split_first() else { return Ok(()) };
        let is_deep = part == "**";
        if is_deep {
            self.walk(directory, rest)?;
        } else if !part.contains(WILDCARDS) {
            let path = directory.join(part);
            match rest {
                [] if path.symlink_metadata().is_ok() && is_channel_file(&path) => self.files.push(path),
                [] => {}
                _ if path.is_dir() => self.walk(&path, rest)?,
                _ => {}
            }
            return Ok(());
        }
        let pattern = glob::Pattern::new(part).map_err(|error| IncludeProblem {
            message: format!("{} is no file pattern: {}", quoted(part), error.msg),
            remedy: "write a path with `*`, `?` and [sets], such as \"channels.d/*.toml\"",
        })?;
        let unreadable = |error: io::Error| IncludeProblem {
            message: format!("cannot look into {}: {}", shown(directory), plain_error(&error)),
            remedy: "make the directory readable to the daemon",
        };
        self.progress.begin(or_here(directory));
        for entry in fs::read_dir(or_here(directory)).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // Not the entry's own path: that of a directory "" begins with "./".
            let path = directory.join(&name);
            let Some(name) = name.to_str() else {
                self.notes.push(format!("{} is passed over: its name is not UTF-8", shown(&path)));
                continue;
            };
            if !is_deep && !pattern.matches_with(name, OPTIONS) {
                continue;
            }
            match (is_deep, rest) {
                (true, _) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => self.walk(&path, parts)?,
                (false, []) if is_channel_file(&path) => self.files.push(path),
                (false, [_, ..]) if path.is_dir() => self.walk(&path, rest)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A pattern that begins where nothing is names nothing for good: the volume is not
/// mounted, or the path is mistyped.
fn judge_directory(pattern: &str, directory: &Path) -> Result<(), IncludeProblem> {
    let directory = or_here(directory);
    let problem = match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "is not a directory".to_owned(),
        Err(error) => match error.kind() {
            ErrorKind::NotADirectory => "is not a directory".to_owned(),
            ErrorKind::NotFound if is_link(directory) => "is a link to nowhere".to_owned(),
            ErrorKind::NotFound => "does not exist".to_owned(),
            _ => format!("cannot be looked into: {}", plain_error(&error)),
        },
    };
    let message = format!("{} names nothing: {} {problem}", quoted(pattern), shown(directory));
    let remedy = match pattern.starts_with('~') || pattern.contains('$') {
        true => "write the whole path; `~` and variables are not replaced",
        false => "make the directory, or mount it, or correct the path, which is relative to this file",
    };
    Err(IncludeProblem { message, remedy })
}

/// Whether the path itself, a `/` at its end apart, is a link.
fn is_link(path: &Path) -> bool {
    path.components().collect::<PathBuf>().is_symlink()
}

fn shown(path: &Path) -> String {
    quoted(&path.components().collect::<PathBuf>().to_string_lossy())
}

/// The empty path is the directory that the process is in.
fn or_here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

pub(super) fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn is_channel_file(path: &Path) -> bool {
    is_json(path) || path.extension().is_some_and(|extension| extension == "toml")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn found(pattern: &str, base: &Path) -> Result<(Vec<String>, usize), String> {
        let mut includes = Includes::default();
        includes.add(pattern, base).map_err(|problem| problem.message)?;
        let name = |path: &PathBuf| path.strip_prefix(base).unwrap().display().to_string();
        let mut files: Vec<String> = includes.files.iter().map(name).collect();
        files.sort();
        Ok((files, includes.notes.len()))
    }

    #[test]
    fn patterns_name_files_and_strange_names_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        fs::create_dir_all(base.join("c.d/deep/er")).unwrap();
        fs::create_dir(base.join("empty.d")).unwrap();
        for name in ["c.d/a.toml", "c.d/b.json", "c.d/.h.toml", "c.d/a.toml~", "c.d/deep/er/d.toml"] {
            fs::write(base.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("..", base.join("c.d/deep/circle")).unwrap();
        std::os::unix::fs::symlink("nowhere", base.join("link.d")).unwrap();
        let names = |names: &[&str], notes| Ok((names.iter().map(|&name| name.to_owned()).collect(), notes));
        assert_eq!(found("c.d/*", base), names(&["c.d/a.toml", "c.d/b.json"], 0));
        assert_eq!(found("c.d/[a].toml", base), names(&["c.d/a.toml"], 0));
        assert_eq!(found("*/a.toml", base), names(&["c.d/a.toml"], 0));
        assert_eq!(found("c.d/**/*.toml", base), names(&["c.d/a.toml", "c.d/deep/er/d.toml"], 0));
        assert_eq!(found("empty.d/*", base), names(&[], 1));
        assert_eq!(found("c.d/b.json", base), names(&["c.d/b.json"], 0));

        let stray = base.join(OsStr::from_bytes(b"c.d/\xff.toml"));
        fs::write(stray, "").unwrap();
        fs::write(base.join(OsStr::from_bytes(b"c.d/.\xff.toml")), "").unwrap();
        assert_eq!(found("c.d/*", base), names(&["c.d/a.toml", "c.d/b.json"], 1));

        for (pattern, why) in [
            ("nope.d/*.toml", "does not exist"),
            ("~/c.d/*.toml", "does not exist"),
            ("link.d/*.toml", "is a link to nowhere"),
            ("c.d/a.toml/*.toml", "is not a directory"),
        ] {
            let message = found(pattern, base).unwrap_err();
            assert!(message.contains(why) && message.contains(pattern), "{message}");
        }
    }
}
