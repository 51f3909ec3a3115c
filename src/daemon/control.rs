//! The control loop: everything that happens to the daemon, one after another.
//!
//! It takes transitions from the drivers and logs them, puts loaded configurations into
//! effect, steps the registrar, and ends the daemon; it beats the watchdog. It waits for no
//! file, name, disk or client: docs/security.md, "What may be slow", has what stands
//! between them and the loop. Called by [`super::run`] once everything is built.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until, timeout};

use super::catch_up::CatchUp;
use super::changes;
use super::driver::TransitionBatch;
use super::fall;
use super::http_server::HttpServer;
use super::observer::{Observer, ReloadRequest};
use super::registrar::{Reconfigured, Registrar};
use super::reloads::{LoadSettings, LoadedConfig, PendingReload, ReloadAskers, ReloadStep, Reloads};
use super::service::{self, Ending, SignalRequest, Signals, StateLocation};
use super::verdicts::{self, VerdictSaver};
use crate::catalog::{ChangeKind, ChannelBalancer, MemberSlot, Origin, ReloadState, Requester, Requesters};
use crate::channel::{Health, Tier};
use crate::config::Config;
use crate::health::{Now, Outcome, Timestamp, Transition};
use crate::serve::{DaemonHandle as _, ReloadFault};

/// How long the end waits for the disk: for changes that are under way, for the store, and
/// for the last verdicts.
const SAVED_WITHIN: Duration = Duration::from_secs(10);

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
    /// Who has asked for a reload, and the load that runs.
    pub reloads: Reloads,
    /// The configuration in effect, its channels left out: the catalog has them.
    pub config: Config,
    /// The last reload's fault; none when it was good.
    pub fault: Option<ReloadFault>,
    /// The channels in effect.
    pub registrar: Registrar,
    /// Where state is kept; fixed at the start.
    pub state: StateLocation,
    /// Saves verdicts, if there is a state directory.
    pub saver: Option<VerdictSaver>,
    /// The HTTP server.
    pub server: HttpServer,
    /// A reader's handle.
    pub observer: Observer,
    /// Publishes how the last reload went.
    pub reload_state: watch::Sender<ReloadState>,
    /// From the drivers; bounded, a full queue makes them merge transitions.
    pub transitions: mpsc::Receiver<TransitionBatch>,
    /// From HTTP clients; bounded, a full queue makes them wait.
    pub requests: mpsc::Receiver<ReloadRequest>,
    /// When the next members change drivers; none while all are where they belong.
    pub next_move: Option<Instant>,
    /// Balancers that have verdicts to catch up with.
    pub catch_up: CatchUp,
    /// Who else wants to hear of transitions; dropped when it does not keep up.
    pub events: Option<mpsc::Sender<TransitionEvent>>,
}

impl Control {
    /// Runs until something asks the daemon to end.
    pub async fn run(mut self, mut signals: Signals) -> Ending {
        let mut beat = beat();
        let mut save = every(verdicts::SAVE_EVERY);
        let ending = loop {
            self.observer.note_control_turn();
            // Between two batches: what the API has changed while a load ran is in effect, and
            // the reload is planned on it.
            if !self.registrar.is_busy()
                && let Some(reload) = self.reloads.take_loaded()
            {
                self.handle_loaded(*reload).await;
            }
            // The same: slots that a batch was planned for stay meanwhile.
            let may_move = !self.registrar.is_busy();
            if may_move && self.next_move.is_some_and(|next| next <= Instant::now()) {
                self.move_members().await;
            }
            tokio::select! {
                // Cancel-safe: mpsc::recv loses nothing when dropped.
                Some((driver, batch)) = self.transitions.recv() => self.handle_transitions(driver, &batch),
                // Cancel-safe: the same.
                Some(request) = self.requests.recv() => self.reloads.ask(request),
                // Cancel-safe: see Reloads::step.
                step = self.reloads.step() => self.handle_reload_step(step),
                // Cancel-safe: see Registrar::step.
                step = self.registrar.step() => self.registrar.handle_step(step).await,
                // Cancel-safe: a signal stays pending until it is returned.
                request = signals.next() => match request {
                    SignalRequest::Reload => {
                        self.reloads.ask(ReloadRequest { asked_by: Requester::Signal, answer: None });
                    }
                    SignalRequest::Stop => break Ending::Stopped,
                },
                // Cancel-safe: it only waits for a moment.
                () = self.catch_up.due() => self.handle_catch_up(),
                // Cancel-safe: the same.
                () = until(self.next_move), if may_move => {}
                // Cancel-safe: a tick that was not returned comes again.
                _ = beat.tick() => self.handle_beat().await,
                // Cancel-safe: the same.
                _ = save.tick(), if self.saver.is_some() => self.handle_save(),
            }
        };
        self.end(ending, signals).await
    }

