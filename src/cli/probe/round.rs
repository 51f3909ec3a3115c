//! One probe of every subject, so many at once, with a progress bar.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;

use crate::channel::{Channel, Host, MemberAddress, Protocol};
use crate::health::{ProberReason, Report};
use crate::probe::{self, Plan, PlanError, ProbeTrace, Resolver, SystemLookup, Target};

/// A name is looked up once: this is longer than any round.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(3600);

/// Rounds shorter than this many probes show no bar: it would only flicker.
const BAR_FROM: usize = 10;

/// One member to probe.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) channel: Arc<Channel>,
    plan: Arc<Plan>,
    /// Where the check goes.
    target: MemberAddress,
    /// What is asked: `http://10.0.0.7:8080/health`.
    pub(super) url: String,
    /// `host:port` as the daemon calls the member.
    pub(super) address: String,
}

/// How much is kept of each probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    Reported,
    /// Also what the probe saw.
    Explained,
}

/// One subject and what its probe found.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) subject: Subject,
    pub(super) report: Report,
    pub(super) explanation: Option<ProbeTrace>,
}

/// A channel whose probes cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[error("channel \"{channel}\": {source}")]
pub(super) struct Unprepared {
    channel: String,
    source: PlanError,
}

/// The members of a channel that are probed: none without a health check that
/// is switched on. Disabled members are, as in the daemon.
///
/// # Errors
/// Certificates or trust anchors of the channel that cannot be used.
pub(super) fn subjects(channel: &Arc<Channel>) -> Result<Vec<Subject>, Unprepared> {
    let Some(check) = channel.active_check().filter(|_| !channel.members().is_empty()) else {
        return Ok(Vec::new());
    };
    let plan = Plan::new(check, channel.probe())
        .map_err(|source| Unprepared { channel: channel.name().to_owned(), source })?;
    plan.prepare();
    let plan = Arc::new(plan);
    let subjects = channel.members().iter().map(|member| {
        let target = MemberAddress { host: member.host().clone(), port: channel.check_port(member).get() };
        let url = match check.protocol() {
            Protocol::Tcp => format!("tcp://{target}"),
            Protocol::Http(http) => format!("http://{target}{}", http.path),
            Protocol::Https(http) => format!("https://{target}{}", http.path),
        };
        let address = channel.member_address(member).to_string();
        Subject { channel: Arc::clone(channel), plan: Arc::clone(&plan), target, url, address }
    });
    Ok(subjects.collect())
}

impl Subject {
    /// The member's name, if it has to be resolved.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.target.host {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }
}

/// Probes every subject once, at most `at_once` at the same time. The results
/// are in the order of the subjects.
pub(super) async fn run(subjects: Vec<Subject>, depth: Depth, at_once: NonZeroUsize) -> Vec<Probed> {
    let (resolver, refresher) = Resolver::new(SystemLookup, RESOLVE_INTERVAL);
    tokio::spawn(refresher.run());
    let bar = progress_bar(subjects.len());
    let mut found: Vec<Option<Found>> = subjects.iter().map(|_| None).collect();
    let mut waiting = subjects.iter().enumerate();
    let mut running = JoinSet::new();
    loop {
        while running.len() < at_once.get() {
            let Some((index, Subject { plan, target, .. })) = waiting.next() else { break };
            let (plan, target) = (Arc::clone(plan), Target::new(&target.host, target.port, &resolver));
            running.spawn(async move { (index, probe_one(&plan, &target, depth).await) });
        }
        let Some(ended) = running.join_next().await else { break };
        bar.inc(1);
        // A probe that panicked is missing; its thread printed the panic.
        if let Ok((index, result)) = ended
            && let Some(place) = found.get_mut(index)
        {
            *place = Some(result);
        }
    }
    bar.finish_and_clear();
    let results = subjects.into_iter().zip(found).map(|(subject, found)| {
        let (report, explanation) = found.unwrap_or_else(|| {
            (Report::inconclusive(ProberReason::Internal, "the probe ended without a result"), None)
        });
        Probed { subject, report, explanation }
    });
    results.collect()
}

type Found = (Report, Option<ProbeTrace>);

async fn probe_one(plan: &Plan, target: &Target, depth: Depth) -> Found {
    match depth {
        Depth::Reported => (probe::run(plan, target).await, None),
        Depth::Explained => {
            let (report, explanation) = probe::explain(plan, target).await;
            (report, Some(explanation))
        }
    }
}

/// A bar on stderr; indicatif shows it only on a terminal.
fn progress_bar(probes: usize) -> ProgressBar {
    if probes < BAR_FROM {
        return ProgressBar::hidden();
    }
    let length = u64::try_from(probes).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:40} {pos} of {len} probed") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
