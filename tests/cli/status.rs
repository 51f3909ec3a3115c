//! `vitald status` against a listener that answers like a daemon, or does not.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use crate::support::{FakeServer, answer, closed_port, command, run, vitald};

/// A status with one channel `web`; each member is `health in_rotation`.
fn status(ready: bool, on_backup: bool, members: &[(&str, bool)]) -> String {
    let channel = channel(on_backup, members);
    format!(
        r#"{{"version":"0.1.0","started_at":"2026-01-01T00:00:00.5Z","ready":{ready},"channels":[{channel}]}}"#
    )
}

fn channel(on_backup: bool, members: &[(&str, bool)]) -> String {
    let members: Vec<String> = members
        .iter()
        .enumerate()
        .map(|(index, (health, in_rotation))| {
            let (result, reason, detail) = match *health {
                "healthy" => ("success", "null", "200 OK"),
                "unhealthy" => ("failure", "\"status\"", "503 Service\\u001b[31m Unavailable"),
                _ => ("inconclusive", "\"local_stall\"", "the prober was not running"),
            };
            format!(
                r#"{{"address":"127.0.0.1:1808{index}","group":"blue","backup":false,"enabled":true,"weight":30,
                "health":"{health}","in_rotation":{in_rotation},"since":"2026-01-01T00:00:05.123Z",
                "consecutive_successes":7,"consecutive_failures":0,
                "last_probe":{{"at":"2026-01-01T00:00:09Z","result":"{result}","reason":{reason},"detail":"{detail}",
                "status":200,"seconds":0.0012,"phases":{{"connect":0.0001,"response":0.0011}}}}}}"#
            )
        })
        .collect();
    format!(
        r#"{{"name":"web","strategy":"wrr","on_backup":{on_backup},"healthy":1,"unhealthy":1,"unknown":0,"disabled":0,"members":[{}]}}"#,
        members.join(",")
    )
}

#[test]
fn one_channel_says_what_it_takes_from_the_defaults() {
    let body = status(true, false, &[("healthy", true)]);
    let body =
        body.replace("\"healthy\":1,", "\"probe_defaults\":[\"headers.X-Key\",\"host\"],\"healthy\":1,");
    let server = FakeServer::start(vec![answer("200 OK", &body)]);
    let outcome = vitald(&["status", "--channel", "web", "--url", &server.url()]).expect_code(0);
    let line = "  from [defaults.probe]: headers.X-Key, host";
    assert!(outcome.stdout.lines().any(|shown| shown == line), "{}", outcome.stdout);
}

#[test]
fn each_state_has_its_exit_code() {
    let cases = [
        (status(true, false, &[("healthy", true), ("healthy", true)]), 0, "healthy"),
        (status(true, false, &[("healthy", true), ("unhealthy", false)]), 1, "degraded"),
        (status(true, true, &[("healthy", true)]), 1, "degraded"),
        (status(true, false, &[("unhealthy", false)]), 2, "critical"),
        (status(true, false, &[]), 2, "critical"),
        (status(false, false, &[("unknown", true)]), 3, "unknown"),
    ];
    for (body, code, word) in cases {
        let server = FakeServer::start(vec![answer("200 OK", &body)]);
        let outcome = vitald(&["status", "--url", &server.url()]).expect_code(code);
        assert!(outcome.stdout.starts_with(word), "{}", outcome.stdout);
        assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);
        let requests = server.requests();
        assert!(requests[0].starts_with("GET /v1/status HTTP/1.1\r\n"), "{requests:?}");
    }
}

