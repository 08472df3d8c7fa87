//! One run, from the first sale to the last check.

use std::{collections::HashSet, path::Path, time::Duration};

use lapin::{Connection, ConnectionProperties, options::BasicGetOptions};
use tokio::time::{Instant, sleep};

use super::{
    now,
    plan::{Plan, Step, Transport},
    report::{Report, Told},
    stage::Stage,
    work::{Behavior, Role, Sold},
};
use crate::{Error, Result, eventually};

/// The first fault comes after so many messages. If a node of RabbitMQ 3.10 is killed right after the first
/// declaration of a quorum queue, the queue stays without a leader for good.
const WARM_UP: usize = 3_000;
/// The same on the log, which a fault may hit at any time.
const LOG_WARM_UP: usize = 300;
/// How long traffic may take to flow again, or an outbox to run empty, before it counts as stuck. A machine
/// with other work may be slow.
const STUCK: Duration = Duration::from_secs(300);
/// How long after a fault a repeat may still come: leases have to run out, and redeliveries wait in the
/// queue.
const AFTERMATH: Duration = Duration::from_secs(20);

/// Runs the plan with workers of this program, and returns the report.
///
/// # Errors
///
/// Fails if the servers or the workers cannot be started. Broken promises are in the report.
pub async fn run(plan: &Plan, worker: &Path) -> Result<Report> {
    let stage = Stage::open(plan, worker).await?;
    let mut report = Report::new(plan);
    say(&format!("{report}; journals in {}", stage.dir().display()));
    let warm_up = match plan.transport {
        Transport::RabbitMq => WARM_UP,
        Transport::Log => LOG_WARM_UP,
    };
    eventually("traffic", STUCK, async || match stage.books() {
        Ok(books) if books.handled() > warm_up => Ok(()),
        Ok(books) => Err(format!("{} messages handled", books.handled())),
        Err(error) => Err(error.to_string()),
    })
    .await;

    let start = Instant::now();
    for step in plan.steps() {
        if step.is_extra && start.elapsed() > plan.time {
            break;
        }
        play(&stage, &step, start, &mut report).await?;
        sleep(step.pause).await;
    }
    report.time = start.elapsed();
    // After this pause no repeat may come.
    sleep(AFTERMATH).await;
    stage.hold_sellers().await?;
    settle(&stage, &mut report).await?;
    report.problems.extend(stage.stop_all().await);

    let dead = match plan.transport {
        Transport::RabbitMq => dead_letters(&stage).await?,
        Transport::Log => letters(&stage).await?,
    };
    let sales = stage.sales().await?;
    let books = stage.books()?;
    report.close(&books, books.check(&sales, &dead));
    Ok(report)
}

/// Causes the faults of a step, and waits until new messages are handled again.
async fn play(stage: &Stage, step: &Step, start: Instant, report: &mut Report) -> Result<()> {
    let names: Vec<_> = step
        .faults
        .iter()
        .map(|one| one.fault.to_string())
        .collect();
    let begin = now();
    let faults = step.faults.iter().map(|planned| stage.inject(*planned));
    let mut hit = Vec::new();
    for done in futures::future::join_all(faults).await {
        hit.extend(done?);
    }
    let healed = now();
    let flow = flows_again(stage, healed).await?;
    let caught_up = match flow {
        Some(_) => caught_up(stage, healed).await?,
        None => None,
    };
    let seconds = |at: u64| at.saturating_sub(healed) as f64 / 1e6;
    let told = Told {
        faults: step.faults.iter().map(|one| one.fault).collect(),
        hit,
        begin,
        end: now() + AFTERMATH.as_micros() as u64,
        recovery: flow.map(seconds),
        caught_up: caught_up.map(seconds),
    };
    say(&format!(
        "{:>5.0} s  {:<60} {} s away, flows after {}, caught up after {}",
        start.elapsed().as_secs_f64(),
        names.join(" + "),
        (healed - begin) / 1_000_000,
        told.shown(told.recovery),
        told.shown(told.caught_up),
    ));
    report.add(told);
    Ok(())
}

