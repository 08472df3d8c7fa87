//! A reader of changes as a process of its own, for tests that kill and freeze it.
//!
//! Input: `--name value` arguments. Output: a line `state …` for each state that it has; it ends at SIGTERM. Where its
//! target is away at the start, it tries again, as a service manager would.

use std::{collections::HashMap, error::Error, time::Duration};

use final_amqp::Amqp;
use final_capture::{
    Capture, CaptureState, RunningCapture,
    position::Positions,
    select::Selection,
    source::{mysql::MySqlSource, postgres::PgSource},
    target::Target,
};
use final_core::{
    SqlBroker,
    failpoint::{self, Failpoint},
};
use sqlx::Pool;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

type Anything = Box<dyn Error + Send + Sync>;

struct Arguments(HashMap<String, String>);

impl Arguments {
    fn read() -> Result<Self, Anything> {
        let (mut all, mut words) = (HashMap::new(), std::env::args().skip(1));
        while let Some(name) = words.next() {
            let value = words.next().ok_or(format!("{name} has no value"))?;
            all.insert(name, value);
        }
        Ok(Self(all))
    }

    fn maybe(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn text(&self, name: &str) -> Result<&str, Anything> {
        Ok(self.maybe(name).ok_or(format!("{name} is missing"))?)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Anything> {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let arguments = Arguments::read()?;
    if let Some(place) = arguments.maybe("--die-at") {
        let (name, times) = place.split_once(':').ok_or("say --die-at NAME:TIMES")?;
        failpoint::arm(step(name)?, times.parse()?, || std::process::abort());
    }
    let mut stop = signal(SignalKind::terminate())?;
    let running = loop {
        let start = capture(&arguments)?.start();
        let started = tokio::select! {
            started = start => started,
            _ = stop.recv() => return Ok(()),
        };
        match started {
            Ok(running) => break running,
            Err(error) => {
                println!("state starting");
                println!("{error}: {:?}", error.source());
                sleep(Duration::from_millis(200)).await;
            }
        }
    };
    tokio::select! {
        _ = stop.recv() => running.shutdown().await,
        why = tell(&running) => return Err(why.into()),
    }
    Ok(())
}

/// A step of the engine.
fn step(name: &str) -> Result<Failpoint, Anything> {
    Ok(match name {
        "read" => Failpoint::AfterChangeRead,
        "written" => Failpoint::AfterChanges,
        "saved" => Failpoint::AfterChangesSaved,
        other => return Err(format!("there is no step {other}").into()),
    })
}

/// Says each state that the capture has, until only a restart helps.
async fn tell(running: &RunningCapture) -> String {
    let mut state = running.state();
    let died = running.died();
    tokio::pin!(died);
    loop {
        let now = state.borrow_and_update().clone();
        println!("state {now}");
        if let CaptureState::Stopped(why) = now {
            println!("{why}");
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() {
                return died.await;
            },
            why = &mut died => return why,
        }
    }
}

fn capture(arguments: &Arguments) -> Result<Capture, Anything> {
    let (name, source) = (arguments.text("--name")?, arguments.text("--source")?);
    let selection = Selection::tables(arguments.text("--tables")?.split(','));
    let mut capture = match source.starts_with("postgres") {
        true => {
            let slot = arguments.text("--slot")?;
            let source = PgSource::new(source)?.slot(slot)?.publication(slot)?;
            Capture::new(name, source, selection)
        }
        false => Capture::new(name, MySqlSource::new(source)?, selection),
    };
    if let Some(seconds) = arguments.maybe("--lease") {
        capture = capture.lease(Duration::from_secs(seconds.parse()?));
    }
    Ok(capture.to(target(arguments)?))
}

fn target(arguments: &Arguments) -> Result<Target, Anything> {
    if let Some(url) = arguments.maybe("--log") {
        return Ok(match url.split(':').next().unwrap_or_default() {
            "postgres" => log(Pool::<sqlx::Postgres>::connect_lazy(url)?),
            "sqlite" => log(Pool::<sqlx::Sqlite>::connect_lazy(url)?),
            _ => log(Pool::<sqlx::MySql>::connect_lazy(url)?),
        });
    }
    let positions = Pool::<sqlx::Sqlite>::connect_lazy(arguments.text("--positions")?)?;
    let broker = Amqp::new(arguments.text("--rabbitmq")?)?;
    Ok(Target::broker(broker, Positions::database(positions)))
}

fn log<DB: final_core::OutboxDatabase>(pool: Pool<DB>) -> Target {
    Target::log(pool.clone(), SqlBroker::new(pool))
}
