//! What must hold for any bytes from outside; see `fuzzing` in `final-core`.
//!
//! Input: bytes that a fuzzer has made. Output: a panic if something does not hold.

mod counter;
mod dsn;
mod requests;

pub use self::{counter::RequestCounter, dsn::dsn, requests::requests};

#[cfg(test)]
mod tests {
    use final_core::fuzzing::replay;

    #[test]
    fn what_is_known_of_requests_holds() {
        replay("resp", super::requests);
    }

    #[test]
    fn what_is_known_of_logins_holds() {
        replay("dsn", super::dsn);
    }
}
