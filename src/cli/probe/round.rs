//! One probe of every subject, so many at once, with a progress bar.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::{Id, JoinSet};

use crate::channel::words::CheckStatus;
use crate::channel::{Channel, HealthCheck, Host, Member, MemberAddress, Protocol};
use crate::health::{ProberReason, Report};
use crate::probe::{self, Plan, PlanError, ProbeTrace, Resolver, SystemLookup, Target};

/// A name is looked up once: this is longer than any round.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(3600);

/// Rounds shorter than this many probes show no bar: it would only flicker.
const BAR_FROM: usize = 10;

/// One member to probe.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    channel: Arc<Channel>,
    member: usize,
}

/// How much is kept of each probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The report.
    Reported,
    /// The report and what the probe saw.
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
pub(super) fn subjects(channel: &Arc<Channel>) -> Vec<Subject> {
    let is_probed = channel.health_check().is_some_and(|check| check.status() == CheckStatus::On);
    let members = if is_probed { channel.members().len() } else { 0 };
    (0..members).map(|member| Subject { channel: Arc::clone(channel), member }).collect()
}

impl Subject {
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The member and its check; both exist by construction.
    fn parts(&self) -> Option<(&Member, &HealthCheck)> {
        Some((self.channel.members().get(self.member)?, self.channel.health_check()?))
    }

    /// `host:port` as the daemon calls the member.
    pub(super) fn address(&self) -> String {
        self.parts().map(|(member, _)| self.channel.member_address(member).to_string()).unwrap_or_default()
    }

    /// The member's name, if it has to be resolved.
    pub(super) fn name(&self) -> Option<&str> {
        match self.parts()?.0.host() {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }

    /// What is asked: `http://10.0.0.7:8080/health`.
    pub(super) fn url(&self) -> String {
        let Some((member, check)) = self.parts() else { return String::new() };
        let address =
            MemberAddress { host: member.host().clone(), port: self.channel.check_port(member).get() };
        match check.protocol() {
            Protocol::Tcp => format!("tcp://{address}"),
            Protocol::Http(http) => format!("http://{address}{}", http.path),
            Protocol::Https(http) => format!("https://{address}{}", http.path),
        }
    }
}

/// Probes every subject once, at most `at_once` at the same time. The results
/// are in the order of the subjects.
///
/// # Errors
/// Certificates or trust anchors of a channel that cannot be used.
pub(super) async fn run(
    subjects: Vec<Subject>,
    depth: Depth,
    at_once: NonZeroUsize,
) -> Result<Vec<Probed>, Unprepared> {
    let (resolver, refresher) = Resolver::new(SystemLookup, RESOLVE_INTERVAL);
    tokio::spawn(refresher.run());
    let bar = progress_bar(subjects.len());
    let mut plans = HashMap::new();
    let mut queue = Vec::with_capacity(subjects.len());
    for (index, subject) in subjects.iter().enumerate() {
        let Some((member, check)) = subject.parts() else { continue };
        let plan = match plans.get(subject.channel.name()) {
            Some(plan) => Arc::clone(plan),
            None => {
                let plan = Plan::new(check, subject.channel.probe());
                let plan =
                    plan.map_err(|source| Unprepared { channel: subject.channel.name().to_owned(), source })?;
                let plan = Arc::new(plan);
                plans.insert(subject.channel.name().to_owned(), Arc::clone(&plan));
                plan
            }
        };
        let target = Target::new(member.host(), subject.channel.check_port(member).get(), &resolver);
        queue.push((index, plan, target));
    }
    let mut found = probe_all(queue, depth, at_once, &bar).await;
    bar.finish_and_clear();
    let results = subjects.into_iter().enumerate().map(|(index, subject)| {
        let (report, explanation) = found.remove(&index).unwrap_or_else(|| {
            (Report::inconclusive(ProberReason::Internal, "the probe ended without a result"), None)
        });
        Probed { subject, report, explanation }
    });
    Ok(results.collect())
}

type Found = (Report, Option<ProbeTrace>);

/// Results by the numbers in the queue. A probe that panicked is missing.
async fn probe_all(
    queue: Vec<(usize, Arc<Plan>, Target)>,
    depth: Depth,
    at_once: NonZeroUsize,
    bar: &ProgressBar,
) -> HashMap<usize, Found> {
    let mut found = HashMap::with_capacity(queue.len());
    let mut running = JoinSet::new();
    let mut positions: HashMap<Id, usize> = HashMap::new();
    let mut waiting = queue.into_iter();
    loop {
        while running.len() < at_once.get() {
            let Some((index, plan, target)) = waiting.next() else { break };
            let handle = running.spawn(async move { probe_one(&plan, &target, depth).await });
            positions.insert(handle.id(), index);
        }
        let Some(ended) = running.join_next_with_id().await else { return found };
        bar.inc(1);
        if let Ok((id, result)) = ended
            && let Some(index) = positions.remove(&id)
        {
            found.insert(index, result);
        }
    }
}

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
