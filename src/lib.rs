//! vitald: the health-check prober daemon and load-balancer core for VPC channels.
//!
//! How data flows; every arrow is a value, never a shared lock. `docs/architecture.md`
//! has the way of a member, a probe's outcome, a pick and an API call, file by file:
//!
//! ```text
//! files ──> config ─┐                                         ┌──> store (what must survive)
//!                   ├──> catalog ── one change ── one writer ─┤
//! calls ──> serve ──┘                   │                     └──> driver 0 .. n ── Job ──> probe (I/O)
//!                                       v                          (engine: members,           │
//!                          Channels, published                      schedule, thresholds) <────┘ Report
//!                             │         │                               │          │
//!                             │         └──> balancers, log <── Transition         │ pages, on demand
//!                             v                                                    v
//!                          serve: metrics, status, answers <─────────────────── Snapshot
//! ```
//!
//! | room | what it holds | may import |
//! |---|---|---|
//! | [`channel`] | what a channel is: fields, ranges, rules, rotation | nothing of ours |
//! | [`health`] | outcomes, thresholds, the schedule, snapshots | `channel` |
//! | [`balance`] | picking a member: wrr, wleastconn, source, uri | `channel` |
//! | `config` | files to channels, every error with its place | the pure rooms |
//! | `probe` | one file per protocol, resolving, TLS | the pure rooms |
//! | `store` | what survives a restart: records, verdicts | the pure rooms |
//! | `catalog` | which channels exist; the reader's view of everything | the above |
//! | `serve` | the HTTP server | the above |
//! | `daemon` | drivers, clock, signals, reload, systemd | the above |
//! | `cli` | one file per subcommand | the above |
//!
//! As a library: [`balance::Balancer`] picks members by four strategies. What it
//! promises is in `docs/balance.md`; `examples/tcp_proxy.rs` is a proxy around it.
//!
//! ```
//! use std::net::SocketAddr;
//! use vitald::balance::{Balancer, Member, Options, Request};
//! use vitald::channel::{Health, Strategy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backends: [SocketAddr; 3] = ["10.0.0.1:80".parse()?, "10.0.0.2:80".parse()?, "10.0.0.3:80".parse()?];
//! let members = backends.into_iter().zip([5, 3, 2]).map(|(at, weight)| Member::new(at).weight(weight));
//! let balancer = Balancer::new(Strategy::WeightedRoundRobin, Options::default(), members)?;
//!
//! let down = balancer.id_of("10.0.0.1:80").ok_or("not a member")?;
//! balancer.set_health(down, Health::Unhealthy)?; // a verdict of your probes
//!
//! let picker = balancer.picker(); // one per worker
//! let pick = picker.pick(&Request::new())?; // open until dropped
//! assert_eq!(pick.address(), &backends[1]);
//! # Ok(())
//! # }
//! ```
//!
//! `channel`, `health` and `balance` are pure: time is an argument, no I/O, no
//! runtime, no logging. Without the `daemon` feature they are the whole crate.

pub mod balance;
pub mod channel;
pub mod health;

#[cfg(feature = "daemon")]
#[expect(unreachable_pub, reason = "`pub` is what a room offers to other rooms")]
mod catalog;
#[cfg(feature = "daemon")]
mod cli;
#[cfg(feature = "daemon")]
#[expect(unreachable_pub, reason = "`pub` is what a room offers to other rooms")]
mod config;
#[cfg(feature = "daemon")]
#[expect(unreachable_pub, reason = "`pub` is what a room offers to other rooms")]
mod daemon;
#[cfg(feature = "daemon")]
#[expect(unreachable_pub, reason = "`pub` is what a room offers to other rooms")]
mod probe;
#[cfg(feature = "daemon")]
#[expect(unreachable_pub, reason = "`pub` is what a room offers to other rooms")]
mod serve;
#[cfg(feature = "daemon")]
#[expect(unreachable_pub, reason = "`pub` is what a room offers to other rooms")]
mod store;

/// The program: takes the arguments, its own name first, and gives the exit status.
#[cfg(feature = "daemon")]
pub use cli::main;

/// What the tests, benches and fuzz targets of this repository need of the rooms that are
/// no library. It may change with every version.
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod testing {
    pub mod catalog {
        pub use crate::catalog::{
            ApiRecord, Call, Catalog, Channels, Client, Fault, FeatureName, Fresh, Id, MemberChange,
            MemberChanged, Project, Quotas, ReloadState, Reply, Resources, Snapshot, Transaction,
            UnixSeconds,
        };
    }
    pub mod config {
        #[cfg(feature = "fuzzing")]
        pub use crate::config::parse_included;
        pub use crate::config::{Config, Diagnostics, KNOWN_KEYS, Paint, load, parse};
        pub mod api {
            pub use crate::config::api::{
                AccessKey, AccountRole, ApiSettings, ClearText, FeatureSwitch, InstanceSettings, Project,
                Quotas, User,
            };
        }
        pub mod password {
            pub use crate::config::password::{HashMemory, PasswordHash};
        }
        pub mod secret {
            pub use crate::config::secret::Secret;
        }
    }
    pub mod daemon {
        pub use crate::daemon::{ConfigSource, DaemonOptions, TransitionEvent, run};
    }
    pub mod probe {
        pub use crate::probe::{
            Addresses, EventQueue, Lookup, Plan, PlanError, ProbeTrace, Reference, Resolver, SystemLookup,
            Target, explain, read_local_ports, run, stall, wait_until,
        };
        #[cfg(feature = "fuzzing")]
        pub mod fuzzing {
            pub use crate::probe::fuzzing::{Conclusion, judge};
        }
    }
    pub mod serve {
        pub use crate::serve::{
            Access, Audit, AuditedCalls, DaemonHandle, Limits, Liveness, ReloadFault, ReloadSummary,
            SnapshotError, router, run,
        };
        pub mod api {
            pub use crate::serve::api::{ApiBackend, description, router};
        }
        pub mod auth {
            pub use crate::serve::auth::{AuthGate, Identity, keystone, require};
            pub mod signature {
                pub use crate::serve::auth::signature::{BodyHash, Claim, RequestHead};
            }
        }
    }
    pub mod store {
        pub use crate::store::{
            Batch, ChannelKeys, Collection, LocalStore, Record, RecordChange, RecordKey, SavedAt,
            SavedVerdicts, StateDirectory, StoreContents, StoreError, VerdictFile, VerdictRecord,
        };
    }
}
