//! Reading on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Engine, PAGE};
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{
        progress::{
            rows::{LogRow, RowFilter},
            stream::{Offer, Stream},
        },
        tables::dialect::words,
    },
};

/// The pause between two pages while messages come in one by one, and while they come in numbers:
/// they are then read by the dozen.
const PACE: Duration = Duration::from_millis(2);
const STEADY_PACE: Duration = Duration::from_millis(5);
/// From how many rows on a page came in numbers.
const STEADY: usize = 8;
/// The first pause of polling, after it has found something.
const FIRST_POLL: Duration = Duration::from_millis(5);

impl<DB: OutboxDatabase> Engine<DB> {
    /// Whether new messages of other processes are looked for by reading.
    pub(super) fn polls(&self) -> bool {
        self.poll_pause < self.member.tuning.poll_interval && !self.member.is_listening()
    }

    pub(super) async fn read(&mut self) -> DbResult<()> {
        let mut now = Instant::now();
        let by_poll = self.polls() && now >= self.poll_at;
        if by_poll {
            self.streams
                .values_mut()
                .for_each(|stream| stream.has_more = true);
        }
        if now < self.read_at {
            return Ok(());
        }
        let rang = std::mem::take(&mut self.rang);
        let mut rows = 0;
        let ids: Vec<i64> = self.streams.keys().copied().collect();
        for id in ids {
            rows += self.read_stream(id).await?;
        }
        let found = rows > 0;
        now = Instant::now();
        if found {
            self.read_at = now + if rows < STEADY { PACE } else { STEADY_PACE };
        }
        // Nobody here has announced what was found, so others are at work.
        if by_poll || found && !rang && !self.member.is_listening() {
            self.poll_pause = if found {
                FIRST_POLL
            } else {
                (self.poll_pause * 2).min(self.member.tuning.poll_interval)
            };
            self.poll_at = now + self.poll_pause;
        }
        Ok(())
    }

    /// Rows after one number and up to another, `most` at most. They will not be forgotten.
    pub(super) async fn page(
        &mut self,
        stream: i64,
        after: i64,
        up_to: i64,
        most: usize,
    ) -> DbResult<Vec<LogRow>> {
        let ours = ours(&self.streams, stream);
        let rows = self.session.page(after, up_to, most, &ours).await?;
        self.be_sure(rows).await
    }

    /// The rows with these numbers that show. They will not be forgotten.
    pub(super) async fn pick(&mut self, stream: i64, seqs: &[i64]) -> DbResult<Vec<LogRow>> {
        let ours = ours(&self.streams, stream);
        let rows = self.session.pick(seqs, &ours).await?;
        self.be_sure(rows).await
    }

    async fn be_sure(&mut self, rows: Vec<LogRow>) -> DbResult<Vec<LogRow>> {
        if !rows.is_empty() {
            self.session.be_sure(self.member.id).await?;
            self.session.see(rows.iter().map(|row| (row.seq, row.id())));
            // An empty row is as old as its filling, and not as its number.
            let mut watermarks = self.member.watermarks();
            for row in rows.iter().filter(|row| !row.topic.is_empty()) {
                watermarks.saw(row.seq, row.written_at);
            }
        }
        Ok(rows)
    }

    pub(super) async fn read_stream(&mut self, id: i64) -> DbResult<usize> {
        let mut found = 0;
        loop {
            let room = self.in_flight.room(self.member.tuning.prefetch);
            let Some(stream) = self.streams.get_mut(&id) else {
                return Ok(found);
            };
            if room == 0 || !stream.can_read() {
                return Ok(found);
            }
            let most = PAGE.min(room.max(100));
            let up_to = stream.ends_at.unwrap_or(i64::MAX);
            let after = stream.read;
            let rows = self.page(id, after, up_to, most).await?;
            // What has shown since of older numbers comes first; then the page is read again.
            if self.member.tuning.key_order && !rows.is_empty() && self.offer_late(id).await? {
                found += 1;
                continue;
            }
            found += rows.len();
            let is_full = rows.len() >= most;
            for row in rows {
                let Some(stream) = self.streams.get_mut(&id) else {
                    return Ok(found);
                };
                if !words::<DB>().gapless {
                    stream.notice(row.seq, self.trimmed);
                }
                let seq = row.seq;
                let offer = stream.offer(&row, &self.member.group);
                if offer != Offer::Leave {
                    stream.gaps.resolve(seq);
                }
                if offer == Offer::Take {
                    self.take(id, row).await?;
                }
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.reach(seq);
                }
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                return Ok(found);
            };
            if !is_full {
                stream.has_more = false;
                if let Some(end) = stream.ends_at
                    && stream.read < end
                {
                    if !words::<DB>().gapless {
                        stream.notice(end + 1, self.trimmed);
                    }
                    stream.reach(end);
                }
            }
            // The group's own stream has all rows up to there.
            if id == 0 && found > 0 {
                self.member.watermarks().reached(stream.read);
            }
            if found > 0 {
                self.changed.get_or_insert_with(Instant::now);
            }
            if !is_full || self.changed_for(self.member.tuning.commit_within) {
                return Ok(found);
            }
        }
    }
}

fn ours(streams: &BTreeMap<i64, Stream>, stream: i64) -> RowFilter<'_> {
    let stream = streams.get(&stream);
    stream.map_or_else(RowFilter::default, Stream::ours)
}
