//! `cidfs add` and `ipfs add` name the same root under every flag, alone and in pairs, or both refuse.

use crate::corpus::{Corpus, small};
use crate::kubo::{Kubo, Profile};
use crate::product::Product;

/// Flags of `add`, each as one setting. Two settings of one option make no pair.
const SETTINGS: &[&str] = &[
    "--only-hash",
    "--chunker=size-50000",
    "--chunker=rabin",
    "--chunker=rabin-1000-5000-20000",
    "--chunker=buzhash",
    "--raw-leaves",
    "--raw-leaves=false",
    "--cid-version=0",
    "--cid-version=1",
    "--hash=sha2-256",
    "--hash=sha2-512",
    "--hash=blake3",
    "--hash=blake2b-256",
    "--trickle",
    "--hidden",
    "--ignore=*.bin",
    "--inline",
    "--inline-limit=40",
    "--max-file-links=3",
    "--max-directory-links=3",
    "--max-hamt-fanout=8",
    "--preserve-mode",
    "--preserve-mtime",
    "--mode=0640",
    "--mtime=1234567890",
    "--dereference-args",
    "--wrap-with-directory",
    "--stdin-name=unused",
    "--pin=false",
];

fn option(setting: &str) -> &str {
    setting.split('=').next().unwrap()
}

/// Whether Kubo's `--only-hash` names another root than its own add: it builds the topmost directory
/// with default limits. cidfs names the root that an add gives, so it is compared with that.
fn only_hash_is_wrong(settings: &[&str]) -> bool {
    let limits = ["--max-directory-links", "--max-hamt-fanout"];
    settings.contains(&"--only-hash") && settings.iter().any(|s| limits.contains(&option(s)))
}

/// Adds with both; gives a line for the report if they do not agree.
fn compare(
    kubo: &Kubo,
    profile: Profile,
    product: &Product,
    corpus: &Corpus,
    settings: &[&str],
) -> Option<String> {
    let ours: Vec<&str> = ["-r"]
        .iter()
        .chain(settings)
        .copied()
        .chain([corpus.name()])
        .collect();
    let mut theirs = ours.clone();
    if only_hash_is_wrong(settings) {
        theirs.retain(|arg| *arg != "--only-hash");
    }
    let theirs = kubo.add(corpus.dir(), &theirs);
    let ours = product.add(profile, corpus.dir(), &ours);
    let agree = match (&theirs, &ours) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        (Err(_), Err(why)) => is_a_refusal(why),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    };
    (!agree).then(|| {
        format!(
            "{:<60} Kubo: {theirs:?}  cidfs: {ours:?}",
            settings.join(" ")
        )
    })
}

/// A crash and an unknown flag are no refusals.
fn is_a_refusal(why: &str) -> bool {
    !why.contains("panicked") && !why.contains("unexpected argument") && why != "(no message)"
}

#[track_caller]
fn assert_agreement(profile: Profile, differences: &[String], cases: usize) {
    assert!(
        differences.is_empty(),
        "{} of {cases} settings differ under {}:\n{}",
        differences.len(),
        profile.name(),
        differences.join("\n")
    );
}

fn each_alone(profile: Profile) {
    let Some(kubo) = Kubo::start(profile) else {
        return;
    };
    let (corpus, product) = (small(), Product::new());
    let mut differences = Vec::new();
    differences.extend(compare(&kubo, profile, &product, &corpus, &[]));
    for setting in SETTINGS {
        differences.extend(compare(&kubo, profile, &product, &corpus, &[setting]));
    }
    assert_agreement(profile, &differences, SETTINGS.len() + 1);
}

fn each_pair(profile: Profile) {
    let Some(kubo) = Kubo::start(profile) else {
        return;
    };
    let (corpus, product) = (small(), Product::new());
    let mut differences = Vec::new();
    let mut cases = 0;
    for (index, first) in SETTINGS.iter().enumerate() {
        for second in &SETTINGS[index + 1..] {
            if option(first) != option(second) {
                cases += 1;
                differences.extend(compare(&kubo, profile, &product, &corpus, &[first, second]));
            }
        }
    }
    assert!(cases > 350, "only {cases} pairs");
    assert_agreement(profile, &differences, cases);
}

