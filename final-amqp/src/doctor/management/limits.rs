//! Limits of a queue, by its arguments and its policy: how often a message may come back, how many there may be.
//!
//! Input: a queue as the management API tells it. Output: findings.
//!
//! | what is limited | queue | its dead letters |
//! | --- | --- | --- |
//! | deliveries (`delivery-limit`; 20 by default since RabbitMQ 4) | told below 20 | told if there is any |
//! | messages (`max-length`, `max-length-bytes`), their age (`message-ttl`), the queue's (`expires`) | told | told |

use final_core::admin::doctor::Finding;
use serde_json::Value;

use super::super::diagnoses::{DEAD_LETTERS_LIMITED, DELIVERY_LIMIT_LOW, QUEUE_DROPS_MESSAGES};

/// The limit of RabbitMQ 4.
const USUAL: i64 = 20;

pub(super) fn of_queue(queue: &str, seen: &Value, version: Option<&str>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = drops(queue, seen).into_iter().collect();
    if let Some(limit) = delivery_limit(seen, version).filter(|limit| *limit < USUAL) {
        findings.push(DELIVERY_LIMIT_LOW.found(
            format!(
                "the delivery limit of the queue {queue} is {limit}{}",
                policy(seen)
            ),
            format!(
                "Set `delivery-limit` to {USUAL} or more in the policy that says so, or take it out"
            ),
        ));
    }
    findings
}

pub(super) fn of_dead_letters(queue: &str, seen: &Value, version: Option<&str>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = drops(queue, seen).into_iter().collect();
    if let Some(limit) = delivery_limit(seen, version) {
        findings.push(DEAD_LETTERS_LIMITED.found(
            format!("the delivery limit of the queue {queue} is {limit}{}", policy(seen)),
            format!(
                "Let the service collect its dead letters into the database, with `Options::collect_dead_letters`; or take \
                 the limit away by a policy, on RabbitMQ 4 with `rabbitmqctl set_policy --apply-to queues {queue} \
                 '^{queue}$' '{{\"delivery-limit\": -1}}'`"
            ),
        ));
    }
    findings
}

/// How often a message may come back; only quorum queues have a limit.
fn delivery_limit(seen: &Value, version: Option<&str>) -> Option<i64> {
    if seen["type"] != "quorum" {
        return None;
    }
    let by_argument = seen["arguments"]["x-delivery-limit"].as_i64();
    let by_policy = seen["effective_policy_definition"]["delivery-limit"].as_i64();
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let usual = major.is_some_and(|major| major >= 4).then_some(USUAL);
    // The lower one counts; below zero there is none.
    let said = [by_argument, by_policy].into_iter().flatten();
    match said.clone().filter(|limit| *limit >= 0).min() {
        Some(limit) => Some(limit),
        None if said.count() > 0 => None,
        None => usual,
    }
}

/// What makes RabbitMQ drop messages that it has confirmed.
fn drops(queue: &str, seen: &Value) -> Option<Finding> {
    let said = |name: &str| {
        let argument = &seen["arguments"][format!("x-{name}")];
        let definition = &seen["effective_policy_definition"][name];
        [argument, definition]
            .into_iter()
            .find(|value| !value.is_null())
            .map(Value::to_string)
    };
    // It refuses further messages in place of dropping those that it has.
    let refuses = said("overflow").is_some_and(|overflow| overflow.contains("reject-publish"));
    let sizes = ["max-length", "max-length-bytes"]
        .into_iter()
        .filter(|_| !refuses);
    let found: Vec<String> = sizes
        .chain(["message-ttl", "expires"])
        .filter_map(|name| Some(format!("{name} {}", said(name)?)))
        .collect();
    (!found.is_empty()).then(|| {
        QUEUE_DROPS_MESSAGES.found(
            format!("the queue {queue} has {}{}", found.join(", "), policy(seen)),
            "Take it out of the policy, or out of the arguments of the queue; a limit of the length is harmless with \
             `\"overflow\": \"reject-publish\"`",
        )
    })
}

fn policy(seen: &Value) -> String {
    match seen["policy"].as_str() {
        Some(policy) if !policy.is_empty() => format!("; its policy is {policy}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quorum(arguments: &Value, definition: &Value) -> Value {
        json!({ "type": "quorum", "arguments": arguments, "effective_policy_definition": definition, "policy": "p" })
    }

    #[test]
    fn the_lowest_delivery_limit_counts_and_a_negative_one_is_none() {
        let (three, four) = (Some("3.13.7"), Some("4.1.0"));
        let none = json!({});
        for (arguments, definition, version, limit) in [
            (none.clone(), none.clone(), three, None),
            (none.clone(), json!([]), four, Some(20)),
            (none.clone(), json!({ "delivery-limit": 5 }), three, Some(5)),
            (
                json!({ "x-delivery-limit": 7 }),
                json!({ "delivery-limit": 50 }),
                four,
                Some(7),
            ),
            (none.clone(), json!({ "delivery-limit": -1 }), four, None),
            (none.clone(), none.clone(), None, None),
        ] {
            let seen = quorum(&arguments, &definition);
            assert_eq!(delivery_limit(&seen, version), limit, "{seen} {version:?}");
        }
        let classic = json!({ "type": "classic", "arguments": { "x-delivery-limit": 1 } });
        assert_eq!(delivery_limit(&classic, four), None);
    }

    #[test]
    fn the_limit_of_rabbitmq_4_is_told_of_dead_letters_alone() {
        let seen = quorum(&json!({}), &json!({}));

        assert_eq!(of_queue("shop", &seen, Some("4.0.5")), []);
        let letters = of_dead_letters("shop_dlx", &seen, Some("4.0.5"));
        assert_eq!(letters[0].name, "dead_letters_limited");
        assert!(
            letters[0].mend.contains("Options::collect_dead_letters"),
            "{letters:?}"
        );
    }

    #[test]
    fn a_queue_that_refuses_drops_nothing() {
        let full = json!({ "max-length": 5, "overflow": "reject-publish" });
        assert_eq!(drops("shop", &quorum(&json!({}), &full)), None);
        let old = quorum(&json!({ "x-message-ttl": 1000 }), &full);
        let found = drops("shop", &old).unwrap();
        assert!(
            found.what.contains("message-ttl 1000") && !found.what.contains("max-length"),
            "{found}"
        );
    }
}
