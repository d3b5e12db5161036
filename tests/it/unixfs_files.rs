//! Files that are made of parts against files that the builder makes.

use bytes::Bytes;
use cidfs::block::{Block, BlockSink, Cid, RAW, SHA2_256};
use cidfs::testing::dag::Dag;
use cidfs::unixfs::builder::AddOptions;
use cidfs::unixfs::dag_pb::PbNode;
use cidfs::unixfs::data::Mtime;
use cidfs::unixfs::file_update::{FileForm, Holes, NewExtent, leaf_at, seal_file};
use cidfs::unixfs::layout::{Metadata, Piece};
use cidfs::unixfs::profile::Profile;
use cidfs::unixfs::{ReadError, UpdateError};

use super::unixfs_world::{Counts, Dice, World, read_all};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

async fn seal(
    world: &World,
    extents: Vec<NewExtent>,
    form: &FileForm,
    meta: &Metadata,
) -> Result<Piece, UpdateError> {
    seal_file(&world.reader(), extents, form, meta, world).await
}

async fn sealed(world: &World, extents: Vec<NewExtent>, form: &FileForm) -> Piece {
    seal(world, extents, form, &Metadata::default())
        .await
        .unwrap()
}

fn shared(cid: Cid, offset: u64, len: u64) -> NewExtent {
    NewExtent::Shared { cid, offset, len }
}

fn bytes(data: &[u8]) -> NewExtent {
    NewExtent::Bytes(Bytes::copy_from_slice(data))
}

/// A profile with small chunks and nodes, for us and for the builder.
fn small(profile: Profile, chunk: usize, links: usize) -> (FileForm, AddOptions) {
    let form = FileForm {
        chunk_bytes: chunk,
        links_max: links,
        ..FileForm::from(profile)
    };
    let options = AddOptions {
        chunker: format!("size-{chunk}"),
        max_file_links: links as i64,
        ..AddOptions::from_profile(profile)
    };
    (form, options)
}

const PROFILES: [Profile; 2] = [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015];

#[tokio::test]
async fn bytes_become_what_the_builder_makes_of_them() {
    let world = World::default();
    for profile in PROFILES {
        let (form, options) = small(profile, 16, 3);
        for len in (0..70).chain([143, 144, 145, 431, 432, 433, 1295, 1296, 1297]) {
            let data = Dice::new(len).bytes(len as usize);
            let (cid, tsize) = world.add(options.clone(), &data);
            let piece = sealed(&world, vec![bytes(&data)], &form).await;
            assert_eq!((piece.cid, piece.tsize), (cid, tsize), "{profile}, {len}");
            assert_eq!(piece.size, len);
            let crumbs = data.chunks(7).map(bytes).collect();
            assert_eq!(sealed(&world, crumbs, &form).await, piece);
            let zeros = vec![0; len as usize];
            let hole = sealed(&world, vec![NewExtent::Hole(len)], &form).await;
            let (cid, tsize) = world.add(options.clone(), &zeros);
            assert_eq!(
                (hole.cid, hole.tsize),
                (cid, tsize),
                "{profile}, {len} zeros"
            );
        }
    }
}

#[tokio::test]
async fn the_forms_of_the_profiles_are_those_of_the_builder() {
    let world = World::default();
    for profile in PROFILES {
        let form = FileForm::from(profile);
        for len in [0, 5, form.chunk_bytes, 3 * form.chunk_bytes + 1] {
            let data = vec![7; len];
            let (cid, _) = world.add(AddOptions::from_profile(profile), &data);
            let piece = sealed(&world, vec![bytes(&data)], &form).await;
            assert_eq!(piece.cid, cid, "{profile}, {len}");
        }
        // One leaf more than a node can link to.
        let len = (form.links_max + 1) * form.chunk_bytes;
        let (cid, tsize) = world.add(AddOptions::from_profile(profile), &vec![0; len]);
        let piece = sealed(&world, vec![NewExtent::Hole(len as u64)], &form).await;
        assert_eq!((piece.cid, piece.tsize), (cid, tsize), "{profile}");
    }
}

/// A file and what is in it.
#[derive(Clone)]
struct Known {
    piece: Piece,
    data: Vec<u8>,
}

