//! `final log`: the groups of the log in the database.

use clap::{Args, Subcommand};
use final_core::OutboxDatabase;

use crate::{
    arguments::FormatArgs,
    ask::ConsentArgs,
    exit::{Exit, Failure},
    output::{Output, text::harmless},
    session::Session,
    views::{GroupView, LaneView, group_table, lane_table},
};

/// See how far the groups of the log are, forget one, and move from hookq to the log
#[derive(Debug, Args)]
#[command(after_help = "Example: final log groups")]
pub(crate) struct LogArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// List the groups: how much each has to read, and how old that is
    #[command(after_help = "Example: final log groups --json | jq .waiting.number")]
    Groups,
    /// List the lanes of groups: which running bus has each, and how far it is
    #[command(after_help = "Example: final log lanes shop")]
    Lanes {
        /// The group; all of them, if nothing is said
        group: Option<String>,
    },
    /// Forget a group that does not come back: its subscriptions, its progress and its dead letters
    #[command(after_help = "Example: final log forget old-reports")]
    Forget {
        /// The group
        group: String,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    ImportHookq(Box<super::import_hookq::ImportHookqArgs>),
}

impl LogArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        match self.command {
            LogCommand::Groups => groups(session, out).await,
            LogCommand::Lanes { group } => lanes(session, group.as_deref(), out).await,
            LogCommand::Forget { group, consent } => forget(session, &group, consent, out).await,
            LogCommand::ImportHookq(args) => args.run(session, out).await,
        }
    }
}

async fn groups<DB: OutboxDatabase>(
    session: &Session<DB>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let groups = session.admin().groups().await?;
    if groups.is_empty() {
        eprintln!("no service reads the log of this database");
        return Ok(Exit::NothingMatched);
    }
    match out.is_json() {
        true => groups
            .iter()
            .try_for_each(|group| out.json("group", &GroupView::from(group)))?,
        false => out.table(&group_table(&groups))?,
    }
    Ok(Exit::Done)
}

async fn lanes<DB: OutboxDatabase>(
    session: &Session<DB>,
    group: Option<&str>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let admin = session.admin();
    let groups = match group {
        Some(group) => vec![group.to_owned()],
        None => admin
            .groups()
            .await?
            .into_iter()
            .map(|group| group.name)
            .collect(),
    };
    let mut lanes = Vec::new();
    for group in groups {
        lanes.extend(admin.service(group).lanes().await?);
    }
    if lanes.is_empty() {
        eprintln!("there are no lanes");
        return Ok(Exit::NothingMatched);
    }
    match out.is_json() {
        true => lanes
            .iter()
            .try_for_each(|lane| out.json("lane", &LaneView::from(lane)))?,
        false => out.table(&lane_table(&lanes))?,
    }
    Ok(Exit::Done)
}

async fn forget<DB: OutboxDatabase>(
    session: &Session<DB>,
    group: &str,
    consent: ConsentArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let service = session.admin().service(group);
    let groups = service.groups().await?;
    if groups.is_empty() {
        eprintln!("{group:?} is no group of the log");
        return Ok(Exit::NothingMatched);
    }
    match out.is_json() {
        true => groups
            .iter()
            .try_for_each(|group| out.json("group", &GroupView::from(group)))?,
        false => out.table(&group_table(&groups))?,
    }
    out.flush()?;
    if groups.iter().any(|group| group.members > 0) {
        eprintln!(
            "a running bus is a member of the group; it subscribes again, as if for the first time"
        );
    }
    let question = harmless(&format!(
        "Forget the group {group} in {}, with its progress and its dead letters?",
        session.target
    ));
    if !consent.ask(&session.context, &question)? {
        return Ok(Exit::NotConfirmed);
    }
    match service.forget_group().await? {
        true => Ok(Exit::Done),
        false => Ok(Exit::NothingMatched),
    }
}
