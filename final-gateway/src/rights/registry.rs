//! The last good copy of the tables.
//!
//! Input: what was read of them. State: an entry for each app, and when the tables answered last. Output: an app by its
//! key, as long as the copy is not too old.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use super::{
    clock::Clock,
    entry::{AppState, Entry, GrantInUse, ValidSecret},
    secret::StoredSecret,
    tables::{AppRow, GrantRow, Loaded},
};

/// How many apps of a caller who decides by himself are kept although nobody is logged in.
const MOST_DECIDED: usize = 10_000;

/// Apps by their keys.
#[derive(Debug, Default)]
pub(super) struct Registry {
    apps: RwLock<HashMap<Arc<str>, Arc<Entry>>>,
    read: Mutex<ReadLast>,
}

/// What is known of the last reading.
#[derive(Debug, Default)]
struct ReadLast {
    /// When the tables answered last.
    answered: Option<Duration>,
    /// When all of them were read, and the version that they had.
    whole: Option<(Duration, i64)>,
    /// Rows that cannot be used, as they were told last.
    faults: BTreeSet<String>,
    /// When the next secret becomes invalid.
    expires: Option<Duration>,
}

impl Registry {
    /// An app.
    pub(super) fn find(&self, key: &str) -> Option<Arc<Entry>> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.get(key).map(Arc::clone)
    }

    /// Whether the tables were read and have answered within so long.
    pub(super) fn is_known(&self, grace: Duration, now: Duration) -> bool {
        let answered = self.last().answered;
        answered.is_some_and(|answered| now.saturating_sub(answered) <= grace)
    }

    /// Whether all of the tables need not be read, at this version of them.
    pub(super) fn has(&self, version: i64, not_older_than: Duration, now: Duration) -> bool {
        let whole = self.last().whole;
        whole.is_some_and(|(at, of)| of == version && now.saturating_sub(at) < not_older_than)
    }

    #[cfg(test)]
    pub(super) fn version(&self) -> Option<i64> {
        self.last().whole.map(|(_, version)| version)
    }

    /// The tables have answered.
    pub(super) fn answered(&self, now: Duration) {
        self.last().answered = Some(now);
    }

    /// When the next secret becomes invalid.
    pub(super) fn expires(&self) -> Option<Duration> {
        self.last().expires
    }

    /// Takes everything that was read. Returns whether any app has a secret that is slow to check.
    pub(super) fn take(&self, loaded: Loaded, clock: &Clock) -> bool {
        let now = clock.now();
        let mut faults = BTreeSet::new();
        let mut is_slow = false;
        let mut expires = None;
        let mut states: HashMap<Arc<str>, AppState> = HashMap::new();
        for row in &loaded.apps {
            let state = state(row, loaded.now, now, &mut faults);
            is_slow |= state.secrets.iter().any(|secret| secret.stored.is_slow());
            let untils = state.secrets.iter().filter_map(|secret| secret.until);
            expires = untils.chain(expires).min();
            states.insert(row.app_key.as_str().into(), state);
        }
        for row in &loaded.grants {
            let Some(state) = states.get_mut(row.app_key.as_str()) else {
                continue;
            };
            match row.grant() {
                Ok(grant) => state.grants.push(GrantInUse::new(grant)),
                Err(why) => {
                    let GrantRow {
                        group_name, topic, ..
                    } = row;
                    let app = &row.app_key;
                    faults.insert(format!(
                        "right of {app:?} on {group_name:?}, {topic:?}: {why}"
                    ));
                }
            }
        }
        self.put(states, now);
        let mut last = self.last();
        for fault in faults.difference(&last.faults) {
            tracing::warn!(
                target: "final::gateway",
                %fault,
                "a row of the rights cannot be used; it allows nothing"
            );
        }
        let (version, apps) = (loaded.version, loaded.apps.len());
        let rights = loaded.grants.len();
        tracing::debug!(target: "final::gateway", version, apps, rights, "the rights were read");
        *last = ReadLast {
            answered: Some(now),
            whole: Some((now, version)),
            faults,
            expires,
        };
        is_slow
    }

    fn put(&self, mut states: HashMap<Arc<str>, AppState>, now: Duration) {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.retain(|key, entry| {
            let state = states.remove(key);
            let is_there = state.is_some();
            tell(entry, entry.update(state.unwrap_or_default(), now));
            is_there
        });
        for (key, state) in states {
            let entry = Entry::new(Arc::clone(&key), state);
            apps.insert(key, Arc::new(entry));
        }
    }

    /// Ends logins whose secret's time is over.
    pub(super) fn expire(&self, now: Duration) {
        if self.expires().is_none_or(|expires| now < expires) {
            return;
        }
        self.last().expires = None;
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        for entry in apps.values() {
            tell(entry, entry.expire(now));
            let state = entry.state();
            let next = state.secrets.iter().filter_map(|one| one.until);
            let next = next.filter(|until| now < *until).min();
            let mut last = self.last();
            last.expires = next.into_iter().chain(last.expires).min();
        }
    }

    /// Takes what a caller has decided about an app.
    pub(super) fn decided(&self, key: &str, state: AppState, now: Duration) -> Arc<Entry> {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = apps.get(key) {
            entry.update(state, now);
            return Arc::clone(entry);
        }
        if apps.len() >= MOST_DECIDED {
            apps.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        let key: Arc<str> = key.into();
        let entry = Arc::new(Entry::new(Arc::clone(&key), state));
        apps.insert(key, Arc::clone(&entry));
        entry
    }

    /// Ends all logins of an app.
    pub(super) fn end(&self, key: &str, now: Duration) {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = apps.remove(key) {
            tell(&entry, entry.update(AppState::default(), now));
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, ReadLast> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(entry: &Entry, logins: usize) {
    if logins > 0 {
        tracing::info!(
            target: "final::gateway",
            app = &*entry.key,
            "an app has lost rights; its connections are told"
        );
    }
}

/// An app of the table. `at` is the database's clock at the reading, `now` ours.
fn state(row: &AppRow, at: i64, now: Duration, faults: &mut BTreeSet<String>) -> AppState {
    let mut fault = |why: &str| {
        faults.insert(format!("app {:?}: {why}", row.app_key));
    };
    let mut secrets = Vec::new();
    match StoredSecret::read(&row.secret_kind, &row.secret_hash) {
        Ok(stored) => secrets.push(ValidSecret {
            stored,
            until: None,
        }),
        Err(why) => fault(why),
    }
    let left = row.old_until.map(|until| until.saturating_sub(at));
    let left = left.and_then(|left| u64::try_from(left).ok());
    if let (Some(kind), Some(hash), Some(left)) = (&row.old_kind, &row.old_hash, left) {
        match StoredSecret::read(kind, hash) {
            Ok(stored) => secrets.push(ValidSecret {
                stored,
                until: Some(now + Duration::from_micros(left)),
            }),
            Err(why) => fault(why),
        }
    }
    AppState {
        is_enabled: row.disabled_at.is_none(),
        secrets,
        grants: Vec::new(),
        limits: row.limits(),
    }
}
