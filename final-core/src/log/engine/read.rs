//! Reading on: pages of the log, from the position of each stream.
//!
//! Input: streams that may have more rows, and the room in flight. Output: rows offered to their lanes, the
//! stream's new position, and the gaps below it.
//!
//! ```text
//!   page ─ be sure it is on the disk ─▶ each row: note what is missing before it ─▶ offer
//!                                                                 Take ─▶ payload ─▶ deliveries
//!                                              then the position moves on ◀─ Skip, Leave
//! ```
//!
//! The position moves past a row only once the row was offered. So an error in between loses nothing: the next
//! round reads the rest of the page again, and a row that was taken is not taken twice.

use std::time::Instant;

use super::{Engine, PAGE, deliver::Deliveries, schedule::Schedule};
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{
        member::Member,
        progress::{
            rows::{LaneId, LogRow, MAIN},
            stream::{Offer, Stream},
        },
        tables::{dialect::words, session::Session},
    },
};

/// What one stream is read with. A row goes from the session through the stream to the deliveries.
///
/// It borrows these parts from the engine for one part of a round, and leaves out the streams: each method gets
/// the one stream that it works on.
pub(super) struct StreamReader<'a, DB: OutboxDatabase> {
    pub(super) member: &'a Member<DB>,
    pub(super) session: &'a mut Session<DB>,
    /// Where rows go that a lane has taken.
    pub(super) deliveries: &'a mut Deliveries,
    pub(super) schedule: &'a mut Schedule,
    /// Up to this sequence number a missing row was removed, and is no gap.
    pub(super) trimmed: &'a mut i64,
    /// Whether too many side effects are set aside to read on.
    pub(super) is_held_up: bool,
}

impl<DB: OutboxDatabase> Engine<DB> {
    /// Reads on in every stream, if it is time.
    pub(super) async fn read(&mut self) -> DbResult<()> {
        let now = Instant::now();
        let by_poll = self
            .schedule
            .reads
            .poll_is_due(now, self.member.is_listening());
        if by_poll {
            self.streams.mark_more();
        }
        if !self.schedule.reads.is_due(now) {
            return Ok(());
        }
        let was_announced = self.schedule.reads.take_announced();
        let mut rows = 0;
        let (mut reader, streams) = self.reader();
        for stream in streams.iter_mut() {
            rows += reader.read_stream(stream).await?;
        }
        // This process has not announced these rows, so other processes are publishing.
        let is_foreign = rows > 0 && !was_announced && !self.member.is_listening();
        self.schedule
            .reads
            .has_read(Instant::now(), rows, by_poll || is_foreign);
        Ok(())
    }
}