#[test]
fn the_table_shows_members_and_no_remote_escapes() {
    let body = status(true, false, &[("healthy", true), ("unhealthy", false)]);
    let server = FakeServer::start(vec![answer("200 OK", &body)]);
    let outcome = vitald(&["status", "--url", &server.url()]).expect_code(1);
    let (head, table) = outcome.stdout.split_once("\n\n").expect("head and table");
    assert!(head.starts_with(&format!("degraded  {}  vitald 0.1.0  up ", server.url())), "{head}");
    assert!(head.ends_with("\n  web: 1 of 2 enabled members unhealthy"), "{head}");
    // The ages depend on today; everything else is exact.
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let rows: Vec<String> = rows.iter().map(|cells| [&cells[..7], &cells[8..]].concat().join("|")).collect();
    assert_eq!(
        rows,
        [
            "CHANNEL|MEMBER|GROUP|ROLE|WEIGHT|HEALTH|TRAFFIC|LAST PROBE",
            "web|127.0.0.1:18080|blue|primary|30|healthy|yes|200 OK (1.20 ms)",
            "web|127.0.0.1:18081|blue|primary|30|unhealthy|no|status: 503 Service [31m Unavailable (1.20 ms)",
        ]
    );
}

#[test]
fn the_table_says_where_a_probe_went_when_it_was_not_the_members_own_address() {
    let body = status(true, false, &[("healthy", true), ("unhealthy", false)]);
    // The check of the second has the member's port.
    let body = body.replacen("\"status\":200", "\"peer\":\"[2001:db8::7]:18080\",\"status\":200", 1);
    let (first, second) = body.split_at(body.find("127.0.0.1:18081").expect("the second member"));
    let second = second.replacen("\"status\":200", "\"peer\":\"127.0.0.1:18081\",\"status\":200", 1);
    let server = FakeServer::start(vec![answer("200 OK", &format!("{first}{second}"))]);
    let outcome = vitald(&["status", "--url", &server.url()]).expect_code(1);
    let ends: Vec<&str> = outcome.stdout.lines().rev().take(2).map(str::trim_end).collect();
    assert!(ends[1].ends_with("200 OK (1.20 ms) at [2001:db8::7]:18080"), "{}", outcome.stdout);
    assert!(ends[0].ends_with("Unavailable (1.20 ms)"), "{}", outcome.stdout);
}

