//! `vitald probe`: every member of a configuration once, or one URL.
//!
//! The same rules, plans and probes as the daemon's, so that what it says of a
//! member is what the daemon would say.

mod report;
mod round;
mod url;

use std::num::NonZeroUsize;

use clap::Args;

use self::round::{Depth, Subject};
use super::console::{Console, json_text};
use super::exit::{CliError, Exit, block_on};
use super::locate::ConfigArgument;
use crate::config;
use crate::health::Outcome;

const MEANINGS: &str = "\
A URL is http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or tcp://HOST:PORT; an
IPv6 address stands in brackets. With a URL no configuration is read. HOST may be
a name; it is resolved by the system.

Exit status: 0 every probe succeeded; 1 some probe failed, or was inconclusive
because the prober itself was at fault (so nothing is known of that member);
2 wrong usage; 78 bad configuration.

Examples:
  vitald probe                                        every member, once
  vitald probe --channel web --json
  vitald probe http://10.0.0.7:8080/health --http-code 200-299 --timeout 2s
  vitald probe https://10.0.0.7/ --verify --server-name app.internal --explain
  vitald probe tcp://[2001:db8::7]:5432";

/// Probe every member of a configuration once, or one URL
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct ProbeArguments {
    /// What to probe instead of a configuration's members
    #[arg(value_name = "URL")]
    url: Option<String>,

    #[command(flatten)]
    config: ConfigArgument,

    /// Only the members of this channel
    #[arg(long, value_name = "NAME", conflicts_with = "url")]
    channel: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print each phase: addresses, TLS, certificate, request, status line
    #[arg(long)]
    explain: bool,

    /// How many probes run at once
    #[arg(long, value_name = "NUMBER", default_value = "64")]
    at_once: NonZeroUsize,

    #[command(flatten)]
    options: url::UrlOptions,
}

pub(super) fn execute(arguments: &ProbeArguments, console: &mut Console) -> Result<Exit, CliError> {
    let subjects = match &arguments.url {
        Some(text) => url::subjects(text, &arguments.options)?,
        None => configured(arguments, console)?,
    };
    if subjects.is_empty() {
        console
            .message("no member to probe: no channel of the configuration has a health check with members");
    }
    let depth = if arguments.explain { Depth::Explained } else { Depth::Reported };
    let results = block_on(round::run(subjects, depth, arguments.at_once))?;
    let text = match (arguments.json, arguments.explain) {
        (true, _) => json_text(&report::document(&results)).into(),
        (false, true) => report::explained(&results, console.colour()),
        (false, false) => report::table(&results, console.colour()),
    };
    console.print(text)?;
    let is_success = results.iter().all(|result| result.report.outcome == Outcome::Success);
    Ok(if is_success { Exit::Success } else { Exit::Failure })
}

/// The probed members of the configuration, or of one channel of it.
fn configured(arguments: &ProbeArguments, console: &Console) -> Result<Vec<Subject>, CliError> {
    let path = &arguments.config.config;
    let config = config::load(path).map_err(|diagnostics| CliError::config(&diagnostics, console))?;
    let is_wanted = |name: &str| arguments.channel.as_ref().is_none_or(|wanted| wanted == name);
    if let Some(name) = &arguments.channel
        && !config.channels.iter().any(|file| is_wanted(file.channel.name()))
    {
        let names: Vec<&str> = config.channels.iter().map(|file| file.channel.name()).collect();
        return Err(CliError::Usage(format!(
            "no channel of {} is called {name:?}; there are: {}",
            path.display(),
            names.join(", ")
        )));
    }
    let mut subjects = Vec::new();
    for file in config.channels.iter().filter(|file| is_wanted(file.channel.name())) {
        let probed = round::subjects(&file.channel);
        subjects.extend(probed.map_err(|error| CliError::channels(&error.to_string(), console))?);
    }
    Ok(subjects)
}
