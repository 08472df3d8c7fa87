//! The numbers of a capture as text for Prometheus. `docs/capture.md` has a row for each.

use std::fmt::Write as _;

use super::CaptureStats;

const STATES: [&str; 5] = ["standby", "connecting", "streaming", "stopping", "stopped"];

/// The text.
pub(super) fn text(name: &str, stats: &CaptureStats) -> String {
    let mut text = Text {
        text: String::new(),
        name,
    };
    let help = "1 for the state that the capture is in, 0 for the others";
    text.family("state", "gauge", help);
    for state in STATES {
        let now = u64::from(state == stats.state.word());
        text.value("state", &format!(",state=\"{state}\""), now as f64);
    }
    let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64());
    let number = |number: Option<u64>| number.map(|number| number as f64);
    text.alone(
        "lag_seconds",
        "gauge",
        "How long after its commit the last transaction that is done was done",
        seconds(stats.lag),
    );
    text.alone(
        "oldest_unsent_seconds",
        "gauge",
        "How long the oldest message has been read and not proven; 0 if there is none",
        Some(seconds(stats.oldest_unsent).unwrap_or_default()),
    );
    text.alone(
        "retained_bytes",
        "gauge",
        "Bytes that the source keeps for the capture; absent if it does not tell",
        number(stats.retained_bytes),
    );
    text.alone(
        "unread_bytes",
        "gauge",
        "Bytes between what was read and the source's newest; absent if it does not tell",
        number(stats.unread_bytes),
    );
    for (metric, kind, help, value) in [
        (
            "in_hand",
            "gauge",
            "Messages that were read and are not proven",
            stats.in_hand,
        ),
        (
            "parked",
            "gauge",
            "Messages that are parked now",
            stats.parked,
        ),
        (
            "rows_total",
            "counter",
            "Changes that were read",
            stats.rows,
        ),
        (
            "messages_total",
            "counter",
            "Messages that are at the target, parked ones included",
            stats.messages,
        ),
        (
            "transactions_total",
            "counter",
            "Transactions that were read",
            stats.transactions,
        ),
        (
            "sent_again_total",
            "counter",
            "Messages that were sent again",
            stats.sent_again,
        ),
        (
            "parked_total",
            "counter",
            "Messages that this process has parked",
            stats.parked_total,
        ),
        (
            "schema_changes_total",
            "counter",
            "How often the columns of a table were new",
            stats.schema_changes,
        ),
        (
            "reconnects_total",
            "counter",
            "How often the stream ended and was opened again",
            stats.reconnects,
        ),
    ] {
        text.alone(metric, kind, help, Some(value as f64));
    }
    text.text
}

struct Text<'n> {
    text: String,
    name: &'n str,
}

impl Text<'_> {
    fn family(&mut self, metric: &str, kind: &str, help: &str) {
        let name = format!("final_capture_{metric}");
        // Writing to a text does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, metric: &str, labels: &str, value: f64) {
        let capture = self.name;
        let _ = writeln!(
            self.text,
            "final_capture_{metric}{{capture=\"{capture}\"{labels}}} {value}"
        );
    }

    fn alone(&mut self, metric: &str, kind: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.family(metric, kind, help);
            self.value(metric, "", value);
        }
    }
}
