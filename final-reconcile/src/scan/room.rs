//! Room for keys of changes: so many rows wait for a look, and then changes wait.
//!
//! Input: how many keys a message has; how many rows wait. State: how many keys may be written before the rows are counted
//! again. Output: a wait, as long as there is no room. A message whose handler waits is not done, so it stays where it is.
//!
//! ```text
//!  open ── as many rows wait as may ──▶ full: messages wait, rows are counted each second
//!    ▲                                    │
//!    └──── a tenth of the room is free ───┘
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use final_core::database::DbResult;
use tokio::time::sleep;

use super::{
    context::{Context, Ended},
    store::ScanStore,
    vitals::labels,
};
use crate::unit::UnitName;

/// The most keys that are written before rows are counted again. Other processes write as well.
const MOST_AT_ONCE: u32 = 1_000;

/// How often rows are counted while there is no room.
const FULL: Duration = Duration::from_secs(1);

/// How often it is said that a process takes the changes of a unit, and for how long that counts.
const SAID: Duration = Duration::from_secs(20);
const WATCHES: Duration = Duration::from_secs(60);

/// How often the process that scans counts the rows that wait.
const COUNTED: Duration = Duration::from_secs(5);

/// The room of a unit, for all topics of this process.
#[derive(Debug)]
pub(crate) struct Room {
    unit: Arc<UnitName>,
    /// How many rows may wait.
    most: u32,
    /// Who waits for room has it, so the others wait as well.
    left: tokio::sync::Mutex<Left>,
    /// Keys that have room and are not written yet.
    under_way: AtomicU32,
    is_full: AtomicBool,
}

/// What is known of a room.
#[derive(Debug, Default)]
struct Left {
    /// How many keys may be written before rows are counted again.
    keys: u32,
    /// When it was said that this process takes the changes.
    said: Option<Instant>,
}

/// Room for some keys, until they are written.
#[must_use = "the room is free again when this is dropped"]
pub(super) struct Taken<'r> {
    room: &'r Room,
    keys: u32,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.under_way.fetch_sub(self.keys, Ordering::Relaxed);
    }
}

impl Room {
    /// Waits until there is room, and takes it for so many keys of a message, until they are written.
    ///
    /// Safe to drop at any time: nothing is taken then.
    ///
    /// # Errors
    ///
    /// Fails if the rows cannot be counted.
    pub(super) async fn take(&self, store: &dyn ScanStore, keys: usize) -> DbResult<Taken<'_>> {
        let mut left = self.left.lock().await;
        self.say(&mut left, store).await?;
        while left.keys == 0 {
            // Keys that are written meanwhile count twice, and none is left out.
            let under_way = self.under_way.load(Ordering::Relaxed);
            let waiting = store.waiting(&self.unit, self.most).await?;
            let waiting = waiting.saturating_add(under_way);
            let was_full = self.is_full.load(Ordering::Relaxed);
            left.keys = free(self.most, waiting, was_full);
            let is_full = left.keys == 0;
            if was_full != is_full {
                self.tell(is_full);
            }
            if is_full {
                sleep(FULL).await;
                self.say(&mut left, store).await?;
            }
        }
        // The keys of a message are fewer than its bytes.
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        left.keys = left.keys.saturating_sub(keys);
        self.under_way.fetch_add(keys, Ordering::Relaxed);
        Ok(Taken { room: self, keys })
    }

    /// Says from time to time that this process takes the changes, so that nobody forgets the unit.
    async fn say(&self, left: &mut Left, store: &dyn ScanStore) -> DbResult<()> {
        if left.said.is_none_or(|said| said.elapsed() >= SAID) {
            store.watches(&self.unit, WATCHES).await?;
            left.said = Some(Instant::now());
        }
        Ok(())
    }

    fn tell(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
        let (job, copy) = (&self.unit.job, &self.unit.target);
        match is_full {
            true => tracing::warn!(
                target: "final::reconcile",
                job,
                copy,
                most = self.most,
                "as many rows wait for a look as may; changes are held back until some were looked at, and none is forgotten"
            ),
            false => tracing::info!(
                target: "final::reconcile",
                job,
                copy,
                "there is room for changes again"
            ),
        }
    }
}

