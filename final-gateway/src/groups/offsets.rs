//! Offsets: numbers that rise with each message that is given out.
//!
//! Input: messages that a connection is given; epochs of the database. State: the connection's epochs, and the last
//! number of each. Output: offsets, and what a commit of one means.
//!
//! ```text
//!   offset = epoch · 2^24 + n        n = 1, 2, 3, … within the epoch
//! ```
//!
//! An epoch is given to one connection only, and a later connection has a higher one. So offsets rise over connections,
//! restarts and nodes, although the numbers of the log do not: transactions commit in another order than they write. An
//! offset stays below 2^53, the largest number that JavaScript has.

use super::CommitError;

/// So many bits count within an epoch.
const BITS: u32 = 24;
/// The largest epoch whose offsets stay below 2^53.
const LAST_EPOCH: i64 = (1 << (53 - BITS)) - 1;
/// The partitions of the log.
const PARTITIONS: i64 = 16;

/// The offsets of one connection.
#[derive(Debug)]
pub(super) struct ConnectionOffsets {
    /// Each epoch of the connection with the last number that was given out in it. Never empty but at first.
    epochs: Vec<(i64, i64)>,
    /// One bit for each partition: whether a message of it was given out.
    partitions: u32,
    /// The largest number of an epoch.
    last: i64,
}

/// What a commit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    /// Everything of the partition up to this offset is done.
    UpTo(i32, i64),
    /// Nothing: the offset is of an earlier connection, whose messages have gone back.
    Void,
}

impl ConnectionOffsets {
    /// No epoch yet.
    pub(super) fn new() -> Self {
        Self::with_last((1 << BITS) - 1)
    }

    fn with_last(last: i64) -> Self {
        Self {
            epochs: Vec::new(),
            partitions: 0,
            last,
        }
    }

    /// Whether so many messages can be given out within the epoch.
    pub(super) fn have_room(&self, messages: usize) -> bool {
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        self.epochs
            .last()
            .is_some_and(|(_, n)| messages <= self.last - n)
    }

    /// Goes on with a new epoch. False if it is no higher than the one before, or too high.
    pub(super) fn begin(&mut self, epoch: i64) -> bool {
        let before = self.epochs.last().map_or(0, |(epoch, _)| *epoch);
        let is_usable = epoch > before && epoch <= LAST_EPOCH;
        if is_usable {
            self.epochs.push((epoch, 0));
        }
        is_usable
    }

    /// The offset of the next message. Only while there is [room](Self::have_room).
    pub(super) fn next(&mut self, partition: i32) -> i64 {
        self.partitions |= 1_u32.checked_shl(partition.unsigned_abs()).unwrap_or(0);
        let Some((epoch, n)) = self.epochs.last_mut() else {
            return 0;
        };
        *n += 1;
        (*epoch << BITS) + *n
    }

    /// What a commit means.
    pub(super) fn commit(&self, partition: i64, offset: i64) -> Result<Commit, CommitError> {
        let part = i32::try_from(partition)
            .ok()
            .filter(|_| (0..PARTITIONS).contains(&partition))
            .ok_or(CommitError::Partition(partition))?;
        let (epoch, n) = (offset >> BITS, offset & ((1 << BITS) - 1));
        if offset < 0 {
            return Err(CommitError::Offset(offset));
        }
        let own = self.epochs.iter().find(|(own, _)| *own == epoch);
        match own {
            Some((_, given)) if n > *given => Err(CommitError::Offset(offset)),
            Some(_) if self.partitions & (1 << part) == 0 => Err(CommitError::Partition(partition)),
            Some(_) => Ok(Commit::UpTo(part, offset)),
            None if self.epochs.last().is_some_and(|(last, _)| epoch < *last) => Ok(Commit::Void),
            None => Err(CommitError::Offset(offset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(epoch: i64) -> ConnectionOffsets {
        let mut offsets = ConnectionOffsets::new();
        assert!(offsets.begin(epoch));
        offsets
    }

    #[test]
    fn offsets_rise_over_connections_and_stay_below_what_javascript_can_count() {
        let (mut first, mut second) = (begun(1), begun(LAST_EPOCH));
        let before = [first.next(0), first.next(5)];
        // As after so many messages.
        second.epochs = vec![(LAST_EPOCH, second.last - 1)];
        assert!(second.have_room(1));
        let last = second.next(0);

        assert_eq!(before, [(1 << 24) + 1, (1 << 24) + 2]);
        assert_eq!(last, (1_i64 << 53) - 1);
        assert!(!second.have_room(1));
        assert!(!second.begin(LAST_EPOCH + 1));
    }

    #[test]
    fn a_commit_of_an_earlier_connection_is_void_and_one_of_a_later_one_an_error() {
        let (mut earlier, mut now, mut later) = (begun(6), begun(7), begun(8));
        let (before, own, after) = (earlier.next(3), now.next(3), later.next(3));

        assert_eq!(now.commit(3, before), Ok(Commit::Void));
        assert_eq!(now.commit(3, own), Ok(Commit::UpTo(3, own)));
        assert_eq!(now.commit(3, after), Err(CommitError::Offset(after)));
    }

    #[test]
    fn an_offset_or_a_partition_that_was_never_given_out_is_an_error() {
        let mut offsets = begun(7);
        let given = offsets.next(3);

        for offset in [-1, i64::MIN, given + 1, i64::MAX] {
            assert_eq!(offsets.commit(3, offset), Err(CommitError::Offset(offset)));
        }
        for partition in [-1, 4, 16, i64::MAX] {
            let error = Err(CommitError::Partition(partition));
            assert_eq!(offsets.commit(partition, given), error);
        }
    }

    #[test]
    fn an_epoch_that_is_used_up_is_followed_by_another_whose_messages_are_the_same_connections() {
        let mut offsets = ConnectionOffsets::with_last(2);
        assert!(!offsets.have_room(1));
        assert!(offsets.begin(7));
        let first = [offsets.next(0), offsets.next(0)];
        assert!(!offsets.have_room(1));
        assert!(offsets.begin(9));
        let second = offsets.next(0);

        assert!(second > first[1]);
        assert_eq!(offsets.commit(0, first[0]), Ok(Commit::UpTo(0, first[0])));
        assert_eq!(offsets.commit(0, second), Ok(Commit::UpTo(0, second)));
        assert_eq!(offsets.commit(0, (8 << 24) + 1), Ok(Commit::Void));
        assert!(!offsets.begin(9), "a second time");
    }
}