#[test]
fn limited_probing_is_a_line() {
    for (waiting, expected) in [(0, None), (1, Some("1 member waiting")), (386, Some("386 members waiting"))]
    {
        let probes =
            format!(r#""probes":{{"in_flight":64,"max_in_flight":64,"waiting":{waiting}}},"channels""#);
        let body = status(true, false, &[("healthy", true)]).replace(r#""channels""#, &probes);
        let server = FakeServer::start(vec![answer("200 OK", &body)]);
        let outcome = vitald(&["status", "--url", &server.url()]).expect_code(0);
        let line = outcome.stdout.lines().find(|line| line.contains("probing is limited"));
        assert_eq!(line.is_some(), expected.is_some(), "{}", outcome.stdout);
        for part in expected.into_iter().chain(expected.map(|_| "64 probes run at once")) {
            assert!(line.is_some_and(|line| line.contains(part)), "{part}: {}", outcome.stdout);
        }
    }
}

#[test]
fn a_verdict_says_whose_it_is_where_the_check_did_not_reach_it() {
    let rows = [
        ("unhealthy", r#""earlier check","last_known":null"#, "unhealthy (earlier check)"),
        ("unknown", r#""last known","last_known":"unhealthy""#, "unknown (last known: unhealthy)"),
        ("healthy", r#""initial_state","last_known":null"#, "healthy (initial_state)"),
        ("healthy", r#""check","last_known":null"#, "healthy"),
    ];
    for (health, from, shown) in rows {
        let body = status(true, false, &[(health, health != "unhealthy")]);
        let body = body.replace("\"since\"", &format!("\"verdict_from\":{from},\"since\""));
        let server = FakeServer::start(vec![answer("200 OK", &body)]);
        let outcome = vitald(&["status", "--url", &server.url()]);
        let is_shown = outcome.stdout.lines().any(|line| line.split("  ").any(|cell| cell.trim() == shown));
        assert!(is_shown, "{shown}: {}", outcome.stdout);
    }
}

#[test]
fn json_is_the_daemons_own() {
    let body = status(true, false, &[("unhealthy", false)]);
    let server = FakeServer::start(vec![answer("200 OK", &body)]);
    let outcome = vitald(&["status", "--json", "--url", &server.url()]).expect_code(2);
    assert_eq!(outcome.stdout, format!("{body}\n"));
}

#[test]
fn one_channel_is_asked_for_by_its_name_and_shown_in_the_same_form() {
    for (ready, code) in [(true, 0), (false, 3)] {
        let body = status(ready, false, &[("unknown", true)]);
        let server = FakeServer::start(vec![answer("200 OK", &body); 2]);
        let outcome = vitald(&["status", "--url", &server.url(), "--channel", "a b"]).expect_code(code);
        assert!(outcome.stdout.contains("127.0.0.1:18080"), "{}", outcome.stdout);
        let outcome = vitald(&["status", "--json", "--url", &server.url(), "--channel", "a b"]);
        assert_eq!(outcome.expect_code(code).stdout, format!("{body}\n"));
        let requests = server.requests();
        assert!(
            requests.iter().all(|it| it.starts_with("GET /v1/status?channel=a%20b HTTP/1.1\r\n")),
            "{requests:?}"
        );
    }
    let server =
        FakeServer::start(vec![answer("404 Not Found", r#"{"error":"no channel is called \"nope\""}"#)]);
    let outcome = vitald(&["status", "--url", &server.url(), "--channel", "nope"]).expect_code(3);
    assert!(outcome.stderr.contains("404") && outcome.stderr.contains("nope"), "{}", outcome.stderr);
}

#[test]
fn nobody_there_is_unknown_and_says_what_to_do() {
    let url = format!("http://127.0.0.1:{}", closed_port());
    let outcome = vitald(&["status", "--url", &url]).expect_code(3);
    assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    for part in [&*url, "connection refused", "vitald run", "--url"] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
}

#[test]
fn another_program_there_is_unknown() {
    for wrong in [
        answer("200 OK", "<html>"),
        answer("200 OK", "{}"),
        answer("404 Not Found", "nope"),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        String::new(),
    ] {
        let server = FakeServer::start(vec![wrong]);
        let outcome = vitald(&["status", "--url", &server.url()]).expect_code(3);
        assert!(
            outcome.stderr.starts_with("error: ") && outcome.stderr.contains(&server.url()),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn the_address_comes_from_the_configuration() {
    let server = FakeServer::start(vec![answer("200 OK", &status(true, false, &[("healthy", true)]))]);
    let directory = tempfile::tempdir().expect("tempdir");
    let config = directory.path().join("vitald.toml");
    std::fs::write(&config, format!("[server]\nlisten = \"{}\"\n", server.address)).expect("write");
    run(command(&["status"]).env("VITALD_CONFIG", &config)).expect_code(0);

    // Its server is gone now; the message says where the address came from.
    drop(server.requests());
    let outcome = run(command(&["status"]).env("VITALD_CONFIG", &config)).expect_code(3);
    assert!(outcome.stderr.contains(config.to_str().expect("UTF-8")), "{}", outcome.stderr);
}

#[test]
fn watching_repeats_until_nobody_reads() {
    let body = status(true, false, &[("healthy", true)]);
    let server = FakeServer::start(vec![answer("200 OK", &body); 3]);
    let mut child = command(&["status", "--watch", "--interval", "10ms", "--url", &server.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let reader = BufReader::new(child.stdout.take().expect("piped"));
    // Two pictures, then the pipe closes while the third is on its way.
    let heads =
        reader.lines().map_while(Result::ok).filter(|line| line.starts_with("healthy")).take(2).count();
    assert_eq!(heads, 2);
    let mut waited = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        assert!(waited < Duration::from_secs(10), "it did not end");
        std::thread::sleep(Duration::from_millis(20));
        waited += Duration::from_millis(20);
    };
    // The third answer was healthy too, or (a race) the daemon was gone: 0 or 3.
    assert!(matches!(status.code(), Some(0 | 3)), "{status:?}");
}
