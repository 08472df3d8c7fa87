//! Signatures: proof that a call comes from the owner of a secret, and is not an old one played again.
//!
//! Input: secrets, a moment and a body. Output: the value of the header [`SIGNATURE_HEADER`], or whether such a
//! value fits. It keeps no state.
//!
//! The value is `t=<seconds since 1970>,v1=<hex>`. The hex is the HMAC-SHA-256 of the seconds, a dot and the body.
//! While a secret is replaced there is a `v1` for each secret, and a receiver accepts a call if one of them fits.

use std::{
    fmt::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header that has the signature of a call.
pub const SIGNATURE_HEADER: &str = "X-Final-Signature";

/// More than a rotation needs. A receiver computes nothing for the rest of a hostile header.
const MOST_SIGNATURES: usize = 16;

/// The length of an HMAC-SHA-256.
const BYTES: usize = 32;

/// What sender and receiver know, and nobody else. `Debug` does not show it.
#[derive(Clone)]
pub struct SigningSecret(Box<[u8]>);

impl SigningSecret {
    /// The secret, as text or bytes.
    ///
    /// # Errors
    ///
    /// The secret has fewer than 16 bytes. A short secret can be guessed from one signed call, and an empty one is
    /// mostly a variable that was not set.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, SecretTooShort> {
        let secret = secret.as_ref();
        if secret.len() < 16 {
            return Err(SecretTooShort {
                length: secret.len(),
            });
        }
        Ok(Self(secret.into()))
    }

    fn mac(&self, seconds: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of every length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(seconds.as_bytes());
        mac.update(b".");
        mac.update(body);
        Some(mac)
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// A secret that is too short to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret for signatures has {length} bytes; use at least 16, for example the output of `openssl rand -hex 32`"
)]
pub struct SecretTooShort {
    length: usize,
}

/// Why a call is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The header is not of the form `t=…,v1=…`.
    #[error("the header X-Final-Signature cannot be read; its form is t=<seconds>,v1=<hex>")]
    Malformed,
    /// No signature was made with one of the secrets for this moment and body.
    #[error(
        "no signature fits; compare the secrets, and check the body's bytes as they came, before any parser"
    )]
    Wrong,
    /// The signature fits, and is older or newer than the tolerance allows.
    #[error("the call was signed {} s {}; the tolerance is {} s", .off.as_secs(), if *.future { "in the future" } else { "ago" }, .tolerance.as_secs())]
    Late {
        /// How far its moment is from now.
        off: Duration,
        /// Whether its moment is still to come, so that a clock is wrong.
        future: bool,
        /// What was allowed.
        tolerance: Duration,
    },
}

/// The value of the header for a body that is sent at `at`, with a signature for each secret.
///
/// ```
/// # use std::time::{Duration, UNIX_EPOCH};
/// use final_webhook::{SigningSecret, sign};
///
/// let secret = SigningSecret::new("0123456789abcdef")?;
/// let header = sign(&[secret], b"{}", UNIX_EPOCH + Duration::from_secs(1_700_000_000));
/// assert!(header.starts_with("t=1700000000,v1="));
/// # Ok::<_, final_webhook::SecretTooShort>(())
/// ```
pub fn sign(secrets: &[SigningSecret], body: &[u8], at: SystemTime) -> String {
    let seconds = unix(at).to_string();
    let mut value = format!("t={seconds}");
    for mac in secrets
        .iter()
        .filter_map(|secret| secret.mac(&seconds, body))
    {
        value.push_str(",v1=");
        for byte in mac.finalize().into_bytes() {
            // Writing into a text does not fail.
            let _ = write!(value, "{byte:02x}");
        }
    }
    value
}

/// Whether a call was signed with one of the secrets, at most `tolerance` away from `now`.
///
/// `header` is the value of [`SIGNATURE_HEADER`], `body` the bytes as they came. Five minutes are a good tolerance.
/// Within the tolerance the same call can come twice; the header `Idempotency-Key` tells such a repeat.
///
/// The comparison takes the same time wherever the first difference is.
///
/// # Errors
///
/// The header cannot be read, no signature fits, or the signature is too old.
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// use final_webhook::{SigningSecret, sign, verify};
///
/// let (old, new) = (SigningSecret::new("0123456789abcdef")?, SigningSecret::new("fedcba9876543210")?);
/// // The sender signs with both secrets until every receiver has the new one.
/// let now = SystemTime::now();
/// let header = sign(&[old, new.clone()], b"{}", now);
///
/// assert!(verify(&header, b"{}", &[new.clone()], Duration::from_secs(300), now).is_ok());
/// assert!(verify(&header, b"{ }", &[new], Duration::from_secs(300), now).is_err());
/// # Ok::<_, final_webhook::SecretTooShort>(())
/// ```
pub fn verify(
    header: &str,
    body: &[u8],
    secrets: &[SigningSecret],
    tolerance: Duration,
    now: SystemTime,
) -> Result<(), VerifyError> {
    let (seconds, signatures) = read(header).ok_or(VerifyError::Malformed)?;
    let fits = |secret: &SigningSecret| {
        let mac = secret.mac(seconds, body);
        mac.is_some_and(|mac| {
            let fitting = signatures
                .iter()
                .filter(|signature| mac.clone().verify_slice(*signature).is_ok());
            fitting.count() > 0
        })
    };
    if secrets.iter().filter(|secret| fits(secret)).count() == 0 {
        return Err(VerifyError::Wrong);
    }
    let at: u64 = seconds.parse().map_err(|_| VerifyError::Malformed)?;
    let (now, future) = (unix(now), at > unix(now));
    let off = Duration::from_secs(now.abs_diff(at));
    if off > tolerance {
        return Err(VerifyError::Late {
            off,
            future,
            tolerance,
        });
    }
    Ok(())
}

