//! Two roads to one tree: files that were written through a mount get the CIDs
//! that Kubo gives the same files.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::corpus::{Corpus, Random, deep, links, names, seed, sizes, small, sparse, wide};
use crate::kubo::{Kubo, Profile};
use crate::mounts::is_mountable;
use crate::product::{Mounted, Product};
use crate::run::{assert_same_tree, bounded, run};

/// A product whose tree has a profile, and its mount.
fn of_profile(profile: Profile, check: impl Fn(&Kubo, &Product, &Mounted<'_>)) {
    if !is_mountable() {
        return;
    }
    let Some(kubo) = Kubo::start(profile) else {
        return;
    };
    let product = Product::new();
    product.configure(&format!("[tree]\nprofile = \"{}\"\n", profile.name()));
    let mounted = product.mount_tree();
    check(&kubo, &product, &mounted);
}

/// The CID that the checkpoint gives a directory of the tree.
fn checkpointed(product: &Product, name: &str) -> String {
    product
        .run(&["journal", "checkpoint"])
        .expect_ok("cidfs journal checkpoint");
    let found = product.json(&["tree", "stat", &format!("/{name}")]);
    found["cid"].as_str().unwrap().to_owned()
}

#[track_caller]
fn assert_as_kubo(kubo: &Kubo, product: &Product, mount: &Path, dir: &Path, name: &str) {
    assert_same_tree(&dir.join(name), &mount.join(name));
    let theirs = kubo.add(dir, &["-r", "--hidden", name]).unwrap();
    assert_eq!(checkpointed(product, name), theirs, "{name}");
}

fn corpora() -> [Corpus; 7] {
    [small(), deep(), wide(), names(), links(), sizes(), sparse()]
}

#[test]
fn trees_that_were_copied_in_get_the_cids_that_kubo_gives_them() {
    for profile in Profile::ALL {
        of_profile(profile, |kubo, product, mounted| {
            for corpus in corpora() {
                let mut cp = bounded(OsStr::new("cp"));
                cp.arg("-a").arg(corpus.tree()).arg(mounted.path());
                run(&mut cp, b"").expect_ok("cp");
                assert_as_kubo(kubo, product, &mounted.path(), corpus.dir(), corpus.name());
            }
        });
    }
}

/// What a random program does to a directory, the same to each of two.
struct Scribbler {
    random: Random,
    dirs: [PathBuf; 2],
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    made: usize,
}

impl Scribbler {
    fn new(seed: u64, dirs: [PathBuf; 2]) -> Self {
        for dir in &dirs {
            fs::create_dir(dir).unwrap();
        }
        Self {
            random: Random(seed),
            dirs,
            files: Vec::new(),
            folders: vec![PathBuf::new()],
            made: 0,
        }
    }

    fn pick(&mut self, of: usize) -> usize {
        self.random.below(of as u64) as usize
    }

    /// A new name in some folder.
    fn name(&mut self) -> PathBuf {
        self.made += 1;
        let at = self.pick(self.folders.len());
        self.folders[at].join(format!("n{}", self.made))
    }

    fn each(&self, change: impl Fn(&Path)) {
        self.dirs.iter().for_each(|dir| change(dir));
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 => {
                let path = self.name();
                self.each(|dir| fs::create_dir(dir.join(&path)).unwrap());
                self.folders.push(path);
            }
            1 | 2 => {
                let path = self.name();
                self.each(|dir| drop(File::create_new(dir.join(&path)).unwrap()));
                self.files.push(path);
            }
            3 if !self.files.is_empty() => {
                let at = self.pick(self.files.len());
                let to = self.name();
                let from = std::mem::replace(&mut self.files[at], to.clone());
                self.each(|dir| fs::rename(dir.join(&from), dir.join(&to)).unwrap());
            }
            4 if self.files.len() > 4 => {
                let at = self.pick(self.files.len());
                let gone = self.files.swap_remove(at);
                self.each(|dir| fs::remove_file(dir.join(&gone)).unwrap());
            }
            5 if !self.files.is_empty() => {
                let at = self.pick(self.files.len());
                let path = self.files[at].clone();
                let len = self.random.below(4 << 20);
                self.each(|dir| {
                    let file = OpenOptions::new().write(true).open(dir.join(&path));
                    file.unwrap().set_len(len).unwrap();
                });
            }
            _ if !self.files.is_empty() => self.write(),
            _ => {}
        }
    }

    /// Some bytes somewhere, mostly at an edge of a chunk or across one.
    fn write(&mut self) {
        let at = self.pick(self.files.len());
        let path = self.files[at].clone();
        let chunk = [262_144, 1 << 20][self.pick(2)];
        let edge = self.random.below(4) * chunk;
        let offset = match self.random.below(3) {
            0 => edge,
            1 => edge.saturating_sub(self.random.below(5000)),
            _ => self.random.below(3 << 20),
        };
        let len = match self.random.below(3) {
            0 => chunk as usize,
            1 => self.pick(10_000) + 1,
            _ => self.pick(1_500_000) + 1,
        };
        let bytes = self.random.bytes(len);
        self.each(|dir| {
            let file = OpenOptions::new().write(true).open(dir.join(&path));
            file.unwrap().write_all_at(&bytes, offset).unwrap();
        });
    }
}

#[test]
fn files_that_were_written_at_random_get_the_cids_that_kubo_gives_the_same_files() {
    let seed = seed();
    for profile in Profile::ALL {
        of_profile(profile, |kubo, product, mounted| {
            let native = tempfile::tempdir().unwrap();
            let name = "scribbled";
            let dirs = [native.path().join(name), mounted.path().join(name)];
            let mut scribbler = Scribbler::new(seed, dirs);
            // Checkpoints in between: what was sealed before is changed again.
            for _ in 0..4 {
                (0..120).for_each(|_| scribbler.step());
                assert_as_kubo(kubo, product, &mounted.path(), native.path(), name);
            }
        });
    }
}
