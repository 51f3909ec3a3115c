//! The metrics as Prometheus sees them: `promtool` finds nothing to say, and a
//! real server scrapes them.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::address::own_address;
use crate::support::config::member;
use crate::support::process::{Process, peer_program};
use crate::support::{Answer, Backend, Daemon, channel, http, http_check, tcp_check, wait};

/// A daemon with a member of each health, over TCP and HTTP.
fn daemon_with_every_series() -> (Daemon, Vec<Backend>) {
    let ip = own_address();
    let up = Backend::steady(ip, 8000, Answer::Status(200));
    let down = Backend::steady(ip, 8001, Answer::Status(500));
    let channels = channel(
        "web",
        &http_check("HTTP", "/", "200"),
        &[member(ip, 8000), member(ip, 8001), format!("{}\nis_backup = true", member(ip, 8000 + 2))],
    ) + &channel("sockets", &tcp_check(), &[member(ip, 8000), member(ip, 8003)])
        + &channel("unchecked", &format!("{}status = 2\n", tcp_check()), &[member(ip, 8000)]);
    let daemon = Daemon::start(&channels);
    daemon.wait_for_health("web", &up.address.to_string(), "healthy");
    daemon.wait_for_health("web", &down.address.to_string(), "unhealthy");
    daemon.wait_for_health("sockets", &up.address.to_string(), "healthy");
    (daemon, vec![up, down])
}

#[test]
fn promtool_has_nothing_to_say() {
    let Some(promtool) = peer_program("promtool") else { return };
    let (daemon, _members) = daemon_with_every_series();
    for path in ["/metrics", "/metrics?channel=web", "/metrics?detail=channel"] {
        let answer = daemon.get(path);
        assert_eq!(answer.status, 200);
        assert!(
            answer.head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"),
            "{}",
            answer.head
        );
        let mut check = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool can be started");
        check.stdin.take().expect("its input").write_all(&answer.body).expect("it reads");
        let output = check.wait_with_output().expect("it ends");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{path}: {said}");
    }
}

#[test]
fn every_documented_family_is_there() {
    let (daemon, _members) = daemon_with_every_series();
    let metrics = daemon.metrics();
    for family in [
        "vitald_member_up",
        "vitald_member_in_rotation",
        "vitald_member_weight",
        "vitald_member_last_change_timestamp_seconds",
        "vitald_member_last_probe_duration_seconds",
        "vitald_probes_total",
        "vitald_probe_failures_total",
        "vitald_member_transitions_total",
        "vitald_probe_duration_seconds",
        "vitald_channel_members",
        "vitald_channel_on_backup",
        "vitald_probe_schedule_lag_seconds",
        "vitald_log_lines_lost_total",
        "vitald_probes_in_flight",
        "vitald_probes_waiting",
        "vitald_probes_skipped_total",
        "vitald_config_last_reload_successful",
        "vitald_config_last_reload_success_timestamp_seconds",
        "vitald_build_info",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        assert!(metrics.text.contains(&format!("# TYPE {family} ")), "{family} is missing");
        assert!(metrics.text.contains(&format!("# HELP {family} ")), "{family} has no help");
    }
    let now = wait::wall_clock();
    let started = metrics.value("process_start_time_seconds", &[]).expect("the series");
    assert!((now - 120.0..=now + 1.0).contains(&started), "started at {started}, now is {now}");
    // Absent while unknown: nothing is guessed.
    assert_eq!(metrics.value("vitald_member_up", &[("channel", "unchecked")]), None);
    let only = daemon.get("/metrics?channel=sockets").text();
    assert!(only.contains("channel=\"sockets\"") && !only.contains("channel=\"web\""), "{only}");
    let totals = daemon.get("/metrics?detail=channel").text();
    assert!(totals.contains("vitald_channel_members{") && !totals.contains("member=\""), "{totals}");
}

#[test]
fn gzip_is_given_to_who_asks() {
    let (daemon, _members) = daemon_with_every_series();
    let packed =
        http::send(daemon.address, "GET", "/metrics", "Accept-Encoding: gzip\r\n").expect("an answer");
    assert!(packed.head.to_ascii_lowercase().contains("content-encoding: gzip"), "{}", packed.head);
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_string(&mut text).expect("gzip");
    assert!(text.contains("vitald_member_up{"));
}

/// The value of the one series that a query gives.
fn query(prometheus: SocketAddr, expression: &str) -> Option<String> {
    let encoded: String =
        expression
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
    let answer = http::get(prometheus, &format!("/api/v1/query?query={encoded}")).ok()?;
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    let value = json.pointer("/data/result/0/value/1")?.as_str()?.to_owned();
    assert!(json.pointer("/data/result/1").is_none(), "{expression} gives more than one series: {json}");
    Some(value)
}

#[test]
fn a_real_prometheus_scrapes_it() {
    let Some(program) = peer_program("prometheus") else { return };
    let (daemon, members) = daemon_with_every_series();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n  - job_name: vitald\n    \
         static_configs: [{{ targets: [\"{}\"] }}]\n",
        daemon.address
    );
    fs::write(folder.path().join("prometheus.yml"), config).expect("the folder can be written");
    let listen = SocketAddr::from((own_address(), 9090));
    let log = fs::File::create(folder.path().join("log")).expect("the folder can be written");
    let child = Command::new(program)
        .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={listen}"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("Prometheus can be started");
    let mut prometheus = Process::new(child);
    let ask = |prometheus: &mut Process, expression: &str| {
        wait::until(expression, || {
            if let Some(status) = prometheus.ended() {
                let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                panic!("Prometheus ended with {status}: {log}");
            }
            query(listen, expression)
        })
    };
    let [up, down] = [0, 1].map(|index: usize| members.get(index).map(|member| member.address).expect("two"));
    let series = |name: &str, member: SocketAddr| format!("{name}{{channel=\"web\",member=\"{member}\"}}");
    assert_eq!(ask(&mut prometheus, "up{job=\"vitald\"}"), "1");
    assert_eq!(ask(&mut prometheus, &series("vitald_member_up", up)), "1");
    assert_eq!(ask(&mut prometheus, &series("vitald_member_up", down)), "0");
    assert_eq!(ask(&mut prometheus, "count(vitald_build_info)"), "1");
    // Two scrapes make a rate.
    let rate = wait::until("a rate", || {
        let expression = "sum(rate(vitald_probes_total{channel=\"web\",result=\"success\"}[20s]))";
        query(listen, expression)?.parse::<f64>().ok().filter(|rate| *rate > 0.0)
    });
    assert!(rate < 20.0, "{rate} probes a second");
    let duration = "histogram_quantile(0.5, sum by (le) (rate(vitald_probe_duration_seconds_bucket{phase=\"total\"}[20s])))";
    assert!(ask(&mut prometheus, duration).parse::<f64>().is_ok_and(|seconds| seconds > 0.0));
}
