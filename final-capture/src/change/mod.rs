//! A change as a handler takes it.

/// A change of a row of type `T`.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T> {
    /// A row was inserted.
    Insert {
        /// The row.
        after: T,
    },
}
