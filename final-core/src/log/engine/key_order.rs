//! What the order of keys needs: messages that predecessors left open come first, and messages whose content
//! was left out are read before they are delivered.
//!
//! Input: a stream's inherited sequence numbers; light messages that may go now. Output: rows offered to their
//! lanes, and deliveries.
//!
//! A message that waits behind others of its key may be kept without its content, so that one busy key does not
//! fill the memory. When its turn comes its row is read again; if the row is gone by then, the delivery says so.

use super::{Engine, read::StreamReader};
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::progress::{
        rows::{ALL_LANES, LogRow, RowFilter},
        stream::Stream,
        streams::Streams,
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// Reads and delivers messages that waited without their content, and may go now.
    pub(super) async fn read_waiting(&mut self) -> DbResult<()> {
        let (mut reader, streams) = self.reader();
        reader.read_waiting(streams).await
    }
}

impl<DB: OutboxDatabase> StreamReader<'_, DB> {
    /// Takes what predecessors left open when their lanes were taken over, in order. Nothing else is taken
    /// before, because it could have the same keys. False if there is no room for all of it yet.
    pub(super) async fn take_inherited(&mut self, stream: &mut Stream) -> DbResult<bool> {
        loop {
            let room = self.room_for_inherited();
            let seqs = stream.inherited(room.clamp(100, 448));
            if seqs.is_empty() || room == 0 {
                return Ok(seqs.is_empty());
            }
            let rows = self.pick(stream, &seqs).await?;
            self.offer_missing(stream, rows).await?;
            stream.looked_for(&seqs);
        }
    }

    /// Reads one after the other, as far as there is room. After an error the rest is noted again for the next round.
    async fn read_waiting(&mut self, streams: &Streams) -> DbResult<()> {
        loop {
            let waiting = self.deliveries.in_flight.take_to_read();
            if waiting.is_empty() {
                return Ok(());
            }
            for (at, (tag, stream, seq)) in waiting.iter().enumerate() {
                // Its topic may be held again since it was noted.
                if !self.deliveries.in_flight.passes(*tag) {
                    continue;
                }
                match self.read_one(streams.get(*stream), *seq).await {
                    Ok(row) => {
                        self.deliveries.in_flight.fill(*tag, row);
                        self.deliveries.deliver(*tag);
                    }
                    Err(error) => {
                        for (tag, ..) in waiting.iter().skip(at) {
                            self.deliveries.in_flight.must_read(*tag);
                        }
                        return Err(error);
                    }
                }
            }
        }
    }

    /// One row with its payload. `None` if it was removed.
    async fn read_one(&mut self, stream: Option<&Stream>, seq: i64) -> DbResult<Option<LogRow>> {
        let filter = RowFilter {
            topics: stream.map(Stream::topic_names).unwrap_or_default(),
            // A message that was taken is delivered though its lane is draining.
            lanes: ALL_LANES,
        };
        let mut row = self.session.pick(&[seq], &filter).await?.pop();
        if let Some(row) = row.as_mut().filter(|row| row.is_heavy()) {
            row.payload = self.session.payload(row.seq, row.id()).await?;
        }
        Ok(row)
    }
}
