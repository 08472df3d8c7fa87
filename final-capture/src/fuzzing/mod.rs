//! What must hold for any bytes from outside; see `fuzzing` in `final-core`.
//!
//! Input: bytes that a fuzzer has made. Output: a panic if something does not hold.

mod change;
#[cfg(feature = "from-postgres")]
mod pgoutput;

pub use self::change::change;
#[cfg(feature = "from-postgres")]
pub use self::pgoutput::pgoutput;
#[cfg(feature = "from-mysql")]
pub use crate::source::mysql::fuzzing::binlog;

#[cfg(test)]
mod tests {
    use final_core::fuzzing::replay;

    #[test]
    fn what_is_known_of_changes_holds() {
        replay("change", super::change);
    }

    #[test]
    #[cfg(feature = "from-postgres")]
    fn what_is_known_of_postgresqls_stream_holds() {
        replay("pgoutput", super::pgoutput);
    }

    #[test]
    #[cfg(feature = "from-mysql")]
    fn what_is_known_of_mariadbs_log_holds() {
        replay("binlog", super::binlog);
    }
}
