//! Directories that change against directories that are made anew.

use std::collections::BTreeMap;

use bytes::Bytes;
use cidfs::block::{Block, Cid, RAW, SHA2_256};
use cidfs::testing::dag::{Dag, link};
use cidfs::unixfs::builder::{AddOptions, Adder};
use cidfs::unixfs::dag_pb::PbNode;
use cidfs::unixfs::data::{Kind, Mtime, UnixFs};
use cidfs::unixfs::dir_build::{self, DirRules, DirTally, NewEntry, SizeEstimate};
use cidfs::unixfs::dir_update::{DirChange, UpdatedDir, update_dir};
use cidfs::unixfs::hamt;
use cidfs::unixfs::layout::Metadata;
use cidfs::unixfs::profile::Profile;
use cidfs::unixfs::{ReadError, UpdateError};

use super::unixfs_world::{Counts, Dice, World};

type Model = BTreeMap<Vec<u8>, NewEntry>;

fn entry(name: &[u8], seed: u64) -> NewEntry {
    let data = Bytes::copy_from_slice(&seed.to_le_bytes());
    let block = Block::seal(RAW, SHA2_256, data).unwrap();
    // Sizes take varints of different lengths.
    NewEntry::new(name, block.cid(), 1 << (seed % 40))
}

fn set(name: &[u8], seed: u64) -> DirChange {
    DirChange {
        name: Bytes::copy_from_slice(name),
        entry: Some(entry(name, seed)),
    }
}

fn removed(name: &[u8]) -> DirChange {
    DirChange {
        name: Bytes::copy_from_slice(name),
        entry: None,
    }
}

fn apply(model: &mut Model, changes: &[DirChange]) {
    for change in changes {
        match &change.entry {
            Some(entry) => drop(model.insert(change.name.to_vec(), entry.clone())),
            None => drop(model.remove(&change.name[..])),
        }
    }
}

/// What the model's directory is when it is made from nothing.
fn anew(world: &World, model: &Model, rules: &DirRules, meta: &Metadata) -> UpdatedDir {
    let entries: Vec<_> = model.values().cloned().collect();
    let tally = DirTally::of(&entries);
    let built = dir_build::build(entries, rules, meta, &mut world.seal(false)).unwrap();
    UpdatedDir {
        cid: built.cid,
        tsize: built.tsize,
        sharded: built.sharded,
        tally,
    }
}

async fn update(
    world: &World,
    base: Option<(&Cid, Option<DirTally>)>,
    changes: Vec<DirChange>,
    rules: &DirRules,
    meta: &Metadata,
) -> Result<UpdatedDir, UpdateError> {
    fn sendable<T>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        future
    }
    let mut seal = world.seal(false);
    sendable(update_dir(
        &world.reader(),
        base,
        changes,
        rules,
        meta,
        &mut seal,
    ))
    .await
}

/// Names whose hashes have their first bits in common, and others.
fn names(count: usize) -> Vec<Vec<u8>> {
    let all = (0..).map(|n: u32| format!("{}{n}", "long".repeat(n as usize % 5)).into_bytes());
    let near = all.clone().filter(|name| hamt::hash(name) >> 52 < 8);
    near.take(count / 3)
        .chain(all.take(count - count / 3))
        .collect()
}

fn rules_of_all_kinds() -> Vec<DirRules> {
    let rules = |estimate, threshold_bytes, links_max, fanout| DirRules {
        estimate,
        threshold_bytes,
        links_max,
        fanout,
    };
    vec![
        rules(SizeEstimate::Block, 2000, None, 8),
        rules(SizeEstimate::Links, 1500, None, 16),
        rules(SizeEstimate::Disabled, 0, Some(40), 8),
        rules(SizeEstimate::Block, 0, None, 8),
        rules(SizeEstimate::Block, 1 << 40, None, 8),
    ]
}

