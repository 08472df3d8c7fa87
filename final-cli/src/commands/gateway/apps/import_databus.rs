//! `final gateway apps import-databus`: rights of databus, from its tables or its Redis, into the gateway's tables.
//!
//! ```text
//!   databus's rights ─▶ compared ─▶ shown ─┬─ nothing new ─▶ exit 4
//!                                          ├─ --dry-run ─▶ exit 0
//!                                          └─ asked ─▶ one transaction ─▶ exit 0
//! ```

use std::env;

use clap::Args;
use final_core::OutboxDatabase;
use final_gateway::rights::{
    Apps, Grant,
    databus::{DatabusApp, DatabusPlan, RedisPlace, read_redis, read_tables},
};
use serde::Serialize;

use super::view::RightView;
use crate::{
    arguments::DatabaseUrl,
    ask::ConsentArgs,
    exit::{Exit, Failure},
    output::{Cell, Output, Table, text::harmless},
    session::{Place, Session},
    target::{Kind, Target},
};

/// Take apps and rights of databus over
///
/// It reads the tables app_tb and auth_tb, and app and auth, or the hashes of its Redis. Secrets are stored as hashes,
/// so databus's clients log in as before. An app that is here already stays as it is, with its rights, so a second run
/// adds new apps only. DATABUS_DATABASE_URL and DATABUS_REDIS_PASSWORD keep passwords off the command line.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: final gateway apps import-databus --from mysql://databus@db/databus_db --dry-run"
)]
pub(super) struct ImportDatabusArgs {
    /// The database of databus's tables; that of the gateway if neither this nor DATABUS_DATABASE_URL is given
    #[arg(long, value_name = "URL", conflicts_with = "redis")]
    from: Option<DatabaseUrl>,

    /// The Redis in which databus keeps its rights
    #[arg(long, value_name = "HOST:PORT")]
    redis: Option<String>,

    /// The number of the database in Redis
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "redis")]
    redis_database: u32,

    /// Shows what would be taken over, and changes nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    #[command(flatten)]
    consent: ConsentArgs,
}

/// A step of the plan, as a line of JSON.
#[derive(Serialize)]
struct StepRow<'a> {
    app: &'a str,
    right: Option<RightView<'a>>,
}

/// What is left out, as a line of JSON.
#[derive(Serialize)]
struct SkippedRow<'a> {
    what: &'a str,
    why: &'a str,
}

/// How much it was, as a line of JSON.
#[derive(Serialize)]
struct ImportRow {
    apps: usize,
    rights: usize,
    unchanged: usize,
    skipped: usize,
    done: bool,
}

