//! A CAR of any bytes ends or fails, in bounded memory, with positions that go up.
#![no_main]

use std::io::Cursor;

use cidfs::car::CarReader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut car) = CarReader::with_len(Cursor::new(data), data.len() as u64) else {
        return;
    };
    let mut position = car.position();
    while let Ok(Some(section)) = car.next_section() {
        assert!(section.data.len() <= data.len());
        assert!(car.position() > position, "every section takes bytes");
        position = car.position();
    }
});
