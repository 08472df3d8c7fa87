//! A Redis server that writes each command to the disk before it answers: `appendfsync always`.

pub(crate) use final_tests::Redis;

use crate::Result;

/// Starts it. `None` if the program is not installed.
pub(crate) async fn start_redis() -> Result<Option<Redis>> {
    if !Redis::is_installed() {
        return Ok(None);
    }
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let started = tokio::task::spawn_blocking(move || Redis::start(&options)).await?;
    Ok(Some(started?))
}
