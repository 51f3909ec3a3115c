//! Channel files as bodies for the API: read by the rules of configurations, so
//! that errors have their place, and refused where the API would lose something.

use std::path::Path;

use serde_json::{Map, Value};

use crate::channel::{Channel, ProbeOptions};
use crate::cli::console::Console;
use crate::cli::exit::CliError;
use crate::config::{self, Diagnostics};

/// A channel that the API can be asked for.
pub(super) struct ChannelFile {
    pub(super) name: String,
    /// What creates it.
    pub(super) body: Vec<u8>,
}

/// Reads one file: a channel's, or one with `[[channels]]`, as `export` prints
/// them.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn read(path: &Path, console: &Console) -> Result<Vec<ChannelFile>, CliError> {
    let refuse = |diagnostics: Diagnostics| CliError::config(&diagnostics, console);
    let documents = documents_of(path)?;
    let config = match documents.main {
        true => config::load(path),
        false => config::load_channel(path),
    }
    .map_err(refuse)?;
    let bodies = documents.bodies.into_iter().zip(&config.channels);
    bodies
        .map(|(document, read)| {
            body_of(document, &read.channel).map_err(|problem| CliError::Config {
                rendered: format!(
                    "error: {}: channel \"{}\": {problem}",
                    path.display(),
                    read.channel.name()
                ),
            })
        })
        .collect()
}

/// The tables of a file that are channels, as they were written. What cannot be
/// parsed is left to the reader of configurations, which says where and why.
#[derive(Default)]
struct Documents {
    /// Whether they stand under `[[channels]]`.
    main: bool,
    bodies: Vec<Map<String, Value>>,
}

fn documents_of(path: &Path) -> Result<Documents, CliError> {
    let text = String::from_utf8(super::read_bytes(path)?).unwrap_or_default();
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let document: Option<Value> =
        if is_json { serde_json::from_str(&text).ok() } else { toml::from_str(&text).ok() };
    let Some(Value::Object(mut document)) = document else { return Ok(Documents::default()) };
    Ok(match document.remove("channels") {
        Some(Value::Array(channels)) if !is_json => {
            let objects = channels.into_iter().filter_map(|channel| match channel {
                Value::Object(channel) => Some(channel),
                _ => None,
            });
            Documents { main: true, bodies: objects.collect() }
        }
        _ => Documents { main: false, bodies: vec![document] },
    })
}

/// The body of a channel that has been read; its words and durations as the API
/// writes them.
fn body_of(mut document: Map<String, Value>, channel: &Channel) -> Result<ChannelFile, &'static str> {
    if *channel.probe() != ProbeOptions::default() {
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