#[test]
fn every_flag_alone_gives_the_cid_that_kubo_gives_under_the_profile_of_2025() {
    each_alone(Profile::V1);
}

#[test]
fn every_flag_alone_gives_the_cid_that_kubo_gives_under_the_profile_of_2015() {
    each_alone(Profile::V0);
}

#[test]
fn every_pair_of_flags_gives_the_cid_that_kubo_gives_under_the_profile_of_2025() {
    each_pair(Profile::V1);
}

#[test]
fn every_pair_of_flags_gives_the_cid_that_kubo_gives_under_the_profile_of_2015() {
    each_pair(Profile::V0);
}

#[test]
fn flags_in_threes_that_touch_each_other_give_the_cid_that_kubo_gives() {
    for profile in Profile::ALL {
        let Some(kubo) = Kubo::start(profile) else {
            return;
        };
        let (corpus, product) = (small(), Product::new());
        let threes: &[&[&str]] = &[
            &["--raw-leaves=false", "--preserve-mode", "--preserve-mtime"],
            &["--raw-leaves=false", "--mode=0640", "--preserve-mtime"],
            &[
                "--raw-leaves=false",
                "--mode=0640",
                "--mtime=-1",
                "--mtime-nsecs=5",
            ],
            &["--raw-leaves=false", "--mode=04755", "--hidden"],
            &["--raw-leaves=false", "--preserve-mode", "--trickle"],
            &["--raw-leaves=false", "--preserve-mtime", "--inline"],
            &[
                "--raw-leaves=false",
                "--preserve-mode",
                "--wrap-with-directory",
            ],
            &[
                "--raw-leaves=false",
                "--mtime=7",
                "--wrap-with-directory",
                "--hidden",
            ],
            &[
                "--raw-leaves=false",
                "--preserve-mtime",
                "--max-directory-links=3",
            ],
            &["--trickle", "--chunker=size-1000", "--max-file-links=3"],
            &["--trickle", "--chunker=size-1000", "--max-file-links=30"],
            &["--chunker=size-1000", "--max-file-links=2"],
            &[
                "--max-directory-links=2",
                "--max-hamt-fanout=16",
                "--hidden",
            ],
            &["--max-directory-links=1", "--wrap-with-directory"],
            &["--inline", "--inline-limit=128", "--max-directory-links=3"],
            &["--inline", "--inline-limit=128", "--chunker=size-100"],
            &["--hash=sha2-512", "--cid-version=1", "--inline"],
            &[
                "--hash=blake3",
                "--cid-version=1",
                "--trickle",
                "--chunker=size-9000",
            ],
            &["--cid-version=1", "--raw-leaves", "--trickle"],
            &["--cid-version=0", "--raw-leaves=false", "--trickle"],
        ];
        let differences: Vec<String> = threes
            .iter()
            .filter_map(|settings| compare(&kubo, profile, &product, &corpus, settings))
            .collect();
        assert_agreement(profile, &differences, threes.len());
    }
}

#[test]
fn only_hash_names_the_root_that_an_add_would_give() {
    if crate::kubo::program().is_none() {
        return;
    }
    let (corpus, product) = (small(), Product::new());
    for settings in [
        &["--max-directory-links=3"][..],
        &["--trickle", "--hidden"],
        &["--inline"],
    ] {
        let mut args = ["-r", corpus.name()].to_vec();
        args.splice(1..1, settings.iter().copied());
        let added = product.add(Profile::V1, corpus.dir(), &args).unwrap();
        args.push("--only-hash");
        let hashed = product.add(Profile::V1, corpus.dir(), &args).unwrap();
        assert_eq!(added, hashed, "{settings:?}");
    }
}
