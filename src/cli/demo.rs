//! `vitald demo`: the real daemon over backends of its own, with a live view.

mod backends;
mod view;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::backends::{Backends, BackendsError};
use self::view::View;
use super::client::DaemonUrl;
use super::console::Console;
use super::exit::{CliError, Exit, block_on};
use super::locate::DEFAULT_LISTEN;
use super::run::log_errors_only;
use super::status::assessment::ChannelDocument;
use crate::daemon::{self, ConfigSource, DaemonError, DaemonOptions, Ending, TransitionEvent};

/// Transitions on their way to the view. When it is full the daemon drops them:
/// the view is for people, and 256 lines are more than they read at once.
const EVENTS: usize = 256;

/// How long the view waits for an answer of the daemon.
const PATIENCE: Duration = Duration::from_millis(500);

/// See vitald work: the real daemon over a few backends in this process
///
/// Backends that are steady, flapping, slow, on standby or behind HTTPS, and a
/// channel for each balancing strategy over them. Prints where status and
/// metrics are, and every change of a verdict as it happens. Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  vitald demo
  vitald demo --for 30s
  vitald status --watch             in another terminal, while it runs
  curl -s http://127.0.0.1:9650/metrics")]
pub(super) struct DemoArguments {
    /// End by itself after this long
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<humantime::Duration>,

    /// Where to serve status and metrics [default: 127.0.0.1:9650, or a free
    /// port when that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) fn execute(arguments: &DemoArguments, console: &mut Console) -> Result<Exit, CliError> {
    log_errors_only(console);
    let backends = Backends::start(&backends::HABITS).map_err(unprepared)?;
    let ending = match (run(arguments, DEFAULT_LISTEN, &backends, console), arguments.listen) {
        (Err(CliError::Daemon(DaemonError::Bind(_))), None) => {
            run(arguments, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &backends, console)
        }
        (result, _) => result,
    };
    ending.map(Exit::from)
}

fn unprepared(error: BackendsError) -> CliError {
    CliError::Preparation(error.to_string())
}

/// Runs the daemon on a thread of its own and the view on this one.
fn run(
    arguments: &DemoArguments,
    default_listen: SocketAddr,
    backends: &Backends,
    console: &mut Console,
) -> Result<Ending, CliError> {
    let stop = CancellationToken::new();
    let (events, changes) = mpsc::channel(EVENTS);
    let (ready, serving) = oneshot::channel();
    let listen = arguments.listen.unwrap_or(default_listen);
    let options = DaemonOptions {
        config: ConfigSource::Text {
            name: "demo".to_owned(),
            text: backends::configuration(listen, backends).map_err(unprepared)?,
        },
        listen: None,
        stop: stop.clone(),
        on_ready: Some(Box::new(move |address| {
            // The view is gone only when this process is ending.
            let _ = ready.send(address);
        })),
        events: Some(events),
        lost_log_lines: None,
    };
    let daemon = std::thread::Builder::new()
        .name("daemon".to_owned())
        .spawn(move || daemon::run(options))
        .map_err(CliError::io("cannot start the daemon's thread"))?;
    let shown = block_on(show(arguments, backends, serving, changes, console)).flatten();
    stop.cancel();
    let ending = match daemon.join() {
        Ok(ending) => ending.map_err(|error| CliError::daemon(error, console))?,
        // The panic was printed by its thread.
        Err(_) => return Err(CliError::Preparation("the daemon ended unexpectedly".to_owned())),
    };
    shown?;
    Ok(ending)
}

/// Shows what happens until the time is over, the daemon ends (it takes Ctrl-C
/// itself) or stdout is closed.
async fn show(
    arguments: &DemoArguments,
    backends: &Backends,
    serving: oneshot::Receiver<SocketAddr>,
    mut changes: mpsc::Receiver<TransitionEvent>,
    console: &mut Console,
) -> Result<(), CliError> {
    // An error here means that the daemon did not start; its result says why.
    let Ok(address) = serving.await else { return Ok(()) };
    let daemon = DaemonUrl::at(address);
    let mut view = View::new(backends.list());
    console.print(view.opening(address, arguments.duration, console))?;
    let over = async {
        match arguments.duration {
            Some(duration) => tokio::time::sleep(*duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    while !console.is_closed() {
        tokio::select! {
            // Cancel-safe: mpsc::recv loses nothing when dropped.
            change = changes.recv() => match change {
                Some(change) => {
                    let traffic = traffic(&daemon, &change.channel).await;
                    console.print(view.change(&change, traffic.as_ref(), console))?;
                }
                None => break,
            },
            // Cancel-safe: the same sleep goes on in the next round.
            () = &mut over => break,
        }
    }
    Ok(console.print(view.closing())?)
}

/// Which members take a channel's traffic now, asked of the daemon over HTTP.
/// None when it does not answer at once: the view goes on without.
async fn traffic(daemon: &DaemonUrl, channel: &str) -> Option<ChannelDocument> {
    let answer = daemon.get(&format!("/v1/channels/{channel}"), PATIENCE).await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}
