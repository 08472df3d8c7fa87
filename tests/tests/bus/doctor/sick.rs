//! What makes a database sick, in the words of each.

use crate::log::numbers::Numbers;

/// A database that can be made sick.
pub trait Sick: Numbers {
    /// A trigger of the outbox that changes messages, or keeps them out.
    const SWALLOWS: &[&str];

    /// A claim of a process that has died an hour ago.
    const DEAD_CLAIM: &str;

    /// A member of the group `shop` that has no lane.
    const IDLE_MEMBER: &str;
}

impl Sick for sqlx::Postgres {
    const SWALLOWS: &[&str] = &[
        "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER \"keep out\" BEFORE INSERT ON final_shop_outbox FOR EACH ROW EXECUTE FUNCTION keep_out()",
    ];

    const DEAD_CLAIM: &str = "\
        INSERT INTO final_shop_claims (number, owner, live_until, first_at, first_id, last_at, last_id) \
        SELECT 1, gen_random_uuid(), clock_timestamp() - interval '1 hour', 'epoch', gen_random_uuid(), 'epoch', \
            gen_random_uuid()";

    const IDLE_MEMBER: &str = "\
        INSERT INTO final_log_members (member, group_name, process, alive_until) \
        SELECT gen_random_uuid(), 'shop', gen_random_uuid(), \
            (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + 3600000000";
}

impl Sick for sqlx::MySql {
    const SWALLOWS: &[&str] = &[
        "CREATE TRIGGER keep_out BEFORE INSERT ON final_shop_outbox FOR EACH ROW SET NEW.payload = ''",
    ];

    const DEAD_CLAIM: &str = "\
        INSERT INTO final_shop_claims (number, owner, live_until, first_at, first_id, last_at, last_id) \
        SELECT 1, UNHEX(REPEAT('11', 16)), UTC_TIMESTAMP(6) - INTERVAL 1 HOUR, '1970-01-01', UNHEX(REPEAT('11', 16)), \
            '1970-01-01', UNHEX(REPEAT('11', 16))";

    const IDLE_MEMBER: &str = "\
        INSERT INTO final_log_members (member, group_name, process, alive_until) \
        SELECT UNHEX(REPEAT('11', 16)), 'shop', UNHEX(REPEAT('12', 16)), \
            TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', UTC_TIMESTAMP(6)) + 3600000000";
}

impl Sick for sqlx::Sqlite {
    const SWALLOWS: &[&str] = &[
        "CREATE TRIGGER \"keep out\" BEFORE INSERT ON final_shop_outbox BEGIN SELECT RAISE(IGNORE); END",
    ];

    const DEAD_CLAIM: &str = "\
        INSERT INTO final_shop_claims (number, owner, live_until, first_at, first_id, last_at, last_id) \
        SELECT 1, zeroblob(16), (unixepoch() - 3600) * 1000, 0, zeroblob(16), 0, zeroblob(16)";

    const IDLE_MEMBER: &str = "\
        INSERT INTO final_log_members (member, group_name, process, alive_until) \
        SELECT zeroblob(16), 'shop', zeroblob(16), (unixepoch() + 3600) * 1000000";
}
