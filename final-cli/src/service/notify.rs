//! Messages to systemd, for units of `Type=notify`.
//!
//! Input: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. Output: datagrams to that socket. Without the variables
//! there are none. A message that cannot be sent is logged and is no error: the service works without systemd.

use std::{
    ffi::OsStr,
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};

use tokio_util::task::AbortOnDropHandle;

use super::{Service, probe::Probe};

/// How long systemd may take to make room for a message.
const PATIENCE: Duration = Duration::from_secs(2);

/// systemd, if it has started this process and wants to hear of it.
#[derive(Clone)]
pub(super) struct Systemd {
    socket: Option<Arc<SocketAddr>>,
    /// The time after which systemd kills a service that is silent.
    watchdog: Option<Duration>,
}

impl Systemd {
    pub(super) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let socket = socket.and_then(|path| match address(&path) {
            Ok(address) => Some(Arc::new(address)),
            Err(error) => {
                tracing::warn!(
                    target: "final::service",
                    %error,
                    "NOTIFY_SOCKET names no socket; systemd is not told of the service's state"
                );
                None
            }
        });
        let variable = |name| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
        };
        let is_ours =
            variable("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = variable("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours);
        Self {
            socket,
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// Sends a message. It waits for systemd for a short time at most.
    pub(super) async fn tell(&self, message: &'static str) {
        let Some(address) = self.socket.clone() else {
            return;
        };
        let sent = tokio::task::spawn_blocking(move || send(&address, message)).await;
        let error = match sent {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(ended) => io::Error::other(ended),
        };
        tracing::warn!(
            target: "final::service",
            said = message, %error,
            "systemd could not be told of the service's state"
        );
    }

    /// Gives systemd a sign of life for as long as the result lives, twice as often as it wants one. A service that
    /// is not alive gives none, and is killed and started again.
    pub(super) fn watch<S: Service>(&self, probe: Arc<Probe<S>>) -> Option<AbortOnDropHandle<()>> {
        let every = self.watchdog? / 2;
        let systemd = self.clone();
        let signs = async move {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let condition = probe.condition().await;
                if condition.live {
                    systemd.tell("WATCHDOG=1").await;
                    continue;
                }
                tracing::warn!(
                    target: "final::service",
                    reasons = condition.reasons.join("; "),
                    "the service is not alive; systemd gets no sign of life"
                );
            }
        };
        Some(AbortOnDropHandle::new(tokio::spawn(signs)))
    }
}

/// The address of a socket: a path, or a name that begins with `@` and is in no folder.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        // Only Linux has names that are no files.
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::other("it begins neither with / nor with @")),
    }
}

fn send(address: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message.as_bytes(), address).map(drop)
}
