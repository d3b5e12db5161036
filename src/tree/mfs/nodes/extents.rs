//! A file's bytes as ranges: holes, shared content, and bytes written since.
//!
//! Pure. Written bytes never cross the grid of chunks, so that a chunk that
//! is whole can be sealed by itself; neighbours within a chunk are joined.

use std::sync::Arc;

use super::extent_map::ExtentMap;
use super::small_cid::SmallCid;

/// What a range of a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) enum Data {
    /// Zeros that take no room.
    Hole,
    /// Bytes of immutable content, from `offset` on.
    Shared {
        /// A file's CID.
        cid: SmallCid,
        /// Where the range begins in it.
        offset: u64,
    },
    /// Bytes that are in no block yet.
    Bytes(Arc<Vec<u8>>),
}

/// A range of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Extent {
    /// Its length; never 0.
    pub(in crate::tree::mfs) len: u64,
    /// What it holds.
    pub(in crate::tree::mfs) data: Data,
}

/// All ranges of a file, in order, without gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Extents {
    map: ExtentMap,
    size: u64,
    hole_bytes: u64,
    unsealed_bytes: u64,
}

impl Extents {
    /// Content that is wholly shared.
    pub(in crate::tree::mfs) fn whole(cid: SmallCid, size: u64) -> Self {
        let mut extents = Self::default();
        if size > 0 {
            extents.insert(0, size, Data::Shared { cid, offset: 0 });
            extents.size = size;
        }
        extents
    }

    /// Length of the file.
    pub(in crate::tree::mfs) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are not holes.
    pub(in crate::tree::mfs) fn data_bytes(&self) -> u64 {
        self.size - self.hole_bytes
    }

    /// Bytes that are in no block yet.
    pub(in crate::tree::mfs) fn unsealed_bytes(&self) -> u64 {
        self.unsealed_bytes
    }

    /// The ranges in order.
    pub(in crate::tree::mfs) fn iter(&self) -> impl Iterator<Item = (u64, &Extent)> {
        self.map.iter().map(|(at, extent)| (*at, extent))
    }

    /// The parts of the ranges inside `from..to`, clipped, as many as are wanted.
    /// Bytes are shared, but for those that are clipped.
    pub(in crate::tree::mfs) fn slice(&self, from: u64, to: u64, count_max: usize) -> Vec<Extent> {
        let to = to.min(self.size);
        if from >= to {
            return Vec::new();
        }
        let first = self
            .map
            .range(..=from)
            .next_back()
            .map_or(from, |(at, _)| *at);
        let inside = self.map.range(first..to).filter_map(|(at, extent)| {
            let (start, end) = ((*at).max(from), (at + extent.len).min(to));
            let len = end.checked_sub(start).filter(|len| *len > 0)?;
            let data = part(&extent.data, start - at, len);
            Some(Extent { len, data })
        });
        inside.take(count_max).collect()
    }

    /// Calls `each` for the parts inside `from..to` without copying bytes:
    /// where it is, how long, what it holds and from where in that.
    pub(in crate::tree::mfs) fn each(
        &self,
        from: u64,
        to: u64,
        mut each: impl FnMut(u64, u64, &Data, u64),
    ) {
        let to = to.min(self.size);
        if from >= to {
            return;
        }
        let first = self
            .map
            .range(..=from)
            .next_back()
            .map_or(from, |(at, _)| *at);
        for (at, extent) in self.map.range(first..to) {
            let (start, end) = ((*at).max(from), (at + extent.len).min(to));
            if start < end {
                each(start, end - start, &extent.data, start - at);
            }
        }
    }

    /// The range that holds the byte at `at`, and where it begins.
    pub(in crate::tree::mfs) fn at(&self, at: u64) -> Option<(u64, &Extent)> {
        let (start, extent) = self.map.range(..=at).next_back()?;
        (at < start + extent.len).then_some((*start, extent))
    }

