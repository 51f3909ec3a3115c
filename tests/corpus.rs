//! Replays what the fuzz targets kept: `fuzz/corpus/TARGET/*` holds inputs that
//! reach every branch the fuzzers found, `fuzz/regressions/TARGET/*` those that
//! once failed.

#[path = "../fuzz/src/targets.rs"]
#[expect(clippy::indexing_slicing, reason = "a target fails by panicking")]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a folder, in the order of their names; none without the folder.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry of the corpus").path()).collect();
    files.sort();
    files
}

#[test]
fn every_kept_input_still_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, target) in targets::TARGETS {
        let files = inputs(&root.join("corpus").join(name));
        assert!(files.len() >= 10, "the corpus of {name} is gone: {} files", files.len());
        for file in files.into_iter().chain(inputs(&root.join("regressions").join(name))) {
            let bytes = fs::read(&file).expect("an input can be read");
            let judged = std::panic::catch_unwind(|| target(&bytes));
            assert!(judged.is_ok(), "{} fails", file.display());
        }
    }
}

#[test]
fn every_target_has_its_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let fuzzers: Vec<PathBuf> = inputs(&folder);
    let expected: Vec<PathBuf> =
        targets::TARGETS.iter().map(|(name, _)| folder.join(format!("{name}.rs"))).collect();
    assert_eq!(fuzzers, expected);
}
