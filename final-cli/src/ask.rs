//! The question before anything is changed.
//!
//! Input: what will be done, and the words of the command line. Output: whether a person, or a script by `--yes`, has
//! agreed. Without a terminal nobody can be asked, so that is a no.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::contexts::Context;

/// How a change is confirmed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ConsentArgs {
    /// Does it without a question, for scripts
    #[arg(long, short)]
    pub(crate) yes: bool,
}

impl ConsentArgs {
    /// Asks, unless that is not needed.
    pub(crate) fn ask(self, context: &Context, question: &str) -> io::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        let stderr = io::stderr();
        let stdin = io::stdin();
        if !stdin.is_terminal() || !stderr.is_terminal() {
            writeln!(
                &stderr,
                "{question}\nnot confirmed: there is no terminal to ask on; add --yes to do it without a question"
            )?;
            return Ok(false);
        }
        let wanted = match context.production {
            true => {
                write!(
                    &stderr,
                    "{question} Type the name of the context, {}, to go on: ",
                    context.name
                )?;
                context.name.as_str()
            }
            false => {
                write!(&stderr, "{question} [y/N] ")?;
                "y"
            }
        };
        (&stderr).flush()?;
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        let answer = answer.trim();
        let agreed = match context.production {
            true => answer == wanted,
            false => answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"),
        };
        if !agreed {
            writeln!(&stderr, "not confirmed: nothing was changed")?;
        }
        Ok(agreed)
    }

    /// Asks only where the context is in production: for changes that no other question comes before.
    pub(crate) fn ask_in_production(self, context: &Context, question: &str) -> io::Result<bool> {
        match context.production {
            true => self.ask(context, question),
            false => Ok(true),
        }
    }
}
