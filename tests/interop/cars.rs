//! CAR files of the one read by the other.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::corpus::{Corpus, names, small, wide};
use crate::kubo::{Kubo, Profile};
use crate::product::Product;
use crate::run::assert_same_tree;

/// Flags that give DAGs of every shape.
const SHAPES: &[&[&str]] = &[
    &[],
    &["--trickle", "--chunker=size-1000"],
    &["--raw-leaves=false", "--preserve-mode", "--preserve-mtime"],
    &["--inline", "--inline-limit=128"],
    &["--cid-version=1", "--hash=blake3"],
    &["--max-directory-links=3", "--max-hamt-fanout=8"],
];

fn corpora() -> [Corpus; 3] {
    [small(), wide(), names()]
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// Has cidfs add and export, a Kubo that knows nothing of it import.
fn we_export(profile: Profile, corpus: &Corpus, flags: &[&str]) {
    let Some(kubo) = Kubo::offline(profile) else {
        return;
    };
    let (product, dir) = (Product::new(), TempDir::new().unwrap());
    let args = [flags, &["-r", "--hidden", corpus.name()]].concat();
    let root = product.add(profile, corpus.dir(), &args).unwrap();
    let car = path(&dir, "ours.car");
    let said = product.run(&["export", "-o", &car, &root]);
    said.expect_ok("cidfs export");

    let stats = kubo
        .run(&["dag", "import", "--stats", &car])
        .expect_ok("ipfs dag import");
    assert!(
        stats.contains(&format!("Pinned root\t{root}\tsuccess")),
        "{flags:?}: {stats}"
    );
    let verified = kubo
        .run(&["pin", "verify", "--verbose"])
        .expect_ok("ipfs pin verify");
    assert!(
        verified.contains(&format!("{root} ok")),
        "{flags:?}: {verified}"
    );
    let out = path(&dir, "out");
    kubo.run(&["get", "--progress=false", "-o", &out, &root])
        .expect_ok("ipfs get");
    assert_same_tree(&corpus.tree(), Path::new(&out));
}

/// Has Kubo add and export, a cidfs that knows nothing of it import.
fn we_import(profile: Profile, corpus: &Corpus, flags: &[&str]) {
    let Some(kubo) = Kubo::offline(profile) else {
        return;
    };
    let (product, dir) = (Product::new(), TempDir::new().unwrap());
    let args = [flags, &["-r", "--hidden", corpus.name()]].concat();
    let root = kubo.add(corpus.dir(), &args).unwrap();
    let car = path(&dir, "theirs.car");
    let said = kubo.run(&["dag", "export", "--progress=false", &root]);
    said.expect_ok("ipfs dag export");
    fs::write(&car, &said.out).unwrap();

    product.run(&["import", &car]).expect_ok("cidfs import");
    product.run(&["verify"]).expect_ok("cidfs verify");
    let pins = product.run(&["pin", "ls"]).expect_ok("cidfs pin ls");
    assert!(
        pins.contains(&root),
        "{flags:?}: {root} is not among the pins: {pins}"
    );
    let out = path(&dir, "out");
    product
        .run(&["get", "-o", &out, &root])
        .expect_ok("cidfs get");
    assert_same_tree(&corpus.tree(), Path::new(&out));
}

/// Under the older profile a hash other than sha2-256 needs a version, which the shape gives.
fn of_every_shape(check: impl Fn(Profile, &Corpus, &[&str])) {
    let corpus = small();
    for profile in Profile::ALL {
        for shape in SHAPES {
            check(profile, &corpus, shape);
        }
    }
    for corpus in corpora() {
        check(Profile::V1, &corpus, &[]);
    }
}

#[test]
fn kubo_imports_what_we_export() {
    of_every_shape(we_export);
}

#[test]
fn we_import_what_kubo_exports() {
    of_every_shape(we_import);
}

#[test]
fn exported_again_a_car_file_of_kubo_has_the_same_blocks() {
    let Some(kubo) = Kubo::offline(Profile::V1) else {
        return;
    };
    let (product, dir, corpus) = (Product::new(), TempDir::new().unwrap(), small());
    let root = kubo.add(corpus.dir(), &["-r", corpus.name()]).unwrap();
    let theirs = kubo.run(&["dag", "export", "--progress=false", &root]);
    theirs.expect_ok("ipfs dag export");
    fs::write(path(&dir, "theirs.car"), &theirs.out).unwrap();
    product
        .run(&["import", &path(&dir, "theirs.car")])
        .expect_ok("cidfs import");
    let ours = product.run(&["export", &root]);
    ours.expect_ok("cidfs export");
    assert_eq!(ours.out.len(), theirs.out.len());

    // Kubo finds nothing new in it.
    let again = path(&dir, "ours.car");
    fs::write(&again, &ours.out).unwrap();
    let before = kubo.run(&["refs", "local"]).text().lines().count();
    kubo.run(&["dag", "import", &again])
        .expect_ok("ipfs dag import");
    assert_eq!(kubo.run(&["refs", "local"]).text().lines().count(), before);
}
