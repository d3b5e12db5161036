//! One file, or several, named as arguments; every hash and every chunker.

use std::fs;

use crate::corpus::small;
use crate::kubo::{Kubo, Profile};
use crate::product::Product;

/// Runs the same arguments through both and fails where they do not agree on the last CID.
fn assert_same(profile: Profile, cases: &[&[&str]]) {
    let Some(kubo) = Kubo::start(profile) else {
        return;
    };
    let (corpus, product) = (small(), Product::new());
    let mut differences = Vec::new();
    for args in cases {
        let theirs = kubo.add(&corpus.tree(), args);
        let ours = product.add(profile, &corpus.tree(), args);
        if theirs.is_err() || theirs != ours {
            differences.push(format!("{args:?}: Kubo {theirs:?}, cidfs {ours:?}"));
        }
    }
    assert!(
        differences.is_empty(),
        "{}:\n{}",
        profile.name(),
        differences.join("\n")
    );
}

#[test]
fn files_and_links_as_arguments_get_the_cids_that_kubo_gives() {
    let cases: &[&[&str]] = &[
        &["hello.txt"],
        &["empty"],
        &["noise.bin"],
        &[".dot"],
        &["-w", "hello.txt"],
        &["-w", ".dot"],
        &["-w", "hello.txt", "sub/inner/x.txt", "to-nothing"],
        &["-w", "hello.txt", "hello.txt"],
        &["hello.txt", "noise.bin"],
        &["-r", "sub", "hello.txt"],
        &["-r", "-w", "sub", "hello.txt"],
        &["-r", "-w", "sub/"],
        &["-r", "."],
        &["-r", "sub/.."],
        &["-r", "--hidden", "-w", "."],
        &["-r", ".hidden"],
        &["-w", "sub/../hello.txt"],
        &["to-file"],
        &["to-dir"],
        &["to-nothing"],
        &["--dereference-args", "to-file"],
        &["-w", "--dereference-args", "to-file"],
        &["-r", "--dereference-args", "to-dir"],
        &["-r", "-w", "--dereference-args", "to-dir"],
        &["--trickle", "hello.txt"],
        &["--trickle", "empty"],
        &["--inline", "hello.txt"],
        &["--inline", "empty"],
        &["--inline", "in-line"],
        &["--inline", "--inline-limit=31", "in-line"],
        &["--inline", "--inline-limit=0", "empty"],
        &["--inline-limit=1000", "hello.txt"],
        &["--only-hash", "noise.bin"],
        &["--only-hash", "-w", "noise.bin"],
        &["--max-file-links=0", "--chunker=size-100", "noise.bin"],
        &["--raw-leaves=false", "--preserve-mode", "hello.txt"],
        &["--raw-leaves=false", "--preserve-mode", "-w", "hello.txt"],
        &["--raw-leaves=false", "--preserve-mtime", "hello.txt"],
        &["--raw-leaves=false", "--preserve-mtime", "to-file"],
        &["--raw-leaves=false", "--preserve-mtime", "-n", "noise.bin"],
        &["--raw-leaves=false", "--mode=0777", "empty"],
        &["--raw-leaves=false", "--mode=0x1a4", "hello.txt"],
        &["--raw-leaves=false", "--mode=420", "hello.txt"],
        &["--raw-leaves=false", "--mode=0777", "to-file"],
        &["--raw-leaves=false", "--mtime=-1", "hello.txt"],
        &["--raw-leaves=false", "--mtime=1", "--mode=0", "hello.txt"],
        &["--mode=0", "hello.txt"],
        &["--mtime=0", "hello.txt"],
    ];
    for profile in Profile::ALL {
        assert_same(profile, cases);
    }
}

#[test]
fn every_hash_that_kubo_takes_gives_the_same_cid() {
    let hashes = [
        "sha1",
        "sha2-256",
        "SHA2-256",
        "sha2-512",
        "sha3",
        "sha3-224",
        "sha3-256",
        "sha3-384",
        "sha3-512",
        "shake-256",
        "keccak-256",
        "keccak-512",
        "blake3",
        "blake2b-160",
        "blake2b-256",
        "blake2b-384",
        "blake2b-512",
        "blake2s-256",
        "dbl-sha2-256",
    ];
    let flags: Vec<String> = hashes.iter().map(|h| format!("--hash={h}")).collect();
    let cases: Vec<Vec<&str>> = flags
        .iter()
        .map(|flag| vec![flag.as_str(), "--cid-version=1", "-r", "sub"])
        .collect();
    let mut cases: Vec<&[&str]> = cases.iter().map(Vec::as_slice).collect();
    cases.push(&["--hash=identity", "--cid-version=1", "hello.txt"]);
    assert_same(Profile::V1, &cases);
    assert_same(Profile::V0, &cases);
}

#[test]
fn every_chunker_that_kubo_takes_gives_the_same_cid() {
    let cases: &[&[&str]] = &[
        &["--chunker=size-1", "hello.txt"],
        &["--chunker=size-2096896", "-r", "sub"],
        &["--chunker=size-65536", "-r", "sub"],
        &["--chunker=default", "-r", "sub"],
        &["--chunker=", "-r", "sub"],
        &["--chunker=rabin", "-r", "sub"],
        &["--chunker=rabin-20000", "-r", "sub"],
        &["--chunker=rabin-1000000", "-r", "sub"],
        &["--chunker=rabin-16-64-256", "sub/inner/more.bin"],
        &["--chunker=rabin-4096-8192-65536", "-r", "sub"],
        &["--chunker=rabin-min:1000-avg:2000-max:4000", "-r", "sub"],
        &["--chunker=buzhash", "-r", "sub"],
        &["--chunker=buzhash", "empty"],
        &["--chunker=rabin", "empty"],
    ];
    for profile in Profile::ALL {
        assert_same(profile, cases);
    }
}

#[test]
fn chunkers_by_content_agree_on_files_of_many_chunks() {
    for profile in Profile::ALL {
        let Some(kubo) = Kubo::start(profile) else {
            return;
        };
        let corpus = crate::corpus::sizes();
        let (product, dir) = (Product::new(), corpus.tree());
        for chunker in [
            "rabin",
            "buzhash",
            "rabin-65536-131072-524288",
            "rabin-700000",
        ] {
            let chunker = format!("--chunker={chunker}");
            for file in ["3333333.bin", "2097153.bin", "1048576.bin"] {
                let args = [chunker.as_str(), file];
                assert_eq!(
                    product.add(profile, &dir, &args),
                    kubo.add(&dir, &args),
                    "{args:?}"
                );
            }
        }
    }
}

#[test]
fn a_file_that_grew_past_its_hole_is_added_as_its_bytes_are() {
    let Some(kubo) = Kubo::start(Profile::V1) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("grown");
    let file = fs::File::create(&path).unwrap();
    file.set_len(5 << 20).unwrap();
    let theirs = kubo.add(dir.path(), &["grown"]);
    assert_eq!(
        Product::new().add(Profile::V1, dir.path(), &["grown"]),
        theirs
    );
}
