//! What Kubo holds, read through a mount: by its gateway, by its RPC and from its repository.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use crate::corpus::{Corpus, deep, hamt, links, names, sizes, small};
use crate::kubo::{Kubo, Profile};
use crate::product::Product;
use crate::run::assert_same_tree;

/// Readers of a directory that is too long for one.
const READERS: usize = 16;

/// The three ways to the same blocks, each into a repository that has none of them.
fn sources(kubo: &Kubo) -> [String; 3] {
    [
        format!("gateway:{}", kubo.gateway()),
        format!("kubo:{}", kubo.api()),
        format!("kubo-repo:{}", kubo.repo().display()),
    ]
}

pub(crate) fn is_mountable() -> bool {
    let there = Path::new("/dev/fuse").exists();
    assert!(
        there || std::env::var_os("CI").is_none(),
        "there is no /dev/fuse"
    );
    there
}

/// Mounts the root by each source and hands the mount to `check`.
fn by_every_source(profile: Profile, corpus: &Corpus, flags: &[&str], check: impl Fn(&Path)) {
    if !is_mountable() {
        return;
    }
    let Some(kubo) = Kubo::start(profile) else {
        return;
    };
    let args = [flags, &["-r", "--hidden", corpus.name()]].concat();
    let root = kubo.add(corpus.dir(), &args).unwrap();
    for source in sources(&kubo) {
        eprintln!("reading by {source}");
        let product = Product::new();
        let mounted = product.mount(&source, &format!("/ipfs/{root}"));
        check(&mounted.path());
    }
}

/// Every path below a directory, the directory itself first.
fn walk(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    let mut next = 0;
    while let Some(below) = found.get(next).cloned() {
        next += 1;
        let path = top.join(&below);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            let entries = fs::read_dir(path).unwrap();
            found.extend(entries.map(|entry| below.join(entry.unwrap().file_name())));
        }
    }
    found
}

fn names_in(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn small_deep_and_hostile_trees_of_kubo_read_the_same_by_every_source() {
    for corpus in [small(), deep(), names(), links()] {
        by_every_source(Profile::V1, &corpus, &[], |mount| {
            assert_same_tree(&corpus.tree(), mount);
        });
    }
}

#[test]
fn files_of_every_size_of_kubo_read_the_same_by_every_source() {
    let corpus = sizes();
    by_every_source(Profile::V0, &corpus, &[], |mount| {
        assert_same_tree(&corpus.tree(), mount);
    });
}

#[test]
fn a_directory_of_20000_entries_of_kubo_reads_the_same_by_every_source() {
    let corpus = hamt();
    by_every_source(Profile::V1, &corpus, &[], |mount| {
        let names = names_in(mount);
        assert_eq!(names.len(), 20_000);
        assert_eq!(names, names_in(&corpus.tree()));
        // By many readers, since one waits for an answer of Kubo 20,000 times.
        thread::scope(|scope| {
            for part in names.chunks(names.len() / READERS) {
                let (tree, mount) = (corpus.tree(), mount.to_owned());
                scope.spawn(move || {
                    for name in part {
                        let expected = fs::read(tree.join(name)).unwrap();
                        assert_eq!(fs::read(mount.join(name)).unwrap(), expected, "{name:?}");
                    }
                });
            }
        });
    });
}

#[test]
fn trickle_files_and_small_shards_of_kubo_read_the_same_by_every_source() {
    let corpus = small();
    for flags in [
        &["--trickle", "--chunker=size-1000"][..],
        &["--max-directory-links=3", "--max-hamt-fanout=8"],
        &["--inline", "--inline-limit=128"],
    ] {
        by_every_source(Profile::V1, &corpus, flags, |mount| {
            assert_same_tree(&corpus.tree(), mount);
        });
    }
}

#[test]
fn stored_modes_and_times_show_on_the_mount() {
    let corpus = small();
    let flags = ["--raw-leaves=false", "--preserve-mode", "--preserve-mtime"];
    by_every_source(Profile::V1, &corpus, &flags, |mount| {
        assert_same_tree(&corpus.tree(), mount);
        for below in walk(&corpus.tree()) {
            let original = fs::symlink_metadata(corpus.tree().join(&below)).unwrap();
            let found = fs::symlink_metadata(mount.join(&below)).unwrap();
            let below = below.display();
            assert_eq!(found.mtime(), original.mtime(), "seconds of {below:?}");
            assert_eq!(
                found.mtime_nsec(),
                original.mtime_nsec(),
                "nanoseconds of {below:?}"
            );
            // Nobody can write here, so no write bit shows.
            if !original.is_symlink() {
                assert_eq!(
                    found.mode() & 0o777,
                    original.mode() & 0o555,
                    "mode of {below:?}"
                );
            }
        }
    });
}

#[test]
fn without_stored_modes_files_are_0444_and_directories_0555_at_the_epoch() {
    let corpus = small();
    by_every_source(Profile::V1, &corpus, &[], |mount| {
        for below in walk(&corpus.tree()) {
            let found = fs::symlink_metadata(mount.join(&below)).unwrap();
            let expected = if found.is_dir() { 0o555 } else { 0o444 };
            if !found.is_symlink() {
                assert_eq!(found.mode() & 0o7777, expected, "{}", below.display());
            }
            assert_eq!(found.mtime(), 0, "{}", below.display());
        }
    });
}

#[test]
fn the_comparison_of_trees_sees_a_byte_a_name_and_a_link() {
    let differs = |change: fn(&Path)| {
        let (expected, found) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&expected, &found] {
            fs::write(dir.path().join("file"), b"content").unwrap();
            symlink("file", dir.path().join("link")).unwrap();
        }
        assert_same_tree(expected.path(), found.path());
        change(found.path());
        std::panic::catch_unwind(|| assert_same_tree(expected.path(), found.path())).is_err()
    };
    assert!(differs(
        |dir| fs::write(dir.join("file"), b"Content").unwrap()
    ));
    assert!(differs(|dir| fs::write(dir.join("more"), b"").unwrap()));
    assert!(differs(|dir| {
        fs::remove_file(dir.join("link")).unwrap();
        symlink("./file", dir.join("link")).unwrap();
    }));
}
