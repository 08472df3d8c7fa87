//! The version of RabbitMQ.
//!
//! Input: the version that the server has told at the login. Output: a finding if it is too old.

use final_core::admin::doctor::Finding;

use super::diagnoses::TOO_OLD;

/// The first version with quorum queues.
const OLDEST: (u32, u32) = (3, 8);

pub(super) fn look(version: Option<&str>) -> Vec<Finding> {
    let old = version.filter(|version| parse(version).is_some_and(|version| version < OLDEST));
    let finding = |version: &str| {
        let (major, minor) = OLDEST;
        TOO_OLD.found(
            format!("this is RabbitMQ {version}"),
            format!("Update it: quorum queues came with {major}.{minor}"),
        )
    };
    old.map(finding).into_iter().collect()
}

/// Major and minor number.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_without_quorum_queues_are_too_old() {
        for (version, is_old) in [
            (Some("3.7.28"), true),
            (Some("2.8.7"), true),
            (Some("3.8.0"), false),
            (Some("3.10.8"), false),
            (Some("4.0.0-rc.1"), false),
            (Some("next"), false),
            (None, false),
        ] {
            assert_eq!(!look(version).is_empty(), is_old, "{version:?}");
        }
    }
}
