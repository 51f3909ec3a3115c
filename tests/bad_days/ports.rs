//! No local port left: two are all there are, and others hold them.

use std::net::TcpStream;
use std::time::Duration;

use crate::inside::{NAMESPACE, can_unshare, inside};
use crate::support::config::{member, pace};
use crate::support::{Answer, Backend, Daemon, channel, wait};
use crate::unhealthy;

#[test]
fn without_local_ports_no_member_changes() {
    if can_unshare() {
        let setup = "ip link set lo up; echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range";
        inside(&NAMESPACE, setup, "ports::without_local_ports_no_member_changes", few_ports);
    }
}

fn few_ports() {
    let ip = crate::support::address::own_address();
    let backend = Backend::steady(ip, 8000, Answer::Close);
    let check = format!("protocol = \"TCP\"\n{}", pace(1, 1, "200ms", "200ms"));
    let daemon = Daemon::start(&channel("web", &check, &[member(ip, 8000)]));
    let address = backend.address.to_string();
    let before = daemon.wait_for_health("web", &address, "healthy");
    // The backend keeps a connection that says nothing, so its port stays taken.
    let mut held: Vec<TcpStream> = Vec::new();
    let seen = || {
        let labels = [("channel", "web"), ("reason", "local_port")];
        daemon.metrics().sum("vitald_probes_inconclusive_total", &labels)
    };
    wait::until("the ports to be gone", || {
        held.extend(TcpStream::connect(backend.address).ok());
        (seen() >= 5.0).then_some(())
    });
    let short = daemon.member("web", &address);
    assert_eq!(short.detail.as_deref(), Some("no local port is free"));
    assert_eq!((&short.health, &short.since), (&before.health, &before.since));
    assert_eq!(unhealthy(&daemon), 0.0);
    for connection in &held {
        rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO)).expect("a linger time");
    }
    drop(held);
    daemon.wait_for("web", &address, "probed again", |member| member.successes > short.successes);
    assert_eq!(unhealthy(&daemon), 0.0);
}
