//! Which mirror of Debian this machine takes its packages from.
//!
//! Input: apt's lists of sources. Output: the address of the first archive of Debian itself.

use std::{fs, path::Path};

use final_tests::{Error, Result};

/// The mirror that this machine is configured to use.
pub(super) fn of_this_machine() -> Result<String> {
    let lists = Path::new("/etc/apt/sources.list.d");
    let files = fs::read_dir(lists).into_iter().flatten().flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    let texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    texts
        .filter_map(|text| mirror(&text))
        .next()
        .ok_or_else(|| {
            Error::new(
                "apt on this machine has no archive of Debian",
                "run this on Debian, with its archive in /etc/apt/sources.list.d/debian.sources",
            )
        })
}

/// In both of apt's formats. An archive of Debian is recognised by its path: its archive for security ends
/// otherwise, and other people's archives too.
fn mirror(text: &str) -> Option<String> {
    let words = |line: &str| {
        line.split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(words)
        .find(|word| word.trim_end_matches('/').ends_with("/debian"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_found_in_both_formats() {
        let deb822 = "Types: deb\n# http://snapshot.example/archive/debian\nURIs: http://deb.debian.org/debian\n";
        assert_eq!(
            mirror(deb822).as_deref(),
            Some("http://deb.debian.org/debian")
        );
        let list =
            "# deb http://old/debian x main\ndeb [signed-by=/k] http://m/debian/ bookworm main";
        assert_eq!(mirror(list).as_deref(), Some("http://m/debian/"));
    }

    #[test]
    fn other_archives_are_no_mirror() {
        assert_eq!(mirror("URIs: http://deb.debian.org/debian-security"), None);
        assert_eq!(
            mirror("deb https://deb.nodesource.com/node_20.x nodistro main"),
            None
        );
    }
}
