//! A segment of any bytes is read to its end: whole frames only, and those
//! encode to the same bytes again. Recovery of it succeeds and is settled.
#![no_main]

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use cidfs::clock::SystemClock;
use cidfs::disk::Disk;
use cidfs::journal::{
    Decoded, Journal, JournalError, JournalOptions, JournalPlace, Place, Reader, Seq, decode,
    decode_head, encode,
};
use cidfs::testing::sim_disk::SimDisk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    frames(data);
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
    let recovered = recover(&disk, dir);
    if let Some(first) = recovered {
        assert_eq!(recover(&disk, dir), Some((first.0, false)), "settled");
    }
});

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

/// The last frame, and whether a tail was cut off. None if it is damaged.
fn recover(disk: &SimDisk, dir: &Path) -> Option<(Seq, bool)> {
    let place = JournalPlace {
        dir: dir.to_owned(),
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock),
        before_sync: Arc::new(|| Ok(())),
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
