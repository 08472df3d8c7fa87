use super::*;
use crate::table::{Column, ColumnKind};

fn name(table: &str) -> TableName {
    TableName {
        schema: "shop".into(),
        table: table.into(),
    }
}

fn source_table(table: &str, columns: &[&str]) -> SourceTable {
    SourceTable {
        name: name(table),
        columns: columns.iter().map(|name| (*name).into()).collect(),
        key: vec!["id".into()],
    }
}

fn table(columns: &[&str]) -> Table {
    let column = |name: &&str| Column {
        name: (*name).into(),
        kind: ColumnKind::Text,
        declared: "text".into(),
    };
    Table {
        name: name("users"),
        columns: columns.iter().map(column).collect(),
        key: vec![0],
    }
}

#[track_caller]
fn refused(result: Result<impl std::fmt::Debug, SelectError>, words: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn an_exclusion_counts_wherever_it_stands() {
    let selection = Selection::tables(["!shop.tmp_*", "shop.*"]);

    assert!(selection.wants(&name("holes")));
    assert!(!selection.wants(&name("tmp_1")));
    selection.check().unwrap();
}

#[test]
fn a_selection_of_nothing_is_refused() {
    refused(
        Selection::tables(["!shop.a"]).check(),
        "no table is selected",
    );
    refused(
        Selection::tables(Vec::<String>::new()).check(),
        "no table is selected",
    );
    refused(
        Selection::tables(["shop.*", "holes"]).check(),
        "`holes` is no pattern",
    );
}

#[test]
fn patterns_and_rules_must_fit_what_is_there() {
    let there = [
        source_table("users", &["id", "email"]),
        source_table("orders", &["id"]),
    ];
    let check = |selection: Selection| selection.check_tables(&there);
    let all = || Selection::tables(["shop.*"]);

    check(all().columns("shop.*", ColumnRules::new().drop("email"))).unwrap();
    refused(
        check(Selection::tables(["shop.users", "shop.hloes"])),
        "`shop.hloes`",
    );
    refused(
        check(all().columns("shop.user", ColumnRules::new().drop("email"))),
        "`shop.user`",
    );
    refused(
        check(all().columns("shop.users", ColumnRules::new().drop("mail"))),
        "`mail`",
    );
    refused(
        check(all().columns("shop.orders", ColumnRules::new().filter("paid = true"))),
        "`paid`",
    );
    // A rule for a table that is not captured hides nothing.
    refused(
        check(
            Selection::tables(["shop.orders"])
                .columns("shop.users", ColumnRules::new().drop("email")),
        ),
        "`shop.users`",
    );
}

#[test]
fn a_row_filter_of_many_tables_must_fit_each_of_them() {
    let there = [
        source_table("users", &["id", "paid"]),
        source_table("orders", &["id"]),
    ];
    let filtering = |tables: &str| {
        Selection::tables(["shop.*"]).columns(tables, ColumnRules::new().filter("paid = true"))
    };

    refused(
        filtering("shop.*").check_tables(&there),
        "`paid`, which shop.orders does not have",
    );
    filtering("shop.u*").check_tables(&there).unwrap();
}

#[test]
fn a_key_can_be_hashed_and_not_hidden() {
    let there = [source_table("users", &["id", "email"])];
    let with = |rules| {
        let key = HashKey::new("0123456789abcdef").unwrap();
        Selection::tables(["shop.*"])
            .columns("shop.users", rules)
            .hash_key(key)
    };

    refused(
        with(ColumnRules::new().drop("id")).check_tables(&there),
        "cannot be dropped",
    );
    refused(
        with(ColumnRules::new().mask("id")).check_tables(&there),
        "cannot be masked",
    );
    refused(
        with(ColumnRules::new().drop("id")).rules_for("a", &table(&["id"])),
        "cannot be dropped",
    );
    with(ColumnRules::new().hash("id"))
        .check_tables(&there)
        .unwrap();
}

#[test]
fn a_column_that_was_renamed_meanwhile_stops_and_does_not_leak() {
    let selection =
        Selection::tables(["shop.*"]).columns("shop.users", ColumnRules::new().mask("email"));

    selection.rules_for("a", &table(&["id", "email"])).unwrap();
    refused(
        selection.rules_for("a", &table(&["id", "mail"])),
        "may have been renamed",
    );
}

#[test]
fn a_column_that_a_rule_of_many_tables_hides_stops_once_it_is_renamed() {
    let selection =
        Selection::tables(["shop.*"]).columns("shop.*", ColumnRules::new().mask("email"));
    let (before, renamed) = (table(&["id", "email"]), table(&["id", "mail"]));

    // A table that never had it is none of its concern.
    selection.rules_for("a", &renamed).unwrap();
    selection.rules_for("a", &before).unwrap();
    let gone = "`email` of shop.users, which the rule for `shop.*` hides, is not there now";
    refused(selection.rules_for("a", &renamed), gone);
    refused(selection.rules_for("a", &renamed), gone);
    // The next stream has a clone.
    refused(selection.clone().rules_for("a", &renamed), gone);
    selection.rules_for("b", &renamed).unwrap();
}

#[test]
fn a_pattern_with_a_star_behind_a_backslash_names_one_table() {
    let selection = Selection::tables([r"shop.users\*"])
        .columns(r"shop.users\*", ColumnRules::new().mask("email"));
    let mut starred = table(&["id", "mail"]);
    starred.name = name("users*");

    refused(selection.rules_for("a", &starred), "may have been renamed");
}

#[test]
fn the_last_rule_about_a_column_counts() {
    let selection = Selection::tables(["shop.*"])
        .columns("shop.*", ColumnRules::new().drop("email"))
        .columns(
            "shop.users",
            ColumnRules::new().mask_with("email", "hidden"),
        );

    let rules = selection.rules_for("a", &table(&["id", "email"])).unwrap();

    assert!(matches!(&rules.show[..], [Show::Plain, Show::Masked(text)] if **text == *"hidden"));
}

#[test]
fn hashing_needs_a_good_key_and_shows_it_nowhere() {
    let hashing =
        || Selection::tables(["shop.*"]).columns("shop.users", ColumnRules::new().hash("email"));
    refused(hashing().check(), "no hash key");
    refused(HashKey::new("short"), "5 bytes");

    let key = HashKey::new("sixteen bytes or more").unwrap();
    assert!(!format!("{:?}", hashing().hash_key(key)).contains("sixteen"));
}

/// The key and text of RFC 4231, test case 6: a key longer than a block.
#[test]
fn the_hash_is_hmac_sha_256() {
    let key = HashKey::new([0xaa; 131]).unwrap();
    assert_eq!(
        key.hash(b"Test Using Larger Than Block-Size Key - Hash Key First"),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
}

#[test]
fn a_filter_that_cannot_be_read_is_refused_at_the_start() {
    let selection =
        Selection::tables(["shop.*"]).columns("shop.a", ColumnRules::new().filter("status = "));
    refused(selection.check(), "a value is expected");
}
