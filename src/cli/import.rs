//! `vitald import`: channels from files into the API's store, the reverse of
//! `vitald export`.
//!
//! Channel files go through the running daemon, call by call, as any client's requests
//! would: read by the rules of configurations, so that errors have their place, and
//! refused where the API would lose something. An archive goes into the store of a
//! daemon that does not run, as one batch.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value};

use super::console::{Console, TerminalText, plural};
use super::exit::{CliError, Exit, block_on};
use super::store_access::{OfflineStore, StoreAccess, StoreAccessArguments};
use crate::catalog::{ApiRecord, Archive};
use crate::channel::{Channel, ProbeSettings};
use crate::config::{self, Diagnostics};
use crate::store::{Batch, Collection, RecordKey};

const PATIENCE: Duration = Duration::from_secs(60);

/// Take channels from files into the management API's store
///
/// Channel files, TOML or JSON as a configuration includes them, go to the
/// running daemon over its Unix socket: a channel whose name is new is made, one
/// that the API made before is updated and keeps its ids.
///
/// An archive of `vitald export --format archive` goes into the store of a
/// daemon that does not run and has no channels yet: with ids, times and
/// instances, all or nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald import channels.d/*.toml
  systemctl stop vitald && vitald import vitald.archive && systemctl start vitald

Exit status: 0 all taken, 1 some refused, 2 wrong usage, 78 a file is no good channel.")]
pub(super) struct ImportArguments {
    #[command(flatten)]
    access: StoreAccessArguments,

    /// The instance that channels go into; default: the first
    #[arg(long, value_name = "ID")]
    instance: Option<String>,

