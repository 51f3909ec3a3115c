//! Which files are read, in which order, and what they are together.
//!
//! The main file is TOML. `[include] channels` names further files, `.toml` or
//! `.json`, one channel each. A file that cannot be parsed never hides the
//! errors of the others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::api::{self, Transport, judge_exposure};
use super::diagnostics::{Diagnostic, Diagnostics, Related, SourceText};
use super::disk::{Disk, LoadContext};
use super::files::{LoadProgress, read_regular_file};
use super::include::{IncludeProblem, Includes, is_json};
use super::secret::SecretPlaces;
use super::settings::{self, Config, FileChannel, Pattern};
use super::{json, toml};
use crate::channel::document::{Kind, Place, Value};
use crate::channel::reader::ViolationLog;
use crate::channel::reader::section::{FieldReader, TableReader};
use crate::channel::reader::{Dialect, read_channel_field};
use crate::channel::violation::quoted;
use crate::channel::{FieldPath, Rule, Violation};

/// Largest configuration file that is read: about a million members, 256 MiB.
pub const LARGEST_FILE: u64 = 256 * 1024 * 1024;

/// Reads the main file and every file it includes.
///
/// # Errors
/// Every error of every file.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    load_watched(path, &LoadProgress::default())
}

/// Like [`load`]. `progress` says at any time which file or directory is being read: one on
/// a dead mount may never be.
///
/// # Errors
/// Every error of every file.
pub fn load_watched(path: &Path, progress: &LoadProgress) -> Result<Config, Diagnostics> {
    let mut loader = Loader::default();
    loader.context.progress = progress.clone();
    let base = path.parent().unwrap_or(Path::new(""));
    if let Some(text) = loader.read_file(path) {
        loader.read_main(text, path, base);
    }
    loader.finish()
}

/// Reads one channel file by itself, as an include is read. Nothing else is known:
/// no addresses of cloud servers, no client certificate of the daemon.
///
/// # Errors
/// Every error of the file.
pub fn load_channel(path: &Path) -> Result<Config, Diagnostics> {
    let mut loader = Loader::default();
    loader.read_channel_file(path);
    loader.finish()
}

/// Reads a main file from memory. `name` stands for its path in errors; paths in
/// it are relative to `base`.
///
/// # Errors
/// Every error of the text and of the files it includes.
pub fn parse(name: &str, text: &str, base: &Path) -> Result<Config, Diagnostics> {
    let mut loader = Loader::default();
    loader.read_main(SourceText::new(name, text), Path::new(name), base);
    loader.finish()
}

/// Reads a text as the included file `path`, which tells its format: for fuzzing,
/// where a file for every input would be most of the work.
///
/// # Errors
/// Every error of the text.
#[cfg(feature = "fuzzing")]
pub fn parse_included(path: &Path, text: &str) -> Result<Config, Diagnostics> {
    let mut loader = Loader::default();
    loader.read_channel(SourceText::new(path.display().to_string(), text), path);
    loader.finish()
}

#[derive(Debug, Default)]
struct Loader {
    sources: Vec<SourceText>,
    errors: Vec<Diagnostic>,
    config: Config,
    context: LoadContext,
    /// Where each channel name was first given.
    names: HashMap<String, (usize, Place)>,
    /// Rules whose breaches may only follow from another error.
    hushed: Vec<Rule>,
}

impl Loader {
    fn finish(mut self) -> Result<Config, Diagnostics> {
        if self.errors.is_empty() {
            Ok(self.config)
        } else {
            self.sources.iter_mut().for_each(SourceText::hide_secrets);
            Err(Diagnostics::new(self.sources, self.errors))
        }
    }

    fn add_source(&mut self, source: SourceText) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    fn report(&mut self, violations: Vec<Violation>, source: usize) {
        let told = violations.into_iter().filter(|violation| !self.hushed.contains(&violation.rule));
        self.errors.extend(told.map(|violation| Diagnostic::of(violation, source)));
    }

