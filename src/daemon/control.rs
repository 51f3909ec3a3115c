//! The control loop: everything that happens to the daemon, one after another.
//!
//! It takes transitions from the drivers and logs them, reload requests from
//! SIGHUP and HTTP, and signals to end; it beats the watchdog. Called by
//! [`super::run`] once everything is built.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::catch_up::CatchUp;
use super::driver::TransitionBatch;
use super::fall;
use super::http_server::HttpServer;
use super::observer::{Observer, ReloadRequest};
use super::registrar::Registrar;
use super::service::{self, ConfigSource, Ending, SignalRequest, Signals, StateLocation};
use super::shortage::{self, ShortageWatch};
use super::verdicts::{self, VerdictSaver};
use crate::catalog::{HealthCounts, MemberSlot, ReloadState, ReloadSummary, Snapshot};
use crate::channel::Health;
use crate::health::{Outcome, Timestamp, Transition};
use crate::serve::{DaemonHandle as _, Liveness};

/// A verdict that moved, named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionEvent {
    /// The channel's name.
    pub channel: String,
    /// `host:port`.
    pub member: String,
    /// What the verdict was.
    pub from: Health,
    /// What it is now.
    pub to: Health,
    /// The result that tipped it.
    pub outcome: Outcome,
    /// That result in one line.
    pub detail: Cow<'static, str>,
    /// Of a member that is a name: the address that was probed, when one was known.
    pub address: Option<IpAddr>,
    /// Results of that kind in a row.
    pub consecutive: u32,
    /// When.
    pub at: Timestamp,
}

/// Everything the loop owns.
pub struct Control {
    /// Where the configuration comes from.
    pub config: ConfigSource,
    /// The channels in effect.
    pub registrar: Registrar,
    /// Where state is kept; fixed at the start.
    pub state: StateLocation,
    /// Saves verdicts, if there is a state directory.
    pub saver: Option<VerdictSaver>,
    /// The HTTP server.
    pub server: HttpServer,
    /// A reader's handle, for status lines.
    pub observer: Observer,
    /// What of the prober's own was short at the last beat.
    pub shortage: ShortageWatch,
    /// Publishes how the last reload went.
    pub reload_state: watch::Sender<ReloadState>,
    /// From the drivers; bounded, a full queue makes them merge transitions.
    pub transitions: mpsc::Receiver<TransitionBatch>,
    /// From HTTP clients and SIGHUP.
    pub reloads: mpsc::Receiver<ReloadRequest>,
    /// Balancers that have verdicts to catch up with.
    pub catch_up: CatchUp,
    /// Who else wants to hear of transitions; dropped when it does not keep up.
    pub events: Option<mpsc::Sender<TransitionEvent>>,
    /// The dropped log lines that the log has been told of.
    pub lost_log_lines: u64,
}

impl Control {
    /// Runs until something asks the daemon to end.
    pub async fn run(mut self, mut signals: Signals) -> Ending {
        let mut beat = beat();
        let mut save = every(verdicts::SAVE_EVERY);
        let ending = loop {
            tokio::select! {
                // Cancel-safe: mpsc::recv loses nothing when dropped.
                Some((driver, batch)) = self.transitions.recv() => self.handle_transitions(driver, &batch),
                // Cancel-safe: the same.
                Some(answer) = self.reloads.recv() => {
                    let result = self.handle_reload().await;
                    // The client may have gone; the reload stands.
                    let _ = answer.send(result);
                }
                // Cancel-safe: see Registrar::step.
                step = self.registrar.step() => self.registrar.handle_step(step).await,
                // Cancel-safe: a signal stays pending until it is returned.
                request = signals.next() => match request {
                    SignalRequest::Reload => drop(self.handle_reload().await),
                    SignalRequest::Stop => break Ending::Stopped,
                },
                // Cancel-safe: it only waits for a moment.
                () = self.catch_up.due() => self.handle_catch_up(),
                // Cancel-safe: a tick that was not returned comes again.
                _ = beat.tick() => self.handle_beat().await,
                // Cancel-safe: the same.
                _ = save.tick(), if self.saver.is_some() => self.handle_save().await,
            }
        };
        self.end(ending, signals).await
    }

