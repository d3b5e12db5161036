use std::time::Duration;

use super::*;
use crate::block::{RAW, SHA2_256};
use crate::car::tests::{blocks, car_v1, car_v2};
use crate::car::{
    HeaderV2, PRAGMA_V2, decode_section_head, encode_header, encode_section_head, encode_varint,
};

fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".car").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

async fn open(bytes: &[u8]) -> CarSource {
    let file = write(bytes);
    let source = CarSource::open("car".to_owned(), file.path()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), source.indexed())
        .await
        .unwrap();
    source
}

/// A version 2 file whose index is `entries`.
fn with_index(blocks: &[Block], entries: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let mut out = car_v2(blocks);
    out.truncate(out.len() - 32);
    let v2 = HeaderV2 {
        characteristics: 0,
        data_offset: 64,
        data_size: out.len() as u64 - 64,
        index_offset: out.len() as u64,
    };
    out.splice(
        PRAGMA_V2.len()..PRAGMA_V2.len() + HeaderV2::LEN,
        v2.encode(),
    );
    encode_varint(0x0401, &mut out);
    out.extend(1_u32.to_le_bytes());
    out.extend(SHA2_256.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(40_u32.to_le_bytes());
    out.extend((40 * entries.len() as u64).to_le_bytes());
    for (digest, offset) in entries {
        out.extend(digest);
        out.extend(offset.to_le_bytes());
    }
    out
}

fn true_entries(blocks: &[Block]) -> Vec<(Vec<u8>, u64)> {
    let bytes = car_v1(blocks);
    let mut offset = encode_header(&[]).len();
    let mut entries = Vec::new();
    while offset < bytes.len() {
        let head = decode_section_head(&bytes[offset..], offset as u64)
            .unwrap()
            .unwrap();
        entries.push((head.cid.hash().digest().to_vec(), offset as u64));
        offset = usize::try_from(head.end()).unwrap();
    }
    entries
}

async fn assert_serves(source: &CarSource, blocks: &[Block]) {
    for block in blocks {
        let fetched = source.get(block.cid()).await.unwrap();
        assert_eq!((&fetched.block, fetched.keep), (block, false));
    }
    let absent = Block::seal(RAW, SHA2_256, "absent".into()).unwrap();
    assert!(matches!(
        source.get(absent.cid()).await,
        Err(SourceError::NotFound { .. })
    ));
}

#[tokio::test]
async fn both_versions_serve_their_blocks_and_nothing_else() {
    for bytes in [car_v1(&blocks(9)), car_v2(&blocks(9))] {
        let source = open(&bytes).await;
        assert_serves(&source, &blocks(9)).await;
        assert_eq!((source.block_count(), source.damages()), (9, vec![]));
    }
}

#[tokio::test]
async fn a_request_waits_for_an_index_that_is_not_finished() {
    let small = |index: u32| Block::seal(RAW, SHA2_256, index.to_string().into()).unwrap();
    let many: Vec<Block> = (0..20_000).map(small).collect();
    let file = write(&car_v1(&many));
    let source = CarSource::open("car".to_owned(), file.path()).unwrap();
    assert_serves(&source, &many[19_990..]).await;
}

#[tokio::test]
async fn a_true_index_of_version_two_is_used() {
    let entries = true_entries(&blocks(40));
    let source = open(&with_index(&blocks(40), &entries)).await;
    assert_eq!(source.files.unscanned.lock().len(), 1);
    for block in blocks(40) {
        assert_eq!(source.get(block.cid()).await.unwrap().block, block);
    }
    assert_eq!(
        source.files.unscanned.lock().len(),
        1,
        "nothing had to be scanned"
    );
}

#[tokio::test]
async fn an_index_that_lies_or_leaves_out_is_not_believed() {
    let all = true_entries(&blocks(40));
    let swapped: Vec<_> = all
        .iter()
        .zip(all.iter().rev())
        .map(|((d, _), (_, o))| (d.clone(), *o))
        .collect();
    let far: Vec<_> = all.iter().map(|(d, _)| (d.clone(), u64::MAX - 7)).collect();
    // One entry between the samples is wrong: found out when it is read.
    let mut one = all.clone();
    one[1].1 = one[2].1;
    for entries in [all[..5].to_vec(), swapped, far, one, vec![]] {
        let source = open(&with_index(&blocks(40), &entries)).await;
        assert_serves(&source, &blocks(40)).await;
    }
    let mut cut = with_index(&blocks(40), &all);
    cut.truncate(cut.len() - 3);
    assert_serves(&open(&cut).await, &blocks(40)).await;
}

#[tokio::test]
async fn a_file_cut_anywhere_serves_its_whole_blocks_and_reports_the_damage() {
    let bytes = car_v1(&blocks(6));
    let starts: Vec<u64> = true_entries(&blocks(6))
        .iter()
        .map(|(_, offset)| *offset)
        .collect();
    for cut in (starts[0]..bytes.len() as u64).step_by(7) {
        let source = open(&bytes[..usize::try_from(cut).unwrap()]).await;
        let whole =
            (0..6).filter(|n| starts.get(n + 1).copied().unwrap_or(bytes.len() as u64) <= cut);
        let whole: Vec<usize> = whole.collect();
        assert_serves(&source, &blocks(6)[..whole.len()]).await;
        let clean = starts.contains(&cut);
        assert_eq!(
            source.damages().is_empty(),
            clean,
            "cut at {cut}: {:?}",
            source.damages()
        );
        let health = &source.figures()[0].health;
        assert_eq!(health, if clean { "good" } else { "damaged" });
        assert_eq!(source.probe().await.is_ok(), clean);
    }
}

#[tokio::test]
async fn a_damaged_block_is_never_served_and_its_neighbours_are() {
    let mut bytes = car_v1(&blocks(6));
    let (_, offset) = true_entries(&blocks(6))[4];
    let data = usize::try_from(offset).unwrap() + 50;
    bytes[data] ^= 1;
    let source = open(&bytes).await;
    let damaged = source.get(blocks(6)[4].cid()).await;
    assert!(
        matches!(damaged, Err(SourceError::Corrupt { .. })),
        "{damaged:?}"
    );
    assert_serves(&source, &blocks(4)).await;
    assert_serves(&source, &blocks(6)[5..]).await;
}

#[tokio::test]
async fn a_second_copy_stands_in_for_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let good = car_v1(&blocks(3));
    let mut bad = good.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    std::fs::write(dir.path().join("a.car"), bad).unwrap();
    std::fs::write(dir.path().join("b.car"), good).unwrap();
    let source = CarSource::open("car".to_owned(), dir.path()).unwrap();
    source.indexed().await;
    assert_serves(&source, &blocks(3)).await;
}

