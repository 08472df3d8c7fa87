//! Configurations of other programs, read and written as ours.
//!
//! Input: the text of a configuration. Output: the text of one for `final capture`, and what a person must know or do.

mod dbsync;

pub use self::dbsync::{DbsyncImport, DbsyncImportError, DbsyncStart};
