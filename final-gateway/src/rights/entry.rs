//! An app as this node knows it: its rights as they are now, its logins, and what it has used of its limits.
//!
//! Input: rows of the tables, each time they are read. State: below. Output: who may, and who hears that no more.
//!
//! ```text
//!   login ─▶ open ─┬─ rights shrank ─▶ its token is cancelled, and there is a new one
//!                  └─ disabled, secret no longer valid, removed ─▶ over, for good
//! ```

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    AppLimits, Operation,
    bucket::Bucket,
    grant::{Grant, covers},
    secret::StoredSecret,
};

/// How long a slow check of a secret is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// An app.
pub(super) struct Entry {
    pub(super) key: Arc<str>,
    state: RwLock<Arc<AppState>>,
    pub(super) connections: AtomicU32,
    pub(super) published: Bucket,
    pub(super) delivered: Bucket,
    /// One for each secret by which somebody has logged in; also the lock under which the state changes.
    logins: Mutex<Vec<Arc<LoginLine>>>,
    remembered: Mutex<Vec<Remembered>>,
    /// Slow checks of this app's secrets go one after the other: those behind the first need none of their own.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// What the tables say of an app.
#[derive(Debug, Default)]
pub(super) struct AppState {
    pub(super) is_enabled: bool,
    pub(super) secrets: Vec<ValidSecret>,
    pub(super) grants: Vec<GrantInUse>,
    pub(super) limits: AppLimits,
}

/// A secret, and until when it is valid by the clock of this process.
#[derive(Clone, Debug)]
pub(super) struct ValidSecret {
    pub(super) stored: StoredSecret,
    pub(super) until: Option<Duration>,
}

/// A right, and what was used of its limits.
#[derive(Clone, Debug)]
pub(super) struct GrantInUse {
    pub(super) grant: Grant,
    published: Arc<Bucket>,
    delivered: Arc<Bucket>,
}

/// All logins by one secret.
pub(super) struct LoginLine {
    secret: StoredSecret,
    is_over: AtomicBool,
    revoked: Mutex<CancellationToken>,
}

/// A secret that was right a moment ago, as a keyed hash.
struct Remembered {
    mac: [u8; 32],
    login: Arc<LoginLine>,
    until: Duration,
}

impl AppState {
    /// What it may without limits of the tables, for a caller who decides by himself.
    pub(super) fn decided(grants: Vec<Grant>, limits: AppLimits) -> Self {
        Self {
            is_enabled: true,
            secrets: vec![ValidSecret {
                stored: StoredSecret::Decided,
                until: None,
            }],
            grants: grants.into_iter().map(GrantInUse::new).collect(),
            limits,
        }
    }

    fn is_valid(&self, secret: &StoredSecret, now: Duration) -> bool {
        let is_valid = |valid: &ValidSecret| valid.stored == *secret && valid.is_valid(now);
        self.is_enabled && self.secrets.iter().any(is_valid)
    }

