//! The house rules that a program can check.
//!
//! Imports go one way: the table below says who may import whom. A new
//! top-level module fails until it is placed. Each rule is also tried on an
//! example that breaks it, so that the check itself is known to work.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What every module may import.
const BASE: &[&str] = &[
    "block", "car", "clock", "config", "disk", "memory", "patience", "room", "sync",
];

/// Module, and what it may import beside the base and itself.
const TABLE: &[(&str, &[&str])] = &[
    ("source", &[]),
    ("cache", &["source"]),
    ("unixfs", &["cache"]),
    ("journal", &[]),
    ("tree", &["journal", "unixfs", "cache"]),
    ("fs", &["tree"]),
    ("control", &["tree", "unixfs", "cache"]),
    ("repo", &["cache", "source", "unixfs"]),
    // The top: what wires the parts may know them all.
    (
        "daemon",
        &["source", "cache", "unixfs", "tree", "fs", "control", "repo"],
    ),
    (
        "cli",
        &[
            "source", "cache", "unixfs", "tree", "fs", "control", "repo", "daemon",
        ],
    ),
    ("main", &["cli"]),
    ("testing", &["source", "cache", "unixfs"]),
];

/// The lowest rooms of the writable tree, and what else of it each may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("nodes", &["nodes", "types"]),
    ("changes", &["changes", "nodes", "types"]),
];

/// The only files that may name the FUSE library.
const KERNEL_SIDE: &[&str] = &["src/fs/fuse.rs", "src/fs/reply.rs", "src/fs/session.rs"];

/// No file is longer. A list of exceptions may only shrink; it is empty.
const LINES_MAX: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(below)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The top-level module of a file: `cache` for `src/cache/packs/mod.rs`.
fn module(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap();
    inside.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The top-level modules that a text names as `crate::<module>` or, in the
/// binary, `cidfs::<module>`. Doc comments and tests count: a link is knowledge.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    for line in code {
        for root in ["crate::", "cidfs::"] {
            for (at, _) in line.match_indices(root) {
                let rest = &line[at + root.len()..];
                let group = rest.strip_prefix('{').map(|g| g.split('}').next().unwrap());
                let names =
                    group
                        .unwrap_or(rest)
                        .split(',')
                        .take(if group.is_some() { 99 } else { 1 });
                for name in names {
                    let word = name
                        .trim()
                        .split(|c: char| !c.is_alphanumeric() && c != '_');
                    found.extend(word.take(1).filter(|w| !w.is_empty()).map(str::to_owned));
                }
            }
        }
    }
    found
}

/// What a file of `module` imports against the table.
fn against_the_table(module: &str, text: &str) -> Vec<String> {
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == module) else {
        return if BASE.contains(&module) || module == "lib" {
            let base_only = imports(text)
                .into_iter()
                .filter(|i| !BASE.contains(&i.as_str()));
            base_only.filter(|_| module != "lib").collect()
        } else {
            vec![format!("{module} has no place in the table")]
        };
    };
    let fine =
        |i: &String| i == module || BASE.contains(&i.as_str()) || allowed.contains(&i.as_str());
    imports(text).into_iter().filter(|i| !fine(i)).collect()
}

#[test]
fn imports_go_one_way() {
    let mut broken = Vec::new();
    for (file, text) in rust_files("src") {
        for import in against_the_table(module(&file), &text) {
            broken.push(format!("{file} imports {import}"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What a file of the writable tree imports against the rooms.
fn against_the_rooms(allowed: &[&str], text: &str) -> Vec<String> {
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    let named = code.flat_map(|l| l.split("crate::tree::mfs::").skip(1));
    let first = named.map(|rest| {
        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
    });
    first
        .map(|name| name.unwrap().to_owned())
        .filter(|name| !allowed.contains(&name.as_str()))
        .collect()
}

#[test]
fn the_rooms_of_the_tree_import_downwards() {
    let mut broken = Vec::new();
    for (room, allowed) in ROOMS {
        let files = rust_files(&format!("src/tree/mfs/{room}"));
        assert!(!files.is_empty(), "{room}");
        // The test of the codec may know the limits of calls.
        for (file, text) in files.iter().filter(|(file, _)| !file.ends_with("tests.rs")) {
            let bad = against_the_rooms(allowed, text);
            broken.extend(bad.iter().map(|import| format!("{file} imports {import}")));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    let upward = "use crate::tree::mfs::calls::content;";
    assert_eq!(against_the_rooms(&["nodes"], upward), ["calls"]);
}

#[test]
fn the_check_of_imports_can_fail() {
    assert_eq!(
        against_the_table("cache", "use crate::unixfs::Reader;"),
        ["unixfs"]
    );
    assert_eq!(
        against_the_table("fs", "use crate::{tree, cache::Blocks};"),
        ["cache"]
    );
    assert_eq!(
        against_the_table("block", "use crate::source::X;"),
        ["source"]
    );
    assert_eq!(
        against_the_table("novel", ""),
        ["novel has no place in the table"]
    );
    assert!(against_the_table("fs", "use crate::tree::Tree;\n// crate::cache").is_empty());
}

#[test]
fn only_the_kernel_side_names_the_fuse_library() {
    for (file, text) in rust_files("src") {
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
        let names = code.into_iter().any(|l| l.contains("fuser::"));
        assert_eq!(names, KERNEL_SIDE.contains(&file.as_str()), "{file}");
    }
}

#[test]
fn no_file_is_two_rooms() {
    for (file, text) in rust_files("src").into_iter().chain(rust_files("tests")) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{file} has {lines} lines");
    }
}

/// A `matches!` that stands alone as a statement asserts nothing.
fn bare_matches(text: &str) -> bool {
    text.lines()
        .any(|l| l.trim_start().starts_with("matches!(") && l.trim_end().ends_with(");"))
}

#[test]
fn every_assertion_asserts() {
    for (file, text) in rust_files("src").into_iter().chain(rust_files("tests")) {
        assert!(!bare_matches(&text), "{file} has a bare matches!");
    }
    assert!(
        bare_matches(&format!("    {}(x, Ok(_));", "matches!")),
        "the check can fail"
    );
}

#[test]
fn no_test_file_is_forgotten() {
    for suite in ["tests/it", "tests/mount"] {
        let main = fs::read_to_string(root().join(suite).join("main.rs")).unwrap();
        for entry in fs::read_dir(root().join(suite)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let stem = name.trim_end_matches(".rs");
            assert!(
                stem == "main" || main.contains(&format!("mod {stem};")),
                "{suite}/{name}"
            );
        }
    }
}

#[test]
fn nothing_unfinished_is_left() {
    let words = ["todo!", "unimplemented!", "FIXME", "#[ignore"].map(|w| w.to_owned());
    for (file, text) in rust_files("src").into_iter().chain(rust_files("tests")) {
        if file.ends_with("tidy.rs") {
            continue;
        }
        let found: Vec<_> = words.iter().filter(|w| text.contains(w.as_str())).collect();
        assert!(found.is_empty(), "{file}: {found:?}");
    }
}