async fn history(rules: &DirRules, seed: u64) -> (usize, usize) {
    let world = World::default();
    let mut dice = Dice::new(seed);
    let names = names(90);
    let meta = Metadata {
        mode: dice.one_in(2).then_some(0o755),
        mtime: None,
    };
    let mut model = Model::new();
    let mut last: Option<UpdatedDir> = None;
    let (mut crossed, mut sharded) = (0, 0);
    for step in 0..150 {
        // Grows, shrinks to nothing, grows again.
        let removals = if step / 15 % 2 == 0 { 1 } else { 5 };
        let changes: Vec<_> = (0..dice.below(20))
            .map(|_| {
                let name = &names[dice.below(names.len() as u64) as usize];
                match dice.below(5) < removals {
                    true => removed(name),
                    false => set(name, dice.below(1000)),
                }
            })
            .collect();
        apply(&mut model, &changes);
        let base = last.as_ref().map(|l| {
            let tally = (!dice.one_in(3)).then_some(l.tally);
            (&l.cid, tally)
        });
        let updated = update(&world, base, changes, rules, &meta).await.unwrap();
        assert_eq!(
            updated,
            anew(&world, &model, rules, &meta),
            "seed {seed}, step {step}, {} entries, {rules:?}",
            model.len()
        );
        crossed += usize::from(last.is_some_and(|l| l.sharded != updated.sharded));
        sharded += usize::from(updated.sharded);
        last = Some(updated);
    }
    (crossed, sharded)
}

#[tokio::test]
async fn any_history_gives_what_building_anew_gives() {
    let (mut crossed, mut sharded) = (0, 0);
    for rules in rules_of_all_kinds() {
        for seed in 0..12 {
            let (c, s) = history(&rules, seed).await;
            crossed += c;
            sharded += s;
        }
    }
    assert!(crossed > 200, "the threshold was crossed {crossed} times");
    assert!(sharded > 2000, "{sharded} HAMTs were changed");
}

#[tokio::test]
async fn the_thresholds_of_the_profiles_are_crossed_both_ways() {
    for profile in [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015] {
        let rules = DirRules::from(profile);
        let (world, meta) = (World::default(), Metadata::default());
        let mut model = Model::new();
        let mut last: Option<UpdatedDir> = None;
        let mut forms = Vec::new();
        let steps = (0..9u64).chain((3..8).rev());
        for (step, upper) in steps.enumerate() {
            let name = |n: u64| format!("a name of some length {n}").into_bytes();
            let changes: Vec<_> = (upper * 600..upper * 600 + 600)
                .map(|n| match step < 9 {
                    true => set(&name(n), n),
                    false => removed(&name(n)),
                })
                .collect();
            apply(&mut model, &changes);
            let base = last.as_ref().map(|l| (&l.cid, Some(l.tally)));
            let updated = update(&world, base, changes, &rules, &meta).await.unwrap();
            assert_eq!(updated, anew(&world, &model, &rules, &meta), "step {step}");
            forms.push(updated.sharded);
            last = Some(updated);
        }
        forms.dedup();
        assert_eq!(forms, [false, true, false], "{profile}");
    }
}

#[tokio::test]
async fn the_rules_of_the_profiles_are_those_of_the_builder() {
    for (profile, v0) in [
        (Profile::UnixfsV1_2025, false),
        (Profile::UnixfsV0_2015, true),
    ] {
        // Between 4 and 8 names the sizes are on both sides of the threshold.
        for count in [4, 8] {
            let world = World::default();
            let dir = tempfile::tempdir().unwrap();
            let options = AddOptions {
                hamt_threshold_bytes: 400,
                recursive: true,
                ..AddOptions::from_profile(profile)
            };
            let adder = Adder::new(options, std::sync::Arc::new(world.clone())).unwrap();
            let mut entries = Vec::new();
            for n in 0..count {
                let path = dir.path().join(format!("name {n}"));
                std::fs::write(&path, "x").unwrap();
                let file = adder.add_path(&path, None, &|_| {}).unwrap();
                entries.push(NewEntry::new(&file.name, &file.cid, file.tsize));
            }
            let added = adder.add_path(dir.path(), None, &|_| {}).unwrap();
            let rules = DirRules {
                threshold_bytes: 400,
                ..DirRules::from(profile)
            };
            let changes = entries.into_iter().map(|entry| DirChange {
                name: Bytes::copy_from_slice(entry.name()),
                entry: Some(entry),
            });
            let (none, changes) = (Metadata::default(), changes.collect());
            let mut seal = world.seal(v0);
            let made = update_dir(&world.reader(), None, changes, &rules, &none, &mut seal).await;
            assert_eq!(made.unwrap().cid, added.cid, "{profile}, {count}");
        }
    }
}

