//! How far a connection came while it was being made.
//!
//! Input: the methods that the broker sends. State: the last step, and the limits that the broker named.
//! Output: for an attempt that ended without a reason, what its end may mean. RabbitMQ says to no client why
//! it ends a connection at certain steps, but only to its own log.
//!
//! ```text
//! Unconnected ─ TCP, TLS ─▶ Silent ─ start ─▶ Greeted ─ tune ─▶ Tuned ─ open-ok ─▶ Open
//! ```

use std::sync::Mutex;

use crate::lock::lock;

/// What happened last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Unconnected,
    Silent,
    Greeted,
    Tuned(Tune),
    Open,
}

/// The limits that the broker names; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tune {
    pub(super) channel_max: u16,
    pub(super) frame_max: u32,
    pub(super) heartbeat: u16,
}

impl Tune {
    /// Reads a method frame, if it is `connection.tune`.
    pub(super) fn read(method: &[u8]) -> Option<Self> {
        let tune = method.strip_prefix(&[0, 10, 0, 30])?;
        let (channel_max, tune) = tune.split_first_chunk()?;
        let (frame_max, tune) = tune.split_first_chunk()?;
        Some(Self {
            channel_max: u16::from_be_bytes(*channel_max),
            frame_max: u32::from_be_bytes(*frame_max),
            heartbeat: u16::from_be_bytes(*tune.first_chunk()?),
        })
    }
}

/// How far one connection came.
#[derive(Debug, Default)]
pub(crate) struct Handshake {
    step: Mutex<Step>,
    version: Mutex<Option<String>>,
}

impl Handshake {
    /// The other side took the connection.
    pub(crate) fn connected(&self) {
        self.reach(Step::Silent);
    }

    /// The broker sent this method. True until nothing more is to be learnt.
    pub(super) fn hear(&self, method: &[u8]) -> bool {
        let step = match method {
            [0, 10, 0, 10, properties @ ..] => {
                *lock(&self.version) = version(properties);
                Step::Greeted
            }
            [0, 10, 0, 41, ..] => Step::Open,
            _ => match Tune::read(method) {
                Some(tune) => Step::Tuned(tune),
                None => return true,
            },
        };
        self.reach(step);
        step != Step::Open
    }

    /// What it may mean that the attempt ended, or went on for too long, without a reason.
    pub(crate) fn hint(&self, timed_out: bool) -> String {
        let step = *lock(&self.step);
        match step {
            Step::Unconnected | Step::Open => String::new(),
            Step::Silent if timed_out => {
                "; the other side took the connection and did not answer: it may be starting, or speak \
                 another protocol on this port"
                    .into()
            }
            Step::Silent => {
                "; the other side hung up before it said anything, as a port for TLS does (`amqps://`), \
                 and a proxy whose broker is away"
                    .into()
            }
            Step::Greeted => "; RabbitMQ ended the login without a reason, which stands in its log, as \
                              it does where it does not have the login mechanism, or where the login is \
                              longer than its `initial_frame_max`"
                .into(),
            Step::Tuned(Tune {
                channel_max,
                frame_max,
                heartbeat,
            }) => format!(
                "; RabbitMQ ended the connection without a reason, which stands in its log, after it \
                 had named its limits (frame_max {frame_max}, channel_max {channel_max}, heartbeat \
                 {heartbeat}): compare them with the URL's parameters. RabbitMQ 4.3 takes no frame_max \
                 below 8192"
            ),
        }
    }

    fn reach(&self, step: Step) {
        *lock(&self.step) = step;
    }

    /// The version that the broker has told.
    pub(crate) fn version(&self) -> Option<String> {
        lock(&self.version).clone()
    }
}

/// Finds the version among the server's properties: a short string, `S`, and a long string.
fn version(properties: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    /// No version is longer.
    const MOST: usize = 64;
    let at = properties
        .windows(NAME.len())
        .position(|bytes| bytes == NAME)?;
    let (length, rest) = properties.get(at + NAME.len()..)?.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let text = rest.get(..length).filter(|text| text.len() <= MOST)?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_reason_is_told_by_the_step_before_it() {
        let handshake = Handshake::default();
        assert_eq!(handshake.hint(false), "");

        handshake.connected();
        assert!(handshake.hint(false).contains("amqps://"));
        assert!(handshake.hint(true).contains("did not answer"));

        assert!(handshake.hear(&[0, 10, 0, 10, 0, 9]));
        assert!(handshake.hint(false).contains("login mechanism"));

        assert!(handshake.hear(&[0, 10, 0, 30, 0, 8, 0, 0, 32, 0, 0, 60]));
        let hint = handshake.hint(false);
        let limits = "frame_max 8192, channel_max 8, heartbeat 60";
        assert!(hint.contains(limits), "{hint}");

        assert!(!handshake.hear(&[0, 10, 0, 41, 0]));
        assert_eq!(handshake.hint(false), "");
    }

    #[test]
    fn the_version_is_heard_and_half_of_it_is_not() {
        let start = b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x20\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8\x00";
        for length in 4..start.len() {
            let handshake = Handshake::default();
            assert!(handshake.hear(&start[..length]));
            let whole = length >= start.len() - 1;
            assert_eq!(handshake.version().as_deref(), whole.then_some("3.10.8"));
        }
    }

    #[test]
    fn half_a_method_is_no_limit() {
        for length in 0..12 {
            let tune = &[0, 10, 0, 30, 0, 8, 0, 0, 32, 0, 0, 60][..length];
            assert_eq!(Tune::read(tune), None);
        }
    }
}
