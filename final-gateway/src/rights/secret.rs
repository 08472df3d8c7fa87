//! Secrets of apps: how they are made, and what is stored of them.
//!
//! Input: random bits of ours, or a text that people have chosen. Output: a hash for the table. 256 random bits cannot
//! be guessed, so SHA-256 is enough for them. What people choose can be guessed, so it gets argon2id, which is slow.

use std::{fmt, sync::Arc};

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier, password_hash::SaltString};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The longest secret that is looked at. A longer one is wrong.
pub(super) const LONGEST: usize = 1024;

/// The most memory that a stored hash may ask for, in KiB.
const MOST_MEMORY: u32 = 256 * 1024;

/// A new secret of an app. It is shown once: only its hash is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct AppSecret(String);

impl AppSecret {
    /// 256 random bits as 43 letters of base64url, which need no escape in a DSN, a URL or a shell.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bits)))
    }

    /// The secret itself, to be handed to the app.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Shows nothing of it.
impl fmt::Debug for AppSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppSecret")
    }
}

/// What is stored of a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum StoredSecret {
    /// Of 256 random bits.
    Sha256([u8; 32]),
    /// Of a text that people have chosen: a string in PHC form, with its salt and its costs.
    Argon2id(Arc<str>),
    /// Nothing: the caller of `Rights::from_fn` has looked at the secret.
    Decided,
}

/// The names of the two kinds in the table.
const SHA256: &str = "sha256";
const ARGON2ID: &str = "argon2id";

impl StoredSecret {
    /// The hash of a secret of ours.
    pub(super) fn of_random(secret: &AppSecret) -> Self {
        Self::Sha256(sha256(secret.0.as_bytes()))
    }

    /// The hash of a text that people have chosen. Takes tens of milliseconds and 19 MiB.
    pub(super) fn of_chosen(secret: &[u8]) -> Result<Self, String> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| error.to_string())?;
        let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
        let hash = Argon2::default().hash_password(secret, &salt);
        let hash = hash.map_err(|error| error.to_string())?;
        Ok(Self::Argon2id(hash.to_string().into()))
    }

    /// Reads the two columns of the table.
    pub(super) fn read(kind: &str, hash: &str) -> Result<Self, &'static str> {
        match kind {
            SHA256 => {
                let bytes = URL_SAFE_NO_PAD.decode(hash).ok();
                let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
                bytes
                    .map(Self::Sha256)
                    .ok_or("its hash is not 32 bytes of base64url")
            }
            ARGON2ID => {
                let parsed = PasswordHash::new(hash).map_err(|_| "its hash is not in PHC form")?;
                let params = argon2::Params::try_from(&parsed);
                match params {
                    Ok(params) if params.m_cost() <= MOST_MEMORY => Ok(Self::Argon2id(hash.into())),
                    Ok(_) => Err("its hash asks for more than 256 MiB"),
                    Err(_) => Err("its hash has costs that argon2 does not take"),
                }
            }
            _ => Err("its kind is neither `sha256` nor `argon2id`"),
        }
    }

    /// The two columns of the table.
    pub(super) fn columns(&self) -> (&'static str, String) {
        match self {
            Self::Sha256(hash) => (SHA256, URL_SAFE_NO_PAD.encode(hash)),
            Self::Argon2id(hash) => (ARGON2ID, hash.to_string()),
            Self::Decided => ("", String::new()),
        }
    }

    /// Whether the secret with this SHA-256 is the one, in a time that does not depend on either. False for a kind that
    /// is slow to check.
    pub(super) fn is_random(&self, digest: &[u8; 32]) -> bool {
        match self {
            Self::Sha256(hash) => hash.ct_eq(digest).into(),
            Self::Argon2id(_) | Self::Decided => false,
        }
    }

    /// Whether a check takes long.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Self::Argon2id(_))
    }

    /// Checks a secret of any kind. Takes long for a slow one.
    pub(super) fn is(&self, secret: &[u8]) -> bool {
        match self {
            Self::Sha256(_) => self.is_random(&sha256(secret)),
            Self::Argon2id(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(secret, &hash).is_ok()),
            Self::Decided => false,
        }
    }
}

/// Shows the kind alone: a hash is worth a search as well.
impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256(_) => SHA256,
            Self::Argon2id(_) => ARGON2ID,
            Self::Decided => "decided",
        })
    }
}

/// Takes as long as the check of a slow secret.
pub(super) fn waste(secret: &[u8]) {
    let mut nothing = [0; 32];
    let _ = Argon2::default().hash_password_into(secret, b"no salt of anyone", &mut nothing);
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
