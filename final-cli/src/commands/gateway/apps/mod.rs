//! `final gateway apps`: which apps there are, and what each may.

mod import_databus;
mod view;

use std::time::Duration;

use clap::{Args, Subcommand};
use final_core::OutboxDatabase;
use final_gateway::rights::{AppLimits, AppSecret, Apps, AppsError, Grant, Operation, Operations};
use serde::Serialize;

use self::{import_databus::ImportDatabusArgs, view::write};
use crate::{
    ask::ConsentArgs,
    causes::chain,
    exit::{Exit, Failure},
    output::{Output, text::harmless, time},
    session::Session,
};

/// See and change which apps may use the gateway, and what each may
///
/// A gateway takes a change within ten seconds, and on PostgreSQL at once.
#[derive(Debug, Args)]
#[command(after_help = "Example: final gateway apps list")]
pub(crate) struct AppsArgs {
    #[command(subcommand)]
    command: AppsCommand,
}

#[derive(Debug, Subcommand)]
enum AppsCommand {
    /// List apps with their rights
    #[command(after_help = "Example: final gateway apps list")]
    List {
        /// Only this one
        #[arg(value_name = "APP")]
        app: Option<String>,
    },
    /// Create an app, and show its secret this once
    ///
    /// The secret alone is on the standard output. The app may do nothing until it is allowed.
    #[command(after_help = "Example: final gateway apps create billing --connections 100")]
    Create {
        #[command(flatten)]
        app: AppArgs,

        #[command(flatten)]
        limits: LimitArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Allow an app to publish or consume
    ///
    /// Rights add up. A limit that is given replaces the one of this right, and the others stay. A right to consume
    /// needs --group.
    #[command(
        after_help = "Example: final gateway apps allow billing --group billing --topic 'order.*' --subscribe"
    )]
    Allow {
        #[command(flatten)]
        app: AppArgs,

        #[command(flatten)]
        right: RightArgs,

        /// The most messages of one answer
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        batch: Option<u32>,

        /// The most messages published by this right in a second, on each node
        #[arg(long, value_name = "NUMBER")]
        publishes_per_second: Option<u32>,

        /// The most messages delivered by this right in a second, on each node
        #[arg(long, value_name = "NUMBER")]
        deliveries_per_second: Option<u32>,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Take a right away, or one operation of it
    ///
    /// The group and the topic are those of a right as `list` shows it. Connections that relied on it are closed.
    #[command(
        after_help = "Example: final gateway apps revoke billing --group billing --topic 'order.*'"
    )]
    Revoke {
        #[command(flatten)]
        app: AppArgs,

        #[command(flatten)]
        right: RightArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Set the limits of an app on each node, all of them; what is not given is as in a new app
    #[command(after_help = "Example: final gateway apps limit billing --connections 50")]
    Limit {
        #[command(flatten)]
        app: AppArgs,

        #[command(flatten)]
        limits: LimitArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Give an app a new secret, and show it this once
    ///
    /// The secret of now stays valid for the overlap, and an older one ends at once. The new secret alone is on the
    /// standard output.
    #[command(after_help = "Example: final gateway apps rotate billing --overlap 2d")]
    Rotate {
        #[command(flatten)]
        app: AppArgs,

        /// How long the secret of now stays valid
        #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "1d")]
        overlap: Duration,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Let nobody in as an app, and close its connections
    #[command(after_help = "Example: final gateway apps disable billing")]
    Disable {
        #[command(flatten)]
        app: AppArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Let an app in again that was disabled
    #[command(after_help = "Example: final gateway apps enable billing")]
    Enable {
        #[command(flatten)]
        app: AppArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Remove an app with its rights
    #[command(after_help = "Example: final gateway apps remove billing")]
    Remove {
        #[command(flatten)]
        app: AppArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    ImportDatabus(ImportDatabusArgs),
}

/// Which app is meant.
#[derive(Debug, Args)]
struct AppArgs {
    /// The key of the app
    #[arg(value_name = "APP")]
    app: String,
}

/// Which right is meant.
#[derive(Debug, Args)]
struct RightArgs {
    /// The group; `*` is every group, and so is none for a right that only publishes
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// The topic; `order.*` is every topic that begins with `order.`, and `*` is every topic
    #[arg(long, value_name = "TOPIC")]
    topic: String,

    /// To publish; without --publish and --subscribe, both
    #[arg(long)]
    publish: bool,

    /// To consume
    #[arg(long)]
    subscribe: bool,
}

impl RightArgs {
    fn operations(&self) -> Operations {
        match (self.publish, self.subscribe) {
            (true, false) => Operations::PUBLISH,
            (false, true) => Operations::SUBSCRIBE,
            (true, true) | (false, false) => Operations::BOTH,
        }
    }

    fn group(&self) -> &str {
        self.group.as_deref().unwrap_or("*")
    }

    /// The right that is to be given. A new group keeps messages, so a right to make any number of them has to be meant.
    fn grant(&self) -> Result<Grant, Failure> {
        if self.group.is_none() && self.operations().has(Operation::Subscribe) {
            return Err(Failure::usage(
                "a right to consume needs a group: give --group GROUP, or --publish alone; with --group '*' the app can \
                 make any number of groups, and each of them keeps messages",
            ));
        }
        Grant::new(self.group(), &self.topic, self.operations())
            .map_err(|error| AppsError::from(error).into())
    }
}

/// Limits of an app as a whole.
#[derive(Clone, Copy, Debug, Args)]
struct LimitArgs {
    /// The most connections at a time, on each node
    #[arg(long, value_name = "NUMBER")]
    connections: Option<u32>,

    /// The most messages published in a second, on each node
    #[arg(long, value_name = "NUMBER")]
    publishes_per_second: Option<u32>,

    /// The most messages delivered in a second, on each node
    #[arg(long, value_name = "NUMBER")]
    deliveries_per_second: Option<u32>,

    /// The most groups and topics in use at a time, on each node, in place of the gateway's limits.open_pairs_of_app
    #[arg(long, value_name = "NUMBER")]
    open_pairs: Option<u32>,
}

impl From<LimitArgs> for AppLimits {
    fn from(args: LimitArgs) -> Self {
        Self {
            connections: args.connections,
            publishes_per_second: args.publishes_per_second,
            deliveries_per_second: args.deliveries_per_second,
            open_pairs: args.open_pairs,
        }
    }
}

/// A new secret, as a line of JSON.
#[derive(Serialize)]
struct SecretRow<'a> {
    app: &'a str,
    secret: &'a str,
}

impl AppsArgs {
    pub(super) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let apps = Apps::new(session.pool.clone());
        let agreed = |consent: ConsentArgs, doing: String| {
            let question = harmless(&format!("{doing} in {}?", session.target));
            consent.ask_in_production(&session.context, &question)
        };
        let done = |text: String, out: &mut Output| match out.is_json() {
            true => Ok(Exit::Done),
            false => out.line(&harmless(&text)).map(|()| Exit::Done),
        };
        match self.command {
            AppsCommand::List { app } => list(&apps, app.as_deref(), out).await,
            AppsCommand::Create {
                app: AppArgs { app },
                limits,
                consent,
            } => {
                if !agreed(consent, format!("Create app {app}"))? {
                    return Ok(Exit::NotConfirmed);
                }
                apps.migrate().await?;
                let secret = apps.create(&app, limits.into()).await?;
                show(&app, &secret, out)?;
                Ok(Exit::Done)
            }
            AppsCommand::Allow {
                app: AppArgs { app },
                right,
                batch,
                publishes_per_second,
                deliveries_per_second,
                consent,
            } => {
                let mut grant = right.grant()?;
                if let Some(batch) = batch {
                    grant = grant.batch(batch);
                }
                if let Some(limit) = publishes_per_second {
                    grant = grant.publishes_per_second(limit);
                }
                if let Some(limit) = deliveries_per_second {
                    grant = grant.deliveries_per_second(limit);
                }
                let (operations, of) = (grant.operations(), of(&right));
                if !agreed(consent, format!("Allow {app} to {operations} {of}"))? {
                    return Ok(Exit::NotConfirmed);
                }
                apps.allow(&app, grant).await?;
                done(format!("{app} may {operations} {of}"), out)
            }
            AppsCommand::Revoke {
                app: AppArgs { app },
                right,
                consent,
            } => {
                let (operations, of) = (right.operations(), of(&right));
                if !agreed(consent, format!("Let {app} no longer {operations} {of}"))? {
                    return Ok(Exit::NotConfirmed);
                }
                let (group, topic) = (right.group(), &right.topic);
                apps.revoke(&app, group, topic, operations).await?;
                done(format!("{app} may no longer {operations} {of}"), out)
            }
            AppsCommand::Limit {
                app: AppArgs { app },
                limits,
                consent,
            } => {
                if !agreed(consent, format!("Set the limits of {app}"))? {
                    return Ok(Exit::NotConfirmed);
                }
                apps.limit(&app, limits.into()).await?;
                list(&apps, Some(&app), out).await
            }
            AppsCommand::Rotate {
                app: AppArgs { app },
                overlap,
                consent,
            } => {
                if !agreed(consent, format!("Give {app} a new secret"))? {
                    return Ok(Exit::NotConfirmed);
                }
                let secret = apps.rotate(&app, overlap).await?;
                show(&app, &secret, out)?;
                eprintln!("the secret before it is valid for {}", time::shown(overlap));
                Ok(Exit::Done)
            }
            AppsCommand::Disable {
                app: AppArgs { app },
                consent,
            } => {
                if !agreed(consent, format!("Disable {app} and close its connections"))? {
                    return Ok(Exit::NotConfirmed);
                }
                apps.disable(&app).await?;
                done(format!("{app} is disabled"), out)
            }
            AppsCommand::Enable {
                app: AppArgs { app },
                consent,
            } => {
                if !agreed(consent, format!("Enable {app}"))? {
                    return Ok(Exit::NotConfirmed);
                }
                apps.enable(&app).await?;
                done(format!("{app} is enabled"), out)
            }
            AppsCommand::Remove {
                app: AppArgs { app },
                consent,
            } => {
                let question = format!("Remove {app} with its rights in {}?", session.target);
                if !consent.ask(&session.context, &harmless(&question))? {
                    return Ok(Exit::NotConfirmed);
                }
                apps.remove(&app).await?;
                done(format!("{app} is removed"), out)
            }
            AppsCommand::ImportDatabus(args) => args.run(session, &apps, out).await,
        }
    }
}

async fn list(apps: &Apps, only: Option<&str>, out: &mut Output) -> Result<Exit, Failure> {
    let mut all = match apps.list().await {
        Err(AppsError::NoTables) => Vec::new(),
        all => all?,
    };
    all.retain(|app| only.is_none_or(|only| only == app.key));
    if all.is_empty() {
        eprintln!("there is no such app; `final gateway apps create` makes one");
        return Ok(Exit::NothingMatched);
    }
    write(&all, out)?;
    Ok(Exit::Done)
}

/// Shows a secret alone on the standard output, so that a script can take it from there.
fn show(app: &str, secret: &AppSecret, out: &mut Output) -> Result<(), Failure> {
    let secret = secret.reveal();
    match out.is_json() {
        true => out.json("app_secret", &SecretRow { app, secret })?,
        false => out.line(secret)?,
    }
    out.flush()?;
    eprintln!(
        "the secret of {} is shown this once, and only its hash is stored",
        harmless(app)
    );
    Ok(())
}

fn of(right: &RightArgs) -> String {
    let (group, topic) = (right.group(), &right.topic);
    format!("topic {topic} in group {group}")
}

impl From<AppsError> for Failure {
    fn from(error: AppsError) -> Self {
        match error {
            AppsError::Key(_)
            | AppsError::Name(_)
            | AppsError::NoApp(_)
            | AppsError::Exists(_)
            | AppsError::NoRight { .. } => Self::Usage(harmless(&chain(&error))),
            AppsError::NoTables => Self::Failed(
                "the tables of the gateway's rights are missing; `final gateway apps create` makes them".into(),
            ),
            AppsError::OldTables => Self::Failed(
                "the tables of the gateway's rights are of an older version; a gateway of this version brings them up to \
                 date when it starts"
                    .into(),
            ),
            error => Self::Failed(chain(&error)),
        }
    }
}
