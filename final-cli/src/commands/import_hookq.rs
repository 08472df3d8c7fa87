//! `final log import-hookq`: what a client of hookq has not consumed, into the log.
//!
//! ```text
//!   tables, cursor, backlog ─▶ shown ─┬─ --dry-run ─▶ exit 0
//!                                     └─ asked ─▶ group subscribed ─▶ batches, each with the cursor ─▶ exit 0
//! ```

use clap::Args;
use final_core::{OutboxDatabase, SqlBroker, broker::Broker};
use serde::Serialize;

use crate::{
    ask::ConsentArgs,
    exit::{Exit, Failure},
    hookq::{Backlog, Hookq, KeyFrom, TableName, Target},
    output::{Output, progress::Progress, text::harmless},
    session::Session,
};

/// Copy what a client of hookq has not consumed into the log
///
/// The cursor of the client moves with the copies, so a second run goes on where the first one ended. Stop hookq's
/// producer and the client's consumer before: docs/from-hookq.md has the steps.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: final log import-hookq --topic-table queues.topic_orders --cursor-table \
                        queues.cursor_orders --client billing --topic order.placed --group billing --key-field ID"
)]
pub(crate) struct ImportHookqArgs {
    /// hookq's table of messages (topicTbl), as queues.topic_orders
    #[arg(long, value_name = "TABLE")]
    topic_table: TableName,

    /// hookq's table of cursors (cursorTbl)
    #[arg(long, value_name = "TABLE")]
    cursor_table: TableName,

    /// The client of hookq (id) whose place the service takes
    #[arg(long, value_name = "ID")]
    client: String,

    /// The topic that the messages get in the log
    #[arg(long, value_name = "TOPIC")]
    topic: String,

    /// The service that gets them, and it alone
    #[arg(long, value_name = "NAME")]
    group: String,

    /// Takes a field of the payload as the key, for the order of messages of one key
    #[arg(long, value_name = "FIELD", conflicts_with = "key")]
    key_field: Option<String>,

    /// Gives all messages this key, for one order of all of them, as hookq has it
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// The content type of rows whose protocol is not msgpack
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,

    /// Takes everything for a client that has no cursor yet
    #[arg(long)]
    from_start: bool,

    /// Shows what would be copied, and changes nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    #[command(flatten)]
    consent: ConsentArgs,
}

/// What will be copied, as a line of JSON.
#[derive(Serialize)]
struct PlanRow<'a> {
    client: &'a str,
    group: &'a str,
    topic: &'a str,
    cursor: i64,
    messages: i64,
    bytes: i64,
    last: i64,
}

/// What was copied, as a line of JSON.
#[derive(Serialize)]
struct CopiedRow<'a> {
    client: &'a str,
    group: &'a str,
    topic: &'a str,
    copied: u64,
    cursor: i64,
}

