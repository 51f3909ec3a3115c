//! Events for systemd's journal, in its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! Called by `run`. A layer turns each event into one datagram and hands it to
//! a bounded queue; the queue's thread is the one that waits for a journal which
//! is slow or stopped.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::layer::{Context, Layer};

use crate::channel::violation::without_controls;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Longer values are cut: a datagram holds some 200 KiB, and a line of ours some
/// hundred bytes.
const VALUE_AT_MOST: usize = 32 * 1024;

/// The journal's socket as a writer: each `write` is one datagram.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Looks whether a journal is there. Does not wait for it.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // The journal ignores what is empty.
        match socket.send_to(&[], SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
        socket.set_nonblocking(false)?;
        Ok(Self(socket))
    }
}

impl io::Write for Journal {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        // By name each time: a journal that starts again has a new socket there.
        self.0.send_to(datagram, SOCKET)?;
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes events to a [`Journal`] behind a queue.
pub(super) struct JournalLayer(pub(super) NonBlocking);

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What the queue has no room for it drops and counts.
        let _ = self.0.clone().write_all(&entry(event));
    }
}

/// One entry. The levels have the priorities of syslog (syslog(3)), `info` being
/// `notice`: what is logged here is a normal but significant condition.
fn entry(event: &Event<'_>) -> Vec<u8> {
    let metadata = event.metadata();
    let priority = match *metadata.level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    };
    let mut entry = JournalEntry(Vec::with_capacity(512));
    entry.put("PRIORITY", priority);
    entry.put("SYSLOG_IDENTIFIER", "vitald");
    entry.put("TARGET", metadata.target());
    if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
        entry.put("CODE_FILE", file);
        entry.put("CODE_LINE", &line.to_string());
    }
    event.record(&mut entry);
    entry.0
}

struct JournalEntry(Vec<u8>);

impl JournalEntry {
    /// A field in its safe form: the name, a line feed, the value's length in
    /// little-endian order, the value. It may hold line feeds, and no other control
    /// characters.
    fn put(&mut self, name: &str, value: &str) {
        let value = without_controls(value);
        let value = value.get(..value.floor_char_boundary(VALUE_AT_MOST)).unwrap_or(&value);
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for JournalEntry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(&name(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string cannot fail; a value that refuses leaves a part.
        let _ = write!(text, "{value:?}");
        self.put(&name(field.name()), &text);
    }
}

/// A field's name as the journal takes it: capitals, digits and underscores.
fn name(field: &str) -> String {
    if field == "message" {
        return "MESSAGE".to_owned();
    }
    let own = field.chars().map(|letter| match letter {
        letter if letter.is_ascii_alphanumeric() => letter.to_ascii_uppercase(),
        _ => '_',
    });
    "VITALD_".chars().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps the entries.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(entry(event));
        }
    }

    /// Reads an entry as the journal does.
    fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(end) = entry.iter().position(|&byte| byte == b'\n') {
            let name = String::from_utf8(entry[..end].to_vec()).unwrap();
            let length = u64::from_le_bytes(entry[end + 1..end + 9].try_into().unwrap());
            let length = usize::try_from(length).unwrap();
            let value = &entry[end + 9..end + 9 + length];
            assert_eq!(entry[end + 9 + length], b'\n');
            fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
            entry = &entry[end + 10 + length..];
        }
        assert!(entry.is_empty());
        fields
    }

    #[test]
    fn an_event_becomes_fields() {
        let kept = Kept::default();
        let long = "ä".repeat(VALUE_AT_MOST);
        tracing::subscriber::with_default(Registry::default().with(kept.clone()), || {
            tracing::warn!(channel = "web", member.port = 80, detail = %"two\nlines\u{202e}", long, "gone: {}", 3);
        });
        let entries = kept.0.lock().unwrap();
        let fields = fields(&entries[0]);
        let value = |name: &str| {
            let found: Vec<_> = fields.iter().filter(|field| field.0 == name).collect();
            assert_eq!(found.len(), 1, "{name} in {fields:?}");
            found[0].1.as_str()
        };
        assert_eq!(value("PRIORITY"), "4");
        assert_eq!(value("SYSLOG_IDENTIFIER"), "vitald");
        assert_eq!(value("MESSAGE"), "gone: 3");
        assert_eq!(value("VITALD_CHANNEL"), "web");
        assert_eq!(value("VITALD_MEMBER_PORT"), "80");
        assert_eq!(value("VITALD_DETAIL"), "two\nlines\\u202e");
        assert_eq!(value("VITALD_LONG").len(), VALUE_AT_MOST);
        assert!(value("CODE_FILE").ends_with("journal.rs"));
    }
}
