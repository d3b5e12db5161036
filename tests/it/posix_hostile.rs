//! Blocks of a posix map that are not what they should be.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use cidfs::block::{Block, BlockSink, Cid, DAG_CBOR, RAW, SHA2_256};
use cidfs::cache::CacheError;
use cidfs::config::FAILURE_KEPT_FOR;
use cidfs::tree::posix::{Malformed, MapError};
use ipld_core::ipld::Ipld;

use crate::posix_map::{World, plain};

type Row = Vec<(Vec<u8>, Ipld)>;

/// A node as dag-cbor that another library makes.
fn node(world: &World, level: i128, entries: &Row) -> Cid {
    let entry =
        |(key, item): &(Vec<u8>, Ipld)| Ipld::List(vec![Ipld::Bytes(key.clone()), item.clone()]);
    let map = BTreeMap::from([
        ("v".to_owned(), Ipld::Integer(1)),
        ("level".to_owned(), Ipld::Integer(level)),
        (
            "entries".to_owned(),
            Ipld::List(entries.iter().map(entry).collect()),
        ),
    ]);
    let data = serde_ipld_dagcbor::to_vec(&Ipld::Map(map)).unwrap();
    block(world, DAG_CBOR, data)
}

fn block(world: &World, codec: u64, data: Vec<u8>) -> Cid {
    let block = Block::seal(codec, SHA2_256, data.into()).unwrap();
    let cid = *block.cid();
    world.source.put(block).unwrap();
    cid
}

fn link(cid: &Cid) -> Ipld {
    Ipld::Link(ipld_core::cid::Cid::try_from(cid.to_bytes()).unwrap())
}

/// A sound map of two levels: its root's row, and the first leaf's.
async fn sound(world: &World) -> (Row, Row) {
    let root = world.build(&plain(600)).await.unwrap();
    let top = row(world, &root);
    assert!(top.len() > 3);
    let Some((_, Ipld::Link(first))) = top.first().cloned() else {
        panic!("no link");
    };
    let first = Cid::try_from(first.to_bytes()).unwrap();
    let leaf = row(world, &first);
    assert_eq!(
        node(world, 1, &top),
        root,
        "both libraries make the same bytes"
    );
    (top, leaf)
}

fn row(world: &World, cid: &Cid) -> Row {
    let block = world.source.blocks().into_iter().find(|b| b.cid() == cid);
    let value: Ipld = serde_ipld_dagcbor::from_slice(block.unwrap().data()).unwrap();
    let Ok(Some(Ipld::List(entries))) = value.get("entries") else {
        panic!("no entries");
    };
    let pair = |entry: &Ipld| {
        if let Ipld::List(pair) = entry
            && let [Ipld::Bytes(key), item] = pair.as_slice()
        {
            return (key.clone(), item.clone());
        }
        panic!("no pair");
    };
    entries.iter().map(pair).collect()
}

