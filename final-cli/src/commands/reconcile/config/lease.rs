//! How long a process keeps what it has without a sign of life.

use std::time::Duration;

use serde::Deserialize;

use crate::config::Period;

/// The longest. Others wait so long for a process that was killed.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// A lease of so many seconds at least, and of an hour at most.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Period")]
pub(super) struct Lease<const LEAST: u64>(pub(super) Duration);

/// The lease of the scans of a job.
pub(super) type ScanLease = Lease<1>;

/// The lease of repairs that a process has taken.
pub(super) type RepairLease = Lease<4>;

impl<const LEAST: u64> TryFrom<Period> for Lease<LEAST> {
    type Error = String;

    fn try_from(period: Period) -> Result<Self, String> {
        match period.0 {
            lease if lease < Duration::from_secs(LEAST) => Err(format!(
                "{period} is less than a process needs to renew a lease; write \"{LEAST}s\" or more"
            )),
            lease if lease > LONGEST => Err(format!(
                "{period} is too long for a lease, because others wait so long for a process that was killed; write \"{}\" or less",
                Period(LONGEST)
            )),
            lease => Ok(Self(lease)),
        }
    }
}