/// Some extents, and their bytes. With `step` ranges begin that far apart from
/// where they lay: a multiple of the chunk keeps to the layout.
fn extents(dice: &mut Dice, files: &[Known], step: u64) -> (Vec<NewExtent>, Vec<u8>) {
    let (mut list, mut data) = (Vec::new(), Vec::new());
    for _ in 0..dice.below(6) {
        let at = data.len() as u64;
        match dice.below(4) {
            0 => {
                let len = dice.below(200);
                list.push(NewExtent::Hole(len));
                data.resize(data.len() + len as usize, 0);
            }
            1 => {
                let len = dice.below(60) as usize;
                let new = dice.bytes(len);
                list.push(bytes(&new));
                data.extend(new);
            }
            _ => {
                let file = &files[dice.below(files.len() as u64) as usize];
                let size = file.piece.size;
                let offset = if dice.one_in(4) {
                    at
                } else {
                    at % step + step * dice.below(1 + size / step)
                };
                if offset >= size {
                    continue;
                }
                let len = match dice.one_in(3) {
                    true => size - offset,
                    false => dice.below(size - offset + 1),
                };
                list.push(shared(file.piece.cid, offset, len));
                data.extend(&file.data[offset as usize..(offset + len) as usize]);
            }
        }
    }
    (list, data)
}

#[tokio::test]
async fn any_parts_of_our_files_give_what_the_builder_gives() {
    for profile in PROFILES {
        for links in [2, 3, 5] {
            let (form, options) = small(profile, 16, links);
            let world = World::default();
            let mut dice = Dice::new(links as u64);
            let data = dice.bytes(1000);
            let piece = sealed(&world, vec![bytes(&data)], &form).await;
            let mut files = vec![Known { piece, data }];
            let holes = Holes::new(&form).unwrap();
            for step in 0..300 {
                let (list, data) = extents(&mut dice, &files, 16);
                let piece = sealed(&world, list.clone(), &form).await;
                let (cid, tsize) = world.add(options.clone(), &data);
                assert_eq!(
                    (piece.cid, piece.tsize),
                    (cid, tsize),
                    "step {step}: {list:?}"
                );
                assert_eq!(piece.size, data.len() as u64);
                check_leaves(&world, &piece, &data, &holes, true).await;
                if data.len() < 20_000 {
                    files.push(Known { piece, data });
                }
            }
        }
    }
}

/// Files of layouts that are not ours.
async fn foreign(world: &World, data: &[u8]) -> Vec<Known> {
    let mut made = Vec::new();
    for (profile, chunk, links, trickle) in [
        (Profile::UnixfsV0_2015, 5, 4, false),
        (Profile::UnixfsV1_2025, 5, 3, true),
        (Profile::UnixfsV0_2015, 7, 2, true),
        (Profile::UnixfsV1_2025, 4, 4, false),
        (Profile::UnixfsV1_2025, 40, 2, false),
    ] {
        let options = AddOptions {
            trickle,
            ..small(profile, chunk, links).1
        };
        let (cid, tsize) = world.add(options, data);
        let size = data.len() as u64;
        let piece = Piece { cid, size, tsize };
        let data = data.to_vec();
        made.push(Known { piece, data });
    }
    made
}

#[tokio::test]
async fn any_parts_of_any_files_read_back_as_they_were() {
    for links in [2, 3, 5] {
        let (form, _) = small(Profile::UnixfsV1_2025, 16, links);
        let world = World::default();
        let mut dice = Dice::new(77 + links as u64);
        let data = dice.bytes(1500);
        let mut files = foreign(&world, &data).await;
        let holes = Holes::new(&form).unwrap();
        for step in 0..300 {
            let (list, data) = extents(&mut dice, &files, 1);
            let piece = sealed(&world, list.clone(), &form).await;
            assert_eq!(
                read_all(&world, &piece.cid).await,
                data,
                "step {step}: {list:?}"
            );
            check_leaves(&world, &piece, &data, &holes, false).await;
            if data.len() < 20_000 {
                files.push(Known { piece, data });
            }
        }
    }
}

