use super::*;

fn rules(hold: usize) -> GroupRules {
    GroupRules {
        hold,
        most: 1000,
        pass_statements: false,
        lower_names: false,
    }
}

fn groups(hold: usize) -> Groups {
    Groups::new(
        Place::after_gtids("0-7-9".parse().unwrap()),
        Arc::default(),
        rules(hold),
    )
}

fn raw(kind: u8, body: &[u8]) -> RawEvent {
    RawEvent {
        kind,
        server: 7,
        at: 5,
        end: 1,
        body: body.into(),
        ..RawEvent::default()
    }
}

fn gtid(number: u64, flags: u8) -> RawEvent {
    let mut body = number.to_le_bytes().to_vec();
    body.extend([0, 0, 0, 0, flags]);
    raw(162, &body)
}

fn rows(byte: u8) -> RawEvent {
    raw(23, &[byte; 100])
}

fn query(text: &str) -> RawEvent {
    let mut body = vec![0; 14];
    body.extend(text.as_bytes());
    raw(2, &body)
}

fn xid() -> RawEvent {
    raw(16, &[0; 8])
}

/// What comes out, in short.
fn out(groups: &mut Groups) -> Vec<String> {
    std::iter::from_fn(|| groups.take())
        .map(|piece| match piece {
            Piece::Begin(transaction) => format!("begin {}", transaction.id),
            Piece::Part {
                event,
                undone,
                prepared,
            } => {
                let first = event.body.first().copied().unwrap_or(0);
                format!(
                    "{first}{}{}",
                    if undone { " undone" } else { "" },
                    if prepared { " prepared" } else { "" }
                )
            }
            Piece::Truncate(table) => format!("truncate {table}"),
            Piece::End(point) => format!("end {point}"),
        })
        .collect()
}

fn feed(groups: &mut Groups, events: impl IntoIterator<Item = RawEvent>) -> Next {
    let mut last = Next::Read;
    for event in events {
        last = groups.put(event).unwrap();
    }
    last
}

#[test]
fn nothing_comes_before_the_end_and_nothing_of_what_was_rolled_back() {
    let mut groups = groups(1000);
    feed(&mut groups, [gtid(10, 4), rows(1), rows(2)]);
    assert_eq!(out(&mut groups), [] as [&str; 0]);
    assert_eq!(groups.point().to_string(), "gtid:0-7-9");
    feed(
        &mut groups,
        [xid(), gtid(11, 4), rows(3), query("ROLLBACK")],
    );
    assert_eq!(
        out(&mut groups),
        [
            "begin 0-7-10",
            "1",
            "2",
            "end gtid:0-7-10",
            "end gtid:0-7-11"
        ]
    );
}

#[test]
fn savepoints_undo_what_is_behind_them_also_inside_of_one_another() {
    let mut groups = groups(10_000);
    let events = [
        gtid(10, 4),
        rows(0),
        query("SAVEPOINT a"),
        rows(1),
        query("SAVEPOINT `b`"),
        rows(2),
        query("ROLLBACK TO b"),
        rows(3),
        query("ROLLBACK TO A"),
        rows(4),
        query("SAVEPOINT a"),
        rows(5),
        query("ROLLBACK TO a"),
        xid(),
    ];
    feed(&mut groups, events);
    assert_eq!(
        out(&mut groups),
        [
            "begin 0-7-10",
            "0",
            "1 undone",
            "2 undone",
            "3 undone",
            "4",
            "5 undone",
            "end gtid:0-7-10"
        ]
    );
    feed(&mut groups, [gtid(11, 4)]);
    assert!(groups.put(query("ROLLBACK TO never")).is_err());
}

#[test]
fn a_large_transaction_is_sought_to_its_end_and_passes_at_once_the_second_time() {
    let mut groups = groups(300);
    let large = || {
        [
            gtid(10, 4),
            rows(0),
            query("SAVEPOINT s"),
            rows(1),
            rows(2),
            query("ROLLBACK TO s"),
            rows(3),
        ]
    };
    feed(&mut groups, large());
    let Next::Again(point) = groups.put(xid()).unwrap() else {
        panic!("it was held");
    };
    assert_eq!(point.to_string(), "gtid:0-7-9");
    assert_eq!(out(&mut groups), [] as [&str; 0]);
    groups.reopened(Place::after_gtids("0-7-9".parse().unwrap()));
    feed(&mut groups, large());
    assert_eq!(
        out(&mut groups),
        ["begin 0-7-10", "0", "1 undone", "2 undone", "3"]
    );
    feed(&mut groups, [xid()]);
    assert_eq!(out(&mut groups), ["end gtid:0-7-10"]);
}

