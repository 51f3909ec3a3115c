//! A daemon that did not run: stopped for longer than its timeout while members
//! answered. It must blame nobody, and not make up for what it missed.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use vitald::health::schedule;

use crate::support::address::own_address;
use crate::support::certificates::Authority;
use crate::support::config::{member, pace};
use crate::support::relay::slow_relay;
use crate::support::{Answer, Backend, Daemon, Nginx, channel, wait};

const MEMBERS: u16 = 24;
const INTERVAL: Duration = Duration::from_millis(400);

/// Stops the daemon for a while, and says when it ran again.
fn stop_for(daemon: &Daemon, duration: Duration) -> Instant {
    daemon.signal(Signal::STOP);
    wait::until("the daemon to stop", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.process.id())).ok()?;
        let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
        (state == 'T').then_some(())
    });
    // The time that passes is the test.
    thread::sleep(duration);
    let resumed = wait::now();
    daemon.signal(Signal::CONT);
    resumed
}

#[test]
fn a_stop_makes_no_member_unhealthy_and_no_burst() {
    let ip = own_address();
    // Slow enough that some probes are always under way when the stop comes, and
    // answered during it.
    let slow = Answer::SlowStatus(Duration::from_millis(80), 200);
    let backends: Vec<Backend> =
        (0..MEMBERS).map(|index| Backend::steady(ip, 8000 + index, slow.clone())).collect();
    let members: Vec<String> = (0..MEMBERS).map(|index| member(ip, 8000 + index)).collect();
    // One failure would be enough.
    let check =
        format!("protocol = \"HTTP\"\npath = \"/\"\nhttp_code = \"200\"\n{}", pace(1, 1, "400ms", "300ms"));
    let daemon = Daemon::start(&channel("web", &check, &members));
    let unhealthy = |daemon: &Daemon| {
        daemon.metrics().sum("vitald_member_transitions_total", &[("channel", "web"), ("to", "unhealthy")])
    };
    for backend in &backends {
        daemon.wait_for_health("web", &backend.address.to_string(), "healthy");
    }
    let steady = unhealthy(&daemon);
    for stopped in [350, 1500, 700] {
        let resumed = stop_for(&daemon, Duration::from_millis(stopped));
        wait::until("two rounds after the stop", || {
            let again = |backend: &Backend| {
                backend.arrivals().iter().filter(|arrival| **arrival > resumed).count() >= 2
            };
            backends.iter().all(again).then_some(())
        });
        assert_eq!(unhealthy(&daemon), steady, "after a stop of {stopped} ms");
        assert_no_burst(&backends, resumed);
    }
    let labels = [("channel", "web")];
    assert_eq!(
        daemon.metrics().sum("vitald_probe_failures_total", &labels),
        0.0,
        "no failure was the member's"
    );
    assert!(daemon.metrics().value("vitald_probes_skipped_total", &[]).is_some_and(|skipped| skipped > 0.0));
    assert!(daemon.members("web").iter().all(|member| member.is("healthy") && member.in_rotation));

    // It still sees what is real.
    let Some(first) = backends.first() else { return };
    first.answer_with(Answer::Silence);
    let down = daemon.wait_for_health("web", &first.address.to_string(), "unhealthy");
    assert_eq!(down.reason.as_deref(), Some("response_timeout"));
}

/// A handshake takes several steps. Of a probe that was stopped in the middle the
/// deadline is over when the daemon runs again, and the member has not had its
/// chance: it gets the time that was lost.
#[test]
fn a_stop_in_the_middle_of_a_handshake_is_nobodys_failure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identity = Authority::new(folder.path(), "ours").issue("member", &["app.internal"], 2090);
    let servers = format!(
        "    server {{ listen IP:8443 ssl; ssl_certificate {}; ssl_certificate_key {}; HEALTH }}\n",
        identity.certificate.display(),
        identity.key.display()
    );
    let Some(nginx) = Nginx::start(&servers) else { return };
    let ip = own_address();
    for port in 8000..8000 + MEMBERS {
        slow_relay(ip, port, SocketAddr::from((nginx.ip, 8443)), Duration::from_millis(100));
    }
    let members: Vec<String> = (8000..8000 + MEMBERS).map(|port| member(ip, port)).collect();
    let check = format!(
        "protocol = \"HTTPS\"\npath = \"/health\"\nhttp_code = \"200\"\n{}",
        pace(1, 1, "400ms", "350ms")
    );
    let daemon = Daemon::start(&channel("web", &check, &members));
    let labels = [("channel", "web")];
    let all_healthy = || daemon.members("web").iter().all(|member| member.is("healthy")).then_some(());
    wait::until("all members to be healthy", all_healthy);
    let failures = || daemon.metrics().sum("vitald_probe_failures_total", &labels);
    let before = failures();
    for _ in 0..4 {
        stop_for(&daemon, Duration::from_millis(600));
        let answered = nginx.requests().len();
        wait::until("a round after the stop", || {
            (nginx.requests().len() >= answered + usize::from(MEMBERS)).then_some(())
        });
    }
    assert_eq!(failures(), before, "a member was blamed");
    let metrics = daemon.metrics();
    let duration = |part: &str, labels: &[(&str, &str)]| {
        let labels = [&[("channel", "web"), ("phase", "total")], labels].concat();
        metrics.sum(&format!("vitald_probe_duration_seconds_{part}"), &labels)
    };
    let long = duration("count", &[]) - duration("bucket", &[("le", "0.5")]);
    assert!(long > 0.0, "no stop met a handshake: the test has shown nothing");
    let inconclusive = metrics.sum("vitald_probes_total", &[("channel", "web"), ("result", "inconclusive")]);
    assert!(inconclusive < long, "{inconclusive} of {long} probes that met a stop found nothing");
    assert!(daemon.members("web").iter().all(|member| member.is("healthy")));
}

/// After the daemon ran again, each member is probed once per interval, and the
/// members are as spread over it as ever.
fn assert_no_burst(backends: &[Backend], resumed: Instant) {
    let mut first_round: Vec<Instant> = Vec::new();
    for backend in backends {
        let after: Vec<Instant> =
            backend.arrivals().into_iter().filter(|arrival| *arrival > resumed).collect();
        first_round.extend(after.iter().filter(|arrival| arrival.duration_since(resumed) < INTERVAL));
        for pair in after.windows(2) {
            if let [one, next] = pair {
                let gap = next.duration_since(*one);
                assert!(gap > INTERVAL / 2, "{}: probed again after {gap:?}", backend.address);
            }
        }
    }
    first_round.sort();
    // A slot that passed shortly before the daemon ran again is still used, and the
    // member's next one lies in the same interval.
    let used = INTERVAL + schedule::late_after(INTERVAL) + schedule::LONGEST_STEP;
    let spacing = INTERVAL / u32::from(MEMBERS);
    let most = used.as_micros().div_ceil(spacing.as_micros()) + 1;
    assert!(first_round.len() as u128 <= most, "{} probes in one interval", first_round.len());
    let window = INTERVAL / 8;
    let densest = first_round
        .iter()
        .map(|start| {
            first_round
                .iter()
                .filter(|other| **other >= *start && other.duration_since(*start) < window)
                .count()
        })
        .max();
    // Evenly spread it is an eighth.
    let most = backends.len() / 2;
    assert!(densest.unwrap_or(0) <= most, "{densest:?} of {} probes within {window:?}", backends.len());
}