/// Walks a file leaf by leaf, and from hole to hole.
/// In a foreign one a node as short as a leaf may count as data.
async fn check_leaves(world: &World, piece: &Piece, data: &[u8], holes: &Holes, ours: bool) {
    let reader = world.reader();
    let mut at = 0;
    let mut spans = Vec::new();
    while at < piece.size {
        let span = leaf_at(&reader, &piece.cid, at).await.unwrap();
        assert!(span.start == at && span.end > at, "{span:?} at {at}");
        let inside = leaf_at(&reader, &piece.cid, span.end - 1).await.unwrap();
        assert_eq!(inside, span, "the same leaf at its end");
        assert_eq!(span.last, span.end == piece.size);
        assert!(span.start != 0 || span.last || span.end < piece.size);
        spans.push((span, holes.is_zero(&span.cid, span.end - span.start)));
        at = span.end;
    }
    let beyond = leaf_at(&reader, &piece.cid, piece.size + 9).await.unwrap();
    assert_eq!(
        Some(beyond),
        spans.last().map(|(span, _)| *span).or(Some(beyond))
    );
    for (span, zero) in &spans {
        let content = &data[span.start as usize..span.end as usize];
        assert_eq!(*zero, content.iter().all(|b| *b == 0), "{span:?}");
    }
    let offset = piece.size / 3;
    for hole in [true, false] {
        let wanted = spans
            .iter()
            .find(|(s, zero)| s.end > offset && *zero == hole);
        let wanted = wanted.map(|(s, _)| s.start.max(offset));
        let found = match hole {
            true => holes.next_hole(&reader, &piece.cid, offset).await,
            false => holes.next_data(&reader, &piece.cid, offset).await,
        };
        let found = found.unwrap();
        if ours {
            assert_eq!(found, wanted, "hole: {hole}");
        }
        let (early, late) = if hole {
            (wanted, found)
        } else {
            (found, wanted)
        };
        let end = |o: Option<u64>| o.unwrap_or(u64::MAX);
        assert!(end(early) <= end(late), "no data is skipped");
        if let (true, Some(found)) = (hole, found) {
            assert_eq!(data[found as usize], 0);
        }
    }
}

#[tokio::test]
async fn whole_leaves_of_foreign_files_are_shared() {
    let form = FileForm::from(Profile::UnixfsV1_2025);
    let data = Dice::new(5).bytes(9 << 20);
    let size = data.len() as u64;
    for trickle in [false, true] {
        let world = World::default();
        let options = AddOptions {
            trickle,
            max_file_links: 6,
            ..AddOptions::from_profile(Profile::UnixfsV0_2015)
        };
        let (cid, _) = world.add(options, &data);
        let before = world.counts();
        // Four bytes in the middle of one leaf.
        let at = 5 * MIB + 1000;
        let list = vec![
            shared(cid, 0, at),
            bytes(b"new!"),
            shared(cid, at + 4, size - at - 4),
        ];
        let piece = sealed(&world, list, &form).await;
        let counts = world.since(before);
        assert!(
            counts.made <= 8,
            "{counts:?}: a leaf and the nodes above it"
        );
        assert!(
            counts.read <= 14,
            "{counts:?}: a leaf and the nodes beside it"
        );
        let mut wanted = data.clone();
        wanted[at as usize..][..4].copy_from_slice(b"new!");
        assert!(read_all(&world, &piece.cid).await == wanted);
    }
}

#[tokio::test]
async fn an_unchanged_file_stays_what_it_is_whatever_its_layout() {
    let world = World::default();
    let data = Dice::new(6).bytes(1500);
    let (form, _) = small(Profile::UnixfsV1_2025, 16, 3);
    for known in foreign(&world, &data).await {
        let before = world.counts();
        let piece = sealed(&world, vec![shared(known.piece.cid, 0, 1500)], &form).await;
        assert_eq!(piece, known.piece);
        assert_eq!(world.since(before), Counts { read: 1, made: 0 });
    }
}

#[tokio::test]
async fn a_foreign_file_that_is_changed_again_and_again_stays_shallow() {
    let (form, _) = small(Profile::UnixfsV1_2025, 16, 4);
    let world = World::default();
    let mut dice = Dice::new(9);
    let data = dice.bytes(20_000);
    let mut files = foreign(&world, &data).await;
    // Its trees are as long as ours, and are taken apart to lie on our grid.
    files.remove(3);
    for known in files {
        let Known {
            mut piece,
            mut data,
        } = known;
        let spot = 3000 + dice.below(3000);
        for step in 0..400u64 {
            let size = data.len() as u64;
            // Overwrites anywhere, appends, and insertions at one spot.
            let (at, cut) = match step % 4 {
                0 => (size, 0),
                1 => (spot, 0),
                2 => (spot + step * 2, 0),
                _ => (dice.below(size - 10), 9),
            };
            let new = dice.bytes(9);
            let before = world.counts();
            let list = vec![
                shared(piece.cid, 0, at),
                bytes(&new),
                shared(piece.cid, at + cut, size - at - cut),
            ];
            piece = sealed(&world, list, &form).await;
            let counts = world.since(before);
            assert!(
                counts.read < 90 && counts.made < 60,
                "step {step}: {counts:?}"
            );
            data.splice(at as usize..(at + cut) as usize, new);
        }
        assert!(read_all(&world, &piece.cid).await == data);
        let depth = depth(&world, &piece.cid);
        assert!(depth <= 20, "{depth} levels");
    }
}

