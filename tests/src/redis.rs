//! A Redis server of a test's own.
//!
//! Input: options, as on its command line. State: the process, its folder and its port. Output: its address.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    Error, Port, Result, WorkDir, clients,
    process::{Launch, Process, last_lines, pause_until},
};

/// Debian's package `redis-tools` has the server as well: one program that goes by the name it is called by. So no
/// service of the machine comes with it.
const PROGRAM: &str = "redis-check-rdb";

/// How long it may take until it answers.
const SOON: Duration = Duration::from_secs(60);

/// A server of its own, ended when this is dropped.
#[derive(Debug)]
pub struct Redis {
    _process: Process,
    address: SocketAddr,
    folder: WorkDir,
    _port: Port,
}

impl Redis {
    /// Whether the program is installed.
    pub fn is_installed() -> bool {
        clients::is_in_path(PROGRAM)
    }

    /// Starts a server that keeps nothing unless an option says so. It blocks its thread until the server answers.
    ///
    /// # Errors
    ///
    /// Fails if the program is not installed, or if it does not answer in time.
    pub fn start(options: &[&str]) -> Result<Self> {
        if !Self::is_installed() {
            return Err(Error::new(
                "the server of Redis is not installed",
                "`apt-get install redis-tools`, or `cargo xtask install` as root, which installs what is missing",
            ));
        }
        let (folder, port) = (WorkDir::new("redis")?, Port::free()?);
        let number = port.number().to_string();
        let shown = folder.path().display().to_string();
        let script = format!("exec -a redis-server {PROGRAM} \"$@\"");
        let process = Launch::new("bash")
            .args(["-c", &script, "bash"])
            .args(["--bind", "127.0.0.1", "--port", &number])
            .args(["--dir", &shown, "--save", "", "--daemonize", "no"])
            .args(options)
            .spawn("redis-server", &folder.join("log.txt"))?;
        let redis = Self {
            _process: process,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())),
            folder,
            _port: port,
        };
        if !pause_until(SOON, || redis.answers()) {
            return Err(Error::new(
                format!(
                    "redis-server at {} does not answer; the end of its log:\n{}",
                    redis.address,
                    last_lines(&redis.folder.join("log.txt"))
                ),
                "look what the log says",
            ));
        }
        Ok(redis)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it answers, be it that it wants a password.
    fn answers(&self) -> bool {
        let ask = || {
            let stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut stream = BufReader::new(stream);
            stream.get_mut().write_all(b"PING\r\n")?;
            let mut line = String::new();
            stream.read_line(&mut line)?;
            std::io::Result::Ok(line)
        };
        ask().is_ok_and(|line| line.starts_with("+PONG") || line.starts_with("-NOAUTH"))
    }
}
