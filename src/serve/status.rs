//! `/v1/status` and `/v1/channels/{name}`: the JSON of a snapshot.
//!
//! `docs/status.md` has every field. The document is written member by member, so
//! that it never stands in memory whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::app::{App, DaemonHandle, Opened, QueryPairs, Selection, Takes};
use super::http::PageError;
use super::peer::ConnectionInfo;
use super::stream::Text;
use crate::catalog::{
    ChannelOverrides, Entry, Id, KeptOverride, MemberSnapshot, Snapshot, Source, UnixSeconds,
};
use crate::channel::wire::AsText;
use crate::channel::{
    ChannelKind, Health, MemberAddress, MemberIdentity, MemberStatus, OutOfRotation, OverrideState, Role,
    Tier,
};
use crate::health::{LastProbe, MemberState, Phases, Timestamp, VerdictFrom};
use crate::store::{StoredKind, WriteState};

const CONTENT_TYPE: &str = "application/json";

/// `GET /v1/status`.
pub(super) async fn status<S: DaemonHandle>(
    State(app): State<App<S>>,
    Extension(connection): Extension<ConnectionInfo>,
    headers: HeaderMap,
    parameters: QueryPairs,
) -> Result<Response, PageError> {
    let selection = Selection::read(parameters, Takes::Channel)?;
    let Opened { writer, snapshot, entries } = app.open(&selection, connection).await?;
    Ok(writer
        .respond(CONTENT_TYPE, &headers, move |text| write_status(text, &snapshot, &entries, &selection)))
}

/// `GET /v1/channels/{name}`.
pub(super) async fn channel<S: DaemonHandle>(
    State(app): State<App<S>>,
    Path(name): Path<String>,
    Extension(connection): Extension<ConnectionInfo>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let Opened { writer, snapshot, entries } = app.open(&Selection::of_channel(name), connection).await?;
    Ok(writer.respond(CONTENT_TYPE, &headers, move |text| {
        for entry in &entries {
            write_channel(text, &snapshot, entry)?;
        }
        text.push("\n");
        Ok(())
    }))
}

/// The whole document, over these channels.
pub(super) fn write_status(
    text: &mut Text<'_>,
    snapshot: &Snapshot,
    entries: &[Arc<Entry>],
    selection: &Selection,
) -> io::Result<()> {
    let head = StatusHead {
        version: env!("CARGO_PKG_VERSION"),
        taken_at: time(snapshot.taken_at),
        started_at: time(snapshot.started_at),
        ready: snapshot.ready,
        probes: ProbesBody {
            in_flight: snapshot.in_flight(),
            max_in_flight: snapshot.max_in_flight(),
            waiting: snapshot.waiting(),
        },
        store: snapshot.writes.iter().map(StoreBody::of).collect(),
        overrides: overrides(snapshot, entries, selection),
    };
    open(text, &head, "channels")?;
    for (position, entry) in entries.iter().enumerate() {
        text.push(if position == 0 { "\n" } else { ",\n" });
        write_channel(text, snapshot, entry)?;
    }
    text.push("]}\n");
    Ok(())
}

/// One channel.
pub(super) fn write_channel(text: &mut Text<'_>, snapshot: &Snapshot, entry: &Entry) -> io::Result<()> {
    let view = snapshot.channel(entry);
    let counts = view.member_counts();
    let head = ChannelHead {
        name: entry.channel().name(),
        strategy: entry.channel().strategy().word(),
        on_backup: view.tier == Tier::Backup,
        tier: tier_word(view.tier),
        nobody: match view.tier {
            Tier::Nobody(reason) => Some(reason.word()),
            Tier::Primary | Tier::Backup | Tier::FailOpen | Tier::FailOpenEqual => None,
        },
        checked: entry.channel().active_check().is_some(),
        probe_defaults: &entry.channel().probe().from_defaults,
        balance: entry.channel().balance().described().into_iter().collect(),
        healthy: counts.healthy,
        unhealthy: counts.unhealthy,
        unknown: counts.unknown,
        disabled: counts.disabled,
    };
    open(text, &head, "members")?;
    let overrides = snapshot.channels.resources.overrides_of(&entry.resource);
    // A reference channel shows the members of others, which are known by their ids there.
    let is_reference = entry.channel().kind() == ChannelKind::Reference;
    let tags = if is_reference { &[] } else { entry.resource.members.tags() };
    for (position, member) in view.members().enumerate() {
        text.push(if position == 0 { "\n " } else { ",\n " });
        serde_json::to_writer(
            &mut text.buffer,
            &MemberBody::of(&member, tags.get(position).map(|tag| tag.id), overrides),
        )?;
        text.pause()?;
    }
    text.push("]}");
    Ok(())
}

