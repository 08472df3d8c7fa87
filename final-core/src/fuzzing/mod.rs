//! What must hold whatever bytes come from outside: one function for each reader, which panics where
//! it does not hold.
//!
//! They are here, and not in `fuzz/`, because they look at private readers; and so that an ordinary
//! `cargo test` can run them over the corpus. `cargo xtask fuzz` drives them with new bytes.

mod encoded;
mod headers;
mod payload;
#[cfg(feature = "mysql")]
mod predecessor;
mod record;
mod replay;

#[cfg(feature = "mysql")]
pub use self::predecessor::predecessor;
pub use self::{
    encoded::encoded, headers::headers, payload::payload, record::record, replay::replay,
};

/// Stands in the corpus wherever a secret could: no error may repeat it.
pub const SECRETS: [&str; 2] = ["s3cret", "4111111111111111"];

/// Checks the text of an error: short, and without what it complains about.
#[track_caller]
pub fn check_error(text: &str, limit: usize) {
    assert!(text.len() <= limit, "{} bytes of error", text.len());
    for secret in SECRETS {
        assert!(
            !text.contains(secret),
            "the error repeats its input: {text}"
        );
    }
}