#[tokio::test]
async fn a_directory_serves_all_its_files_and_leaves_out_what_is_no_car() {
    let dir = tempfile::tempdir().unwrap();
    let roots = [*blocks(9)[0].cid(), *blocks(9)[1].cid()];
    for (name, part) in [("a.car", &blocks(9)[..4]), ("b.car", &blocks(9)[4..])] {
        let mut writer = crate::car::CarWriter::new(Vec::new(), &roots).unwrap();
        for block in part {
            writer.write(block).unwrap();
        }
        std::fs::write(dir.path().join(name), writer.into_inner()).unwrap();
    }
    std::fs::write(dir.path().join("c.car"), b"\xff\xff\xff\xff\xff not a CAR").unwrap();
    std::fs::write(dir.path().join("notes.txt"), b"not a CAR").unwrap();
    let source = CarSource::open("car".to_owned(), dir.path()).unwrap();
    assert_serves(&source, &blocks(9)).await;
    assert_eq!(source.roots(), roots);
    assert_eq!(source.damages().len(), 1);
    let alone = CarSource::open("car".to_owned(), &dir.path().join("c.car"));
    assert!(alone.err().unwrap().contains("c.car"));
    assert!(CarSource::open("car".to_owned(), &dir.path().join("none.car")).is_err());
}

#[tokio::test]
async fn a_block_over_the_limit_is_left_out_and_reported() {
    let mut bytes = car_v1(&blocks(2));
    let cid = *blocks(1)[0].cid();
    bytes.extend(encode_section_head(&cid, BLOCK_BYTES_MAX + 1));
    bytes.extend(vec![0; BLOCK_BYTES_MAX + 1]);
    bytes.extend(&car_v1(&blocks(4))[encode_header(&[]).len()..]);
    let source = open(&bytes).await;
    assert_serves(&source, &blocks(4)).await;
    assert_eq!(source.damages().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_mounted_gives_errors_and_no_panic() {
    let file = write(&car_v1(&blocks(6)));
    let source = CarSource::open("car".to_owned(), file.path()).unwrap();
    source.indexed().await;
    file.as_file().set_len(30).unwrap();
    assert!(matches!(
        source.get(blocks(6)[5].cid()).await,
        Err(SourceError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn a_cid_of_another_version_finds_the_same_block() {
    let block = Block::seal_v0("node".into()).unwrap();
    let source = open(&car_v1(std::slice::from_ref(&block))).await;
    let other = Cid::new_v1(crate::block::DAG_PB, *block.cid().hash());
    assert_eq!(source.get(&other).await.unwrap().block.cid(), &other);
}
