//! Closing a connection so that the client reads the last answer.
//!
//! A socket that is closed while bytes of the client are unread sends a reset, and a reset may overtake the answer. So
//! the answer goes first, then the end of our side, and what the client still sends is read and dropped for a moment.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// How long all of it may take.
const MOMENT: Duration = Duration::from_secs(1);

/// How many bytes of the client are read at most.
const MOST: u64 = 256 * 1024;

/// Writes the last bytes, and closes.
pub(crate) async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, last: &[u8]) {
    let said = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(MOST);
        let mut dropped = [0; 512];
        while rest.read(&mut dropped).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(MOMENT, said).await;
}
