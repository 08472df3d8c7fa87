//! MariaDB as a source. One server serves all tests that need no setting or end of their own.

mod shop;

mod changes;
mod types;