#[tokio::test]
async fn bytes_put_at_one_place_of_a_foreign_file_again_and_again_build_no_tower() {
    let (form, _) = small(Profile::UnixfsV1_2025, 16, 16);
    for (place, count, steps) in [(0, 1, 200), (0, 3, 1500), (2500, 1, 200), (2500, 3, 1500)] {
        let world = World::default();
        let mut dice = Dice::new(4);
        let data = dice.bytes(5000);
        let Known {
            mut piece,
            mut data,
        } = foreign(&world, &data).await.remove(0);
        for _ in 0..steps {
            let new = dice.bytes(count);
            let list = vec![
                shared(piece.cid, 0, place),
                bytes(&new),
                shared(piece.cid, place, piece.size - place),
            ];
            piece = sealed(&world, list, &form).await;
            data.splice(place as usize..place as usize, new);
        }
        assert!(read_all(&world, &piece.cid).await == data);
        let depth = depth(&world, &piece.cid);
        assert!(
            depth <= 12,
            "{depth} levels after {steps} times {count} at {place}"
        );
    }
}

fn depth(world: &World, cid: &Cid) -> usize {
    fn below(blocks: &std::collections::HashMap<Vec<u8>, Block>, cid: &Cid) -> usize {
        if cid.codec() == RAW {
            return 1;
        }
        let node = PbNode::decode(blocks[&cid.hash().to_bytes()].data()).unwrap();
        let links = node.links.iter().map(|l| below(blocks, &l.cid));
        1 + links.max().unwrap_or(0)
    }
    let blocks = world.source.blocks().into_iter();
    let blocks = blocks.map(|b| (b.cid().hash().to_bytes(), b)).collect();
    below(&blocks, cid)
}

#[tokio::test]
async fn a_log_that_grows_equals_one_that_was_written_at_once() {
    let (form, options) = small(Profile::UnixfsV1_2025, 16, 3);
    let world = World::default();
    let (mut data, mut piece) = (Vec::new(), sealed(&world, vec![], &form).await);
    let mut dice = Dice::new(3);
    for _ in 0..200 {
        let count = dice.below(30) as usize;
        let new = dice.bytes(count);
        let list = vec![shared(piece.cid, 0, piece.size), bytes(&new)];
        piece = sealed(&world, list, &form).await;
        data.extend(new);
        assert_eq!(piece.cid, world.add(options.clone(), &data).0);
    }
}

#[tokio::test]
async fn holes_of_any_length_cost_a_node_a_level() {
    let form = FileForm::from(Profile::UnixfsV1_2025);
    for (len, most) in [
        (TIB, 3),
        (TIB + 1, 7),
        (i64::MAX as u64, 14),
        (5 * TIB + 77, 7),
    ] {
        let world = World::default();
        let piece = sealed(&world, vec![NewExtent::Hole(len)], &form).await;
        assert_eq!(piece.size, len);
        let Counts { read, made } = world.counts();
        assert!(read == 0 && made <= most, "{made} blocks for {len} zeros");
        let mut out = [1; 9];
        let count = world.reader().read(&piece.cid, len - 9, &mut out).await;
        assert_eq!((count.unwrap(), out), (9, [0; 9]));
    }
}

