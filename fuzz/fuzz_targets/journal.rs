//! A segment of any bytes is read to its end: whole frames only, and those
//! encode to the same bytes again. Recovery of it succeeds and is settled. The
//! same holds with the checksums made right, which gets behind them.
#![no_main]

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use cidfs::clock::SystemClock;
use cidfs::disk::Disk;
use cidfs::journal::{
    Decoded, FRAME_HEAD_BYTES, FrameHead, Journal, JournalError, JournalOptions, JournalPlace,
    Place, Reader, SEGMENT_HEAD_BYTES, SegmentHead, Seq, TxId, decode, decode_head, encode,
    encode_head,
};
use cidfs::testing::sim_disk::SimDisk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    frames(data);
    segment(data);
    let mended = mended(data);
    if mended != data {
        frames(&mended);
        segment(&mended);
    }
});

/// Reads a segment and recovers from it, twice.
fn segment(data: &[u8]) {
    let dir = Path::new("/journal");
    let disk = SimDisk::new();
    disk.make_dirs(dir).unwrap();
    let file = disk.create(&dir.join("00000000000000000001.seg")).unwrap();
    if !data.is_empty() {
        file.append(&[IoSlice::new(data)]).unwrap();
    }
    let reader = Reader::open(dir, Arc::new(disk.clone()));
    match reader.verify(|_| true) {
        Ok(report) => assert!(report.frames <= data.len() as u64 / 48),
        Err(error) => assert!(matches!(error, JournalError::Version { .. })),
    }
    drop(reader.page(None, 100));
    drop(reader.newest(|head, _| head.kind == 16));
    drop(reader.get(Seq(2)));
    let recovered = recover(&disk, dir);
    if let Some(first) = recovered {
        assert_eq!(recover(&disk, dir), Some((first.0, false)), "settled");
    }
}

/// Frames at every eighth offset, as if the segment began there.
fn frames(data: &[u8]) {
    let _ = decode_head(data, Seq(1));
    for offset in (0..data.len()).step_by(8) {
        let place = Place {
            segment: Seq(1),
            offset: offset as u64,
        };
        if let Ok(Decoded::Whole { head, payload }) = decode(&data[offset..], place) {
            let again = encode(&head, payload, place);
            assert_eq!(again, data[offset..offset + again.len()]);
        }
    }
}

/// The segment with right checksums, of all frames that begin where one ends.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    let number = |bytes: &[u8], at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    let (Some(begun_ns), Some(durable)) = (number(data, 24), number(data, 32)) else {
        return out;
    };
    if data.len() < SEGMENT_HEAD_BYTES {
        return out;
    }
    let head = SegmentHead {
        first: Seq(1),
        begun_ns,
        durable: Seq(durable),
    };
    out[..SEGMENT_HEAD_BYTES].copy_from_slice(&encode_head(&head));
    let mut at = SEGMENT_HEAD_BYTES;
    while let Some(rest) = data.get(at..).filter(|rest| rest.len() >= FRAME_HEAD_BYTES) {
        let len = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        if !(FRAME_HEAD_BYTES..=rest.len()).contains(&len) {
            break;
        }
        let field = |at| number(rest, at).unwrap_or_default();
        let head = FrameHead {
            seq: Seq(field(16)),
            tx: TxId(field(24)),
            kind: rest[12],
            time_ns: field(32),
            durable: Seq(field(40)),
        };
        let place = Place {
            segment: Seq(1),
            offset: at as u64,
        };
        let encoded = encode(&head, &rest[FRAME_HEAD_BYTES..len], place);
        out[at..at + FRAME_HEAD_BYTES].copy_from_slice(&encoded);
        at += len;
    }
    out
}

/// The last frame, and whether a tail was cut off. None if it is damaged.
fn recover(disk: &SimDisk, dir: &Path) -> Option<(Seq, bool)> {
    let place = JournalPlace {
        dir: dir.to_owned(),
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock),
        before_sync: Arc::new(|| Ok(())),
        room: Arc::default(),
    };
    let options = JournalOptions {
        prepare_ahead: false,
        ..JournalOptions::default()
    };
    let opened = Journal::open(&place, options, Seq(1), &mut |_, _| {});
    let (_, recovered) = opened.ok()?;
    let sound = recovered.damage.is_none();
    sound.then(|| (recovered.last, recovered.torn.is_some()))
}