fn many(count: u64) -> Model {
    let name = |n| format!("file {n:07}.bin").into_bytes();
    (0..count)
        .map(|n| (name(n), entry(&name(n), n % 50)))
        .collect()
}

#[tokio::test]
async fn one_change_among_200_000_entries_reads_and_makes_one_path() {
    let (world, meta) = (World::default(), Metadata::default());
    let rules = DirRules::from(Profile::UnixfsV1_2025);
    let mut model = many(200_000);
    let base = anew(&world, &model, &rules, &meta);
    let change = [
        set(b"one more", 1),
        set(b"file 0012345.bin", 77),
        removed(b"file 0054321.bin"),
        removed(b"never there"),
    ];
    let mut last = base;
    for change in change {
        let before = world.counts();
        let tally = Some((&last.cid, Some(last.tally)));
        let updated = update(&world, tally, vec![change.clone()], &rules, &meta).await;
        let Counts { read, made } = world.since(before);
        assert!((1..=4).contains(&read), "{read} shards were read");
        assert!((1..=4).contains(&made), "{made} shards were made");
        apply(&mut model, &[change]);
        last = updated.unwrap();
    }
    assert_eq!(last, anew(&world, &model, &rules, &meta));

    // Without its tally the base is read once, and no more is made.
    let before = world.counts();
    let change = vec![removed(b"one more")];
    let updated = update(
        &world,
        Some((&last.cid, None)),
        change.clone(),
        &rules,
        &meta,
    )
    .await;
    let counts = world.since(before);
    assert!(counts.read > 800 && counts.made <= 4, "{counts:?}");
    apply(&mut model, &change);
    assert_eq!(updated.unwrap(), anew(&world, &model, &rules, &meta));
}

#[tokio::test]
async fn what_changes_nothing_makes_the_root_only() {
    let (world, rules) = (World::default(), DirRules::from(Profile::UnixfsV1_2025));
    let model = many(6000);
    let none = Metadata::default();
    let base = anew(&world, &model, &rules, &none);
    let dated = Metadata {
        mode: Some(0o750),
        mtime: Some(Mtime {
            seconds: 7,
            nanoseconds: 8,
        }),
    };
    let same = vec![set(b"file 0000007.bin", 7), removed(b"no such name")];
    for meta in [none, dated] {
        let before = world.counts();
        let at = Some((&base.cid, Some(base.tally)));
        let updated = update(&world, at, same.clone(), &rules, &meta)
            .await
            .unwrap();
        assert_eq!(world.since(before).made, 1);
        assert_eq!(updated, anew(&world, &model, &rules, &meta));
    }
}

#[tokio::test]
async fn of_several_changes_of_a_name_the_last_counts() {
    let (world, meta) = (World::default(), Metadata::default());
    let rules = DirRules::from(Profile::UnixfsV1_2025);
    let changes = vec![set(b"a", 1), removed(b"a"), set(b"b", 1), set(b"b", 2)];
    let mut model = Model::new();
    apply(&mut model, &changes);
    let updated = update(&world, None, changes, &rules, &meta).await.unwrap();
    assert_eq!(updated, anew(&world, &model, &rules, &meta));
    assert_eq!(updated.tally.entries, 1);
}