#[tokio::test]
async fn one_chunk_of_a_tebibyte_costs_its_path() {
    let form = FileForm::from(Profile::UnixfsV1_2025);
    let world = World::default();
    let base = sealed(&world, vec![NewExtent::Hole(TIB + 5 * MIB + 3)], &form).await;
    let at = 700_001 * MIB;
    let chunk = Dice::new(1).bytes(MIB as usize);
    let change = |cid: Cid, size: u64| {
        vec![
            shared(cid, 0, at),
            bytes(&chunk),
            shared(cid, at + MIB, size - at - MIB),
        ]
    };
    let before = world.counts();
    let piece = sealed(&world, change(base.cid, base.size), &form).await;
    let counts = world.since(before);
    assert!(counts.made <= 6, "{counts:?}");
    assert!(counts.read <= 9, "{counts:?}");
    let before = world.counts();
    let hole = NewExtent::Hole(piece.size - at - MIB);
    let direct = vec![NewExtent::Hole(at), bytes(&chunk), hole];
    assert_eq!(sealed(&world, direct, &form).await, piece, "by another way");
    assert!(world.since(before).made <= 9);

    fn sendable(future: impl Future<Output = Result<Piece, UpdateError>> + Send) {
        drop(future);
    }
    let (reader, none) = (world.reader(), Metadata::default());
    sendable(seal_file(&reader, vec![], &form, &none, &world));
    let before = world.counts();
    let (holes, reader) = (Holes::new(&form).unwrap(), world.reader());
    let data = holes.next_data(&reader, &piece.cid, 0).await.unwrap();
    let hole = holes.next_hole(&reader, &piece.cid, at + 3).await.unwrap();
    let none = holes
        .next_data(&reader, &piece.cid, at + MIB)
        .await
        .unwrap();
    assert_eq!((data, hole, none), (Some(at), Some(at + MIB), None));
    assert!(world.since(before).read <= 6);
}

#[tokio::test]
async fn an_exbibyte_that_moves_by_a_chunk_is_not_taken_apart_leaf_by_leaf() {
    let form = FileForm::from(Profile::UnixfsV1_2025);
    let world = World::default();
    let len = 1 << 60;
    let base = sealed(&world, vec![NewExtent::Hole(len)], &form).await;
    let chunk = vec![7; MIB as usize];
    let before = world.counts();
    let moved = vec![bytes(&chunk), shared(base.cid, 0, len - 3 * MIB)];
    let moved = sealed(&world, moved, &form).await;
    assert!(world.since(before).read < 9);
    let direct = vec![bytes(&chunk), NewExtent::Hole(len - 3 * MIB)];
    assert_eq!(sealed(&world, direct, &form).await, moved);

    // Neither is one that holds something, though its layout is no import's then.
    let (form, _) = small(Profile::UnixfsV1_2025, 16, 3);
    let mut dag = Dag::default();
    let mut tree = (dag.leaf("sixteen bytes..."), 16);
    while tree.1 < 1 << 55 {
        tree = (dag.file(&[tree; 3]), tree.1 * 3);
    }
    dag.blocks.into_iter().for_each(|b| world.source.insert(b));
    let before = world.counts();
    let list = vec![bytes(b"sixteen of them."), shared(tree.0, 0, tree.1 - 5)];
    let piece = sealed(&world, list, &form).await;
    let counts = world.since(before);
    assert!(counts.read < 4500 && counts.made < 6000, "{counts:?}");
    let mut out = [0; 32];
    let reader = world.reader();
    let count = reader
        .read(&piece.cid, tree.1 - 32 + 16 - 5, &mut out)
        .await;
    assert_eq!(
        (count.unwrap(), &out),
        (32, b"es...sixteen bytes...sixteen byt")
    );
    let holes = Holes::new(&form).unwrap();
    let hole = holes.next_hole(&reader, &tree.0, 0).await.unwrap();
    assert_eq!(hole, None, "and the search for a hole ends");
}

