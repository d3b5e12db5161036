//! The posix map: an ordered map whose root follows from its entries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use cidfs::block::{Block, BlockSink, Cid};
use cidfs::cache::{Blocks, StoreOptions};
use cidfs::source::BlockSource;
use cidfs::testing::source::MemorySource;
use cidfs::tree::posix::{MapError, PosixMap};
use cidfs::unixfs::links::links;
use ipld_core::ipld::Ipld;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A map over blocks in memory, which tells what was made and what was read.
pub(crate) struct World {
    pub(crate) source: Arc<MemorySource>,
    pub(crate) map: PosixMap,
    made: Mutex<Vec<Block>>,
}

impl BlockSink for World {
    fn put(&self, block: Block) -> std::io::Result<()> {
        self.made.lock().push(block.clone());
        self.source.put(block)
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemorySource::default().local()))
    }

    /// A map that has read nothing yet of what `source` holds.
    pub(crate) fn over(source: Arc<MemorySource>) -> Self {
        let options = StoreOptions {
            memory_bytes_max: 0,
            ..StoreOptions::default()
        };
        let blocks = Blocks::without_disk(options, source.clone());
        Self {
            source,
            map: PosixMap::with_limits(blocks, 1 << 20, Duration::from_secs(5)),
            made: Mutex::default(),
        }
    }

    async fn change(&self, root: Option<&Cid>, changes: Changes) -> Option<Cid> {
        self.map.apply(root, changes, self).await.unwrap()
    }

    pub(crate) async fn build(&self, entries: &Entries) -> Option<Cid> {
        let set = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), Some(value.clone()));
        self.change(None, entries.iter().map(set).collect()).await
    }

    async fn all(&self, root: Option<&Cid>) -> Entries {
        let Some(root) = root else {
            return Entries::new();
        };
        let found = self.map.range(root, b"", None, usize::MAX).await.unwrap();
        let pair = |(key, value): &(bytes::Bytes, bytes::Bytes)| (key.to_vec(), value.to_vec());
        assert!(found.is_sorted_by(|a, b| a.0 < b.0));
        found.iter().map(pair).collect()
    }

    async fn children(&self, cid: &Cid) -> Vec<Cid> {
        let fetched = self.source.get(cid).await.unwrap();
        links(&fetched.block).unwrap()
    }

    fn made(&self) -> usize {
        std::mem::take(&mut *self.made.lock()).len()
    }
}

fn seeded() -> StdRng {
    let seed = rand::random();
    println!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

/// A key of a small world, so that changes meet: short ones, and some long.
fn key(rng: &mut StdRng, world: u32) -> Vec<u8> {
    let number = rng.random_range(0..world);
    let mut key = format!("k{number}").into_bytes();
    if number.is_multiple_of(50) {
        key.resize(4096, b'x');
    }
    key
}

fn value(rng: &mut StdRng) -> Vec<u8> {
    let len = match rng.random_range(0..200) {
        0 => 128 << 10,
        1..4 => rng.random_range(0..40_000),
        _ => rng.random_range(0..100),
    };
    vec![rng.random(); len]
}

fn changes(rng: &mut StdRng, world: u32, count: usize, removals: f64) -> Changes {
    let change = |rng: &mut StdRng| {
        let removes = rng.random_bool(removals);
        (key(rng, world), (!removes).then(|| value(rng)))
    };
    (0..count).map(|_| change(rng)).collect()
}

fn merge(entries: &mut Entries, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => entries.insert(key.clone(), value.clone()),
            None => entries.remove(key),
        };
    }
}

/// Entries with plain keys and small values.
pub(crate) fn plain(count: u32) -> Entries {
    numbered(0..count)
}

fn numbered(numbers: std::ops::Range<u32>) -> Entries {
    let entry = |n: u32| (format!("key {n:08}").into_bytes(), n.to_le_bytes().to_vec());
    numbers.map(entry).collect()
}

fn set(key: &[u8], value: &[u8]) -> Changes {
    [(key.to_vec(), Some(value.to_vec()))].into()
}

