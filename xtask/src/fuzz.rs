//! The fuzz targets: builds them with coverage, runs each for a while.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use final_tests::{Error, Result};

use crate::{
    cargo::{cargo, exec, root, target},
    install,
};

/// How long each target runs unless told otherwise.
const SECONDS: u32 = 60;

/// The flags of `cargo fuzz`, without a sanitizer, so that a stable compiler takes them. The code has no
/// `unsafe`, and libFuzzer itself limits time and memory.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    // Otherwise the counters of one function end up in several tables.
    "-Ccodegen-units=1",
];

/// `[--seconds N] [TARGET…]`; all targets unless named.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    let (seconds, named) = match args {
        ["--seconds", seconds, named @ ..] => (number(seconds)?, named),
        named => (SECONDS, named),
    };
    let all = targets()?;
    if let Some(unknown) = named
        .iter()
        .find(|name| !all.iter().any(|one| one == *name))
    {
        return Err(Error::new(
            format!("there is no fuzz target `{unknown}`"),
            format!("use some of these: {}", all.join(" ")),
        ));
    }
    install::compiler()?;
    let built = exec(
        cargo(),
        &[&["build", "--bins"][..], &BUILD].concat(),
        &env(),
    )?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let chosen = all
        .iter()
        .filter(|one| named.is_empty() || named.contains(&one.as_str()));
    for name in chosen {
        fuzz(name, seconds)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The target is named even where it is the host: cargo then keeps the flags from build scripts and macros,
/// which cannot be linked with them.
const BUILD: [&str; 5] = [
    "--locked",
    "--manifest-path",
    "fuzz/Cargo.toml",
    "--target",
    "host-tuple",
];

fn env() -> [(&'static str, String); 3] {
    let build = target().join("fuzz").display().to_string();
    [
        ("CARGO_TARGET_DIR", build),
        ("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")),
        ("CARGO_INCREMENTAL", "0".into()),
    ]
}

/// Runs one target. New inputs go to a corpus under `target`; the committed corpus is only read.
fn fuzz(name: &str, seconds: u32) -> Result<()> {
    let (found, crashes) = (folder("found", name)?, folder("crashes", name)?);
    let corpus = root().join("fuzz/corpus").join(name);
    let time = format!("-max_total_time={seconds}");
    let crash = format!("-artifact_prefix={}/", crashes.display());
    let (found, corpus) = (found.display().to_string(), corpus.display().to_string());
    let run = ["run", "--quiet", "--bin", name];
    let fuzzer = [
        "--",
        &found,
        &corpus,
        &time,
        &crash,
        // The limits for one input: seconds, bytes, and memory in all.
        "-timeout=10",
        "-max_len=4096",
        "-rss_limit_mb=512",
        "-print_final_stats=1",
    ];
    let args = [&run[..], &BUILD, &fuzzer].concat();
    if exec(cargo(), &args, &env())? == ExitCode::SUCCESS {
        return Ok(());
    }
    Err(Error::new(
        format!(
            "the fuzz target `{name}` failed, see above; the input is in {}",
            crashes.display()
        ),
        format!(
            "copy it to fuzz/corpus/{name}/ under a name that says what it is: \
             `cargo test -p final-core -p final-amqp -p final-gateway -p final-capture --all-features --lib fuzzing` then fails on it, \
             until it is mended"
        ),
    ))
}

/// A target is a file in `fuzz/src/bin`.
fn targets() -> Result<Vec<String>> {
    let bins = root().join("fuzz/src/bin");
    let entries = fs::read_dir(&bins).map_err(Error::io("cannot read", &bins))?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            Some(
                Path::new(&entry.file_name())
                    .file_stem()?
                    .to_str()?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    Ok(names)
}

fn folder(kind: &str, name: &str) -> Result<PathBuf> {
    let folder = target().join("fuzz").join(kind).join(name);
    fs::create_dir_all(&folder).map_err(Error::io("cannot make", &folder))?;
    Ok(folder)
}

fn number(text: &str) -> Result<u32> {
    let number = text.parse().ok().filter(|seconds| *seconds > 0);
    number.ok_or_else(|| {
        Error::new(
            format!("`--seconds {text}` is no number of seconds"),
            "cargo xtask fuzz --seconds 15",
        )
    })
}
