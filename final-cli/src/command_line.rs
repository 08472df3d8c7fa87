//! The whole command line: the options before the command, and the command.

use std::ffi::{OsStr, OsString};

use clap::Parser;

use crate::{arguments::PlaceArgs, commands::Command};

/// See what is stuck and why, and put it back.
#[derive(Debug, Parser)]
#[command(
    name = "final",
    version,
    about = "See which messages of the event bus are stuck and why, and put them back",
    after_help = "The database is that of --database-url, else that of --context or FINAL_CONTEXT, else that of \
                  DATABASE_URL.\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check found something, 4 nothing matched, \
                  5 not confirmed.\n\n\
                  Example: final status",
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    /// Writes one JSON object a line in place of tables
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The words of the command line, where `--rabbitmq` has its value behind a `=` if it has none.
///
/// Its value is optional, and clap would take the next word for it: a topic, or a service. Only a word with `://` is a
/// URL.
pub(crate) fn spelled_out(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter().peekable();
    let mut all = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            all.push(word);
            all.extend(words);
            break;
        }
        let is_url = |word: &OsString| word.to_string_lossy().contains("://");
        match word == "--rabbitmq" && !words.peek().is_some_and(is_url) {
            true => all.push(OsStr::new("--rabbitmq=").to_owned()),
            false => all.push(word),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands of a page: the lines of its blocks, and what stands in backticks in a sentence.
    fn commands(page: &str) -> Vec<String> {
        let lines = page.lines().filter(|line| line.starts_with("final "));
        let inline = page.split('`').skip(1).step_by(2);
        let inline = inline.filter(|text| text.starts_with("final ") && !text.contains("\n\n"));
        lines
            .chain(inline)
            .map(|command| {
                command
                    .split(" #")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn a_topic_behind_rabbitmq_is_a_topic_and_no_url() {
        let parsed = |line: &str| {
            let words = spelled_out(line.split(' ').map(OsString::from));
            Arguments::try_parse_from(words).map(|arguments| format!("{:?}", arguments.command))
        };
        for line in [
            "final tail --rabbitmq order.placed order.paid",
            "final tail order.placed --rabbitmq order.paid",
            "final tail order.placed order.paid --rabbitmq",
            "final tail --rabbitmq amqp://here order.placed order.paid",
            "final tail order.placed --rabbitmq=amqp://here order.paid",
            "final tail --rabbitmq --yes order.placed order.paid",
            "final tail --rabbitmq -- order.placed order.paid",
        ] {
            let command = parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(
                command.contains(r#"topics: ["order.placed", "order.paid"]"#),
                "{command}"
            );
            assert!(command.contains("rabbitmq: Some"), "{command}");
        }
        let service = parsed("final doctor --rabbitmq shop").expect("a service");
        assert!(service.contains("shop"), "{service}");
    }

    /// A person who is woken at night types what the page says.
    #[test]
    fn every_command_of_the_runbook_is_one() {
        let commands = commands(include_str!("../../docs/runbook.md"));
        assert!(commands.len() > 20, "{commands:?}");
        for command in commands {
            let words = command.replace("\"timed out\"", "timed_out");
            let words = words.split_whitespace().map(|word| match word {
                "ID" => "0192d3a4-0000-7000-8000-000000000001",
                word => word,
            });
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("{command}: {error}");
            }
        }
    }
}