#[tokio::test]
async fn any_history_gives_what_an_ordered_map_gives_and_the_same_root() {
    let mut rng = seeded();
    for _ in 0..6 {
        let world = World::new();
        let (mut entries, mut root) = (Entries::new(), None);
        let keys = *[30, 500, 3000].get(rng.random_range(0..3)).unwrap();
        for step in 0..25 {
            // Mostly growth first, mostly removal later.
            let removals = if step < 12 { 0.2 } else { 0.8 };
            let count = *[1, 3, 40, 1000].get(rng.random_range(0..4)).unwrap();
            let changes = changes(&mut rng, keys, count, removals);
            merge(&mut entries, &changes);
            root = world.change(root.as_ref(), changes).await;
            assert_eq!(root, World::new().build(&entries).await, "step {step}");
        }
        assert_eq!(world.all(root.as_ref()).await, entries);
        for _ in 0..100 {
            let key = key(&mut rng, keys);
            let found = world.map.get(root.as_ref().unwrap(), &key).await.unwrap();
            assert_eq!(found.as_deref(), entries.get(&key).map(Vec::as_slice));
        }
        let removals = entries.into_keys().map(|key| (key, None)).collect();
        assert_eq!(world.change(root.as_ref(), removals).await, None);
    }
}

#[tokio::test]
async fn the_same_entries_give_the_same_root_one_by_one_in_any_order() {
    let mut rng = seeded();
    let entries = plain(3000);
    let expected = World::new().build(&entries).await;
    let mut order: Vec<_> = entries.iter().collect();
    order.shuffle(&mut rng);
    let world = World::new();
    let mut root = None;
    for (key, value) in order {
        root = world.change(root.as_ref(), set(key, value)).await;
    }
    assert_eq!(root, expected);
    // And back down, to what half of them give.
    let half: Entries = entries.clone().into_iter().step_by(2).collect();
    let mut gone: Vec<_> = entries
        .keys()
        .filter(|key| !half.contains_key(*key))
        .collect();
    gone.shuffle(&mut rng);
    for key in gone {
        root = world
            .change(root.as_ref(), [(key.clone(), None)].into())
            .await;
    }
    assert_eq!(root, World::new().build(&half).await);
}

#[tokio::test]
async fn a_map_that_shrinks_has_the_root_of_what_is_left() {
    let world = World::new();
    let entries = plain(20_000);
    let root = world.build(&entries).await;
    // What is left stands at either end, in the middle, or far apart.
    let left: [fn(usize) -> bool; 6] = [
        |n| n == 0,
        |n| n == 19_999,
        |n| n >= 19_990,
        |n| (9_000..9_100).contains(&n),
        |n| n.is_multiple_of(5_000),
        |n| n >= 19_000,
    ];
    for stays in left {
        let numbered = || entries.iter().enumerate();
        let gone = numbered().filter(|(n, _)| !stays(*n));
        let gone = gone.map(|(_, (key, _))| (key.clone(), None)).collect();
        let rest = numbered().filter(|(n, _)| stays(*n));
        let rest = rest.map(|(_, (key, value))| (key.clone(), value.clone()));
        let expected = World::new().build(&rest.collect()).await;
        assert_eq!(world.change(root.as_ref(), gone).await, expected);
    }
}

#[tokio::test]
async fn a_root_goes_down_to_an_old_leaf_through_nodes_of_one_child() {
    let world = World::new();
    let mut entries = Entries::new();
    let mut root = None;
    // Grows until the last node above the leaves, of two or more, has one leaf.
    let last = loop {
        let len = entries.len() as u32;
        let more = numbered(len..len + 10);
        let set = more
            .iter()
            .map(|(key, value)| (key.clone(), Some(value.clone())));
        root = world.change(root.as_ref(), set.collect()).await;
        entries.extend(more);
        let below = world.children(root.as_ref().unwrap()).await;
        if let Some(last) = below.last()
            && let [leaf] = *world.children(last).await
        {
            break leaf;
        }
    };
    let leaf = world.source.get(&last).await.unwrap().block;
    let value: Ipld = serde_ipld_dagcbor::from_slice(leaf.data()).unwrap();
    let Ok(Some(Ipld::List(list))) = value.get("entries") else {
        panic!("no entries");
    };
    let gone = entries.keys().take(entries.len() - list.len());
    let gone = gone.map(|key| (key.clone(), None)).collect();
    assert_eq!(world.change(root.as_ref(), gone).await, Some(last));
}

