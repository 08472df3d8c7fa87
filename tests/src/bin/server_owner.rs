//! A process to be killed: starts a server, says where it is, and never ends.

use final_tests::servers::Postgres;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), final_tests::Error> {
    let server = Postgres::start().await?;
    let pid = server.identity().map_or(0, |identity| identity.pid);
    println!("{pid} {}", server.dir().display());
    std::future::pending().await
}
