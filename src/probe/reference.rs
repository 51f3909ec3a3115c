//! The optional self-check: whether anything beyond this machine still answers.
//!
//! When the prober's own network is gone, all members fall silent at once, and no single
//! probe can tell why. A probe that meets such a silence therefore connects to the
//! reference targets. When none of them answers either, the silence says nothing of the
//! member, and the probe ends as `local_network`.
//!
//! Nothing is checked while members answer. The first suspicious failure starts a check
//! and the others wait for its result, so a mass failure costs one connection for each
//! target and [`FRESH`]. `daemon` sets the targets at each (re)load.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::health::{MemberReason, Outcome, ProberReason, Report};

/// How long a target may take to answer. The check makes a probe longer by no more.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how long one result serves all probes.
const FRESH: Duration = Duration::from_secs(1);

/// The reference targets and the last check of them. Shared by all channels.
#[derive(Debug, Default)]
pub struct Reference {
    targets: RwLock<Arc<[SocketAddr]>>,
    /// Held during a check: the probes that wait for it find the result.
    last: Mutex<Option<NetworkCheck>>,
}

#[derive(Debug, Clone)]
struct NetworkCheck {
    targets: Arc<[SocketAddr]>,
    began: Instant,
    network: NetworkState,
}

/// The network works, or why the first target did not answer.
type NetworkState = Result<(), Arc<str>>;

impl Reference {
    /// Sets the targets; without any, no failure is held against the network.
    pub fn replace(&self, targets: impl Into<Arc<[SocketAddr]>>) {
        *self.targets.write().unwrap_or_else(PoisonError::into_inner) = targets.into();
    }

    /// Withdraws a failure that the loss of our own network explains.
    ///
    /// A target that refuses the connection proves that the network works, as one that
    /// accepts it does. Cancel-safe: the next probe repeats a check that was given up.
    pub(super) async fn judge(&self, mut report: Report) -> Report {
        let Outcome::Failure(reason) = report.outcome else { return report };
        if !network_may_be_at_fault(reason) {
            return report;
        }
        let targets = Arc::clone(&self.targets.read().unwrap_or_else(PoisonError::into_inner));
        let Some(first) = targets.first() else { return report };
        let now = Instant::now();
        // Boxed, so that a probe is no larger for a check that it may never make.
        let started = now.checked_sub(report.total).unwrap_or(now);
        if let Err(why) = Box::pin(self.network(started, &targets)).await {
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

    async fn network(&self, started: Instant, targets: &Arc<[SocketAddr]>) -> NetworkState {
        let mut last = self.last.lock().await;
        let began = Instant::now();
        if let Some(check) = &*last
            && Arc::ptr_eq(&check.targets, targets)
            && check.serves(started, began)
        {
            return check.network.clone();
        }
        let network = connect_to_any(targets).await;
        *last = Some(NetworkCheck { targets: Arc::clone(targets), began, network: network.clone() });
        network
    }
}

impl NetworkCheck {
    /// Whether the result holds for a probe of this start. "It works" holds only for
    /// probes that were running then: it may have been gone in an earlier one.
    fn serves(&self, started: Instant, now: Instant) -> bool {
        let is_fresh = now.saturating_duration_since(self.began) < FRESH;
        is_fresh && (self.network.is_err() || self.began >= started)
    }
}

/// True for silence and missing routes. A member that refuses, closes, resets or answers
/// was reached.
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

/// Connects to all targets at once, until the first answers.
async fn connect_to_any(targets: &[SocketAddr]) -> NetworkState {
    let mut connecting = JoinSet::new();
    for (index, &target) in targets.iter().enumerate() {
        connecting.spawn(async move { (index, connect(target).await) });
    }
    let mut first = None;
    while let Some(ended) = connecting.join_next().await {
        match ended {
            Ok((_, Ok(()))) => return Ok(()),
            Ok((0, Err(why))) => first = Some(why),
            // Why the other targets do not answer is not shown; a task never panics.
            Ok(_) | Err(_) => {}
        }
    }
    Err(first.unwrap_or_else(|| "no answer".into()))
}

async fn connect(target: SocketAddr) -> NetworkState {
    match timeout(PATIENCE, TcpStream::connect(target)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) => Err(error.kind().to_string().into()),
        Err(_) => Err(format!("no connection within {} s", PATIENCE.as_secs()).into()),
    }
}
