//! The text for Prometheus, version 0.0.4 of its format.
//!
//! Input: the numbers of one bus or several. Output: each family once, with its HELP and TYPE and all its series. A
//! family without a number is left out.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::{
    DurationCounts, Metrics, OTHER,
    families::{
        AGE, COMMIT_TO_CONFIRM, CONNECTED, CONSUMED, DATABASE_UP, DEAD_LETTERS, EXPIRED, Family,
        GIVE_UPS, HELD, IN_FLIGHT, LANES, LOG_OLDEST, LOG_WAITING, OLDEST_DUE, PANICS, PARKED,
        PROCESS, READ_ONLY, RECONNECTS, RECORDS, SENT, STATEMENTS,
    },
};

impl Metrics {
    /// The content type of the text, for the answer to a scrape.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Appends the text that Prometheus scrapes.
    ///
    /// ```
    /// # use final_core::metrics::Metrics;
    /// # fn scrape(metrics: Metrics) -> String {
    /// let mut text = String::new();
    /// metrics.write_prometheus(&mut text);
    /// # text
    /// # }
    /// # assert!(scrape(Metrics::default()).contains("\nfinal_broker_connected{service=\"\"} 0\n"));
    /// ```
    pub fn write_prometheus(&self, to: &mut String) {
        Self::write_prometheus_of([self], to);
    }

    /// Appends the text of several buses of one process. A text may have each metric only once, so the texts of
    /// single buses must not stand behind one another.
    pub fn write_prometheus_of<'a>(buses: impl IntoIterator<Item = &'a Self>, to: &mut String) {
        let buses: Vec<_> = buses.into_iter().collect();
        let mut text = Text { buses: &buses, to };
        // Writing into a `String` does not fail.
        let _ = text.write();
    }
}

struct Text<'a> {
    buses: &'a [&'a Metrics],
    to: &'a mut String,
}

/// A label: its name and its value.
type Label<'a> = (&'static str, &'a str);

impl<'a> Text<'a> {
    fn write(&mut self) -> fmt::Result {
        self.write_outbox()?;
        self.write_sent()?;
        self.write_consumed()?;
        self.write_log()?;
        self.count(GIVE_UPS, |bus| bus.database_give_ups)?;
        self.count(RECONNECTS, |bus| bus.reconnects)?;
        self.count(PANICS, |bus| bus.panics)
    }

    fn write_outbox(&mut self) -> fmt::Result {
        self.seconds(OLDEST_DUE, |bus| bus.outbox?.oldest_due)?;
        self.family(RECORDS, |bus, series| {
            let Some(outbox) = bus.outbox else {
                return Ok(());
            };
            let states = [
                ("pending", outbox.pending),
                ("unroutable", outbox.unroutable),
                ("failed", outbox.failed),
            ];
            let mut states = states.into_iter();
            states.try_for_each(|(state, count)| series.one("", &[("state", state)], count))
        })?;
        self.count(PARKED, |bus| bus.parked_topics)?;
        self.count(IN_FLIGHT, |bus| bus.in_flight)?;
        self.count(CONNECTED, |bus| u64::from(bus.connected))?;
        self.maybe(DATABASE_UP, |bus| bus.database_answers.map(u64::from))?;
        self.count(READ_ONLY, |bus| u64::from(bus.read_only))?;
        self.count(EXPIRED, |bus| bus.expired)?;
        self.count(STATEMENTS, |bus| bus.relay_statements)
    }

    fn write_sent(&mut self) -> fmt::Result {
        self.family(SENT, |bus, series| {
            for sent in &bus.sent {
                let topic = sent.topic.as_deref().unwrap_or(OTHER);
                for (answer, count) in &sent.answers {
                    series.one("", &[("topic", topic), ("answer", answer)], *count)?;
                }
            }
            Ok(())
        })?;
        self.family(COMMIT_TO_CONFIRM, |bus, series| {
            let mut sent = bus.sent.iter();
            sent.try_for_each(|sent| series.histogram(&sent.topic, &sent.commit_to_confirm))
        })
    }

