//! The rounds that the peers play with us.

use std::time::Duration;

use crate::{
    Result,
    args::Args,
    contest::{Contest, Job, Outcome, Play, Size},
    report,
    row::{Spread, ratios},
};

/// Plays all that is asked for. `ours` is how we do a job.
pub(crate) async fn play(
    args: &Args,
    contests: &[Contest],
    ours: fn(Job) -> Play,
) -> Result<Vec<Outcome>> {
    // Even then more than two batches of the largest, so that all have to go on.
    let (size, rounds) = if args.smoke {
        (
            Size {
                messages: 1_200,
                time: Duration::from_millis(300),
            },
            1,
        )
    } else {
        (
            Size {
                messages: 20_000,
                time: Duration::from_secs(3),
            },
            6,
        )
    };
    let mut outcomes = Vec::new();
    for contest in contests.iter().copied().filter(|it| args.wants(it)) {
        let said = |error| format!("{} with {}: {error}", contest.job.name(), contest.peer);
        let outcome = rounds_of(contest, ours(contest.job), size, rounds)
            .await
            .map_err(said)?;
        for row in outcome.rows() {
            if args.json {
                println!("{}", row.json());
            } else {
                println!("{}", report::line(&row));
            }
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// A B, B A, …; the first round warms up and does not count, unless it is the only one.
async fn rounds_of(contest: Contest, our_play: Play, size: Size, rounds: usize) -> Result<Outcome> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let sides = [(&mut ours, our_play), (&mut theirs, contest.play)];
        let mut turns = Vec::from(sides);
        turns.rotate_left(round % 2);
        for (rates, play) in turns {
            let rate = play(size).await?;
            if round > 0 || rounds == 1 {
                rates.push(rate);
            }
        }
    }
    Ok(Outcome {
        contest,
        ours: Spread::of(&ours),
        theirs: Spread::of(&theirs),
        ratio: ratios(&ours, &theirs),
    })
}
