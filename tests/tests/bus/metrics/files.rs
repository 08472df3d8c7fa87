//! The files for Prometheus and Grafana name nothing that does not exist.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use final_core::Metrics;
use final_tests::{WorkDir, eventually, promtool};

use super::sum;
use crate::{
    house::{House, SOON},
    transport::{Log, Rabbit},
};

fn docs(file: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    fs::read_to_string(docs.join(file)).expect(file)
}

/// All words of a text that begin as our metrics do.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("final_")).collect()
}

/// What two buses of one process say: one on RabbitMQ, and one on the log.
async fn scrape_of_everything() -> String {
    let shop = House::<sqlx::Postgres, Rabbit>::new().await;
    let billing = House::<sqlx::Postgres, Log>::new().await;
    let (to_rabbit, _) = shop.start_connected(shop.options(), &["placed"]).await;
    let (to_log, _) = billing.start_noting(billing.options(), &["placed"]).await;
    // Gauges of what waits are there while something does: a record that is due, and a message that is not settled.
    to_rabbit
        .publish("topic.without.a.queue", &1_i64)
        .await
        .expect("publish");
    let topic = billing.topic("placed");
    let text = eventually("every gauge", SOON, async || {
        to_log.publish(&topic, &1_i64).await.expect("publish");
        let metrics = [to_rabbit.metrics().await, to_log.metrics().await];
        let mut text = String::new();
        Metrics::write_prometheus_of(&metrics, &mut text);
        let is_there = sum(&text, "final_outbox_oldest_due_seconds", "").is_some()
            && sum(&text, "final_log_oldest_seconds", "").is_some();
        // An answer is kept for 5 s.
        tokio::time::sleep(Duration::from_millis(100)).await;
        is_there.then_some(text).ok_or(())
    })
    .await;
    to_rabbit.shutdown().await.expect("shutdown");
    to_log.shutdown().await.expect("shutdown");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_of_dashboard_alerts_and_runbook_is_in_a_scrape() {
    let text = scrape_of_everything().await;
    let remarks = promtool::check_metrics(&text).expect("promtool reads the text");
    assert!(!remarks.contains("error while"), "{remarks}");

    let there = metrics_in(&text);
    for file in ["grafana.json", "alerts.yml", "runbook.md", "metrics.md"] {
        let named = docs(file);
        // A name in prose may stand for several, as `final_log_*`.
        let missing: Vec<_> = metrics_in(&named)
            .into_iter()
            .filter(|name| !name.ends_with('_') && !there.contains(name))
            .collect();
        assert_eq!(missing, Vec::<&str>::new(), "in {file}");
    }
    // And the other way round: what is counted is to be seen.
    let seen = docs("grafana.json");
    let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for name in heads.filter_map(|head| head.split(' ').next()) {
        assert!(seen.contains(name), "{name} is not on the dashboard");
    }
}

#[test]
fn prometheus_takes_the_alerts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.yml");
    let checked = promtool::run(&["check", "rules", &file.to_string_lossy()]);
    let checked = checked.expect("promtool takes the rules");
    assert!(checked.contains("SUCCESS"), "{checked}");
}

