//! Answers of gateways and Kubo nodes: any headers, JSON, and CARs in pieces of
//! any size. Only what its hash proves gets through, and only what was asked for.
#![no_main]

use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cidfs::block::{Block, BlockSink, Cid, DAG_CBOR, DAG_JSON, DAG_PB, RAW, SHA2_256};
use cidfs::car::{CarReader, CarWriter};
use cidfs::config::RECORD_TTL_MAX;
use cidfs::source::answers;
use libfuzzer_sys::fuzz_target;

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime")
});

#[derive(Default)]
struct Sink(Mutex<Vec<Block>>);

impl BlockSink for Sink {
    fn put(&self, block: Block) -> std::io::Result<()> {
        self.0.lock().expect("no panics").push(block);
        Ok(())
    }
}

/// Blocks of any bytes with their right CIDs, each able to link to those
/// before it, as a CAR from the last to the first.
fn car_of(bytes: &[u8]) -> Option<(Vec<u8>, Cid)> {
    let mut blocks: Vec<Block> = Vec::new();
    for part in bytes.split(|byte| *byte == 0xA5).take(32) {
        let (how, data) = part.split_first()?;
        let codec = [RAW, DAG_PB, DAG_CBOR, DAG_JSON][usize::from(how & 3)];
        let mut data = data.to_vec();
        for block in blocks.iter().rev().take(usize::from(how >> 2 & 7)) {
            match codec {
                DAG_JSON => data.extend(block.cid().to_string().bytes()),
                _ => data.extend(block.cid().to_bytes()),
            }
        }
        blocks.push(Block::seal(codec, SHA2_256, Bytes::from(data)).ok()?);
    }
    let root = *blocks.last()?.cid();
    let mut writer = CarWriter::new(Vec::new(), &[root]).ok()?;
    for block in blocks.iter().rev() {
        writer.write(block).ok()?;
    }
    Some((writer.into_inner(), root))
}

/// The root that a CAR of any bytes is asked for: its first section.
fn first_of(car: &[u8]) -> Option<Cid> {
    let mut reader = CarReader::with_len(std::io::Cursor::new(car), car.len() as u64).ok()?;
    Some(*reader.next_section().ok()??.cid())
}

fn take_car(how: u8, car: &[u8], root: Cid) {
    let piece = [1, 7, 64, 1000, usize::MAX][usize::from(how >> 3) % 5];
    let kind: &[u8] = if how & 1 == 0 {
        b"application/vnd.ipld.car; version=1; order=dfs; dups=n"
    } else {
        b"application/vnd.ipld.car"
    };
    let Some(response) = answers::answer(&[("content-type", kind)], car, piece) else {
        return;
    };
    let sink = Sink::default();
    let taken = RUNTIME.block_on(async {
        if how & 2 == 0 {
            answers::gateway_car(response, root, &sink).await
        } else {
            answers::kubo_export(response, root, &sink).await
        }
    });
    let blocks = sink.0.into_inner().expect("no panics");
    for block in &blocks {
        let proved = Block::verify(*block.cid(), block.data().clone());
        assert!(proved.is_ok(), "{} is not proved", block.cid());
    }
    if taken.is_ok() {
        let is_root = |block: &Block| block.cid().hash() == root.hash();
        assert!(blocks.iter().any(is_root), "done without the root");
    }
}

fn take_headers(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let headers = [
        ("x-ipfs-roots", next()),
        ("cache-control", next()),
        ("retry-after", next()),
    ];
    let body = next();
    let Some(response) = answers::answer(&headers, body, 16) else {
        return;
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    if let (Some(record), _) = answers::headers(&response, now) {
        assert!(!record.verified && record.ttl <= RECORD_TTL_MAX);
        let cid = record.value.strip_prefix("/ipfs/").expect("a path");
        assert!(cid.parse::<Cid>().is_ok());
    }
    let limit = body.len().saturating_sub(bytes.len() % 3);
    let read = RUNTIME.block_on(answers::body(response, limit));
    assert_eq!(read.is_ok(), body.len() <= limit);
}

fuzz_target!(|input: &[u8]| {
    let [kind, how, bytes @ ..] = input else {
        return;
    };
    match kind % 6 {
        0 => {
            if let Some(root) = first_of(bytes) {
                take_car(*how, bytes, root);
            }
        }
        1 => {
            if let Some((car, root)) = car_of(bytes) {
                take_car(*how, &car, root);
            }
        }
        2 => {
            // A CAR that broke on its way: one byte is other, and its end is lacking.
            if let [at, cut, rest @ ..] = bytes
                && let Some((mut car, root)) = car_of(rest)
            {
                let place = usize::from(*at) * 257 % car.len();
                car[place] ^= 1 << (how & 7);
                car.truncate(car.len() - usize::from(*cut) % car.len());
                take_car(*how, &car, root);
            }
        }
        3 => drop(answers::routed_value(bytes)),
        4 => {
            if let Ok(record) = answers::resolved_path(bytes) {
                assert!(!record.verified && record.value.starts_with("/ip"));
            }
            drop(answers::failure(bytes));
        }
        _ => take_headers(bytes),
    }
});