    /// A file's text; or none, and why is reported.
    fn read_file(&mut self, path: &Path) -> Option<SourceText> {
        let name = path.display().to_string();
        self.context.progress.begin(path);
        let bytes = match read_regular_file(path, LARGEST_FILE) {
            Ok(bytes) => bytes,
            Err(problem) => {
                let source = self.add_source(SourceText::new(name, ""));
                let message = format!("cannot read the file: {problem}");
                let remedy = "name a file that the daemon may read";
                self.report_problem(source, Rule::BadFile, None, message, remedy);
                return None;
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => Some(SourceText::new(name, text)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let source = self.add_source(SourceText::new(name, text));
                // The replacement character takes three bytes.
                let place = Place { start: at, end: at + 3 };
                let (message, remedy) = ("not UTF-8".to_owned(), "save the file as UTF-8");
                self.report_problem(source, Rule::Syntax, Some(place), message, remedy);
                None
            }
        }
    }

    fn report_problem(
        &mut self,
        source: usize,
        rule: Rule,
        place: Option<Place>,
        message: String,
        remedy: &str,
    ) {
        let (path, remedy) = (FieldPath::default(), remedy.to_owned());
        self.errors.push(Diagnostic { rule, path, message, remedy, place, related: None, source });
    }

    fn read_main(&mut self, text: SourceText, path: &Path, base: &Path) {
        let (document, syntax) = toml::read(text.text());
        let source = self.add_source(text);
        let is_whole = syntax.is_empty();
        self.report(syntax, source);
        let mut log = ViolationLog::new(Dialect::File);
        let Some(root) = TableReader::root(&document, "configuration", &mut log) else { return };
        let disk = Disk { base, context: &self.context };
        let include = settings::read(&root, &disk, &mut self.config, &mut self.hushed, &mut log);
        self.context.daemon_identity.clone_from(&self.config.backend_client_certificate);
        self.context.ecs.clone_from(&self.config.ecs);
        self.context.probe_defaults.clone_from(&self.config.probe_defaults);
        let secrets = SecretPlaces::of_environment(base, self.context.progress.clone());
        self.config.api = api::read(&root, &secrets, &mut log);
        self.judge_exposure(&root, &mut log);
        if self.config.api.is_some() && self.config.server.socket.is_none() {
            self.config.notes.push(
                "[api] without [server] socket: `vitald reload` (use SIGHUP), `export` and `import` go over that \
                 socket, because this machine's users have no account"
                    .to_owned(),
            );
        }
        let mut named = Vec::new();
        if let Some(field) = root.field("channels")
            && let Some(items) = field.items(&mut log)
        {
            for item in items {
                named.extend(name_of(&item));
                let channel = read_channel_field(&item, &Disk { base, context: &self.context }, &mut log);
                self.config.channels.extend(channel.map(|channel| FileChannel::new(channel, path)));
            }
        }
        // Of a file with syntax errors nothing else is reported, but the files that it
        // includes are read.
        if !is_whole {
            // The certificate or address that a channel lacks may stand there.
            self.hushed.extend([Rule::NoClientCertificate, Rule::NoAddress]);
        } else {
            self.report(log.violations, source);
            for (name, place) in named {
                self.claim_name(name, source, place);
            }
        }
        for file in self.included_files(&include, source, path, base) {
            self.read_channel_file(&file);
        }
        self.judge_count(&root, source);
    }

    /// The API on an address that others reach needs TLS and accounts.
    fn judge_exposure(&self, root: &TableReader<'_>, log: &mut ViolationLog) {
        let (Some(api), Some(field)) = (&self.config.api, root.field("api")) else { return };
        let server = &self.config.server;
        let transport = if server.tls.is_some() { Transport::Tls } else { Transport::Plain };
        if let Err(exposure) = judge_exposure(api, server.listen, transport) {
            field.report(Rule::Conflict, exposure.to_string(), exposure.remedy(), log);
        }
    }

    fn read_channel_file(&mut self, path: &Path) {
        if let Some(text) = self.read_file(path) {
            self.read_channel(text, path);
        }
    }

    /// Reads an included file's one channel.
    fn read_channel(&mut self, text: SourceText, path: &Path) {
        let (document, syntax) = if is_json(path) {
            json::read(text.text())
        } else {
            let (document, syntax) = toml::read(text.text());
            (Some(document), syntax)
        };
        let source = self.add_source(text);
        let is_whole = syntax.is_empty();
        self.report(syntax, source);
        let Some(document) = document.filter(|_| is_whole) else { return };
        let mut log = ViolationLog::new(Dialect::File);
        let disk = Disk { base: path.parent().unwrap_or(Path::new("")), context: &self.context };
        let field = FieldReader::document(&document, "channel");
        let channel = read_channel_field(&field, &disk, &mut log);
        self.report(log.violations, source);
        if let Some((name, place)) = name_of(&field) {
            self.claim_name(name, source, place);
        }
        self.config.channels.extend(channel.map(|channel| FileChannel::new(channel, path)));
    }

    /// Channel names are unique over all files.
    fn claim_name(&mut self, name: String, source: usize, place: Place) {
        let Some((first_source, first_place)) = self.names.get(&name).copied() else {
            self.names.insert(name, (source, place));
            return;
        };
        self.errors.push(Diagnostic {
            rule: Rule::DuplicateChannel,
            path: FieldPath::default().key("name"),
            message: format!("two channels are named {}", quoted(&name)),
            remedy: "rename or remove one of them".to_owned(),
            place: Some(place),
            related: Some(Related {
                place: first_place,
                label: "the first one".to_owned(),
                source: first_source,
            }),
            source,
        });
    }

    /// The files that the patterns name: by path, each once, never the main file itself.
    fn included_files(
        &mut self,
        patterns: &[Pattern],
        source: usize,
        main: &Path,
        base: &Path,
    ) -> Vec<PathBuf> {
        let main = main.canonicalize().ok();
        let mut found = Includes { progress: self.context.progress.clone(), ..Includes::default() };
        for pattern in patterns {
            if let Err(IncludeProblem { message, remedy }) = found.add(&pattern.text, base) {
                self.report_problem(source, Rule::BadFile, Some(pattern.place), message, remedy);
            }
        }
        let Includes { mut files, notes, progress } = found;
        self.config.notes.extend(notes);
        files.sort();
        files.dedup();
        files.retain(|file| {
            progress.begin(file);
            main.is_none() || file.canonicalize().ok() != main
        });
        files
    }

    /// `min_channels`, once every file was read without an error.
    fn judge_count(&mut self, root: &TableReader<'_>, source: usize) {
        let (least, found) = (self.config.prober.min_channels, self.config.channels.len());
        let Some(least) = least.filter(|least| self.errors.is_empty() && found < *least as usize) else {
            return;
        };
        let place = root.field("prober").and_then(|field| match field.kind() {
            Kind::Table(table) => Some(table.get("min_channels")?.value.place),
            _ => None,
        });
        let message = format!("`min_channels` is {least}; channels in the files: {found}");
        let remedy = "see whether a file or a mounted directory is missing, or lower `min_channels`";
        self.report_problem(source, Rule::OutOfRange, place, message, remedy);
    }
}

/// A channel's name as written, good or not.
fn name_of(channel: &FieldReader<'_>) -> Option<(String, Place)> {
    let Kind::Table(table) = channel.kind() else { return None };
    let Value { place, kind: Kind::String(name) } = &table.get("name")?.value else { return None };
    Some((name.clone(), *place))
}
