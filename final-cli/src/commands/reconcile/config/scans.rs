//! How differences are found while the service runs.

use std::num::NonZeroU32;

use final_reconcile::{Job, Sweep};
use serde::Deserialize;

use crate::config::Period;

/// Looks at new rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FreshConfig {
    every: Period,
    /// How late an id may become visible.
    #[serde(default)]
    look_back: Option<Period>,
    /// The column with the ids, where it is not the key.
    #[serde(default)]
    column: Option<String>,
    /// Where a job begins that has no position yet.
    #[serde(default)]
    first: Option<i64>,
}

/// Looks at rows whose update column has changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdatedConfig {
    column: String,
    every: Period,
    overlap: Period,
}

/// Looks at all rows.
#[derive(Debug, Deserialize)]
#[serde(try_from = "SweepFields")]
pub(super) struct SweepConfig(Sweep);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepFields {
    #[serde(default)]
    every: Option<Period>,
    #[serde(default)]
    daily_at: Option<String>,
    #[serde(default)]
    rows_per_second: Option<NonZeroU32>,
}

impl TryFrom<SweepFields> for SweepConfig {
    type Error = &'static str;

    fn try_from(fields: SweepFields) -> Result<Self, &'static str> {
        let sweep = match (fields.every, fields.daily_at) {
            (Some(every), None) => Sweep::every(every.0),
            (None, Some(time)) => {
                let (hour, minute) = hour_and_minute(&time).ok_or(
                    "this is no time of day; write hours and minutes in UTC, as \"03:00\"",
                )?;
                Sweep::daily_at(hour, minute)
            }
            _ => {
                return Err(
                    "a sweep begins at one kind of time; name one of `every` and `daily_at`",
                );
            }
        };
        Ok(Self(match fields.rows_per_second {
            Some(rows) => sweep.rows_per_second(rows.get()),
            None => sweep,
        }))
    }
}

fn hour_and_minute(text: &str) -> Option<(u32, u32)> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, below: u32| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: u32 = is_plain.then(|| text.parse().ok()).flatten()?;
        (number < below).then_some(number)
    };
    Some((number(hour, 24)?, number(minute, 60)?))
}

impl SweepConfig {
    pub(super) fn sweep(self) -> Sweep {
        self.0
    }
}

impl FreshConfig {
    pub(super) fn of(self, job: Job) -> Job {
        let mut job = match self.column {
            Some(column) => job.fresh_ids_by(column, self.every.0),
            None => job.fresh_ids(self.every.0),
        };
        if let Some(look_back) = self.look_back {
            job = job.look_back(look_back.0);
        }
        match self.first {
            Some(first) => job.first_id(first),
            None => job,
        }
    }
}

impl UpdatedConfig {
    pub(super) fn of(self, job: Job) -> Job {
        job.updated(self.column, self.every.0, self.overlap.0)
    }
}
