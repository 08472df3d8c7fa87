//! A result: the median of some rounds, and what must hold of it.

use serde::Serialize;

/// The median of some values, and between which they lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value; of none, all are zero.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |n: usize| sorted.get(n).copied().unwrap_or_default();
        let half = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (at(half.saturating_sub(1)) + at(half)) / 2.0
        } else {
            at(half)
        };
        Self {
            median,
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
        }
    }
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Must {
    /// The ratio to the first other side.
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// The median itself.
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

/// One line of the result.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) side: &'static str,
    pub(crate) db: &'static str,
    pub(crate) metric: String,
    pub(crate) spread: Spread,
    /// Ours over the first other side, pair by pair.
    pub(crate) ratio: Option<Spread>,
    pub(crate) must: Option<Must>,
    /// Whether it is counted and not timed, so that any machine gives the same.
    pub(crate) counted: bool,
}

impl Row {
    /// Of one side alone.
    pub(crate) fn alone(
        scenario: &'static str,
        side: &'static str,
        db: &'static str,
        metric: impl Into<String>,
        values: &[f64],
    ) -> Self {
        Self {
            scenario,
            side,
            db,
            metric: metric.into(),
            spread: Spread::of(values),
            ratio: None,
            must: None,
            counted: false,
        }
    }

    /// Says what must hold.
    pub(crate) fn must(mut self, must: Must) -> Self {
        self.must = Some(must);
        self
    }

    /// Whether it holds; `None` where nothing must.
    pub(crate) fn holds(&self) -> Option<bool> {
        let ratio = self.ratio.map(|ratio| ratio.median);
        Some(match self.must? {
            Must::RatioAtLeast(least) => ratio? >= least,
            Must::RatioAtMost(most) => ratio? <= most,
            Must::AtLeast(least) => self.spread.median >= least,
            Must::AtMost(most) => self.spread.median <= most,
            Must::Below(most) => self.spread.median < most,
        })
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "scenario": self.scenario,
            "side": self.side,
            "db": self.db,
            "metric": self.metric,
            "median": self.spread.median,
            "min": self.spread.min,
            "max": self.spread.max,
            "ratio": self.ratio.map(|ratio| ratio.median),
        })
    }
}

/// Ratios of two series, pair by pair.
pub(crate) fn ratios(ours: &[f64], other: &[f64]) -> Spread {
    let pairs = ours.iter().zip(other);
    Spread::of(&pairs.map(|(ours, other)| ours / other).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The second round was slow for both.
        assert_eq!(ratios(&[90.0, 9.0], &[100.0, 10.0]).median, 0.9);
    }
}
