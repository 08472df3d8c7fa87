//! What must hold whatever bytes come from outside; see `fuzzing` in `final-core`.

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
