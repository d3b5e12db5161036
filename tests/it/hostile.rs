//! Content that was made to do harm: refused or bounded, by name.

use bytes::Bytes;
use cidfs::block::{Block, Cid, DAG_PB};
use cidfs::testing::dag::{Dag, link};
use cidfs::unixfs::data::{Kind, UnixFs};
use cidfs::unixfs::{Malformed, ReadError};

use crate::support::{Shelf, reader};

async fn read(dag: Dag, cid: Cid, offset: u64, len: usize) -> Result<Vec<u8>, ReadError> {
    let mut out = vec![0xEE; len];
    let len = reader(&Shelf::of(dag)).read(&cid, offset, &mut out).await?;
    out.truncate(len);
    Ok(out)
}

fn malformed(outcome: Result<Vec<u8>, ReadError>) -> Malformed {
    match outcome {
        Err(ReadError::Malformed { why, .. }) => why,
        other => panic!("not refused as malformed: {other:?}"),
    }
}

#[tokio::test]
async fn a_file_of_a_tebibyte_with_few_blocks_opens_at_once_and_reads_anywhere() {
    // Each level refers to the one below a thousand times over.
    let mut dag = Dag::default();
    let mut cid = dag.leaf(vec![7; 1 << 20]);
    let mut size = 1u64 << 20;
    for _ in 0..2 {
        cid = dag.file(&vec![(cid, size); 1024]);
        size *= 1024;
    }
    assert_eq!(size, 1 << 40);
    let shelf = Shelf::of(dag);
    let reader = reader(&shelf);
    assert_eq!(reader.meta(&cid).await.unwrap().size, size);
    let mut out = [0; 3];
    for offset in [0, (1 << 40) - 3, 123_456_789_012] {
        assert_eq!(reader.read(&cid, offset, &mut out).await.unwrap(), 3);
        assert_eq!(out, [7; 3]);
    }
    assert_eq!(reader.read(&cid, (1 << 40) - 1, &mut out).await.unwrap(), 1);
    assert_eq!(reader.read(&cid, 1 << 40, &mut out).await.unwrap(), 0);
    assert_eq!(reader.read(&cid, u64::MAX, &mut out).await.unwrap(), 0);
}

#[tokio::test]
async fn a_random_read_touches_only_the_blocks_that_cover_it() {
    let mut dag = Dag::default();
    let leaves: Vec<_> = (0..64u8).map(|n| (dag.leaf(vec![n; 1000]), 1000)).collect();
    let inner: Vec<_> = leaves.chunks(8).map(|c| (dag.file(c), 8000)).collect();
    let root = dag.file(&inner);
    let shelf = Shelf::of(dag);
    let reader = reader(&shelf);
    let mut out = [0; 1500];
    assert_eq!(reader.read(&root, 17_600, &mut out).await.unwrap(), 1500);
    assert_eq!(
        (out[0], out[399], out[400], out[1399], out[1400]),
        (17, 17, 18, 18, 19)
    );
    assert_eq!(
        shelf.asked(),
        1 + 1 + 3,
        "the root, one inner node, three leaves"
    );
}

#[tokio::test]
async fn a_dag_deeper_than_the_limit_is_refused() {
    let mut dag = Dag::default();
    let mut cid = dag.leaf("deep");
    for _ in 0..80 {
        cid = dag.file(&[(cid, 4)]);
    }
    assert_eq!(malformed(read(dag, cid, 0, 4).await), Malformed::TooDeep);
}

#[tokio::test]
async fn a_child_that_holds_another_number_of_bytes_is_refused_and_never_padded() {
    for declared in [3, 5] {
        let mut dag = Dag::default();
        let leaf = dag.leaf("four");
        let file = dag.file(&[(leaf, declared)]);
        let why = malformed(read(dag, file, 0, 10).await);
        assert_eq!(why, Malformed::ChildSize { declared, found: 4 });
    }
    let mut dag = Dag::default();
    let leaf = dag.leaf("four");
    let inner = dag.file(&[(leaf, 4)]);
    let file = dag.file(&[(inner, 9)]);
    let why = malformed(read(dag, file, 0, 10).await);
    assert_eq!(
        why,
        Malformed::ChildSize {
            declared: 9,
            found: 4
        }
    );
}

#[tokio::test]
async fn a_directory_as_a_files_part_is_refused() {
    let mut dag = Dag::default();
    let directory = dag.directory(&[]);
    let file = dag.file(&[(directory, 4)]);
    assert!(matches!(
        malformed(read(dag, file, 0, 4).await),
        Malformed::Kind(_)
    ));
}

#[tokio::test]
async fn a_hamt_whose_child_is_a_file_is_refused() {
    let mut dag = Dag::default();
    let file = dag.file(&[]);
    let shard = UnixFs {
        fanout: Some(256),
        hash_type: Some(0x22),
        data: Some(Bytes::from_static(&[1])),
        ..UnixFs::new(Kind::HamtShard)
    };
    let root = dag.node(vec![link("00", &file, 0)], &shard);
    let reader = reader(&Shelf::of(dag));
    let listed = reader.entries(&root).await.map(|_| Vec::new());
    assert!(matches!(malformed(listed), Malformed::Hamt(_)));
}

#[tokio::test]
async fn dag_pb_that_is_no_unixfs_is_refused() {
    let mut dag = Dag::default();
    let empty = dag.block(DAG_PB, Bytes::new());
    let rubbish = dag.block(DAG_PB, Bytes::from_static(b"\xff\xff\xff rubbish"));
    let shelf = Shelf::of(dag);
    for cid in [empty, rubbish] {
        let outcome = reader(&shelf).meta(&cid).await;
        assert!(
            matches!(outcome, Err(ReadError::Malformed { .. })),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_identity_cid_carries_its_bytes_and_needs_no_source() {
    let short = *Block::seal(0x55, 0, Bytes::from_static(&[5; 128]))
        .unwrap()
        .cid();
    assert_eq!(read(Dag::default(), short, 100, 99).await.unwrap(), [5; 28]);
    assert!(
        Block::seal(0x55, 0, Bytes::from_static(&[5; 129])).is_err(),
        "over the limit"
    );
    let mut dag = Dag::default();
    let file = dag.file(&[(short, 128), (short, 128)]);
    assert_eq!(read(dag, file, 120, 16).await.unwrap(), [5; 16]);
}

#[tokio::test]
async fn a_block_over_two_mebibytes_is_no_block() {
    let data = Bytes::from(vec![0; (2 << 20) + 1]);
    assert!(Block::seal(0x55, 0x12, data.clone()).is_err());
    let cid = *Block::seal(0x55, 0x12, data.slice(..1)).unwrap().cid();
    assert!(Block::verify(cid, data).is_err());
}

#[tokio::test]
async fn a_codec_that_no_file_has_is_refused() {
    let cid = *Block::seal(0x0171, 0x12, Bytes::from_static(b"x"))
        .unwrap()
        .cid();
    let outcome = read(Dag::default(), cid, 0, 1).await;
    assert!(matches!(malformed(outcome), Malformed::Kind(_)));
}
