//! A way in for the fuzz target of response heads and the replay of its corpus.
//!
//! Only with the feature `fuzzing`: the reader of heads is nobody's business
//! outside this room.

use super::explanation::Explanation;
use super::http::{HeadReader, HttpPlan};
use super::progress::Progress;
use crate::channel::{HttpCheck, ProbeOptions};
use crate::health::Outcome;

/// What a probe would conclude from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// The verdict-moving part.
    pub outcome: Outcome,
    /// The status code, when a final head was read.
    pub status: Option<u16>,
    /// The line for people.
    pub detail: String,
}

/// Judges an answer that comes in these pieces, after which the member closes.
#[must_use]
pub fn judge<'a>(check: &HttpCheck, pieces: impl Iterator<Item = &'a [u8]>) -> Conclusion {
    let plan = HttpPlan::new(check, &ProbeOptions::default());
    let mut progress = Progress::new(Some(Box::<Explanation>::default()));
    let mut reader = HeadReader::default();
    // No byte at all is the end of the stream, which `ended` judges.
    let mut pieces = pieces.filter(|piece| !piece.is_empty());
    let finding = pieces
        .find_map(|piece| reader.take(piece, &plan, &mut progress))
        .unwrap_or_else(|| reader.ended(None));
    Conclusion { outcome: finding.outcome, status: finding.status, detail: finding.detail.into_owned() }
}
