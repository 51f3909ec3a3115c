//! `vitald disable`, `enable`, `drain`, `weight` and `member reset`: a running daemon changes
//! one member.

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde::Deserialize;

use super::client::DaemonUrl;
use super::console::{Console, printable};
use super::exit::{CliError, Exit, block_on};
use super::locate::DaemonArguments;
use super::overrides::SaidDocument;
use super::status::{encode_segment, read};

/// A change waits for the disk and for changes before it.
const PATIENCE: Duration = Duration::from_secs(70);

const MEANINGS: &str = "\
MEMBER is the member's host and port as `vitald status` shows them, its host alone, the
name or id of its cloud server, or its id in the API. Where two groups have the same
address, write GROUP/HOST:PORT.

Of a channel that comes from a file the change is an override: it is kept in the state
directory over reloads and restarts until `vitald member reset` takes it back. A channel
of the API is changed for good, as by its clients.

Exit status: 0 done, 1 the daemon could not be asked, or could not keep the change;
2 wrong usage, no such channel or member, several members are meant, or the channel
does not allow the change.";

/// Switch a member off: it takes no traffic, and counts nowhere
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct DisableArguments {
    #[command(flatten)]
    change: ChangeArguments,
}

/// Let a member take traffic again: neither disabled nor drained
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct EnableArguments {
    #[command(flatten)]
    change: ChangeArguments,
}

/// Let a member take no new traffic
///
/// It is still checked and still counts as a member that serves: one that fails is
/// reported. `vitald enable` undoes it; for a channel of the API, which knows weights
/// only, `vitald weight` does.
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    change: ChangeArguments,
}

/// Give a member another weight
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct WeightArguments {
    #[command(flatten)]
    change: ChangeArguments,

    /// The weight, 0 to 10000; 0 takes no new traffic
    #[arg(value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(0..=10_000))]
    weight: u16,
}

/// Take back what was said of a member at run time
#[derive(Debug, Args)]
pub(super) struct MemberArguments {
    #[command(subcommand)]
    command: MemberCommand,
}

#[derive(Debug, Subcommand)]
enum MemberCommand {
    Reset(ResetArguments),
}

/// Take the override of a member back: it is as its file says
///
/// Works too for a member or a channel that is gone.
#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
struct ResetArguments {
    #[command(flatten)]
    change: ChangeArguments,
}

/// Which member of which daemon.
#[derive(Debug, Args)]
struct ChangeArguments {
    /// The channel's name
    channel: String,

    /// The member
    member: String,

    #[command(flatten)]
    daemon: DaemonArguments,

    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn disable(arguments: &DisableArguments, console: &mut Console) -> Result<Exit, CliError> {
    change(&arguments.change, "disable", console)
}

pub(super) fn enable(arguments: &EnableArguments, console: &mut Console) -> Result<Exit, CliError> {
    change(&arguments.change, "enable", console)
}

pub(super) fn drain(arguments: &DrainArguments, console: &mut Console) -> Result<Exit, CliError> {
    change(&arguments.change, "drain", console)
}

pub(super) fn weigh(arguments: &WeightArguments, console: &mut Console) -> Result<Exit, CliError> {
    change(&arguments.change, &format!("weight?weight={}", arguments.weight), console)
}

pub(super) fn member(arguments: &MemberArguments, console: &mut Console) -> Result<Exit, CliError> {
    match &arguments.command {
        MemberCommand::Reset(arguments) => change(&arguments.change, "reset", console),
    }
}

/// The daemon's answer.
#[derive(Debug, Deserialize)]
struct ChangedDocument {
    channel: String,
    member: String,
    enabled: Option<bool>,
    weight: Option<u32>,
    r#override: Option<SaidDocument>,
}

impl ChangedDocument {
    fn words(&self) -> String {
        let state = match (self.enabled, self.weight) {
            (Some(true), Some(0)) => "drained: it takes no new traffic, its weight is 0".to_owned(),
            (Some(true), Some(weight)) => format!("enabled, weight {weight}"),
            (Some(false), _) => "disabled".to_owned(),
            _ => "gone, and nothing is kept of it any more".to_owned(),
        };
        let over = match &self.r#override {
            Some(said) => format!("; over its file: {}", said.words()),
            None => String::new(),
        };
        format!("{} of {}: {state}{over}\n", printable(&self.member, 300), printable(&self.channel, 64))
    }
}

fn change(arguments: &ChangeArguments, action: &str, console: &mut Console) -> Result<Exit, CliError> {
    let daemon = DaemonUrl::locate(&arguments.daemon)?;
    let (channel, member) = (encode_segment(&arguments.channel), encode_segment(&arguments.member));
    let path = format!("/v1/channels/{channel}/members/{member}/{action}");
    let header = Some(("x-vitald-action", "member"));
    let answer = block_on(daemon.send(Method::POST, &path, header, &[], PATIENCE))??;
    match answer.status {
        200 => {
            let changed: ChangedDocument = read(&daemon, &answer)?;
            console.print(match arguments.json {
                true => format!("{}\n", String::from_utf8_lossy(&answer.body).trim_end()),
                false => changed.words(),
            })?;
            daemon.tell_of_default(console);
            Ok(Exit::Success)
        }
        400 | 404 | 409 => Err(CliError::Usage(answer.error_text())),
        401 | 403 => {
            let text = daemon.refused(&answer);
            let remedy = "Ask over its Unix socket: [server] socket, or --socket.";
            Err(CliError::Preparation(format!("{text}\n{remedy}")))
        }
        _ => Err(daemon.refused(&answer).into()),
    }
}
