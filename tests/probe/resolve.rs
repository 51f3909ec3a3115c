//! Members that are named: what a probe makes of the resolver's answer.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use vitald::channel::{Host, ProbeOptions};
use vitald::health::{MemberReason, Outcome, Report};
use vitald::testing::probe::{self, Addresses, Lookup, Resolver, Target};

use crate::members::{BRIEF, Member, PATIENT, expect, http, plan, runtime};

/// A resolver that gives every name the same answer, after a while.
struct Says(Addresses, Duration);

impl Lookup for Says {
    fn lookup(&self, _: Arc<str>) -> Pin<Box<dyn Future<Output = Addresses> + Send>> {
        let Self(answer, delay) = self;
        let (answer, delay) = (answer.clone(), *delay);
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            answer
        })
    }
}

/// Probes `app.internal` on a port, with this resolver.
fn probe_name(says: Says, port: u16, timeout: Duration) -> Report {
    let plan = plan(http("200"), timeout, &ProbeOptions::default());
    runtime().block_on(async {
        let (resolver, refresher) = Resolver::new(says, PATIENT);
        tokio::spawn(refresher.run());
        let target = Target::new(&Host::Name("app.internal".into()), port, &resolver);
        assert_eq!(target.address().to_string(), format!("app.internal:{port}"));
        probe::run(&plan, &target).await
    })
}

#[test]
fn a_named_member_is_probed_at_its_address_and_called_by_its_name() {
    let member = Member::new(|mut connection| {
        use std::io::Write;
        let request = crate::members::read_request(&mut connection);
        let named = request.contains("\r\nHost: app.internal:");
        let status = if named { "200 OK" } else { "421 Misdirected Request" };
        let _ = write!(connection, "HTTP/1.1 {status}\r\n\r\n");
    });
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // Slow resolving is no part of the probe's time.
    let says = Says(Ok(vec![address]), BRIEF);
    let report = probe_name(says, member.address.port(), PATIENT);
    expect(&report, Outcome::Success, "200 OK", "connect+response");
    assert_eq!(report.peer, Some(member.address));
    assert!(report.total < BRIEF, "{report:?}");
}

#[test]
fn a_name_without_an_address_is_a_failure_with_the_resolvers_words() {
    let says = Says(Err("Name or service not known".to_owned()), Duration::ZERO);
    let report = probe_name(says, 80, PATIENT);
    let detail = "no address for app.internal: Name or service not known";
    expect(&report, Outcome::Failure(MemberReason::Resolve), detail, "");
    assert_eq!(report.peer, None);
    let report = probe_name(Says(Ok(vec![]), PATIENT), 80, BRIEF);
    let detail = "no answer for app.internal from the resolver within 200ms";
    expect(&report, Outcome::Failure(MemberReason::Resolve), detail, "");
}
