//! Taking the next connection, whatever the system answers.

use std::{
    io,
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// How long to wait when the process has no file left. Connections that end meanwhile free some.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is logged.
const QUIET: Duration = Duration::from_mins(1);

/// Takes the next connection. Cancel safe.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                complain(&error);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Whether the connection was gone before it was taken: the next one is not concerned.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
    )
}

fn complain(error: &io::Error) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let is_time = {
        let mut last = LAST.lock().unwrap_or_else(|broken| broken.into_inner());
        let is_time = last.is_none_or(|last| last.elapsed() >= QUIET);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time
    };
    if is_time {
        tracing::warn!(
            target: "final::gateway",
            error = %error,
            "no connection can be taken now; it is tried again every 100 ms. Raise the limit of open files if it is reached"
        );
    }
}
