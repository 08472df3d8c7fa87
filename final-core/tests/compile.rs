//! What the compiler says: one file per mistake, with the message a user will see.
//!
//! `TRYBUILD=overwrite cargo test -p final-core --test compile` writes the messages anew.

#[test]
fn mistakes_are_named_and_good_code_compiles() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