/// How many keys may be written before rows are counted again. Half of what is free, because others write as well. What
/// was full is so until a tenth is free, so that rows are not counted for each key.
fn free(most: u32, waiting: u32, was_full: bool) -> u32 {
    let room = most.saturating_sub(waiting);
    let least = if was_full { most / 10 } else { 0 };
    match room > least {
        true => room.div_ceil(2).min(MOST_AT_ONCE),
        false => 0,
    }
}

/// The rooms of the units whose changes this process takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rooms(Arc<Mutex<BTreeMap<String, Arc<Room>>>>);

impl Rooms {
    /// The room of a unit. It is one for all topics.
    pub(crate) fn of(&self, unit: &Arc<UnitName>, most: u32) -> Arc<Room> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = all.entry(unit.name.clone()).or_insert_with(|| {
            Arc::new(Room {
                unit: Arc::clone(unit),
                most,
                left: tokio::sync::Mutex::default(),
                under_way: AtomicU32::new(0),
                is_full: AtomicBool::new(false),
            })
        });
        Arc::clone(room)
    }

    /// As text for Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let mut text =
            "# HELP final_reconcile_holding_back Whether changes wait until rows were looked at.\n\
                        # TYPE final_reconcile_holding_back gauge\n"
                .to_owned();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for room in all.values() {
            let labels = labels(&room.unit.job, &room.unit.target);
            let value = u8::from(room.is_full.load(Ordering::Relaxed));
            // Writing into a text cannot fail.
            let _ = writeln!(text, "final_reconcile_holding_back{{{labels}}} {value}");
        }
        text
    }
}

/// Whether a unit is full, as the process tells that scans it. Changes may be taken by another one.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    counted: Option<Instant>,
    is_full: bool,
}

impl Fullness {
    /// Why changes are held back. It is over once half of the room is free.
    pub(super) async fn trouble(&mut self, context: &Context) -> Result<Option<String>, Ended> {
        let job = &context.unit.job;
        if job.scans().topics.is_empty() {
            return Ok(None);
        }
        let most = job.most_waiting();
        if self.counted.is_none_or(|at| at.elapsed() >= COUNTED) {
            let (store, name) = (&context.unit.store, &context.unit.name);
            let waiting = store.waiting(name, most).await;
            let waiting = waiting.map_err(|error| context.state("counting suspects in", error))?;
            self.is_full = is_full(most, waiting, self.is_full);
            self.counted = Some(Instant::now());
        }
        Ok(self.is_full.then(|| {
            format!(
                "as many rows of {} wait for a look as may (`max_waiting` is {most}), so changes are held back in `{}`; they go on \
                 by themselves once rows were looked at; look whether the mirror runs",
                context.unit.name.target,
                job.scans().topics.join("`, `")
            )
        }))
    }
}

fn is_full(most: u32, waiting: u32, was_full: bool) -> bool {
    match was_full {
        true => waiting > most / 2,
        false => waiting >= most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_full_is_so_until_a_tenth_is_free() {
        let all = [0, 1_000, 1_999, 2_000, 1_900, 1_800, 1_799, 1_900];
        let mut was_full = false;
        let free = all.map(|waiting| {
            let free = free(2_000, waiting, was_full);
            was_full = free == 0;
            free
        });
        assert_eq!(free, [1_000, 500, 1, 0, 0, 0, 101, 50]);
        assert_eq!(super::free(u32::MAX, 0, true), MOST_AT_ONCE);
    }

    #[test]
    fn that_a_unit_is_full_is_over_once_half_of_the_room_is_free() {
        let mut was_full = false;
        let told = [99, 100, 99, 51, 50, 99].map(|waiting| {
            was_full = is_full(100, waiting, was_full);
            was_full
        });
        assert_eq!(told, [false, true, true, true, false, false]);
    }
}
