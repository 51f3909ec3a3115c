//! Channels as configuration text.

/// One `[[channels]]`: `check` is the body of `vpc_health_config` and whatever
/// tables follow it, `members` are the bodies of its members.
pub(crate) fn channel(name: &str, check: &str, members: &[String]) -> String {
    let mut text = format!(
        "[[channels]]\nname = \"{name}\"\nport = 80\nbalance_strategy = 1\nmember_type = \"ip\"\n\n\
         [channels.vpc_health_config]\n{check}\n"
    );
    for member in members {
        text.push_str(&format!("\n[[channels.members]]\n{member}\n"));
    }
    text.push('\n');
    text
}

/// A member by its address.
pub(crate) fn member(host: impl std::fmt::Display, port: u16) -> String {
    format!("host = \"{host}\"\nport = {port}")
}

/// A check over HTTP or HTTPS that succeeds on `codes`: up after 2 successes,
/// down after 3 failures.
pub(crate) fn http_check(protocol: &str, path: &str, codes: &str) -> String {
    format!(
        "protocol = \"{protocol}\"\npath = \"{path}\"\nhttp_code = \"{codes}\"\n{}",
        pace(2, 3, "300ms", "250ms")
    )
}

/// A check that only connects.
pub(crate) fn tcp_check() -> String {
    format!("protocol = \"TCP\"\n{}", pace(2, 3, "300ms", "250ms"))
}

pub(crate) fn pace(normal: u32, abnormal: u32, interval: &str, timeout: &str) -> String {
    format!(
        "threshold_normal = {normal}\nthreshold_abnormal = {abnormal}\n\
         time_interval = \"{interval}\"\ntimeout = \"{timeout}\"\n"
    )
}
