//! Messages of one key, one after the other.

use super::Engine;
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::progress::rows::{ALL_LANES, RowFilter},
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// It is this one's turn.
    pub(super) fn deliver_next(&mut self, tag: u64) {
        if !self.in_flight.must_read(tag) {
            self.deliver(tag);
        }
    }

    /// Takes what predecessors left open, in order. Nothing else is taken before: it could be of the
    /// same keys. False if there is no room for all of it yet.
    pub(super) async fn inherit(&mut self, id: i64) -> DbResult<bool> {
        loop {
            let room = self.in_flight.room(self.member.tuning.prefetch);
            let Some(stream) = self.streams.get(&id) else {
                return Ok(true);
            };
            let numbers = stream.inherited(room.clamp(100, 448));
            if numbers.is_empty() || room == 0 {
                return Ok(numbers.is_empty());
            }
            let rows = self.pick(id, &numbers).await?;
            self.offer_gaps(id, rows).await?;
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.looked_at(&numbers);
            }
        }
    }

    /// Reads those whose turn it is and that waited with nothing but their number.
    pub(super) async fn fetch_wanted(&mut self) -> DbResult<()> {
        if !self.in_flight.has_wanted() {
            return Ok(());
        }
        let wanted = self.in_flight.take_wanted();
        for (at, (tag, stream, seq)) in wanted.iter().enumerate() {
            let names = self.streams.get(stream).map(|stream| stream.names());
            let ours = RowFilter {
                topics: names.unwrap_or_default(),
                lanes: ALL_LANES,
            };
            let read = async {
                let mut rows = self.session.pick(&[*seq], &ours).await?;
                let row = rows.pop();
                match row {
                    Some(mut row) if row.is_heavy() => {
                        row.payload = self.session.payload(row.seq, row.id()).await?;
                        Ok(Some(row))
                    }
                    row => Ok(row),
                }
            };
            match read.await {
                Ok(row) => {
                    self.in_flight.fill(*tag, row);
                    self.deliver(*tag);
                }
                Err(error) => {
                    for (tag, ..) in &wanted[at..] {
                        self.in_flight.must_read(*tag);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
