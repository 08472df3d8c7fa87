//! What is told about a comparison.

use std::fmt;

use serde::Serialize;

use crate::pair::difference::Difference;

/// What came of a comparison.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The source table and its database.
    pub source: String,
    /// The target table and its database.
    pub target: String,
    /// Rows of the source.
    pub rows: u64,
    /// Chunks that were compared.
    pub chunks: u64,
    /// Chunks whose digests were not the same.
    pub differing_chunks: u64,
    /// Rows that the target lacks.
    pub missing: u64,
    /// Rows that have other values in the target.
    pub different: u64,
    /// Rows that the target has and the source has not.
    pub extra: u64,
    /// Rows that looked different at first, and were equal once the copy had had its time.
    pub healed: u64,
    /// Rows about which nothing can be said: they change faster than the copy settles, or the mirror has not passed them.
    pub unsettled: u64,
    /// How many of the unsettled rows the mirror has not passed in time.
    pub not_passed: u64,
    /// What the judgement rests on: a fixed settle, or the heartbeat of the mirror with its lag.
    pub judged_by: String,
    /// Why the mirror does not tell enough: it is farther behind than it may be, or its heartbeat is of no use.
    pub mirror: Option<String>,
    /// Rows that are to be repaired, by a reconciler.
    pub repairs: u64,
    /// Whether so many rows differ that none is repaired.
    pub held_back: bool,
    /// The first differences that were found, in the order of their keys.
    pub examples: Vec<Difference>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// How far a comparison is.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Walked {
    /// Rows of the source that were compared.
    pub rows: u64,
    /// About how many there are, where the catalog says.
    pub of: Option<u64>,
    /// Chunks that were compared.
    pub chunks: u64,
    /// Rows that look different now, and are looked at again.
    pub suspects: u64,
    /// Differences that count.
    pub differences: u64,
}

impl Comparison {
    pub(crate) fn new(source: &str, target: &str) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            ..Self::default()
        }
    }

    /// How many rows differ.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.missing + self.different + self.extra
    }

    /// Whether both tables are proved to agree: no row differs, and none was too restless to say.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differences() == 0 && self.unsettled == 0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} with {}: {} {}, ",
            self.source,
            self.target,
            self.rows,
            if self.rows == 1 { "row" } else { "rows" }
        )?;
        match self.is_equal() {
            true => write!(f, "equal")?,
            false => write!(
                f,
                "{} missing, {} different, {} extra",
                self.missing, self.different, self.extra
            )?,
        }
        let restless = self.unsettled.saturating_sub(self.not_passed);
        if restless > 0 {
            write!(f, ", {restless} changed too often to say")?;
        }
        if self.not_passed > 0 {
            write!(f, ", {} not judged", self.not_passed)?;
        }
        match &self.mirror {
            Some(mirror) => write!(f, "; {mirror}"),
            None if self.not_passed > 0 => {
                write!(
                    f,
                    "; the mirror has not passed them in time; raise the `limit` of its heartbeat"
                )
            }
            None => Ok(()),
        }
    }
}