/// Waits until a new message of every seller was handled and every subscriber has handled something. Returns
/// the time of that.
async fn flows_again(stage: &Stage, since: u64) -> Result<Option<u64>> {
    let end = Instant::now() + STUCK;
    while Instant::now() < end {
        let born = stage.born().await;
        let latest = {
            let books = stage.books()?;
            let each = born.iter().map(|(role, born)| match role {
                Role::Seller => books.sold_after(*born, since),
                Role::Mail | Role::Audit => books.handled_after(*born, since),
            });
            each.collect::<Option<Vec<_>>>()
        };
        if let Some(latest) = latest {
            return Ok(latest.into_iter().max());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(None)
}

/// Waits until everything that was committed before is handled. Returns the time of that.
async fn caught_up(stage: &Stage, then: u64) -> Result<Option<u64>> {
    let end = Instant::now() + STUCK;
    while Instant::now() < end {
        if stage.books()?.is_caught_up(then) {
            return Ok(Some(now()));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(None)
}

/// Waits until every message is handled and every record is gone.
async fn settle(stage: &Stage, report: &mut Report) -> Result<()> {
    let end = Instant::now() + STUCK;
    loop {
        if stage.is_quiet().await? {
            return Ok(());
        }
        if Instant::now() > end {
            let sales = stage.sales().await?;
            let open = stage.books()?.unhandled(&sales);
            let (records, failed) = stage.records().await?;
            report.stuck = records;
            report.failed = failed;
            report.problems.push(format!(
                "after {STUCK:?} of quiet {open} messages are not handled, {records} records are in the outboxes, {failed} of them failed, or something is still being written"
            ));
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The messages in the dead-letter queues.
async fn dead_letters(stage: &Stage) -> Result<HashSet<(i64, u8)>> {
    let refused = |cause: lapin::Error| {
        Error::new(
            format!("RabbitMQ does not give its dead letters: {cause}"),
            "see the server's log",
        )
    };
    let url = stage.rabbit()?.url();
    let connection = Connection::connect(&url, ConnectionProperties::default())
        .await
        .map_err(refused)?;
    let channel = connection.create_channel().await.map_err(refused)?;
    let mut dead = HashSet::new();
    for role in [Role::Mail, Role::Audit] {
        let queue = format!("{}_dlx", role.service());
        let take = BasicGetOptions { no_ack: true };
        // A quorum queue may answer that it is empty while it is not, so it is asked again.
        let mut looks = 0;
        while looks < 20 {
            let got = channel
                .basic_get(queue.as_str().into(), take)
                .await
                .map_err(refused)?;
            let Some(message) = got else {
                looks += 1;
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            looks = 0;
            let sold = rmp_serde::from_slice(&message.delivery.data).ok();
            let why = message.delivery.properties.headers();
            note_dead_letter(stage, &mut dead, sold, &format!("{why:?}"))?;
        }
    }
    Ok(dead)
}

/// The dead letters of the log.
async fn letters(stage: &Stage) -> Result<HashSet<(i64, u8)>> {
    let mut dead = HashSet::new();
    for role in [Role::Mail, Role::Audit] {
        for (sold, why) in stage.database.letters(role.service()).await? {
            note_dead_letter(stage, &mut dead, sold, &why)?;
        }
    }
    Ok(dead)
}

/// Notes a dead letter. One whose handler does not always fail is a problem.
fn note_dead_letter(
    stage: &Stage,
    dead: &mut HashSet<(i64, u8)>,
    sold: Option<Sold>,
    why: &str,
) -> Result<()> {
    match sold {
        Some(sold) if Behavior::of(sold.sale, sold.index).is_poison() => {
            dead.insert((sold.sale, sold.index));
        }
        other => stage.books()?.problems.push(format!(
            "a dead letter that should be none: {other:?}, {why}"
        )),
    }
    Ok(())
}

fn say(line: &str) {
    eprintln!("{line}");
}
