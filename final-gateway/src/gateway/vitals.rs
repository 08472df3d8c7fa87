//! What a gateway says of itself: whether it lives, whether it should get clients, and its numbers.
//!
//! Input: the parts of a gateway. State: the last answers of the database. Output: reasons, as texts, and the text for
//! Prometheus. Anybody who reaches the port may ask, so the database is asked once in a second at most, and its errors go
//! into the log and not into the answers.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::{
    engine::{LinkNumbers, Motor},
    latest::Latest,
};
use crate::{
    groups::Groups,
    http::Vitals,
    publish::{PublishStats, Publisher},
    rights::Rights,
};

/// The condition of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Why only a restart helps. Empty if none is needed.
    pub not_live: Vec<String>,
    /// Why it should get no clients now. Empty if it should.
    pub not_ready: Vec<String>,
}

impl Health {
    /// Whether only a restart helps.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.not_live.is_empty()
    }

    /// Whether it should get clients.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.not_live.is_empty() && self.not_ready.is_empty()
    }
}

/// The parts that are asked.
#[derive(Clone)]
pub(super) struct Condition {
    pub(super) motor: Arc<dyn Motor>,
    pub(super) publisher: Publisher,
    pub(super) groups: Groups,
    pub(super) rights: Rights,
    /// Set when the shutdown begins.
    pub(super) is_stopping: Arc<AtomicBool>,
    /// The task that has ended and should not have.
    pub(super) died: watch::Receiver<Option<String>>,
    /// What the database said last.
    pub(super) asked: Arc<Asked>,
}

/// What the database said last.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Whether it gave a sign of life.
    answers: Latest<bool>,
    /// Set while it gives none, to log each outage once.
    is_away: AtomicBool,
    link: Latest<LinkNumbers>,
}

impl Condition {
    pub(super) async fn health(&self) -> Health {
        Health {
            not_live: self.not_live_now().await,
            not_ready: self.not_ready_now().await,
        }
    }

    async fn not_live_now(&self) -> Vec<String> {
        let mut reasons = self.motor.trouble().await;
        reasons.extend(self.died.borrow().clone());
        reasons
    }

    async fn not_ready_now(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_stopping.load(Ordering::Relaxed) {
            reasons.push("the gateway is being stopped".to_owned());
        }
        if !self.asked.answers.get(self.ping()).await {
            reasons.push("the database does not answer".to_owned());
        }
        if !self.rights.is_ready() {
            reasons.push("the rights of apps are not known".to_owned());
        }
        reasons
    }

    /// Whether the database gives a sign of life.
    async fn ping(&self) -> bool {
        let answer = self.motor.ping().await;
        let was_away = self.asked.is_away.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Err(error) if !was_away => tracing::warn!(
                target: "final::gateway",
                %error,
                "the database does not answer; the gateway should get no clients until it does"
            ),
            Ok(()) if was_away => tracing::info!(
                target: "final::gateway",
                "the database answers again"
            ),
            _ => {}
        }
        answer.is_ok()
    }

    pub(super) async fn numbers(&self) -> String {
        let PublishStats {
            published,
            refused,
            unknown,
            away,
            busy,
            transactions,
            waiting,
            ..
        } = self.publisher.stats();
        let mut text = Text::default();
        let outcomes = [
            ("committed", published),
            ("refused", refused),
            ("unknown", unknown),
            ("away", away),
            ("busy", busy),
        ];
        let help = "Messages of clients, by what they were answered.";
        text.family("messages_total", "counter", help);
        for (outcome, count) in outcomes {
            text.value(
                "messages_total",
                &format!("{{answer=\"{outcome}\"}}"),
                count,
            );
        }
        text.alone(
            "transactions_total",
            "counter",
            "Transactions in which messages of clients were committed.",
            transactions,
        );
        let help = "Messages that wait for the next transaction.";
        text.alone("waiting_messages", "gauge", help, waiting);
        let help = "Groups and topics that are open on this node.";
        let groups = self.groups.stats();
        let gauge = |number| u64::try_from(number).unwrap_or(u64::MAX);
        text.alone("open_groups", "gauge", help, gauge(groups.open));
        let help = "Messages that clients have in hand, or that wait for the end of a delay.";
        text.alone("in_hand_messages", "gauge", help, gauge(groups.in_hand));
        let help = "What was done with messages of groups.";
        text.family("deliveries_total", "counter", help);
        for (what, count) in [
            ("given_out", groups.given_out),
            ("settled", groups.settled),
            ("came_back", groups.came_back),
            ("dead_lettered", groups.dead_lettered),
        ] {
            text.value("deliveries_total", &format!("{{what=\"{what}\"}}"), count);
        }
        let help = "Whether the broker of the groups is there.";
        let link = self.asked.link.get(self.motor.link()).await;
        text.alone("connected", "gauge", help, link.connected.into());
        if let Some(pending) = link.pending {
            let help = "Messages that are committed and not yet with the broker.";
            text.alone("pending_messages", "gauge", help, pending);
        }
        text.0
    }
}

impl Vitals for Condition {
    fn not_live(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(self.not_live_now())
    }

    fn not_ready(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(self.not_ready_now())
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(self.numbers())
    }
}

/// Text in the format of Prometheus.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let name = format!("final_gateway_{name}");
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "final_gateway_{name}{labels} {value}");
    }

    fn alone(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.value(name, "", value);
    }
}
