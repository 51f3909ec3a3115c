//! Cases of routes that lead nowhere: they need a network of their own.

use crate::arena;
use crate::case::{Case, Member, tcp};
use crate::inside::{NAMESPACE, can_unshare, inside};

/// The network of these cases.
const SETUP: &str = "ip link set lo up
    ip route add unreachable 192.0.2.1
    ip route add prohibit 192.0.2.2
    ip route add blackhole 192.0.2.3
    ip link add veth type veth peer name far
    ip link set veth up
    ip link set far up
    ip addr add 198.51.100.1/24 dev veth
    echo 1 > /proc/sys/net/ipv4/neigh/veth/mcast_solicit
    echo 100 > /proc/sys/net/ipv4/neigh/veth/retrans_time_ms
    ip neigh add 198.51.100.2 lladdr 02:00:00:00:00:02 dev veth
    ip link add off type veth peer name away
    ip addr add 203.0.113.1/24 dev off";

pub(crate) fn cases() -> Vec<Case> {
    let at = |name, about, host| tcp(name, about).member(Member::At(host));
    vec![
        at("route-unreachable", "has a route of the kind unreachable", "192.0.2.1")
            .down("unreachable", "no route to host"),
        at("route-prohibit", "has a route of the kind prohibit", "192.0.2.2")
            .down("unreachable", "administratively forbidden"),
        at("route-blackhole", "has a route of the kind blackhole", "192.0.2.3")
            .down("unreachable", "a route of this host discards what is sent there"),
        at("route-none", "has no route", "192.0.2.4").down("unreachable", "network unreachable"),
        at("route-dropped", "is behind a link that drops every packet", "198.51.100.2")
            .down("connect_timeout", "no connection within 1s"),
        at("route-no-neighbour", "is on the link, and nobody answers for its address", "198.51.100.3")
            .down("unreachable", "no route to host"),
        at("route-link-down", "is behind a link that is down", "203.0.113.2")
            .down("unreachable", "network unreachable"),
    ]
}

#[test]
fn routes_that_lead_nowhere() {
    if can_unshare() {
        inside(&NAMESPACE, SETUP, "namespace::routes_that_lead_nowhere", || {
            arena::run(crate::folder(), &cases());
        });
    }
}
