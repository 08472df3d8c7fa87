//! What must hold for any bytes from outside; see `fuzzing` in `final-core`.
//!
//! Input: bytes that a fuzzer has made. Output: a panic if something does not hold.

mod delivery;
mod uri;

pub use self::{delivery::delivery, uri::uri};

#[cfg(test)]
mod tests {
    use final_core::fuzzing::replay;

    #[test]
    fn what_is_known_of_deliveries_holds() {
        replay("delivery", super::delivery);
    }

    #[test]
    fn what_is_known_of_urls_holds() {
        replay("uri", super::uri);
    }
}
