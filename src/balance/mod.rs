//! Picking a member: weighted round robin, weighted least connections, source
//! hash and URI hash, by many threads, while members change.
//!
//! Pure: no clock, I/O, runtime or logging; time is an argument of
//! [`Balancer::advance`]. Used by the daemon, and by anyone who writes a
//! proxy in Rust (`default-features = false` leaves out the daemon).
//!
//! ```text
//! health, changes ──> Balancer ──> writer (one)
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
//! | `balancer` | the shared handle: picks, changes, summaries, explanations |
//! | `picker` | a worker's fast path, and what it caches between picks |
//! | `thread_pickers` | the picker of each thread behind `Balancer::pick` |
//! | `strategy` | the list of strategies; each is one file below it |
//! | `request` | what a pick knows, what its search sees, why there is no member |
//! | `member`, `options` | what users say |
//! | `writer`, `membership` | the one writer, and its entry of each member |
//! | `pool` | which members a pick chooses among: one pool for each tier |
//! | `core`, `member_table` | what the writer publishes and pickers read |
//! | `counters`, `hash` | open and total picks; the seeded hash |
//! | `sync` | atomics and locks, exchangeable for loom's |
//!
//! What is guaranteed, and what each guarantee costs, is in `docs/balance.md`.

mod balancer;
mod core;
mod counters;
mod hash;
mod member;
mod member_table;
mod membership;
mod options;
mod picker;
mod pool;
mod request;
mod strategy;
mod sync;
mod thread_pickers;
mod writer;

pub use balancer::{Balancer, HandlePick, OwnedPick, PickExplanation, SharedPick};
pub use member::{Drain, MAX_WEIGHT, Member, MemberId, MemberSummary, UnknownMember};
pub use membership::{MAX_MEMBERS, UpdateError};
pub use options::{
    HashFunction, HashOptions, LeastRule, Options, Query, SlowStart, SourcePrefix, UriForm, UriRule,
};
pub use picker::{Pick, Picker};
pub use request::{NoPick, Request};
