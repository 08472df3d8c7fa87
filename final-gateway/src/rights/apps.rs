//! What an operator does with the apps.
//!
//! Input: names, rights, limits. Output: rows of the tables, and each new secret once. In a process that runs the
//! gateway, a change holds when its call returns.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use final_core::database::Driver;
use sqlx::Pool;

use super::{
    AppLimits, AppSecret, Grant, Operations,
    databus::{DatabusApp, DatabusPlan, Planned},
    keeping::Shared,
    secret::StoredSecret,
    tables::{AppRow, Change, GrantRow, Loaded, Refused, SqlStore, Store},
};
use crate::names::NameError;

/// The longest app key, in bytes.
const LONGEST_KEY: usize = 190;

/// Creates apps, and says what each may. Clones are the same.
///
/// Anybody who can write the tables can do all of this, so it asks nobody for a secret.
#[derive(Clone)]
pub struct Apps {
    store: Arc<dyn Store>,
    /// Who takes a change at once.
    here: Option<Arc<Shared>>,
}

/// Why something was not done with an app. Nothing was changed, unless the database's answer to a COMMIT was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppsError {
    /// The app key cannot be used.
    #[error(
        "the app key {0:?} cannot be used: it has to have 1 to 190 bytes, without blanks around it, control characters, \
         `:`, `@` and `/`"
    )]
    Key(String),
    /// A name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such app.
    #[error("there is no app {0:?}")]
    NoApp(String),
    /// There is an app with this key.
    #[error("there is an app {0:?} already")]
    Exists(String),
    /// The app has no such right.
    #[error("app {app:?} has no right on group {group:?} and topic {topic:?}")]
    NoRight {
        /// The app.
        app: String,
        /// The group of the right.
        group: String,
        /// The topic of the right, as it is written there.
        topic: String,
    },
    /// There are no tables.
    #[error(
        "the tables of the gateway's rights are missing; the gateway makes them when it starts, and so does `create`"
    )]
    NoTables,
    /// The tables are those of an older version.
    #[error(
        "the tables of the gateway's rights are of an older version; a gateway of this version brings them up to date when \
         it starts, and so does `create`"
    )]
    OldTables,
    /// The machine has no random bits, or no memory for a hash.
    #[error("a secret cannot be made: {0}")]
    Secret(String),
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

/// An app, as an operator sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppInfo {
    /// Its key.
    pub key: String,
    /// Since when it is disabled.
    pub disabled_at: Option<SystemTime>,
    /// When it was created.
    pub created_at: SystemTime,
    /// How its secret is stored: `sha256` if it was made here, `argon2id` if it was chosen by people.
    pub secret_kind: String,
    /// Until when the secret before this one is valid, if it is.
    pub old_secret_until: Option<SystemTime>,
    /// Its limits.
    pub limits: AppLimits,
    /// Its rights that can be used.
    pub rights: Vec<Grant>,
    /// What is wrong with its rows, so that they allow nothing.
    pub faults: Vec<String>,
}

impl Apps {
    /// The apps of a database.
    pub fn new<DB: Driver>(pool: Pool<DB>) -> Self {
        Self::of(Arc::new(SqlStore::new(pool)), None)
    }

    pub(super) fn of(store: Arc<dyn Store>, here: Option<Arc<Shared>>) -> Self {
        Self { store, here }
    }

