//! What nginx answers, and the verdict that follows: statuses, redirects,
//! methods, headers, a stalled backend, a stop and a restart.

use crate::support::config::member;
use crate::support::nginx::Request;
use crate::support::{Daemon, Nginx, channel, http_check, wait};

/// How far the stamps of two programs on one machine may disagree.
const CLOCK_GRAIN: f64 = 0.02;

/// Asserts that a health changed right after the `count`-th of these requests:
/// not before it was answered, and not as late as the next one.
fn assert_changed_at(requests: &[Request], count: usize, changed: f64) {
    let stamps: Vec<f64> = requests.iter().map(|request| request.at).collect();
    let [.., last] = stamps.get(..count).unwrap_or_else(|| panic!("fewer than {count} requests: {stamps:?}"))
    else {
        panic!("no request")
    };
    assert!(*last <= changed + CLOCK_GRAIN, "changed at {changed}, before request {count}: {stamps:?}");
    if let Some(next) = stamps.get(count) {
        assert!(
            changed <= *next + CLOCK_GRAIN,
            "changed at {changed}, only after request {}: {stamps:?}",
            count + 1
        );
    }
}

#[test]
fn statuses_give_the_documented_verdicts() {
    let Some(nginx) = Nginx::plain(1) else { return };
    let address = nginx.member(8000);
    let channels = channel("wide", &http_check("HTTP", "/health", "200-299"), &[member(nginx.ip, 8000)]);
    let daemon = Daemon::start(&channels);

    let up = daemon.wait_for_health("wide", &address, "healthy");
    assert_eq!((up.status, up.detail.as_deref()), (Some(200), Some("200 OK")));
    assert_changed_at(&nginx.requests(), 2, daemon.last_change("wide", &address));

    // Down after 3, for a status; the server counts only the bad answers.
    for (switch, status) in [("answer-500", 500), ("answer-301", 301)] {
        let before = nginx.requests().iter().filter(|request| request.status == status).count();
        assert_eq!(before, 0);
        nginx.switch_on(switch, 8000);
        let down = daemon.wait_for_health("wide", &address, "unhealthy");
        let changed = daemon.last_change("wide", &address);
        assert_eq!((down.reason.as_deref(), down.status), (Some("status"), Some(status)));
        assert_eq!(down.result.as_deref(), Some("failure"));
        assert!(!down.in_rotation);
        let bad = wait::until("one more probe", || {
            let mut requests = nginx.requests();
            requests.retain(|request| request.status == status);
            (requests.len() > 3).then_some(requests)
        });
        assert_changed_at(&bad, 3, changed);

        nginx.switch_off(switch, 8000);
        let flipped = wait::wall_clock();
        daemon.wait_for_health("wide", &address, "healthy");
        let changed = daemon.last_change("wide", &address);
        let last_bad =
            nginx.requests().iter().rposition(|request| request.status == status).expect("bad ones");
        let good: Vec<Request> = nginx.requests().split_off(last_bad + 1);
        assert!(changed >= flipped);
        assert_changed_at(&good, 2, changed);
    }
    // 204 is in the set.
    nginx.switch_on("answer-204", 8000);
    daemon.wait_for("wide", &address, "seen with 204", |member| member.status == Some(204));
    assert!(daemon.member("wide", &address).is("healthy"));

    // The redirect was a verdict, and nobody went where it pointed.
    assert!(nginx.requests().iter().all(|request| request.field("uri") == "/health"));
    assert_eq!(daemon.transitions("wide", &address, "unhealthy"), 2.0);
    assert_eq!(daemon.transitions("wide", &address, "healthy"), 3.0);
}

#[test]
fn a_status_outside_the_set_is_a_failure_even_when_it_is_a_success() {
    let Some(nginx) = Nginx::plain(1) else { return };
    nginx.switch_on("answer-204", 8000);
    let address = nginx.member(8000);
    let daemon =
        Daemon::start(&channel("strict", &http_check("HTTP", "/health", "200"), &[member(nginx.ip, 8000)]));
    let down = daemon.wait_for_health("strict", &address, "unhealthy");
    assert_eq!((down.reason.as_deref(), down.status), (Some("status"), Some(204)));
    assert_changed_at(&nginx.requests(), 3, daemon.last_change("strict", &address));
    assert_eq!(
        daemon.metrics().sum("vitald_probe_failures_total", &[("channel", "strict"), ("reason", "status")]),
        daemon.probes("strict", &address)
    );
}

