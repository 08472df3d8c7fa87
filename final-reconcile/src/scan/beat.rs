//! Where the mirror of a unit stands, and what is told of it.
//!
//! Input: its heartbeat. State: when it was told last. Output: the time that the mirror has passed; a trouble, if it is too
//! far behind.

use std::time::{Duration, Instant};

use super::{
    context::{Context, Ended, Tables},
    progress::MirrorStand,
};
use crate::mirror::{Pulse, Stand};

/// How often the stand is written down.
const WRITTEN: Duration = Duration::from_secs(5);

/// How long a trouble is told as it is. Its numbers change all the time.
const TOLD: Duration = Duration::from_secs(60);

/// What is told of a mirror.
#[derive(Default)]
pub(super) struct Beat {
    written: Option<Instant>,
    trouble: Option<(Instant, String)>,
}

impl Beat {
    /// Until when suspects are due. None without a heartbeat; then the state's own clock counts.
    pub(super) async fn passed(
        &mut self,
        context: &Context,
        tables: &Tables,
    ) -> Result<Option<i64>, Ended> {
        let Some(pulse) = &tables.pulse else {
            return Ok(None);
        };
        let stand = pulse.look().await?;
        self.tell(context, pulse, &stand).await?;
        Ok(Some(stand.passed().unwrap_or(i64::MIN)))
    }

    /// Why rows are not judged.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.as_ref().map(|(_, why)| why.clone())
    }

    async fn tell(&mut self, context: &Context, pulse: &Pulse, stand: &Stand) -> Result<(), Ended> {
        let unit = &context.unit;
        let was_in_trouble = self.trouble.is_some();
        self.trouble = match stand.trouble(&unit.name.target, pulse.limit) {
            None => None,
            Some(why) => match self.trouble.take() {
                Some((told, before)) if told.elapsed() < TOLD => Some((told, before)),
                _ => Some((Instant::now(), why)),
            },
        };
        unit.vitals.mirror(&unit.name, stand.lag());
        let is_new = was_in_trouble != self.trouble.is_some();
        if !is_new
            && self
                .written
                .is_some_and(|written| written.elapsed() < WRITTEN)
        {
            return Ok(());
        }
        let written = MirrorStand {
            at: stand.shown(),
            lag: stand
                .lag()
                .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
        };
        let told = unit.store.mirror(&context.term, &written.text()).await;
        told.map_err(|error| context.state("writing the state of scans to", error))?;
        self.written = Some(Instant::now());
        Ok(())
    }
}
