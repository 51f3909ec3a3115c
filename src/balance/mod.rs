//! Picking a member: weighted round robin, weighted least connections, source
//! hash and URI hash, by many threads, while members change.
//!
//! Pure: no clock, I/O, runtime or logging; time is an argument of
//! [`Balancer::advance`]. Used by vitald's listeners, and by anyone who writes a
//! proxy in Rust (`default-features = false` leaves out the daemon).
//!
//! ```text
//! verdicts, edits ──> Balancer ──> writer (one writer)
//!                                    │ publishes        │ writes words
//!                                    v                  v
//!                                 snapshot: tables, bits, active pool
//!                                    │ cached per worker, checked per pick
//!                                    v
//! requests ────────> Picker ──> member, open until the pick is dropped ──> counters
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `balancer` | the shared handle: picks, changes, views, explanations |
//! | `picker`, `lane` | a worker's fast path; what it remembers between picks |
//! | `thread_pickers` | the picker of each thread behind `Balancer::pick` |
//! | `request` | what a pick needs to know; why there is nobody |
//! | `member`, `options` | what users say |
//! | `writer` | the writer: rows, flips, rebuilds, slow start |
//! | `pool` | which members a pick chooses among: tiers and weights |
//! | `snapshot`, `core` | what pickers read; what all share |
//! | `sequence` | the order of weighted round robin |
//! | `least` | the exact order of weighted least connections |
//! | `key`, `placement` | from a request to a hash; from a hash to a member |
//! | `counters` | open and total picks |
//! | `sync` | atomics and locks, exchangeable for loom's |
//!
//! What is guaranteed, and what each guarantee costs, is in `docs/balance.md`.

mod balancer;
mod core;
mod counters;
mod key;
mod lane;
mod least;
mod member;
mod options;
mod picker;
mod placement;
mod pool;
mod request;
mod sequence;
mod snapshot;
mod sync;
mod thread_pickers;
mod writer;

pub use balancer::{Balancer, OwnedPick, PickExplanation, SharedPick};
pub use member::{Drain, MAX_WEIGHT, Member, MemberId, MemberSummary, UnknownMember};
pub use options::{
    HashFunction, HashOptions, LeastRule, Options, Query, SlowStart, SourcePrefix, UriForm, UriRule,
};
pub use picker::{Pick, Picker};
pub use request::{NoPick, Request};
pub use writer::{MAX_MEMBERS, UpdateError};
