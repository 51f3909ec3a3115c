//! The fuzz targets by name, for the programs in `fuzz_targets/`.

mod targets;

/// Feeds one input to a target; a panic is a failure.
pub fn run(name: &str, bytes: &[u8]) {
    for (own, target) in targets::TARGETS {
        if own == name {
            target(bytes);
        }
    }
}