    fn write_consumed(&mut self) -> fmt::Result {
        self.family(CONSUMED, |bus, series| {
            for consumed in &bus.consumed {
                let topic = consumed.topic.as_deref().unwrap_or(OTHER);
                for (outcome, count) in &consumed.outcomes {
                    series.one("", &[("topic", topic), ("outcome", outcome)], *count)?;
                }
            }
            Ok(())
        })?;
        self.family(PROCESS, |bus, series| {
            let mut topics = bus.consumed.iter();
            topics.try_for_each(|consumed| series.histogram(&consumed.topic, &consumed.process))
        })?;
        self.family(AGE, |bus, series| {
            let mut topics = bus.consumed.iter();
            topics.try_for_each(|consumed| series.histogram(&consumed.topic, &consumed.age))
        })
    }

    fn write_log(&mut self) -> fmt::Result {
        self.family(LOG_WAITING, |bus, series| match bus.log_waiting {
            Some(waiting) => series.one("", &[("group", &bus.service)], waiting),
            None => Ok(()),
        })?;
        self.family(LOG_OLDEST, |bus, series| match bus.log_oldest {
            Some(oldest) => series.one("", &[("group", &bus.service)], Seconds(oldest)),
            None => Ok(()),
        })?;
        self.maybe(DEAD_LETTERS, |bus| bus.dead_letters)?;
        self.maybe(LANES, |bus| bus.lanes_held)?;
        self.maybe(HELD, |bus| bus.messages_held)
    }

    fn count(&mut self, family: Family, value: impl Fn(&Metrics) -> u64) -> fmt::Result {
        self.family(family, |bus, series| series.one("", &[], value(bus)))
    }

    fn maybe(&mut self, family: Family, value: impl Fn(&Metrics) -> Option<u64>) -> fmt::Result {
        self.family(family, |bus, series| match value(bus) {
            Some(value) => series.one("", &[], value),
            None => Ok(()),
        })
    }

    fn seconds(
        &mut self,
        family: Family,
        value: impl Fn(&Metrics) -> Option<Duration>,
    ) -> fmt::Result {
        self.family(family, |bus, series| match value(bus) {
            Some(value) => series.one("", &[], Seconds(value)),
            None => Ok(()),
        })
    }

    /// Writes a family: its series of each bus, with the head before the first of them.
    fn family(
        &mut self,
        family: Family,
        series: impl Fn(&Metrics, &mut Series<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut has_head = false;
        for bus in self.buses {
            let mut of_bus = Series {
                family,
                service: &bus.service,
                has_head,
                to: self.to,
            };
            series(bus, &mut of_bus)?;
            has_head = of_bus.has_head;
        }
        Ok(())
    }
}

/// The series of one family and one bus.
struct Series<'a> {
    family: Family,
    service: &'a str,
    has_head: bool,
    to: &'a mut String,
}

impl Series<'_> {
    /// Writes one line.
    fn one(&mut self, suffix: &str, labels: &[Label<'_>], value: impl fmt::Display) -> fmt::Result {
        let Family { name, kind, help } = self.family;
        if !self.has_head {
            self.has_head = true;
            writeln!(
                self.to,
                "# HELP {name} {help}\n# TYPE {name} {}",
                kind.as_str()
            )?;
        }
        write!(
            self.to,
            "{name}{suffix}{{service=\"{}\"",
            Escaped(self.service)
        )?;
        for (label, value) in labels {
            write!(self.to, ",{label}=\"{}\"", Escaped(value))?;
        }
        writeln!(self.to, "}} {value}")
    }

    /// Writes the lines of a histogram.
    fn histogram(&mut self, topic: &Option<String>, counts: &DurationCounts) -> fmt::Result {
        let topic = topic.as_deref().unwrap_or(OTHER);
        for (bound, count) in counts.at_most() {
            let bound = bound.map_or("+Inf".to_owned(), |bound| Seconds(bound).to_string());
            self.one("_bucket", &[("topic", topic), ("le", &bound)], count)?;
        }
        let labels = [("topic", topic)];
        self.one("_sum", &labels, Seconds(counts.sum()))?;
        self.one("_count", &labels, counts.count())
    }
}

/// A length of time in seconds.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

/// The value of a label, in quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests;