    /// Channel files, or one archive
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn execute(arguments: &ImportArguments, console: &mut Console) -> Result<Exit, CliError> {
    if let Some(archive) = read_archive(&arguments.files)? {
        return block_on(restore(arguments, &archive, console))?;
    }
    // All of them are read before the first is sent.
    let mut channels = Vec::new();
    let mut problems: Option<TerminalText> = None;
    for path in &arguments.files {
        match read(path, console) {
            Ok(read) => channels.extend(read),
            Err(CliError::Config { rendered }) => {
                problems = Some(match problems {
                    Some(before) => before.and("\n\n").and(rendered),
                    None => rendered,
                });
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(rendered) = problems {
        return Err(CliError::Config { rendered });
    }
    block_on(send_all(arguments, &channels, console))?
}

/// The archive, if the files are one; none if they are channels.
fn read_archive(files: &[PathBuf]) -> Result<Option<Archive>, CliError> {
    for path in files {
        let text = read_bytes(path)?;
        // Also where the rest is cut off: it says so itself.
        let is_json = text.trim_ascii_start().starts_with(b"{");
        if !is_json || !String::from_utf8_lossy(&text).contains("\"vitald_archive\"") {
            continue;
        }
        if files.len() > 1 {
            return Err(CliError::Usage(format!(
                "{} is an archive, and it is imported alone: it holds everything",
                path.display()
            )));
        }
        let archive = Archive::parse(&text).map_err(|error| CliError::Config {
            rendered: format!("error: {}: {error}", path.display()).into(),
        })?;
        return Ok(Some(archive));
    }
    Ok(None)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, CliError> {
    config::read_regular_file(path, config::LARGEST_FILE)
        .map_err(|problem| CliError::Preparation(format!("cannot read {}: {problem}", path.display())))
}

async fn restore(
    arguments: &ImportArguments,
    archive: &Archive,
    console: &mut Console,
) -> Result<Exit, CliError> {
    if arguments.instance.is_some() {
        return Err(CliError::Usage("an archive brings its instances: leave --instance out".to_owned()));
    }
    let path = match arguments.access.find().await? {
        StoreAccess::Directory(path) => path,
        StoreAccess::Daemon(daemon, _) => {
            return Err(CliError::Preparation(format!(
                "a daemon answers at {daemon}: an archive replaces what a daemon has in memory, so stop it first"
            )));
        }
    };
    let held = OfflineStore::open_or_make(&path).await?;
    if !held.archive.channels.is_empty() {
        return Err(CliError::Preparation(format!(
            "{} has {} already, and an archive is never mixed with what is there: import it into an empty store",
            path.display(),
            plural(held.archive.channels.len(), "channel")
        )));
    }
    let batch = batch_of(&held.archive, archive)?;
    held.store.write(batch).await?;
    held.store.close().await?;
    console.print(format!(
        "{}: {}, {}\n",
        path.display(),
        plural(archive.channels.len(), "channel"),
        plural(archive.instances.len(), "instance")
    ))?;
    Ok(Exit::Success)
}

/// The instances of a store without channels give way to those of the archive.
fn batch_of(held: &Archive, archive: &Archive) -> Result<Batch, CliError> {
    let unwritable =
        |error: serde_json::Error| CliError::Preparation(format!("a record cannot be written: {error}"));
    let mut batch = Batch::new();
    for instance in &held.instances {
        batch.remove(RecordKey::new(Collection::Instances, instance.id.as_bytes()));
    }
    for instance in &archive.instances {
        let record = ApiRecord::encode_instance(instance).map_err(unwritable)?;
        batch.put(RecordKey::new(Collection::Instances, instance.id.as_bytes()), record);
    }
    for channel in &archive.channels {
        let record = ApiRecord::encode_channel(channel).map_err(unwritable)?;
        batch.put(RecordKey::new(Collection::Channels, channel.id.to_string()), record);
    }
    Ok(batch)
}

async fn send_all(
    arguments: &ImportArguments,
    channels: &[ChannelFile],
    console: &mut Console,
) -> Result<Exit, CliError> {
    let (daemon, archive) = match arguments.access.find().await? {
        StoreAccess::Daemon(daemon, archive) => (daemon, archive),
        StoreAccess::Directory(_) => {
            return Err(CliError::Preparation(
                "channel files go through the running daemon, and none answers on a Unix socket: start it with \
                 `socket` in [server], or name its socket with --socket"
                    .to_owned(),
            ));
        }
    };
    let first = archive.instances.first().map(|instance| &*instance.id);
    let (Some(project), Some(instance)) = (&archive.project, arguments.instance.as_deref().or(first)) else {
        let problem = format!("the daemon at {daemon} names no project and instance to put channels into");
        return Err(CliError::Preparation(problem));
    };
    let base = format!("/v2/{project}/apigw/instances/{instance}/vpc-channels");
    let mut exit = Exit::Success;
    for channel in channels {
        let known = archive
            .channels
            .iter()
            .find(|held| *held.instance == *instance && held.configured.name() == channel.name);
        let (method, path, word) = match known {
            Some(held) => (Method::PUT, format!("{base}/{}", held.id), "updated"),
            None => (Method::POST, base.clone(), "made"),
        };
        let header = Some(("content-type", "application/json"));
        let answer = daemon.send(method, &path, header, &channel.body, PATIENCE).await?;
        if (200..300).contains(&answer.status) {
            console.print(format!("{word} {}\n", channel.name))?;
        } else {
            let (refusal, status) = (answer.error_text(), answer.status);
            console.message(format!("error: {}: {refusal} ({status})", channel.name));
            exit = Exit::Failure;
        }
    }
    Ok(exit)
}

/// A channel that the API can be asked for.
struct ChannelFile {
    name: String,
    /// What creates it.
    body: Vec<u8>,
}

/// Reads one file: a channel's, or one with `[[channels]]`, as `export` prints
/// them.
///
/// # Errors
/// Everything that is wrong with it.
fn read(path: &Path, console: &Console) -> Result<Vec<ChannelFile>, CliError> {
    let refuse = |diagnostics: Diagnostics| CliError::config(&diagnostics, console);
    let (form, documents) = documents_of(path)?;
    let config = match form {
        FileForm::ChannelList => config::load(path),
        FileForm::Channel => config::load_channel(path),
    }
    .map_err(refuse)?;
    documents
        .into_iter()
        .zip(&config.channels)
        .map(|(document, read)| {
            body_of(document, &read.channel, &config.probe_defaults).map_err(|problem| CliError::Config {
                rendered: format!(
                    "error: {}: channel \"{}\": {problem}",
                    path.display(),
                    read.channel.name()
                )
                .into(),
            })
        })
        .collect()
}

/// Where the channels of a file stand.
enum FileForm {
    /// Under `[[channels]]`.
    ChannelList,
    /// The file is one channel.
    Channel,
}

/// The tables of a file that are channels, as they were written. What cannot be parsed is left to the reader of configurations,
/// which says where and why.
fn documents_of(path: &Path) -> Result<(FileForm, Vec<Map<String, Value>>), CliError> {
    let bytes = read_bytes(path)?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let document: Option<Value> =
        if is_json { serde_json::from_slice(&bytes).ok() } else { toml::from_slice(&bytes).ok() };
    let Some(Value::Object(mut document)) = document else { return Ok((FileForm::Channel, Vec::new())) };
    Ok(match document.remove("channels") {
        Some(Value::Array(channels)) if !is_json => {
            let objects = channels.into_iter().filter_map(|channel| match channel {
                Value::Object(channel) => Some(channel),
                _ => None,
            });
            (FileForm::ChannelList, objects.collect())
        }
        _ => (FileForm::Channel, vec![document]),
    })
}

/// The body of a channel that has been read; its words and durations as the API
/// writes them.
fn body_of(
    mut document: Map<String, Value>,
    channel: &Channel,
    defaults: &ProbeSettings,
) -> Result<ChannelFile, &'static str> {
    // The defaults are not the channel's own: the daemon has its own.
    if *channel.probe() != ProbeSettings::default().complete(Some(defaults)) {
        return Err("the API knows no `probe`; remove it, or keep the channel in its file");
    }
    if document.contains_key("balance") {
        return Err("the API knows no `balance`; remove it, or keep the channel in its file");
    }
    document.remove("probe");
    document.insert("balance_strategy".to_owned(), channel.strategy().number().into());
    if let (Some(Value::Object(check)), Some(read)) =
        (document.get_mut("vpc_health_config"), channel.health_check())
    {
        for (key, duration) in [("time_interval", read.interval()), ("timeout", read.timeout())] {
            if duration.subsec_nanos() != 0 {
                return Err("the API knows whole seconds only; round `time_interval` and `timeout`");
            }
            check.insert(key.to_owned(), duration.as_secs().into());
        }
    }
    let body = serde_json::to_vec(&document).map_err(|_| "it cannot be written as JSON")?;
    Ok(ChannelFile { name: channel.name().to_owned(), body })
}
