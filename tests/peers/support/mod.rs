//! What the cases share: the daemon as a process, its peers, and waiting.

pub(crate) mod address;
pub(crate) mod backend;
pub(crate) mod certificates;
pub(crate) mod config;
pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod nginx;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod sockets;
pub(crate) mod wait;

pub(crate) use backend::{Answer, Backend};
pub(crate) use config::{channel, http_check, tcp_check};
pub(crate) use daemon::Daemon;
pub(crate) use nginx::Nginx;
