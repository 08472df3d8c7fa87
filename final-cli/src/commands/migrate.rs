//! `final migrate`: brings the tables of services and of the log to this release's version, shows the SQL for it, or
//! checks whether it is needed.

use clap::Args;
use final_core::{Bus, MemoryBroker, OutboxDatabase, SqlBroker, admin::Schema, broker::Broker};
use serde::Serialize;

use crate::{
    arguments::{FormatArgs, ServiceArgs},
    ask::ConsentArgs,
    exit::{Exit, Failure},
    output::{Cell, Output, Table},
    session::Session,
};

/// Bring the tables to the version of this release
///
/// Without a service and without --log it takes every service of the database, and the log if it is there. A service
/// does the same when it starts.
#[derive(Debug, Args)]
#[command(after_help = "Example: final migrate --check || final migrate --yes")]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    service: ServiceArgs,

    /// Takes the tables of the log, and makes them where they are missing
    #[arg(long)]
    log: bool,

    /// Writes the statements, and changes nothing
    #[arg(long)]
    pub(crate) sql: bool,

    /// Ends with exit code 3 if tables are missing or of an earlier release, and changes nothing
    #[arg(long, conflicts_with = "sql")]
    check: bool,

    #[command(flatten)]
    consent: ConsentArgs,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Tables that belong together.
enum Part {
    Service(String),
    Log,
}

/// A part and its state; without a state it is not there at all.
#[derive(Serialize)]
struct PartView<'a> {
    /// `None` is the log.
    service: Option<&'a str>,
    state: &'static str,
    found: Option<i64>,
    wanted: Option<i64>,
}

impl MigrateArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        if self.sql {
            return self.write_sql(session, out).await;
        }
        let parts = self.parts(session).await?;
        if parts.is_empty() {
            let target = &session.target;
            eprintln!(
                "{target} has no tables of the bus; --service NAME makes those of a service, --log those of the log"
            );
            return Ok(Exit::NothingMatched);
        }
        if !self.check {
            let names: Vec<&str> = parts.iter().map(|(part, _)| part.name()).collect();
            let question = format!("Migrate {} in {}?", names.join(", "), session.target);
            if !self
                .consent
                .ask_in_production(&session.context, &question)?
            {
                return Ok(Exit::NotConfirmed);
            }
            for (part, _) in &parts {
                part.migrate(session).await?;
            }
        }
        let parts = match self.check {
            true => parts,
            false => self.parts(session).await?,
        };
        write(&parts, out)?;
        let needs = |(_, state): &(Part, Option<Schema>)| {
            !matches!(state, Some(Schema::Current | Schema::Newer { .. }))
        };
        Ok(match parts.iter().any(needs) {
            true => Exit::Found,
            false => Exit::Done,
        })
    }

    /// What is meant, with its state.
    async fn parts<DB: OutboxDatabase>(
        &self,
        session: &Session<DB>,
    ) -> Result<Vec<(Part, Option<Schema>)>, Failure> {
        let services = session.admin().services().await?;
        let log = Schema::of_log(session.pool.clone()).await?;
        let named = self.service.service.as_ref();
        let mut parts = Vec::new();
        if let Some(name) = named {
            let known = services.iter().find(|known| known.name == *name);
            parts.push((
                Part::Service(name.clone()),
                known.and_then(|known| known.outbox),
            ));
        } else if !self.log {
            let with_outbox = services
                .into_iter()
                .filter(|service| service.outbox.is_some());
            parts.extend(with_outbox.map(|service| (Part::Service(service.name), service.outbox)));
        }
        if self.log || named.is_none() && log.is_some() {
            parts.push((Part::Log, log));
        }
        Ok(parts)
    }

    async fn write_sql<DB: OutboxDatabase>(
        &self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let pool = session.pool.clone();
        let named = self.service.service.is_some();
        if named || !self.log {
            let service = session.service(&self.service).await?;
            let bus = Bus::new(&service, pool.clone(), MemoryBroker::new());
            out.raw(bus.migration_sql()?.as_bytes())?;
        }
        if self.log {
            out.raw(SqlBroker::new(pool).migration_sql().as_bytes())?;
        }
        Ok(Exit::Done)
    }
}

impl Part {
    fn name(&self) -> &str {
        match self {
            Self::Service(name) => name,
            Self::Log => "the log",
        }
    }

    async fn migrate<DB: OutboxDatabase>(&self, session: &Session<DB>) -> Result<(), Failure> {
        let pool = session.pool.clone();
        match self {
            Self::Service(name) => Bus::new(name, pool, MemoryBroker::new()).migrate().await?,
            Self::Log => SqlBroker::new(pool).migrate().await?,
        }
        Ok(())
    }
}

fn write(parts: &[(Part, Option<Schema>)], out: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&["tables of", "state", ">version", ">this release"]);
    for (part, state) in parts {
        let (name, found, wanted) = match state {
            Some(Schema::Current) => ("current", None, None),
            Some(Schema::Older { found, wanted }) => ("older", Some(*found), Some(*wanted)),
            Some(Schema::Newer { found, known }) => ("newer", Some(*found), Some(*known)),
            Some(Schema::Missing) | None => ("missing", None, None),
            Some(_) => ("unknown", None, None),
        };
        let service = match part {
            Part::Service(name) => Some(name.as_str()),
            Part::Log => None,
        };
        if out.is_json() {
            let view = PartView {
                service,
                state: name,
                found,
                wanted,
            };
            out.json("tables", &view)?;
            continue;
        }
        let number =
            |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
        table.row([
            part.name().into(),
            Cell::new(name)
                .bad(matches!(name, "older" | "missing"))
                .good(name == "current"),
            number(found).into(),
            number(wanted).into(),
        ]);
    }
    match out.is_json() {
        true => Ok(()),
        false => out.table(&table),
    }
}
