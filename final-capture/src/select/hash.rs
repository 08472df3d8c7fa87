//! Hashed columns: a value that can be compared and not read.
//!
//! Input: a secret, and the canonical text of a value. Output: HMAC-SHA-256 in hex. The same value has the same hash in
//! each column and table, so that rows can be joined by it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::SelectError;

/// The secret of hashed columns. `Debug` does not show it.
#[derive(Clone)]
pub struct HashKey(Hmac<Sha256>);

impl HashKey {
    /// The secret, as text or bytes.
    ///
    /// # Errors
    ///
    /// The secret has fewer than 16 bytes. Without a good secret, hashes of telephone numbers and the like can be
    /// guessed by trying all of them.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, SelectError> {
        let secret = secret.as_ref();
        let short = SelectError::HashKeyTooShort {
            length: secret.len(),
        };
        if secret.len() < 16 {
            return Err(short);
        }
        // HMAC takes keys of every length.
        Hmac::new_from_slice(secret).map(Self).map_err(|_| short)
    }

    /// The hash in 64 hex digits.
    pub(crate) fn hash(&self, text: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(text);
        let mut hex = String::with_capacity(64);
        for byte in mac.finalize().into_bytes() {
            for half in [byte >> 4, byte & 15] {
                hex.extend(char::from_digit(half.into(), 16));
            }
        }
        hex
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}
