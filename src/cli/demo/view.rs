//! The live view: one line for each verdict that moved.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::backends::{CHANNELS, DemoBackend, DemoChannel};
use crate::channel::Health;
use crate::cli::console::{Console, TerminalText, Tone, plural, printable};
use crate::cli::status::assessment::ChannelDocument;
use crate::daemon::TransitionEvent;
use crate::health::Timestamp;

/// What has been shown so far, and what members are called.
#[derive(Debug)]
pub(super) struct View {
    names: HashMap<String, &'static str>,
    changes: usize,
}

impl View {
    pub(super) fn new(backends: &[DemoBackend]) -> Self {
        let names = backends.iter().map(|backend| (backend.address.to_string(), backend.name)).collect();
        Self { names, changes: 0 }
    }

    /// What is about to be seen, and where to look.
    pub(super) fn opening(
        &self,
        address: SocketAddr,
        duration: Option<humantime::Duration>,
        console: &Console,
    ) -> TerminalText {
        let end = match duration {
            Some(duration) => format!("It ends after {duration}; Ctrl-C ends it sooner."),
            None => "Ctrl-C ends it.".to_owned(),
        };
        let mut text = TerminalText::from(format!(
            "The daemon probes {} backends of this process every 500 ms. {end}\n\n",
            self.names.len()
        ));
        for DemoChannel { name, what, .. } in CHANNELS {
            text.push(TerminalText::from("  ").and(console.paint(Tone::Good, format!("{name:<16}"))));
            text.push(format!(" {what}\n"));
        }
        text.push(format!(
            "\n  status   http://{address}/v1/status\n  metrics  http://{address}/metrics\n  \
             or       vitald status --watch --url http://{address}\n\n"
        ));
        text
    }

    /// One verdict that moved, and which members take the channel's traffic since.
    pub(super) fn change(
        &mut self,
        event: &TransitionEvent,
        channel: Option<&ChannelDocument>,
        console: &Console,
    ) -> TerminalText {
        self.changes += 1;
        let name = self.name(&event.member);
        let tone = match event.to {
            Health::Healthy => Tone::Good,
            Health::Unhealthy => Tone::Bad,
            Health::Unknown => Tone::Warning,
        };
        let reason = event.outcome.reason().map(|reason| format!("{reason}: ")).unwrap_or_default();
        let change = format!("{} -> {}", event.from.word(), event.to.word());
        let traffic = channel.map(|channel| self.traffic(channel)).unwrap_or_default();
        let why = format!("{} x {reason}{}", event.consecutive, printable(&event.detail, 100));
        console
            .paint(Tone::Faint, time_of_day(event.at))
            .and(format!("  {:<15}  {name:<8}  ", event.channel))
            .and(console.paint(tone, format!("{change:<20}")))
            .and(format!("  {traffic:<39}  "))
            .and(console.paint(Tone::Faint, why))
            .and("\n")
    }

    /// `traffic to steady-1, steady-2`.
    fn traffic(&self, channel: &ChannelDocument) -> String {
        let members = channel.members.iter().filter(|member| member.in_rotation);
        let names: Vec<String> = members.map(|member| printable(self.name(&member.address), 60)).collect();
        match names.is_empty() {
            true => "traffic to nobody".to_owned(),
            false => format!("traffic to {}", names.join(", ")),
        }
    }

    fn name<'a>(&'a self, address: &'a str) -> &'a str {
        self.names.get(address).copied().unwrap_or(address)
    }

    /// The last line.
    pub(super) fn closing(&self) -> String {
        format!("\nThe demo is over: {} shown.\n", plural(self.changes, "change"))
    }
}

/// `12:00:05.123`, UTC.
fn time_of_day(at: Timestamp) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(at.0);
    let text = humantime::format_rfc3339_millis(time).to_string();
    text.get(11..23).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_day() {
        assert_eq!(time_of_day(Timestamp(1_767_225_605_123_456_789)), "00:00:05.123");
        assert_eq!(time_of_day(Timestamp(0)).len(), 12);
    }
}
