//! `final tail TOPIC…`: messages as they are published, of the log or of RabbitMQ.
//!
//! Input: topics, and a log or a RabbitMQ. Output: each message that is published from now on, until it is
//! interrupted. No service's messages are taken, and no group or queue stays behind.

use std::time::Duration;

use clap::Args;
use final_core::{Message, OutboxDatabase, admin::LogTail};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    arguments::FormatArgs,
    ask::ConsentArgs,
    broker::BrokerArgs,
    exit::{Exit, Failure},
    output::{
        Output,
        text::harmless,
        time::{self, utc},
    },
    session::{Place, Session},
    views::MessageView,
};

/// How long a log without news is left alone.
const PAUSE: Duration = Duration::from_millis(200);

/// Show messages as they are published
///
/// It reads the log of the database from its end; with --rabbitmq the exchanges of the topics.
#[derive(Debug, Args)]
#[command(after_help = "Example: final tail order.placed order.cancelled --json")]
pub(crate) struct TailArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    #[command(flatten)]
    broker: BrokerArgs,

    /// Shows only what this service gets besides all others: replayed letters come to one service alone
    #[arg(long, short, value_name = "NAME", conflicts_with = "rabbitmq")]
    service: Option<String>,

    /// Ends after so many messages
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,

    /// Ends after this time
    #[arg(long = "for", value_name = "TIME", value_parser = time::parse)]
    duration: Option<Duration>,

    #[command(flatten)]
    consent: ConsentArgs,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Serialize)]
struct Seen<'a> {
    message_id: Option<String>,
    topic: Option<&'a str>,
    key: Option<&'a str>,
    seq: Option<i64>,
    written_at: Option<String>,
    recipient: Option<&'a str>,
    #[serde(flatten)]
    message: MessageView,
}

impl TailArgs {
    /// Whether it looks at RabbitMQ.
    pub(crate) fn is_on_rabbitmq(&self) -> bool {
        self.broker.is_named()
    }

    pub(crate) async fn run_with_broker(
        self,
        at: &Place,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let broker = self.broker.find(&at.context)?.ok_or_else(|| {
            Failure::usage("no RabbitMQ is named; give its URL, or a context with `rabbitmq_url`")
        })?;
        let topics = self.topics.join(", ");
        let question = harmless(&format!(
            "While this runs, a message of {topics} that no service's queue takes counts as delivered in {}, and \
             only this tail gets it. Go on?",
            broker.place
        ));
        if !self.consent.ask(&at.context, &question)? {
            return Ok(Exit::NotConfirmed);
        }
        let mut tail = broker.amqp.tail(&self.topics).await?;
        eprintln!("looking on");
        let ended = self
            .until_the_end(async |left| {
                let mut left = left;
                while left > 0 {
                    let message = tail.next().await?;
                    write(&seen(&message), &message, out)?;
                    left -= 1;
                }
                Ok(())
            })
            .await;
        tail.close().await;
        ended
    }

    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let mut tail = LogTail::open(session.pool.clone(), &self.topics).await?;
        eprintln!("looking on");
        let service = self.service.as_deref();
        self.until_the_end(async |left| {
            let mut left = left;
            loop {
                let entries = tail.next().await?;
                let is_empty = entries.is_empty();
                for entry in entries {
                    if service.is_some()
                        && entry.recipient.is_some()
                        && entry.recipient.as_deref() != service
                    {
                        continue;
                    }
                    if left == 0 {
                        return Ok(());
                    }
                    left -= 1;
                    let shown = Seen {
                        message_id: Some(entry.id.to_string()),
                        topic: Some(&entry.topic),
                        seq: Some(entry.seq),
                        written_at: Some(utc(entry.written_at)),
                        recipient: entry.recipient.as_deref(),
                        ..seen(&entry.message)
                    };
                    write(&shown, &entry.message, out)?;
                }
                if left == 0 {
                    return Ok(());
                }
                if is_empty {
                    sleep(PAUSE).await;
                }
            }
        })
        .await
    }

    /// Runs until enough is seen, the time is over, or it is interrupted.
    async fn until_the_end(
        &self,
        look: impl AsyncFnOnce(u64) -> Result<(), Failure>,
    ) -> Result<Exit, Failure> {
        let over = async {
            match self.duration {
                Some(duration) => sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            looked = look(self.limit.unwrap_or(u64::MAX)) => looked.map(|()| Exit::Done),
            () = over => Ok(Exit::Done),
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                Ok(Exit::Done)
            }
        }
    }
}

fn seen(message: &Result<Message, String>) -> Seen<'_> {
    let known = message.as_ref().ok();
    Seen {
        message_id: known
            .filter(|message| message.is_identified())
            .map(|message| message.id().to_string()),
        topic: known.map(Message::topic),
        key: known.and_then(Message::key),
        seq: None,
        written_at: None,
        recipient: None,
        message: MessageView::new(message),
    }
}

/// One message: a line of JSON, or a line for a person.
fn write(
    seen: &Seen<'_>,
    message: &Result<Message, String>,
    out: &mut Output,
) -> Result<(), Failure> {
    if out.is_json() {
        out.json("message", seen)?;
        return out.flush();
    }
    let key = seen
        .key
        .map(|key| format!(" key={key}"))
        .unwrap_or_default();
    let to = seen
        .recipient
        .map(|to| format!(" to={to}"))
        .unwrap_or_default();
    let headers: String = message
        .iter()
        .flat_map(|message| message.headers().iter())
        .map(|(name, value)| format!(" {name}={value}"))
        .collect();
    out.line(&format!(
        "{} {}{} {}",
        seen.message_id.as_deref().unwrap_or("-"),
        harmless(seen.topic.unwrap_or("-")),
        harmless(&format!("{key}{to}{headers}")),
        seen.message.payload_text()
    ))?;
    out.flush()
}
