//! `vitald status`: what a running daemon sees, as a table, as JSON, or as an
//! exit code for scripts and monitoring.

pub(super) mod assessment;

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde::de::DeserializeOwned;

use self::assessment::{
    Assessment, ChannelDocument, HealthWord, MemberDocument, ProbeResult, StatusDocument, Verdict, assess,
};
use super::client::{ClientError, DaemonResponse, DaemonUrl};
use super::console::{Colour, Console, TerminalText, Tone, milliseconds, paint, plural, printable, rough};
use super::exit::{CliError, Exit, block_on};
use super::locate::DaemonArguments;
use super::overrides::OverrideDocument;
use super::table::{Columns, Side, TableCell};
use crate::daemon::clock::Clock;
use crate::health::Timestamp;

/// The largest status takes well under a second to answer.
const PATIENCE: Duration = Duration::from_secs(10);

const MEANINGS: &str = "\
Exit status:
  0  healthy   every enabled member is healthy or not checked, no channel is on standby
  1  degraded  some enabled member is unhealthy, or some channel is on its standby members
  2  critical  some channel has nobody to take traffic: no member in rotation that is not
               unhealthy and has a weight above 0
  3  unknown   the daemon cannot be reached or understood, or nothing is known to be
               wrong but some enabled member of a checked channel has no verdict, or
               no channel is configured

Examples:
  vitald status
  vitald status --channel web --watch
  vitald status --json | jq '.channels[] | select(.on_backup) | .name'
  vitald status --url http://10.0.0.5:9650 >/dev/null || echo \"vitald: exit $?\"";

/// Show what a running daemon sees
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    daemon: DaemonArguments,

    /// Only this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// Print the daemon's own JSON: one form, with and without --channel
    #[arg(long)]
    json: bool,

    /// Ask again and again until interrupted
    #[arg(long)]
    watch: bool,

    /// With --watch: how long between two questions
    #[arg(long, value_name = "DURATION", default_value = "2s", requires = "watch")]
    interval: humantime::Duration,
}

pub(super) fn execute(arguments: &StatusArguments, console: &mut Console) -> Result<Exit, CliError> {
    let daemon = DaemonUrl::locate(&arguments.daemon).map_err(|error| CliError::Usage(error.to_string()))?;
    block_on(show(arguments, &daemon, console))?
}

/// Shows the status once, or again and again until stdout is closed; an interrupt ends
/// the process as usual.
async fn show(
    arguments: &StatusArguments,
    daemon: &DaemonUrl,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let clear = match arguments.watch && console.is_terminal() && !arguments.json {
        true => TerminalText::cleared_screen(),
        false => TerminalText::default(),
    };
    loop {
        let exit = match picture(arguments, daemon, console.colour()).await {
            Ok((text, exit)) => {
                // One write, so that a terminal never shows the cleared screen.
                console.print(clear.clone().and(text))?;
                exit
            }
            // The command did its work: how things are is unknown.
            Err(error) => {
                console.print(clear.clone())?;
                CliError::from(error).print(console);
                Exit::Unknown
            }
        };
        if !arguments.watch || console.is_closed() {
            return Ok(exit);
        }
        tokio::time::sleep(*arguments.interval).await;
        if !arguments.json && clear == TerminalText::default() {
            console.print("\n")?;
        }
    }
}

/// What to print, and what it means.
async fn picture(
    arguments: &StatusArguments,
    daemon: &DaemonUrl,
    colour: Colour,
) -> Result<(TerminalText, Exit), ClientError> {
    let path = match &arguments.channel {
        None => "/v1/status".to_owned(),
        Some(name) => format!("/v1/status?channel={}", encode_segment(name)),
    };
    let answer = daemon.get(&path, PATIENCE).await?;
    let status: StatusDocument = read(daemon, &answer)?;
    let assessment = assess(status.ready, &status.channels);
    let exit = match assessment.verdict {
        Verdict::Healthy => Exit::Success,
        Verdict::Degraded => Exit::Failure,
        Verdict::Critical => Exit::Critical,
        Verdict::Unknown => Exit::Unknown,
    };
    let text = match arguments.json {
        true => format!("{}\n", String::from_utf8_lossy(&answer.body).trim_end()).into(),
        false => render(daemon, &status, &assessment, colour),
    };
    Ok((text, exit))
}

