//! `final migrate`: brings the tables of services and of the log to this release's version, shows the SQL for it, or
//! checks whether it is needed.

use clap::Args;
use final_core::{Bus, MemoryBroker, OutboxDatabase, SqlBroker};

use crate::{
    arguments::{FormatArgs, ServiceArgs},
    ask::ConsentArgs,
    exit::{Exit, Failure},
    output::Output,
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

    /// Takes the tables of the log as well, and makes them where they are missing
    #[arg(long)]
    log: bool,

    /// Writes the statements, and changes nothing
    #[arg(long)]
    pub(crate) sql: bool,

    /// Says which tables are of an earlier release, by exit code 3, and changes nothing
    #[arg(long, conflicts_with = "sql")]
    check: bool,

    #[command(flatten)]
    consent: ConsentArgs,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

impl MigrateArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let _ = (&self.check, &self.consent);
        let service = session.service(&self.service).await?;
        let pool = session.pool.clone();
        let bus = match self.log {
            true => Bus::new(&service, pool.clone(), SqlBroker::new(pool)),
            false => Bus::new(&service, pool, MemoryBroker::new()),
        };
        if self.sql {
            out.raw(bus.migration_sql()?.as_bytes())?;
            return Ok(Exit::Done);
        }
        bus.migrate().await?;
        Ok(Exit::Done)
    }
}
