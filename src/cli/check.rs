//! `vitald check`: all errors of a configuration, or what it means.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::console::{Console, TerminalText, Tone, exact, json_text, plural};
use super::exit::{CliError, Exit};
use super::locate::ConfigArgument;
use super::overrides::OverrideDocument;
use super::table::{Columns, Side, TableCell};
use crate::catalog::Overrides;
use crate::channel::words::CheckStatus;
use crate::channel::{
    Channel, ClientCertificate, CodeSet, Detection, HealthCheck, HttpCheck, HttpMethod, MemberStatus,
    ProbeSettings, Protocol, Role,
};
use crate::config::{self, Config, Diagnostics, FileChannel};
use crate::daemon::service::StateLocation;
use crate::health::schedule::start_window;
use crate::probe::Plan;
use crate::store::{OverrideFile, StoreError};

const MEANINGS: &str = "\
Columns:
  DOWN WITHIN    the longest time from a member's failure to `unhealthy`:
                 threshold_abnormal x time_interval + timeout
  UP WITHIN      the longest time from its return to `healthy`:
                 threshold_normal x time_interval + timeout
  FIRST VERDICT  the longest time from the daemon's start to a member's first
                 verdict: spread of first probes + (the larger threshold - 1) x
                 time_interval + timeout; another timeout where a first probe
                 may still run when the member is due again

Nothing is bound, sent or changed, so a running daemon is not disturbed.

Exit status: 0 good, 78 bad.

Examples:
  vitald check
  vitald check --config ./vitald.toml
  vitald check --json | jq '.channels[] | {name, down: .detection.down_seconds}'";

/// Check a configuration: all its errors at once, or what it means
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArgument,

    /// Print JSON, the errors too
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(arguments: &CheckArguments, console: &mut Console) -> Result<Exit, CliError> {
    let path = &arguments.config.config;
    let config = match config::load(path) {
        Ok(config) => config,
        Err(diagnostics) => {
            if arguments.json {
                console.print(json_text(&errors_document(&diagnostics)))?;
            }
            return Err(CliError::config(&diagnostics, console));
        }
    };
    let problems = plan_problems(&config);
    if !problems.is_empty() {
        return Err(CliError::channels(&problems.join("\n"), console));
    }
    let file = path.display().to_string();
    let overrides = kept_overrides(&config)?;
    let text = match arguments.json {
        true => json_text(&document(&file, &config, &overrides)).into(),
        false => {
            let lines = overrides.iter().map(|document| {
                document.line()
                    + "
"
            });
            render(&file, &config, console).and(lines.collect::<String>())
        }
    };
    console.print(text)?;
    Ok(Exit::Success)
}

/// What only preparing the probes shows: files that changed since they were
/// read, and what the TLS library alone knows. `run` would refuse the same.
fn plan_problems(config: &Config) -> Vec<String> {
    let problems = config.channels.iter().filter_map(|file| {
        let error = Plan::new(file.channel.active_check()?, file.channel.probe()).err()?;
        Some(format!("channel \"{}\": {error}", file.channel.name()))
    });
    problems.chain(defaults_problem(config)).collect()
}

/// What keeps probes from being prepared with `[defaults.probe]`, which channels of the API
/// will have.
fn defaults_problem(config: &Config) -> Option<String> {
    let defaults = &config.probe_defaults;
    if *defaults == ProbeSettings::default() {
        return None;
    }
    let http = HttpCheck { path: "/".to_owned(), method: HttpMethod::Get, codes: CodeSet::default() };
    let check = HealthCheck::once(Protocol::Https(http), Duration::from_secs(1), ClientCertificate::None);
    let error = Plan::new(&check, &defaults.clone().complete(None)).err()?;
    Some(format!("[defaults.probe]: {error}"))
}

/// What the state directory holds of changes at run time, as far as it may be read.
fn kept_overrides(config: &Config) -> Result<Vec<OverrideDocument>, CliError> {
    let location = StateLocation::of(config).ok();
    let Some(directory) = location.as_ref().and_then(StateLocation::path) else { return Ok(Vec::new()) };
    let text = match OverrideFile::read(directory) {
        // The directory is the daemon's own; whoever checks a configuration need not see it.
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => None,
        read => read?,
    };
    let Some(text) = text else { return Ok(Vec::new()) };
    let overrides = Overrides::decode(&text).map_err(|error| OverrideFile::unusable_in(directory, error))?;
    let channels = config.channels.iter().map(|file| &*file.channel);
    Ok(OverrideDocument::of_kept(&overrides, channels))
}

fn errors_document(diagnostics: &Diagnostics) -> serde_json::Value {
    let errors = diagnostics.errors().iter().map(|error| {
        let (file, position) = diagnostics.position(error);
        json!({
            "file": file,
            "line": position.map(|(line, _)| line),
            "column": position.map(|(_, column)| column),
            "code": error.rule.code(),
            "field": error.path.to_string(),
            "message": error.message,
            "remedy": error.remedy,
        })
    });
    json!({ "errors": errors.collect::<Vec<_>>() })
}

/// How many members a channel has, how many of them stand by and are disabled.
fn member_counts(channel: &Channel) -> [usize; 3] {
    let members = channel.members();
    let standby = members.iter().filter(|member| member.role() == Role::Backup);
    let disabled = members.iter().filter(|member| member.status() == MemberStatus::Disabled);
    [members.len(), standby.count(), disabled.count()]
}

