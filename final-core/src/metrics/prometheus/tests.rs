//! The text is read back as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::metrics::{ConsumedTopic, Histogram, OutboxCounts, SentTopic};

/// A line of the text: name, labels, value.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads the text, and checks what Prometheus demands of it: each family in one piece behind its head, no series
/// twice.
fn read(text: &str) -> Vec<Sample> {
    let (mut samples, mut families) = (Vec::new(), BTreeSet::new());
    let (mut seen, mut family) = (BTreeSet::new(), String::new());
    assert!(text.is_empty() || text.ends_with('\n'));
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} twice");
            let kind = lines.next().unwrap();
            assert!(kind.starts_with(&format!("# TYPE {name} ")), "{kind}");
            family = name.to_owned();
            continue;
        }
        let sample = sample(line);
        assert!(sample.name.starts_with(&family), "{line} in {family}");
        let key = format!("{} {:?}", sample.name, sample.labels);
        assert!(seen.insert(key), "twice: {line}");
        samples.push(sample);
    }
    samples
}

fn sample(line: &str) -> Sample {
    let (name, rest) = line.split_once('{').unwrap();
    let (mut labels, mut rest) = (BTreeMap::new(), rest);
    loop {
        let (label, after) = rest.split_once("=\"").unwrap();
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c => c,
                }),
                (_, c) => value.push(c),
            }
        };
        assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    let value = rest.strip_prefix("} ").unwrap().parse().unwrap();
    Sample {
        name: name.to_owned(),
        labels,
        value,
    }
}

fn text(buses: &[Metrics]) -> String {
    let mut text = String::new();
    Metrics::write_prometheus_of(buses, &mut text);
    text
}

fn sent(topic: &str) -> SentTopic {
    SentTopic {
        topic: Some(topic.to_owned()),
        answers: vec![("stored", 3), ("lost", 0)],
        ..SentTopic::default()
    }
}

#[test]
fn the_text_is_what_prometheus_scrapes() {
    let histogram = Histogram::default();
    for millis in [3, 3, 70, 4_000_000] {
        histogram.observe(Duration::from_millis(millis));
    }
    let metrics = Metrics {
        service: "shop".to_owned(),
        database_answers: Some(true),
        outbox: Some(OutboxCounts {
            pending: 7,
            failed: 1,
            oldest_due: Some(Duration::from_millis(1_500)),
            ..OutboxCounts::default()
        }),
        consumed: vec![ConsumedTopic {
            topic: Some("placed".to_owned()),
            outcomes: vec![("done", 4)],
            process: histogram.read(),
            ..ConsumedTopic::default()
        }],
        ..Metrics::default()
    };
    let text = text(&[metrics]);

    let head = "\
# HELP final_outbox_oldest_due_seconds How long the oldest record has been due; absent if nothing is due
# TYPE final_outbox_oldest_due_seconds gauge
final_outbox_oldest_due_seconds{service=\"shop\"} 1.5
# HELP final_outbox_records Records in the outbox, by state
# TYPE final_outbox_records gauge
final_outbox_records{service=\"shop\",state=\"pending\"} 7
final_outbox_records{service=\"shop\",state=\"unroutable\"} 0
final_outbox_records{service=\"shop\",state=\"failed\"} 1
";
    assert!(text.starts_with(head), "{text}");
    for line in [
        "final_process_seconds_bucket{service=\"shop\",topic=\"placed\",le=\"0.0025\"} 0",
        "final_process_seconds_bucket{service=\"shop\",topic=\"placed\",le=\"0.005\"} 2",
        "final_process_seconds_bucket{service=\"shop\",topic=\"placed\",le=\"0.1\"} 3",
        "final_process_seconds_bucket{service=\"shop\",topic=\"placed\",le=\"3600\"} 3",
        "final_process_seconds_bucket{service=\"shop\",topic=\"placed\",le=\"+Inf\"} 4",
        "final_process_seconds_sum{service=\"shop\",topic=\"placed\"} 4000.076",
        "final_process_seconds_count{service=\"shop\",topic=\"placed\"} 4",
        "final_database_up{service=\"shop\"} 1",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} in\n{text}");
    }
    read(&text);
}

#[test]
fn what_is_not_known_is_absent() {
    let text = text(&[Metrics::default()]);

    for name in [
        "final_outbox_records",
        "final_outbox_oldest_due_seconds",
        "final_database_up",
        "final_log_waiting",
        "final_lanes_held",
        "final_messages_held",
        "final_dead_letters",
    ] {
        assert!(!text.contains(name), "{name} in\n{text}");
    }
    assert!(text.contains("final_broker_connected{service=\"\"} 0\n"));
}

#[test]
fn several_buses_share_each_family() {
    let bus = |service: &str| Metrics {
        service: service.to_owned(),
        sent: vec![sent("placed")],
        log_waiting: (service == "shop").then_some(2),
        ..Metrics::default()
    };
    let samples = read(&text(&[bus("billing"), bus("shop")]));

    let of = |name: &str| samples.iter().filter(|sample| sample.name == name).count();
    assert_eq!(of("final_outbox_sent_total"), 4);
    assert_eq!(of("final_log_waiting"), 1);
    assert_eq!(text(&[]), "");
}

proptest! {
    #[test]
    fn a_topic_comes_back_as_it_was_whatever_is_in_it(topic in "[\\PC\"\\\\\n]{0,30}") {
        let metrics = Metrics {
            service: "shop".to_owned(),
            sent: vec![sent(&topic)],
            ..Metrics::default()
        };
        let samples = read(&text(&[metrics]));

        let stored: Vec<_> = samples
            .iter()
            .filter(|sample| sample.labels.get("answer").is_some_and(|answer| answer == "stored"))
            .collect();
        prop_assert_eq!(stored.len(), 1);
        prop_assert_eq!(stored[0].labels.get("topic"), Some(&topic));
        prop_assert_eq!(stored[0].value, 3.0);
    }
}
