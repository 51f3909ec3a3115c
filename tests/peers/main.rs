//! The built daemon against real peers, seen only from outside: nginx that
//! counts the probes, members that stall, hang or lie, certificates good and
//! bad, Prometheus, and a service manager's socket.
//!
//! Behind the feature `peer-tests`, because it needs nginx and Prometheus on the
//! machine; `tests/run peers` installs them. Every test has a loopback address
//! of its own, so all of them may run at once.

mod support;

mod certificates;
mod commands;
mod connections;
mod everyone;
mod http_answers;
mod peers_themselves;
mod process;
mod prometheus;
mod reload;
mod rotation;
mod service_manager;
mod shortage;
mod stopped;
mod thresholds;
mod tls_members;
