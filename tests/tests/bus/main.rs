//! The bus, end to end: one suite, run for every database and every broker.

#![allow(clippy::expect_used, reason = "a test says what it expects")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod admin;
mod alone;
mod bad_input;
mod clients;
mod collect;
mod consume;
mod database;
mod delay;
mod detour;
mod doctor;
mod face;
mod floor;
mod house;
mod ids;
mod instances;
mod log;
mod metrics;
mod names;
mod password;
mod payload;
mod publish;
mod quirks;
mod redirected;
mod refused;
mod relay;
mod role;
mod settings;
mod shutdown;
mod transaction;
mod transport;
mod writers;

/// Makes a test of each function of a list, on several pairs of database and broker. Each function is
/// named once: `everywhere`, or `with an outbox`, which leaves out the log. There is no relay on the log,
/// so there is no outbox to look into, and no broker that can be away.
///
/// `on DATABASE, BROKER` runs them on that database alone.
#[macro_export]
macro_rules! suite {
    (
        $(everywhere: [$($every:ident),+ $(,)?] $(,)?)?
        $(with an outbox: [$($outbox:ident),+ $(,)?] $(,)?)?
    ) => {
        $crate::suite!(@pair postgres_and_rabbitmq, sqlx::Postgres, $crate::transport::Rabbit:
            $($($every,)+)? $($($outbox,)+)?);
        $crate::suite!(@pair mariadb_and_rabbitmq, sqlx::MySql, $crate::transport::Rabbit:
            $($($every,)+)? $($($outbox,)+)?);
        $crate::suite!(@pair sqlite_and_memory, sqlx::Sqlite, $crate::transport::Memory:
            $($($every,)+)? $($($outbox,)+)?);
        $crate::suite!(@pair postgres_log, sqlx::Postgres, $crate::transport::Log: $($($every,)+)?);
        $crate::suite!(@pair mariadb_log, sqlx::MySql, $crate::transport::Log: $($($every,)+)?);
        $crate::suite!(@pair sqlite_log, sqlx::Sqlite, $crate::transport::Log: $($($every,)+)?);
    };
    (
        on $database:ty, $transport:ident:
        everywhere: [$($every:ident),+ $(,)?] $(,)?
        $(with an outbox: [$($outbox:ident),+ $(,)?] $(,)?)?
    ) => {
        $crate::suite!(@pair outbox, $database, $crate::transport::$transport:
            $($every,)+ $($($outbox,)+)?);
        $crate::suite!(@pair log, $database, $crate::transport::Log: $($every,)+);
    };
    (@pair $pair:ident, $database:ty, $transport:ty:) => {};
    (@pair $pair:ident, $database:ty, $transport:ty: $($name:ident,)+) => {
        mod $pair {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::house::House::<$database, $transport>::new().await).await;
                }
            )+
        }
    };
}
