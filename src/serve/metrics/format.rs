//! The Prometheus text format: families, labels, values.
//!
//! Values are integers (counts, nanoseconds), so every number is exact: none passes
//! through floating point.

use std::io;

use crate::health::snapshot::Histogram;
use crate::serve::stream::Text;

/// What the lines `# HELP` and `# TYPE` say of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricFamily {
    pub(super) name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    kind: &'static str,
    help: &'static str,
}

pub(super) const fn counter(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily { name, kind: "counter", help }
}

pub(super) const fn gauge(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily { name, kind: "gauge", help }
}

pub(super) const fn histogram(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily { name, kind: "histogram", help }
}

/// A sample's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleValue {
    Count(u64),
    /// Printed in seconds.
    Nanos(u64),
    /// Seconds since the Unix epoch; may lie before it.
    UnixSeconds(i64),
}

impl From<bool> for SampleValue {
    fn from(value: bool) -> Self {
        Self::Count(value.into())
    }
}

impl From<usize> for SampleValue {
    fn from(value: usize) -> Self {
        Self::Count(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

impl Text<'_> {
    /// Opens a family. All its samples must follow before the next one opens.
    pub(super) fn family(&mut self, family: MetricFamily) {
        for part in
            ["# HELP ", family.name, " ", family.help, "\n# TYPE ", family.name, " ", family.kind, "\n"]
        {
            self.push(part);
        }
    }

    /// Writes a family of one sample without labels.
    pub(super) fn single(&mut self, family: MetricFamily, value: impl Into<SampleValue>) -> io::Result<()> {
        self.family(family);
        self.push_all(&[family.name, " "]);
        self.value(value.into())
    }

    /// One sample. `labels` is everything between the braces, escaped.
    pub(super) fn sample(
        &mut self,
        family: MetricFamily,
        labels: &str,
        value: impl Into<SampleValue>,
    ) -> io::Result<()> {
        self.push_all(&[family.name, "{", labels, "} "]);
        self.value(value.into())
    }

    /// A whole histogram. `labels` is empty, or escaped labels.
    pub(super) fn histogram(
        &mut self,
        family: MetricFamily,
        labels: &str,
        histogram: &Histogram,
    ) -> io::Result<()> {
        let (comma, braces) = match labels {
            "" => ("", String::new()),
            labels => (",", format!("{{{labels}}}")),
        };
        let count = SampleValue::Count(histogram.count());
        for (bound, below) in histogram.cumulative() {
            self.push_all(&[family.name, "_bucket{", labels, comma, "le=\""]);
            self.nanos(bound);
            self.push("\"} ");
            self.value(SampleValue::Count(below))?;
        }
        self.push_all(&[family.name, "_bucket{", labels, comma, "le=\"+Inf\"} "]);
        self.value(count)?;
        for (suffix, value) in [("_sum", SampleValue::Nanos(histogram.sum_nanos())), ("_count", count)] {
            self.push_all(&[family.name, suffix, &braces, " "]);
            self.value(value)?;
        }
        Ok(())
    }

    fn push_all(&mut self, parts: &[&str]) {
        for part in parts {
            self.push(part);
        }
    }

    /// The value and the end of the line, which is a place to pause. A space
    /// must stand before it.
    pub(super) fn value(&mut self, value: SampleValue) -> io::Result<()> {
        match value {
            SampleValue::Count(count) => self.push(itoa::Buffer::new().format(count)),
            SampleValue::Nanos(nanos) => self.nanos(nanos),
            SampleValue::UnixSeconds(seconds) => self.push(itoa::Buffer::new().format(seconds)),
        }
        self.push("\n");
        self.pause()
    }

    /// Nanoseconds as seconds, without trailing zeros.
    fn nanos(&mut self, nanos: u64) {
        self.push(itoa::Buffer::new().format(nanos / 1_000_000_000));
        let mut fraction = nanos % 1_000_000_000;
        if fraction == 0 {
            return;
        }
        let mut width = 9;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        self.push(".");
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(fraction);
        for _ in digits.len()..width {
            self.push("0");
        }
        self.push(digits);
    }
}

/// Appends the inside of a label's quotes: `\\`, `"` and line feed are escaped.
pub(super) fn push_label_value(text: &mut String, value: &str) {
    if !value.contains(['\\', '"', '\n']) {
        return text.push_str(value);
    }
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            character => text.push(character),
        }
    }
}

/// `channel="NAME"`, escaped.
pub(super) fn channel_label(name: &str) -> String {
    let mut label = "channel=\"".to_owned();
    push_label_value(&mut label, name);
    label.push('"');
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixture::collect;

    #[test]
    fn nanoseconds_are_exact_seconds_without_trailing_zeros() {
        let cases = [
            (0, "0"),
            (1, "0.000000001"),
            (1_200_000, "0.0012"),
            (100_000_000, "0.1"),
            (1_000_000_000, "1"),
            (10_500_000_001, "10.500000001"),
            (u64::MAX, "18446744073.709551615"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(collect(|text| text.value(SampleValue::Nanos(nanos))), format!("{expected}\n"));
        }
        assert_eq!(collect(|text| text.value(SampleValue::UnixSeconds(-1))), "-1\n");
    }

    #[test]
    fn label_values_are_escaped() {
        for (value, expected) in
            [("plain", "plain"), ("a\"b\\c\nd", r#"a\"b\\c\nd"#), ("é\\", r"é\\"), ("", "")]
        {
            let mut label = String::new();
            push_label_value(&mut label, value);
            assert_eq!(label, expected);
        }
    }
}
