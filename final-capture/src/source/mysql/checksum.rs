//! Takes an event from the client library, checks its bytes, and leaves what a capture needs.
//!
//! Input: an event of mysql_async, which keeps the checksum and does not compare it. Output: a [`RawEvent`].

use flate2::Crc;
use mysql_async::binlog::{BinlogChecksumAlg, events};

use super::{
    raw::RawEvent,
    wire::{CannotRead, Wire},
};

const ROTATE: u8 = 4;
const FORMAT: u8 = 15;
/// The flag of a file that is being written. It was not set when the checksum was made.
const IN_USE: u16 = 1;

/// Checks an event.
pub(super) fn checked(event: &events::Event) -> Result<RawEvent, CannotRead> {
    let header = event.header();
    let algorithm = event
        .footer()
        .get_checksum_alg()
        .map_err(|unknown| CannotRead(format!("its checksum is of an unknown kind: {unknown}")))?;
    let mut raw = RawEvent {
        kind: header.event_type_raw(),
        flags: header.flags_raw(),
        server: header.server_id(),
        at: header.timestamp(),
        size: header.event_size(),
        end: header.log_pos(),
        body: event.data().into(),
    };
    let sum = match (algorithm, event.checksum()) {
        (Some(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32), Some(sum)) => u32::from_le_bytes(sum),
        _ if raw.kind == ROTATE => return Ok(announced(raw)),
        _ => return Ok(raw),
    };
    let mut crc = head(&raw);
    crc.update(&raw.body);
    if raw.kind == FORMAT {
        crc.update(&[BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32 as u8]);
    }
    if crc.sum() == sum {
        return Ok(raw);
    }
    // A server that reads a file without checksums after one with them announces it in the old way, or the other way
    // round.
    if raw.kind == ROTATE {
        raw.body = [&raw.body, sum.to_le_bytes().as_slice()].concat().into();
        return Ok(announced(raw));
    }
    Err(CannotRead(format!(
        "its bytes do not match its checksum: {:08x}, and {sum:08x} was written",
        crc.sum()
    )))
}

/// The name of a file comes before the stream tells whether events have checksums. So one that is there looks like the
/// end of the name, and is cut off if it matches.
fn announced(mut raw: RawEvent) -> RawEvent {
    let Some((body, end)) = raw.body.split_last_chunk::<4>() else {
        return raw;
    };
    let mut crc = head(&raw);
    crc.update(body);
    if crc.sum() == u32::from_le_bytes(*end) {
        raw.body = body.into();
    }
    raw
}

fn head(raw: &RawEvent) -> Crc {
    let mut crc = Crc::new();
    let flags = if raw.kind == FORMAT {
        raw.flags & !IN_USE
    } else {
        raw.flags
    };
    crc.update(&raw.at.to_le_bytes());
    crc.update(&[raw.kind]);
    crc.update(&raw.server.to_le_bytes());
    crc.update(&raw.size.to_le_bytes());
    crc.update(&raw.end.to_le_bytes());
    crc.update(&flags.to_le_bytes());
    crc
}

/// The file and offset that a rotate event names.
pub(super) fn rotated(body: &[u8]) -> Result<(u64, &str), CannotRead> {
    let mut wire = Wire(body);
    let offset = wire.low_first(8)?;
    match std::str::from_utf8(wire.0) {
        Ok(file) => Ok((offset, file)),
        Err(_) => Err(CannotRead::new("a file's name is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::binlog::{
        BinlogVersion,
        events::{BinlogEventFooter, Event, FormatDescriptionEvent},
    };

    use super::*;

    /// An event as a server with that kind of checksums sends it.
    fn event(kind: u8, body: &[u8], algorithm: BinlogChecksumAlg, flip: bool) -> Event {
        let has_sum = algorithm == BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32;
        let size = u32::try_from(19 + body.len() + if has_sum { 4 } else { 0 }).unwrap();
        let mut bytes = 5_u32.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(900_u32.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(body);
        let mut crc = Crc::new();
        crc.update(&bytes);
        if has_sum {
            bytes.extend(crc.sum().to_le_bytes());
        }
        if flip {
            bytes[20] ^= 1;
        }
        let head = FormatDescriptionEvent::new(BinlogVersion::Version4)
            .with_footer(BinlogEventFooter::new(algorithm));
        Event::read(&head, &bytes[..]).unwrap()
    }

    #[test]
    fn an_event_whose_bytes_were_changed_is_refused() {
        use BinlogChecksumAlg::{
            BINLOG_CHECKSUM_ALG_CRC32 as CRC32, BINLOG_CHECKSUM_ALG_OFF as OFF,
        };
        let raw = checked(&event(16, b"12345678", CRC32, false)).unwrap();
        assert_eq!((&*raw.body, raw.end, raw.at), (&b"12345678"[..], 900, 5));
        assert!(checked(&event(16, b"12345678", CRC32, true)).is_err());
        assert_eq!(
            &*checked(&event(16, b"12345678", OFF, false)).unwrap().body,
            b"12345678"
        );
    }

    #[test]
    fn the_checksum_behind_the_first_name_of_a_file_is_no_part_of_it() {
        use BinlogChecksumAlg::{
            BINLOG_CHECKSUM_ALG_CRC32 as CRC32, BINLOG_CHECKSUM_ALG_OFF as OFF,
        };
        let mut body = 4_u64.to_le_bytes().to_vec();
        body.extend(b"mysql-bin.000001");
        // The stream has not told yet that there are checksums.
        let with = event(ROTATE, &body, CRC32, false);
        let mut bytes = body.clone();
        bytes.extend(with.checksum().unwrap());
        let mut raw = checked(&with).unwrap();
        raw.body = bytes.into();
        assert_eq!(rotated(&announced(raw).body), Ok((4, "mysql-bin.000001")));
        let without = checked(&event(ROTATE, &body, OFF, false)).unwrap();
        assert_eq!(rotated(&without.body), Ok((4, "mysql-bin.000001")));
    }
}
