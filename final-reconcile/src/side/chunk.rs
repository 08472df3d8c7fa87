//! Which rows of a table are meant, and a row that was found.

use crate::{
    error::{ReconcileError, Reconciled},
    form::{Row, RowHash},
};

/// Which rows are meant: those whose key comes after the one and not after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) after: Option<Row>,
    pub(crate) until: Option<Row>,
    /// Only rows whose hashed key begins with one of these, where the keys of both sides have no common order.
    pub(crate) buckets: Option<Vec<String>>,
}

impl Chunk {
    /// Goes on behind the last row of a page.
    ///
    /// # Errors
    ///
    /// Fails if the key does not move, because the walk would never end.
    pub(crate) fn go_on(&mut self, last: Option<&Found>, shown: &str) -> Reconciled<()> {
        let last = last.map(|found| &found.key);
        moved(self.after.as_ref(), last, shown)?;
        self.after = last.cloned();
        Ok(())
    }
}

/// Checks that the next key is not the last one.
///
/// # Errors
///
/// Fails if it is.
pub(crate) fn moved(after: Option<&Row>, next: Option<&Row>, shown: &str) -> Reconciled<()> {
    match next.is_some() && after == next {
        false => Ok(()),
        true => Err(ReconcileError::Row {
            side: shown.to_owned(),
            problem: "its key comes again behind itself, so the server does not find keys as they are written; take \
                      another key"
                .into(),
        }),
    }
}

/// How many chunks a statement makes digests of. What a statement costs on the wire, whatever it asks, is shared by them.
pub(crate) const CHUNKS: usize = 2;

/// The bytes of rows that are read at once.
pub(super) const MOST_TEXT: usize = 8 * 1024 * 1024;

/// Chunks one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stretch {
    /// The first chunk begins behind this key; or with the first row.
    pub(crate) after: Option<Row>,
    /// Each chunk ends with its key; or with the last row.
    pub(crate) ends: Vec<Option<Row>>,
}

impl Stretch {
    /// Chunks that end with these keys. If there are fewer than a statement has room for, the table ends behind them.
    pub(crate) fn new(after: Option<Row>, ends: Vec<Row>) -> Self {
        let mut ends: Vec<Option<Row>> = ends.into_iter().map(Some).collect();
        if ends.len() < CHUNKS {
            ends.push(None);
        }
        Self { after, ends }
    }

    /// The chunks.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let begins = std::iter::once(&self.after).chain(&self.ends);
        begins.zip(&self.ends).map(|(after, until)| Chunk {
            after: after.clone(),
            until: until.clone(),
            buckets: None,
        })
    }

    /// The key behind which the table goes on. None at its end.
    pub(crate) fn end(&self) -> Option<&Row> {
        self.ends.last()?.as_ref()
    }
}

/// A row that was found: its key, and the row or only its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The fields of the key, encoded.
    pub(crate) key: Row,
    pub(crate) hash: RowHash,
    /// All fields, where they were asked for.
    pub(crate) row: Option<Row>,
    /// How many bytes were read for it.
    pub(crate) bytes: u64,
}
