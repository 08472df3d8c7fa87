//! Rows whose column of the last update is new.
//!
//! Input: the column and the clock of the source. State, which is stored: the largest value that was compared, and when
//! it was read. Output: suspects.
//!
//! ```text
//!           overlap            settle
//!     ├────────────────┤seen     ├──────┤ the source's clock
//!  ───┴────────────────┴─────────┴──────┴──▶ values of the column
//!     └─── compared in this round ─┘
//! ```
//!
//! With a heartbeat the end of the window is where the mirror stands, and `settle` before that.
//!
//! A transaction that is committed late has earlier values than those that were read, so windows overlap. Once nothing new
//! has come for as long as they do, nothing earlier can come either, and the overlap is not read any more. After an outage
//! the window begins where the last one has ended.
//!
//! The zone of a column without one is not known: it is that of the program which writes it. So the window is moved by the
//! values that are read, and the clock only keeps values away that are in the future.

use std::time::Duration;

use futures::future::BoxFuture;

use super::{
    column::{ColumnReader, PAGE, Placed},
    context::{Context, Ended},
    progress::UpdateWindow,
    round::Scan,
    store::{ScanKind, Step, Tally},
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{
        Row,
        time::{micros, micros_of, of_micros},
    },
    job::scans::UpdatedScan,
    side::Clock,
};

/// A column may have whole seconds only.
const COARSE: Duration = Duration::from_secs(1);

/// The shortest pause between two rounds.
const LEAST: Duration = Duration::from_millis(20);

pub(super) struct Updated {
    wanted: UpdatedScan,
}

impl Updated {
    pub(super) fn new(wanted: UpdatedScan) -> Self {
        Self { wanted }
    }

    async fn one(&self, context: &Context) -> Result<Duration, Ended> {
        let standing = context.standing().await?;
        let tables = context.tables().await?;
        let times = self.wanted.times(&tables.plan.source)?;
        let reader = ColumnReader::new(&tables, times.column, times.form);
        let pause = self.wanted.every.max(LEAST);
        let (clock, behind) = match &tables.pulse {
            None => (reader.clock().await?, Duration::ZERO),
            Some(pulse) => {
                let stand = pulse.look().await?;
                let Some(behind) = stand.behind() else {
                    return Ok(pause);
                };
                (stand.clock, behind)
            }
        };
        let settle = behind.saturating_add(context.settle());
        let until = before(&reader, latest(&clock, times.is_moment), settle)?;
        let stored = standing
            .updated
            .as_deref()
            .map(UpdateWindow::read)
            .transpose();
        let stored = stored.map_err(|problem| context.unit.job.wrong(&problem))?;
        let stored = match stored {
            Some(window) if window.column != reader.name() => {
                let (scan, before) = (ScanKind::Updated, &window.column);
                context.begins_anew(scan, before, reader.name()).await?;
                None
            }
            stored => stored,
        };
        let mut window = match stored {
            Some(window) => window,
            None => {
                let window = UpdateWindow {
                    column: reader.name().to_owned(),
                    seen: until.clone(),
                    at: clock.utc.clone(),
                    is_quiet: false,
                };
                context.save(&step(&window, 0)).await?;
                window
            }
        };
        if window.seen > until {
            // The clock was set back, or summer time has ended: what is written now has earlier times once more.
            window.seen.clone_from(&until);
            window.is_quiet = false;
        }
        let overlap = self.wanted.overlap + COARSE;
        let from = match window.is_quiet {
            true => window.seen.clone(),
            false => before(&reader, &window.seen, overlap)?,
        };
        // What began later than this has read all that can still come.
        let waited = moment(&reader, &clock.utc)?.saturating_sub(moment(&reader, &window.at)?);
        let could_be_quiet = waited > micros_of(overlap + settle);
        let seen_before = window.seen.clone();
        let mut after = reader.place(&from);
        loop {
            let page = reader.page(Some(&after), &until).await?;
            let is_last = (page.len() as u64) < PAGE;
            if let Some(last) = page.last() {
                plain(&reader, last)?;
                after = last.place.clone();
                if last.value > window.seen {
                    window.seen.clone_from(&last.value);
                    window.at.clone_from(&clock.utc);
                    window.is_quiet = false;
                }
            }
            let is_quiet = is_last && could_be_quiet && window.seen == seen_before;
            let has_become_quiet = is_quiet && !window.is_quiet;
            window.is_quiet |= is_quiet;
            if !page.is_empty() || has_become_quiet {
                examine(context, &window, &page).await?;
            }
            if is_last {
                return Ok(pause);
            }
        }
    }
}

impl Scan for Updated {
    fn kind(&self) -> ScanKind {
        ScanKind::Updated
    }

    fn round<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<Duration, Ended>> {
        Box::pin(self.one(context))
    }
}

fn step(window: &UpdateWindow, rows: usize) -> Step {
    let tally = Tally {
        rows: rows as u64,
        ..Tally::default()
    };
    Step {
        scan: ScanKind::Updated,
        position: Some(window.text()),
        tallies: match rows {
            0 => Vec::new(),
            _ => vec![(ScanKind::Updated, None, tally)],
        },
        ..Step::default()
    }
}

/// Compares the rows of a page, and stores the window.
async fn examine(context: &Context, window: &UpdateWindow, page: &[Placed]) -> Result<(), Ended> {
    let keys: Vec<Row> = page.iter().map(|row| row.key.clone()).collect();
    let suspects = context.examine(&keys).await?;
    let step = Step {
        due: context.due(&suspects).await?,
        suspects,
        ..step(window, page.len())
    };
    context.save(&step).await
}

/// The latest time that is not in the future.
fn latest(clock: &Clock, is_moment: bool) -> &str {
    match is_moment {
        true => &clock.utc,
        false => (&clock.utc).max(&clock.local),
    }
}

/// The time that is so much earlier.
fn before(reader: &ColumnReader, text: &str, earlier: Duration) -> Reconciled<String> {
    let moment = moment(reader, text)?.saturating_sub(micros_of(earlier));
    of_micros(moment).ok_or_else(|| wrong(reader))
}

fn moment(reader: &ColumnReader, text: &str) -> Reconciled<i64> {
    micros(text).ok_or_else(|| wrong(reader))
}

/// Texts are in the order of their times only if all are written in one way.
fn plain(reader: &ColumnReader, row: &Placed) -> Reconciled<()> {
    let is_plain = row
        .value
        .as_bytes()
        .get(10)
        .is_none_or(|sign| *sign == b' ');
    match is_plain && micros(&row.value).is_some() {
        true => Ok(()),
        false => Err(wrong(reader)),
    }
}

fn wrong(reader: &ColumnReader) -> ReconcileError {
    ReconcileError::Row {
        side: reader.shown().to_owned(),
        problem:
            "the column of the last update has a value that is not written as 2024-02-29 10:00:00"
                .into(),
    }
}