#[tokio::test]
async fn metadata_is_on_the_root_as_the_builder_puts_it() {
    let mtime = Some(Mtime {
        seconds: 12,
        nanoseconds: 5,
    });
    let (form, options) = small(Profile::UnixfsV0_2015, 16, 3);
    let world = World::default();
    for (mode, seconds) in [(Some(0o644), 0), (Some(0), 12), (Some(0o600), 12)] {
        let meta = Metadata {
            mode,
            mtime: mtime.filter(|_| seconds != 0),
        };
        let options = AddOptions {
            mode: mode.unwrap(),
            mtime: seconds,
            mtime_nsecs: if seconds == 0 { 0 } else { 5 },
            ..options.clone()
        };
        for len in [0, 1, 16, 17, 48, 49, 144, 145, 1296] {
            let data = Dice::new(len).bytes(len as usize);
            let wanted = world.add(options.clone(), &data).0;
            let plain = sealed(&world, vec![bytes(&data)], &form).await;
            for list in [vec![bytes(&data)], vec![shared(plain.cid, 0, len)]] {
                let piece = seal(&world, list, &form, &meta).await.unwrap();
                assert_eq!(piece.cid, wanted, "{len} {meta:?}");
                // And off again.
                let list = vec![shared(piece.cid, 0, len)];
                assert_eq!(sealed(&world, list, &form).await.cid, plain.cid);
                // As a part of another file it carries nothing.
                let list = vec![shared(piece.cid, 0, len), bytes(&data)];
                let twice = sealed(&world, list, &form).await;
                let twice_plain = [&data[..], &data].concat();
                let plain = sealed(&world, vec![bytes(&twice_plain)], &form).await;
                assert_eq!(twice.cid, plain.cid, "{len}");
            }
            let zeros = vec![0; len as usize];
            let wanted = world.add(options.clone(), &zeros).0;
            let hole = seal(&world, vec![NewExtent::Hole(len)], &form, &meta).await;
            assert_eq!(hole.unwrap().cid, wanted, "{len} zeros");
        }
    }
}

#[tokio::test]
async fn a_raw_leaf_that_must_carry_metadata_becomes_a_node_with_its_bytes() {
    let form = FileForm::from(Profile::UnixfsV1_2025);
    let world = World::default();
    let meta = Metadata {
        mode: Some(0o640),
        mtime: None,
    };
    let leaf = sealed(&world, vec![bytes(b"hello")], &form).await;
    let piece = seal(&world, vec![shared(leaf.cid, 0, 5)], &form, &meta)
        .await
        .unwrap();
    assert_eq!(
        world.reader().meta(&piece.cid).await.unwrap().mode,
        Some(0o640)
    );
    assert_eq!(read_all(&world, &piece.cid).await, b"hello");
    let list = vec![shared(piece.cid, 0, 5)];
    assert_eq!(sealed(&world, list, &form).await.cid, leaf.cid);
}

#[tokio::test]
async fn ranges_beyond_a_file_and_files_beyond_offsets_are_refused() {
    let form = FileForm::from(Profile::UnixfsV1_2025);
    let (world, none) = (World::default(), Metadata::default());
    let leaf = sealed(&world, vec![bytes(b"hello")], &form).await;
    for (offset, len) in [(0, 6), (5, 1), (u64::MAX, 2)] {
        let found = seal(&world, vec![shared(leaf.cid, offset, len)], &form, &none).await;
        let refused = matches!(
            found,
            Err(UpdateError::Range { .. } | UpdateError::TooLarge)
        );
        assert!(refused, "{found:?}");
    }
    let hole = vec![NewExtent::Hole(1 << 62), NewExtent::Hole(1 << 62)];
    let found = seal(&world, hole, &form, &none).await;
    assert!(matches!(found, Err(UpdateError::TooLarge)));
}

#[tokio::test]
async fn a_part_that_holds_another_number_of_bytes_than_declared_is_malformed() {
    let form = FileForm::from(Profile::UnixfsV1_2025);
    let world = World::default();
    let mut dag = Dag::default();
    let leaf = dag.leaf("0123456789");
    let file = dag.file(&[(leaf, 8), (leaf, 10)]);
    dag.blocks.into_iter().for_each(|b| world.source.insert(b));
    let list = vec![shared(file, 2, 10)];
    let found = seal(&world, list, &form, &Metadata::default()).await;
    assert!(matches!(
        found,
        Err(UpdateError::Read(ReadError::Malformed { .. }))
    ));
}

/// A sink that takes nothing.
struct Full;

impl BlockSink for Full {
    fn put(&self, _: Block) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test]
async fn what_the_sink_says_is_handed_on() {
    let form = FileForm::from(Profile::UnixfsV1_2025);
    let reader = World::default().reader();
    let made = seal_file(
        &reader,
        vec![bytes(b"x")],
        &form,
        &Metadata::default(),
        &Full,
    )
    .await;
    let Err(UpdateError::Store(error)) = made else {
        panic!("{made:?}")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let cid = *Block::seal(RAW, SHA2_256, Bytes::new()).unwrap().cid();
    assert!(Holes::new(&form).is_ok_and(|holes| !holes.is_zero(&cid, 0)));
}
