//! `docs/faults.md` names the test behind each of its sentences: those tests exist, and no storage fault is missing from it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of the tests in a folder's sources.
fn tests_in(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            names.extend(tests_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<_> = text.lines().map(str::trim).collect();
            for pair in lines.windows(2).filter(|pair| pair[0].starts_with("#[") && pair[0].contains("test")) {
                let name = pair[1].strip_prefix("async ").unwrap_or(pair[1]).strip_prefix("fn ");
                names.extend(name.and_then(|name| name.split('(').next()).map(str::to_owned));
            }
        }
    }
    names
}

/// The names in the last column of each row.
fn named() -> BTreeSet<String> {
    let table = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).filter(|line| !line.starts_with("| fault "));
    let mut names = BTreeSet::new();
    for row in rows {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let in_row: Vec<_> = last.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!in_row.is_empty(), "no test is named in: {row}");
        names.extend(in_row);
    }
    names
}

#[test]
fn every_named_test_exists_and_every_storage_fault_is_named() {
    let named = named();
    assert!(named.len() > 25, "the table was not understood: {named:?}");
    let mut there = tests_in(&root().join("host/src"));
    there.extend(tests_in(&root().join("tests/tests")));
    let gone: Vec<_> = named.difference(&there).collect();
    assert!(gone.is_empty(), "docs/faults.md names tests that don't exist: {gone:?}");
    let storage = tests_in(&root().join("tests/tests/azurite/faults"));
    let unnamed: Vec<_> = storage.difference(&named).collect();
    assert!(unnamed.is_empty(), "docs/faults.md doesn't name these: {unnamed:?}");
}
