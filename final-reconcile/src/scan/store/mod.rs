//! What scans remember, whatever the database.
//!
//! | part | has |
//! | --- | --- |
//! | [`step`] | what a scan hands over and gets back |
//! | [`jobs`] | who runs the scans of a unit, and how far they are |
//! | [`suspects`] | rows that are to be looked at |
//! | [`save`] | one step of a scan, in one transaction that only the owner of the lease can commit |
//! | [`runs`] | what was compared |
//! | [`forget`] | what belongs to a source or target that a job does not have any more |
//! | [`lots`] | rows that are removed lot by lot |

mod forget;
mod jobs;
mod lots;
mod runs;
mod save;
mod step;
mod suspects;
#[cfg(test)]
pub(crate) mod tests;

use std::{fmt, sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver};
use futures::future::BoxFuture;
use uuid::Uuid;

pub(crate) use self::step::{
    NewSuspect, Saved, ScanKind, Standing, Step, Suspect, SuspectKey, Tally, Term, Then, WatchedKey,
};
pub use self::{forget::Leftover, jobs::JobStatus, runs::Run};
use crate::{state::SqlState, unit::UnitName};

/// The tables, whatever the database.
pub(crate) trait ScanStore: fmt::Debug + fmt::Display + Send + Sync {
    /// Takes the lease of a unit, or renews it. Returns its epoch; none while another process has it.
    fn take<'a>(
        &'a self,
        unit: &'a UnitName,
        owner: Uuid,
        length: Duration,
    ) -> BoxFuture<'a, DbResult<Option<i64>>>;
    /// Gives a lease back.
    fn release<'a>(&'a self, term: &'a Term) -> BoxFuture<'a, DbResult<()>>;
    /// How far the scans of a unit are. None if it has no row.
    fn standing<'a>(&'a self, unit: &'a UnitName) -> BoxFuture<'a, DbResult<Option<Standing>>>;
    /// Writes one step.
    fn save<'a>(&'a self, term: &'a Term, step: &'a Step) -> BoxFuture<'a, DbResult<Saved>>;
    /// Rows whose look is due, the longest first: by the database's clock, or those that the mirror has passed.
    fn due<'a>(
        &'a self,
        unit: &'a UnitName,
        passed: Option<i64>,
        most: u32,
    ) -> BoxFuture<'a, DbResult<Vec<Suspect>>>;
    /// Why a row cannot be looked at. None if all can.
    fn unreadable<'a>(&'a self, unit: &'a UnitName) -> BoxFuture<'a, DbResult<Option<String>>>;
    /// How many rows wait. No more than `most` are counted.
    fn waiting<'a>(&'a self, unit: &'a UnitName, most: u32) -> BoxFuture<'a, DbResult<u32>>;
    /// Writes down keys of changes, to be looked at. Any process may do so.
    fn suspect<'a>(&'a self, keys: &'a [WatchedKey]) -> BoxFuture<'a, DbResult<()>>;
    /// Says for so long that a process takes the changes of a unit.
    fn watches<'a>(&'a self, unit: &'a UnitName, length: Duration) -> BoxFuture<'a, DbResult<()>>;
    /// Asks for a sweep of these units. Any process may do so.
    fn ask_sweep<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<()>>;
    /// Writes down why a scan cannot run, or that all can.
    fn trouble<'a>(&'a self, term: &'a Term, why: Option<&'a str>) -> BoxFuture<'a, DbResult<()>>;
    /// Writes down where the mirror stands, or that it does not tell that.
    fn mirror<'a>(&'a self, term: &'a Term, stand: Option<&'a str>) -> BoxFuture<'a, DbResult<()>>;
    /// The columns of the key that the unit has now, with their forms. If they are others than before, suspects with keys of
    /// the old ones are removed, and a sweep is asked for. Whether they are.
    fn keyed<'a>(&'a self, term: &'a Term, key: &'a str) -> BoxFuture<'a, DbResult<bool>>;
    /// Lets those of these units go on that are paused. Returns how many.
    fn resume<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<u64>>;
    /// What an operator sees of a job, also of a source or target that it does not have any more. `units` are those that it has.
    fn status<'a>(
        &'a self,
        job: &'a str,
        units: &'a [Arc<UnitName>],
    ) -> BoxFuture<'a, DbResult<Vec<JobStatus>>>;
    /// What was compared, the newest first.
    fn runs<'a>(
        &'a self,
        units: &'a [Arc<UnitName>],
        most: u32,
    ) -> BoxFuture<'a, DbResult<Vec<Run>>>;
    /// What there is of other units of a job than these.
    fn leftovers<'a>(
        &'a self,
        job: &'a str,
        units: &'a [Arc<UnitName>],
    ) -> BoxFuture<'a, DbResult<Vec<Leftover>>>;
    /// Removes it. Returns whether it did: only if nothing has run for so long.
    fn forget<'a>(
        &'a self,
        leftover: &'a Leftover,
        idle: Duration,
    ) -> BoxFuture<'a, DbResult<bool>>;
    /// The names of all jobs.
    fn names(&self) -> BoxFuture<'_, DbResult<Vec<String>>>;
}

