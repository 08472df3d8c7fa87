//! The program from its arguments to its exit code.
//!
//! Input: the arguments, the environment, the terminal. Output: what the command writes, an exit code, and for a
//! failure one line on the standard error. The database is picked here, once, by the scheme of its URL; everything
//! below is generic over it.

use std::{env, io, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    command_line::{Arguments, spelled_out},
    commands::Needs,
    exit::{Exit, Failure},
    output::Output,
    redact::without_passwords,
    session::{Place, Session},
    target::Kind,
};

/// How long work on other threads may take to end, once the command has its result.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse_from(spelled_out(env::args_os())) {
        Ok(arguments) => arguments,
        Err(error) => {
            // An error quotes the word that it did not expect, which may be a URL.
            match error.use_stderr() {
                true => eprint!("{}", without_passwords(&error.render().to_string())),
                false => drop(error.print()),
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let Arguments {
        json,
        place,
        command,
    } = arguments;
    let arguments = match command.serve(place) {
        Ok(code) => return code,
        Err(other) => {
            let (place, command) = *other;
            Arguments {
                json,
                place,
                command,
            }
        }
    };
    match start(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let (code, line) = failure.end();
            if let Some(line) = line {
                eprintln!("final: {line}");
            }
            code
        }
    }
}

fn start(arguments: Arguments) -> Result<Exit, Failure> {
    log()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::doing("the runtime cannot be started", &error))?;
    let mut out = Output::new(arguments.json || arguments.command.json());
    let ended = runtime.block_on(run(arguments, &mut out));
    let flushed = out.flush();
    runtime.shutdown_timeout(GOODBYE);
    let exit = ended?;
    flushed?;
    Ok(exit)
}

async fn run(arguments: Arguments, out: &mut Output) -> Result<Exit, Failure> {
    let Arguments {
        place, mut command, ..
    } = arguments;
    if command.needs() == Needs::Nothing {
        return command.run_alone(Arguments::command(), out);
    }
    if command.needs() == Needs::File {
        if place.database_url.is_some() || place.context.is_some() {
            return Err(Failure::usage(
                "the file names the databases: leave out --database-url and --context",
            ));
        }
        return command.run_with_file(out).await;
    }
    let place = Place::new(command.place(place)?)?;
    if command.needs() == Needs::Broker {
        return command.run_with_broker(&place, out).await;
    }
    let target = place.target()?.clone();
    macro_rules! on {
        ($feature:literal, $database:ident) => {{
            #[cfg(feature = $feature)]
            {
                let session = Session::<sqlx::$database>::lazy(place, target)?;
                if command.needs() == Needs::Database {
                    session.connect().await?;
                }
                let ended = command.run(&session, out).await;
                session.pool.close().await;
                ended
            }
            #[cfg(not(feature = $feature))]
            Err(target.not_compiled_in())
        }};
    }
    match target.kind {
        Kind::Postgres => on!("postgres", Postgres),
        Kind::MySql => on!("mysql", MySql),
        Kind::Sqlite => on!("sqlite", Sqlite),
    }
}

/// Shows events of the libraries on the standard error: warnings, or what `FINAL_LOG` says. Events of other crates
/// are left out, because a driver's may have passwords.
fn log() -> Result<(), Failure> {
    let level = env::var("FINAL_LOG").unwrap_or_default();
    let level = match level.as_str() {
        "" => LevelFilter::WARN,
        level => level.parse().map_err(|_| {
            Failure::usage("FINAL_LOG has to be `off`, `error`, `warn`, `info`, `debug` or `trace`")
        })?,
    };
    let targets = Targets::new().with_target("final", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(targets)
        .with(lines)
        .try_init()
        .map_err(|error| Failure::doing("the log cannot be set up", &error))
}
