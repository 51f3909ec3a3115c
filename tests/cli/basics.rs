//! Help, version, wrong usage, completions, manual pages, closed pipes.

use std::io::Read as _;
use std::process::Stdio;

use crate::support::{command, run, vitald};

const COMMANDS: [&str; 12] = [
    "run",
    "check",
    "probe",
    "status",
    "reload",
    "export",
    "import",
    "demo",
    "hash-password",
    "user",
    "completions",
    "man",
];

#[test]
fn help_goes_to_stdout_and_names_every_command() {
    let help = vitald(&["--help"]).expect_code(0);
    assert!(help.stderr.is_empty(), "{}", help.stderr);
    for name in COMMANDS {
        assert!(help.stdout.contains(&format!("\n  {name} ")), "{name}: {}", help.stdout);
    }
    assert!(help.stdout.contains("Examples:"), "{}", help.stdout);
    let short = vitald(&["-h"]).expect_code(0);
    assert!(short.stdout.len() < help.stdout.len());
    assert!(!short.stdout.contains("Examples:"), "{}", short.stdout);
}

#[test]
fn every_command_explains_itself_with_examples() {
    for name in COMMANDS {
        let help = vitald(&[name, "--help"]).expect_code(0);
        assert!(help.stdout.contains("Examples:"), "{name}: {}", help.stdout);
        assert!(!help.stdout.contains('\x1b'), "colour in a pipe: {}", help.stdout);
    }
}

#[test]
fn version_is_the_packages() {
    let version = vitald(&["--version"]).expect_code(0).stdout;
    assert!(version.starts_with(concat!("vitald ", env!("CARGO_PKG_VERSION"))), "{version}");
}

#[test]
fn wrong_usage_is_2_with_a_message_on_stderr() {
    let cases: [(&[&str], &str); 10] = [
        (&[], "Usage:"),
        (&["frobnicate"], "frobnicate"),
        (&["status", "--interval", "1s"], "--watch"),
        (&["status", "--watch", "--interval", "soon"], "--interval"),
        (&["status", "--url", "ftp://127.0.0.1"], "only http"),
        (&["reload", "--frob"], "--frob"),
        (&["completions", "klingon"], "bash"),
        (&["run", "--log-level", "vitald=loud"], "--log-level"),
        (&["demo", "--for", "ever"], "--for"),
        (&["man", "frobnicate"], "probe"),
    ];
    for (arguments, expected) in cases {
        let outcome = vitald(arguments).expect_code(2);
        assert!(outcome.stdout.is_empty(), "{arguments:?}: {}", outcome.stdout);
        assert!(outcome.stderr.contains(expected), "{arguments:?}: {}", outcome.stderr);
    }
}

#[test]
fn completions_know_every_command_in_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = vitald(&["completions", shell]).expect_code(0).stdout;
        for name in COMMANDS {
            assert!(script.contains(name), "{shell} does not know {name}");
        }
    }
}

#[test]
fn manual_pages_go_to_stdout_or_into_a_directory() {
    let page = vitald(&["man"]).expect_code(0).stdout;
    assert!(page.contains(".TH vitald 8"), "{}", &page[..200.min(page.len())]);
    let page = vitald(&["man", "probe"]).expect_code(0).stdout;
    assert!(page.contains(".TH vitald-probe 8"), "{}", &page[..200.min(page.len())]);

    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().to_str().expect("UTF-8");
    let outcome = vitald(&["man", "--out", path]).expect_code(0);
    assert!(outcome.stdout.is_empty());
    for name in COMMANDS {
        let file = directory.path().join(format!("vitald-{name}.8"));
        assert!(file.is_file(), "{}", file.display());
    }
    assert!(directory.path().join("vitald.8").is_file());
    // A directory that is not there is made, with those above it.
    let missing = directory.path().join("share/man/man8");
    vitald(&["man", "--out", missing.to_str().expect("UTF-8")]).expect_code(0);
    assert!(missing.join("vitald.8").is_file());
    let taken = directory.path().join("vitald.8");
    let outcome = vitald(&["man", "--out", taken.to_str().expect("UTF-8")]).expect_code(1);
    assert!(outcome.stderr.contains("cannot make the directory"), "{}", outcome.stderr);
    // The unit names the page by its section.
    let unit = include_str!("../../config/vitald.service");
    assert!(unit.contains("Documentation=man:vitald(8)"), "the pages are of section 8");
}

#[test]
fn a_closed_pipe_is_no_panic() {
    for arguments in [&["completions", "bash"][..], &["man"], &["--help"]] {
        let mut child = command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
        let status = child.wait().expect("it ends");
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let outcome = run(command(&["man"]).stdout(full)).expect_code(1);
    assert!(outcome.stderr.contains("cannot write to stdout"), "{}", outcome.stderr);
}

#[test]
fn the_reference_has_every_option_of_every_command() {
    let reference = include_str!("../../docs/cli.md");
    for name in COMMANDS {
        // The section of the command; completions and man share one.
        let (_, section) = reference.split_once(&format!("\n## vitald {name}")).unwrap_or_else(|| {
            reference
                .split_once(&format!(" and vitald {name}\n"))
                .unwrap_or_else(|| panic!("no section for {name}"))
        });
        let section = section.split("\n## ").next().unwrap_or_default();
        let help = vitald(&[name, "--help"]).expect_code(0).stdout;
        let words = help.lines().filter_map(|line| line.split_whitespace().next());
        for option in words.filter(|word| word.starts_with("--") && *word != "--no-color") {
            assert!(section.contains(option), "{option} of {name} is not in docs/cli.md");
        }
        for variable in help.split("[env: ").skip(1).filter_map(|rest| rest.split(']').next()) {
            assert!(reference.contains(&format!("`{variable}`")), "{variable} is not in docs/cli.md");
        }
    }
}