#[test]
fn the_server_and_the_daemon_count_the_same_probes() {
    let Some(nginx) = Nginx::plain(3) else { return };
    let members: Vec<String> = (8000..8003).map(|port| member(nginx.ip, port)).collect();
    let daemon = Daemon::start(&channel("web", &http_check("HTTP", "/health", "200"), &members));
    for port in 8000..8003 {
        let address = nginx.member(port);
        wait::until("ten probes of each", || (nginx.requests_to(port).len() >= 10).then_some(()));
        // Between two probes both have counted the same.
        wait::until("the same count on both sides", || {
            let before = nginx.requests_to(port).len();
            let counted = daemon.probes("web", &address);
            (nginx.requests_to(port).len() == before && counted == before as f64).then_some(())
        });
    }
    // Every probe had a connection of its own.
    let requests = nginx.requests();
    let serials: std::collections::BTreeSet<&str> =
        requests.iter().map(|request| request.field("serial")).collect();
    assert_eq!(serials.len(), requests.len());
}

#[test]
fn requests_are_as_documented() {
    let Some(nginx) = Nginx::plain(2) else { return };
    let own = format!(
        "{}method = \"HEAD\"\n\n[channels.probe]\nhost = \"app.internal\"\nheaders = {{ \"X-Probe\" = \"vitald\" }}",
        http_check("HTTP", "/health?deep=1", "200")
    );
    let channels = channel("plain", &http_check("HTTP", "/health", "200"), &[member(nginx.ip, 8000)])
        + &channel("own", &own, &[member(nginx.ip, 8001)]);
    let daemon = Daemon::start(&channels);
    daemon.wait_for_health("plain", &nginx.member(8000), "healthy");
    daemon.wait_for_health("own", &nginx.member(8001), "healthy");
    for request in nginx.requests() {
        let (method, uri, host, x_probe) = match request.port {
            8000 => ("GET", "/health", nginx.member(8000), ""),
            _ => ("HEAD", "/health?deep=1", "app.internal".to_owned(), "vitald"),
        };
        assert_eq!(request.field("method"), method);
        assert_eq!(request.field("uri"), uri);
        assert_eq!(request.field("host"), host);
        assert_eq!(request.field("x_probe"), x_probe);
        assert_eq!(request.field("protocol"), "HTTP/1.1");
        assert_eq!(request.field("connection"), "close");
        assert_eq!(request.field("agent"), concat!("vitald/", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_stalled_backend_times_out_and_recovers() {
    let Some(nginx) = Nginx::plain(1) else { return };
    let address = nginx.member(8000);
    let daemon =
        Daemon::start(&channel("slow", &http_check("HTTP", "/health", "200"), &[member(nginx.ip, 8000)]));
    daemon.wait_for_health("slow", &address, "healthy");
    nginx.switch_on("stall", 8000);
    let down = daemon.wait_for_health("slow", &address, "unhealthy");
    assert_eq!((down.reason.as_deref(), down.status), (Some("response_timeout"), None));
    let seconds =
        down.json.pointer("/last_probe/seconds").and_then(serde_json::Value::as_f64).expect("seconds");
    assert!((0.25..1.0).contains(&seconds), "the deadline is 0.25 s, the probe took {seconds}");
    nginx.switch_off("stall", 8000);
    daemon.wait_for_health("slow", &address, "healthy");
}

#[test]
fn a_stopped_server_refuses_and_a_restarted_one_returns() {
    let Some(mut nginx) = Nginx::plain(2) else { return };
    let members = [member(nginx.ip, 8000), member(nginx.ip, 8001)];
    let daemon = Daemon::start(&channel("web", &http_check("HTTP", "/health", "200"), &members));
    let addresses = [nginx.member(8000), nginx.member(8001)];
    for address in &addresses {
        daemon.wait_for_health("web", address, "healthy");
    }
    nginx.stop();
    for address in &addresses {
        let down = daemon.wait_for_health("web", address, "unhealthy");
        assert_eq!(down.reason.as_deref(), Some("refused"));
    }
    let after_stop = nginx.requests().len();
    nginx.run();
    for (address, port) in addresses.iter().zip([8000_u16, 8001]) {
        daemon.wait_for_health("web", address, "healthy");
        let since_run: Vec<Request> = nginx.requests().split_off(after_stop);
        let own: Vec<Request> =
            since_run.into_iter().filter(|request| request.port == u64::from(port)).collect();
        assert_changed_at(&own, 2, daemon.last_change("web", address));
        assert_eq!(daemon.transitions("web", address, "unhealthy"), 1.0);
    }
}
