//! Clients of RabbitMQ and Redis in other languages, each a script beside the tests.
//!
//! Input: the name of a client, and arguments for its script. Output: the lines of JSON that it prints. A client
//! that is not installed is an error that names the fix, as a missing server is. Python's clients are Debian's
//! packages for `/usr/bin/python3`; those of Node come by npm, with the versions and the hashes of
//! `package-lock.json`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{Error, Result, process::Launch};

/// A client library, with a script of its own in `tests/clients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Python's pika.
    Pika,
    /// Python's kombu.
    Kombu,
    /// Celery, which sends and runs tasks by kombu.
    Celery,
    /// Node's amqplib.
    Amqplib,
    /// Python's redis-py.
    RedisPy,
    /// Node's ioredis.
    Ioredis,
    /// Node's node-redis, with RESP3.
    NodeRedis,
}

/// Where Debian puts the modules of its Python.
const MODULES: &str = "/usr/lib/python3/dist-packages";

/// Modules of Python, and the package that brings each.
const PYTHON: [(&str, &str); 6] = [
    ("pika", "python3-pika"),
    ("kombu", "python3-kombu"),
    ("celery", "python3-celery"),
    ("msgpack", "python3-msgpack"),
    // The tests send YAML by kombu, which does not bring it along since Debian 13.
    ("yaml", "python3-yaml"),
    ("redis", "python3-redis"),
];

/// Programs of clients, and the package that brings each.
const PROGRAMS: [(&str, &str); 4] = [
    ("node", "nodejs"),
    ("redis-cli", "redis-tools"),
    ("curl", "curl"),
    // Checks the signatures of webhooks, as Node does.
    ("openssl", "openssl"),
];

/// The Debian packages of the clients that are not installed.
pub fn missing() -> Vec<&'static str> {
    let is_missing = |module: &str| !Path::new(MODULES).join(module).is_dir();
    let python = PYTHON.iter().filter(|(module, _)| is_missing(module));
    let programs = PROGRAMS.iter().filter(|(program, _)| !is_in_path(program));
    // Only for the installation.
    let npm = (missing_of_node().is_some() && !is_in_path("npm")).then_some("npm");
    let packages = python.chain(programs).map(|(_, package)| *package);
    packages.chain(npm).collect()
}

/// The folder in which `npm ci` installs what is missing for Node, if something is.
pub fn missing_of_node() -> Option<PathBuf> {
    let folder = scripts().join("node");
    let changed = |file: &str| -> Option<SystemTime> {
        fs::metadata(folder.join(file)).ok()?.modified().ok()
    };
    // npm writes this file at the end of an installation.
    let is_there = changed("node_modules/.package-lock.json")
        .is_some_and(|done| changed("package-lock.json").is_none_or(|wanted| wanted <= done));
    (!is_there).then_some(folder)
}

impl Client {
    /// Runs the client's script to its end, and returns the lines that it prints. It has a minute and a half.
    ///
    /// # Errors
    ///
    /// Fails if the client is not installed, if its script fails, or if it takes too long.
    pub fn run(self, args: &[&str]) -> Result<Vec<String>> {
        self.is_installed()?;
        let (program, script) = match self {
            Self::Pika => ("/usr/bin/python3", "pika_client.py"),
            Self::Kombu => ("/usr/bin/python3", "kombu_client.py"),
            Self::Celery => ("/usr/bin/python3", "celery_client.py"),
            Self::Amqplib => ("node", "node/amqplib_client.js"),
            Self::RedisPy => ("/usr/bin/python3", "redis_client.py"),
            Self::Ioredis => ("node", "node/ioredis_client.js"),
            Self::NodeRedis => ("node", "node/node_redis_client.js"),
        };
        let output = Launch::new("timeout")
            .args(["90", program])
            .arg(scripts().join(script))
            .args(args)
            // Python would leave compiled files beside the scripts.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONWARNINGS", "ignore")
            .run()?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    fn is_of_node(self) -> bool {
        matches!(self, Self::Amqplib | Self::Ioredis | Self::NodeRedis)
    }

    fn is_installed(self) -> Result<()> {
        let needs: &[&str] = match self {
            Self::Pika => &["python3-pika", "python3-msgpack"],
            Self::Kombu => &["python3-kombu", "python3-msgpack", "python3-yaml"],
            Self::Celery => &["python3-celery"],
            Self::Amqplib | Self::Ioredis | Self::NodeRedis => &["nodejs"],
            Self::RedisPy => &["python3-redis"],
        };
        let missing = missing();
        let lacks = needs.iter().find(|package| missing.contains(package));
        let by_hand = match (lacks, missing_of_node()) {
            (Some(package), _) => format!("`apt-get install {package}`"),
            (None, Some(folder)) if self.is_of_node() => {
                format!("`npm ci` in {}", folder.display())
            }
            _ => return Ok(()),
        };
        Err(Error::new(
            format!("a client of the tests is not installed: {self:?}"),
            format!("{by_hand}, or `cargo xtask install` as root, which installs what is missing"),
        ))
    }
}

/// Runs one of redis-tools' programs to its end, with this on its input, and returns what it prints. It has a minute
/// and a half.
///
/// # Errors
///
/// Fails if the program is not installed, fails, or takes too long.
pub fn redis_tool(program: &str, args: &[&str], input: &str) -> Result<String> {
    if !is_in_path(program) {
        return Err(Error::new(
            format!("a client of the tests is not installed: {program}"),
            "`apt-get install redis-tools`, or `cargo xtask install` as root, which installs what is missing",
        ));
    }
    // A person at the keyboard would be asked; here nothing must wait for one.
    let script = "printf '%s' \"$FINAL_INPUT\" | timeout 90 \"$@\"";
    Launch::new("sh")
        .args(["-c", script, "sh", program])
        .args(args)
        .env("FINAL_INPUT", input)
        .run()
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

pub(crate) fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
