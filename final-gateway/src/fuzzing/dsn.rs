//! What must hold for any login, and for any header of `HSET`.
//!
//! Input: bytes, read as both. Output: a panic if an error or the debug form shows the secret, if a part is accepted that
//! cannot be one, or if a header changes on its way.

use final_core::fuzzing::{SECRETS, check_error};

use crate::resp::{Dsn, headers};

/// The bytes are the argument of `AUTH`.
pub fn dsn(bytes: &[u8]) {
    if let Some(headers) = headers(bytes) {
        assert!(headers.len() <= bytes.len());
    }
    let dsn = match Dsn::parse(bytes) {
        Ok(dsn) => dsn,
        Err(error) => return check_error(&format!("{error} {error:?}"), 64),
    };
    for part in [dsn.key, dsn.secret, dsn.group, dsn.topic, dsn.color] {
        assert!(!part.contains('@') && !part.contains('/'), "{part}");
    }
    assert!(!dsn.key.contains(':') && !dsn.secret.contains(':'));
    assert!(!dsn.topic.contains('&') && !dsn.color.contains('&'));
    let shown = format!("{dsn:?}");
    let open = [dsn.key, dsn.group, dsn.topic, dsn.color].concat();
    for secret in SECRETS {
        assert!(open.contains(secret) || !shown.contains(secret), "{shown}");
    }
}