#[tokio::test]
async fn the_root_of_known_entries_never_changes() {
    // A change of the format or of the rule that cuts must come with a version.
    let root = World::new().build(&plain(10_000)).await.unwrap();
    let expected = "bafyreiedvhfctyff5yrun3jispgoi7gfsvnnrge2ilaa2yvkophlhx4ge4";
    assert_eq!(root.to_string(), expected);
}

#[tokio::test]
async fn one_change_among_a_million_makes_few_blocks() {
    let world = World::new();
    let entries = plain(1_000_000);
    let root = world.build(&entries).await;
    let nodes = world.made();
    assert!((12_500..20_000).contains(&nodes), "{nodes}");
    let mut most = 0;
    for n in (0..1_000_000).step_by(9973) {
        let key = format!("key {n:08}").into_bytes();
        let new = [key.clone(), b"+".to_vec()].concat();
        for change in [set(&key, b"other"), set(&new, b"new"), [(key, None)].into()] {
            let gets = world.source.gets();
            let changed = world.change(root.as_ref(), change).await;
            assert_ne!(changed, root);
            most = most.max(world.made());
            let read = world.source.gets() - gets;
            assert!(read <= 12, "{read} blocks read");
        }
    }
    println!("{nodes} nodes; one change made {most} blocks at most");
    assert!(most <= 12, "{most} blocks made");
}

#[tokio::test]
async fn a_change_that_changes_nothing_makes_nothing() {
    let world = World::new();
    let root = world.build(&plain(5000)).await;
    world.made();
    let same = set(b"key 00001234", &1234u32.to_le_bytes());
    assert_eq!(world.change(root.as_ref(), same).await, root);
    let absent: Changes = [
        (b"a".to_vec(), None),
        (b"key 000012345".to_vec(), None),
        (b"z".to_vec(), None),
    ]
    .into();
    assert_eq!(world.change(root.as_ref(), absent.clone()).await, root);
    assert_eq!(world.change(root.as_ref(), Changes::new()).await, root);
    assert_eq!(world.made(), 0);
    assert_eq!(world.change(None, absent).await, None);
    assert_eq!(world.change(None, Changes::new()).await, None);
}

