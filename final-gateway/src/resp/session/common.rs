//! What every Redis client may ask, before its login and after it.

use bytes::Bytes;

use super::{
    Session,
    answers::{Answer, Answers},
    backend::Backend,
    commands::Verb,
};
use crate::resp::wire::{Protocol, Writer};

/// The version of Redis whose manners these are. Libraries decide by it what they may send.
const VERSION: &str = "7.0.0";

impl<B: Backend> Session<B> {
    pub(super) async fn common(&mut self, verb: Verb, words: &[Bytes], answers: &Answers) {
        match (verb, words) {
            (Verb::Ping, []) => answers.push(Answer::Fixed(b"+PONG\r\n")).await,
            (Verb::Ping | Verb::Echo, [word]) => {
                self.push(answers, |writer| writer.bulk(word)).await;
            }
            (Verb::Ping, _) => self.arity("ping", answers).await,
            (Verb::Echo, _) => self.arity("echo", answers).await,
            (Verb::Select, [number]) => {
                let answer = match &number[..] {
                    b"0" => Answer::Fixed(b"+OK\r\n"),
                    _ => Answer::Fixed(b"-ERR DB index is out of range\r\n"),
                };
                answers.push(answer).await;
            }
            (Verb::Select, _) => self.arity("select", answers).await,
            (Verb::Reset, _) => {
                // A stranger gets no more time by it.
                if self.login.take().is_some() {
                    self.login_until = tokio::time::Instant::now() + self.limits.login;
                }
                self.protocol = Protocol::default();
                self.name.clear();
                answers.push(Answer::Fixed(b"+RESET\r\n")).await;
            }
            (Verb::Info, _) => {
                self.push(answers, |writer| writer.bulk(info().as_bytes()))
                    .await
            }
            (Verb::Command, words) => self.push(answers, |writer| command(words, writer)).await,
            (Verb::Client, words) => self.client(words, answers).await,
            // These are answered elsewhere.
            _ => {}
        }
    }

    async fn client(&mut self, words: &[Bytes], answers: &Answers) {
        let Some((what, rest)) = words.split_first() else {
            return self.arity("client", answers).await;
        };
        match (what.to_ascii_lowercase().as_slice(), rest) {
            (b"setname", [name]) => {
                self.name = name.iter().copied().take(128).collect();
                answers.push(Answer::Fixed(b"+OK\r\n")).await;
            }
            (b"getname", []) => {
                self.push(answers, |writer| match self.name.is_empty() {
                    true => writer.null(),
                    false => writer.bulk(&self.name),
                })
                .await;
            }
            (b"id", []) => {
                let id = i64::try_from(self.id).unwrap_or_default();
                self.push(answers, |writer| writer.integer(id)).await;
            }
            // Nothing is ever announced, so there is nothing to switch on.
            (b"setinfo" | b"maint_notifications", _) => {
                answers.push(Answer::Fixed(b"+OK\r\n")).await;
            }
            _ => {
                let text = "ERR unknown subcommand. Try CLIENT ID, SETNAME, GETNAME or SETINFO.";
                self.push(answers, |writer| writer.error(text)).await;
            }
        }
    }

    /// The number of words is wrong, in Redis's words.
    pub(super) async fn arity(&self, name: &str, answers: &Answers) {
        let text = format!("ERR wrong number of arguments for '{name}' command");
        self.push(answers, |writer| writer.error(&text)).await;
    }

    /// What `HELLO` answers.
    pub(super) fn greeting(&self, writer: &mut Writer) {
        writer.map(7);
        for (name, value) in [("server", "final-gateway"), ("version", VERSION)] {
            writer.bulk(name.as_bytes());
            writer.bulk(value.as_bytes());
        }
        writer.bulk(b"proto");
        writer.integer(match self.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        });
        writer.bulk(b"id");
        writer.integer(i64::try_from(self.id).unwrap_or_default());
        for (name, value) in [("mode", "standalone"), ("role", "master")] {
            writer.bulk(name.as_bytes());
            writer.bulk(value.as_bytes());
        }
        writer.bulk(b"modules");
        writer.array(0);
    }
}

/// Clients wait until nothing is being loaded.
fn info() -> String {
    let ours = env!("CARGO_PKG_VERSION");
    format!(
        "# Server\r\nredis_version:{VERSION}\r\nredis_mode:standalone\r\nfinal_gateway_version:{ours}\r\n\
         # Persistence\r\nloading:0\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\
         # Cluster\r\ncluster_enabled:0\r\n"
    )
}

/// redis-cli asks for the list of commands and for their documentation, and goes on without.
fn command(words: &[Bytes], writer: &mut Writer) {
    let what = words.first().map(|word| word.to_ascii_lowercase());
    match what.as_deref() {
        Some(b"docs") => writer.map(0),
        Some(b"count") => writer.integer(0),
        _ => writer.array(0),
    }
}
