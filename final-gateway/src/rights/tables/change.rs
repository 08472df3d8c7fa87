//! What an operator changes, as statements.

use final_core::database::{DbResult, Driver, Templates, read};

use super::rows::GrantRow;
use crate::rights::{AppLimits, Grant, Operations, secret::StoredSecret};

/// One change.
#[derive(Clone, Debug)]
pub(in crate::rights) enum Change {
    /// A new app.
    Create {
        app: String,
        secret: StoredSecret,
        limits: AppLimits,
    },
    /// A new secret. The one before it stays valid for so many microseconds.
    Rotate {
        app: String,
        secret: StoredSecret,
        overlap: i64,
    },
    /// Enables an app, or disables it.
    Enable { app: String, is_enabled: bool },
    /// Other limits.
    Limit { app: String, limits: AppLimits },
    /// Removes an app with its rights.
    Remove { app: String },
    /// Adds operations to a right, and sets the limits that are given.
    Allow { app: String, grant: Grant },
    /// Takes operations from a right. A right without any is removed.
    Revoke { app: String, grant: Grant },
}

/// Why a change is not possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rights) enum Refused {
    /// There is no such app.
    NoApp(String),
    /// There is an app with this key.
    AppExists(String),
    /// The app has no such right.
    NoRight(String, String, String),
}

impl Change {
    /// Does it, in a transaction.
    pub(super) async fn apply<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        templates: &Templates,
    ) -> DbResult<Result<(), Refused>> {
        let (app, changed) = match self {
            Self::Create {
                app,
                secret,
                limits,
            } => {
                let sql = "{insert} INTO {apps} (app_key, secret_kind, secret_hash, created_at, connections, \
                        publishes_per_second, deliveries_per_second, open_pairs) \
                    VALUES (?, ?, ?, {now}, ?, ?, ?, ?) {nothing}";
                let (kind, hash) = secret.columns();
                let [connections, publishes, deliveries, open] = columns(limits);
                let values = [
                    app.as_str().into(),
                    kind.into(),
                    hash.into(),
                    connections.into(),
                    publishes.into(),
                    deliveries.into(),
                    open.into(),
                ];
                let made = DB::run_sql(conn, &templates.sql(sql), &values).await?;
                return Ok(match made {
                    0 => Err(Refused::AppExists(app.clone())),
                    _ => Ok(()),
                });
            }
            Self::Rotate {
                app,
                secret,
                overlap: 0,
            } => {
                let sql = "UPDATE {apps} SET old_kind = NULL, old_hash = NULL, old_until = NULL, secret_kind = ?, \
                        secret_hash = ? \
                    WHERE app_key = ?";
                let (kind, hash) = secret.columns();
                let values = [kind.into(), hash.into(), app.as_str().into()];
                (app, DB::run_sql(conn, &templates.sql(sql), &values).await?)
            }
            Self::Rotate {
                app,
                secret,
                overlap,
            } => {
                // MySQL sets one column after the other, so the old ones come first.
                let sql = "UPDATE {apps} SET old_kind = secret_kind, old_hash = secret_hash, old_until = {now} + ?, \
                        secret_kind = ?, secret_hash = ? \
                    WHERE app_key = ?";
                let (kind, hash) = secret.columns();
                let values = [
                    (*overlap).into(),
                    kind.into(),
                    hash.into(),
                    app.as_str().into(),
                ];
                (app, DB::run_sql(conn, &templates.sql(sql), &values).await?)
            }
            Self::Enable { app, is_enabled } => {
                let sql = match is_enabled {
                    true => "UPDATE {apps} SET disabled_at = NULL WHERE app_key = ?",
                    false => {
                        "UPDATE {apps} SET disabled_at = COALESCE(disabled_at, {now}) WHERE app_key = ?"
                    }
                };
                let values = [app.as_str().into()];
                (app, DB::run_sql(conn, &templates.sql(sql), &values).await?)
            }
            Self::Limit { app, limits } => {
                let sql = "UPDATE {apps} SET connections = ?, publishes_per_second = ?, deliveries_per_second = ?, \
                        open_pairs = ? \
                    WHERE app_key = ?";
                let [connections, publishes, deliveries, open] = columns(limits);
                let values = [
                    connections.into(),
                    publishes.into(),
                    deliveries.into(),
                    open.into(),
                    app.as_str().into(),
                ];
                (app, DB::run_sql(conn, &templates.sql(sql), &values).await?)
            }
            Self::Remove { app } => {
                let values = [app.as_str().into()];
                let rights = templates.sql("DELETE FROM {rights} WHERE app_key = ?");
                DB::run_sql(conn, &rights, &values).await?;
                let apps = templates.sql("DELETE FROM {apps} WHERE app_key = ?");
                (app, DB::run_sql(conn, &apps, &values).await?)
            }
            Self::Allow { app, grant } => return allow::<DB>(conn, templates, app, grant).await,
            Self::Revoke { app, grant } => return revoke::<DB>(conn, templates, app, grant).await,
        };
        Ok(match changed {
            0 => Err(Refused::NoApp(app.clone())),
            _ => Ok(()),
        })
    }
}