#[test]
fn a_transaction_that_a_crash_has_cut_off_is_gone_with_the_next_file() {
    let mut groups = groups(1000);
    feed(
        &mut groups,
        [
            gtid(10, 4),
            rows(1),
            raw(15, &[]),
            gtid(10, 4),
            rows(2),
            xid(),
        ],
    );
    assert_eq!(out(&mut groups), ["begin 0-7-10", "2", "end gtid:0-7-10"]);
    // Without a new file it is no crash.
    feed(&mut groups, [gtid(11, 4), rows(3)]);
    assert!(groups.put(gtid(12, 4)).is_err());
}

#[test]
fn ddl_is_one_statement_and_a_truncate_is_told() {
    let mut groups = groups(1000);
    feed(
        &mut groups,
        [
            gtid(10, 1),
            query("ALTER TABLE t ADD b INT"),
            gtid(11, 33),
            query("TRUNCATE shop.t"),
        ],
    );
    assert_eq!(
        out(&mut groups),
        [
            "end gtid:0-7-10",
            "begin 0-7-11",
            "truncate shop.t",
            "end gtid:0-7-11"
        ]
    );
}

#[test]
fn what_cannot_be_read_is_an_error_and_the_point_stays_before_it() {
    for event in [
        query("INSERT INTO t VALUES (1)"),
        raw(26, &[1]),
        raw(18, &[]),
        raw(250, &[]),
        raw(40, &[]),
    ] {
        let mut groups = groups(1000);
        feed(&mut groups, [gtid(10, 4), rows(1)]);
        assert!(groups.put(event).is_err());
        assert_eq!(groups.point().to_string(), "gtid:0-7-9");
        assert_eq!(out(&mut groups), [] as [&str; 0]);
    }
}

#[test]
fn a_prepared_transaction_is_marked_and_one_phase_is_a_commit() {
    let mut groups = groups(1000);
    feed(
        &mut groups,
        [
            gtid(10, 68),
            rows(1),
            query("XA END X'78',X'',1"),
            raw(38, &[0]),
        ],
    );
    assert_eq!(
        out(&mut groups),
        ["begin 0-7-10", "1 prepared", "end gtid:0-7-10"]
    );
    feed(
        &mut groups,
        [
            gtid(11, 133),
            query("XA COMMIT X'78',X'',1"),
            gtid(12, 4),
            rows(2),
            raw(38, &[1]),
        ],
    );
    assert_eq!(
        out(&mut groups),
        ["end gtid:0-7-11", "begin 0-7-12", "2", "end gtid:0-7-12"]
    );
}

fn rotate(file: &str, artificial: bool) -> RawEvent {
    let mut body = 4_u64.to_le_bytes().to_vec();
    body.extend(file.as_bytes());
    let mut event = raw(4, &body);
    event.end = if artificial { 0 } else { 300 };
    event
}

#[test]
fn a_new_file_moves_a_position_by_file_also_where_nothing_is_written() {
    let place = Place::in_file("log.000001".into(), 200);
    let mut groups = Groups::new(place, Arc::default(), rules(1000));
    feed(&mut groups, [rotate("log.000002", false)]);
    assert_eq!(out(&mut groups), ["end file:log.000002:4"]);
    // The server announces the file once more where it opens it.
    feed(&mut groups, [rotate("log.000002", true), raw(15, &[])]);
    assert_eq!(out(&mut groups), [] as [&str; 0]);
    // What a crash has cut off is over with the next file.
    feed(
        &mut groups,
        [gtid(10, 4), rows(1), rotate("log.000003", true)],
    );
    assert_eq!(out(&mut groups), [] as [&str; 0]);
    feed(&mut groups, [raw(15, &[])]);
    assert_eq!(out(&mut groups), ["end file:log.000003:4"]);
}

#[test]
fn a_new_file_tells_nothing_to_a_position_by_gtid() {
    let mut groups = groups(1000);
    feed(
        &mut groups,
        [
            rotate("log.000001", true),
            raw(15, &[]),
            rotate("log.000002", false),
        ],
    );
    assert_eq!(out(&mut groups), [] as [&str; 0]);
    assert_eq!(groups.point().to_string(), "gtid:0-7-9");
}
