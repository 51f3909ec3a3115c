//! `vitald wait`: returns once a channel or a member of it is as a script wants it.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::client::DaemonUrl;
use super::console::{Console, printable};
use super::exit::{CliError, Exit, block_on};
use super::locate::DaemonArguments;
use super::status::assessment::{ChannelDocument, HealthWord, MemberDocument, ProbeResult, StatusDocument};
use super::status::{encode_segment, read};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long at least between two questions. A long answer is asked for more seldom.
const BETWEEN: Duration = Duration::from_millis(200);

const MEANINGS: &str = "\
Conditions:
  healthy    the member has the verdict healthy; without MEMBER every enabled member has,
             and there is one
  members=N  at least N members take traffic and have the verdict healthy; of a channel
             that is not checked, take traffic
  drained    the member takes no new traffic: it is disabled or has weight 0; without
             MEMBER every member. vitald carries no traffic itself yet and cannot see the
             connections that a proxy has to a member: give them time to end
--fresh counts only members of which a probe has begun after this command asked for the
first time, and has succeeded: after a restart of a member the verdict is for a while
that of before.

Exit status: 0 it is so; 1 it was not within --timeout; 2 wrong usage, no such channel or
member, or the channel is not checked; 3 the daemon could not be asked or understood, up to
--timeout.

Examples:
  vitald wait web --for members=2 --timeout 1m
  vitald drain web 10.0.0.1:80 && vitald wait web 10.0.0.1:80 --for drained
  vitald enable web 10.0.0.1:80 && vitald wait web 10.0.0.1:80 --for healthy --fresh";

/// Wait until a channel or a member is healthy, drained, or has enough members
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct WaitArguments {
    /// The channel's name
    channel: String,

    /// Only this member: its host and port, its host, its name or its id
    member: Option<String>,

    /// What to wait for: healthy, drained or members=N
    #[arg(long = "for", value_name = "CONDITION", value_parser = Condition::parse)]
    condition: Condition,

    /// Count only members that were probed since
    #[arg(long)]
    fresh: bool,

    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    timeout: humantime::Duration,

    #[command(flatten)]
    daemon: DaemonArguments,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Healthy,
    Drained,
    Members(usize),
}

impl Condition {
    fn parse(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("members=").map(str::parse)) {
            ("healthy", _) => Ok(Self::Healthy),
            ("drained", _) => Ok(Self::Drained),
            (_, Some(Ok(number))) => Ok(Self::Members(number)),
            _ => Err("write healthy, drained or members=N".to_owned()),
        }
    }
}

pub(super) fn execute(arguments: &WaitArguments, console: &mut Console) -> Result<Exit, CliError> {
    let usage = |text: &str| Err(CliError::Usage(text.to_owned()));
    match (arguments.condition, arguments.fresh, &arguments.member) {
        (Condition::Drained, true, _) => return usage("--fresh goes with healthy and members=N"),
        (Condition::Members(_), _, Some(_)) => {
            return usage("members=N counts a channel: leave the member out");
        }
        _ => {}
    }
    let daemon = DaemonUrl::locate(&arguments.daemon)?;
    block_on(wait(arguments, &daemon, console))?
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Met,
    /// Not yet, and how it is.
    NotYet(String),
    /// It will not be, whatever happens.
    Impossible(String),
}