    /// The closest right that allows the operation.
    pub(super) fn closest(
        &self,
        operation: Operation,
        group: Option<&str>,
        topic: &str,
    ) -> Option<&GrantInUse> {
        let allowing = self.grants.iter().filter(|in_use| {
            let grant = &in_use.grant;
            grant.operations.has(operation) && grant.is_of_group(group) && grant.is_of_topic(topic)
        });
        allowing.max_by_key(|in_use| in_use.grant.closeness())
    }
}

impl ValidSecret {
    fn is_valid(&self, now: Duration) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl GrantInUse {
    pub(super) fn new(grant: Grant) -> Self {
        Self {
            grant,
            published: Arc::default(),
            delivered: Arc::default(),
        }
    }

    pub(super) fn bucket(&self, operation: Operation) -> &Bucket {
        match operation {
            Operation::Publish => &self.published,
            Operation::Subscribe => &self.delivered,
        }
    }
}

impl LoginLine {
    fn new(secret: StoredSecret) -> Self {
        Self {
            secret,
            is_over: AtomicBool::new(false),
            revoked: Mutex::default(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// The token of now.
    pub(super) fn revoked(&self) -> CancellationToken {
        lock(&self.revoked).clone()
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        lock(&self.revoked).cancel();
    }

    fn ask_again(&self) {
        std::mem::take(&mut *lock(&self.revoked)).cancel();
    }
}

impl Entry {
    pub(super) fn new(key: Arc<str>, state: AppState) -> Self {
        Self {
            key,
            state: RwLock::new(Arc::new(state)),
            connections: AtomicU32::new(0),
            published: Bucket::default(),
            delivered: Bucket::default(),
            logins: Mutex::default(),
            remembered: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// What the tables say now.
    pub(super) fn state(&self) -> Arc<AppState> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what the tables say. Returns how many secrets' logins have heard of it.
    pub(super) fn update(&self, mut new: AppState, now: Duration) -> usize {
        let mut logins = lock(&self.logins);
        let old = self.state();
        for in_use in &mut new.grants {
            let same = |old: &&GrantInUse| {
                old.grant.group == in_use.grant.group && old.grant.topic == in_use.grant.topic
            };
            if let Some(old) = old.grants.iter().find(same) {
                in_use.published = Arc::clone(&old.published);
                in_use.delivered = Arc::clone(&old.delivered);
            }
        }
        let grants = |state: &'_ AppState| -> Vec<Grant> {
            state
                .grants
                .iter()
                .map(|in_use| in_use.grant.clone())
                .collect()
        };
        let shrank = !covers(grants(&new).iter(), grants(&old).iter());
        let new = Arc::new(new);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        self.retire(&mut logins, &new, now, shrank)
    }

    /// Ends logins whose secret's time is over.
    pub(super) fn expire(&self, now: Duration) -> usize {
        let mut logins = lock(&self.logins);
        let state = self.state();
        self.retire(&mut logins, &state, now, false)
    }

    fn retire(
        &self,
        logins: &mut Vec<Arc<LoginLine>>,
        state: &AppState,
        now: Duration,
        shrank: bool,
    ) -> usize {
        let mut told = 0;
        logins.retain(|login| {
            let is_valid = state.is_valid(&login.secret, now);
            if !is_valid {
                login.end();
            } else if shrank {
                login.ask_again();
            }
            told += usize::from(!is_valid || shrank);
            is_valid
        });
        lock(&self.remembered).retain(|one| !one.login.is_over() && now < one.until);
        told
    }

    /// The login by a secret that was found right. None if it is no longer valid.
    pub(super) fn log_in(&self, secret: &StoredSecret, now: Duration) -> Option<Arc<LoginLine>> {
        let mut logins = lock(&self.logins);
        if !self.state().is_valid(secret, now) {
            return None;
        }
        if let Some(login) = logins.iter().find(|login| login.secret == *secret) {
            return Some(Arc::clone(login));
        }
        let login = Arc::new(LoginLine::new(secret.clone()));
        logins.push(Arc::clone(&login));
        Some(login)
    }

    /// The secrets that are valid now.
    pub(super) fn secrets(&self, now: Duration) -> Vec<StoredSecret> {
        let state = self.state();
        let valid = state.secrets.iter().filter(|secret| secret.is_valid(now));
        match state.is_enabled {
            true => valid.map(|secret| secret.stored.clone()).collect(),
            false => Vec::new(),
        }
    }

    /// The login by a secret with this keyed hash, if it was right a moment ago.
    pub(super) fn remembered(&self, mac: &[u8; 32], now: Duration) -> Option<Arc<LoginLine>> {
        use subtle::ConstantTimeEq;
        let found = lock(&self.remembered)
            .iter()
            .filter(|one| now < one.until)
            .find(|one| one.mac.ct_eq(mac).into())
            .map(|one| Arc::clone(&one.login))?;
        // The secret may have become invalid since the tables were read last.
        self.log_in(&found.secret, now)
    }

    /// Whether any secret was right a moment ago.
    pub(super) fn remembers(&self, now: Duration) -> bool {
        lock(&self.remembered).iter().any(|one| now < one.until)
    }

    /// Remembers a secret that was right. There are as many as the app has valid secrets.
    pub(super) fn remember(&self, mac: [u8; 32], login: &Arc<LoginLine>, now: Duration) {
        let mut remembered = lock(&self.remembered);
        remembered.retain(|one| one.mac != mac && !one.login.is_over() && now < one.until);
        remembered.push(Remembered {
            mac,
            login: Arc::clone(login),
            until: now + REMEMBERED,
        });
    }

    pub(super) fn bucket(&self, operation: Operation) -> &Bucket {
        match operation {
            Operation::Publish => &self.published,
            Operation::Subscribe => &self.delivered,
        }
    }
}

/// Shows nothing but the key.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LoginLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginLine")
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
