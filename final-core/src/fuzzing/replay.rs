//! The committed corpus, without a fuzzer.

use std::path::Path;

/// Runs a target over its corpus, on a thread with the stack of a tokio worker, and returns how many
/// inputs there were. A panic names the input.
pub fn replay(target: &str, run: fn(&[u8])) -> usize {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", corpus.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    for input in &inputs {
        let bytes = std::fs::read(input).unwrap();
        let ended = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || run(&bytes))
            .unwrap()
            .join();
        assert!(ended.is_ok(), "{} breaks {target}", input.display());
    }
    inputs.len()
}

#[cfg(test)]
mod tests {
    use super::replay;

    #[track_caller]
    fn holds(target: &str, run: fn(&[u8])) {
        assert!(replay(target, run) > 0, "the corpus of {target} is empty");
    }

    #[test]
    fn what_is_known_of_headers_holds() {
        holds("headers", crate::fuzzing::headers);
    }

    #[test]
    fn what_is_known_of_payloads_holds() {
        holds("payload", crate::fuzzing::payload);
    }

    #[test]
    #[cfg(feature = "mysql")]
    fn what_is_known_of_the_predecessors_rows_holds() {
        holds("predecessor", crate::fuzzing::predecessor);
    }

    #[test]
    fn what_is_known_of_records_holds() {
        holds("record", crate::fuzzing::record);
    }
}
