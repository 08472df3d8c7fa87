//! What the program says of an error of a server.

use crate::program::{program, run};

#[tokio::test]
async fn what_postgresql_refuses_is_told_without_a_line_of_the_servers_source() {
    let url = final_tests::pg_database().await.expect("a database");
    let wrong = format!("{url}_that_nobody_made");
    let ran = run(&mut program(), ["status", "--database-url", &wrong]).await;
    let ran = ran.ends_with(1);
    assert!(
        ran.err.contains("does not exist") && !ran.err.contains("at line"),
        "{ran:#?}"
    );
}
