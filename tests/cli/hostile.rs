//! Whatever a server answers, a file holds or a file is called: no command prints a control
//! character but line ends, and its own colours on a terminal.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::support::{FakeServer, Outcome, answer, command, run};

/// What steers a terminal or the direction of writing. Colour 35 is none of vitald's.
const PARTS: [&str; 20] = [
    "\x1b[35m",
    "\x1b]0;x\x07",
    "\x1b",
    "\x07",
    "\x08",
    "\x7f",
    "\u{9b}35m",
    "\u{85}",
    "\t",
    "\r",
    "\u{61c}",
    "\u{200e}",
    "\u{200f}",
    "\u{202a}",
    "\u{202e}",
    "\u{2066}",
    "\u{2069}",
    "a",
    "\"",
    "\\",
];

fn hostile() -> impl Strategy<Value = String> {
    let part = proptest::sample::select(PARTS.to_vec());
    proptest::collection::vec(part, 1..20).prop_map(|parts| format!("h\x1b[35m{}", parts.concat()))
}

fn is_control(character: char) -> bool {
    let is_of_direction = matches!(character,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && character != '\n') || is_of_direction
}

#[track_caller]
fn expect_clean(what: &str, text: &str) {
    assert!(!text.contains(is_control), "{what}: {text:?}");
}

/// The same after the colours of vitald, and the line ends of terminals.
#[track_caller]
fn expect_clean_but_for_colours(what: &str, text: &str) {
    assert!(text.contains("\x1b[") && !text.contains("\x1b[35m"), "{what}: {text:?}");
    let text = text.replace("\r\n", "\n");
    let mut parts = text.split("\x1b[");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (colour, after) = part.split_once('m').expect(part);
        assert!(colour.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'), "{what}: {text:?}");
        rest.push_str(after);
    }
    expect_clean(what, &rest);
}

/// Files whose names and texts are hostile.
struct Place {
    _folder: tempfile::TempDir,
    /// A configuration that is good.
    good: PathBuf,
    /// One that has mistakes.
    bad: PathBuf,
    absent: PathBuf,
    /// An archive that is none.
    archive: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn new(hostile: &str) -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join(hostile);
        fs::create_dir(&folder).expect("a folder");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let quoted = json!(hostile).to_string();
        Self {
            good: write("good.toml", "[prober]\nmax_in_flight = 5\n".to_owned()),
            bad: write(
                "bad.toml",
                format!(
                    "[store]\npath = {quoted}\n{hostile} = 1\n[tls]\nbackend_client_certificate = {{ certificate = \
                     {quoted}, key = {quoted} }}\n[include]\nchannels = {quoted}\n"
                ),
            ),
            archive: write("archive", format!("{{\"vitald_archive\": {quoted}, {quoted}: 1}}")),
            absent: folder.join("absent"),
            folder,
            _folder: temporary,
        }
    }
}

fn outcome_of(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Outcome {
    let mut command = command(&[]);
    command.env_remove("STATE_DIRECTORY");
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    run(&mut command)
}

#[track_caller]
fn check(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Outcome {
    let outcome = outcome_of(arguments);
    let shown: Vec<OsString> = arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
    assert!(outcome.stdout.len() + outcome.stderr.len() > 1, "{shown:?} prints nothing");
    expect_clean(&format!("{shown:?}, stdout"), &outcome.stdout);
    expect_clean(&format!("{shown:?}, stderr"), &outcome.stderr);
    outcome
}

/// A status in which every text is hostile.
fn status(hostile: &str) -> String {
    let member = json!({
        "address": hostile, "group": hostile, "backup": false, "enabled": true, "weight": 1, "health": "unhealthy",
        "verdict_from": hostile, "in_rotation": false, "since": hostile,
        "last_probe": { "result": "failure", "reason": hostile, "detail": hostile, "peer": hostile, "seconds": 0.1 },
    });
    let channel = json!({
        "name": hostile, "on_backup": false, "checked": true, "probe_defaults": [hostile], "members": [member],
    });
    // Such characters need not be escaped in JSON.
    json!({
        "version": hostile, "started_at": hostile, "ready": true,
        "store": [{ "kind": hostile, "error": hostile }], "channels": [channel],
    })
    .to_string()
}

fn files_and_arguments(hostile: &str) {
    let place = Place::new(hostile);
    let Place { good, bad, absent, archive, folder, .. } = &place;
    for config in [good, bad, absent, folder] {
        check(&[&"check", &"--config", config]);
        check(&[&"check", &"--json", &"--config", config]);
        check(&[&"probe", &"--config", config]);
        check(&[&"export", &"--config", config]);
        check(&[&"import", config]);
    }
    for config in [bad, absent, folder] {
        check(&[&"run", &"--config", config]);
    }
    check(&[&"import", archive]);
    check(&[&"import", archive, good]);
    for daemon in [absent, folder] {
        check(&[&"export", &"--socket", daemon]);
        check(&[&"export", &"--store", daemon]);
        check(&[&"status", &"--socket", daemon]);
        check(&[&"reload", &"--socket", daemon]);
    }
    for arguments in [
        &["check", "--config", "x", hostile][..],
        &[hostile],
        &[&format!("--{hostile}")],
        &["status", "--url", hostile],
        &["status", "--url", "https://127.0.0.1:1", "--ca-file", hostile],
        &["probe", hostile],
        &["probe", "http://127.0.0.1:1/", "--header", hostile],
        &["export", "--instance", hostile],
        &["user", "add", hostile, "--role", "admin"],
        &["run", "--log-level", hostile],
        &["completions", hostile],
        &["man", hostile],
    ] {
        let arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            arguments.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>).collect();
        check(&arguments);
    }
}

fn servers(hostile: &str) {
    let ask = |answers: &[String], arguments: &[&str]| {
        let server = FakeServer::start(answers.to_vec());
        let url = server.url();
        let arguments: Vec<&str> =
            arguments.iter().map(|word| if *word == "URL" { &url } else { *word }).collect();
        let arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            arguments.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>).collect();
        check(&arguments)
    };
    let good = answer("200 OK", &status(hostile));
    ask(std::slice::from_ref(&good), &["status", "--url", "URL"]);
    let relayed = ask(&[good], &["status", "--json", "--url", "URL"]).stdout;
    let relayed: serde_json::Value = serde_json::from_str(&relayed).expect("JSON still");
    let name = relayed.pointer("/channels/0/name").and_then(serde_json::Value::as_str);
    assert_eq!(name, Some(hostile), "the same text");
    let error = json!({ "error": hostile, "error_msg": hostile }).to_string();
    let answers = [
        answer("500 Oh", hostile),
        answer("422 No", &error),
        answer("403 No", &error),
        answer("200 OK", hostile),
        answer("200 OK", &json!({ "channels": hostile }).to_string()),
        format!("HTTP/1.1 200 {hostile}\r\n{hostile}: {hostile}\r\n\r\n"),
        hostile.to_owned(),
    ];
    for answer in answers {
        let one = || [answer.clone()];
        ask(&one(), &["status", "--url", "URL"]);
        ask(&one(), &["status", "--json", "--url", "URL"]);
        ask(&one(), &["reload", "--url", "URL"]);
        ask(&one(), &["reload", "--json", "--url", "URL"]);
        ask(&one(), &["probe", "URL"]);
        ask(&one(), &["probe", "--explain", "URL"]);
        ask(&one(), &["probe", "--explain", "--json", "URL"]);
    }
}

