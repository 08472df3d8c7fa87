//! The outbox on real databases: one suite, and what only one of them has.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alone;
mod calls;
mod claim;
mod claims;
mod counting;
mod house;
mod insert;
mod inspect;
mod letters;
mod marks;
mod migrate;
mod model;
mod mysql;
mod postgres;
mod sent_as;
mod servers;
mod settings;
mod settle;
mod sqlite;

use self::house::{House, Outbox};

/// Runs every case for one database. Those under `servers` need more than one writer at a time.
macro_rules! outbox_suite {
    ($name:ident, $database:ty, $($group:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        mod $name {
            $(mod $group {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        crate::outbox::tests::$group::$case::<$database>().await;
                    }
                )*
            })*
        }
    };
}

macro_rules! for_all {
    ($name:ident, $database:ty $(, $servers:ident: [$($case:ident),* $(,)?])*) => {
        outbox_suite! {
            $name, $database,
            insert: [
                a_committed_record_is_claimed_as_it_was_published,
                a_rolled_back_record_is_never_claimed,
                a_record_is_not_claimed_by_others_while_its_lease_lasts,
                a_delayed_record_is_due_after_its_delay,
                a_lease_is_counted_from_the_running_clock_not_the_transaction_start,
                a_time_to_live_counts_from_the_due_time,
                a_record_of_a_parked_topic_starts_unroutable,
                thousands_of_records_go_in_chunks,
                plain_records_are_claimed_as_they_were_published_however_many,
                inserts_of_many_sizes_leave_room_in_the_callers_statement_cache,
            ],
            alone: [
                a_record_alone_is_committed_by_itself,
                a_record_alone_is_not_written_into_an_open_transaction,
            ],
            claim: [
                a_claim_takes_the_oldest_first_and_each_once,
                a_pass_continues_after_the_last_key,
                claims_at_once_share_no_record,
                a_row_that_is_no_message_does_not_hold_up_the_others,
                payloads_of_all_sizes_are_claimed_together_as_they_were_published,
                a_claim_carries_no_more_payload_than_it_may,
            ],
            claims: [
                a_claim_writes_one_row_and_no_record,
                what_is_left_of_a_finished_claim_is_due,
                a_claim_that_has_run_out_gives_no_rights,
                of_two_who_have_seen_the_same_claims_one_can_write_the_next,
                claims_go_around_those_of_others,
                between_claims_that_follow_upon_each_other_nobody_looks_again,
                claims_that_have_ended_are_forgotten_but_for_the_last_ones,
            ],
            settle: [
                deleting_asks_nobody_whose_lease_it_is,
                what_is_kept_as_acked_is_purged_when_it_is_old,
                another_owner_changes_nothing,
                a_renewed_lease_lasts_longer,
                a_released_record_is_due_again_with_its_attempts_unchanged,
                a_record_put_back_counts_its_attempts_and_faults,
                a_parked_topic_is_probed_by_one_record_and_then_released,
                a_failed_record_says_why_and_can_be_tried_again,
                long_lists_of_ids_are_settled_whole,
                an_empty_list_of_ids_changes_nothing,
            ],
            inspect: [
                the_next_due_time_includes_leases_and_delays,
                the_backlog_counts_each_status_and_the_age_of_the_oldest_that_is_due,
                each_parked_topic_is_listed_once,
                live_leases_of_others_are_seen,
                what_only_waits_is_nobodys_lease,
                purging_removes_everything,
            ],
            counting: [
                the_server_ends_a_count_whose_time_is_over,
                a_count_that_was_given_up_gives_its_connection_back,
                counts_have_one_connection_and_leave_the_pool_as_it_is,
                counts_whose_callers_have_gone_have_one_connection_together,
                what_is_counted_in_time_is_the_same_with_a_limit,
            ],
            sent_as: [
                one_id_is_published_many_times_in_one_transaction,
                one_id_is_published_in_one_transaction_after_the_other,
                one_id_is_published_alone_and_beside_others,
                each_record_of_one_id_is_changed_by_itself,
                a_failed_record_is_told_and_retried_by_the_id_of_its_message,
                an_id_that_is_kept_as_acked_is_published_again,
                a_filled_table_of_the_release_before_is_upgraded,
                the_script_upgrades_a_table_of_the_release_before,
            ],
            marks: [
                a_mark_tells_other_processes_how_often_a_message_has_begun,
                old_marks_are_forgotten,
            ],
            letters: [
                a_letter_is_listed_as_it_was_stored,
                all_letters_are_counted,
                a_letter_that_may_be_there_already_is_stored_once,
                a_letter_that_is_refused_leaves_none_of_its_lot,
                letters_are_listed_and_ended_by_filter,
                a_list_of_large_letters_ends_within_its_bytes_and_goes_on_behind_them,
                a_replayed_letter_is_a_record_for_this_service_alone,
                what_is_collected_meanwhile_is_not_replayed,
                a_letter_in_other_hands_is_left_out,
                of_many_letters_the_one_in_other_hands_is_left_out,
            ],
            migrate: [
                a_release_that_knew_no_collected_letters_gets_their_table,
                migrating_again_changes_nothing,
                twenty_instances_can_migrate_at_once,
                services_that_share_a_schema_can_migrate_at_once,
                two_services_of_one_table_are_told_apart,
                the_script_can_be_run_by_hand_and_again,
                a_table_of_something_else_is_refused,
                a_missing_table_is_told_from_other_errors,
                a_cancelled_begin_leaves_no_transaction_behind,
                the_longest_service_name_fits,
            ],
            $($servers: [$($case),*]),*
        }
    };
}

