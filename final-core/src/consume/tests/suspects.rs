//! Messages that may have taken a process down.

use super::*;
use crate::MessageId;

/// Another one each time.
fn message() -> Message {
    Message::identified(MessageId::new(), TOPIC, "payload")
}

fn options() -> Options {
    Options::default().concurrency(4)
}

fn marks() -> Arc<MarksInMemory> {
    Arc::default()
}

#[tokio::test(start_paused = true)]
async fn a_suspect_has_a_mark_while_its_handler_runs() {
    let (marks, message, gate) = (marks(), message(), Gate::default());
    let mut bench = Bench::with_marks(gate.route(), &options(), Arc::clone(&marks));

    bench.deliver_suspect(1, message.clone()).await;
    settle_down().await;
    assert_eq!((gate.running(), marks.of(&message)), (1, Some(1)));
    gate.open();

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
    settle_down().await;
    assert_eq!(marks.of(&message), None);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_not_delivered_before_costs_no_statement() {
    let marks = marks();
    let done = route(|_| async { Ok(Outcome::Done) });
    let mut bench = Bench::with_marks(done, &options(), Arc::clone(&marks));

    bench.deliver(1, message()).await;

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
    assert_eq!(marks.statements.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_fails_for_good_loses_its_mark() {
    let (marks, message) = (marks(), message());
    let rejects = route(|_| async { Ok(Outcome::Reject) });
    let mut bench = Bench::with_marks(rejects, &options(), Arc::clone(&marks));

    bench.deliver_suspect(1, message.clone()).await;

    assert!(matches!(
        bench.settled().await,
        (1, Settlement::DeadLetter(_))
    ));
    settle_down().await;
    assert_eq!(marks.of(&message), None);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_handler_began_too_often_is_dead_lettered_untouched() {
    let (marks, message, gate) = (marks(), message(), Gate::default());
    marks.set(&message, 2);
    let mut bench = Bench::with_marks(gate.route(), &options(), Arc::clone(&marks));

    bench.deliver_suspect(1, message.clone()).await;

    let (1, Settlement::DeadLetter(why)) = bench.settled().await else {
        panic!("it was to be dead-lettered");
    };
    assert!(why.reason.contains("began 3 times"), "{}", why.reason);
    assert_eq!((why.attempts, gate.running()), (3, 0));
    // In case that the dead letter is void, and the message comes again.
    assert_eq!(marks.of(&message), Some(2));
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_an_option() {
    let (marks, message, gate) = (marks(), message(), Gate::default());
    marks.set(&message, 2);
    let options = options().crash_limit(4);
    let bench = Bench::with_marks(gate.route(), &options, Arc::clone(&marks));

    bench.deliver_suspect(1, message.clone()).await;
    settle_down().await;

    assert_eq!((gate.running(), marks.of(&message)), (1, Some(3)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_begun_before_is_handled_alone() {
    let (marks, gate) = (marks(), Gate::default());
    let known = message();
    marks.set(&known, 1);
    let mut bench = Bench::with_marks(gate.route(), &options(), marks);
    bench.deliver(1, message()).await;
    settle_down().await;

    bench.deliver_suspect(2, known).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.deliver(3, message()).await;
    settle_down().await;
    assert_eq!(gate.running(), 1, "the one before it");
    gate.open();
    assert_eq!(bench.settled().await, (1, Settlement::Ack));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(gate.running(), 1, "the suspect");
    gate.open();

    assert_eq!(bench.settled().await, (2, Settlement::Ack));
    settle_down().await;
    gate.open();
    assert_eq!(bench.settled().await, (3, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn other_messages_do_not_wait_for_a_long_suspect() {
    let (marks, gate, known) = (marks(), Gate::default(), message());
    marks.set(&known, 1);
    let bench = Bench::with_marks(gate.route(), &options(), marks);

    bench.deliver_suspect(1, known).await;
    settle_down().await;
    bench.deliver(2, message()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(gate.running(), 1);
    tokio::time::sleep(Duration::from_secs(6)).await;

    assert_eq!(gate.running(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_does_not_wait_for_long_handlers() {
    let (marks, gate, known) = (marks(), Gate::default(), message());
    marks.set(&known, 1);
    let bench = Bench::with_marks(gate.route(), &options(), marks);
    bench.deliver(1, message()).await;

    bench.deliver_suspect(2, known).await;
    tokio::time::sleep(Duration::from_secs(11)).await;

    assert_eq!(gate.running(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_suspects_wait_and_others_go_on() {
    let (marks, suspect) = (marks(), message());
    marks.fails.store(true, SeqCst);
    let done = route(|_| async { Ok(Outcome::Done) });
    let mut bench = Bench::with_marks(done, &options(), Arc::clone(&marks));

    bench.deliver_suspect(1, suspect).await;
    bench.deliver(2, message()).await;
    assert_eq!(bench.settled().await, (2, Settlement::Ack));
    bench.unsettled_for(Duration::from_secs(60)).await;
    marks.fails.store(false, SeqCst);

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_a_shutdown_aborts_or_stops_leaves_no_mark() {
    let (marks, gate) = (marks(), Gate::default());
    let options = options().concurrency(1);
    let (runs, waits) = (message(), message());
    let mut bench = Bench::with_marks(gate.route(), &options, Arc::clone(&marks));
    bench.deliver_suspect(1, runs.clone()).await;
    settle_down().await;
    bench.deliver_suspect(2, waits.clone()).await;
    settle_down().await;
    assert_eq!(marks.of(&runs), Some(1));

    bench.stop.cancel();
    bench.end_stream();
    (&mut bench.run).await.unwrap();

    assert_eq!(bench.settled().await, (2, Settlement::Requeue));
    assert_eq!(bench.settled().await, (1, Settlement::Requeue));
    assert_eq!((marks.of(&runs), marks.of(&waits)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn equal_messages_without_an_id_share_a_mark_and_do_not_count_each_other() {
    let (marks, gate) = (marks(), Gate::default());
    let mut bench = Bench::with_marks(gate.route(), &options(), Arc::clone(&marks));

    for tag in 1..=4 {
        bench.deliver_suspect(tag, super::message()).await;
        settle_down().await;
    }
    let begun: Vec<u32> = marks.begun.lock().unwrap().values().copied().collect();
    assert_eq!((gate.running(), begun), (4, vec![1]));
    gate.open();
    for _ in 1..=4 {
        assert_eq!(bench.settled().await.1, Settlement::Ack);
    }
    settle_down().await;

    assert!(marks.begun.lock().unwrap().is_empty());
}
