//! Canonical forms as SQL, and the words in which the servers say the rest differently.
//!
//! Input: a column with its form. Output: an expression that gives the same text on both servers if the values are
//! equal, and NULL for NULL.
//!
//! | part | has |
//! | --- | --- |
//! | `postgres`, `mysql` | the expressions of each |
//! | [`key_column`] | a column of a key |
//! | [`keys`] | conditions on keys, and how a key is handed back to its database |
//! | [`fit`] | whether a column can hold a key of the other side |
//! | [`taken`] | how a column takes a value that comes as a text |

mod fit;
pub(crate) mod key_column;
pub(crate) mod keys;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod taken;

/// How many characters a fraction takes, with its point.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn fraction_length(digits: u32) -> u32 {
    if digits == 0 { 0 } else { digits + 1 }
}
