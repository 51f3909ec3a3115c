//! The table of `docs/faults.md`: checked against the cases, and the members
//! served for `tests/faults/peers`, which shows them to other health checkers.

use std::fs;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use crate::arena::{Running, members_runtime};
use crate::case::{Case, Protocol, THRESHOLD};
use crate::runs::RUNS;
use crate::{answering, connecting, ending, namespace, securing};

/// Names the file into which [`serve`] writes what it serves.
const SERVE: &str = "VITALD_FAULTS_SERVE";

/// A heading and its cases.
fn tables(folder: &Path) -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("Connecting", connecting::cases()),
        ("Answers over HTTP", answering::cases()),
        ("Late, cut off, or another protocol", ending::cases()),
        ("TLS", securing::cases(folder)),
        ("Routes, in a network namespace", namespace::cases()),
    ]
}

/// What a row says of vitald: all but the columns of the others.
fn row(case: &Case) -> String {
    let verdict = match case.expected.reason {
        None => format!("healthy: `{}`", case.expected.detail),
        Some(reason) => format!("`{reason}`: `{}`", case.expected.detail),
    };
    let verdict = verdict.replace('|', "\\|");
    format!("| {} | {} | {} | {verdict} |", case.name, case.protocol.word(), case.about)
}

#[test]
fn the_documented_table_is_that_of_the_suite() {
    let folder = crate::folder();
    let tables = tables(folder.path());
    if let Some(list) = std::env::var_os(SERVE) {
        return serve(&tables, folder.path(), Path::new(&list));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    let docs = fs::read_to_string(path).expect("docs/faults.md");
    let mut rows: Vec<String> = tables.iter().flat_map(|(_, cases)| cases.iter().map(row)).collect();
    rows.extend(RUNS.iter().map(run_row));
    assert!(rows.len() >= 120, "{} cases", rows.len());
    let documented: Vec<&str> =
        docs.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| case |")).collect();
    let mut wrong: Vec<String> = rows
        .iter()
        .filter(|row| documented.iter().filter(|line| line.starts_with(*row)).count() != 1)
        .map(|row| format!("missing: {row}"))
        .collect();
    let unknown = documented.iter().filter(|line| !rows.iter().any(|row| line.starts_with(row)));
    wrong.extend(unknown.map(|line| format!("not in the suite: {line}")));
    assert!(
        wrong.is_empty(),
        "run tests/faults/peers to write docs/faults.md anew; {} lines differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn run_row(run: &crate::runs::Run) -> String {
    let moves: Vec<String> = run.moves.iter().map(|(to, detail)| format!("{to} at `{detail}`")).collect();
    let moves = if moves.is_empty() { "no change".to_owned() } else { moves.join(", ") };
    format!("| {} | {}/{} | {} | {} | {moves} |", run.name, run.normal, run.abnormal, run.about, run.answers)
}

/// Serves every member until standard input ends.
fn serve(tables: &[(&'static str, Vec<Case>)], folder: &Path, list: &Path) {
    let ip = Ipv4Addr::new(127, 77, 0, 1);
    let runtime = members_runtime();
    let inside = runtime.enter();
    let mut kept = Vec::new();
    let mut sections = Vec::new();
    for (heading, cases) in tables {
        let mut described = Vec::new();
        for case in cases {
            let member = Running::start(case, ip, 0);
            described.push(describe(case, &member));
            kept.push(member);
        }
        sections.push(json!({ "heading": heading, "cases": described }));
    }
    drop(inside);
    let runs: Vec<String> = RUNS.iter().map(run_row).collect();
    let all = json!({
        "folder": folder, "threshold": THRESHOLD, "sections": sections, "runs": runs,
    });
    // Whole or not at all: the reader waits for the name.
    let half = list.with_extension("half");
    fs::write(&half, all.to_string()).expect("the list can be written");
    fs::rename(&half, list).expect("the list can be written");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn describe(case: &Case, member: &Running) -> Value {
    json!({
        "name": case.name,
        "row": row(case),
        "protocol": case.protocol.word(),
        "host": member.host,
        "port": member.port,
        "codes": case.codes,
        "method": case.method,
        "options": case.options,
        "client": case.check.contains("enable_client_ssl"),
        "is_tls": case.protocol == Protocol::Https,
        "interval_ms": u64::try_from(case.pace.interval.as_millis()).unwrap_or(u64::MAX),
        "timeout_ms": u64::try_from(case.pace.timeout.as_millis()).unwrap_or(u64::MAX),
    })
}
