//! Which columns an UPDATE has changed.

/// Which columns an UPDATE has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedColumns {
    /// None if the source did not send the old row.
    changed: Option<Vec<String>>,
    unchanged: Vec<String>,
}

impl ChangedColumns {
    /// Of a change with these columns.
    pub(super) fn new(changed: Option<Vec<String>>, unchanged: Vec<String>) -> Self {
        Self { changed, unchanged }
    }

    /// Whether the column has changed. True as well where that is not known, because the source did not send the old
    /// row: what depends on the column is then done once too often, and never missed.
    #[must_use]
    pub fn contains(&self, column: &str) -> bool {
        if self.is_left_out(column) {
            return false;
        }
        match &self.changed {
            Some(changed) => changed.iter().any(|name| name == column),
            None => true,
        }
    }

    /// The columns that have changed. None if the source did not send the old row.
    #[must_use]
    pub fn known(&self) -> Option<&[String]> {
        self.changed.as_deref()
    }

    /// Whether the new row has no value for the column, because it has not changed.
    #[must_use]
    pub fn is_left_out(&self, column: &str) -> bool {
        self.unchanged.iter().any(|name| name == column)
    }

    /// The columns for which the new row has no value, because they have not changed.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.unchanged
    }
}
