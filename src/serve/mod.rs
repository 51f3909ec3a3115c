//! The HTTP server: metrics, status, liveness, reload, and the management API.
//!
//! `daemon` binds a [`Listener`] and passes it to [`run`] with the routes of a
//! [`DaemonHandle`], which answers from immutable snapshots. The server's own pages
//! change nothing of the daemon but by what `operator` asks of it; the calls of `api` go
//! through [`api::ApiBackend`].
//!
//! | file | what it does |
//! |---|---|
//! | `server` | accepting and draining |
//! | `places` | who is let in when the server is full |
//! | `connection` | handshake, requests and time limits of a connection |
//! | `audit` | who did what and who was refused: an event, and counters |
//! | `guard` | what is asked of every request: its host, its origin |
//! | `peer` | where a request came from, and whose share it takes |
//! | `shares` | places for work of one kind, in all and per source |
//! | `tls` | certificates that can be replaced |
//! | `http` | bodies, answers and request ids of all routes |
//! | `app` | what the daemon's own pages share |
//! | `routes` | which path answers what; `/livez`, `/readyz` |
//! | `metrics`, `status` | a snapshot as Prometheus text and as JSON |
//! | `stream` | long texts in chunks, compressed or not |
//! | `pick` | which member would be picked, and why |
//! | `operator` | reloads and changes of members, and who may ask for them |
//! | `auth` | who may use the management API |
//! | `api` | the vendor's VPC channel API |

pub mod api;
mod app;
mod audit;
pub mod auth;
mod connection;
#[cfg(test)]
mod fixture;
mod guard;
mod http;
mod metrics;
mod operator;
mod peer;
mod pick;
mod places;
mod routes;
mod server;
mod shares;
mod status;
mod stream;
mod tls;

pub use app::{DaemonHandle, Liveness, ReloadFault, ReloadSummary, SnapshotError};
pub use audit::{Audit, AuditedCalls};
pub use connection::Limits;
pub use guard::Access;
pub use operator::MayOperate;
pub use routes::{pages, router};
pub use server::{DrainOutcome, Listener, run};
pub use tls::{Tls, TlsError};
