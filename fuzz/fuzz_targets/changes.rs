//! A journal whose frames are whole and whose changes are of any bytes: it is
//! read as a log, and a sound tree comes of it, the same each time, that can be
//! looked at and checkpointed. Changes that contradict those before them are not
//! believed, nor what follows.
//!
//! The input is a segment, of which the frames' kinds, transactions and payloads
//! are taken; checksums and numbers are made.
#![no_main]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cidfs::cache::{Blocks, StoreOptions};
use cidfs::clock::SystemClock;
use cidfs::disk::Disk;
use cidfs::journal::{
    Class, FRAME_HEAD_BYTES, Journal, JournalOptions, JournalPlace, Record, SEGMENT_HEAD_BYTES,
    Seq, TxId,
};
use cidfs::testing::sim_disk::SimDisk;
use cidfs::testing::source::MemorySource;
use cidfs::tree::mfs::log::{Log, Order, Query};
use cidfs::tree::mfs::{Mfs, MfsOptions, NodeAttr, NodeId, NodeKind, Parts};
use cidfs::unixfs::Reader;
use libfuzzer_sys::fuzz_target;

const DIR: &str = "/journal";
/// What is looked at of a tree, and of a file.
const NODES_MAX: usize = 60;
const BYTES_MAX: u64 = 5000;

fuzz_target!(|data: &[u8]| {
    let disk = SimDisk::new();
    disk.make_dirs(Path::new(DIR)).unwrap();
    if fill(&disk, data) == 0 {
        return;
    }
    for order in [Order::Oldest, Order::Newest] {
        let query = Query {
            order,
            limit: 1000,
            ..Query::default()
        };
        let log = Log::open(Path::new(DIR), Arc::new(disk.clone()));
        log.page(&query).expect("the frames are whole");
    }
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    runtime.block_on(async {
        let first = tree(&disk.kill(), true).await;
        let second = tree(&disk.kill(), false).await;
        assert_eq!(first, second, "the same comes of the same journal");
    });
});

/// Appends what the input has of frames; gives how many.
fn fill(disk: &SimDisk, data: &[u8]) -> usize {
    let place = JournalPlace {
        dir: DIR.into(),
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock),
        room: Arc::default(),
        before_sync: Arc::new(|| Ok(())),
    };
    let options = JournalOptions {
        prepare_ahead: false,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(&place, options, Seq(1), &mut |_, _| {}).unwrap();
    let (mut at, mut count) = (SEGMENT_HEAD_BYTES, 0);
    while let Some(rest) = data.get(at..).filter(|rest| rest.len() > FRAME_HEAD_BYTES) {
        let len = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let len = len.clamp(FRAME_HEAD_BYTES, rest.len());
        let record = Record {
            tx: TxId(u64::from(rest[24])),
            kind: rest[12],
            payload: &rest[FRAME_HEAD_BYTES..len],
        };
        journal.append(Class::Normal, &[record]).unwrap();
        (at, count) = (at + len, count + 1);
    }
    count
}

/// Opens a tree and says what is in it; `None` if it does not open.
async fn tree(disk: &SimDisk, checkpoint: bool) -> Option<Vec<String>> {
    let source = Arc::new(MemorySource::new("none"));
    let blocks = Blocks::without_disk(StoreOptions::default(), source);
    let parts = Parts {
        journal_dir: DIR.into(),
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock),
        blocks: blocks.clone(),
        reader: Reader::new(blocks.clone()),
    };
    let never = Duration::from_secs(1 << 20);
    let options = MfsOptions {
        commit_interval: never,
        checkpoint_interval: never,
        ..MfsOptions::default()
    };
    let mfs = Mfs::open(parts, options).await.ok()?;
    assert_eq!(mfs.check_sound(), Ok(()));
    let found = look(&mfs).await;
    assert_eq!(mfs.check_sound(), Ok(()));
    if checkpoint {
        drop(mfs.checkpoint().await);
    }
    // It ends without a last checkpoint.
    disk.kill();
    mfs.close().await;
    blocks.close();
    Some(found)
}

async fn look(mfs: &Mfs) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::from("/"), NodeId::ROOT)];
    while let Some((path, node)) = open.pop() {
        if found.len() > NODES_MAX {
            break;
        }
        let Ok(attr) = mfs.attr(node) else { continue };
        let mut bytes = vec![0; attr.size.min(BYTES_MAX) as usize];
        if attr.kind == NodeKind::File {
            drop(mfs.read(node, 0, &mut bytes).await);
            drop(
                mfs.read(node, attr.size.saturating_sub(9), &mut [0; 9])
                    .await,
            );
        }
        if attr.kind == NodeKind::Directory {
            let entries = mfs.readdir(node, 0, NODES_MAX).await.unwrap_or_default();
            for entry in entries {
                let path = format!("{path}{}/", entry.name.escape_ascii());
                open.push((path, entry.attr.node));
            }
        }
        let names = mfs.list_xattr(node);
        found.push(format!("{path} {} {names:?}", shown(&attr, node)));
    }
    found
}

/// All of a node but what the time of a start gives.
fn shown(attr: &NodeAttr, node: NodeId) -> String {
    match node {
        NodeId::ROOT => format!("{:o}", attr.mode),
        _ => format!("{attr:?}"),
    }
}
