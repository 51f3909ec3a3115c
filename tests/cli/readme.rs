//! The README's configuration, and what the commands say of it there.

use std::path::Path;
use std::process::Command;

use crate::support::{command, run};

const README: &str = include_str!("../../README.md");

/// The text of the block that begins so.
fn block(start: &str) -> &'static str {
    let (_, rest) = README.split_once(start).unwrap_or_else(|| panic!("the README has no {start}"));
    rest.split_once("\n```").expect("an end").0
}

/// What a command printed in a block, up to the next one.
fn shown(after: &str) -> String {
    let (_, rest) = README.split_once(after).unwrap_or_else(|| panic!("the README has no {after}"));
    let (_, rest) = rest.split_once('\n').expect("output");
    let end = rest.find("\n$ ").into_iter().chain(rest.find("\n```")).min().expect("an end");
    rest[..end].trim_end().to_owned()
}

fn check(directory: &Path, file: &str) -> Command {
    let mut command = command(&["check", "--config", file]);
    command.current_dir(directory);
    command
}

#[test]
fn what_the_readme_shows_is_of_its_own_configuration() {
    let config = block("```toml\n");
    let bad = config.replace("balance_strategy", "balance_stratgy").replace("timeout = 2", "timeout = 9");
    let place = tempfile::tempdir().expect("tempdir");
    for (file, text) in [("vitald.toml", config), ("bad.toml", &bad)] {
        std::fs::write(place.path().join(file), text).expect("written");
    }
    let good = run(&mut check(place.path(), "vitald.toml")).expect_code(0);
    assert_eq!(good.stdout.trim_end(), shown("$ vitald check --config vitald.toml"));
    let refused = run(&mut check(place.path(), "bad.toml")).expect_code(78);
    assert_eq!(refused.stderr.trim_end(), shown("$ vitald check --config bad.toml"));

    // The members of the status are those of the file, in its order.
    let status = shown("$ vitald status");
    let members: Vec<Vec<&str>> = status
        .lines()
        .filter(|line| line.starts_with("web "))
        .map(|line| line.split_whitespace().take(5).collect())
        .collect();
    assert_eq!(
        members,
        [["web", "127.0.0.1:18081", "-", "primary", "2"], ["web", "127.0.0.1:18082", "-", "standby", "1"]]
    );
}

/// Every page of `docs` and of `contrib` can be found from the README.
#[test]
fn the_readme_lists_every_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join("docs")).expect("docs") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if name.ends_with(".md") {
            assert!(
                README.contains(&format!("| [docs/{name}](docs/{name}) |")),
                "{name} is not in the README"
            );
        }
    }
    let package = include_str!("../../Cargo.toml");
    let version = package.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next());
    let version = version.expect("a version");
    assert!(README.contains(&format!("With Rust {version} or newer")), "the toolchain is Rust {version}");
}
