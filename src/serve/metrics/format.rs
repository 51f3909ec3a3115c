//! The text format itself: families, labels, values.
//!
//! Values come from integers (counts, nanoseconds), so every number is exact
//! and none passes through floating point.

use std::io;

use crate::health::histogram::Histogram;
use crate::serve::stream::Text;

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// What a line of `# HELP` and `# TYPE` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricFamily {
    pub(super) name: &'static str,
    pub(super) kind: MetricKind,
    pub(super) help: &'static str,
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
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        for part in ["# HELP ", family.name, " ", family.help, "\n# TYPE ", family.name, " ", kind, "\n"] {
            self.push(part);
        }
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, family: MetricFamily, value: impl Into<SampleValue>) -> io::Result<()> {
        self.family(family);
        self.push(family.name);
        self.push(" ");
        self.value(value.into())
    }

    /// One sample. `labels` is everything between the braces, escaped.
    pub(super) fn sample(
        &mut self,
        name: &str,
        labels: &str,
        value: impl Into<SampleValue>,
    ) -> io::Result<()> {
        self.push(name);
        self.push("{");
        self.push(labels);
        self.push("} ");
        self.value(value.into())
    }

    /// A whole histogram. `labels` is empty, or escaped labels.
    pub(super) fn histogram<const N: usize>(
        &mut self,
        name: &str,
        labels: &str,
        histogram: &Histogram<N>,
    ) -> io::Result<()> {
        let count = histogram.count();
        for (bound, cumulative) in histogram.cumulative() {
            self.bucket(name, labels);
            self.nanos(bound);
            self.push("\"} ");
            self.value(SampleValue::Count(cumulative))?;
        }
        self.bucket(name, labels);
        self.push("+Inf\"} ");
        self.value(SampleValue::Count(count))?;
        for (suffix, value) in
            [("_sum", SampleValue::Nanos(histogram.sum_nanos())), ("_count", SampleValue::Count(count))]
        {
            self.push(name);
            self.push(suffix);
            if !labels.is_empty() {
                self.push("{");
                self.push(labels);
                self.push("}");
            }
            self.push(" ");
            self.value(value)?;
        }
        Ok(())
    }

    /// The value and the end of the line, which is a place to pause. A space
    /// must stand before it.
    pub(super) fn value(&mut self, value: SampleValue) -> io::Result<()> {
        match value {
            SampleValue::Count(count) => self.count(count),
            SampleValue::Nanos(nanos) => self.nanos(nanos),
            SampleValue::UnixSeconds(seconds) => self.push(itoa::Buffer::new().format(seconds)),
        }
        self.push("\n");
        self.pause()
    }

    fn bucket(&mut self, name: &str, labels: &str) {
        self.push(name);
        self.push("_bucket{");
        self.push(labels);
        self.push(if labels.is_empty() { "le=\"" } else { ",le=\"" });
    }

    fn count(&mut self, count: u64) {
        push_number(&mut self.buffer, count);
    }

    /// Nanoseconds as seconds, without trailing zeros.
    fn nanos(&mut self, nanos: u64) {
        self.count(nanos / 1_000_000_000);
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

/// Appends a number in decimal.
pub(super) fn push_number(buffer: &mut Vec<u8>, number: u64) {
    buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends the inside of a label's quotes: `\\`, `"` and line feed are escaped.
pub(super) fn push_label_value(buffer: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'"' => buffer.extend_from_slice(b"\\\""),
            b'\\' => buffer.extend_from_slice(b"\\\\"),
            b'\n' => buffer.extend_from_slice(b"\\n"),
            byte => buffer.push(byte),
        }
    }
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
            let mut label = Vec::new();
            push_label_value(&mut label, value);
            assert_eq!(String::from_utf8(label).expect("UTF-8"), expected);
        }
    }
}
