//! How far one probe has come, and when.
//!
//! `attempt` begins and ends it; the protocols move it from phase to phase.

use tokio::time::Instant;

use super::absence;
use super::explanation::Explanation;
use crate::health::Phases;

/// How often a probe waits on after its deadline because the prober was away.
const EXTENSIONS: u8 = 3;

/// The phase a probe is in; a timeout is named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connect,
    Tls,
    Response,
}

/// How far a probe has come, and when. The protocols move it.
pub(super) struct Progress {
    pub(super) started: Instant,
    entered: Instant,
    phase: Phase,
    pub(super) phases: Phases,
    /// When the prober last said something: from then on the member was to move.
    pub(super) spoke: Instant,
    pub(super) absence: absence::Reading,
    pub(super) extensions: u8,
    /// `notAfter` of the member's certificate, once seen.
    pub(super) certificate_not_after: Option<i64>,
    /// Kept for `--explain` only.
    pub(super) notes: Option<Box<Explanation>>,
}

impl Progress {
    pub(super) fn new(notes: Option<Box<Explanation>>) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            entered: now,
            phase: Phase::Connect,
            phases: Phases::default(),
            spoke: now,
            absence: absence::Reading::now(),
            extensions: EXTENSIONS,
            certificate_not_after: None,
            notes,
        }
    }

    /// The phase that is running.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The prober has just said something, or tried to.
    pub(super) fn speak(&mut self) {
        self.spoke = Instant::now();
    }

    /// Ends the running phase and enters the next.
    pub(super) fn enter(&mut self, next: Phase) {
        self.end_phase();
        self.phase = next;
    }

    /// Ends the running phase: its duration is known now.
    pub(super) fn end_phase(&mut self) {
        let now = Instant::now();
        let slot = match self.phase {
            Phase::Connect => &mut self.phases.connect,
            Phase::Tls => &mut self.phases.tls,
            Phase::Response => &mut self.phases.response,
        };
        *slot = Some(now.duration_since(self.entered));
        self.entered = now;
    }
}
