//! Whether a secret is an app's.
//!
//! Input: an app, or none, and a secret. State: how many slow checks run. Output: the login, or none.
//!
//! ```text
//!   secret ─▶ of 256 bits ─▶ login
//!                       │ no
//!                       ▼
//!             too many failures ─▶ none
//!                       │ no
//!                       ▼
//!             right a moment ago ─▶ login
//!                       │ no: a failure, if the app's secret was
//!                       ▼
//!             the app's turn ─▶ right meanwhile ─▶ login
//!                       │ no
//!                       ▼
//!             a place ─▶ argon2id on a thread of its own ─▶ login, or none
//! ```
//!
//! As long as any app has a secret that is slow to check, each failure costs one slow check, also for an app without
//! one and for a key that no app has. So the time of an answer does not tell which keys there are.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use super::{
    clock::Clock,
    entry::{Entry, LoginLine},
    secret::{self, LONGEST, StoredSecret},
};

/// Slow checks at a time. Each takes one core and 19 MiB for tens of milliseconds.
const AT_A_TIME: usize = 2;

/// How long a login waits for its slow check.
const PATIENCE: Duration = Duration::from_secs(5);

/// Too many slow checks were asked for.
#[derive(Debug)]
pub(super) struct Overloaded;

/// What is remembered of an app's slow secret.
pub(super) enum WasRight {
    /// This secret was right a moment ago.
    This(Arc<LoginLine>),
    /// Another one was, so this one is most likely a guess.
    Another,
    /// None was.
    Unknown,
}

/// Checks secrets.
pub(super) struct Checking {
    /// Of this process and no other: what is remembered is of no use elsewhere. Without it nothing is remembered.
    key: Option<[u8; 32]>,
    places: Arc<Semaphore>,
    /// The turn of logins whose key no app has.
    strangers: Mutex<()>,
    /// Whether any app has a secret that is slow to check.
    is_ever_slow: AtomicBool,
    clock: Clock,
    #[cfg(test)]
    counts: Arc<Counts>,
}

/// What a test wants to know of slow checks.
#[cfg(test)]
#[derive(Debug, Default)]
struct Counts {
    begun: std::sync::atomic::AtomicUsize,
    now: std::sync::atomic::AtomicUsize,
    most: std::sync::atomic::AtomicUsize,
}

/// A secret that a client has sent, with what is made of it once.
pub(super) struct Presented<'s> {
    secret: &'s [u8],
    digest: [u8; 32],
    mac: Option<[u8; 32]>,
}

impl Checking {
    pub(super) fn new(clock: Clock) -> Self {
        let mut key = [0; 32];
        let filled = getrandom::fill(&mut key);
        Self {
            key: filled.is_ok().then_some(key),
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            strangers: Mutex::default(),
            is_ever_slow: AtomicBool::new(false),
            clock,
            #[cfg(test)]
            counts: Arc::default(),
        }
    }

    /// Says whether any app has a secret that is slow to check.
    pub(super) fn is_ever_slow(&self, is: bool) {
        self.is_ever_slow.store(is, Ordering::Relaxed);
    }

    /// What is made of a secret once. None of one that is too long to be right.
    pub(super) fn present<'s>(&self, secret: &'s [u8]) -> Option<Presented<'s>> {
        if secret.len() > LONGEST {
            return None;
        }
        let mac = self.key.and_then(|key| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
            mac.update(secret);
            Some(mac.finalize().into_bytes().into())
        });
        Some(Presented {
            secret,
            digest: secret::sha256(secret),
            mac,
        })
    }

    /// The login by a secret that we made. It has too many bits to be guessed, however often somebody tries.
    pub(super) fn quickly(
        &self,
        entry: &Entry,
        presented: &Presented<'_>,
    ) -> Option<Arc<LoginLine>> {
        let now = self.clock.now();
        let secrets = entry.secrets(now);
        // All of them, so that the time does not tell which one it was.
        let found = secrets.iter().fold(None, |found, secret| {
            match secret.is_random(&presented.digest) {
                true => Some(secret),
                false => found,
            }
        });
        entry.log_in(found?, now)
    }

    /// Whether a secret that people chose was right a moment ago. The answer is as quick for a wrong one, so each wrong
    /// one has to be counted before the next is asked for.
    pub(super) fn remembered(&self, entry: &Entry, presented: &Presented<'_>) -> WasRight {
        let now = self.clock.now();
        let login = presented.mac.and_then(|mac| entry.remembered(&mac, now));
        match login {
            Some(login) => WasRight::This(login),
            None if entry.remembers(now) => WasRight::Another,
            None => WasRight::Unknown,
        }
    }

    /// The login, if the secret is right; none if it is not, or if there is no app.
    pub(super) async fn thoroughly(
        &self,
        entry: Option<&Entry>,
        presented: Option<&Presented<'_>>,
    ) -> Result<Option<Arc<LoginLine>>, Overloaded> {
        if !self.is_ever_slow.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let checked = timeout(PATIENCE, self.in_turn(entry, presented)).await;
        checked.map_err(|_| Overloaded)?
    }

    async fn in_turn(
        &self,
        entry: Option<&Entry>,
        presented: Option<&Presented<'_>>,
    ) -> Result<Option<Arc<LoginLine>>, Overloaded> {
        let _turn = entry
            .map_or(&self.strangers, |entry| &entry.turn)
            .lock()
            .await;
        let (Some(entry), Some(presented)) = (entry, presented) else {
            self.slowly(None, presented).await?;
            return Ok(None);
        };
        let now = self.clock.now();
        let remembered = presented.mac.and_then(|mac| entry.remembered(&mac, now));
        if let Some(login) = remembered {
            return Ok(Some(login));
        }
        let secrets = entry.secrets(now).into_iter();
        let slow: Vec<StoredSecret> = secrets.filter(StoredSecret::is_slow).collect();
        if slow.is_empty() {
            self.slowly(None, Some(presented)).await?;
            return Ok(None);
        }
        for secret in slow {
            if self.slowly(Some(secret.clone()), Some(presented)).await? {
                let now = self.clock.now();
                let login = entry.log_in(&secret, now);
                if let (Some(mac), Some(login)) = (presented.mac, &login) {
                    entry.remember(mac, login, now);
                }
                return Ok(login);
            }
        }
        Ok(None)
    }

    /// One slow check. Without a stored secret it takes the time and is false. The place is free when the thread is, so
    /// that a client that hangs up makes no room for another check.
    async fn slowly(
        &self,
        stored: Option<StoredSecret>,
        presented: Option<&Presented<'_>>,
    ) -> Result<bool, Overloaded> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| Overloaded)?;
        let secret = presented
            .map_or(&b""[..], |presented| presented.secret)
            .to_vec();
        #[cfg(test)]
        let counts = Arc::clone(&self.counts);
        let check = move || {
            #[cfg(test)]
            counts.begin();
            let is = match stored {
                Some(stored) => stored.is(&secret),
                None => {
                    secret::waste(&secret);
                    false
                }
            };
            #[cfg(test)]
            counts.now.fetch_sub(1, Ordering::Relaxed);
            drop(place);
            is
        };
        tokio::task::spawn_blocking(check)
            .await
            .map_err(|_| Overloaded)
    }
}

#[cfg(test)]
impl Counts {
    fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Checking {
    /// How many slow checks could begin now.
    pub(super) fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    /// How many have begun.
    pub(super) fn slow_checks(&self) -> usize {
        self.counts.begun.load(Ordering::Relaxed)
    }

    /// How many ran at the same time.
    pub(super) fn most_at_a_time(&self) -> usize {
        self.counts.most.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Checking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checking")
    }
}