    /// Stops serving within its bound, then the drivers. A second request to stop
    /// ends at once.
    async fn end(self, ending: Ending, mut signals: Signals) -> Ending {
        service::stopping();
        tracing::info!("stopping");
        let Self { mut registrar, saver, server, observer, .. } = self;
        let orderly = async {
            let mut closing = pin!(server.close());
            // Calls that came in before are still answered.
            loop {
                tokio::select! {
                    // Cancel-safe: the closing goes on with the next turn.
                    () = &mut closing => break,
                    // Cancel-safe: see Registrar::step.
                    step = registrar.step() => registrar.handle_step(step).await,
                }
            }
            registrar.finish_batch().await;
            registrar.close_store().await;
            if let Some(saver) = saver {
                saver.finish(observer.observe().await.ok()).await;
            }
            registrar.stop().await;
        };
        tokio::select! {
            // Dropped half done only when the other arm ends the process.
            () = orderly => ending,
            // Cancel-safe: a signal stays pending until it is returned.
            signal = signals.second_stop() => Ending::Forced(signal),
        }
    }

    async fn handle_reload(&mut self) -> Result<ReloadSummary, String> {
        service::reloading();
        let result = self.reload().await;
        let now = self.observer.0.clock.now().wall;
        match &result {
            Ok(summary) => {
                self.reload_state.send_replace(ReloadState { successful: true, last_success: now });
                tracing::info!(
                    channels = summary.channels,
                    members = summary.members,
                    added = summary.added,
                    removed = summary.removed,
                    restarted = summary.restarted,
                    "configuration reloaded"
                );
            }
            Err(error) => {
                self.reload_state.send_modify(|state| state.successful = false);
                tracing::error!("configuration refused, the old one stays in effect\n{error}");
            }
        }
        service::ready(&self.status_line().await);
        result
    }

    async fn reload(&mut self) -> Result<ReloadSummary, String> {
        let config = self.config.clone();
        let loaded = tokio::task::spawn_blocking(move || config.load().map_err(|error| error.to_string()));
        let config = loaded.await.map_err(|error| format!("reading the configuration failed: {error}"))??;
        config.notes.iter().for_each(|note| tracing::warn!("{note}"));
        self.state.judge(&config)?;
        let (before, after) = (self.registrar.file_channels(), fall::file_channels(&config));
        fall::refuse_empty(&before, &after, &config.prober)?;
        // What is durable is in effect first: a reload starts from one state.
        self.registrar.finish_batch().await;
        // Bind first: an address in use refuses the reload before anything changed.
        let prepared = self.server.prepare(&config.server, config.api.as_ref());
        let prepared = prepared.map_err(|error| error.to_string())?;
        let summary = self.registrar.reconfigure(&config).await?;
        if let Some(fall) = fall::large_fall(&before, &after, &config.prober) {
            tracing::warn!("{fall}");
        }
        if let (Some(gate), Some(api)) = (self.server.gate(), &config.api)
            && let Err(error) = gate.replace(api)
        {
            tracing::error!(%error, "the old accounts stay: the system has no random numbers");
        }
        self.server.replace(prepared);
        Ok(summary)
    }

    fn handle_transitions(&mut self, driver: u16, batch: &[Transition]) {
        for transition in batch {
            let slot = MemberSlot { driver, index: transition.slot, generation: transition.generation };
            // A member that was removed while its transition was under way: nothing to say.
            let Some((entry, position)) = self.registrar.occupant(slot) else { continue };
            let Some(member) = entry.channel().members().get(position) else { continue };
            entry.set_health(position, transition.to);
            self.catch_up.add(entry.channel().name(), &entry.balancer);
            let event = TransitionEvent {
                channel: entry.channel().name().to_owned(),
                member: entry.channel().member_address(member).to_string(),
                from: transition.from,
                to: transition.to,
                outcome: transition.outcome,
                detail: transition.detail.clone(),
                address: transition.address.as_deref().copied(),
                consecutive: transition.consecutive,
                at: transition.at.wall,
            };
            log_transition(&event);
            if let Some(events) = &self.events {
                // A receiver that does not keep up misses events: it must not hold up the loop.
                let _ = events.try_send(event);
            }
        }
    }

