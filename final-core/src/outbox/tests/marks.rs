//! The marks of suspects.

use std::time::Duration;

use uuid::Uuid;

use super::house::{House, LEASE};
use crate::{consume::Marks, outbox::Outbox};

/// Two processes of one service.
async fn processes<DB: House>() -> [Outbox<DB>; 2] {
    let pool = DB::fresh().await;
    let processes = [0, 1].map(|_| Outbox::new("my-shop".to_owned(), pool.clone(), LEASE));
    for process in &processes {
        process.migrate().await.unwrap();
        process.located().await.unwrap();
    }
    processes
}

pub(super) async fn a_mark_tells_other_processes_how_often_a_message_has_begun<DB: House>() {
    let [one, other] = processes::<DB>().await;
    let (id, another) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(other.begun(id).await.unwrap(), 0);

    one.begins(id).await.unwrap();
    one.begins(another).await.unwrap();
    assert_eq!(other.begun(id).await.unwrap(), 1);
    other.begins(id).await.unwrap();
    assert_eq!(one.begun(id).await.unwrap(), 2);
    other.ended(id).await.unwrap();

    assert_eq!(one.begun(id).await.unwrap(), 0);
    assert_eq!(one.begun(another).await.unwrap(), 1);
}

pub(super) async fn old_marks_are_forgotten<DB: House>() {
    let [one, _] = processes::<DB>().await;
    let id = Uuid::now_v7();
    one.begins(id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;

    one.forget(Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(one.begun(id).await.unwrap(), 1);
    one.forget(Duration::ZERO).await.unwrap();
    assert_eq!(one.begun(id).await.unwrap(), 0);
}