    /// Writes bytes; `chunk` is the grid.
    pub(in crate::tree::mfs) fn write(&mut self, offset: u64, bytes: &[u8], chunk: u64) {
        self.fill_to(offset);
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (chunk - at % chunk).min(rest.len() as u64);
            let (piece, more) = rest.split_at(room as usize);
            self.write_piece(at, piece, chunk);
            at += room;
            rest = more;
        }
    }

    /// Writes bytes that lie in one chunk of the grid.
    fn write_piece(&mut self, at: u64, piece: &[u8], chunk: u64) {
        let end = at + piece.len() as u64;
        if let Some((start, extent)) = self.map.last_mut(..=at)
            && let Data::Bytes(held) = &mut extent.data
            && end <= start + extent.len
        {
            let from = (at - start) as usize;
            if let Some(place) = Arc::make_mut(held).get_mut(from..from + piece.len()) {
                place.copy_from_slice(piece);
            }
            return;
        }
        self.clear(at, end);
        let start = self
            .append_to_previous(at, piece, chunk)
            .unwrap_or_else(|| {
                self.insert(
                    at,
                    piece.len() as u64,
                    Data::Bytes(Arc::new(piece.to_vec())),
                );
                at
            });
        self.join_next(start, end, chunk);
        self.size = self.size.max(end);
    }

    /// Adds bytes to the bytes that end where they begin, in the same chunk.
    fn append_to_previous(&mut self, at: u64, piece: &[u8], chunk: u64) -> Option<u64> {
        let (start, extent) = self.map.last_mut(..at)?;
        let joins = start + extent.len == at && start / chunk == at / chunk;
        let Data::Bytes(held) = &mut extent.data else {
            return None;
        };
        if !joins {
            return None;
        }
        Arc::make_mut(held).extend_from_slice(piece);
        extent.len += piece.len() as u64;
        self.unsealed_bytes += piece.len() as u64;
        Some(start)
    }

    /// Joins the bytes at `start` with those that begin at `end`, in the same chunk.
    fn join_next(&mut self, start: u64, end: u64, chunk: u64) {
        if start / chunk != end / chunk {
            return;
        }
        let next = self.map.get(end).map(|e| &e.data);
        let Some(Data::Bytes(more)) = next else {
            return;
        };
        let more = Arc::clone(more);
        self.remove(end);
        if let Some(extent) = self.map.get_mut(start)
            && let Data::Bytes(held) = &mut extent.data
        {
            Arc::make_mut(held).extend_from_slice(&more);
            extent.len += more.len() as u64;
            self.unsealed_bytes += more.len() as u64;
        }
    }

    /// Puts a range of any content; the file grows to its end.
    pub(in crate::tree::mfs) fn put(&mut self, at: u64, len: u64, data: Data) {
        if len == 0 {
            return;
        }
        self.fill_to(at);
        self.clear(at, at + len);
        self.insert(at, len, data);
        self.size = self.size.max(at + len);
        self.merge_around(at, at + len);
    }

    /// Sets the length: cuts off, or adds a hole.
    pub(in crate::tree::mfs) fn resize(&mut self, size: u64) {
        if size < self.size {
            self.clear(size, self.size);
            self.size = size;
        } else {
            self.fill_to(size);
        }
    }

    /// Makes a hole inside the file.
    pub(in crate::tree::mfs) fn punch(&mut self, from: u64, to: u64) {
        let to = to.min(self.size);
        if from < to {
            self.put(from, to - from, Data::Hole);
        }
    }

    /// The first byte from `at` on that is, or is not, in a hole. The end of
    /// the file is a hole; `None` where there is no such byte.
    pub(in crate::tree::mfs) fn seek(&self, at: u64, hole: bool) -> Option<u64> {
        if at >= self.size {
            return None;
        }
        let first = self
            .map
            .range(..=at)
            .next_back()
            .map_or(at, |(start, _)| *start);
        let mut ranges = self.map.range(first..);
        let found = ranges.find(|(_, extent)| (extent.data == Data::Hole) == hole);
        match found {
            Some((start, _)) => Some((*start).max(at)),
            None if hole => Some(self.size),
            None => None,
        }
    }

    /// The chunk that has become whole around `at`, if its bytes are unsealed.
    pub(in crate::tree::mfs) fn whole_chunk(
        &self,
        at: u64,
        chunk: u64,
    ) -> Option<(u64, Arc<Vec<u8>>)> {
        let (start, extent) = self.at(at)?;
        match &extent.data {
            Data::Bytes(bytes) if start % chunk == 0 && extent.len == chunk => {
                Some((start, Arc::clone(bytes)))
            }
            Data::Bytes(_) | Data::Hole | Data::Shared { .. } => None,
        }
    }

    /// Replaces the bytes at `start` by the block that they were sealed into,
    /// if they are still the same.
    pub(in crate::tree::mfs) fn sealed(&mut self, start: u64, bytes: &Arc<Vec<u8>>, cid: SmallCid) {
        let same = self
            .map
            .get(start)
            .is_some_and(|e| matches!(&e.data, Data::Bytes(held) if Arc::ptr_eq(held, bytes)));
        if same {
            let len = bytes.len() as u64;
            self.remove(start);
            self.insert(start, len, Data::Shared { cid, offset: 0 });
        }
    }

    /// The content once all of it is the file `root`: holes stay known.
    pub(in crate::tree::mfs) fn all_sealed(&self, root: &SmallCid) -> Self {
        let mut sealed = Self::default();
        for (at, extent) in self.map.iter() {
            let data = match extent.data {
                Data::Hole => Data::Hole,
                Data::Shared { .. } | Data::Bytes(_) => Data::Shared {
                    cid: root.clone(),
                    offset: *at,
                },
            };
            sealed.put(*at, extent.len, data);
        }
        sealed.size = self.size;
        sealed
    }

    /// A file that is wholly shared but for holes, which are in order; `None`
    /// where they are not within it.
    pub(in crate::tree::mfs) fn with_holes(
        cid: &SmallCid,
        size: u64,
        holes: &[(u64, u64)],
    ) -> Option<Self> {
        let mut extents = Self::default();
        let shared = |at| Data::Shared {
            cid: cid.clone(),
            offset: at,
        };
        for (start, len) in holes {
            let at = extents.size;
            extents.put(at, start.checked_sub(at)?, shared(at));
            extents.put(*start, *len, Data::Hole);
        }
        let at = extents.size;
        extents.put(at, size.checked_sub(at)?, shared(at));
        Some(extents)
    }

    /// Begin and length of the holes, in order.
    pub(in crate::tree::mfs) fn holes(&self) -> Vec<(u64, u64)> {
        let holes = self.map.iter();
        let holes = holes.filter(|(_, extent)| extent.data == Data::Hole);
        holes.map(|(at, extent)| (*at, extent.len)).collect()
    }

    /// Extends the file with a hole up to `size`.
    fn fill_to(&mut self, size: u64) {
        if size > self.size {
            let (from, len) = (self.size, size - self.size);
            self.insert(from, len, Data::Hole);
            self.size = size;
            self.merge_around(from, size);
        }
    }

    /// Takes out what is inside `from..to`, leaving a gap.
    fn clear(&mut self, from: u64, to: u64) {
        self.split(from);
        self.split(to);
        let inside: Vec<u64> = self.map.range(from..to).map(|(at, _)| *at).collect();
        for at in inside {
            self.remove(at);
        }
    }

    /// Makes `at` the border of two ranges.
    fn split(&mut self, at: u64) {
        let Some((start, extent)) = self.map.range(..at).next_back() else {
            return;
        };
        let (start, len) = (*start, extent.len);
        if start + len <= at {
            return;
        }
        let head = part(&extent.data, 0, at - start);
        let tail = part(&extent.data, at - start, start + len - at);
        self.remove(start);
        self.insert(start, at - start, head);
        self.insert(at, start + len - at, tail);
    }

    /// Joins holes, and shared ranges that go on in the same content, at two borders.
    fn merge_around(&mut self, from: u64, to: u64) {
        for border in [to, from] {
            let Some((start, before)) = self.map.range(..border).next_back() else {
                continue;
            };
            let Some(after) = self.map.get(border) else {
                continue;
            };
            let joins = match (&before.data, &after.data) {
                (Data::Hole, Data::Hole) => true,
                (
                    Data::Shared { cid: a, offset },
                    Data::Shared {
                        cid: b,
                        offset: next,
                    },
                ) => a == b && offset + before.len == *next,
                _ => false,
            };
            if joins {
                let (start, len, more) = (*start, before.len, after.len);
                let data = before.data.clone();
                self.remove(border);
                self.remove(start);
                self.insert(start, len + more, data);
            }
        }
    }

    fn insert(&mut self, at: u64, len: u64, data: Data) {
        self.count_in(&data, len, true);
        self.map.insert(at, Extent { len, data });
    }

    fn remove(&mut self, at: u64) {
        if let Some(extent) = self.map.remove(at) {
            self.count_in(&extent.data, extent.len, false);
        }
    }

    fn count_in(&mut self, data: &Data, len: u64, add: bool) {
        let counter = match data {
            Data::Hole => &mut self.hole_bytes,
            Data::Bytes(_) => &mut self.unsealed_bytes,
            Data::Shared { .. } => return,
        };
        *counter = if add { *counter + len } else { *counter - len };
    }
}