/// Each case is some ninety processes.
#[test]
fn no_command_prints_a_control_character() {
    let mut runner = TestRunner::new(Config { cases: 3, failure_persistence: None, ..Config::default() });
    let result = runner.run(&hostile(), |hostile| {
        files_and_arguments(&hostile);
        servers(&hostile);
        Ok(())
    });
    result.expect("every output is clean");
}

/// What a command prints on a terminal, which `script` gives it.
fn on_a_terminal(line: &str, file: &Path, hostile: &str) -> String {
    let mut script = Command::new("script");
    for variable in ["VITALD_CONFIG", "VITALD_URL", "VITALD_LOG", "NO_COLOR", "JOURNAL_STREAM"] {
        script.env_remove(variable);
    }
    script.env("TERM", "xterm").env("SHELL", "/bin/sh").env("FILE", file).env("HOSTILE", hostile);
    script.env("VITALD", env!("CARGO_BIN_EXE_vitald")).args(["-qec", line, "/dev/null"]);
    String::from_utf8(script.output().expect("script runs").stdout).expect("UTF-8")
}

#[test]
fn on_a_terminal_the_only_control_characters_are_its_own_colours() {
    if Command::new("script").arg("--version").output().is_err() {
        return crate::skipped::note("script (bsdutils) is not installed");
    }
    let hostile = PARTS.concat();
    let place = Place::new(&hostile);
    for (line, file) in [
        ("\"$VITALD\" check --config \"$FILE\"", &place.good),
        ("\"$VITALD\" check --config \"$FILE\"", &place.bad),
        ("\"$VITALD\" run --config \"$FILE\"", &place.bad),
        ("\"$VITALD\" export --config \"$FILE\"", &place.absent),
        ("\"$VITALD\" probe \"$HOSTILE\"", &place.absent),
    ] {
        expect_clean_but_for_colours(line, &on_a_terminal(line, file, &hostile));
    }
    for line in ["\"$VITALD\" \"$HOSTILE\"", "\"$VITALD\" check \"--$HOSTILE\""] {
        let shown = on_a_terminal(line, &place.absent, &hostile).replace("\r\n", "\n");
        assert!(shown.contains("error:"), "{shown:?}");
        expect_clean(line, &shown);
    }
    for (line, body) in [
        ("\"$VITALD\" status --url URL", answer("200 OK", &status(&hostile))),
        ("\"$VITALD\" reload --url URL", answer("422 No", &json!({ "error": hostile }).to_string())),
        ("\"$VITALD\" probe --explain URL", format!("HTTP/1.1 200 {hostile}\r\n\r\n")),
    ] {
        let server = FakeServer::start(vec![body]);
        let shown = on_a_terminal(&line.replace("URL", &server.url()), &place.absent, &hostile);
        if line.contains("reload") {
            expect_clean(line, &shown.replace("\r\n", "\n"));
        } else {
            expect_clean_but_for_colours(line, &shown);
        }
    }
}
