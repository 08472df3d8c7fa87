//! The families: name, type and help of each metric, as `docs/metrics.md` has them.

/// A metric, with all its series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// Writes a constant for each family, and the list of all.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal, $help:literal;)+) => {
        $(
            pub(super) const $constant: Family = Family {
                name: $name,
                kind: Kind::$kind,
                help: $help,
            };
        )+
        #[cfg(test)]
        pub(super) const ALL: &[Family] = &[$($constant),+];
    };
}

families! {
    OLDEST_DUE: Gauge "final_outbox_oldest_due_seconds",
        "How long the oldest record has been due; absent if nothing is due";
    RECORDS: Gauge "final_outbox_records", "Records in the outbox, by state";
    PARKED: Gauge "final_outbox_parked_topics", "Topics that nothing can be sent to now";
    IN_FLIGHT: Gauge "final_outbox_in_flight", "Messages sent by this process and not settled";
    CONNECTED: Gauge "final_broker_connected", "1 if the broker takes messages now";
    DATABASE_UP: Gauge "final_database_up",
        "1 if the database answered when it was asked for this scrape; if not, what it counts is absent";
    READ_ONLY: Gauge "final_database_read_only", "1 if the database takes no writes";
    SENT: Counter "final_outbox_sent_total", "Answers of the broker to messages, by topic and answer";
    EXPIRED: Counter "final_outbox_expired_total",
        "Records removed because their time to live was over";
    STATEMENTS: Counter "final_outbox_statements_total", "Statements of the relay";
    COMMIT_TO_CONFIRM: Histogram "final_outbox_commit_to_confirm_seconds",
        "From the COMMIT of a message until the broker has stored it";
    CONSUMED: Counter "final_consume_total", "What became of deliveries, by topic and outcome";
    PROCESS: Histogram "final_process_seconds", "How long an attempt took: layers and handler";
    AGE: Histogram "final_consume_age_seconds", "Age of messages when they were handled";
    LOG_WAITING: Gauge "final_log_waiting", "Messages in the log that the group has not read";
    LOG_OLDEST: Gauge "final_log_oldest_seconds",
        "Age of the oldest message in the log that the group has not settled; absent if there is none";
    DEAD_LETTERS: Gauge "final_dead_letters", "Dead letters of the service in the database";
    LANES: Gauge "final_lanes_held", "Lanes of the log that this process has";
    HELD: Gauge "final_messages_held", "Messages that this process holds because their handlers have failed";
    GIVE_UPS: Counter "final_db_give_ups_total", "Statements that the database did not answer in time";
    RECONNECTS: Counter "final_reconnects_total", "Connections to the broker made anew";
    PANICS: Counter "final_panics_total", "Panics caught, of handlers, layers, hooks and tasks";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page is read by people who write queries. A metric that it does not have does not exist for them.
    #[test]
    fn the_page_has_each_metric_with_its_type_and_help_and_no_other() {
        let page = include_str!("../../../docs/metrics.md");
        let rows = page.lines().filter(|line| line.starts_with("| `final_"));
        let mut said: Vec<(String, String, String)> = rows
            .map(|row| {
                let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
                let [name, kind, _labels, help] = cells[..] else {
                    panic!("four columns: {row}");
                };
                (
                    name.trim_matches('`').to_owned(),
                    kind.to_owned(),
                    help.to_owned(),
                )
            })
            .collect();
        let mut have: Vec<_> = ALL
            .iter()
            .map(|family| {
                let kind = family.kind.as_str();
                (
                    family.name.to_owned(),
                    kind.to_owned(),
                    family.help.to_owned(),
                )
            })
            .collect();
        said.sort();
        have.sort();
        assert_eq!(said, have);
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for family in ALL {
            let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(family.name.chars().all(is_plain), "{}", family.name);
            let is_counter = family.kind == Kind::Counter;
            assert_eq!(
                family.name.ends_with("_total"),
                is_counter,
                "{}",
                family.name
            );
            assert!(!family.help.contains(['\n', '\\']), "{}", family.name);
        }
    }
}
