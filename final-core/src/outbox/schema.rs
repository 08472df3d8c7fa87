//! Whose table it is, and what is to be done to it. The same for all databases.
//!
//! Migrations only ever expand: a column or index may be added, none is renamed, removed or given
//! another meaning, because during a deployment the previous release still writes to the table.

use crate::{Error, names::ServiceName};

/// The version this release brings the table to.
pub(super) const VERSION: i32 = 2;

/// Where it is written down which service each table belongs to, and its version.
pub(super) const MIGRATIONS: &str = "final_migrations";

/// How long to wait for another instance that is migrating.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) const LOCK_SECONDS: u32 = 60;

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The service the table was made for and its version, if that is written down.
    pub(super) owner: Option<(String, i32)>,
    /// The table's columns; none if there is no table.
    pub(super) columns: Vec<String>,
    /// Whether there is a table of claims.
    pub(super) claims: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: it has this version, or that of a later release.
    Keep,
    /// Apply what is missing.
    Apply,
    /// The Go predecessor's table stands in the way.
    Replace,
}

impl Found {
    pub(super) fn plan(&self, service: &ServiceName) -> Result<Plan, Error> {
        let has = |name: &str| self.columns.iter().any(|column| column == name);
        if let Some((owner, _)) = &self.owner
            && owner != service.as_str()
        {
            let reason = format!(
                "it belongs to service {owner:?}, and {:?} maps to the same name (`-` is written as `_`); \
                 rename one of the two",
                service.as_str()
            );
            return Err(foreign(service, reason));
        }
        if self.columns.is_empty() {
            return Ok(Plan::Apply);
        }
        if has("message_id") && has("available_at") && has("claimed_by") {
            let current = matches!(self.owner, Some((_, version)) if version >= VERSION);
            return Ok(if current && self.claims {
                Plan::Keep
            } else {
                Plan::Apply
            });
        }
        if has("message") && !has("message_id") {
            return Ok(Plan::Replace);
        }
        let reason = "it exists and has other columns than an outbox; rename or drop it".to_owned();
        Err(foreign(service, reason))
    }
}

/// The name the Go predecessor's table is given, or should be.
pub(super) fn predecessor(service: &ServiceName) -> String {
    format!("{}_go", service.table())
}

/// The advice where the predecessor's table is not taken over.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) fn predecessor_in_the_way(service: &ServiceName) -> Error {
    let reason = format!(
        "it is the table of the Go predecessor; let that send what is in it, then \
         `ALTER TABLE {} RENAME TO {}` and start again",
        service.table(),
        predecessor(service)
    );
    foreign(service, reason)
}

pub(super) fn foreign(service: &ServiceName, reason: String) -> Error {
    Error::ForeignTable {
        table: service.table(),
        reason,
    }
}

pub(super) fn failed(error: sqlx::Error) -> Error {
    Error::database("migrating the outbox")(error)
}

/// Statements as a text that a person can run.
pub(super) fn script(service: &ServiceName, statements: &[String]) -> String {
    let mut text = format!(
        "-- The outbox of service {}, version {VERSION}. Running it again changes nothing.\n",
        service.as_str()
    );
    for statement in statements {
        text.push_str(statement);
        text.push_str(";\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> ServiceName {
        ServiceName::new("my-shop").unwrap()
    }

    fn found(owner: Option<(&str, i32)>, columns: &[&str]) -> Found {
        Found {
            owner: owner.map(|(service, version)| (service.to_owned(), version)),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            claims: true,
        }
    }

    const OURS: &[&str] = &["message_id", "topic", "available_at", "claimed_by"];
    const GO: &[&str] = &["id", "message", "status", "create_at", "last_send_at"];

    #[test]
    fn nothing_there_is_created() {
        assert_eq!(found(None, &[]).plan(&shop()).unwrap(), Plan::Apply);
    }

    #[test]
    fn a_table_that_was_dropped_by_hand_is_created_again() {
        let dropped = found(Some(("my-shop", VERSION)), &[]);

        assert_eq!(dropped.plan(&shop()).unwrap(), Plan::Apply);
    }

    #[test]
    fn a_table_without_one_of_claims_gets_it() {
        let there = Found {
            claims: false,
            ..found(Some(("my-shop", VERSION)), OURS)
        };

        assert_eq!(there.plan(&shop()).unwrap(), Plan::Apply);
    }

    #[test]
    fn a_table_of_this_or_a_later_version_is_kept() {
        for version in [VERSION, VERSION + 1] {
            let there = found(Some(("my-shop", version)), OURS);

            assert_eq!(there.plan(&shop()).unwrap(), Plan::Keep);
        }
    }

    #[test]
    fn a_table_nobody_wrote_down_is_adopted() {
        assert_eq!(found(None, OURS).plan(&shop()).unwrap(), Plan::Apply);
    }

    #[test]
    fn another_services_table_is_refused_with_both_names() {
        let error = found(Some(("my_shop", VERSION)), OURS).plan(&shop());

        let text = error.unwrap_err().to_string();
        assert!(text.contains("\"my_shop\"") && text.contains("\"my-shop\""));
    }

    #[test]
    fn the_predecessors_table_is_recognised_even_if_a_script_wrote_it_down() {
        for owner in [None, Some(("my-shop", VERSION))] {
            assert_eq!(found(owner, GO).plan(&shop()).unwrap(), Plan::Replace);
        }
    }

    #[test]
    fn any_other_table_is_refused() {
        let error = found(None, &["id", "name"]).plan(&shop()).unwrap_err();

        assert!(error.to_string().contains("other columns"));
    }
}