pub(super) fn read<T: DeserializeOwned>(
    daemon: &DaemonUrl,
    response: &DaemonResponse,
) -> Result<T, ClientError> {
    if response.status != 200 {
        return Err(daemon.refused(response));
    }
    serde_json::from_slice(&response.body).map_err(|error| daemon.not_vitald(error))
}

/// A name as one segment of a path, or as a value of a query (RFC 3986 section 2.1).
pub(super) fn encode_segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => segment.push(char::from(byte)),
            // A dot too: `..` as a segment would be resolved away.
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

fn render(
    daemon: &DaemonUrl,
    status: &StatusDocument,
    assessment: &Assessment,
    colour: Colour,
) -> TerminalText {
    let now = Clock::start().now().wall;
    let mut text = TerminalText::default();
    let tone = match assessment.verdict {
        Verdict::Healthy => Tone::Good,
        Verdict::Degraded | Verdict::Unknown => Tone::Warning,
        Verdict::Critical => Tone::Bad,
    };
    text.push(paint(colour, tone, assessment.verdict.word()));
    text.push(format!("  {daemon}"));
    if let Some(version) = &status.version {
        text.push(format!("  vitald {}", printable(version, 60)));
    }
    if let Some(started_at) = &status.started_at {
        text.push(format!("  up {}", age(started_at, now)));
    }
    text.push("\n");
    for finding in &assessment.findings {
        text.push(format!("  {finding}\n"));
    }
    if let Some(probes) = status.probes.as_ref().filter(|probes| probes.waiting > 0) {
        let line = format!(
            "probing is limited, {} waiting: {} probes run at once; see [prober] max_in_flight",
            plural(probes.waiting, "member"),
            probes.max_in_flight
        );
        text.push("  ");
        text.push(paint(colour, Tone::Warning, line));
        text.push("\n");
    }
    if let [channel] = status.channels.as_slice()
        && !channel.probe_defaults.is_empty()
    {
        let keys = channel.probe_defaults.join(", ");
        text.push(format!("  from [defaults.probe]: {}\n", printable(&keys, 1000)));
    }
    for line in status.overrides.iter().map(OverrideDocument::line) {
        text.push(format!("  {line}\n"));
    }
    for (store, error) in status.store.iter().filter_map(|store| Some((store, store.error.as_ref()?))) {
        let line = format!("{} are not saved: {}", printable(&store.kind, 64), printable(error, 300));
        text.push("  ");
        text.push(paint(colour, Tone::Bad, line));
        text.push("\n");
    }
    text.push("\n");
    text.push(table(&status.channels, now, colour));
    text
}

fn table(channels: &[ChannelDocument], now: Timestamp, colour: Colour) -> TerminalText {
    let mut columns = Columns::new(
        colour,
        &[
            ("CHANNEL", Side::Left),
            ("MEMBER", Side::Left),
            ("GROUP", Side::Left),
            ("ROLE", Side::Left),
            ("WEIGHT", Side::Right),
            ("HEALTH", Side::Left),
            ("TRAFFIC", Side::Left),
            ("FOR", Side::Left),
            ("LAST PROBE", Side::Left),
        ],
    );
    for channel in channels {
        let name = printable(&channel.name, 64);
        if channel.members.is_empty() {
            columns.row([name.clone().into(), TableCell::toned(Tone::Faint, "(no members)")]);
        }
        for member in &channel.members {
            columns.row(member_row(&name, member, now));
        }
    }
    columns.render()
}