async fn wait(
    arguments: &WaitArguments,
    daemon: &DaemonUrl,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let began = Instant::now();
    let path = format!("/v1/status?channel={}", encode_segment(&arguments.channel));
    // By the daemon's clock; later looks count probes that began after it.
    let mut first_asked: Option<String> = None;
    loop {
        let asked = Instant::now();
        let (text, exit) = match daemon.get(&path, PATIENCE).await {
            Ok(answer) if answer.status == 404 => return Err(CliError::Usage(answer.error_text())),
            Ok(answer) => match read::<StatusDocument>(daemon, &answer) {
                Ok(status) => {
                    let since =
                        first_asked.get_or_insert_with(|| status.taken_at.clone().unwrap_or_default());
                    match look(arguments, &status, since) {
                        Look::Met => return Ok(Exit::Success),
                        Look::NotYet(text) => (text, Exit::Failure),
                        Look::Impossible(text) => return Err(CliError::Usage(text)),
                    }
                }
                Err(error) => (error.to_string(), Exit::Unknown),
            },
            Err(error) => (error.to_string(), Exit::Unknown),
        };
        let pause = BETWEEN.max(asked.elapsed() * 4);
        if began.elapsed() + pause > *arguments.timeout {
            console.message(format!("not within {}: {text}", arguments.timeout));
            return Ok(exit);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether the status says that the condition holds. `since`: a fresh probe began later.
fn look(arguments: &WaitArguments, status: &StatusDocument, since: &str) -> Look {
    let Some(channel) = status.channels.first() else {
        return Look::Impossible(format!("the daemon does not show the channel {:?}", arguments.channel));
    };
    if arguments.fresh && since.is_empty() {
        return Look::Impossible("this daemon does not say when it was asked: leave --fresh out".to_owned());
    }
    let members = match arguments.member.as_deref().map(|asked| named(channel, asked)) {
        None => channel.members.iter().collect(),
        Some(Ok(member)) => vec![member],
        Some(Err(text)) => return Look::Impossible(text),
    };
    let wants_check = arguments.condition == Condition::Healthy || arguments.fresh;
    if wants_check && !channel.checked {
        return Look::Impossible(format!("{} is not checked", printable(&channel.name, 64)));
    }
    let is_healthy = |member: &MemberDocument| {
        let has_verdict = member.verdict_from.as_deref() != Some("initial_state");
        let is_fresh = !arguments.fresh || was_probed_since(member, since);
        member.health == HealthWord::Healthy && has_verdict && is_fresh
    };
    let (counted, wanted): (usize, usize) = match arguments.condition {
        Condition::Healthy => {
            let is_meant = |member: &&&MemberDocument| arguments.member.is_some() || member.enabled;
            let meant: Vec<&&MemberDocument> = members.iter().filter(is_meant).collect();
            (meant.iter().filter(|member| is_healthy(member)).count(), meant.len().max(1))
        }
        Condition::Drained => {
            let is_drained =
                |member: &&&MemberDocument| !member.in_rotation && (!member.enabled || member.weight == 0);
            (members.iter().filter(is_drained).count(), members.len())
        }
        Condition::Members(wanted) => {
            let serves =
                |member: &&&MemberDocument| member.in_rotation && (!channel.checked || is_healthy(member));
            (members.iter().filter(serves).count(), wanted)
        }
    };
    if counted >= wanted {
        return Look::Met;
    }
    Look::NotYet(match (&arguments.member, members.as_slice()) {
        (Some(_), [member]) => words(channel, member, arguments.fresh),
        _ => format!("{counted} of {wanted} members of {}", printable(&channel.name, 64)),
    })
}

/// A probe that succeeded and began after a moment. Times of one form and one zone are
/// ordered as their texts are.
fn was_probed_since(member: &MemberDocument, since: &str) -> bool {
    let probe = member.last_probe.as_ref().filter(|probe| probe.result == ProbeResult::Success);
    probe.and_then(|probe| probe.at.as_deref()).is_some_and(|at| at > since)
}

fn words(channel: &ChannelDocument, member: &MemberDocument, fresh: bool) -> String {
    let traffic = match (member.enabled, member.in_rotation) {
        (false, _) => "disabled",
        (true, true) => "takes traffic",
        (true, false) => "takes no traffic",
    };
    let probe = match fresh {
        true => ", and no fresh probe has succeeded",
        false => "",
    };
    format!(
        "{} of {} is {}, weight {}, {traffic}{probe}",
        printable(&member.address, 300),
        printable(&channel.name, 64),
        member.health.word(),
        member.weight
    )
}

/// The member that is meant.
fn named<'c>(channel: &'c ChannelDocument, asked: &str) -> Result<&'c MemberDocument, String> {
    let by = |matches: &dyn Fn(&MemberDocument) -> bool| {
        channel.members.iter().filter(|member| matches(member)).collect::<Vec<_>>()
    };
    let host = |member: &MemberDocument| {
        let host = member.address.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_matches(['[', ']']).eq_ignore_ascii_case(asked.trim_matches(['[', ']']))
    };
    let ways = [
        by(&|member| member.id.as_deref() == Some(asked)),
        by(&|member| {
            let group = member.group.as_deref().unwrap_or_default();
            let rest = asked.split_once('/').filter(|(there, _)| *there == group).map(|(_, rest)| rest);
            rest.is_some_and(|rest| rest.eq_ignore_ascii_case(&member.address))
        }),
        by(&|member| member.address.eq_ignore_ascii_case(asked)),
        by(&|member| host(member) || member.name.as_deref() == Some(asked)),
    ];
    let found = ways.into_iter().find(|members| !members.is_empty()).unwrap_or_default();
    let listed = |members: &mut dyn Iterator<Item = &MemberDocument>| {
        let shown = members.take(20).map(|member| match &member.group {
            Some(group) => format!("{}/{}", printable(group, 64), printable(&member.address, 300)),
            None => printable(&member.address, 300),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let (name, asked) = (printable(&channel.name, 64), printable(asked, 300));
    match found.as_slice() {
        [member] => Ok(member),
        [] => {
            let there = listed(&mut channel.members.iter());
            Err(format!("no member of \"{name}\" is called \"{asked}\"; its members: {there}"))
        }
        several => {
            let meant = listed(&mut several.iter().copied());
            Err(format!("several members of \"{name}\" are called \"{asked}\"; say which: {meant}"))
        }
    }
}
