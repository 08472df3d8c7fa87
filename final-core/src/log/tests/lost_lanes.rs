//! Lanes that are lost or given away while messages of them are in flight.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use crate::log::{
    engine::deliver::Deliveries,
    member::settlements::Settlements,
    progress::{
        in_flight::InFlight,
        rows::{LaneId, LaneRow, LogRow, Topics},
        spans::Spans,
        stream::{Offer, Stream},
    },
    tuning::Tuning,
};

fn row(seq: i64) -> LogRow {
    LogRow::plain(seq, 0, "placed".into(), Some("a key"))
}

/// A topic that was added later has a stream of its own up to where it was added. A key can be in both
/// streams.
#[test]
fn a_message_behind_one_of_a_lost_lane_goes_next() {
    let mut in_flight = InFlight::new(true, 10, 0);
    let (older, main) = (LaneId { stream: 1, lane: 0 }, LaneId { stream: 0, lane: 0 });
    let (first, goes) = in_flight.take(older, row(1));
    let (_, one_more) = in_flight.take(older, row(2));
    let (waiting, goes_too) = in_flight.take(main, row(3));
    let (last, _) = in_flight.take(main, row(4));
    assert_eq!((goes, one_more, goes_too), (true, false, false));

    assert_eq!(in_flight.lose(older), (vec![first], vec![waiting]));
    assert_eq!(
        in_flight.settle(waiting).and_then(|(_, next)| next),
        Some(last)
    );
    // The delivery of the lost lane has its place until it is settled.
    assert_eq!(in_flight.room(), 8);
    in_flight.forget(first);
    assert_eq!(in_flight.room(), 9);
}

#[test]
fn a_message_behind_one_of_a_lane_that_stays_waits_on() {
    let mut in_flight = InFlight::new(true, 10, 0);
    let (older, main) = (LaneId { stream: 1, lane: 0 }, LaneId { stream: 0, lane: 0 });
    let (first, _) = in_flight.take(main, row(3));
    in_flight.take(older, row(1));
    let (last, _) = in_flight.take(main, row(4));

    assert_eq!(in_flight.lose(older), (vec![], vec![]));
    assert_eq!(
        in_flight.settle(first).and_then(|(_, next)| next),
        Some(last)
    );
}

#[test]
fn deliveries_of_lost_lanes_keep_their_places_in_the_channel_until_they_are_settled() {
    let settlements = Arc::new(Settlements::new(false));
    let (channel, mut handlers) = mpsc::channel(2);
    let tuning = Tuning {
        prefetch: 2,
        ..Tuning::default()
    };
    let mut deliveries = Deliveries::new(
        &tuning,
        &BTreeMap::new(),
        Arc::clone(&settlements),
        Some(channel),
    );
    let lane = |lane| LaneId { stream: 0, lane };
    let plain = |seq| LogRow::plain(seq, 0, "placed".into(), None);
    deliveries.take(lane(0), plain(1), false);
    deliveries.take(lane(0), plain(2), false);
    let (lost, _) = deliveries.in_flight.lose(lane(0));
    settlements.lose(&lost);
    assert_eq!(deliveries.in_flight.room(), 0);

    // As many as there is room for fit into the channel, and none comes back.
    for free in 1..=2 {
        drop(handlers.try_recv().expect("a delivery of the lost lane"));
        for (tag, _) in settlements.take() {
            deliveries.in_flight.forget(tag);
        }
        assert_eq!(deliveries.in_flight.room(), free);
    }
    for seq in 3..=4 {
        deliveries.take(lane(1), plain(seq), false);
    }
    assert!(settlements.take().is_empty());
    assert_eq!(handlers.len(), 2);
}

/// No settlement of it ever comes, so nothing would take it out of the lost deliveries.
#[test]
fn a_light_message_of_a_lost_lane_is_no_lost_delivery() {
    let mut in_flight = InFlight::new(true, 1, 0);
    let (older, main) = (LaneId { stream: 1, lane: 0 }, LaneId { stream: 0, lane: 0 });
    let (first, _) = in_flight.take(main, row(3));
    let (light, _) = in_flight.take(older, row(1));
    let (last, _) = in_flight.take(main, row(4));
    assert_eq!(
        in_flight.settle(first).and_then(|(_, next)| next),
        Some(light)
    );
    assert!(in_flight.must_read(light));

    assert_eq!(in_flight.lose(older), (vec![], vec![last]));
    assert!(in_flight.take_to_read().is_empty());
}

/// The trimmed part of the log can have messages of a topic that no group had subscribed for long.
#[test]
fn a_visible_row_in_the_trimmed_part_stays_open_while_its_lane_is_given_away() {
    let mut stream = Stream::new(0, None, Topics::from([("placed".into(), 0)]));
    stream.adopt(LaneRow {
        id: LaneId { stream: 0, lane: 0 },
        member: None,
        is_held: true,
        epoch: 1,
        read_to: 9,
        settled_to: 2,
        open: Some(Spans::parse("3-9").unwrap()),
        ends_at: None,
    });
    stream.lane_mut(0).unwrap().drain();
    assert_eq!(stream.offer(&row(5), "shop"), Offer::Leave);

    stream.close_removed(9, &[5]);
    let open = stream.lanes().next().unwrap().1.handover(&stream.gaps).open;
    assert_eq!(open.to_string(), "5");
}
