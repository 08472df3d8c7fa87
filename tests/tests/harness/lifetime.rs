//! Nothing outlives the tests.

use std::path::Path;

use final_tests::{
    WorkDir, eventually,
    process::{Identity, Launch},
};

use crate::SOON;

#[tokio::test]
async fn servers_and_folders_go_when_the_tests_are_killed() {
    let dir = WorkDir::new("lifetime").unwrap();
    let tests = Launch::new(env!("CARGO_BIN_EXE_server_owner"))
        .env("FINAL_TEST_KEEP", "")
        .spawn("the tests", &dir.join("log"))
        .unwrap();
    let (server, folder) = eventually("the server runs", SOON, async || {
        let log = tests.log();
        let (pid, folder) = log.lines().next()?.split_once(' ')?;
        Some((
            Identity::of(pid.parse().ok()?)?,
            Path::new(folder).to_owned(),
        ))
    })
    .await;
    assert!(folder.exists());
    // The signal goes to the test process only, and not to the server that it has started.
    Launch::new("kill")
        .args(["-9", &tests.pid().to_string()])
        .run()
        .unwrap();
    eventually("the server is gone", SOON, async || !server.is_alive()).await;
    eventually("its folder is gone", SOON, async || !folder.exists()).await;
}