    /// Stops serving within its bound, saves within another, then stops the drivers. A
    /// second request to stop ends at once. A load that runs is not waited for.
    async fn end(self, ending: Ending, mut signals: Signals) -> Ending {
        service::stopping();
        tracing::info!("stopping");
        let Self { mut registrar, saver, server, observer, reloads, requests, .. } = self;
        // Who waits for a reload is told that the daemon ends.
        drop((reloads, requests));
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
            let save = async {
                registrar.finish_batch().await;
                registrar.close_store().await;
                if let Some(saver) = saver {
                    saver.finish(observer.observe().await.ok()).await;
                }
            };
            let saved = timeout(SAVED_WITHIN, save).await;
            registrar.stop().await;
            if saved.is_ok() {
                return ending;
            }
            tracing::error!(
                "the state directory was not written within {SAVED_WITHIN:?}: see whether its disk answers; \
                 what was acknowledged is safe, the last verdicts are lost"
            );
            Ending::Unsaved
        };
        tokio::select! {
            // Given up half done only when the other arm ends the process; dropping what it
            // holds waits for nothing.
            ending = orderly => ending,
            // Cancel-safe: a signal stays pending until it is returned.
            signal = signals.second_stop() => Ending::Forced(signal),
        }
    }

    fn handle_reload_step(&mut self, step: ReloadStep) {
        match step {
            ReloadStep::Began => service::reloading(),
            // The next turn of the loop takes it, see `take_loaded`.
            ReloadStep::Loaded => {}
            ReloadStep::Failed(askers, fault) => self.conclude(askers, Err(fault)),
        }
    }

    async fn handle_loaded(&mut self, reload: PendingReload) {
        let PendingReload { loaded, askers } = reload;
        let result = self.put_into_effect(loaded, &askers.asked_by).await;
        self.begin_moving();
        self.conclude(askers, result.map_err(|text| ReloadFault::refused(&text)));
    }

    /// Answers those who asked. The log tells what has changed: clients may ask for the
    /// same again and again.
    fn conclude(&mut self, askers: ReloadAskers, result: Result<Reconfigured, ReloadFault>) {
        let ReloadAskers { asked_by, answers } = askers;
        let result = match result {
            Ok(reconfigured) => {
                let now = self.observer.0.clock.now().wall;
                self.reload_state.send_replace(ReloadState { successful: true, last_success: now });
                let was_refused = self.fault.take().is_some();
                Ok(match reconfigured {
                    Reconfigured::Same(summary) if !was_refused => {
                        tracing::debug!("configuration read again: nothing has changed");
                        summary
                    }
                    Reconfigured::Same(summary) | Reconfigured::Changed(summary) => {
                        tracing::info!(
                            channels = summary.channels,
                            members = summary.members,
                            channels_added = summary.channels_added,
                            channels_removed = summary.channels_removed,
                            channels_changed = summary.channels_changed,
                            added = summary.added,
                            removed = summary.removed,
                            changed = summary.changed,
                            restarted = summary.restarted,
                            %asked_by,
                            "configuration reloaded"
                        );
                        summary
                    }
                })
            }
            Err(fault) => {
                self.reload_state.send_modify(|state| state.successful = false);
                if self.fault.as_ref() == Some(&fault) {
                    tracing::debug!("configuration refused again, for the same reasons");
                } else {
                    tracing::error!(%asked_by, "configuration refused, the old one stays in effect\n{fault}");
                    self.fault = Some(fault.clone());
                }
                Err(fault)
            }
        };
        service::reloaded();
        for answer in answers {
            // The client may have gone; the reload stands.
            let _ = answer.send(result.clone());
        }
    }

    async fn put_into_effect(
        &mut self,
        loaded: LoadedConfig,
        asked_by: &Requesters,
    ) -> Result<Reconfigured, String> {
        let LoadedConfig { mut config, socket } = loaded;
        self.state.judge(&config)?;
        let (before, after) = (self.registrar.file_channels(), fall::file_channels(&config));
        fall::refuse_empty(&before, &after, &config.prober)?;
        // Bind first: an address in use refuses the reload before anything changed.
        let prepared = self.server.prepare(&config.server, config.api.as_ref(), socket);
        let prepared = prepared.map_err(|error| error.to_string())?;
        let channels = self.registrar.reconfigure(&config, asked_by).await?;
        if let Some(fall) = fall::large_fall(&before, &after, &config.prober) {
            tracing::warn!("{fall}");
        }
        if let (Some(gate), Some(api)) = (self.server.gate(), &config.api)
            && let Err(error) = gate.replace(api)
        {
            tracing::error!(%error, "the old accounts stay: the system has no random numbers");
        }
        self.server.replace(prepared);
        config.channels = Vec::new();
        if config == self.config {
            return Ok(channels);
        }
        if config.notes != self.config.notes {
            config.notes.iter().for_each(|note| tracing::warn!("{note}"));
        }
        self.reloads.set(LoadSettings::of(&config, self.server.socket()));
        self.config = config;
        let (Reconfigured::Same(summary) | Reconfigured::Changed(summary)) = channels;
        Ok(Reconfigured::Changed(summary))
    }

    fn handle_transitions(&mut self, driver: u16, batch: &[Transition]) {
        for transition in batch {
            let slot = MemberSlot { driver, index: transition.slot, generation: transition.generation };
            // A member that was removed while its transition was under way: nothing to say.
            let Some((entry, position)) = self.registrar.occupant(slot) else { continue };
            let Some(member) = entry.channel().members().get(position) else { continue };
            if entry.balancer.options().slow_start.is_some() {
                // A slow start counts from the time that the balancer was told last.
                let channel = entry.channel().name().to_owned();
                advance(&mut self.catch_up, self.observer.0.clock.now(), channel, &entry.balancer);
            }
            let tier = entry.balancer.tier();
            entry.set_health(position, transition.to);
            let served = (tier, entry.balancer.tier());
            let channel = entry.channel().name().to_owned();
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
            self.handle_tiers(&channel, served);
            if let Some(events) = &self.events {
                // A receiver that does not keep up misses events: it must not hold up the loop.
                let _ = events.try_send(event);
            }
        }
    }

    /// A verdict has moved: perhaps other members of the channel take its traffic now.
    fn handle_tiers(&self, channel: &str, (before, now): (Tier, Tier)) {
        let kind = ChangeKind::from(now);
        if ChangeKind::from(before) != kind {
            self.observer.0.changes.count(kind, Origin::Verdict, 1);
            changes::tell_tier(channel, before, now, "a verdict");
        }
    }

    /// Long orders of the rotation are written again for the members that are able now, and
    /// slow starts go on.
    fn handle_catch_up(&mut self) {
        for (channel, balancer) in self.catch_up.take() {
            advance(&mut self.catch_up, self.observer.0.clock.now(), channel, &balancer);
        }
    }

    /// Proves to the service manager that this loop and every driver make progress.
    async fn handle_beat(&mut self) {
        match self.observer.stalled_driver() {
            None => service::alive(),
            Some((driver, silent)) => {
                tracing::error!(driver, silent_ms = silent.as_millis(), "a driver makes no progress");
            }
        }
        // Members that are between two drivers would be missing among those without a verdict.
        if self.observer.is_ready() {
            self.registrar.handle_beat().await;
            self.begin_moving();
        }
    }

    fn begin_moving(&mut self) {
        if self.registrar.is_moving() && self.next_move.is_none() {
            self.next_move = Some(Instant::now());
        }
    }

    /// Has some members change drivers.
    async fn move_members(&mut self) {
        let taken = self.registrar.take_out().await;
        // What their drivers have said of them under the slots that they are about to leave.
        while let Ok((driver, batch)) = self.transitions.try_recv() {
            self.handle_transitions(driver, &batch);
        }
        let pause = self.registrar.put_in(taken).await;
        self.next_move = pause.map(|pause| Instant::now() + pause);
    }

    fn handle_save(&mut self) {
        if let Some(saver) = self.saver.as_mut().filter(|saver| saver.is_idle()) {
            saver.observe_and_save(self.observer.clone());
        }
    }
}

/// Tells a balancer the time, and notes when it has to be told again.
fn advance(catch_up: &mut CatchUp, now: Now, channel: String, balancer: &ChannelBalancer) {
    let now = Duration::from_nanos(now.monotonic.0);
    if let Some(next) = balancer.advance(now) {
        catch_up.add_step(channel, balancer.clone(), Instant::now() + next.saturating_sub(now));
    }
}

/// Waits for a moment; for none, for good.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
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