#[test]
fn each_alert_has_a_section_of_the_runbook_with_a_command() {
    let (alerts, runbook) = (docs("alerts.yml"), docs("runbook.md"));
    let mut names = Vec::new();
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap_or_default();
        let anchor = format!("runbook_url: docs/runbook.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&anchor), "{name} names {anchor}");
        let section = runbook.split(&format!("\n## {name}\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("no section {name}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        let has_command = section.contains("\nfinal ") || section.contains("`final ");
        assert!(has_command, "no command for {name}");
        names.push(name);
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(names, sections.collect::<Vec<_>>());
}

/// A part of the name of a series, and the values that it has instead.
type Differing = (&'static str, &'static str);

/// Each alert fires for what it is about, and none for a service that is well.
#[test]
fn each_alert_fires_for_its_own_trouble_alone() {
    // The series of a service that is well, and for each alert those that differ.
    let well = [
        (
            r#"final_outbox_records{service="shop",instance="a",state="failed"}"#,
            "0x30",
        ),
        (
            r#"final_outbox_parked_topics{service="shop",instance="a"}"#,
            "0x30",
        ),
        (
            r#"final_broker_connected{service="shop",instance="a"}"#,
            "1x30",
        ),
        (r#"final_database_up{service="shop",instance="a"}"#, "1x30"),
        (
            r#"final_database_read_only{service="shop",instance="a"}"#,
            "0x30",
        ),
        (
            r#"final_outbox_sent_total{service="shop",instance="a",topic="placed",answer="stored"}"#,
            "0+60x30",
        ),
        (
            r#"final_consume_total{service="shop",instance="a",topic="placed",outcome="done"}"#,
            "0+60x30",
        ),
        (
            r#"final_consume_total{service="shop",instance="a",topic="placed",outcome="dead"}"#,
            "4x30",
        ),
        (
            r#"final_consume_total{service="shop",instance="a",topic="placed",outcome="handed_back"}"#,
            "7x30",
        ),
        (
            r#"final_log_oldest_seconds{service="shop",instance="a",group="shop"}"#,
            "2x30",
        ),
        (r#"final_dead_letters{service="shop",instance="a"}"#, "4x30"),
        (
            r#"final_messages_held{service="shop",instance="a"}"#,
            "0x30",
        ),
        (r#"final_panics_total{service="shop",instance="a"}"#, "1x30"),
        (
            r#"final_outbox_oldest_due_seconds{service="shop",instance="a"}"#,
            "1x30",
        ),
    ];
    let troubles: [(&[&str], &[Differing]); 14] = [
        (&[], &[]),
        (
            &["FinalOutboxLate"],
            &[("final_outbox_oldest_due_seconds", "120x30")],
        ),
        (
            &["FinalOutboxLate", "FinalOutboxStuck"],
            &[("final_outbox_oldest_due_seconds", "0+60x30")],
        ),
        (
            &["FinalNothingSent", "FinalOutboxLate", "FinalOutboxStuck"],
            &[
                ("final_outbox_oldest_due_seconds", "0+60x30"),
                ("final_outbox_sent_total", "5x30"),
            ],
        ),
        (&["FinalRecordsFailed"], &[("final_outbox_records", "1x30")]),
        (
            &["FinalTopicsParked"],
            &[("final_outbox_parked_topics", "2x30")],
        ),
        (&["FinalBrokerAway"], &[("final_broker_connected", "0x30")]),
        (&["FinalDatabaseSilent"], &[("final_database_up", "0x30")]),
        (
            &["FinalDatabaseReadOnly"],
            &[("final_database_read_only", "1x30")],
        ),
        (
            &["FinalLogLate"],
            &[("final_log_oldest_seconds", "0+60x30")],
        ),
        (
            &["FinalDeadLetters"],
            &[("final_dead_letters", "0x10 1x20")],
        ),
        (&["FinalMessagesHeld"], &[("final_messages_held", "2x30")]),
        (
            &["FinalHandedBack"],
            &[("outcome=\"handed_back\"", "0+10x30")],
        ),
        (&["FinalPanics"], &[("final_panics_total", "0x10 1x20")]),
    ];
    let alerts = docs("alerts.yml");
    let names: Vec<_> = alerts
        .split("- alert: ")
        .skip(1)
        .filter_map(|alert| alert.lines().next())
        .collect();
    let mut tests = "rule_files: [alerts.yml]\nevaluation_interval: 30s\ntests:\n".to_owned();
    for (fires, differs) in troubles {
        tests.push_str("  - interval: 1m\n    input_series:\n");
        for (series, values) in well {
            let differs = differs.iter().find(|(part, _)| series.contains(part));
            let values = differs.map_or(values, |(_, values)| values);
            tests.push_str(&format!(
                "      - series: '{series}'\n        values: '{values}'\n"
            ));
        }
        tests.push_str("    promql_expr_test:\n");
        for name in &names {
            // The number of firing alerts of that name; nothing, if there is none.
            let expr = format!("count(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}})");
            tests.push_str(&format!("      - expr: '{expr}'\n        eval_time: 22m\n"));
            if fires.contains(name) {
                tests.push_str("        exp_samples: [{labels: '{}', value: 1}]\n");
            }
        }
    }
    let folder = WorkDir::new("alerts").expect("a folder");
    folder.write("alerts.yml", &alerts).expect("the rules");
    let tests = folder.write("tests.yml", &tests).expect("the tests");
    promtool::run(&["test", "rules", &tests.to_string_lossy()]).expect("as said");
}
