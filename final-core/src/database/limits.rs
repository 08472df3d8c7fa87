//! The limits of what goes into the database.
//!
//! Input: rows, lengths of time, texts, ids. Output: the same within the limits: in lots, cut, or in the order
//! of the key.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

/// Rows of one INSERT. The databases limit the placeholders of a statement: 65,535, and SQLite 32,766.
const ROWS: usize = 1_000;
/// Bytes of one INSERT. MySQL cuts the connection above `max_allowed_packet`, which is 16 MiB by default.
const BYTES: usize = 4 * 1024 * 1024;
/// Bytes of payload that one claim takes, beyond its first record. Without this limit a batch of the largest
/// messages would be gigabytes.
pub(crate) const CLAIM_BYTES: i64 = 16 * 1024 * 1024;
/// How much of an error's text is kept.
const ERROR_BYTES: usize = 1024;

/// Splits items into lots that one INSERT can take. An item that is too large for any lot is a lot of its own.
pub(crate) fn by_size<T: Sync>(
    items: &[T],
    weight: impl Fn(&T) -> usize + Send,
) -> impl Iterator<Item = &[T]> + Send {
    by_weight(items, BYTES, weight)
}

/// The same, for statements of fewer bytes.
pub(crate) fn by_weight<T: Sync>(
    items: &[T],
    most: usize,
    weight: impl Fn(&T) -> usize + Send,
) -> impl Iterator<Item = &[T]> + Send {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(ROWS).take_while(|item| {
            bytes += weight(item);
            bytes <= most
        });
        let (chunk, tail) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = tail;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// A row that no statement can carry to the server, whatever else is in it.
#[derive(Debug)]
pub(crate) struct ExceedsPacket {
    pub(crate) bytes: usize,
    pub(crate) packet: usize,
}

impl fmt::Display for ExceedsPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, packet } = self;
        write!(
            f,
            "the message takes {bytes} bytes in one statement, and the server's max_allowed_packet is {packet}; \
             send a reference to the data instead, or raise max_allowed_packet"
        )
    }
}

impl std::error::Error for ExceedsPacket {}

/// A length of time in microseconds. A longer one than a hundred years is cut, because it would overflow
/// MySQL's DATETIME.
pub(crate) fn micros(time: Duration) -> i64 {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    i64::try_from(time.min(CENTURY).as_micros()).unwrap_or(i64::MAX)
}

/// Microseconds as a length of time. Negative ones are zero.
pub(crate) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// A moment as microseconds since 1970. One before 1970 is 0.
pub(crate) fn since_1970(moment: SystemTime) -> i64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Microseconds since 1970 as a moment. Negative ones are 1970.
pub(crate) fn moment(micros: i64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(duration(micros))
        .unwrap_or(UNIX_EPOCH)
}

/// A count as SQL gives it, as an unsigned number.
pub(crate) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The beginning of an error's text, without NUL, which PostgreSQL cannot store.
pub(crate) fn error_text(error: &str) -> String {
    let mut end = error.len().min(ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error[..end].replace('\0', " ")
}

/// The beginning of a text in printable ASCII, which every charset has.
pub(crate) fn plain_text(text: &str, most: usize) -> String {
    let plain = |letter: char| match letter {
        ' '..='~' => letter,
        _ if letter.is_control() => ' ',
        _ => '?',
    };
    text.chars().take(most).map(plain).collect()
}

/// The ids in the order of the key. Statements that lock in one order do not deadlock.
pub(crate) fn sorted(ids: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(weights: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let items: Vec<_> = weights.into_iter().collect();
        by_size(&items, |weight| *weight).map(<[_]>::len).collect()
    }

    #[test]
    fn nothing_makes_no_chunk() {
        assert!(sizes([]).is_empty());
    }

    #[test]
    fn a_chunk_has_at_most_a_thousand_rows() {
        assert_eq!(sizes(vec![1; 2_500]), [1_000, 1_000, 500]);
    }

    #[test]
    fn a_chunk_has_at_most_four_mebibytes() {
        assert_eq!(sizes([1_500_000; 5]), [2, 2, 1]);
    }

    #[test]
    fn a_record_larger_than_a_chunk_stands_alone() {
        assert_eq!(sizes([10, 9_000_000, 10]), [1, 1, 1]);
    }

    #[test]
    fn an_error_is_cut_between_characters_and_loses_its_nul() {
        let text = format!("\0{}", "ü".repeat(1_000));

        let cut = error_text(&text);

        assert!(cut.len() <= 1_024 && cut.len() > 1_020);
        assert!(cut.starts_with(" ü") && cut.ends_with('ü'));
    }

    #[test]
    fn endless_time_is_a_hundred_years() {
        assert_eq!(micros(Duration::MAX), 3_153_600_000_000_000);
    }

    #[test]
    fn ids_are_sorted_and_each_stands_once() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));

        assert_eq!(sorted([b, a, b]), [a, b]);
    }
}