for_all!(on_sqlite, sqlx::Sqlite);
for_all!(
    on_postgres,
    sqlx::Postgres,
    servers: [
        settling_does_not_wait_for_a_callers_open_insert,
        settling_does_not_wait_for_an_open_insert_before_all_others,
        two_open_transactions_publish_one_id_and_wait_for_neither,
        an_upgrade_lets_others_publish_while_it_waits_for_an_open_transaction,
        inserts_claims_and_settling_at_once_do_not_deadlock,
        claims_pass_over_what_another_has_locked,
        a_topic_is_released_but_for_what_another_has_locked,
        claims_do_not_pass_over_what_another_only_looks_at,
        an_empty_claim_does_not_block_a_callers_insert,
        the_relay_reads_what_is_committed,
        a_callers_own_schema_does_not_redirect_the_insert,
        the_startup_lock_keeps_others_from_migrating,
        nobody_migrates_while_a_start_purges,
        what_commits_in_the_midst_of_a_claim_is_due_when_that_is_finished,
        letters_whose_replay_takes_too_long_are_replayed_in_smaller_parts,
    ]
);
for_all!(
    on_mysql,
    sqlx::MySql,
    servers: [
        settling_does_not_wait_for_a_callers_open_insert,
        settling_does_not_wait_for_an_open_insert_before_all_others,
        two_open_transactions_publish_one_id_and_wait_for_neither,
        an_upgrade_lets_others_publish_while_it_waits_for_an_open_transaction,
        inserts_claims_and_settling_at_once_do_not_deadlock,
        claims_pass_over_what_another_has_locked,
        a_topic_is_released_but_for_what_another_has_locked,
        claims_do_not_pass_over_what_another_only_looks_at,
        an_empty_claim_does_not_block_a_callers_insert,
        the_relay_reads_what_is_committed,
        a_callers_own_schema_does_not_redirect_the_insert,
        the_startup_lock_keeps_others_from_migrating,
        nobody_migrates_while_a_start_purges,
        what_commits_in_the_midst_of_a_claim_is_due_when_that_is_finished,
        letters_whose_replay_takes_too_long_are_replayed_in_smaller_parts,
    ]
);
