//! The services of a database.
//!
//! Input: the versions that are written down, and the groups of the log. Output: a [`ServiceInfo`] for each service.

use std::{collections::BTreeSet, fmt};

use super::{
    AdminError, Answer,
    desk::{Desk, doing},
};
use crate::{
    OutboxDatabase,
    database::{DbResult, MIGRATIONS},
    names::ServiceName,
    outbox::VERSION,
};

/// A service that has tables in the database, or reads its log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// Its name.
    pub name: String,
    /// The state of its outbox; `None` if it has none, because it only reads the log.
    pub outbox: Option<Schema>,
    /// Whether it is a group of the log.
    pub reads_log: bool,
    /// Whether it collects the dead letters of its broker in this database.
    pub collects_letters: bool,
}

/// How the version of a service's tables compares with the one that this release makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schema {
    /// They have this release's version.
    Current,
    /// An older release has made them. A start of this release, or `migrate`, brings them to its version.
    Older {
        /// The version that they have.
        found: i64,
        /// The version of this release.
        wanted: i64,
    },
    /// A newer release has made them. What this release knows of them stands there all the same.
    Newer {
        /// The version that they have.
        found: i64,
        /// The version of this release.
        known: i64,
    },
    /// A version is written down, and the table is not there.
    Missing,
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("current"),
            Self::Older { found, wanted } => {
                write!(
                    f,
                    "version {found}, this release makes {wanted}: run `migrate`"
                )
            }
            Self::Newer { found, known } => {
                write!(
                    f,
                    "version {found} of a newer release, this one knows {known}"
                )
            }
            Self::Missing => f.write_str("its table is missing: run `migrate`"),
        }
    }
}

impl Schema {
    /// Compares the version that is written down with that of this release.
    fn of(version: i64) -> Self {
        let known = i64::from(VERSION);
        match version {
            found if found < known => Self::Older {
                found,
                wanted: known,
            },
            found if found > known => Self::Newer { found, known },
            _ => Self::Current,
        }
    }
}

/// The tables of one service that there are.
#[derive(Debug)]
pub(super) struct ServiceTables {
    pub(super) service: ServiceName,
    /// The state of the outbox; `None` if the service has none.
    pub(super) outbox: Option<Schema>,
    pub(super) has_claims: bool,
    pub(super) has_collected: bool,
    /// Whether it is a group of the log.
    pub(super) is_group: bool,
}

/// What is written down about services.
struct Written {
    /// The services that have an outbox, each with the version of its tables.
    versions: Vec<(String, i64)>,
    /// The groups of the log.
    groups: Vec<String>,
}

impl ServiceTables {
    /// Whether the outbox keeps the id of a message beside the key of its record. Before that no two records could have
    /// messages of one id.
    pub(super) fn has_sent_as(&self) -> bool {
        match self.outbox {
            Some(Schema::Current | Schema::Newer { .. }) => true,
            Some(Schema::Older { found, .. }) => found >= SENT_AS,
            Some(Schema::Missing) | None => false,
        }
    }

    /// Whether there is an outbox that can be read.
    pub(super) fn has_outbox(&self) -> bool {
        !matches!(self.outbox, None | Some(Schema::Missing))
    }
}

/// The version of the outbox that keeps the id of a message beside the key of its record.
const SENT_AS: i64 = 5;

/// What failed.
const LISTING: &str = "listing the services";

impl<DB: OutboxDatabase> Desk<DB> {
    /// The services, by name.
    pub(super) async fn services(&self) -> Answer<Vec<ServiceInfo>> {
        let written = self.written().await.map_err(doing(LISTING))?;
        let names = written.versions.iter().map(|(service, _)| service);
        let names: BTreeSet<&String> = names.chain(&written.groups).collect();
        let mut services = Vec::with_capacity(names.len());
        for name in names {
            let found = self.look_up(ServiceName::of_group(name), &written).await;
            if let Some(tables) = found.map_err(doing(LISTING))? {
                services.push(ServiceInfo {
                    name: tables.service.as_str().to_owned(),
                    outbox: tables.outbox,
                    reads_log: tables.is_group,
                    collects_letters: tables.has_collected,
                });
            }
        }
        Ok(services)
    }

    /// The tables of a service.
    ///
    /// # Errors
    ///
    /// Fails if there are none.
    pub(super) async fn tables_of(&self, name: &str) -> Answer<ServiceTables> {
        match self.find(name).await {
            Ok(Some(tables)) => Ok(tables),
            Ok(None) => self.unknown(name).await,
            Err(error) => Err(error),
        }
    }

    async fn unknown(&self, name: &str) -> Answer<ServiceTables> {
        let known = self.services().await?;
        let known: Vec<&str> = known.iter().map(|service| service.name.as_str()).collect();
        Err(AdminError::UnknownService {
            name: name.chars().take(64).collect(),
            known: match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            },
        })
    }

    /// The tables of a service; `None` if there are none.
    async fn find(&self, name: &str) -> Answer<Option<ServiceTables>> {
        let service = ServiceName::of_group(name);
        let found = async { self.look_up(service, &self.written().await?).await };
        found
            .await
            .map_err(doing("looking up the tables of a service"))
    }

    async fn look_up(
        &self,
        service: ServiceName,
        written: &Written,
    ) -> DbResult<Option<ServiceTables>> {
        let mut versions = written.versions.iter();
        let version = versions.find(|(name, _)| name == service.as_str());
        // A table without a version was made by hand, or belongs to a service of nearly the same name.
        let outbox = match version {
            None => None,
            Some(_) if !self.has_table(&service.table()).await? => Some(Schema::Missing),
            Some((_, version)) => Some(Schema::of(*version)),
        };
        let is_group = written.groups.iter().any(|group| group == service.as_str());
        if outbox.is_none() && !is_group {
            return Ok(None);
        }
        Ok(Some(ServiceTables {
            has_claims: self.has_table(&service.claims_table()).await?,
            has_collected: self.has_table(&service.letters_table()).await?,
            is_group,
            service,
            outbox,
        }))
    }

    /// What is written down about services.
    async fn written(&self) -> DbResult<Written> {
        Ok(Written {
            versions: self.versions().await?,
            groups: self.group_names().await?,
        })
    }

    /// The services that have an outbox by what is written down, each with the version of its tables.
    async fn versions(&self) -> DbResult<Vec<(String, i64)>> {
        let versions = "SELECT table_name, service, CAST(version AS {int}) FROM {versions} \
            WHERE service <> '' ORDER BY service";
        let versions = self.rows::<(String, String, i64)>(versions, &[]).await;
        let all = match versions {
            Err(error) if DB::is_missing_table(&error, MIGRATIONS) => Vec::new(),
            all => all?,
        };
        let of_outbox = |(table, service, version): (String, String, i64)| {
            let name = ServiceName::new(&service).ok()?;
            (name.table() == table).then_some((service, version))
        };
        Ok(all.into_iter().filter_map(of_outbox).collect())
    }

    /// The groups of the log, by name. None without a log.
    pub(super) async fn group_names(&self) -> DbResult<Vec<String>> {
        let groups = self
            .rows("SELECT name FROM {groups} ORDER BY name", &[])
            .await;
        match groups {
            Err(error) if DB::is_missing_table(&error, "final_log") => Ok(Vec::new()),
            groups => groups,
        }
    }
}
