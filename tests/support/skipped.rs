//! A test that cannot run here says so: a failure in CI, elsewhere a line that
//! `tests/run` counts and names. Included by the test binaries that need it.

use std::io::Write as _;

/// Notes that the running test is skipped, and why. Return from the test after it.
///
/// # Panics
/// In CI, where nothing may be skipped.
pub(crate) fn note(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("CI").is_none(), "{test} cannot be skipped in CI: {why}");
    if let Some(list) = std::env::var_os("VITALD_SKIPPED_TESTS") {
        let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
        let noted = list.and_then(|mut list| writeln!(list, "{test}: {why}"));
        noted.expect("what is skipped can be noted");
    }
}
