//! The HTTP server: metrics, status, liveness, reload.
//!
//! `daemon` binds a listener and passes it to [`run`] with a [`DaemonHandle`], which
//! answers from immutable snapshots. Nothing here changes the daemon's
//! state, but for asking the source to reload.
//!
//! | file | what it does |
//! |---|---|
//! | `api` | the vendor's VPC channel API |
//! | `source` | what the server asks of the daemon |
//! | `server` | accepting, limits, draining |
//! | `listener` | TCP, TLS, Unix socket; where a request came from |
//! | `tls` | certificates that can be replaced |
//! | `connection` | one connection's time limits |
//! | `routes` | which path answers what |
//! | `health` | `/livez`, `/readyz` |
//! | `pick` | who would be picked, and why |
//! | `reload` | `POST /v1/reload`, and who may send it |
//! | `selection` | query parameters: which channels, how much detail |
//! | `metrics` | the Prometheus text of a snapshot |
//! | `status` | the JSON of a snapshot |
//! | `stream` | long texts in chunks |
//! | `auth` | who may use the management API |

pub mod api;
pub mod auth;
mod connection;
#[cfg(test)]
mod fixture;
mod health;
mod listener;
mod metrics;
mod pick;
mod reload;
mod routes;
mod selection;
mod server;
mod source;
mod status;
mod stream;
mod tls;

pub use listener::{ConnectionInfo, Listener, Machine, PeerAddress, bind_unix};
pub use routes::router;
pub use server::{DrainOutcome, Limits, run, run_router, run_with};
pub use source::{DaemonHandle, Liveness, ReloadSummary, SnapshotError};
pub use tls::{Tls, TlsError};