/// What every call says of a root; all must say the same.
async fn refused(world: &World, root: &Cid) -> Malformed {
    let map = &world.map;
    let mut each = |_: cidfs::tree::posix::Difference<'_>| ControlFlow::Continue(());
    let changes = || BTreeMap::from([(b"key 00000000".to_vec(), Some(b"x".to_vec()))]);
    let answers = [
        map.get(root, b"key 00000000").await.map(drop),
        map.range(root, b"", None, usize::MAX).await.map(drop),
        map.diff(Some(root), None, &mut each).await,
        map.apply(Some(root), changes(), world).await.map(drop),
    ];
    let why = |answer: Result<(), MapError>| match answer {
        Err(MapError::Malformed { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let answers = answers.map(why);
    assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
    answers[0].clone()
}

/// Puts another first child into a sound root.
fn with_first(world: &World, top: &Row, child: &Cid) -> Cid {
    let mut top = top.clone();
    top[0].1 = link(child);
    node(world, 1, &top)
}

#[tokio::test]
async fn children_that_are_not_what_their_parent_says_are_refused() {
    let world = World::new();
    let (top, leaf) = sound(&world).await;
    let with = |child| with_first(&world, &top, &child);

    let mut short = leaf.clone();
    short.pop();
    assert_eq!(
        refused(&world, &with(node(&world, 0, &short))).await,
        Malformed::Bounds
    );
    let Ipld::Link(second) = &top[1].1 else {
        panic!()
    };
    let second = Cid::try_from(second.to_bytes()).unwrap();
    assert_eq!(refused(&world, &with(second)).await, Malformed::Bounds);
    let level = Malformed::Level {
        found: 1,
        wanted: 0,
    };
    assert_eq!(refused(&world, &with(node(&world, 1, &top))).await, level);
    let raw = block(&world, RAW, b"x".to_vec());
    assert_eq!(refused(&world, &with(raw)).await, Malformed::Cid);
    let same = node(&world, 0, &leaf);
    assert_eq!(
        world.map.get(&with(same), b"a").await.unwrap(),
        None,
        "the sound one is not"
    );
}

#[tokio::test]
async fn a_key_below_what_the_sibling_before_holds_is_refused() {
    let world = World::new();
    let (mut top, leaf) = sound(&world).await;
    // The second child gets the first child's first key in front.
    let second = top[1].1.clone();
    let Ipld::Link(second) = second else { panic!() };
    let mut low = row(&world, &Cid::try_from(second.to_bytes()).unwrap());
    low[0].0 = leaf[0].0.clone();
    let low = node(&world, 0, &low);
    top[1].1 = link(&low);
    let root = node(&world, 1, &top);
    let range = world.map.range(&root, b"", None, usize::MAX).await;
    let Err(MapError::Malformed { cid, why }) = range else {
        panic!("{range:?}");
    };
    assert_eq!((*cid, why), (low, Malformed::Bounds));
}

#[tokio::test]
async fn nodes_that_end_where_the_rule_does_not_cut_are_refused() {
    let world = World::new();
    let (top, leaf) = sound(&world).await;
    // A leaf in the middle ends too early.
    let mut early = leaf.clone();
    early.truncate(3);
    let mut named = top.clone();
    named[0] = (early[2].0.clone(), link(&node(&world, 0, &early)));
    assert_eq!(
        refused(&world, &node(&world, 1, &named)).await,
        Malformed::Cut
    );
    // A leaf goes on where it should have ended.
    let mut late = leaf.clone();
    let (key, value) = leaf.last().cloned().unwrap();
    late.push(([key, b"+".to_vec()].concat(), value));
    assert_eq!(
        refused(&world, &node(&world, 0, &late)).await,
        Malformed::Cut
    );
}

#[tokio::test]
async fn roots_that_no_map_has_are_refused() {
    let world = World::new();
    let (top, leaf) = sound(&world).await;
    let lone = top[..1].to_vec();
    assert_eq!(
        refused(&world, &node(&world, 1, &lone)).await,
        Malformed::TooFew
    );
    assert_eq!(
        refused(&world, &node(&world, 0, &Row::new())).await,
        Malformed::TooFew
    );
    assert_eq!(
        refused(&world, &node(&world, 25, &top)).await,
        Malformed::TooHigh(25)
    );
    assert_eq!(
        refused(&world, &node(&world, 1 << 40, &top)).await,
        Malformed::TooHigh(1 << 40)
    );
    let bytes = block(&world, DAG_CBOR, b"\xff\xff".to_vec());
    assert!(matches!(refused(&world, &bytes).await, Malformed::Cbor(_)));
    let huge = block(&world, DAG_CBOR, vec![0; (256 << 10) + 1]);
    assert_eq!(refused(&world, &huge).await, Malformed::TooLarge("node"));
    let raw = block(&world, RAW, b"x".to_vec());
    assert_eq!(refused(&world, &raw).await, Malformed::Cid);
    let mixed = Row::from([leaf[0].clone(), top[1].clone()]);
    assert!(matches!(
        refused(&world, &node(&world, 0, &mixed)).await,
        Malformed::Cbor(_)
    ));
}

#[tokio::test]
async fn damaged_bytes_anywhere_never_panic_or_break_the_order() {
    let world = World::new();
    let (top, leaf) = sound(&world).await;
    for (level, sound) in [(1, &top), (0, &leaf)] {
        let cid = node(&world, level, sound);
        let data = world.source.blocks().into_iter().find(|b| *b.cid() == cid);
        let data = data.unwrap().data().to_vec();
        for at in 0..data.len() {
            for bit in [1, 0x20, 0x80] {
                let mut bad = data.clone();
                bad[at] ^= bit;
                let bad = block(&world, DAG_CBOR, bad);
                let root = if level == 1 {
                    bad
                } else {
                    with_first(&world, &top, &bad)
                };
                if let Ok(found) = world.map.range(&root, b"", None, usize::MAX).await {
                    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "byte {at}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_missing_block_is_named_and_not_an_absent_key() {
    let world = World::new();
    let (top, _) = sound(&world).await;
    let Ipld::Link(second) = &top[1].1 else {
        panic!()
    };
    let second = Cid::try_from(second.to_bytes()).unwrap();
    world.source.remove(&second);
    let root = node(&world, 1, &top);
    let cold = World::over(world.source.clone());
    let ask = async || {
        let got = cold.map.get(&root, &top[1].0).await;
        let Err(MapError::Block(CacheError::NotFound { cid })) = got else {
            panic!("{got:?}");
        };
        assert_eq!(cid, second);
    };
    let begin = Instant::now();
    ask().await;
    let gets = cold.source.gets();
    ask().await;
    // The failure is remembered for a moment.
    let slow = begin.elapsed() >= FAILURE_KEPT_FOR;
    assert!(slow || cold.source.gets() == gets, "asked for twice");
    assert!(cold.map.get(&root, &top[0].0).await.unwrap().is_some());
}