/// Which members take traffic.
pub(super) fn tier_word(tier: Tier) -> &'static str {
    match tier {
        Tier::Primary => "primary",
        Tier::Backup => "backup",
        Tier::FailOpen | Tier::FailOpenEqual => "fail_open",
        Tier::Nobody(_) => "nobody",
    }
}

/// Writes an object that stays open for a list: `{.., "list":[`.
fn open(text: &mut Text<'_>, head: &impl Serialize, list: &str) -> io::Result<()> {
    serde_json::to_writer(&mut text.buffer, head)?;
    // The brace that closes `head`.
    text.buffer.pop();
    for part in [",\"", list, "\":["] {
        text.push(part);
    }
    Ok(())
}

#[derive(Serialize)]
struct StatusHead<'a> {
    version: &'static str,
    taken_at: Time,
    started_at: Time,
    ready: bool,
    probes: ProbesBody,
    store: Vec<StoreBody>,
    overrides: Vec<ListedOverride<'a>>,
}

/// An override, also of a member that is gone.
#[derive(Serialize)]
struct ListedOverride<'a> {
    channel: &'a str,
    member: String,
    group: Option<&'a str>,
    /// Whether the channel has the member.
    is_there: bool,
    #[serde(flatten)]
    said: OverrideBody<'a>,
}

/// What an operator has said of a member.
#[derive(Serialize)]
pub(super) struct OverrideBody<'a> {
    state: Option<&'static str>,
    weight: Option<u16>,
    who: &'a str,
    since: AsText<UnixSeconds>,
}

impl<'a> OverrideBody<'a> {
    pub(super) fn of(kept: &'a KeptOverride) -> Self {
        Self {
            state: kept.said.state.map(OverrideState::word),
            weight: kept.said.weight,
            who: &kept.who,
            since: AsText(kept.since),
        }
    }
}

/// The group of a member; none outside all groups.
pub(super) fn group_of(member: &MemberIdentity) -> Option<&str> {
    Some(member.group()).filter(|group| !group.is_empty())
}

/// The overrides of the channels that were asked for, gone ones too.
fn overrides<'a>(
    snapshot: &'a Snapshot,
    entries: &[Arc<Entry>],
    selection: &Selection,
) -> Vec<ListedOverride<'a>> {
    let listed = snapshot.channels.resources.overrides().listed();
    let mut there: HashMap<&str, HashSet<MemberIdentity>> = HashMap::new();
    let files = entries.iter().filter(|entry| entry.resource.source != Source::Api && !listed.is_empty());
    for channel in files.map(|entry| &entry.resource.configured) {
        let members = channel.members().iter().map(|member| channel.host_identity(member));
        there.insert(channel.name(), members.collect());
    }
    let listed = listed.into_iter().filter(|kept| selection.has(&kept.channel));
    let listed = listed.map(|kept| ListedOverride {
        channel: &kept.channel,
        member: kept.member.address(),
        group: group_of(&kept.member),
        is_there: there.get(&*kept.channel).is_some_and(|members| members.contains(&kept.member)),
        said: OverrideBody::of(kept),
    });
    listed.collect()
}

#[derive(Serialize)]
struct ProbesBody {
    in_flight: usize,
    max_in_flight: usize,
    waiting: usize,
}

#[derive(Serialize)]
struct StoreBody {
    kind: &'static str,
    up: bool,
    write_failures: u64,
    error: Option<String>,
}

impl StoreBody {
    fn of((stored, state): &(StoredKind, WriteState)) -> Self {
        Self {
            kind: stored.word(),
            up: state.failure.is_none(),
            write_failures: state.failed,
            error: state.failure.as_ref().map(ToString::to_string),
        }
    }
}

#[derive(Serialize)]
struct ChannelHead<'a> {
    name: &'a str,
    strategy: &'static str,
    on_backup: bool,
    tier: &'static str,
    nobody: Option<&'static str>,
    checked: bool,
    probe_defaults: &'a [String],
    balance: BTreeMap<&'static str, String>,
    healthy: usize,
    unhealthy: usize,
    unknown: usize,
    disabled: usize,
}

#[derive(Serialize)]
struct MemberBody<'a> {
    address: AsText<MemberAddress>,
    id: Option<AsText<Id>>,
    name: Option<&'a str>,
    group: Option<&'a str>,
    backup: bool,
    enabled: bool,
    weight: u16,
    r#override: Option<OverrideBody<'a>>,
    health: &'static str,
    verdict_from: Option<&'static str>,
    last_known: Option<&'static str>,
    in_rotation: bool,
    out_of_rotation: Option<&'static str>,
    since: Option<Time>,
    consecutive_successes: u32,
    consecutive_failures: u32,
    last_probe: Option<ProbeBody<'a>>,
}

