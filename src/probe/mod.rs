//! One probe: connect, shake hands, ask, read the response head, say what was found.
//!
//! A driver of `daemon` builds one [`Plan`] per channel and (re)load and one
//! [`Target`] per member, and polls [`run`] on its thread, which has an
//! [`EventQueue`], once per slot of the schedule. `vitald probe --explain` calls
//! [`explain`] in a runtime. Nothing here returns an error or panics on what a peer sends: a
//! failed probe is a [`Report`] with a reason.
//!
//! A probe is a state machine over one non-blocking socket. It makes system
//! calls until the kernel says "would block", then waits for the socket or for
//! the one deadline. When the deadline comes first, the machine makes its
//! system calls once more: the socket is read before the timer is believed. When
//! the prober itself was away meanwhile, the member gets the time that it lost.
//!
//! | file | what it does |
//! |---|---|
//! | `plan` | what all members of a channel share |
//! | `target` | how one member is called and where it is |
//! | `reference` | is a silence ours? The optional self-check |
//! | `resolve` | names to addresses, off the probe path |
//! | `attempt` | one connection: open, wait, deadline, close |
//! | `course` | what happens between two waits, phase after phase |
//! | `wire` | the socket, and who watches it |
//! | `absence` | time in which the prober itself did not run |
//! | `progress` | how far a probe has come |
//! | `queue` | a driver's own event queue, and sockets used again |
//! | `tcp` | success is an established connection |
//! | `http` | the request, and the verdict on a response head |
//! | `https` | the same over TLS |
//! | `tls` | TLS settings, certificates, and what went wrong with them |
//! | `fault` | system errors: whose fault, and in which words |
//! | `explanation` | what `--explain` shows |
//! | `fuzzing` | a way in for the fuzz target of response heads |

pub mod absence;
mod attempt;
mod course;
mod explanation;
mod fault;
mod finding;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod http;
mod https;
mod plan;
mod progress;
mod queue;
mod reference;
mod resolve;
mod scratch;
mod target;
mod tcp;
mod tls;
mod wire;

pub use explanation::{CertificateExplanation, Explanation, TlsExplanation};
pub use plan::{Plan, PlanError};
pub use queue::{Bell, EventQueue, wait_until};
pub use reference::Reference;
pub use resolve::{Addresses, Lookup, Refresher, Resolver, SystemLookup};
pub use target::Target;
pub use tls::tls_settings;

use attempt::Attempt;

use crate::health::Report;

/// Probes a member once.
///
/// Cancel-safe: a dropped probe closes its socket (with a reset, where the
/// plan says so) and leaves nothing behind.
pub async fn run(plan: &Plan, target: &Target) -> Report {
    let report = match target.resolve(plan.timeout()).await {
        Ok(peer) => Attempt::new(plan, target, peer, None).run().await.0,
        Err(report) => report,
    };
    plan.judge(report).await
}

/// Probes a member once and keeps what a person wants to see of it.
pub async fn explain(plan: &Plan, target: &Target) -> (Report, Explanation) {
    match target.resolve(plan.timeout()).await {
        Ok(peer) => {
            let (report, notes) = Attempt::new(plan, target, peer, Some(Box::default())).run().await;
            (report, notes.map_or_else(Explanation::default, |notes| *notes))
        }
        Err(report) => (report, Explanation::default()),
    }
}
