//! `final status [SERVICE]`: what waits in each service, and what does not move and why.

use std::time::Duration;

use clap::Args;
use final_core::{
    OutboxDatabase,
    admin::{AdminError, Overview},
};
use tokio::time::sleep;

use crate::{
    arguments::FormatArgs,
    exit::{Exit, Failure},
    output::{Output, text::harmless, time},
    session::Session,
    views::{OverviewView, overview_table},
};

/// The shortest time between two views.
const SHORTEST: Duration = Duration::from_millis(100);

/// Tell what waits in each service, and what does not move and why
#[derive(Debug, Args)]
#[command(after_help = "Example: final status --check || page-somebody")]
pub(crate) struct StatusArgs {
    /// The service; all of the database, if nothing is said
    service: Option<String>,

    /// Writes it again and again, until it is interrupted
    #[arg(long)]
    watch: bool,

    /// How long after the last time
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "2s", requires = "watch")]
    every: Duration,

    /// Ends with exit code 3 if something does not move
    #[arg(long, conflicts_with = "watch")]
    check: bool,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

impl StatusArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        if self.watch {
            return self.watch(session, out).await;
        }
        let services = self.look(session).await?;
        write(&services, out)?;
        out.flush()?;
        if services.is_empty() {
            eprintln!(
                "no service has tables in {}; a service makes them when it starts",
                session.target
            );
            return Ok(Exit::NothingMatched);
        }
        let is_stuck = services
            .iter()
            .any(|service| !service.not_moving.is_empty());
        Ok(match self.check && is_stuck {
            true => Exit::Found,
            false => Exit::Done,
        })
    }

    /// Writes it again and again. The cursor is on a line of its own when an interrupt ends that.
    async fn watch<DB: OutboxDatabase>(
        &self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        tokio::select! {
            ended = self.views(session, out) => ended?,
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        if out.is_terminal() {
            out.line("")?;
        }
        Ok(Exit::Done)
    }

    /// One view after the other. If the database does not answer any more, that is told, and it is asked again. What it
    /// refuses ends the command.
    async fn views<DB: OutboxDatabase>(
        &self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let mut services = self.look(session).await?;
        let mut away: Option<String> = None;
        loop {
            let was_away = away.is_some();
            out.clear()?;
            match &away {
                // Of a view that is no longer true only a person can see that.
                Some(why) if out.is_terminal() && !out.is_json() => {
                    write(&services, out)?;
                    out.line(&format!("\n{why}"))?;
                }
                Some(_) => {}
                None => write(&services, out)?,
            }
            out.flush()?;
            sleep(self.every.max(SHORTEST)).await;
            away = match self.look(session).await {
                Ok(now) => {
                    services = now;
                    None
                }
                Err(AdminError::Bus(error)) if error.is_outage() => {
                    let why = told(&error.into());
                    if !was_away && (!out.is_terminal() || out.is_json()) {
                        eprintln!("{why}");
                    }
                    Some(why)
                }
                Err(refused) => return Err(refused.into()),
            };
        }
    }

    async fn look<DB: OutboxDatabase>(
        &self,
        session: &Session<DB>,
    ) -> Result<Vec<Overview>, AdminError> {
        let admin = session.admin();
        let names = match &self.service {
            Some(service) => vec![service.clone()],
            None => admin
                .services()
                .await?
                .into_iter()
                .map(|service| service.name)
                .collect(),
        };
        let mut services = Vec::with_capacity(names.len());
        for name in names {
            services.push(admin.service(name).overview().await?);
        }
        Ok(services)
    }
}

/// What is told while the database does not answer.
fn told(failure: &Failure) -> String {
    let (_, why) = failure.end();
    let why = why.unwrap_or_default();
    harmless(&format!(
        "this is out of date: the database does not answer, and is asked again ({why})"
    ))
}

fn write(services: &[Overview], out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return services
            .iter()
            .try_for_each(|service| out.json("service", &OverviewView::from(service)));
    }
    if services.is_empty() {
        return Ok(());
    }
    out.table(&overview_table(services))?;
    let stuck = services.iter().flat_map(|service| {
        service
            .not_moving
            .iter()
            .map(move |stuck| (&service.service, stuck))
    });
    let mut any = false;
    for (service, stuck) in stuck {
        if !any {
            out.line("\nnot moving:")?;
        }
        any = true;
        out.line(&harmless(&format!("  {service}: {stuck}")))?;
    }
    match any {
        true => Ok(()),
        false => out.line("\neverything moves"),
    }
}
