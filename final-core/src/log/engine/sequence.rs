//! Whether numbers have gone back.

use std::sync::Arc;

use super::Engine;
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{
        progress::{gaps::Gaps, watermark::Watermark},
        tables::{numbers::SequenceCheck, renumber::ReaderKnowledge},
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// What is missing of the group's own stream.
    pub(super) fn gaps(&self) -> Gaps {
        let own = self.streams.get(&0);
        own.map(|own| own.gaps.clone()).unwrap_or_default()
    }

    /// Mends numbers that have gone back, by what was seen of them. `marks` are those of before the look,
    /// `gaps` what is missing.
    pub(super) async fn check_numbers(
        &mut self,
        numbers: &SequenceCheck,
        marks: Vec<Watermark>,
        gaps: Gaps,
    ) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let suspects = member.take_suspicion();
        if suspects || numbers.is_suspect() {
            let late = member.watermarks().late();
            let known = ReaderKnowledge {
                marks,
                same_server: self.is_same_server,
                open: gaps,
                late,
                thoroughly: suspects,
            };
            member.mended(member.log.mend(&known).await?);
        }
        if !self.streams.contains_key(&0) {
            member.watermarks().passed_until(numbers.now);
        }
        self.is_same_server = true;
        Ok(())
    }

    /// Looks once more and writes the watermarks down: the next process that starts has no others.
    pub(super) async fn leave_numbers(&mut self, gaps: Gaps) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let marks = member.watermarks().list();
        let process = member.wakeups.process;
        let look = self.session.look(&member.group, member.id, process, &marks);
        let numbers = look.await?.numbers;
        self.check_numbers(&numbers, marks, gaps).await?;
        let marks = member.watermarks().for_others();
        member.log.leave_watermarks(&marks).await
    }
}
