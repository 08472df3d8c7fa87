//! What must hold whatever bytes come from outside; see `fuzzing` in `final-core`.

mod delivery;
mod uri;

pub use self::{delivery::delivery, uri::uri};

#[cfg(test)]
mod tests {
    use final_core::fuzzing::replay;

    #[track_caller]
    fn holds(target: &str, run: fn(&[u8])) {
        assert!(replay(target, run) > 0, "the corpus of {target} is empty");
    }

    #[test]
    fn what_is_known_of_deliveries_holds() {
        holds("delivery", super::delivery);
    }

    #[test]
    fn what_is_known_of_urls_holds() {
        holds("uri", super::uri);
    }
}