/// A part of a range's content.
pub(in crate::tree::mfs) fn part(data: &Data, from: u64, len: u64) -> Data {
    match data {
        Data::Hole => Data::Hole,
        Data::Shared { cid, offset } => Data::Shared {
            cid: cid.clone(),
            offset: offset + from,
        },
        Data::Bytes(bytes) if from == 0 && len == bytes.len() as u64 => {
            Data::Bytes(Arc::clone(bytes))
        }
        Data::Bytes(bytes) => {
            let from = from as usize;
            let piece = bytes.get(from..from + len as usize).unwrap_or_default();
            Data::Bytes(Arc::new(piece.to_vec()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: u64 = 16;

    #[test]
    fn a_slice_is_as_long_as_is_wanted_and_shares_what_it_takes_whole() {
        let mut extents = Extents::default();
        for number in 0..9 {
            extents.write(2 * CHUNK * number, &[7; 4], CHUNK);
        }
        let taken = extents.slice(1, u64::MAX, 3);
        let lens: Vec<u64> = taken.iter().map(|extent| extent.len).collect();
        assert_eq!(lens, [3, 2 * CHUNK - 4, 4]);
        let (_, held) = extents.at(2 * CHUNK).unwrap();
        let (Data::Bytes(held), Data::Bytes(shared)) = (&held.data, &taken[2].data) else {
            panic!("written bytes");
        };
        assert!(Arc::ptr_eq(held, shared));
    }

    /// What the extents say, byte by byte; shared content is `offset % 251`.
    fn flat(extents: &Extents) -> Vec<u8> {
        let mut out = vec![0; extents.size() as usize];
        for (at, extent) in extents.iter() {
            for index in 0..extent.len {
                out[(at + index) as usize] = match &extent.data {
                    Data::Hole => 0,
                    Data::Shared { offset, .. } => ((offset + index) % 251) as u8,
                    Data::Bytes(bytes) => bytes[index as usize],
                };
            }
        }
        out
    }

    fn sound(extents: &Extents) {
        let (mut end, mut holes, mut bytes) = (0, 0, 0);
        for (at, extent) in extents.iter() {
            assert_eq!(at, end, "no gaps");
            assert!(extent.len > 0);
            end = at + extent.len;
            match &extent.data {
                Data::Hole => holes += extent.len,
                Data::Bytes(held) => {
                    assert_eq!(held.len() as u64, extent.len);
                    assert_eq!(at / CHUNK, (end - 1) / CHUNK, "bytes stay in their chunk");
                    bytes += extent.len;
                }
                Data::Shared { .. } => {}
            }
        }
        let all = extents.holes();
        let touch = |pair: &[(u64, u64)]| pair[0].0 + pair[0].1 == pair[1].0;
        assert!(!all.windows(2).any(touch), "one hole is one range: {all:?}");
        assert_eq!(end, extents.size());
        assert_eq!(extents.data_bytes(), extents.size() - holes);
        assert_eq!(extents.unsealed_bytes(), bytes);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, u8, u64),
        Share(u64, u64),
        Resize(u64),
        Punch(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..90u64, any::<u8>(), 1..40u64).prop_map(|(at, byte, len)| Step::Write(at, byte, len)),
            1 => (0..90u64, 1..40u64).prop_map(|(at, len)| Step::Share(at, len)),
            1 => (0..120u64).prop_map(Step::Resize),
            1 => (0..100u64, 1..50u64).prop_map(|(from, len)| Step::Punch(from, len)),
        ]
    }

    proptest! {
        #[test]
        fn extents_hold_what_a_plain_buffer_holds(steps in proptest::collection::vec(step(), 1..40)) {
            let mut extents = Extents::default();
            let mut plain: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Write(at, byte, len) => {
                        let bytes = vec![byte; len as usize];
                        extents.write(at, &bytes, CHUNK);
                        let end = (at + len) as usize;
                        if plain.len() < end { plain.resize(end, 0); }
                        plain[at as usize..end].fill(byte);
                    }
                    Step::Share(at, len) => {
                        let data = Data::Shared { cid: SmallCid::for_tests(), offset: at + 3 };
                        extents.put(at, len, data);
                        let end = (at + len) as usize;
                        if plain.len() < end { plain.resize(end, 0); }
                        for index in 0..len { plain[(at + index) as usize] = ((at + 3 + index) % 251) as u8; }
                    }
                    Step::Resize(size) => { extents.resize(size); plain.resize(size as usize, 0); }
                    Step::Punch(from, len) => {
                        extents.punch(from, from + len);
                        let end = ((from + len) as usize).min(plain.len());
                        if (from as usize) < end { plain[from as usize..end].fill(0); }
                    }
                }
                sound(&extents);
                prop_assert_eq!(flat(&extents), plain.clone());
            }
        }
    }

    #[test]
    fn a_file_is_made_again_of_its_holes() {
        let cid = SmallCid::for_tests();
        let holes = [(0, 5), (40, 24)];
        let extents = Extents::with_holes(&cid, 64, &holes).unwrap();
        sound(&extents);
        assert_eq!(extents.holes(), holes);
        assert_eq!(extents, extents.all_sealed(&cid));
        assert_eq!((extents.size(), extents.data_bytes()), (64, 35));
        assert_eq!(Extents::with_holes(&cid, 63, &holes), None, "past the end");
    }

    #[test]
    fn small_appends_become_one_whole_chunk() {
        let mut extents = Extents::default();
        for at in 0..20 {
            extents.write(at, &[at as u8], CHUNK);
        }
        assert_eq!(extents.iter().count(), 2);
        let (start, bytes) = extents.whole_chunk(5, CHUNK).unwrap();
        assert_eq!((start, bytes.len()), (0, 16));
        assert!(extents.whole_chunk(17, CHUNK).is_none());
    }

    #[test]
    fn data_and_holes_are_found() {
        let mut extents = Extents::default();
        extents.write(32, b"x", CHUNK);
        extents.resize(64);
        assert_eq!(extents.seek(0, false), Some(32));
        assert_eq!(extents.seek(0, true), Some(0));
        assert_eq!(extents.seek(32, true), Some(33));
        assert_eq!(extents.seek(40, false), None, "no data behind");
        assert_eq!(extents.seek(64, true), None, "behind the end");
        extents.write(63, b"y", CHUNK);
        assert_eq!(extents.seek(63, true), Some(64), "the end is a hole");
    }
}
