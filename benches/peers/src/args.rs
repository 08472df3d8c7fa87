//! The command line.

use crate::{
    Result,
    contest::{Contest, Job},
};

/// What to play, and how to tell of it.
#[derive(Debug, Default)]
pub(crate) struct Args {
    /// One line per result on stdout.
    pub(crate) json: bool,
    /// An instant in place of minutes, to see that everything does its job. Nothing is written down.
    pub(crate) smoke: bool,
    /// Only these jobs and peers; all if empty.
    pub(crate) only: Vec<String>,
}

impl Args {
    pub(crate) fn parse(words: impl Iterator<Item = String>, contests: &[Contest]) -> Result<Self> {
        let mut args = Self::default();
        for word in words {
            match word.as_str() {
                "--json" => args.json = true,
                "--smoke" => args.smoke = true,
                _ if names_any(&word, contests) => args.only.push(word),
                _ => {
                    return Err(format!(
                        "there is no job and no peer {word:?}; use tx, relay, consume, queue, or \
                         the beginning of a peer's name"
                    )
                    .into());
                }
            }
        }
        Ok(args)
    }

    /// Whether a contest takes part: its job is named, or no job is; and so with its peer.
    pub(crate) fn wants(&self, contest: &Contest) -> bool {
        let (jobs, peers): (Vec<_>, Vec<_>) = self
            .only
            .iter()
            .partition(|word| Job::named(word).is_some());
        let job = jobs.is_empty() || jobs.iter().any(|it| *it == contest.job.name());
        let peer = peers.is_empty() || peers.iter().any(|it| begins(contest.peer, it));
        job && peer
    }
}

fn names_any(word: &str, contests: &[Contest]) -> bool {
    let is_peer = || contests.iter().any(|it| begins(it.peer, word));
    Job::named(word).is_some() || is_peer()
}

fn begins(peer: &str, word: &str) -> bool {
    peer.to_lowercase().starts_with(&word.to_lowercase())
}