    /// Makes the tables, or leaves them as they are.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn migrate(&self) -> Result<(), AppsError> {
        self.store.migrate().await.map_err(AppsError::Database)
    }

    /// Creates an app without rights. Its secret is told this once.
    ///
    /// # Errors
    ///
    /// Fails if the key cannot be used or is taken, or if the database fails.
    pub async fn create(&self, app: &str, limits: AppLimits) -> Result<AppSecret, AppsError> {
        check_key(app)?;
        let (secret, stored) = new_secret()?;
        self.change(vec![Change::Create {
            app: app.to_owned(),
            secret: stored,
            limits,
        }])
        .await?;
        Ok(secret)
    }

    /// Allows an app what the right says, in addition to what it may. A limit that the right has replaces the one of
    /// now; one that it has not stays.
    ///
    /// # Errors
    ///
    /// Fails if there is no such app, or if the database fails.
    pub async fn allow(&self, app: &str, grant: Grant) -> Result<(), AppsError> {
        self.change(vec![Change::Allow {
            app: known_key(app)?,
            grant,
        }])
        .await
    }

    /// Takes operations from the right of an app that has this group and this topic, as they are written there.
    /// Connections that relied on it are told.
    ///
    /// # Errors
    ///
    /// Fails if there is no such right, or if the database fails.
    pub async fn revoke(
        &self,
        app: &str,
        group: &str,
        topic: &str,
        operations: Operations,
    ) -> Result<(), AppsError> {
        self.change(vec![Change::Revoke {
            app: known_key(app)?,
            grant: Grant::new(group, topic, operations)?,
        }])
        .await
    }

    /// Gives an app a new secret, which is told this once. The one of now stays valid for the overlap; one that is older
    /// ends at once. Without an overlap, connections by the old secret are told.
    ///
    /// # Errors
    ///
    /// Fails if there is no such app, or if the database fails.
    pub async fn rotate(&self, app: &str, overlap: Duration) -> Result<AppSecret, AppsError> {
        let (secret, stored) = new_secret()?;
        self.change(vec![Change::Rotate {
            app: known_key(app)?,
            secret: stored,
            overlap: i64::try_from(overlap.as_micros()).unwrap_or(i64::MAX / 2),
        }])
        .await?;
        Ok(secret)
    }

    /// Lets nobody in as the app, and tells its connections, until it is enabled.
    ///
    /// # Errors
    ///
    /// Fails if there is no such app, or if the database fails.
    pub async fn disable(&self, app: &str) -> Result<(), AppsError> {
        self.set_enabled(app, false).await
    }

    /// Undoes [`disable`](Self::disable).
    ///
    /// # Errors
    ///
    /// Fails if there is no such app, or if the database fails.
    pub async fn enable(&self, app: &str) -> Result<(), AppsError> {
        self.set_enabled(app, true).await
    }

    async fn set_enabled(&self, app: &str, is_enabled: bool) -> Result<(), AppsError> {
        self.change(vec![Change::Enable {
            app: known_key(app)?,
            is_enabled,
        }])
        .await
    }

    /// Sets the limits of an app, all of them.
    ///
    /// # Errors
    ///
    /// Fails if there is no such app, or if the database fails.
    pub async fn limit(&self, app: &str, limits: AppLimits) -> Result<(), AppsError> {
        self.change(vec![Change::Limit {
            app: known_key(app)?,
            limits,
        }])
        .await
    }

    /// Removes an app with its rights, and tells its connections.
    ///
    /// # Errors
    ///
    /// Fails if there is no such app, or if the database fails.
    pub async fn remove(&self, app: &str) -> Result<(), AppsError> {
        self.change(vec![Change::Remove {
            app: known_key(app)?,
        }])
        .await
    }

    /// All apps, by their keys.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn list(&self) -> Result<Vec<AppInfo>, AppsError> {
        let Loaded {
            apps, grants, now, ..
        } = self.load().await?;
        let mut of_app = HashMap::<String, Vec<GrantRow>>::new();
        for grant in grants {
            of_app.entry(grant.app_key.clone()).or_default().push(grant);
        }
        let with_rights = apps.into_iter().map(|app| {
            let grants = of_app.remove(&app.app_key).unwrap_or_default();
            AppInfo::new(app, &grants, now)
        });
        Ok(with_rights.collect())
    }

    /// What taking rights of databus over would change, see [`DatabusPlan`].
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn plan_import(&self, apps: &[DatabusApp]) -> Result<DatabusPlan, AppsError> {
        let known = match self.load().await {
            Err(AppsError::NoTables) => Loaded::default(),
            known => known?,
        };
        let apps = apps.to_vec();
        let plan = tokio::task::spawn_blocking(move || DatabusPlan::new(&apps, &known));
        plan.await
            .map_err(|error| AppsError::Secret(error.to_string()))
    }

    /// Takes the rights over, all of them or nothing. Rights that have come meanwhile stay.
    ///
    /// # Errors
    ///
    /// Fails if an app of the plan was created meanwhile, or if the database fails.
    pub async fn import(&self, plan: &DatabusPlan) -> Result<(), AppsError> {
        let planned = plan.planned.clone();
        // The slow hashes before the transaction.
        let changes = tokio::task::spawn_blocking(move || changes(planned));
        let changes = changes
            .await
            .map_err(|error| AppsError::Secret(error.to_string()))?;
        self.change(changes.map_err(AppsError::Secret)?).await
    }

    async fn load(&self) -> Result<Loaded, AppsError> {
        match self.store.load().await {
            Ok(loaded) => Ok(loaded),
            Err(error) => Err(self.error(error).await),
        }
    }

    async fn change(&self, changes: Vec<Change>) -> Result<(), AppsError> {
        if changes.is_empty() {
            return Ok(());
        }
        match self.store.change(changes).await {
            Ok(changed) => changed.map_err(AppsError::from)?,
            Err(error) => return Err(self.error(error).await),
        }
        if let Some(here) = &self.here {
            here.has_changed().await;
        }
        Ok(())
    }

    async fn error(&self, error: sqlx::Error) -> AppsError {
        if self.store.is_missing(&error) {
            return AppsError::NoTables;
        }
        // Only a server that has refused a statement may have refused it for a column.
        let is_refused = matches!(error, sqlx::Error::Database(_));
        match is_refused && self.store.is_old().await.unwrap_or_default() {
            true => AppsError::OldTables,
            false => AppsError::Database(error),
        }
    }
}

