//! What proves that rows are equal.

use crate::form::Row;

/// The digests of a stretch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digests {
    pub(crate) digests: Vec<Digest>,
    /// Where the next chunks end, if this was asked for.
    pub(crate) next: Vec<Row>,
}

/// The digest of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: Vec<u8>,
    /// Whether not all of the chunk is in it, so that it proves nothing.
    pub(crate) is_cut: bool,
}

impl Digest {
    /// Whether both sides are proved equal.
    pub(crate) fn proves(&self, other: &Self) -> bool {
        !self.is_cut && !other.is_cut && self.rows == other.rows && self.hash == other.hash
    }

    /// Whether the server could not take so many bytes, so that it could do so with fewer rows.
    pub(crate) fn is_too_large(&self, most_rows: u64) -> bool {
        self.is_cut && self.rows <= most_rows
    }
}

/// The digest of one bucket of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// The first digits of the hash of the keys in it.
    pub(crate) name: String,
    pub(crate) rows: u64,
    /// Two sums over the hashes of its rows.
    pub(crate) sums: String,
}
