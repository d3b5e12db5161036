//! The holes of a file: where it has zeros that take no room.

use super::RecordError;
use crate::tree::posix::cbor::{Reader, Writer, head_len};

/// Begin and length of holes, in order; none is empty or touches another.
pub type Holes = Vec<(u64, u64)>;

/// Writes each as its distance from the end of the one before and its length.
pub(super) fn write(holes: &Holes, writer: &mut Writer) {
    writer.array(holes.len() * 2);
    let mut end = 0;
    for (start, len) in holes {
        writer.uint(start - end);
        writer.uint(*len);
        end = start + len;
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Holes, RecordError> {
    let count = reader.array()?;
    let (mut holes, mut end) = (Holes::new(), 0u64);
    if count == 0 || count % 2 != 0 {
        return Err(RecordError::NotCanonical);
    }
    for index in 0..count / 2 {
        let (distance, len) = (reader.uint()?, reader.uint()?);
        let start = end.checked_add(distance);
        let until = start.and_then(|start| start.checked_add(len));
        let (Some(start), Some(until)) = (start, until) else {
            return Err(RecordError::Range("a hole"));
        };
        if len == 0 || (index > 0 && distance == 0) || i64::try_from(until).is_err() {
            return Err(RecordError::Range("a hole"));
        }
        holes.push((start, len));
        end = until;
    }
    Ok(holes)
}

/// The longest of `holes` that a record takes within `room` bytes, in order; of
/// equal ones the first. They follow from the holes and the room alone.
pub(super) fn within(mut holes: Holes, room: usize) -> Holes {
    let end = holes.last().map_or(0, |(start, len)| start + len);
    let cost = |len: u64| head(end) + head(len);
    if holes.iter().map(|(_, len)| cost(*len)).sum::<usize>() <= room {
        return holes;
    }
    holes.sort_unstable_by_key(|(start, len)| (std::cmp::Reverse(*len), *start));
    let mut used = 0;
    holes.retain(|(_, len)| {
        used += cost(*len);
        used <= room
    });
    holes.sort_unstable();
    holes
}

fn head(number: u64) -> usize {
    head_len(usize::try_from(number).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_holes_are_kept_where_there_is_room_and_the_longest_where_there_is_not() {
        let holes: Holes = vec![(0, 8), (100, 300), (500, 8), (600, 9)];
        assert_eq!(within(holes.clone(), 100), holes);
        assert_eq!(within(holes.clone(), 14), [(0, 8), (100, 300), (600, 9)]);
        assert_eq!(within(holes.clone(), 6), [(100, 300)]);
        assert_eq!(within(holes, 0), []);
    }

    #[test]
    fn holes_that_no_file_has_are_refused() {
        let read_back = |numbers: &[u64]| {
            let mut writer = Writer::default();
            writer.array(numbers.len());
            numbers.iter().for_each(|number| writer.uint(*number));
            read(&mut Reader::new(&writer.finish()))
        };
        assert_eq!(read_back(&[0, 5, 3, 4]), Ok(vec![(0, 5), (8, 4)]));
        let refused: [&[u64]; 6] = [
            &[],
            &[1],
            &[1, 0],
            &[0, 5, 0, 4],
            &[5, u64::MAX],
            &[1 << 62, 1 << 62],
        ];
        for numbers in refused {
            assert!(read_back(numbers).is_err(), "{numbers:?}");
        }
    }
}
