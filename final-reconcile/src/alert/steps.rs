//! What changes among the alerts of a job.
//!
//! Input: what is in trouble now, and what is written down. Output: steps.

use super::{Trouble, row::AlertRow};

/// A change of what is written down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'s> {
    /// A new trouble, to be told at once.
    Begin(&'s Trouble),
    /// The trouble is back before its end was told. It is told when it would have been.
    Again(&'s AlertRow),
    /// It has another reason now.
    Because(&'s AlertRow, &'s Trouble),
    /// It is over, which is to be told at once.
    Over(&'s AlertRow),
}

/// The steps, in any order.
pub(super) fn steps<'s>(troubles: &'s [Trouble], alerts: &'s [AlertRow]) -> Vec<Step<'s>> {
    let mut steps = Vec::new();
    for trouble in troubles {
        match alerts.iter().find(|alert| alert.is_about(trouble)) {
            None => steps.push(Step::Begin(trouble)),
            Some(alert) => {
                if alert.is_over != 0 {
                    steps.push(Step::Again(alert));
                }
                if alert.last_error != trouble.error {
                    steps.push(Step::Because(alert, trouble));
                }
            }
        }
    }
    let is_well = |alert: &&AlertRow| {
        alert.is_over == 0 && !troubles.iter().any(|trouble| alert.is_about(trouble))
    };
    steps.extend(alerts.iter().filter(is_well).map(Step::Over));
    steps
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::{alert::TroubleKind, unit::UnitName};

    fn unit(target: &str) -> UnitName {
        UnitName::new("people", "source", target)
    }

    fn trouble(target: &str, error: &str) -> Trouble {
        Trouble {
            unit: Arc::new(unit(target)),
            kind: TroubleKind::Repairs,
            error: error.into(),
            since: None,
        }
    }

    fn alert(target: &str, is_over: i64) -> AlertRow {
        AlertRow {
            slot: target.into(),
            id: Uuid::nil(),
            unit: unit(target).name,
            source: "source".into(),
            target: target.into(),
            kind: "repairs".into(),
            first_seen: 1,
            last_error: "500".into(),
            is_over,
            told: 1,
            attempts: 0,
        }
    }

    #[test]
    fn a_trouble_is_written_down_once_and_its_end_once() {
        let now = [trouble("a", "500"), trouble("b", "500")];
        let (a, b, gone) = (alert("a", 0), alert("b", 1), alert("gone", 0));
        assert_eq!(
            steps(&now, &[]),
            [Step::Begin(&now[0]), Step::Begin(&now[1])]
        );
        let alerts = [a, b, gone];
        assert_eq!(
            steps(&now, &alerts),
            [Step::Again(&alerts[1]), Step::Over(&alerts[2])]
        );
        let told = [alert("gone", 1)];
        assert_eq!(steps(&[], &told), []);
    }

    #[test]
    fn another_reason_is_written_down() {
        let (now, alerts) = ([trouble("a", "404")], [alert("a", 0)]);
        assert_eq!(steps(&now, &alerts), [Step::Because(&alerts[0], &now[0])]);
    }
}