fn changes(planned: Vec<Planned>) -> Result<Vec<Change>, String> {
    let change = |planned| {
        Ok(match planned {
            Planned::App { key, secret } => Change::Create {
                app: key,
                secret: StoredSecret::of_chosen(secret.as_bytes())?,
                limits: AppLimits::default(),
            },
            Planned::Right { app, grant } => Change::Allow { app, grant },
        })
    };
    planned.into_iter().map(change).collect()
}

/// Checks an app key.
pub(super) fn check_key(app: &str) -> Result<(), AppsError> {
    let is_fine = !app.is_empty()
        && app.len() <= LONGEST_KEY
        && app.trim() == app
        && !app.contains([':', '@', '/'])
        && !app.chars().any(char::is_control);
    match is_fine {
        true => Ok(()),
        false => Err(AppsError::Key(app.chars().take(64).collect())),
    }
}

/// A key that no app can have is no app's. MySQL would take it for the same one with blanks behind it.
fn known_key(app: &str) -> Result<String, AppsError> {
    match check_key(app) {
        Ok(()) => Ok(app.to_owned()),
        Err(_) => Err(AppsError::NoApp(app.chars().take(64).collect())),
    }
}

fn new_secret() -> Result<(AppSecret, StoredSecret), AppsError> {
    let secret = AppSecret::random().map_err(|error| AppsError::Secret(error.to_string()))?;
    let stored = StoredSecret::of_random(&secret);
    Ok((secret, stored))
}

impl AppInfo {
    /// `now` is the database's clock.
    fn new(row: AppRow, grants: &[GrantRow], now: i64) -> Self {
        let mut faults = Vec::new();
        if let Err(why) = StoredSecret::read(&row.secret_kind, &row.secret_hash) {
            faults.push(format!("secret: {why}"));
        }
        let mut rights = Vec::new();
        for row in grants {
            match row.grant() {
                Ok(grant) => rights.push(grant),
                Err(why) => faults.push(format!(
                    "right on {:?}, {:?}: {why}",
                    row.group_name, row.topic
                )),
            }
        }
        Self {
            disabled_at: row.disabled_at.map(time),
            created_at: time(row.created_at),
            old_secret_until: row.old_until.filter(|until| *until > now).map(time),
            limits: row.limits(),
            key: row.app_key,
            secret_kind: row.secret_kind,
            rights,
            faults,
        }
    }
}

fn time(micros: i64) -> SystemTime {
    let micros = u64::try_from(micros).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

impl From<Refused> for AppsError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoApp(app) => Self::NoApp(app),
            Refused::AppExists(app) => Self::Exists(app),
            Refused::NoRight(app, group, topic) => Self::NoRight { app, group, topic },
        }
    }
}

impl fmt::Debug for Apps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Apps").field(&self.store).finish()
    }
}