#[tokio::test]
async fn ranges_begin_and_end_where_they_are_told() {
    let world = World::new();
    let entries = plain(2000);
    let root = world.build(&entries).await.unwrap();
    let mut rng = seeded();
    for _ in 0..300 {
        let mut bound = || format!("key {:07}", rng.random_range(0..220)).into_bytes();
        let (from, until) = (bound(), bound());
        let limit = rng.random_range(0..400);
        let found = world
            .map
            .range(&root, &from, Some(&until), limit)
            .await
            .unwrap();
        let found: Vec<_> = found.iter().map(|(key, _)| key.to_vec()).collect();
        let within = entries.keys().filter(|key| **key >= from && **key < until);
        assert_eq!(found, within.take(limit).cloned().collect::<Vec<_>>());
    }
    assert_eq!(world.map.range(&root, b"z", None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_difference_is_that_of_the_ordered_maps() {
    let mut rng = seeded();
    for _ in 0..8 {
        let world = World::new();
        let mut a = Entries::new();
        let size = rng.random_range(0..1500);
        merge(&mut a, &changes(&mut rng, 2000, size, 0.0));
        let mut b = a.clone();
        let count = *[0, 1, 10, 2000].get(rng.random_range(0..4)).unwrap();
        merge(&mut b, &changes(&mut rng, 2000, count, 0.5));
        let (from, to) = (world.build(&a).await, world.build(&b).await);
        let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
        let expected = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
        let expected: Vec<_> = expected
            .map(|key| (key.clone(), a.get(key).cloned(), b.get(key).cloned()))
            .collect();
        let mut found = Vec::new();
        let mut each = |d: cidfs::tree::posix::Difference<'_>| {
            found.push((
                d.key.to_vec(),
                d.old.map(<[u8]>::to_vec),
                d.new.map(<[u8]>::to_vec),
            ));
            ControlFlow::Continue(())
        };
        world
            .map
            .diff(from.as_ref(), to.as_ref(), &mut each)
            .await
            .unwrap();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_difference_reads_only_what_differs_and_stops_when_told() {
    let world = World::new();
    let a = world.build(&plain(100_000)).await;
    let b = world.change(a.as_ref(), set(b"key 00050000+", b"x")).await;
    let cold = World::over(world.source.clone());
    let before = cold.source.gets();
    let mut count = 0;
    let mut each = |_: cidfs::tree::posix::Difference<'_>| {
        count += 1;
        ControlFlow::Continue(())
    };
    cold.map
        .diff(a.as_ref(), b.as_ref(), &mut each)
        .await
        .unwrap();
    assert_eq!(count, 1);
    let read = cold.source.gets() - before;
    assert!(read <= 16, "{read} blocks read");
    let before = cold.source.gets();
    let mut once = |_: cidfs::tree::posix::Difference<'_>| ControlFlow::Break(());
    cold.map.diff(a.as_ref(), None, &mut once).await.unwrap();
    let read = cold.source.gets() - before;
    assert!(read <= 4, "{read} blocks read");
}

#[tokio::test]
async fn the_links_of_the_blocks_lead_to_every_block() {
    let world = World::new();
    let root = world.build(&plain(20_000)).await.unwrap();
    let all: BTreeSet<_> = world.made.lock().iter().map(|b| *b.cid()).collect();
    let mut open = VecDeque::from([root]);
    let mut reached = BTreeSet::new();
    while let Some(cid) = open.pop_front() {
        reached.insert(cid);
        open.extend(world.children(&cid).await);
    }
    assert!(reached.len() > 200);
    assert_eq!(reached, all);
}

#[tokio::test]
async fn children_are_made_before_their_parents_and_none_twice() {
    let world = World::new();
    let root = world.build(&plain(20_000)).await;
    world
        .change(root.as_ref(), set(b"key 00010000+", b"x"))
        .await;
    let mut made = BTreeSet::new();
    for block in world.made.lock().iter() {
        let links = links(block).unwrap();
        assert!(links.iter().all(|link| made.contains(link)));
        assert!(made.insert(*block.cid()), "made twice");
    }
}

#[tokio::test]
async fn keys_and_values_over_their_limits_are_refused_before_anything_is_made() {
    let world = World::new();
    let long = world.map.apply(None, set(&[0; 4097], b""), &world).await;
    assert!(matches!(long, Err(MapError::KeyTooLong { bytes: 4097 })));
    let large = vec![0; (128 << 10) + 1];
    let large = world.map.apply(None, set(b"k", &large), &world).await;
    assert!(matches!(
        large,
        Err(MapError::ValueTooLong { bytes: 131_073 })
    ));
    assert_eq!(world.made(), 0);
    // The largest of both fit, and so do many of them.
    let largest = |n: u8| (vec![n; 4096], Some(vec![n; 128 << 10]));
    let root = world.change(None, (0..40).map(largest).collect()).await;
    let sizes: Vec<_> = world.made.lock().iter().map(|b| b.data().len()).collect();
    assert!(sizes.iter().all(|bytes| *bytes <= 256 << 10));
    let found = world.map.get(&root.unwrap(), &[7; 4096]).await.unwrap();
    assert_eq!(found.unwrap(), vec![7; 128 << 10]);
}

#[tokio::test]
async fn a_sink_that_fails_fails_the_change_and_the_old_root_stays() {
    struct Full;
    impl BlockSink for Full {
        fn put(&self, _: Block) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }
    let world = World::new();
    let entries = plain(1000);
    let root = world.build(&entries).await;
    let failed = world.map.apply(root.as_ref(), set(b"x", b"y"), &Full).await;
    let Err(MapError::Sink(error)) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(world.all(root.as_ref()).await, entries);
}
