//! What all commands do that change many rows: plan, show, ask, carry out.
//!
//! ```text
//!   filter or --all ─▶ plan ─┬─ nothing matches ─────────────────────────────▶ exit 4
//!                            ├─ --dry-run ─▶ shown, and kept ───────────────▶ exit 0
//!                            └─ shown ─▶ asked ─┬─ no ─▶ the plan is stopped ▶ exit 5
//!                                               └─ yes ─▶ carried out ──────▶ exit 0, or 1 where not all is done
//! ```

use clap::Args;
use final_core::{
    OutboxDatabase,
    admin::{Action, Count, Operation, OperationState, Pace, Selection},
};

use crate::{
    ask::ConsentArgs,
    exit::{Exit, Failure},
    filter::FilterArgs,
    output::{Output, progress::Progress, text::harmless},
    session::Session,
    views::{OperationView, PlanView},
    who::who,
};

/// The words of a command that changes many rows.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// Takes all, where no filter says which ones
    #[arg(long)]
    all: bool,

    /// Shows the plan and keeps it for `final operations continue`, and changes nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    #[command(flatten)]
    pace: PaceArgs,

    #[command(flatten)]
    consent: ConsentArgs,
}

/// How quickly a plan is carried out.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PaceArgs {
    /// This many a second at most; 0 sets no limit
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    per_second: u32,
}

impl PaceArgs {
    fn pace(self) -> Pace {
        match self.per_second {
            0 => Pace::unlimited(),
            number => Pace::per_second(number),
        }
    }
}

impl ChangeArgs {
    /// Whether the command line says which rows are meant. `more` are words beside the filter's.
    pub(crate) fn check(&self, more: bool) -> Result<(), Failure> {
        match (self.filter.is_empty() && !more, self.all) {
            (true, false) => Err(Failure::usage(
                "this changes rows, so it has to know which ones: give a filter (--topic, --key, --id, --reason, \
                 --older-than), or --all",
            )),
            (false, true) => Err(Failure::usage(
                "--all goes with no filter; leave one of the two out",
            )),
            _ => Ok(()),
        }
    }

    /// From the plan to its end.
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        service: &str,
        action: Action,
        selection: impl Into<Selection>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let admin = session.admin();
        let plan = admin
            .service(service)
            .plan(action, selection, &who())
            .await?;
        if plan.count.is_zero() {
            eprintln!("nothing matches; nothing was changed");
            return Ok(Exit::NothingMatched);
        }
        let shown = match out.is_json() {
            true => out.json("plan", &PlanView::from(&plan)),
            false => PlanView::write(&plan, out),
        };
        if shown.and_then(|()| out.flush()).is_err() {
            admin.stop(plan.id).await?;
            return Err(Failure::Failed(
                "nothing was changed: the plan could not be shown, because the output is closed"
                    .into(),
            ));
        }
        if self.dry_run {
            eprintln!("`final operations continue {}` carries it out", plan.id);
            return Ok(Exit::Done);
        }
        let question = harmless(&format!(
            "{} {} of {service} in {}?",
            capital(action),
            plan.count,
            session.target
        ));
        if !self.consent.ask(&session.context, &question)? {
            admin.stop(plan.id).await?;
            return Ok(Exit::NotConfirmed);
        }
        carry_out(session, plan.id, plan.count, self.pace, out).await
    }
}

/// Carries an operation out. An interrupt stops it between two batches.
pub(crate) async fn carry_out<DB: OutboxDatabase>(
    session: &Session<DB>,
    id: i64,
    total: Count,
    pace: PaceArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let admin = session.admin();
    let progress = Progress::of((!total.more).then_some(total.number));
    let carried_out = admin.carry_out(id, pace.pace(), |at| progress.at(at.done + at.refused));
    // Both go on together: on SQLite the stop waits for the batch in hand.
    let operation = tokio::select! {
        ended = carried_out => ended?,
        interrupted = interrupted(session, id) => return Err(interrupted),
    };
    progress.end();
    ended(&operation, out)
}

/// Stops an operation when the program is interrupted, so that it ends after its batch. Returns only if that fails, or
/// if the program is interrupted once more.
async fn interrupted<DB: OutboxDatabase>(session: &Session<DB>, id: i64) -> Failure {
    if let Err(error) = tokio::signal::ctrl_c().await {
        return Failure::doing("the program cannot be interrupted", &error);
    }
    eprintln!("stopping after the batch in hand; interrupt once more to end at once");
    let admin = session.admin();
    let stopped = async {
        // If the database fails, so does the operation. If the operation has ended meanwhile, nothing is to be stopped.
        let _ = admin.stop(id).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stopped => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Failure::Failed(format!(
        "interrupted; `final operations continue {id}` goes on, half a minute from now at the latest"
    ))
}

fn ended(operation: &Operation, out: &mut Output) -> Result<Exit, Failure> {
    let Operation {
        id, done, refused, ..
    } = operation;
    let shown = match out.is_json() {
        true => out.json("operation", &OperationView::from(operation)),
        false => out.line(&format!("operation {id}: {} done", done)),
    };
    let shown = shown.and_then(|()| out.flush());
    if operation.state != OperationState::Done {
        return Err(Failure::Failed(format!(
            "operation {id} is {}, with {done} done; `final operations continue {id}` goes on",
            operation.state
        )));
    }
    if *refused > 0 {
        let why = operation
            .refusal
            .as_deref()
            .unwrap_or("no reason was given");
        return Err(Failure::Failed(harmless(&format!(
            "{refused} were refused and stay as they are; the last one: {why}"
        ))));
    }
    // Last: what was not done counts more than who reads of it.
    shown?;
    Ok(Exit::Done)
}

/// An action at the beginning of a sentence.
fn capital(action: Action) -> String {
    let word = action.to_string();
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
