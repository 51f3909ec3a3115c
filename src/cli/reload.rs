//! `vitald reload`: a running daemon reads its configuration again, and the
//! result comes back before the command ends. `ExecReload` of the unit uses it.

use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::client::DaemonUrl;
use super::console::Console;
use super::exit::{CliError, Exit, block_on};
use super::locate::DaemonArguments;
use crate::catalog::ReloadSummary;

/// The daemon answers or ends the connection sooner: `reload_within` is a minute at most.
const PATIENCE: Duration = Duration::from_secs(70);

const NOT_OVER_TCP: &str = "Ask over its Unix socket ([server] socket, or --socket), or send the daemon SIGHUP: \
                            `systemctl kill -s HUP vitald`.";

/// Tell a running daemon to read its configuration again
///
/// The daemon reads everything first and changes nothing when there is an error.
/// Members keep their verdicts, unless their address changes.
///
/// With a management API the daemon takes this over its Unix socket only.
///
/// Exit status: 0 reloaded, 78 the new configuration is bad and the old one stays,
/// 1 the daemon could not be asked, or could not read its files.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald check && vitald reload
  vitald reload --url http://127.0.0.1:9650")]
pub(super) struct ReloadArguments {
    #[command(flatten)]
    daemon: DaemonArguments,

    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(arguments: &ReloadArguments, console: &mut Console) -> Result<Exit, CliError> {
    let daemon = DaemonUrl::locate(&arguments.daemon)?;
    let header = Some(("x-vitald-action", "reload"));
    let answer = block_on(daemon.send(Method::POST, "/v1/reload", header, &[], PATIENCE))??;
    match answer.status {
        200 => {
            let text = match arguments.json {
                true => format!("{}\n", String::from_utf8_lossy(&answer.body).trim_end()),
                false => summary(&answer.body),
            };
            console.print(text)?;
            daemon.tell_of_default(console);
            Ok(Exit::Success)
        }
        422 => Err(CliError::Config {
            rendered: format!(
                "{}\n\nThe daemon at {daemon} keeps its old configuration.",
                answer.error_text()
            )
            .into(),
        }),
        401 | 403 => Err(CliError::Preparation(format!("{}\n{NOT_OVER_TCP}", daemon.refused(&answer)))),
        _ => Err(daemon.refused(&answer).into()),
    }
}

fn summary(body: &[u8]) -> String {
    let Ok(summary) = serde_json::from_slice::<ReloadSummary>(body) else { return "reloaded\n".to_owned() };
    let ReloadSummary { channels, members, added, removed, changed, restarted, .. } = summary;
    format!(
        "reloaded: channels {channels}, members {members}; \
         channels added {}, removed {}, changed {}; \
         members added {added}, removed {removed}, changed {changed}, restarted {restarted}\n",
        summary.channels_added, summary.channels_removed, summary.channels_changed
    )
}
