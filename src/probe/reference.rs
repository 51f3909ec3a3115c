//! The optional self-check: does anything beyond this machine still answer?
//!
//! When the prober's own network is gone every member falls silent at once, and
//! no probe can tell. [`super::run`] asks here before it believes such a silence:
//! when no reference target answers either, the probe proves nothing and ends as
//! `local_network`.
//!
//! Nothing is asked while members answer. The first suspicious failure asks, the
//! others wait for the same answer, so mass failure costs one connection a target
//! and [`FRESH`]. `daemon` sets the targets at each (re)load.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::health::{MemberReason, Outcome, ProberReason, Report};

/// How long a target may take to answer. A judged probe ends later by no more.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how long one answer serves all probes.
const FRESH: Duration = Duration::from_secs(1);

/// The reference targets and what they last said. Shared by all channels.
#[derive(Debug, Default)]
pub struct Reference {
    targets: RwLock<Arc<[SocketAddr]>>,
    /// Held while somebody asks: whoever waits finds the answer.
    last: Mutex<Option<NetworkCheck>>,
}

#[derive(Debug, Clone)]
struct NetworkCheck {
    targets: Arc<[SocketAddr]>,
    asked_at: Instant,
    network: Network,
}

#[derive(Debug, Clone)]
enum Network {
    Works,
    /// What the first target met.
    Lost(Arc<str>),
}

impl Reference {
    /// From now on the network is judged by these; without any it never is.
    pub fn replace(&self, targets: impl Into<Arc<[SocketAddr]>>) {
        *self.targets.write().unwrap_or_else(PoisonError::into_inner) = targets.into();
    }

    /// Withdraws a failure that the loss of our own network explains.
    ///
    /// A target that refuses the connection proves the network as well as one
    /// that accepts it. Cancel-safe: a question given up is asked by the next.
    pub(super) async fn judge(&self, mut report: Report) -> Report {
        let Outcome::Failure(reason) = report.outcome else { return report };
        if !network_may_be_at_fault(reason) {
            return report;
        }
        let targets = Arc::clone(&self.targets.read().unwrap_or_else(PoisonError::into_inner));
        let Some(first) = targets.first() else { return report };
        let now = Instant::now();
        // Boxed: every probe would carry the room for this question.
        let started = now.checked_sub(report.total).unwrap_or(now);
        if let Network::Lost(why) = Box::pin(self.network(started, &targets)).await {
            report.detail = format!(
                "no reference target answers either ({first}: {why}); {}: {}",
                reason.word(),
                report.detail
            )
            .into();
            report.outcome = Outcome::Inconclusive(ProberReason::LocalNetwork);
        }
        report
    }

    async fn network(&self, started: Instant, targets: &Arc<[SocketAddr]>) -> Network {
        let mut last = self.last.lock().await;
        if let Some(answer) = &*last
            && Arc::ptr_eq(&answer.targets, targets)
            && answer.serves(started, Instant::now())
        {
            return answer.network.clone();
        }
        let asked_at = Instant::now();
        let network = ask(targets).await;
        *last = Some(NetworkCheck { targets: Arc::clone(targets), asked_at, network: network.clone() });
        network
    }
}

impl NetworkCheck {
    /// A working network counts only for probes that were running then: it may
    /// have come back since an earlier one. A loss serves all of its second.
    fn serves(&self, started: Instant, now: Instant) -> bool {
        let fresh = now.saturating_duration_since(self.asked_at) < FRESH;
        fresh
            && match self.network {
                Network::Works => self.asked_at >= started,
                Network::Lost(_) => true,
            }
    }
}

/// Silence and missing routes. Whoever refuses, closes, resets or answers was
/// reached.
fn network_may_be_at_fault(reason: MemberReason) -> bool {
    use MemberReason as R;
    match reason {
        R::Unreachable | R::ConnectTimeout | R::TlsTimeout | R::ResponseTimeout | R::Resolve => true,
        R::Refused
        | R::Reset
        | R::Closed
        | R::SelfConnect
        | R::TlsHandshake
        | R::TlsCertificate
        | R::Protocol
        | R::Status => false,
    }
}

/// Asks all targets at once; the first that answers settles it.
async fn ask(targets: &[SocketAddr]) -> Network {
    let mut questions = JoinSet::new();
    for (place, &target) in targets.iter().enumerate() {
        questions.spawn(async move { (place, reach(target).await) });
    }
    let mut first = None;
    while let Some(ended) = questions.join_next().await {
        match ended {
            Ok((_, Ok(()))) => return Network::Works,
            Ok((0, Err(why))) => first = Some(why),
            // Another target's silence is not shown; a question never panics.
            Ok(_) | Err(_) => {}
        }
    }
    Network::Lost(first.unwrap_or_else(|| "no answer".into()))
}

async fn reach(target: SocketAddr) -> Result<(), Arc<str>> {
    match timeout(PATIENCE, TcpStream::connect(target)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) => Err(error.kind().to_string().into()),
        Err(_) => Err(format!("no connection within {} s", PATIENCE.as_secs()).into()),
    }
}
