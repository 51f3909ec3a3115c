//! Tests that need limits or a network of their own: each runs itself once more,
//! in a process that is set up for it; the second run does the work.

use std::process::Command;

/// Set in the second run of a test.
const INSIDE: &str = "VITALD_TEST_INSIDE";

/// A network of its own, as root in it.
pub(crate) const NAMESPACE: [&str; 2] = ["unshare", "-rn"];

/// Whether this is the second run.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test `name` (with its modules) of this binary again, in a shell
/// prepared by `setup`, behind `wrapper`. In that second run it does `work`.
pub(crate) fn inside(wrapper: &[&str], setup: &str, name: &str, work: impl FnOnce()) {
    if is_inside() {
        return work();
    }
    let binary = std::env::current_exe().expect("this test's binary");
    let script =
        format!("{setup}\nexport {INSIDE}=1\nexec \"$0\" --exact {name} --nocapture --test-threads=1");
    let mut words = wrapper.iter().copied().chain(["sh", "-ec", &script]);
    let output = Command::new(words.next().expect("a command"))
        .args(words)
        .arg(&binary)
        .output()
        .expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "{text}\n{errors}");
}

/// Whether a network namespace can be made here. It can in CI.
pub(crate) fn can_unshare() -> bool {
    if is_inside() {
        return true;
    }
    let can = Command::new("unshare")
        .args(["-rn", "ip", "link", "set", "lo", "up"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !can {
        crate::skipped::note("no network namespace can be made here");
    }
    can
}