impl ImportHookqArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let Self {
            client,
            topic,
            group,
            ..
        } = &self;
        let (messages, cursors) = (self.topic_table.clone(), self.cursor_table.clone());
        let hookq = Hookq::new(session.pool.clone(), messages, cursors, client.clone()).await?;
        let cursor = self.cursor(&hookq).await?;
        let Backlog {
            messages,
            bytes,
            last,
        } = hookq.backlog(cursor).await?;
        let broker = SqlBroker::new(session.pool.clone());
        let Some(last) = last else {
            eprintln!(
                "client {client:?} has consumed everything up to {cursor}; there is nothing to copy"
            );
            if self.dry_run {
                return Ok(Exit::NothingMatched);
            }
            // Even so: what is published on the log from now on must wait for the service until it starts.
            let question = harmless(&format!(
                "Subscribe {topic} for {group} in the log of {}, so that the log keeps what is published from now on?",
                session.target
            ));
            if !self.consent.ask(&session.context, &question)? {
                return Ok(Exit::NotConfirmed);
            }
            broker.migrate().await?;
            broker.subscribe(group, &[topic]).await?;
            return Ok(Exit::Done);
        };
        match out.is_json() {
            true => out.json(
                "hookq_plan",
                &PlanRow {
                    client,
                    group,
                    topic,
                    cursor,
                    messages,
                    bytes,
                    last,
                },
            )?,
            false => out.line(&harmless(&format!(
                "client {client} has consumed up to {cursor}: {messages} messages follow, up to {last}, {bytes} bytes"
            )))?,
        }
        out.flush()?;
        if self.dry_run {
            return Ok(Exit::Done);
        }
        let question = harmless(&format!(
            "Copy {messages} messages for {group} alone into the log of {}, as {topic}, and move the cursor of client \
             {client} behind them?",
            session.target
        ));
        if !self.consent.ask(&session.context, &question)? {
            return Ok(Exit::NotConfirmed);
        }
        broker.migrate().await?;
        broker.subscribe(group, &[topic]).await?;
        let target = Target {
            broker: &broker,
            service: group,
            topic,
            key: self.key(),
            other_content_type: self.content_type.as_deref(),
        };
        let total = u64::try_from(messages).unwrap_or_default();
        let (copied, cursor) = copy(&hookq, &target, cursor, last, total).await?;
        match out.is_json() {
            true => out.json(
                "hookq_import",
                &CopiedRow {
                    client,
                    group,
                    topic,
                    copied,
                    cursor,
                },
            )?,
            false => out.line(&harmless(&format!(
                "{copied} messages copied for {group}; the cursor of client {client} is at {cursor}"
            )))?,
        }
        out.flush()?;
        let more = hookq.backlog(cursor).await?.messages;
        if more > 0 {
            return Err(Failure::Failed(format!(
                "{more} messages have come meanwhile: a producer of hookq still runs; stop it, and run the import again"
            )));
        }
        Ok(Exit::Done)
    }

    /// Where the client is. A client without a cursor may be a name that was mistyped.
    async fn cursor<DB: OutboxDatabase>(&self, hookq: &Hookq<DB>) -> Result<i64, Failure> {
        match (hookq.cursor().await?, self.from_start) {
            (Some(cursor), false) => Ok(cursor),
            (None, true) => Ok(0),
            (Some(cursor), true) => Err(Failure::usage(format!(
                "client {:?} has a cursor, at {cursor}; leave --from-start out, and the import goes on there",
                self.client
            ))),
            (None, false) => {
                let clients = hookq.clients().await?;
                let known = match clients.is_empty() {
                    true => "no client has one".to_owned(),
                    false => format!("there are cursors of {}", clients.join(", ")),
                };
                Err(Failure::usage(format!(
                    "client {:?} has no cursor in {} ({known}); name one of them, or give --from-start if this client \
                     has consumed nothing",
                    self.client, self.cursor_table
                )))
            }
        }
    }

    fn key(&self) -> KeyFrom {
        match (&self.key, &self.key_field) {
            (Some(key), _) => KeyFrom::Text(key.clone()),
            (None, Some(field)) => KeyFrom::Field(field.clone()),
            (None, None) => KeyFrom::Nowhere,
        }
    }
}

/// Copies batch after batch. An interrupt ends it between two of them, and one more at once.
async fn copy<DB: OutboxDatabase>(
    hookq: &Hookq<DB>,
    target: &Target<'_, DB>,
    mut cursor: i64,
    last: i64,
    total: u64,
) -> Result<(u64, i64), Failure> {
    let progress = Progress::of(Some(total));
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut copied = 0;
    while cursor < last {
        let batch = hookq.copy_batch(target, cursor, last);
        let mut batch = std::pin::pin!(batch);
        let (done, is_interrupted) = tokio::select! {
            biased;
            done = &mut batch => (Some(done), false),
            interrupt = &mut interrupted => {
                interrupt?;
                eprintln!("ending after the batch in hand; interrupt once more to end at once");
                tokio::select! {
                    biased;
                    done = &mut batch => (Some(done), true),
                    // The transaction is rolled back, and the cursor stays.
                    _ = tokio::signal::ctrl_c() => (None, true),
                }
            }
        };
        if let Some(done) = done {
            let (more, now_at) = done?;
            if more == 0 {
                break;
            }
            (copied, cursor) = (copied + more, now_at);
            progress.at(copied);
        }
        if is_interrupted {
            return Err(Failure::Failed(format!(
                "interrupted after {copied} messages, with the cursor at {cursor}; the command goes on there, without \
                 --from-start"
            )));
        }
    }
    progress.end();
    Ok((copied, cursor))
}
