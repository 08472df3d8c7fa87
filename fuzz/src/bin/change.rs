#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| final_capture::fuzzing::change(bytes));
