//! `final dead`: dead letters, those of the log and those collected from RabbitMQ.

use clap::{Args, Subcommand};
use final_core::{
    MessageId, OutboxDatabase,
    admin::{Action, ServiceAdmin},
    broker::{DeadLetterFilter, LetterCursor},
};
use uuid::Uuid;

use super::{change::ChangeArgs, list};
use crate::{
    arguments::{FormatArgs, ServiceArgs},
    exit::{Exit, Failure},
    filter::{FilterArgs, USUAL_LIMIT},
    output::{Output, progress::Progress},
    session::Session,
    views::{LetterView, WholeLetterView, letter_table},
};

/// Letters with one id that `show` shows at most.
const SHOWN: u32 = 20;

/// See, replay, discard and export dead letters
#[derive(Debug, Args)]
#[command(after_help = "Example: final dead list --service shop --reason 'timed out'")]
pub(crate) struct DeadArgs {
    #[command(flatten)]
    service: ServiceArgs,

    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(subcommand)]
    command: DeadCommand,
}

#[derive(Debug, Subcommand)]
enum DeadCommand {
    /// List dead letters, the oldest first
    #[command(after_help = "Example: final dead list --topic order.placed --older-than 1h")]
    List(ListArgs),
    /// Show a dead letter with its headers and payload
    #[command(after_help = "Example: final dead show 019372d0-5a5e-7c3a-a4bb-0d9c51c0b7a4")]
    Show {
        /// The id of its message, or its place in the list (`cursor`)
        letter: Named,
    },
    /// Give dead letters back to their service, which alone gets them again
    #[command(after_help = "Example: final dead replay --reason 'timed out' --per-second 50")]
    Replay(ChangeArgs),
    /// Delete dead letters for good
    #[command(after_help = "Example: final dead discard --topic order.placed --older-than 30d")]
    Discard(ChangeArgs),
    /// Write dead letters with their payloads as JSON lines, all that match
    #[command(after_help = "Example: final dead export --topic order.placed > letters.jsonl")]
    Export {
        #[command(flatten)]
        filter: FilterArgs,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Goes on after the cursor of a list before
    #[arg(long, value_name = "CURSOR")]
    after: Option<LetterCursor>,
}

/// How a letter is named.
#[derive(Clone, Debug)]
enum Named {
    Id(Uuid),
    Cursor(LetterCursor),
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = Uuid::try_parse(text) {
            return Ok(Self::Id(id));
        }
        let cursor = text.parse().map(Self::Cursor);
        cursor.map_err(|_| {
            "this is neither the id of a message nor a `cursor` of `final dead list`".into()
        })
    }
}

impl DeadArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        if let DeadCommand::Replay(args) | DeadCommand::Discard(args) = &self.command {
            args.check(false)?;
        }
        let service = session.service(&self.service).await?;
        let admin = session.admin().service(&service);
        match self.command {
            DeadCommand::List(args) => args.run(&admin, out).await,
            DeadCommand::Show { letter } => show(&admin, letter, out).await,
            DeadCommand::Replay(args) => change(args, session, &service, Action::Replay, out).await,
            DeadCommand::Discard(args) => {
                change(args, session, &service, Action::Discard, out).await
            }
            DeadCommand::Export { filter } => export(&admin, &filter, out).await,
        }
    }
}

impl ListArgs {
    async fn run<DB: OutboxDatabase>(
        self,
        admin: &ServiceAdmin<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let filter = self.filter.letters()?;
        let page = async |limit: u32, after: Option<&LetterCursor>| {
            admin
                .letters(&after_cursor(filter.clone().limit(limit), after))
                .await
        };
        let limit = self.filter.limit.unwrap_or(USUAL_LIMIT);
        let json = |letter: &_, out: &mut Output| out.json("letter", &LetterView::from(letter));
        list::pages(limit, self.after, page, letter_table, json, out).await
    }
}

fn after_cursor(filter: DeadLetterFilter, after: Option<&LetterCursor>) -> DeadLetterFilter {
    match after {
        Some(after) => filter.after(*after),
        None => filter,
    }
}

async fn show<DB: OutboxDatabase>(
    admin: &ServiceAdmin<DB>,
    letter: Named,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let cursors = match letter {
        Named::Cursor(cursor) => vec![cursor],
        Named::Id(id) => {
            let filter = DeadLetterFilter::all().id(MessageId(id)).limit(SHOWN);
            let letters = admin.letters(&filter).await?.items;
            letters.iter().map(|letter| letter.cursor).collect()
        }
    };
    let mut found = false;
    for cursor in cursors {
        if let Some(letter) = admin.letter(&cursor).await? {
            if found && !out.is_json() {
                out.line("")?;
            }
            found = true;
            WholeLetterView::new(&letter).write(out)?;
        }
    }
    if !found {
        eprintln!("{} has no such dead letter", admin.name());
        return Ok(Exit::NothingMatched);
    }
    Ok(Exit::Done)
}

async fn change<DB: OutboxDatabase>(
    args: ChangeArgs,
    session: &Session<DB>,
    service: &str,
    action: Action,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let filter = args.filter.letters()?;
    let filter = match args.filter.limit {
        Some(limit) => filter.limit(limit),
        None => filter,
    };
    args.run(session, service, action, filter, out).await
}

async fn export<DB: OutboxDatabase>(
    admin: &ServiceAdmin<DB>,
    filter: &FilterArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let progress = Progress::of(None);
    let letters = filter.letters()?;
    let limit = filter.limit.map_or(u64::MAX, u64::from);
    let (mut written, mut next) = (0_u64, None);
    while written < limit {
        let most = u32::try_from(limit - written).unwrap_or(u32::MAX).min(100);
        let page = after_cursor(letters.clone().limit(most), next.as_ref());
        let page = admin.whole_letters(&page).await?;
        for letter in &page.items {
            out.json("letter", &WholeLetterView::export(letter))?;
            written += 1;
        }
        progress.at(written);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    if written == 0 {
        eprintln!("nothing matches");
        return Ok(Exit::NothingMatched);
    }
    Ok(Exit::Done)
}
