//! Sides in turns: A B A B …

use crate::{
    Result,
    row::{Must, Row, Spread, ratios},
};

/// Whose turn it is. The first is always ours.
pub(crate) const OURS: &str = "ours";

/// What each side measured, a value per round.
#[derive(Debug)]
pub(crate) struct Series {
    sides: Vec<(&'static str, Vec<f64>)>,
}

/// Names the one side to play, for a profiler to look at.
const ONLY: &str = "FINAL_BENCH_SIDE";

/// Plays every side once in each round. The order turns from round to round, so that none is always
/// the one that finds the caches warm or the disk busy.
pub(crate) async fn rounds(
    rounds: usize,
    sides: &[&'static str],
    mut play: impl AsyncFnMut(&'static str) -> Result<f64>,
) -> Result<Series> {
    let mut series = Series::of_sides(sides);
    let only = std::env::var(ONLY).ok();
    for round in 0..rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let chosen = |side: &str| only.as_deref().is_none_or(|only| only == side);
            if let Some(side) = sides.get(at).copied().filter(|side| chosen(side)) {
                let value = play(side).await?;
                series.push(side, value);
            }
        }
    }
    Ok(series)
}

impl Series {
    /// Without any round yet.
    pub(crate) fn of_sides(sides: &[&'static str]) -> Self {
        Self {
            sides: sides.iter().map(|side| (*side, Vec::new())).collect(),
        }
    }

    /// Adds what a side measured in a round.
    pub(crate) fn push(&mut self, side: &str, value: f64) {
        if let Some((_, values)) = self.sides.iter_mut().find(|(name, _)| *name == side) {
            values.push(value);
        }
    }

    /// A row for each side. Ours has the ratio to the first other one.
    pub(crate) fn rows(
        &self,
        scenario: &'static str,
        db: &'static str,
        metric: &str,
        must: Option<Must>,
    ) -> Vec<Row> {
        let other = self.sides.get(1).map(|(_, values)| values);
        let row = |(side, values): &(&'static str, Vec<f64>)| Row {
            ratio: other
                .filter(|_| *side == OURS)
                .map(|other| ratios(values, other)),
            must: must.filter(|_| *side == OURS),
            ..Row::alone(scenario, side, db, metric, values)
        };
        self.sides.iter().map(row).collect()
    }

    /// The values of a side.
    pub(crate) fn of(&self, side: &str) -> Spread {
        let found = self.sides.iter().find(|(name, _)| *name == side);
        Spread::of(found.map_or(&[], |(_, values)| values))
    }
}
