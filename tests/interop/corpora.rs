//! Whole trees get the CIDs that Kubo gives them, each entry of them.

use std::collections::BTreeMap;

use crate::corpus::{Corpus, deep, hamt, links, names, sizes, small, sparse, wide};
use crate::kubo::{Kubo, Profile};
use crate::product::Product;
use crate::run::Said;

/// What an add printed: a CID for every path. Names with line ends have no place here.
fn added(said: &Said) -> BTreeMap<String, String> {
    let text = said.expect_ok("add");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("added ")?.split_once(' '));
    lines
        .map(|(cid, path)| (path.to_owned(), cid.to_owned()))
        .collect()
}

fn assert_same_entries(kubo: &Kubo, profile: Profile, corpus: &Corpus) {
    let theirs = added(&kubo.run_in(corpus.dir(), &["add", "-r", corpus.name()], b""));
    let args = ["add", "-r", "--profile", profile.name(), corpus.name()];
    let ours = added(&Product::new().run_in(corpus.dir(), &args, b""));
    assert!(!theirs.is_empty());
    let differ: Vec<_> = theirs
        .iter()
        .filter(|(path, cid)| ours.get(*path) != Some(cid))
        .map(|(path, cid)| format!("{path}: Kubo {cid}, cidfs {:?}", ours.get(path)))
        .take(20)
        .collect();
    let name = corpus.name();
    assert!(
        differ.is_empty(),
        "{name}, {}:\n{}",
        profile.name(),
        differ.join("\n")
    );
    assert_eq!(
        ours.len(),
        theirs.len(),
        "{name}: cidfs added more than Kubo"
    );
}

fn assert_same_root(kubo: &Kubo, profile: Profile, corpus: &Corpus) {
    let args = ["-r", "--hidden", corpus.name()];
    let theirs = kubo.add(corpus.dir(), &args).unwrap();
    let ours = Product::new().add(profile, corpus.dir(), &args).unwrap();
    assert_eq!(ours, theirs, "{}, {}", corpus.name(), profile.name());
}

fn of_both_profiles(check: impl Fn(&Kubo, Profile)) {
    for profile in Profile::ALL {
        let Some(kubo) = Kubo::start(profile) else {
            return;
        };
        check(&kubo, profile);
    }
}

#[test]
fn files_of_every_size_get_the_cids_that_kubo_gives() {
    let corpus = sizes();
    of_both_profiles(|kubo, profile| assert_same_entries(kubo, profile, &corpus));
}

#[test]
fn small_deep_and_wide_trees_get_the_cids_that_kubo_gives() {
    let corpora = [small(), deep(), wide()];
    of_both_profiles(|kubo, profile| {
        for corpus in &corpora {
            assert_same_entries(kubo, profile, corpus);
        }
    });
}

#[test]
fn a_directory_of_20000_entries_gets_the_cid_that_kubo_gives() {
    let corpus = hamt();
    of_both_profiles(|kubo, profile| assert_same_root(kubo, profile, &corpus));
}

#[test]
fn hostile_names_symbolic_links_and_holes_get_the_cids_that_kubo_gives() {
    let corpora = [names(), links(), sparse(), small()];
    of_both_profiles(|kubo, profile| {
        for corpus in &corpora {
            assert_same_root(kubo, profile, corpus);
        }
    });
}

#[test]
fn without_a_profile_cidfs_adds_as_kubo_does_under_the_profile_of_2025() {
    let Some(kubo) = Kubo::start(Profile::V1) else {
        return;
    };
    let corpus = small();
    let theirs = kubo.add(corpus.dir(), &["-r", corpus.name()]).unwrap();
    let ours = Product::new().run_in(corpus.dir(), &["add", "-Q", "-r", corpus.name()], b"");
    assert_eq!(ours.cid().unwrap(), theirs);
}