impl<'a> MemberBody<'a> {
    fn of(view: &'a MemberSnapshot<'a>, id: Option<Id>, overrides: Option<&'a ChannelOverrides>) -> Self {
        let kept = overrides.and_then(|overrides| overrides.get(&view.identity()));
        let out_of_rotation = view.out_of_rotation();
        Self {
            address: AsText(view.address()),
            id: id.map(AsText),
            name: view.member.ecs().map(|ecs| ecs.name.as_str()),
            group: view.member.group(),
            backup: view.member.role() == Role::Backup,
            enabled: view.member.status() == MemberStatus::Enabled,
            weight: view.weight(),
            r#override: kept.map(|kept| OverrideBody::of(kept)),
            health: view.health().word(),
            verdict_from: view.state.and_then(verdict_from),
            last_known: view.state.and_then(last_known),
            in_rotation: out_of_rotation.is_none(),
            out_of_rotation: out_of_rotation.map(OutOfRotation::word),
            since: view.state.map(|state| time(state.since)),
            consecutive_successes: view.state.map_or(0, |state| state.consecutive_successes),
            consecutive_failures: view.state.map_or(0, |state| state.consecutive_failures),
            last_probe: view
                .state
                .and_then(|state| state.last.as_ref())
                .map(|last| ProbeBody::of(last, view.peer())),
        }
    }
}

/// Whose the health is; nobody's while it is unknown, but for what is known from before.
fn verdict_from(state: &MemberState) -> Option<&'static str> {
    match state.verdict_from {
        VerdictFrom::InitialState => (state.health != Health::Unknown).then_some("initial_state"),
        VerdictFrom::Check => Some("check"),
        VerdictFrom::EarlierCheck => Some("earlier check"),
        VerdictFrom::LastKnown(_) => Some("last known"),
    }
}

/// The verdict of before its check was switched off.
fn last_known(state: &MemberState) -> Option<&'static str> {
    match state.verdict_from {
        VerdictFrom::LastKnown(health) => Some(health.word()),
        VerdictFrom::InitialState | VerdictFrom::Check | VerdictFrom::EarlierCheck => None,
    }
}

#[derive(Serialize)]
struct ProbeBody<'a> {
    at: Time,
    result: &'static str,
    reason: Option<&'static str>,
    detail: &'a str,
    peer: Option<AsText<SocketAddr>>,
    status: Option<u16>,
    seconds: f64,
    phases: PhasesBody,
}

impl<'a> ProbeBody<'a> {
    fn of(last: &'a LastProbe, peer: Option<SocketAddr>) -> Self {
        Self {
            at: time(last.at),
            result: last.outcome.word(),
            reason: last.outcome.reason(),
            detail: &last.detail,
            peer: peer.map(AsText),
            status: last.status,
            seconds: last.durations.total().as_secs_f64(),
            phases: PhasesBody::of(last.durations.phases()),
        }
    }
}

/// A phase that was not reached is left out.
#[derive(Serialize)]
struct PhasesBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<f64>,
}

impl PhasesBody {
    fn of(phases: Phases) -> Self {
        Self {
            connect: phases.connect.as_ref().map(Duration::as_secs_f64),
            tls: phases.tls.as_ref().map(Duration::as_secs_f64),
            response: phases.response.as_ref().map(Duration::as_secs_f64),
        }
    }
}

/// RFC 3339 in UTC, to the millisecond.
type Time = AsText<humantime::Rfc3339Timestamp>;

fn time(time: Timestamp) -> Time {
    AsText(humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(time.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixture::{assert_golden, collect, snapshot};

    #[test]
    fn the_whole_document_is_the_documented_one() {
        let snapshot = snapshot();
        let entries: Vec<_> = snapshot.channels.entries().cloned().collect();
        let text = collect(|text| write_status(text, &snapshot, &entries, &Selection::default()));
        let golden = include_str!("testdata/status.json").replace("@VERSION@", env!("CARGO_PKG_VERSION"));
        assert_golden(&text, &golden);
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(parsed["channels"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn a_daemon_without_channels_is_valid_json() {
        let snapshot = snapshot();
        let text = collect(|text| write_status(text, &snapshot, &[], &Selection::default()));
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(parsed["channels"], serde_json::json!([]));
    }
}