    /// Long orders of the rotation are written again for the members that are able now.
    fn handle_catch_up(&mut self) {
        let now = Duration::from_nanos(self.observer.0.clock.now().monotonic.0);
        for balancer in self.catch_up.take() {
            balancer.advance(now);
        }
    }

    async fn handle_save(&mut self) {
        let Some(saver) = self.saver.as_mut().filter(|saver| saver.is_idle()) else { return };
        // A driver that does not answer is reported elsewhere; the next save is near.
        if let Ok(snapshot) = self.observer.observe().await {
            saver.save(snapshot);
        }
    }

    async fn handle_beat(&mut self) {
        match self.observer.liveness() {
            Liveness::Alive => service::alive(),
            Liveness::Stalled { driver, silent } => {
                tracing::error!(driver, silent_ms = silent.as_millis(), "a driver makes no progress");
            }
        }
        self.report_lost_log_lines();
        let observed = self.observer.observe().await.ok();
        if let Some(snapshot) = &observed {
            for change in self.shortage.handle_counts(&snapshot.drivers) {
                shortage::log(change, snapshot.max_in_flight());
            }
        }
        service::status(&status_text(observed.as_ref()));
    }

    /// Says in the log that lines are missing from it, once it takes lines again.
    fn report_lost_log_lines(&mut self) {
        let lost = self.observer.lost_log_lines();
        if lost > self.lost_log_lines {
            tracing::warn!(lost, "log lines were dropped because nobody read them: {lost} since the start");
            if self.observer.lost_log_lines() == lost {
                self.lost_log_lines = lost;
            }
        }
    }

    /// One line with counts for the service manager.
    pub async fn status_line(&self) -> String {
        status_text(self.observer.observe().await.ok().as_ref())
    }
}

fn status_text(snapshot: Option<&Snapshot>) -> String {
    let Some(snapshot) = snapshot else { return "A driver does not answer".to_owned() };
    let mut sum = HealthCounts::default();
    let mut channels = 0;
    for entry in snapshot.channels.entries() {
        channels += 1;
        let counts = snapshot.channel(entry).member_counts();
        sum.healthy += counts.healthy;
        sum.unhealthy += counts.unhealthy;
        sum.unknown += counts.unknown;
        sum.disabled += counts.disabled;
    }
    let limited = match snapshot.waiting() {
        0 => String::new(),
        waiting => format!("; {waiting} wait for one of {} probes at once", snapshot.max_in_flight()),
    };
    format!(
        "{channels} channels: {} healthy, {} unhealthy, {} unknown, {} disabled{limited}",
        sum.healthy, sum.unhealthy, sum.unknown, sum.disabled
    )
}

/// Three times as often as the manager asks, so that one late beat is no failure;
/// every five seconds when it does not ask.
fn beat() -> Interval {
    let five_seconds = Duration::from_secs(5);
    let period = service::watchdog_interval().map_or(five_seconds, |asked| (asked / 3).min(five_seconds));
    every(period.max(Duration::from_millis(10)))
}

/// Ticks that do not pile up while something takes long.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The text says it all by itself, for `journalctl`, which shows no fields.
fn log_transition(event: &TransitionEvent) {
    let reason = event.outcome.reason().unwrap_or("success");
    let (channel, member, from, to) = (&event.channel, &event.member, event.from.word(), event.to.word());
    let (consecutive, detail) = (event.consecutive, &*event.detail);
    let address = event.address.map(|address| address.to_string());
    let at = address.as_ref().map(|address| format!(" ({address})")).unwrap_or_default();
    let address = address.as_deref();
    match event.to {
        Health::Unhealthy => tracing::warn!(
            channel,
            member,
            from,
            to,
            reason,
            consecutive,
            detail,
            address,
            "{member}{at} of {channel} is {to}"
        ),
        Health::Healthy | Health::Unknown => tracing::info!(
            channel,
            member,
            from,
            to,
            reason,
            consecutive,
            detail,
            address,
            "{member}{at} of {channel} is {to}"
        ),
    }
}
