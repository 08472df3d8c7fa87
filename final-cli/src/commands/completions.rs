//! `final completions SHELL`: what a shell needs to complete the words of a command line.

use clap::Args;
use clap_complete::{Shell, generate};

use crate::{
    exit::{Exit, Failure},
    output::Output,
};

/// Write the completions of a shell to the standard output
#[derive(Debug, Args)]
#[command(
    after_help = "Example: final completions bash > ~/.local/share/bash-completion/completions/final"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// `program` has the words that are completed.
    pub(crate) fn run(self, mut program: clap::Command, out: &mut Output) -> Result<Exit, Failure> {
        let mut text = Vec::new();
        generate(self.shell, &mut program, "final", &mut text);
        out.raw(&text)?;
        Ok(Exit::Done)
    }
}