#[tokio::test]
async fn foreign_hamts_become_ours() {
    let (world, meta) = (World::default(), Metadata::default());
    let rules = DirRules {
        threshold_bytes: 500,
        fanout: 16,
        ..DirRules::from(Profile::UnixfsV1_2025)
    };
    let mut model = Model::new();
    let changes: Vec<_> = names(60).iter().map(|n| set(n, 1)).collect();
    apply(&mut model, &changes);
    let entries: Vec<_> = model.values().cloned().collect();
    let other = DirRules { fanout: 8, ..rules };
    let v0 = dir_build::build(entries.clone(), &rules, &meta, &mut world.seal(true)).unwrap();
    let fanout = dir_build::build(entries.clone(), &other, &meta, &mut world.seal(false)).unwrap();
    let sizes = {
        let unsized_entries = entries.iter().map(|e| {
            let cid = Cid::try_from(e.cid_bytes()).unwrap();
            NewEntry::new(e.name(), &cid, 0)
        });
        let built = dir_build::build(
            unsized_entries.collect(),
            &rules,
            &meta,
            &mut world.seal(false),
        );
        tamper(&world, &built.unwrap().cid)
    };
    let change = vec![set(b"new", 3), removed(&names(60)[0])];
    apply(&mut model, &change);
    let ours = anew(&world, &model, &rules, &meta);
    let blocks = world.source.blocks();
    let root = blocks.iter().find(|b| b.cid().hash() == v0.cid.hash());
    let mixed = world.seal(false)(root.unwrap().data().clone()).unwrap();
    for (base, what) in [(v0.cid, "CIDv0"), (mixed, "both"), (fanout.cid, "fanout")] {
        let updated = update(&world, Some((&base, None)), change.clone(), &rules, &meta).await;
        assert_eq!(updated.unwrap(), ours, "{what}");
    }
    let kept = model.values().map(|e| {
        let cid = Cid::try_from(e.cid_bytes()).unwrap();
        let tsize = if e.name() == b"new" { e.tsize() } else { 0 };
        (e.name().to_vec(), NewEntry::new(e.name(), &cid, tsize))
    });
    let kept: Model = kept.collect();
    let updated = update(&world, Some((&sizes, None)), change, &rules, &meta).await;
    assert_eq!(
        updated.unwrap(),
        anew(&world, &kept, &rules, &meta),
        "sizes"
    );
}

/// The same HAMT with wrong sizes in the links to its shards.
fn tamper(world: &World, cid: &Cid) -> Cid {
    let blocks = world.source.blocks();
    let block = blocks.iter().find(|b| b.cid() == cid).unwrap();
    let mut node = PbNode::decode(block.data()).unwrap();
    for link in &mut node.links {
        if link.name.as_ref().is_some_and(|name| name.len() == 1) {
            link.cid = tamper(world, &link.cid);
            link.tsize = Some(1);
        }
    }
    world.seal(false)(node.encode()).unwrap()
}

#[tokio::test]
async fn a_shard_that_should_have_given_way_to_its_entry_does() {
    let (world, meta) = (World::default(), Metadata::default());
    let rules = DirRules {
        threshold_bytes: 0,
        fanout: 8,
        ..DirRules::from(Profile::UnixfsV1_2025)
    };
    // A root with one shard, which holds one entry.
    let slot = |depth| hamt::slot_of(hamt::hash(b"n"), 8, depth).unwrap();
    let mut dag = Dag::default();
    let mut shard = |links, number| {
        let unixfs = UnixFs {
            data: Some(Bytes::copy_from_slice(&[1u8 << number])),
            hash_type: Some(hamt::MURMUR3_X64_64),
            fanout: Some(8),
            ..UnixFs::new(Kind::HamtShard)
        };
        dag.node(links, &unixfs)
    };
    let old = entry(b"n", 5);
    let old_cid = Cid::try_from(old.cid_bytes()).unwrap();
    let below = link(&format!("{:X}n", slot(1)), &old_cid, old.tsize());
    let below = shard(vec![below], slot(1));
    let root = |shard: &mut dyn FnMut(_, _) -> Cid, tsize| {
        shard(
            vec![link(&format!("{:X}", slot(0)), &below, tsize)],
            slot(0),
        )
    };
    // Its size is right: that is not what gives it away.
    let tsize = 57 + old.tsize();
    let root = root(&mut shard, tsize);
    let bytes = dag.blocks.iter().find(|b| *b.cid() == below);
    assert_eq!(bytes.unwrap().data().len(), 57);
    dag.blocks.into_iter().for_each(|b| world.source.insert(b));
    let mut model = Model::from([(b"n".to_vec(), old)]);
    let change = vec![set(b"other", 6)];
    let updated = update(&world, Some((&root, None)), change.clone(), &rules, &meta).await;
    apply(&mut model, &change);
    assert_eq!(updated.unwrap(), anew(&world, &model, &rules, &meta));
}

