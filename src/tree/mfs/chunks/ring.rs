//! The ring: writes that are acknowledged and not yet in the journal.
//!
//! A file of [`AHEAD_CHUNKS_MAX`] pages, each the head of a slot, and as many
//! chunks behind them. It is written over in place and never synced: it keeps
//! bytes for the next process, not for the next boot. A slot belongs to the
//! journal entry that its write will become, and is worth nothing once the
//! journal has that entry, or once the machine was off.

use std::io;
use std::sync::Arc;

use crate::config::{AHEAD_CHUNKS_MAX, BLOCK_BYTES_MAX};
use crate::disk::Ring;
use crate::tree::mfs::types::{NodeId, Time};

const MAGIC: [u8; 8] = *b"cidfsAHD";
/// The format that this program writes. It reads no other.
const VERSION: u32 = 1;
/// A head with the path behind it.
const HEAD_BYTES: usize = 4096;
/// A head without the path.
const FIXED_BYTES: usize = 88;
/// Longest path of a node whose writes go into the ring.
pub(in crate::tree::mfs) const PATH_BYTES_MAX: usize = HEAD_BYTES - FIXED_BYTES;

/// A write in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Slot {
    /// The entry of the journal that it becomes.
    pub(in crate::tree::mfs) seq: u64,
    pub(in crate::tree::mfs) node: NodeId,
    /// Where the node is: it is looked for there.
    pub(in crate::tree::mfs) path: Vec<u8>,
    /// Where in the file its bytes go.
    pub(in crate::tree::mfs) offset: u64,
    /// When it was acknowledged.
    pub(in crate::tree::mfs) time: Time,
}

/// The ring of a tree.
pub(in crate::tree::mfs) struct Slots {
    ring: Arc<dyn Ring>,
    chunk: u64,
}

impl Slots {
    /// Bytes of a ring for chunks of this length.
    pub(in crate::tree::mfs) fn bytes(chunk: u64) -> u64 {
        (HEAD_BYTES as u64 + chunk) * AHEAD_CHUNKS_MAX as u64
    }

    pub(in crate::tree::mfs) fn new(ring: Arc<dyn Ring>, chunk: u64) -> Self {
        Self { ring, chunk }
    }

    /// Puts a chunk in. It is there for the next process once this has returned;
    /// the slot's write before it must be in the journal.
    pub(in crate::tree::mfs) fn put(&self, slot: &Slot, data: &[u8]) -> io::Result<()> {
        let place = slot.seq % AHEAD_CHUNKS_MAX as u64;
        let at = (HEAD_BYTES * AHEAD_CHUNKS_MAX) as u64 + place * self.chunk;
        self.ring.write_at(data, at)?;
        // The head last: until then the slot is that of an entry which is in the journal.
        let head = encode(slot, data, at, self.ring.boot());
        self.ring.write_at(&head, place * HEAD_BYTES as u64)
    }

    /// The write that becomes the entry `seq`, if it is here and sound.
    pub(in crate::tree::mfs) fn get(&self, seq: u64) -> Option<(Slot, Vec<u8>)> {
        let place = seq % AHEAD_CHUNKS_MAX as u64;
        let mut head = vec![0; HEAD_BYTES];
        self.ring
            .read_at(&mut head, place * HEAD_BYTES as u64)
            .ok()?;
        let (slot, at, len, sum) = decode(&head, self.ring.boot())?;
        if slot.seq != seq {
            return None;
        }
        let mut data = vec![0; len];
        self.ring.read_at(&mut data, at).ok()?;
        (crc32c::crc32c(&data) == sum).then_some((slot, data))
    }

    /// Forgets what is in it.
    pub(in crate::tree::mfs) fn clear(&self) -> io::Result<()> {
        self.ring
            .write_at(&vec![0; HEAD_BYTES * AHEAD_CHUNKS_MAX], 0)
    }
}

fn encode(slot: &Slot, data: &[u8], at: u64, boot: [u8; 16]) -> Vec<u8> {
    let mut body = Vec::with_capacity(FIXED_BYTES + slot.path.len());
    body.extend(boot);
    body.extend(slot.seq.to_le_bytes());
    body.extend(slot.node.number().to_le_bytes());
    body.extend(slot.offset.to_le_bytes());
    body.extend(slot.time.sec.to_le_bytes());
    body.extend(slot.time.nsec.to_le_bytes());
    body.extend((data.len() as u32).to_le_bytes());
    body.extend(crc32c::crc32c(data).to_le_bytes());
    body.extend((slot.path.len() as u32).to_le_bytes());
    body.extend(at.to_le_bytes());
    body.extend(&slot.path);
    let mut head = Vec::with_capacity(16 + body.len());
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(crc32c::crc32c(&body).to_le_bytes());
    head.extend(body);
    head
}

