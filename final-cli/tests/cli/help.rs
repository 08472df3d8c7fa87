//! The texts of `--help`, and what a shell completes.

use std::{fmt::Write as _, fs, process::Stdio};

use crate::program::{program, run};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/help.txt");

/// `FINAL_TEST_UPDATE=1` writes the file anew.
#[tokio::test]
async fn the_help_of_every_command_is_as_it_was_read_last() {
    let mut text = String::new();
    let mut commands = vec![Vec::<String>::new()];
    while let Some(command) = commands.pop() {
        let help = run(
            &mut program(),
            command.iter().map(String::as_str).chain(["--help"]),
        )
        .await;
        let help = help.ends_with(0);
        assert!(
            help.out.contains("\nExample: "),
            "{command:?} has no example"
        );
        let lines = help
            .out
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1);
        let names: Vec<String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
            .filter(|name| !name.is_empty() && *name != "help")
            .map(str::to_owned)
            .collect();
        for name in names.into_iter().rev() {
            commands.push([command.clone(), vec![name]].concat());
        }
        writeln!(
            text,
            "$ final {}\n{}",
            [command, vec!["--help".into()]].concat().join(" "),
            help.out
        )
        .expect("written");
    }
    if std::env::var_os("FINAL_TEST_UPDATE").is_some() {
        fs::write(FILE, &text).expect("written");
    }
    let known = fs::read_to_string(FILE).expect(FILE);
    assert_eq!(
        text, known,
        "run the test with FINAL_TEST_UPDATE=1, and read what has changed"
    );
}

#[tokio::test]
async fn bash_completes_commands_and_options() {
    let script = run(&mut program(), ["completions", "bash"])
        .await
        .ends_with(0)
        .out;
    // Longer than an argument may be.
    let folder = final_tests::WorkDir::new("completions").expect("a folder");
    let file = folder.join("final.bash");
    fs::write(&file, script).expect("written");
    let completed = async |words: &str, word: &str| {
        let count = words.split(' ').count() - 1;
        let ask = format!(
            "source {file:?}\nCOMP_WORDS=({words}); COMP_CWORD={count}\n_final final {word:?}\necho \"${{COMPREPLY[@]}}\""
        );
        let bash = tokio::process::Command::new("bash")
            .args(["--norc", "-c", &ask])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("bash");
        String::from_utf8(bash.stdout).expect("UTF-8")
    };
    assert_eq!(completed("final stat", "stat").await.trim(), "status");
    assert_eq!(completed("final outbox re", "re").await.trim(), "retry");
    let options = completed("final dead replay --", "--").await;
    for option in [
        "--topic",
        "--key",
        "--id",
        "--reason",
        "--older-than",
        "--limit",
        "--all",
        "--dry-run",
        "--yes",
    ] {
        assert!(options.contains(option), "{option} is not among {options}");
    }
}

#[tokio::test]
async fn the_version_is_that_of_the_package() {
    let version = run(&mut program(), ["--version"]).await.ends_with(0);
    assert_eq!(
        version.out.trim(),
        concat!("final ", env!("CARGO_PKG_VERSION"))
    );
}