#[tokio::test]
async fn an_entry_that_lies_in_the_wrong_slot_is_put_right() {
    let (world, meta) = (World::default(), Metadata::default());
    let rules = DirRules {
        threshold_bytes: 0,
        fanout: 8,
        ..DirRules::from(Profile::UnixfsV1_2025)
    };
    let slot = hamt::slot_of(hamt::hash(b"n"), 8, 0).unwrap() ^ 1;
    let unixfs = UnixFs {
        data: Some(Bytes::copy_from_slice(&[1u8 << slot])),
        hash_type: Some(hamt::MURMUR3_X64_64),
        fanout: Some(8),
        ..UnixFs::new(Kind::HamtShard)
    };
    let old = entry(b"n", 5);
    let old_cid = Cid::try_from(old.cid_bytes()).unwrap();
    let mut dag = Dag::default();
    let links = vec![link(&format!("{slot:X}n"), &old_cid, old.tsize())];
    let root = dag.node(links, &unixfs);
    dag.blocks.into_iter().for_each(|b| world.source.insert(b));
    let mut model = Model::from([(b"n".to_vec(), old)]);
    let change = vec![set(b"other", 6)];
    let updated = update(&world, Some((&root, None)), change.clone(), &rules, &meta).await;
    apply(&mut model, &change);
    assert_eq!(updated.unwrap(), anew(&world, &model, &rules, &meta));
}

#[tokio::test]
async fn a_foreign_basic_directory_is_sorted_and_keeps_what_a_mount_hides() {
    let (world, meta) = (World::default(), Metadata::default());
    let rules = DirRules::from(Profile::UnixfsV1_2025);
    let mut dag = Dag::default();
    let (one, two) = (dag.leaf("1"), dag.leaf("2"));
    let names = [
        ("z", one),
        ("a", one),
        ("z", two),
        ("a/b", one),
        ("..", two),
        ("", one),
    ];
    let base = dag.directory(&names);
    dag.blocks.into_iter().for_each(|b| world.source.insert(b));
    let change = vec![set(b"m", 1)];
    let updated = update(&world, Some((&base, None)), change.clone(), &rules, &meta).await;
    let mut model: Model = [("z", one), ("a", one), ("a/b", one), ("..", two)]
        .iter()
        .map(|(name, cid)| {
            let name = name.as_bytes();
            (name.to_vec(), NewEntry::new(name, cid, 0))
        })
        .collect();
    apply(&mut model, &change);
    assert_eq!(updated.unwrap(), anew(&world, &model, &rules, &meta));

    // Hidden entries live on in a HAMT too, and can be removed.
    let sharded = DirRules {
        threshold_bytes: 0,
        ..rules
    };
    let at = Some((&base, None));
    let first = update(&world, at, change, &sharded, &meta).await.unwrap();
    let change = vec![removed(b".."), set(b"more", 3)];
    let at = Some((&first.cid, Some(first.tally)));
    let second = update(&world, at, change.clone(), &sharded, &meta).await;
    apply(&mut model, &change);
    assert_eq!(second.unwrap(), anew(&world, &model, &sharded, &meta));
}

#[tokio::test]
async fn a_file_is_no_base() {
    let (world, meta) = (World::default(), Metadata::default());
    let rules = DirRules::from(Profile::UnixfsV1_2025);
    let mut dag = Dag::default();
    let leaf = dag.leaf("1");
    let file = dag.file(&[(leaf, 1)]);
    dag.blocks.into_iter().for_each(|b| world.source.insert(b));
    for base in [leaf, file] {
        let found = update(&world, Some((&base, None)), vec![], &rules, &meta).await;
        assert!(matches!(
            found,
            Err(UpdateError::Read(ReadError::NotADirectory))
        ));
    }
}
