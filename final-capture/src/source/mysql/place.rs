//! Where the stream is: the last transaction of each domain, and the place in the file.
//!
//! Input: each event. State: GTIDs, file and offset. Output: [`SourcePoint`]s of the kind that the capture uses.
//!
//! The offset is counted over events, as the header has only its lower 32 bits.

use std::sync::Arc;

use super::{
    checksum::rotated,
    gtid::{Gtid, GtidPosition},
    raw::{Meaning, RawEvent},
    wire::{CannotRead, Wire},
};
use crate::position::SourcePoint;

/// How positions are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PositionBy {
    /// By global transaction ids, which also hold after a failover to another server.
    #[default]
    Gtid,
    /// By file and offset, which only this server knows.
    File,
}

/// Where the stream is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    by: PositionBy,
    gtids: GtidPosition,
    /// The open transaction's id, or the last one's.
    last: Option<Gtid>,
    file: Arc<str>,
    /// Behind the last event.
    offset: u64,
    /// Behind the last transaction.
    finished: u64,
}

/// The first event of each file is behind four bytes.
pub(super) const FIRST: u64 = 4;

impl Place {
    /// After these transactions.
    pub(super) fn after_gtids(gtids: GtidPosition) -> Self {
        Self {
            by: PositionBy::Gtid,
            gtids,
            last: None,
            file: "".into(),
            offset: 0,
            finished: 0,
        }
    }

    /// In that file.
    pub(super) fn in_file(file: Arc<str>, offset: u64) -> Self {
        Self {
            by: PositionBy::File,
            gtids: GtidPosition::default(),
            last: None,
            file,
            offset,
            finished: offset,
        }
    }

    /// The end of the last transaction.
    pub(super) fn point(&self) -> SourcePoint {
        match self.by {
            PositionBy::Gtid => SourcePoint::Gtid(self.gtids.to_string().into()),
            PositionBy::File => SourcePoint::File {
                file: Arc::clone(&self.file),
                offset: self.finished,
            },
        }
    }

    /// The file that the stream is in, and the offset there.
    pub(super) fn in_file_now(&self) -> (&str, u64) {
        (&self.file, self.offset)
    }

    /// The last transaction of each domain.
    pub(super) fn gtids(&self) -> &GtidPosition {
        &self.gtids
    }

    /// What a server is asked for: a file and an offset, or no file where the GTIDs were set before.
    pub(super) fn request(&self) -> (Arc<str>, u64) {
        match self.by {
            PositionBy::Gtid => ("".into(), FIRST),
            PositionBy::File => (Arc::clone(&self.file), self.finished),
        }
    }

    /// The id of the transaction that has begun last.
    pub(super) fn last_id(&self) -> Arc<str> {
        self.last
            .map_or_else(|| "".into(), |gtid| gtid.to_string().into())
    }

    /// The transaction has ended.
    pub(super) fn finish(&mut self) {
        if let Some(gtid) = self.last {
            self.gtids.pass(gtid);
        }
        self.finished = self.offset;
    }

    /// Takes notice of an event.
    pub(super) fn pass(&mut self, event: &RawEvent) -> Result<(), CannotRead> {
        if event.is_in_file() && event.meaning() != Meaning::Nothing {
            let high = self.offset & !0xffff_ffff;
            let end = high | u64::from(event.end);
            self.offset = match end < self.offset {
                true => end
                    .checked_add(1 << 32)
                    .ok_or_else(|| CannotRead::new("the offset in the file is too large"))?,
                false => end,
            };
        }
        match event.meaning() {
            Meaning::Gtid => {
                let mut wire = Wire(&event.body);
                let number = wire.low_first(8)?;
                let domain = u32::try_from(wire.low_first(4)?).unwrap_or_default();
                self.last = Some(Gtid {
                    domain,
                    server: event.server,
                    number,
                });
            }
            Meaning::Rotate => {
                let (offset, file) = rotated(&event.body)?;
                // A server announces the file that it reads also where nothing has changed.
                if *file != *self.file || offset < self.finished {
                    self.file = file.into();
                    self.offset = offset;
                    self.finished = offset;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u8, end: u32, body: &[u8]) -> RawEvent {
        RawEvent {
            kind,
            end,
            server: 7,
            body: body.into(),
            ..RawEvent::default()
        }
    }

    #[test]
    fn a_file_of_more_than_4_gib_is_counted_on_although_its_events_tell_32_bits() {
        let mut place = Place::in_file("mysql-bin.000001".into(), 4);
        for end in [3_000_000_000, 100, 200] {
            place.pass(&event(19, end, &[])).unwrap();
        }
        place.finish();
        let beyond = "file:mysql-bin.000001:4294967496";
        assert_eq!(place.point().to_string(), beyond);
        // A heartbeat tells a place as well, and moves nothing.
        place.pass(&event(27, 100, b"mysql-bin.000001")).unwrap();
        place.finish();
        assert_eq!(place.point().to_string(), beyond);
        let mut next = 4_u64.to_le_bytes().to_vec();
        next.extend(b"mysql-bin.000002");
        place.pass(&event(4, 300, &next)).unwrap();
        assert_eq!(place.point().to_string(), "file:mysql-bin.000002:4");
    }

    #[test]
    fn a_file_that_is_announced_again_moves_nothing() {
        let mut place = Place::in_file("mysql-bin.000001".into(), 1000);
        let mut same = 1000_u64.to_le_bytes().to_vec();
        same.extend(b"mysql-bin.000001");
        place.pass(&event(4, 0, &same)).unwrap();
        assert_eq!(place.point().to_string(), "file:mysql-bin.000001:1000");
    }
}
