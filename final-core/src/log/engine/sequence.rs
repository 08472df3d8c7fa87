//! Whether sequence numbers went back: the sequence was restarted, the table truncated, or another server counts on
//! its own.
//!
//! Input: what a refresh has seen of the sequence, and the watermarks of this reader. Output: a call to
//! [`Log::mend`](crate::log::tables::Log::mend) where they disagree, and at the end the watermarks for the
//! processes that start next.

use super::Engine;
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{
        progress::{gaps::Gaps, knowledge::ReaderKnowledge, watermark::Watermark},
        tables::sequence::SequenceCheck,
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// The gaps of the group's own stream.
    pub(super) fn gaps(&self) -> Gaps {
        let main = self.streams.main();
        main.map(|main| main.gaps.clone()).unwrap_or_default()
    }

    /// Mends sequence numbers that went back. `marks` are the watermarks from before the check, `gaps` those of
    /// the group's own stream.
    pub(super) async fn check_sequence(
        &mut self,
        check: &SequenceCheck,
        marks: Vec<Watermark>,
        gaps: Gaps,
    ) -> DbResult<()> {
        let member = &self.member;
        let suspects = member.take_suspicion();
        if suspects || check.is_suspect() {
            let late = member.watermarks().late();
            let known = ReaderKnowledge {
                marks,
                same_server: self.group.is_same_server,
                open: gaps,
                late,
                thoroughly: suspects,
            };
            member.mended(member.log.mend(&known).await?);
        }
        if self.streams.main().is_none() {
            member.watermarks().passed_until(check.now);
        }
        self.group.is_same_server = true;
        Ok(())
    }

    /// Checks once more and writes the watermarks down: the next process that starts has no others.
    pub(super) async fn leave_watermarks(&mut self, gaps: Gaps) -> DbResult<()> {
        let member = &self.member;
        let marks = member.watermarks().list();
        let process = member.wakeups.process;
        let refreshed = self
            .session
            .refresh(&member.group, member.id, process, &marks)
            .await?;
        self.check_sequence(&refreshed.sequence, marks, gaps)
            .await?;
        let marks = self.member.watermarks().for_others();
        self.member.log.leave_watermarks(&marks).await
    }
}