impl ImportDatabusArgs {
    pub(super) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        apps: &Apps,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let (found, place) = self.read(session).await?;
        if found.is_empty() {
            return Err(Failure::usage(format!(
                "{place} has no apps of databus: neither the tables app_tb and auth_tb, nor app and auth, nor their \
                 hashes in Redis"
            )));
        }
        let plan = apps.plan_import(&found).await?;
        show(&plan, out)?;
        let (new_apps, new_rights) = (plan.new_apps().count(), plan.new_rights().count());
        if plan.is_empty() {
            eprintln!("nothing is new; nothing was changed");
            summary(&plan, false, out)?;
            return Ok(Exit::NothingMatched);
        }
        if self.dry_run {
            summary(&plan, false, out)?;
            return Ok(Exit::Done);
        }
        out.flush()?;
        let question = harmless(&format!(
            "Take {new_apps} app(s) and {new_rights} right(s) of {place} over into {}?",
            session.target
        ));
        if !self.consent.ask(&session.context, &question)? {
            return Ok(Exit::NotConfirmed);
        }
        apps.migrate().await?;
        apps.import(&plan).await?;
        summary(&plan, true, out)?;
        Ok(Exit::Done)
    }

    /// The rights, and where they are.
    async fn read<DB: OutboxDatabase>(
        &self,
        session: &Session<DB>,
    ) -> Result<(Vec<DatabusApp>, String), Failure> {
        if let Some(address) = &self.redis {
            let place = RedisPlace {
                address: address.clone(),
                database: self.redis_database,
                password: set("DATABUS_REDIS_PASSWORD"),
            };
            let found = read_redis(&place).await;
            let found = found.map_err(|error| Failure::Failed(harmless(&error.to_string())))?;
            return Ok((found, format!("Redis at {address}")));
        }
        let url = self.from.as_ref().map(|from| from.0.clone());
        let Some(url) = url.or_else(|| set("DATABUS_DATABASE_URL")) else {
            let found = tables(session).await?;
            return Ok((found, session.target.to_string()));
        };
        let target = Target::new(url)?;
        let shown = target.to_string();
        macro_rules! on {
            ($feature:literal, $database:ident) => {{
                #[cfg(feature = $feature)]
                {
                    let place = Place {
                        context: Default::default(),
                        target: None,
                    };
                    let session = Session::<sqlx::$database>::lazy(place, target)?;
                    session.connect().await?;
                    let found = tables(&session).await;
                    session.pool.close().await;
                    found
                }
                #[cfg(not(feature = $feature))]
                Err(target.not_compiled_in())
            }};
        }
        let found = match target.kind {
            Kind::Postgres => on!("postgres", Postgres),
            Kind::MySql => on!("mysql", MySql),
            Kind::Sqlite => on!("sqlite", Sqlite),
        };
        Ok((found?, shown))
    }
}

async fn tables<DB: OutboxDatabase>(session: &Session<DB>) -> Result<Vec<DatabusApp>, Failure> {
    let found = read_tables(&session.pool).await;
    found.map_err(|error| {
        let doing = format!("databus's tables in {} cannot be read", session.target);
        Failure::doing(doing, &error)
    })
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Shows what would be done, and what would not.
fn show(plan: &DatabusPlan, out: &mut Output) -> Result<(), Failure> {
    let steps = || {
        let apps = plan.new_apps().map(|app| (app, None::<&Grant>));
        apps.chain(plan.new_rights().map(|(app, grant)| (app, Some(grant))))
    };
    if out.is_json() {
        for (app, grant) in steps() {
            let right = grant.map(RightView::from);
            out.json("databus_step", &StepRow { app, right })?;
        }
        for skipped in &plan.skipped {
            let (what, why) = (&*skipped.what, &*skipped.why);
            out.json("databus_skipped", &SkippedRow { what, why })?;
        }
        return Ok(());
    }
    if !plan.is_empty() {
        let mut table = Table::new(&["!app", "group", "topic", "may"]);
        for (app, grant) in steps() {
            let operations = grant.map(|grant| grant.operations().to_string());
            table.row([
                app.into(),
                grant.map(Grant::group).unwrap_or_default().into(),
                grant.map(Grant::topic).unwrap_or_default().into(),
                operations.unwrap_or_else(|| "log in".to_owned()).into(),
            ]);
        }
        out.table(&table)?;
    }
    if !plan.skipped.is_empty() {
        let mut table = Table::new(&["left out", "why"]);
        for skipped in &plan.skipped {
            table.row([Cell::new(&skipped.what), Cell::new(&skipped.why)]);
        }
        out.table(&table)?;
    }
    Ok(())
}

fn summary(plan: &DatabusPlan, done: bool, out: &mut Output) -> Result<(), Failure> {
    let row = ImportRow {
        apps: plan.new_apps().count(),
        rights: plan.new_rights().count(),
        unchanged: plan.unchanged,
        skipped: plan.skipped.len(),
        done,
    };
    if out.is_json() {
        return out.json("databus_import", &row);
    }
    let verb = match done {
        true => "taken over",
        false => "to take over",
    };
    out.line(&format!(
        "{} app(s) and {} right(s) {verb}; {} here already, {} left out",
        row.apps, row.rights, row.unchanged, row.skipped
    ))
}
