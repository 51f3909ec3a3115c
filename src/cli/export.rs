//! `vitald export`: the channels that the API made, as files that a
//! configuration includes, or as one archive that a store is filled with again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::console::{Console, plural};
use super::exit::{CliError, Exit, block_on, write_new};
use super::store_access::{OfflineStore, StoreAccess, StoreAccessArguments};
use crate::catalog::{ApiRecord, Archive, Resource};
use crate::channel::violation::without_controls;

/// Print the channels that the management API made
///
/// As TOML or JSON they go into a configuration: with --channel one channel, a
/// file for [include]; with --out a file for each channel; otherwise all of them
/// as [[channels]] tables. An archive holds ids, times and instances too, and
/// the private keys of client certificates; `vitald import` takes it.
///
/// Asks the running daemon over its Unix socket, or reads the store of one that
/// does not run. Channels that come from files are not printed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald export --channel web > /etc/vitald/channels.d/web.toml
  vitald export --format json --out channels.d
  vitald export --format archive --out vitald.archive

Exit status: 0 exported, 1 failed, 2 wrong usage.")]
pub(super) struct ExportArguments {
    #[command(flatten)]
    access: StoreAccessArguments,

    /// Only this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// Only the channels of this instance; needed when several have channels
    #[arg(long, value_name = "ID")]
    instance: Option<String>,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Toml)]
    format: Format,

    /// Write files: a directory for channels, a new file for an archive
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Channels for a configuration
    Toml,
    /// Channels for a configuration, each as the body that creates it
    Json,
    /// Everything, with ids, for `vitald import`
    Archive,
}

pub(super) fn execute(arguments: &ExportArguments, console: &mut Console) -> Result<Exit, CliError> {
    if arguments.format == Format::Archive && (arguments.channel.is_some() || arguments.instance.is_some()) {
        return Err(CliError::Usage(
            "an archive is always of everything: leave --channel and --instance out".to_owned(),
        ));
    }
    let archive = block_on(fetch(&arguments.access))??;
    match arguments.format {
        Format::Archive => export_archive(&archive, arguments.out.as_deref(), console)?,
        Format::Toml | Format::Json => export_channels(&archive, arguments, console)?,
    }
    Ok(Exit::Success)
}

async fn fetch(access: &StoreAccessArguments) -> Result<Archive, CliError> {
    match access.find().await? {
        StoreAccess::Daemon(_, archive) => Ok(archive),
        StoreAccess::Directory(path) => {
            let OfflineStore { store, archive } = OfflineStore::open(&path).await?;
            store.close().await?;
            Ok(archive)
        }
    }
}

fn export_archive(archive: &Archive, out: Option<&Path>, console: &mut Console) -> Result<(), CliError> {
    let mut text = archive.to_json().map_err(unwritable)?;
    text.push(b'\n');
    let Some(path) = out else { return Ok(console.print(String::from_utf8_lossy(&text).into_owned())?) };
    // It may hold private keys.
    write_new(path, &text, 0o600)?;
    let (channels, instances) = (archive.channels.len(), archive.instances.len());
    let counts = format!("{}, {}", plural(channels, "channel"), plural(instances, "instance"));
    console.message(format!("{}: {counts}", path.display()));
    Ok(())
}

fn export_channels(
    archive: &Archive,
    arguments: &ExportArguments,
    console: &mut Console,
) -> Result<(), CliError> {
    let channels = select(archive, arguments)?;
    if let Some(directory) = &arguments.out {
        fs::create_dir_all(directory)
            .map_err(CliError::io(format!("cannot make {}", directory.display())))?;
        for channel in &channels {
            // Names begin with a letter and have no slash.
            let extension = if arguments.format == Format::Json { "json" } else { "toml" };
            let path = directory.join(format!("{}.{extension}", channel.configured.name()));
            write_new(&path, document(channel, arguments.format)?.as_bytes(), 0o640)?;
        }
        console.message(format!("{}: {}", directory.display(), plural(channels.len(), "channel")));
        return Ok(());
    }
    let text = match (channels.as_slice(), &arguments.channel, arguments.format) {
        ([channel], Some(_), format) | ([channel], None, format @ Format::Json) => document(channel, format)?,
        (_, _, Format::Json) => {
            let remedy = "name one with --channel, or a directory with --out";
            return Err(CliError::Usage(format!("a JSON file holds one channel: {remedy}")));
        }
        (channels, ..) => tables(channels)?,
    };
    Ok(console.print(harmless(text, arguments.format)?)?)
}

/// What is printed of a document: the same without control characters. A TOML string in
/// single quotes has no other form for them.
fn harmless(text: String, format: Format) -> Result<String, CliError> {
    let shown = without_controls(&text);
    let is_toml = format == Format::Toml && shown != text.as_str();
    if is_toml && toml::from_str::<toml::Table>(&shown).ok() != toml::from_str(&text).ok() {
        let problem = "a text has control characters, which cannot be printed as TOML".to_owned();
        return Err(CliError::Preparation(format!(
            "{problem}: use --format json, or write files with --out"
        )));
    }
    Ok(shown.into_owned())
}

/// The channels that were asked for, by name.
fn select<'a>(archive: &'a Archive, arguments: &ExportArguments) -> Result<Vec<&'a Arc<Resource>>, CliError> {
    let usage = |text: String| Err(CliError::Usage(text));
    let wanted = |channel: &&Arc<Resource>| {
        arguments.instance.as_ref().is_none_or(|id| **id == *channel.instance)
            && arguments.channel.as_ref().is_none_or(|name| name == channel.configured.name())
    };
    if let Some(id) = &arguments.instance
        && !archive.instances.iter().any(|instance| *instance.id == **id)
    {
        return usage(format!("there is no instance \"{id}\"; there are {}", instance_ids(archive)));
    }
    let mut channels: Vec<&Arc<Resource>> = archive.channels.iter().filter(wanted).collect();
    channels.sort_by(|one, other| one.configured.name().cmp(other.configured.name()));
    if let Some(name) = &arguments.channel
        && channels.is_empty()
    {
        return usage(format!("the API made no channel named \"{name}\""));
    }
    // Names are unique in an instance, and in a configuration.
    let first = channels.first().map(|channel| &channel.instance);
    if channels.iter().any(|channel| Some(&channel.instance) != first) {
        let ids = instance_ids(archive);
        return usage(format!("several instances have channels: name one with --instance, of {ids}"));
    }
    Ok(channels)
}

fn instance_ids(archive: &Archive) -> String {
    let ids: Vec<&str> = archive.instances.iter().map(|instance| &*instance.id).collect();
    ids.join(", ")
}

fn document(channel: &Resource, format: Format) -> Result<String, CliError> {
    let form = ApiRecord::export_channel(channel);
    match format {
        Format::Json => serde_json::to_string_pretty(&form).map(|text| text + "\n").map_err(unwritable),
        Format::Toml | Format::Archive => toml::to_string(&form).map_err(unwritable),
    }
}

fn tables(channels: &[&Arc<Resource>]) -> Result<String, CliError> {
    #[derive(Serialize)]
    struct ChannelTables<T> {
        channels: Vec<T>,
    }
    let channels = channels.iter().map(|channel| ApiRecord::export_channel(channel)).collect::<Vec<_>>();
    if channels.is_empty() {
        return Ok(String::new());
    }
    toml::to_string(&ChannelTables { channels }).map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> CliError {
    CliError::Preparation(format!("the channels cannot be written down: {error}"))
}