/// `12 (2 standby, 1 disabled)`.
fn member_words(channel: &Channel) -> String {
    match member_counts(channel) {
        [members, 0, 0] => members.to_string(),
        [members, standby, 0] => format!("{members} ({standby} standby)"),
        [members, 0, disabled] => format!("{members} ({disabled} disabled)"),
        [members, standby, disabled] => format!("{members} ({standby} standby, {disabled} disabled)"),
    }
}

/// How far first probes are spread: the more members, the longer.
fn window(config: &Config) -> Duration {
    let probed = config.channels.iter().filter(|file| file.channel.active_check().is_some());
    start_window(probed.map(|file| file.channel.members().len()).sum())
}

/// Probes per second, on average, over all channels.
fn probe_rate(config: &Config) -> f64 {
    let rates = config.channels.iter().filter_map(|file| {
        let interval = file.channel.active_check()?.interval().as_secs_f64();
        let members = u32::try_from(file.channel.members().len()).unwrap_or(u32::MAX);
        (interval > 0.0).then(|| f64::from(members) / interval)
    });
    // The sum of none is -0.0, which would be shown so.
    rates.sum::<f64>() + 0.0
}

fn render(file: &str, config: &Config, console: &Console) -> TerminalText {
    let mut columns = Columns::new(
        console.colour(),
        &[
            ("CHANNEL", Side::Left),
            ("STRATEGY", Side::Left),
            ("MEMBERS", Side::Left),
            ("CHECK", Side::Left),
            ("DOWN WITHIN", Side::Right),
            ("UP WITHIN", Side::Right),
            ("FIRST VERDICT", Side::Right),
        ],
    );
    let window = window(config);
    for FileChannel { channel, .. } in &config.channels {
        let detection = channel.active_check().map(|check| Detection::of(check, window));
        let [down, up, first] = match detection {
            Some(bounds) => [bounds.down, bounds.up, bounds.first].map(|bound| exact(bound).into()),
            None => ["", "", ""].map(TableCell::from),
        };
        columns.row([
            channel.name().into(),
            channel.strategy().word().into(),
            member_words(channel).into(),
            check_words(channel),
            down,
            up,
            first,
        ]);
    }
    let members = config.channels.iter().map(|file| file.channel.members().len()).sum();
    let verdict = format!(
        "{file} is good: {}, {}, {:.1} probes a second",
        plural(config.channels.len(), "channel"),
        plural(members, "member"),
        probe_rate(config),
    );
    let table = match config.channels.is_empty() {
        true => TerminalText::default(),
        false => columns.render().and("\n"),
    };
    let defaults = config.probe_defaults.described();
    let defaults = match defaults.is_empty() {
        true => String::new(),
        false => {
            let keys: Vec<String> = defaults.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            format!("[defaults.probe]: {}\n", keys.join(", "))
        }
    };
    let balance: String = config.channels.iter().filter_map(|file| balance_line(&file.channel)).collect();
    let notes: String = config.notes.iter().map(|note| format!("note: {note}\n")).collect();
    table.and(console.paint(Tone::Good, verdict)).and(format!("\n{defaults}{balance}{notes}"))
}

/// `balance of web: slow_start = 30s`.
fn balance_line(channel: &Channel) -> Option<String> {
    let options = channel.balance().described();
    let keys: Vec<_> = options.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    (!keys.is_empty()).then(|| format!("balance of {}: {}\n", channel.name(), keys.join(", ")))
}

/// `HTTP GET /health every 5s, timeout 2s`.
fn check_words(channel: &Channel) -> TableCell {
    let Some(check) = channel.health_check() else { return TableCell::toned(Tone::Warning, "none") };
    if check.status() == CheckStatus::Off {
        return TableCell::toned(Tone::Warning, "switched off");
    }
    let what = match check.protocol() {
        Protocol::Tcp => "TCP".to_owned(),
        Protocol::Http(http) => format!("HTTP {} {}", http.method.word(), http.path),
        Protocol::Https(http) => format!("HTTPS {} {}", http.method.word(), http.path),
    };
    let (interval, timeout) = (exact(check.interval()), exact(check.timeout()));
    format!("{what} every {interval}, timeout {timeout}").into()
}

fn document(file: &str, config: &Config, overrides: &[OverrideDocument]) -> serde_json::Value {
    let window = window(config);
    let channels = config.channels.iter().map(|FileChannel { channel, file }| {
        let [members, standby, disabled] = member_counts(channel);
        let check = channel.active_check();
        let detection = check.map(|check| Detection::of(check, window));
        json!({
            "name": channel.name(),
            "file": file,
            "strategy": channel.strategy().word(),
            "members": members,
            "standby": standby,
            "disabled": disabled,
            "probe_defaults": channel.probe().from_defaults,
            "balance": channel.balance().described().into_iter().collect::<BTreeMap<_, _>>(),
            "check": check.map(|check| json!({
                "protocol": check.protocol().word(),
                "interval_seconds": check.interval().as_secs_f64(),
                "timeout_seconds": check.timeout().as_secs_f64(),
                "threshold_normal": check.threshold_normal(),
                "threshold_abnormal": check.threshold_abnormal(),
            })),
            "detection": detection.map(|bounds| json!({
                "first_verdict_seconds": bounds.first.as_secs_f64(),
                "down_seconds": bounds.down.as_secs_f64(),
                "up_seconds": bounds.up.as_secs_f64(),
            })),
        })
    });
    json!({
        "file": file,
        "channels": channels.collect::<Vec<_>>(),
        "probe_defaults": config.probe_defaults.described().into_iter().collect::<BTreeMap<_, _>>(),
        "probes_per_second": probe_rate(config),
        "notes": config.notes,
        "overrides": overrides,
    })
}
