//! A Redis server that writes each command to the disk before it answers: `appendfsync always`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use final_tests::{Port, WorkDir};

use super::resp::RespClient;
use crate::{Result, load::until};

/// Debian's package `redis-tools` has the server as well: one program that goes by the name it is called by. So no
/// service of the machine comes with it.
const PROGRAM: &str = "redis-check-rdb";

/// A server of our own, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: WorkDir,
    _port: Port,
}

impl Redis {
    /// Starts it. `None` if the program is not installed.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let (folder, port) = (WorkDir::new("redis")?, Port::free()?);
        let number = port.number();
        let shown = folder.path().display().to_string();
        let spawned = Command::new(PROGRAM)
            .arg0("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &number.to_string()])
            .args(["--dir", &shown, "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always", "--daemonize", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
        let redis = Self {
            child,
            address,
            _folder: folder,
            _port: port,
        };
        let answers = async || {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(RespClient::connect(address).await.is_ok())
        };
        until("for redis-server", answers).await?;
        Ok(Some(redis))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
