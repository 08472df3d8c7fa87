//! Reading commands: whole, and as they come in pieces.

use std::time::Instant;

use final_gateway::fuzzing::RequestCounter;

use super::set;
use crate::{
    Result,
    bench::Bench,
    row::{Must, Row},
    sides::OURS,
};

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let commands = bench.count(1_000_000);
    let bytes = set().repeat(usize::try_from(commands)?);
    for (metric, piece, least) in [
        (
            "commands/s read, whole",
            bytes.len().min(64 * 1024),
            Some(1_000_000.0),
        ),
        (
            "commands/s read, in pieces of 1,400 bytes",
            1_400,
            Some(1_000_000.0),
        ),
        ("commands/s read, in pieces of 16 bytes", 16, None),
    ] {
        let mut rates = Vec::new();
        for _ in 0..bench.rounds(5) {
            let start = Instant::now();
            let mut reader = RequestCounter::default();
            for piece in bytes.chunks(piece) {
                reader.feed(piece)?;
            }
            if reader.count() != commands {
                return Err(format!("{} commands of {commands} were read", reader.count()).into());
            }
            rates.push(commands as f64 / start.elapsed().as_secs_f64());
        }
        let row = Row::alone("gateway", OURS, "-", metric, &rates);
        bench.add([match least {
            Some(least) => row.must(Must::AtLeast(least)),
            None => row,
        }]);
    }
    // One large command: twice as long must not take four times as long.
    let time_of = |kib: usize| {
        let value = vec![b'x'; kib * 1024];
        let command = crate::hand::command(&[b"SET", b"key", &value]);
        let start = Instant::now();
        let mut reader = RequestCounter::default();
        for piece in command.chunks(1_400) {
            reader.feed(piece)?;
        }
        Ok::<_, crate::BoxError>(start.elapsed().as_secs_f64())
    };
    let mut ratios = Vec::new();
    for _ in 0..bench.rounds(5) {
        ratios.push(time_of(960)? / time_of(480)?);
    }
    let metric = "time for 960 KiB in pieces over that for 480 KiB";
    bench.add([Row::alone("gateway", OURS, "-", metric, &ratios).must(Must::Below(3.0))]);
    Ok(())
}
