//! The committed corpus, without a fuzzer.

use std::path::Path;

/// Runs a target over its corpus, which is not empty, on a thread with the stack of a tokio worker.
/// A panic names the input.
#[track_caller]
pub fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", corpus.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!inputs.is_empty(), "the corpus of {target} is empty");
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
}

#[cfg(test)]
mod tests {
    use super::replay;

    #[test]
    fn what_is_known_of_encoded_payloads_holds() {
        replay("encoded", crate::fuzzing::encoded);
    }

    #[test]
    fn what_is_known_of_headers_holds() {
        replay("headers", crate::fuzzing::headers);
    }

    #[test]
    fn what_is_known_of_payloads_holds() {
        replay("payload", crate::fuzzing::payload);
    }

    #[test]
    #[cfg(feature = "mysql")]
    fn what_is_known_of_the_predecessors_rows_holds() {
        replay("predecessor", crate::fuzzing::predecessor);
    }

    #[test]
    fn what_is_known_of_records_holds() {
        replay("record", crate::fuzzing::record);
    }
}