async fn allow<DB: Driver>(
    conn: &mut DB::Connection,
    templates: &Templates,
    app: &str,
    grant: &Grant,
) -> DbResult<Result<(), Refused>> {
    let known = templates.sql("SELECT app_key FROM {apps} WHERE app_key = ?");
    let known = read::<DB, String>(conn, &known, &[app.into()]).await?;
    if known.is_empty() {
        return Ok(Err(Refused::NoApp(app.to_owned())));
    }
    let before = find::<DB>(conn, templates, app, grant).await?;
    let operations = before
        .as_ref()
        .and_then(|row| Operations::from_number(row.operations));
    let operations = operations.unwrap_or(Operations::NONE).and(grant.operations);
    let or_before =
        |limit: Option<u32>, before: Option<Option<i64>>| limit.map(i64::from).or(before.flatten());
    let batch = or_before(grant.batch, before.as_ref().map(|row| row.batch));
    let publishes = or_before(
        grant.publishes_per_second,
        before.as_ref().map(|row| row.publishes_per_second),
    );
    let deliveries = or_before(
        grant.deliveries_per_second,
        before.as_ref().map(|row| row.deliveries_per_second),
    );
    let sql = match before {
        Some(_) => {
            "UPDATE {rights} SET operations = ?, batch = ?, publishes_per_second = ?, deliveries_per_second = ? \
             WHERE app_key = ? AND group_name = ? AND topic = ?"
        }
        None => {
            "INSERT INTO {rights} (operations, batch, publishes_per_second, deliveries_per_second, app_key, \
                 group_name, topic, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, {now})"
        }
    };
    let values = [
        i64::from(operations.number()).into(),
        batch.into(),
        publishes.into(),
        deliveries.into(),
        app.into(),
        grant.group.as_str().into(),
        grant.topic.as_str().into(),
    ];
    DB::run_sql(conn, &templates.sql(sql), &values).await?;
    Ok(Ok(()))
}

async fn revoke<DB: Driver>(
    conn: &mut DB::Connection,
    templates: &Templates,
    app: &str,
    grant: &Grant,
) -> DbResult<Result<(), Refused>> {
    let Some(before) = find::<DB>(conn, templates, app, grant).await? else {
        let Grant { group, topic, .. } = grant.clone();
        return Ok(Err(Refused::NoRight(app.to_owned(), group, topic)));
    };
    let left = Operations::from_number(before.operations).unwrap_or(Operations::NONE);
    let left = left.without(grant.operations);
    let keys = [
        app.into(),
        grant.group.as_str().into(),
        grant.topic.as_str().into(),
    ];
    if left == Operations::NONE {
        let sql = "DELETE FROM {rights} WHERE app_key = ? AND group_name = ? AND topic = ?";
        DB::run_sql(conn, &templates.sql(sql), &keys).await?;
        return Ok(Ok(()));
    }
    let sql =
        "UPDATE {rights} SET operations = ? WHERE app_key = ? AND group_name = ? AND topic = ?";
    let [app, group, topic] = keys;
    let values = [i64::from(left.number()).into(), app, group, topic];
    DB::run_sql(conn, &templates.sql(sql), &values).await?;
    Ok(Ok(()))
}

async fn find<DB: Driver>(
    conn: &mut DB::Connection,
    templates: &Templates,
    app: &str,
    grant: &Grant,
) -> DbResult<Option<GrantRow>> {
    let sql = "SELECT app_key, group_name, topic, operations, batch, publishes_per_second, deliveries_per_second \
        FROM {rights} WHERE app_key = ? AND group_name = ? AND topic = ? {lock}";
    let keys = [
        app.into(),
        grant.group.as_str().into(),
        grant.topic.as_str().into(),
    ];
    let rows = read::<DB, GrantRow>(conn, &templates.sql(sql), &keys).await?;
    Ok(rows.into_iter().next())
}

fn columns(limits: &AppLimits) -> [Option<i64>; 4] {
    [
        limits.connections,
        limits.publishes_per_second,
        limits.deliveries_per_second,
        limits.open_pairs,
    ]
    .map(|limit| limit.map(i64::from))
}