impl<DB: OutboxDatabase> StreamReader<'_, DB> {
    /// How many more messages may be taken.
    pub(super) fn room(&self) -> usize {
        if self.is_held_up {
            return 0;
        }
        self.deliveries.in_flight.room()
    }

    /// How many more messages may be taken of those that predecessors left open.
    pub(super) fn room_for_inherited(&self) -> usize {
        match self.is_held_up {
            true => 0,
            false => self.deliveries.in_flight.room_for_inherited(),
        }
    }

    /// Rows after one sequence number and up to another, `most` at most. The server cannot forget them.
    pub(super) async fn page(
        &mut self,
        stream: &Stream,
        after: i64,
        up_to: i64,
        most: usize,
    ) -> DbResult<Vec<LogRow>> {
        let filter = stream.filter();
        let rows = self.session.page(after, up_to, most, &filter).await?;
        self.be_sure(rows).await
    }

    /// The rows with these sequence numbers that are visible. The server cannot forget them.
    pub(super) async fn pick(&mut self, stream: &Stream, seqs: &[i64]) -> DbResult<Vec<LogRow>> {
        let rows = self.session.pick(seqs, &stream.filter()).await?;
        self.be_sure(rows).await
    }

    /// Waits until the server cannot forget these rows, and remembers them: the next connection compares them
    /// with the table. A server that forgot a row would give its sequence number to another message, which would
    /// then be passed over.
    async fn be_sure(&mut self, rows: Vec<LogRow>) -> DbResult<Vec<LogRow>> {
        if !rows.is_empty() {
            self.session.be_sure(self.member.id).await?;
            self.session.see(rows.iter().map(|row| (row.seq, row.id())));
            let mut watermarks = self.member.watermarks();
            for row in &rows {
                if row.topic.is_empty() {
                    watermarks.saw_filled_gap(row.written_at);
                } else {
                    watermarks.saw(row.seq, row.written_at);
                }
            }
        }
        Ok(rows)
    }

    /// Reads a stream until its end, until there is no room, or until a commit is due. Returns how many rows
    /// there were.
    ///
    /// A page that is full is followed by the next one at once. With key order a page is read again if a gap
    /// below it has closed, because the row of the gap comes first.
    async fn read_stream(&mut self, stream: &mut Stream) -> DbResult<usize> {
        let mut found = 0;
        loop {
            let room = self.room();
            if room == 0 || !stream.can_read() {
                return Ok(found);
            }
            let most = PAGE.min(room.max(100));
            let up_to = stream.ends_at.unwrap_or(i64::MAX);
            let rows = self.page(stream, stream.position, up_to, most).await?;
            // Gaps that have closed meanwhile come first; then the page is read again.
            if self.member.tuning.key_order && !rows.is_empty() && self.offer_late(stream).await? {
                found += 1;
                continue;
            }
            found += rows.len();
            let is_full = rows.len() >= most;
            for row in rows {
                let seq = row.seq;
                self.note_missing(stream, seq);
                self.offer(stream, row).await?;
                stream.reach(seq);
            }
            if !is_full {
                self.at_the_end(stream);
            }
            // The group's own stream has every row up to there.
            if stream.id == MAIN && found > 0 {
                self.member.watermarks().reached(stream.position);
            }
            let now = Instant::now();
            if found > 0 {
                self.schedule.commits.changed(|| now);
            }
            if !is_full || self.schedule.commits.changes_are_due(now) {
                return Ok(found);
            }
        }
    }

    /// Offers a visible row to its lane, and takes it into flight if the lane takes it.
    pub(super) async fn offer(&mut self, stream: &mut Stream, row: LogRow) -> DbResult<Offer> {
        let offer = stream.offer(&row, &self.member.group);
        if offer == Offer::Take {
            self.take(stream, row).await?;
        }
        Ok(offer)
    }

    /// Takes a row into flight.
    ///
    /// The payload of a heavy row was left out of the page, and is read now. If that fails the row is put back,
    /// and is looked for again like a gap. If the row is gone it was too old, and counts as settled.
    async fn take(&mut self, stream: &mut Stream, mut row: LogRow) -> DbResult<()> {
        let lane = row.lane;
        if row.is_heavy() {
            row.payload = match self.session.payload(row.seq, row.id()).await {
                Ok(payload) => payload,
                Err(error) => {
                    stream.put_back(lane, row.seq);
                    return Err(error);
                }
            };
            if row.payload.is_none() {
                // Removed for its age since the page was read.
                stream.settle(lane, row.seq);
                return Ok(());
            }
        }
        self.schedule.commits.changed(Instant::now);
        let is_doubted = stream.lane(lane).is_some_and(|own| own.doubts(row.seq));
        let stream = stream.id;
        self.deliveries
            .take(LaneId { stream, lane }, row, is_doubted);
        Ok(())
    }

    /// Nothing further is visible. A stream that ends is read to its end.
    fn at_the_end(&self, stream: &mut Stream) {
        stream.has_more = false;
        if let Some(end) = stream.ends_at
            && stream.position < end
        {
            self.note_missing(stream, end + 1);
            stream.reach(end);
        }
    }

    /// Notes the gaps before a row. With one writer at a time, as in SQLite, sequence numbers become visible in
    /// order, and nothing is missing.
    fn note_missing(&self, stream: &mut Stream, before: i64) {
        if !words::<DB>().gapless {
            stream.note_missing(before, *self.trimmed);
        }
    }
}