/// The seconds as they were signed, and the signatures of the version that is known here.
fn read(header: &str) -> Option<(&str, Vec<[u8; BYTES]>)> {
    let mut seconds = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        let (name, value) = part.trim().split_once('=')?;
        match name {
            // With two moments, another program could judge the age by the one that was not signed.
            "t" if seconds.is_some() => return None,
            "t" => seconds = Some(value),
            "v1" if signatures.len() == MOST_SIGNATURES => return None,
            "v1" => signatures.push(unhex(value)?),
            // A later version may sign in another way as well.
            _ => {}
        }
    }
    let seconds = seconds.filter(|text| {
        (1..=20).contains(&text.len()) && text.bytes().all(|sign| sign.is_ascii_digit())
    })?;
    (!signatures.is_empty()).then_some((seconds, signatures))
}

fn unhex(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let digit = |sign: u8| char::from(sign).to_digit(16);
        *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(bytes)
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn secret(text: &str) -> SigningSecret {
        SigningSecret::new(text).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_signature_fits_its_body_and_its_moment_alone() {
        let key = [secret("a secret of 16 b")];
        let header = sign(&key, b"body", at(1000));

        assert_eq!(verify(&header, b"body", &key, MINUTE, at(1060)), Ok(()));
        assert_eq!(
            verify(&header, b"bodx", &key, MINUTE, at(1060)),
            Err(VerifyError::Wrong)
        );
        let other = header.replace("t=1000", "t=1001");
        assert_eq!(
            verify(&other, b"body", &key, MINUTE, at(1060)),
            Err(VerifyError::Wrong)
        );
        let other = [secret("another secret 1")];
        assert_eq!(
            verify(&header, b"body", &other, MINUTE, at(1000)),
            Err(VerifyError::Wrong)
        );
    }

    #[test]
    fn a_call_that_is_played_again_is_too_old() {
        let key = [secret("a secret of 16 b")];
        let header = sign(&key, b"", at(1000));
        let late = |off, future| {
            Err(VerifyError::Late {
                off: Duration::from_secs(off),
                future,
                tolerance: MINUTE,
            })
        };

        assert_eq!(
            verify(&header, b"", &key, MINUTE, at(1061)),
            late(61, false)
        );
        assert_eq!(verify(&header, b"", &key, MINUTE, at(940)), Ok(()));
        assert_eq!(verify(&header, b"", &key, MINUTE, at(939)), late(61, true));
    }

    #[test]
    fn each_of_two_secrets_is_enough_while_one_replaces_the_other() {
        let (old, new) = (secret("the old secret 1"), secret("the new secret 2"));
        let header = sign(&[old.clone(), new.clone()], b"x", at(5));

        for keys in [
            vec![old.clone()],
            vec![new.clone()],
            vec![secret("an unknown one 3"), old],
        ] {
            assert_eq!(verify(&header, b"x", &keys, MINUTE, at(5)), Ok(()));
        }
        assert_eq!(
            verify(&header, b"x", &[], MINUTE, at(5)),
            Err(VerifyError::Wrong)
        );
    }

    #[test]
    fn a_header_that_no_sender_writes_is_refused() {
        let hex = "0".repeat(64);
        let key = [secret("a secret of 16 b")];
        for header in [
            String::new(),
            "t=5".to_owned(),
            format!("v1={hex}"),
            format!("t=,v1={hex}"),
            format!("t=-5,v1={hex}"),
            format!("t=+5,v1={hex}"),
            format!("t=5,t=6,v1={hex}"),
            format!("t=5,v1={}", &hex[1..]),
            format!("t=5,v1={}g", &hex[1..]),
            format!("t=5,v1=+{}", &hex[1..]),
            format!("t=5,v1={}é", &hex[2..]),
            format!("t=5{}", format!(",v1={hex}").repeat(17)),
        ] {
            let verified = verify(&header, b"", &key, MINUTE, at(5));
            assert_eq!(verified, Err(VerifyError::Malformed), "{header}");
        }
    }

    #[test]
    fn a_later_version_beside_ours_changes_nothing() {
        let key = [secret("a secret of 16 b")];
        let header = format!("v0=abc, {}, v2=xyz", sign(&key, b"", at(5)));

        assert_eq!(verify(&header, b"", &key, MINUTE, at(5)), Ok(()));
    }

    #[test]
    fn a_secret_is_neither_empty_nor_shown() {
        assert!(SigningSecret::new("").is_err());
        assert!(SigningSecret::new("fifteen bytes 1").is_err());
        assert!(!format!("{:?}", secret("not to be shown!")).contains("shown"));
    }

    proptest! {
        #[test]
        fn reading_a_header_never_panics(header: String, body: Vec<u8>) {
            let _ = verify(&header, &body, &[secret("a secret of 16 b")], MINUTE, at(5));
        }

        #[test]
        fn what_is_signed_verifies(body: Vec<u8>, key in proptest::collection::vec(any::<u8>(), 16..200), t: u32) {
            let key = [SigningSecret::new(key).unwrap()];
            let header = sign(&key, &body, at(t.into()));
            prop_assert_eq!(verify(&header, &body, &key, Duration::ZERO, at(t.into())), Ok(()));
        }
    }
}
