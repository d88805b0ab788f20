//! `collect` and Django's collectstatic on some seventy real packages, compared reference by reference.
//!
//! The comparison is `tests/corpus/compare.py`, because Django speaks Python; its beginning says what it
//! holds against us. The packages are fetched by `tests/setup`.

use std::process::Command;

use crate::support::django_site::{Django, repository};

/// `BLESS_FIXTURES=1 cargo nextest run real_packages` writes the report anew; look at what is different
/// before committing it.
#[test]
fn real_packages_are_collected_as_django_collects_them() {
    let report = repository().join("src/collect/compatibility.md");
    let mut compare = Command::new(Django::Six.program("python"));
    compare.current_dir(repository()).env("PYTHONDONTWRITEBYTECODE", "1");
    compare.arg("tests/corpus/compare.py").arg(env!("CARGO_BIN_EXE_vestibule"));
    let output = compare.output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the comparison found mistakes:\n{complaints}");
    let found = String::from_utf8(output.stdout).unwrap();
    if std::env::var_os("BLESS_FIXTURES").is_some() {
        fs_err::write(&report, &found).unwrap();
    }
    let written = fs_err::read_to_string(&report).unwrap();
    let news: Vec<&str> = found.lines().filter(|line| !written.contains(line)).collect();
    assert!(
        found == written,
        "the report is out of date; look at this, and write it anew with BLESS_FIXTURES=1: {news:#?}"
    );
}
