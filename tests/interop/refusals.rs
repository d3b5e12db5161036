//! What Kubo refuses, cidfs refuses.

use crate::corpus::small;
use crate::kubo::{Kubo, Profile};
use crate::product::Product;

/// Refused under both profiles.
const ALWAYS: &[&[&str]] = &[
    &["--hash=no-such-hash", "hello.txt"],
    &["--hash=md5", "--cid-version=1", "hello.txt"],
    &["--hash=shake-128", "--cid-version=1", "hello.txt"],
    &["--hash=murmur3-x64-64", "--cid-version=1", "hello.txt"],
    &["--hash=blake2b-8", "--cid-version=1", "hello.txt"],
    &["--hash=blake2s-128", "--cid-version=1", "hello.txt"],
    &["--hash=keccak-224", "--cid-version=1", "hello.txt"],
    &["--hash=identity", "--cid-version=1", "noise.bin"],
    &["--hash=sha2-512", "--cid-version=0", "hello.txt"],
    &["--hash=blake3", "--cid-version=0", "hello.txt"],
    &["--cid-version=2", "hello.txt"],
    &["--chunker=size-0", "hello.txt"],
    &["--chunker=size--1", "hello.txt"],
    &["--chunker=size-2096897", "hello.txt"],
    &["--chunker=size-x", "hello.txt"],
    &["--chunker=size-1-2", "hello.txt"],
    &["--chunker=size", "hello.txt"],
    &["--chunker=rabin-1-2", "hello.txt"],
    &["--chunker=rabin-1398101", "hello.txt"],
    &["--chunker=rabin-15-100-1000", "hello.txt"],
    &["--chunker=rabin-100-100-1000", "hello.txt"],
    &["--chunker=rabin-100-1000-1000", "hello.txt"],
    &["--chunker=rabin-1000-2000-2096897", "hello.txt"],
    &["--chunker=rabin-a-b-c", "hello.txt"],
    &["--chunker=unknown", "hello.txt"],
    &["--inline", "--inline-limit=129", "hello.txt"],
    &["--max-hamt-fanout=0", "-r", "sub"],
    &["--max-hamt-fanout=7", "-r", "sub"],
    &["--max-hamt-fanout=24", "hello.txt"],
    &["--max-hamt-fanout=2048", "-r", "sub"],
    &["--raw-leaves", "--mode=0644", "hello.txt"],
    &["--raw-leaves", "--preserve-mode", "hello.txt"],
    &["--raw-leaves", "--mtime=1", "hello.txt"],
    &["--raw-leaves=false", "--mtime-nsecs=5", "hello.txt"],
    &[
        "--raw-leaves=false",
        "--mtime=1",
        "--mtime-nsecs=1000000000",
        "hello.txt",
    ],
    &["--raw-leaves=false", "--mode=abc", "hello.txt"],
    &[
        "--raw-leaves=false",
        "--only-hash",
        "--preserve-mode",
        "-r",
        "sub",
    ],
    &[
        "--raw-leaves=false",
        "--only-hash",
        "--mtime=5",
        "-r",
        "sub",
    ],
    &["--raw-leaves=perhaps", "hello.txt"],
    &["--no-such-flag", "hello.txt"],
    &["sub"],
    &["does-not-exist"],
    &["/dev/null"],
    &["--dereference-args", "to-nothing"],
];

fn assert_refused(profile: Profile, cases: &[&[&str]]) {
    let Some(kubo) = Kubo::start(profile) else {
        return;
    };
    let (corpus, product) = (small(), Product::new());
    let mut wrong = Vec::new();
    for args in cases {
        if let Ok(cid) = kubo.add(&corpus.tree(), args) {
            wrong.push(format!("Kubo takes {args:?}: {cid}"));
        }
        match product.add(profile, &corpus.tree(), args) {
            Ok(cid) => wrong.push(format!("cidfs takes {args:?}: {cid}")),
            Err(why) if why == "(no message)" || why.contains("panicked") => {
                wrong.push(format!("cidfs does not say why it refuses {args:?}: {why}"));
            }
            Err(_) => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "{}:\n{}",
        profile.name(),
        wrong.join("\n")
    );
}

#[test]
fn what_kubo_refuses_is_refused_under_the_profile_of_2025() {
    assert_refused(Profile::V1, ALWAYS);
    assert_refused(
        Profile::V1,
        &[
            &["--mode=0644", "hello.txt"],
            &["--preserve-mtime", "-r", "sub"],
        ],
    );
}

#[test]
fn what_kubo_refuses_is_refused_under_the_profile_of_2015() {
    assert_refused(Profile::V0, ALWAYS);
    assert_refused(
        Profile::V0,
        &[
            &["--hash=sha2-512", "hello.txt"],
            &["--hash=blake3", "-r", "sub"],
        ],
    );
}

#[test]
fn one_link_a_node_is_refused() {
    // Kubo is not asked: for a file of several chunks it builds towers until the disk is full.
    if crate::kubo::program().is_none() {
        return;
    }
    let corpus = small();
    let args = ["--max-file-links=1", "--chunker=size-1000", "noise.bin"];
    let refused = Product::new().add(Profile::V1, &corpus.tree(), &args);
    assert!(refused.is_err(), "{refused:?}");
}