/// A slot, where its bytes are, how many, and their checksum.
fn decode(head: &[u8], boot: [u8; 16]) -> Option<(Slot, u64, usize, u32)> {
    let mut rest = head;
    let known = take::<8>(&mut rest)? == MAGIC && u32_of(&mut rest)? == VERSION;
    let sum = u32_of(&mut rest)?;
    let body = rest;
    if !known || take::<16>(&mut rest)? != boot {
        return None;
    }
    let (seq, node, offset) = (u64_of(&mut rest)?, u64_of(&mut rest)?, u64_of(&mut rest)?);
    let sec = i64::from_le_bytes(take(&mut rest)?);
    let nsec = u32_of(&mut rest)?;
    let (len, data_sum) = (u32_of(&mut rest)? as usize, u32_of(&mut rest)?);
    let path_len = u32_of(&mut rest)? as usize;
    let at = u64_of(&mut rest)?;
    let path = rest.get(..path_len)?.to_vec();
    let covered = body.get(..FIXED_BYTES - 16 + path_len)?;
    if crc32c::crc32c(covered) != sum || len > BLOCK_BYTES_MAX {
        return None;
    }
    let slot = Slot {
        seq,
        node: NodeId::from_number(node)?,
        path,
        offset,
        time: Time { sec, nsec },
    };
    Some((slot, at, len, data_sum))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, more) = rest.split_first_chunk()?;
    *rest = more;
    Some(*first)
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    struct InMemory(Mutex<Vec<u8>>, [u8; 16]);

    impl Ring for InMemory {
        fn boot(&self) -> [u8; 16] {
            self.1
        }
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let from = offset as usize;
            self.0.lock()[from..from + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
        fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
            let from = offset as usize;
            out.copy_from_slice(&self.0.lock()[from..from + out.len()]);
            Ok(())
        }
    }

    fn slots(bytes: Vec<u8>, boot: u8) -> (Slots, Arc<InMemory>) {
        let ring = Arc::new(InMemory(Mutex::new(bytes), [boot; 16]));
        (Slots::new(ring.clone(), 64), ring)
    }

    fn slot(seq: u64) -> Slot {
        Slot {
            seq,
            node: NodeId::ROOT,
            path: b"/a/b".to_vec(),
            offset: 64 * seq,
            time: Time { sec: -5, nsec: 7 },
        }
    }

    #[test]
    fn a_write_is_found_under_the_entry_that_it_becomes() {
        let (slots, _) = slots(vec![0; Slots::bytes(64) as usize], 1);
        assert_eq!(slots.get(0), None);
        for seq in 10..10 + AHEAD_CHUNKS_MAX as u64 {
            slots.put(&slot(seq), &[seq as u8; 64]).unwrap();
        }
        for seq in 10..10 + AHEAD_CHUNKS_MAX as u64 {
            assert_eq!(slots.get(seq), Some((slot(seq), vec![seq as u8; 64])));
        }
        assert_eq!(slots.get(9), None);
        slots
            .put(&slot(10 + AHEAD_CHUNKS_MAX as u64), &[1; 64])
            .unwrap();
        assert_eq!(slots.get(10), None, "its slot has the next one");
        slots.clear().unwrap();
        assert_eq!(slots.get(11), None);
    }

    #[test]
    fn what_is_torn_flipped_or_of_another_boot_is_not_believed() {
        let (first, ring) = slots(vec![0; Slots::bytes(64) as usize], 1);
        first.put(&slot(0), &[9; 64]).unwrap();
        let bytes = ring.0.lock().clone();
        assert!(first.get(0).is_some());
        assert_eq!(slots(bytes.clone(), 2).0.get(0), None, "another boot");
        let covered = FIXED_BYTES + slot(0).path.len();
        let data = HEAD_BYTES * AHEAD_CHUNKS_MAX;
        for at in (0..covered).chain(data..data + 64) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(slots(flipped, 1).0.get(0), None, "byte {at}");
        }
    }
}