impl<DB: Driver> ScanStore for SqlState<DB> {
    fn take<'a>(
        &'a self,
        unit: &'a UnitName,
        owner: Uuid,
        length: Duration,
    ) -> BoxFuture<'a, DbResult<Option<i64>>> {
        Box::pin(self.in_time(self.take_lease(unit, owner, length)))
    }

    fn release<'a>(&'a self, term: &'a Term) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(self.in_time(self.release_lease(term)))
    }

    fn standing<'a>(&'a self, unit: &'a UnitName) -> BoxFuture<'a, DbResult<Option<Standing>>> {
        Box::pin(self.in_time(self.read_standing(unit)))
    }

    fn save<'a>(&'a self, term: &'a Term, step: &'a Step) -> BoxFuture<'a, DbResult<Saved>> {
        Box::pin(self.save_step(term, step))
    }

    fn due<'a>(
        &'a self,
        unit: &'a UnitName,
        passed: Option<i64>,
        most: u32,
    ) -> BoxFuture<'a, DbResult<Vec<Suspect>>> {
        Box::pin(self.in_time(self.due_suspects(unit, passed, most)))
    }

    fn unreadable<'a>(&'a self, unit: &'a UnitName) -> BoxFuture<'a, DbResult<Option<String>>> {
        Box::pin(self.in_time(self.unreadable_suspect(unit)))
    }

    fn waiting<'a>(&'a self, unit: &'a UnitName, most: u32) -> BoxFuture<'a, DbResult<u32>> {
        Box::pin(self.in_time(self.count_suspects(unit, most)))
    }

    fn suspect<'a>(&'a self, keys: &'a [WatchedKey]) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(self.add_watched(keys))
    }

    fn watches<'a>(&'a self, unit: &'a UnitName, length: Duration) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(self.in_time(self.write_watched(unit, length)))
    }

    fn ask_sweep<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(self.in_time(self.ask_for_sweeps(units)))
    }

    fn trouble<'a>(&'a self, term: &'a Term, why: Option<&'a str>) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(self.in_time(self.write_trouble(term, why)))
    }

    fn mirror<'a>(&'a self, term: &'a Term, stand: Option<&'a str>) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(self.in_time(self.write_mirror(term, stand)))
    }

    fn keyed<'a>(&'a self, term: &'a Term, key: &'a str) -> BoxFuture<'a, DbResult<bool>> {
        Box::pin(self.write_key(term, key))
    }

    fn resume<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<u64>> {
        Box::pin(self.in_time(self.resume_units(units)))
    }

    fn status<'a>(
        &'a self,
        job: &'a str,
        units: &'a [Arc<UnitName>],
    ) -> BoxFuture<'a, DbResult<Vec<JobStatus>>> {
        Box::pin(self.in_time(self.read_status(job, units)))
    }

    fn runs<'a>(
        &'a self,
        units: &'a [Arc<UnitName>],
        most: u32,
    ) -> BoxFuture<'a, DbResult<Vec<Run>>> {
        Box::pin(self.in_time(self.read_runs(units, most)))
    }

    fn leftovers<'a>(
        &'a self,
        job: &'a str,
        units: &'a [Arc<UnitName>],
    ) -> BoxFuture<'a, DbResult<Vec<Leftover>>> {
        Box::pin(self.in_time(self.read_leftovers(job, units)))
    }

    fn forget<'a>(
        &'a self,
        leftover: &'a Leftover,
        idle: Duration,
    ) -> BoxFuture<'a, DbResult<bool>> {
        Box::pin(self.remove_leftover(leftover, idle))
    }

    fn names(&self) -> BoxFuture<'_, DbResult<Vec<String>>> {
        Box::pin(self.in_time(self.read_names()))
    }
}
