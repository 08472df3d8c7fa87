//! `docs/doctor.md` says what the doctor can find.

use std::collections::BTreeSet;

use final_core::admin::doctor::{COULD_NOT_CHECK, DIAGNOSES};

#[test]
fn the_table_in_the_docs_has_each_diagnosis_with_its_level() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/doctor.md");
    let docs = std::fs::read_to_string(docs).expect("docs/doctor.md");
    let rows = docs.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`').to_owned();
        Some((name, cells.next()?.trim().to_owned()))
    });
    let broker = final_amqp::doctor::DIAGNOSES;
    let known = DIAGNOSES.iter().chain(broker).chain([&COULD_NOT_CHECK]);
    let known: BTreeSet<(String, String)> = known
        .map(|diagnosis| (diagnosis.name.to_owned(), diagnosis.level.to_string()))
        .collect();

    assert_eq!(rows.collect::<BTreeSet<_>>(), known);
}