fn member_row(channel: &str, member: &MemberDocument, now: Timestamp) -> [TableCell; 9] {
    let tone = match member.health {
        HealthWord::Healthy => Tone::Good,
        HealthWord::Unhealthy => Tone::Bad,
        HealthWord::Unknown => Tone::Warning,
    };
    let health = TableCell::toned(tone, health_text(member));
    let traffic = match (member.enabled, member.in_rotation, member.weight) {
        (false, _, _) => TableCell::toned(Tone::Faint, "disabled"),
        (true, true, _) => TableCell::toned(Tone::Good, "yes"),
        (true, false, 0) => TableCell::toned(Tone::Faint, "weight 0"),
        (true, false, _) => TableCell::toned(Tone::Faint, "no"),
    };
    [
        channel.into(),
        printable(&member.address, 300).into(),
        member.group.as_deref().map(|group| printable(group, 64)).unwrap_or_default().into(),
        if member.backup { "standby" } else { "primary" }.into(),
        member.weight.to_string().into(),
        health,
        traffic,
        member.since.as_deref().map(|since| age(since, now)).unwrap_or_default().into(),
        last_probe(member),
    ]
}

/// The verdict, and where it is from if the check that the member has did not reach it.
fn health_text(member: &MemberDocument) -> String {
    let health = member.health.word();
    match (member.last_known, member.verdict_from.as_deref()) {
        (Some(before), _) => format!("{health} (last known: {})", before.word()),
        (None, Some(from @ ("earlier check" | "initial_state"))) => format!("{health} ({from})"),
        (None, _) => health.to_owned(),
    }
}

fn last_probe(member: &MemberDocument) -> TableCell {
    let Some(probe) = &member.last_probe else { return TableCell::toned(Tone::Faint, "none yet") };
    let mut text = match (&probe.reason, &probe.detail) {
        (Some(reason), Some(detail)) => format!("{}: {}", printable(reason, 40), printable(detail, 100)),
        (Some(reason), None) => printable(reason, 40),
        (None, Some(detail)) => printable(detail, 100),
        (None, None) => String::new(),
    };
    text.push_str(&format!(" ({})", milliseconds(probe.seconds)));
    // Of a name, which of its addresses; of another port than the member's, which.
    if let Some(peer) = probe.peer.as_ref().filter(|peer| **peer != member.address) {
        text.push_str(&format!(" at {}", printable(peer, 60)));
    }
    match probe.result {
        ProbeResult::Success => text.into(),
        ProbeResult::Failure => TableCell::toned(Tone::Bad, text),
        ProbeResult::Inconclusive => TableCell::toned(Tone::Warning, text),
    }
}

/// How long ago an RFC 3339 timestamp was: `5m 3s`. A daemon's clock that runs
/// ahead shows as `0s`, and what is no timestamp as it came.
fn age(timestamp: &str, now: Timestamp) -> String {
    let Some(then) = unix_time(timestamp) else { return printable(timestamp, 40) };
    let age = Duration::from_nanos(now.0).saturating_sub(then);
    rough(age)
}

fn unix_time(timestamp: &str) -> Option<Duration> {
    humantime::parse_rfc3339(timestamp).ok()?.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_path_segment() {
        assert_eq!(encode_segment("web-1_a"), "web-1_a");
        assert_eq!(encode_segment("../a b?"), "%2E%2E%2Fa%20b%3F");
        assert_eq!(encode_segment("渠道"), "%E6%B8%A0%E9%81%93");
    }

    #[test]
    fn ages_are_rough_and_never_negative() {
        let now = Timestamp(1_767_225_600_000_000_000); // 2026-01-01T00:00:00Z
        let cases = [
            ("2025-12-31T23:59:57.123Z", "2s"),
            ("2025-12-31T23:54:57Z", "5m 3s"),
            ("2025-12-28T20:54:57Z", "3days 3h"),
            ("2026-01-01T00:00:05Z", "0s"),
            ("yester\x1bday", "yester day"),
        ];
        for (timestamp, expected) in cases {
            assert_eq!(age(timestamp, now), expected, "{timestamp}");
        }
    }
}
