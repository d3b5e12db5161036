//! The files of a CAR source: opened, read at places, scanned.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::car_index::Place;
use crate::block::Cid;
use crate::car::{CarError, CarReader, HeaderV2, SectionHead, decode_section_head, index};
use crate::config::{
    BLOCK_BYTES_MAX, CAR_FILES_MAX, CAR_INDEX_BYTES_MAX, CAR_SECTION_BYTES_MAX, CID_BYTES_MAX,
};

/// How many entries of an index are compared with the file before it is used.
const INDEX_SAMPLES: usize = 16;

/// One CAR file whose header was read.
#[derive(Debug)]
pub(super) struct CarFile {
    path: PathBuf,
    /// Length when it was opened. What is appended later is not seen.
    len: u64,
    v2: Option<HeaderV2>,
    /// Kept open, so that it can be read after it is renamed or removed.
    file: Option<File>,
    /// The roots that its header names.
    pub(super) roots: Vec<Cid>,
}

/// The files of a path: the one, or all `*.car` of a directory by name.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>, String> {
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    if !std::fs::metadata(path).map_err(say)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(say)? {
        let file = entry.map_err(say)?.path();
        if file.extension().is_some_and(|extension| extension == "car") && file.is_file() {
            files.push(file);
        }
        if files.len() > CAR_FILES_MAX {
            return Err(format!(
                "{} has more than {CAR_FILES_MAX} CAR files",
                path.display()
            ));
        }
    }
    files.sort();
    Ok(files)
}

impl CarFile {
    /// Opens a file and reads its headers.
    pub(super) fn open(path: &Path, keep_open: bool) -> Result<Self, CarError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let reader = CarReader::with_len(&file, len)?;
        let (roots, v2) = (reader.header().roots.clone(), reader.v2().copied());
        let file = keep_open.then_some(file);
        Ok(Self {
            path: path.to_owned(),
            len,
            v2,
            file,
            roots,
        })
    }

    /// The path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn with_file<T>(&self, work: impl FnOnce(&File) -> Result<T, CarError>) -> Result<T, CarError> {
        match &self.file {
            Some(file) => work(file),
            None => work(&File::open(&self.path)?),
        }
    }

    /// Reads the section at a place: the CID there, and the data, not proved.
    pub(super) fn read(&self, place: Place) -> Result<(Cid, Bytes), CarError> {
        self.with_file(|file| {
            if place.len > 0 {
                let section = read_at(file, place.offset, place.len as usize)?;
                return split(place.offset, section);
            }
            let head = read_head(file, place.offset, self.len)?;
            let data = read_at(file, head.data_offset(), data_len(&head)?)?;
            Ok((head.cid, data))
        })
    }

    /// Calls `found` for each block, whatever its length, and `go_on` to ask
    /// whether to. Data is passed over, not read.
    pub(super) fn scan(&self, found: &mut dyn FnMut(&SectionHead) -> bool) -> Result<(), CarError> {
        self.with_file(|file| {
            // Its own position, since the kept handle is shared with nobody else who seeks.
            let mut file = file;
            file.seek(SeekFrom::Start(0))?;
            let mut reader = CarReader::with_len(file, self.len)?;
            while let Some(head) = reader.next_head()? {
                reader.skip(&head)?;
                if !found(&head) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Calls `found` with each digest and section offset of a version 2 index,
    /// if there is one and samples of it are borne out by the file.
    pub(super) fn load_index(&self, found: &mut dyn FnMut(&[u8], u64)) -> Result<bool, CarError> {
        let Some(v2) = self.v2.filter(|v2| v2.index_offset != 0) else {
            return Ok(false);
        };
        let len = self
            .len
            .checked_sub(v2.index_offset)
            .ok_or(CarError::Index("it is cut off"))?;
        if len > CAR_INDEX_BYTES_MAX {
            return Ok(false);
        }
        self.with_file(|file| {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            file.read_exact_at(&mut bytes, v2.index_offset)?;
            let mut count = 0_usize;
            index::for_each(&bytes, &mut |_, _| count += 1)?;
            if count == 0 {
                return Ok(false);
            }
            self.check_samples(file, &bytes, &v2, count)?;
            index::for_each(&bytes, &mut |digest, offset| {
                found(digest, v2.data_offset.saturating_add(offset));
            })?;
            Ok(true)
        })
    }

    fn check_samples(
        &self,
        file: &File,
        bytes: &[u8],
        v2: &HeaderV2,
        count: usize,
    ) -> Result<(), CarError> {
        let step = count.div_ceil(INDEX_SAMPLES).max(1);
        let (mut number, mut wrong) = (0_usize, false);
        index::for_each(bytes, &mut |digest, offset| {
            if number % step == 0 && !wrong {
                let head = read_head(file, v2.data_offset.saturating_add(offset), self.len);
                wrong = offset >= v2.data_size
                    || !head.is_ok_and(|head| head.cid.hash().digest() == digest);
            }
            number += 1;
        })?;
        if wrong {
            Err(CarError::Index("it contradicts the file"))
        } else {
            Ok(())
        }
    }
}

fn data_len(head: &SectionHead) -> Result<usize, CarError> {
    let limit = BLOCK_BYTES_MAX as u64;
    let (offset, len) = (head.offset, head.data_len);
    usize::try_from(len)
        .ok()
        .filter(|len| *len <= BLOCK_BYTES_MAX)
        .ok_or(CarError::TooLong { offset, len, limit })
}

fn read_head(file: &File, offset: u64, file_len: u64) -> Result<SectionHead, CarError> {
    let mut bytes = [0; CID_BYTES_MAX + 10];
    let room = usize::try_from(file_len.saturating_sub(offset)).unwrap_or(usize::MAX);
    let room = room.min(bytes.len());
    let bytes = bytes.get_mut(..room).unwrap_or_default();
    file.read_exact_at(bytes, offset)
        .map_err(|error| truncated(error, offset))?;
    let head = decode_section_head(bytes, offset)?.ok_or(CarError::Truncated { offset })?;
    if head.end() > file_len {
        return Err(CarError::Truncated { offset });
    }
    Ok(head)
}

fn read_at(file: &File, offset: u64, len: usize) -> Result<Bytes, CarError> {
    let mut data = vec![0; len.min(CAR_SECTION_BYTES_MAX + 10)];
    file.read_exact_at(&mut data, offset)
        .map_err(|error| truncated(error, offset))?;
    Ok(data.into())
}

fn truncated(error: std::io::Error, offset: u64) -> CarError {
    if error.kind() == ErrorKind::UnexpectedEof {
        CarError::Truncated { offset }
    } else {
        CarError::Io(error)
    }
}

/// Splits a whole section into its CID and its data.
fn split(offset: u64, mut section: Bytes) -> Result<(Cid, Bytes), CarError> {
    let head = decode_section_head(&section, offset)?.ok_or(CarError::Truncated { offset })?;
    let head_len = usize::try_from(head.head_len)
        .unwrap_or(usize::MAX)
        .min(section.len());
    let data = section.split_off(head_len);
    if data.len() as u64 == head.data_len {
        Ok((head.cid, data))
    } else {
        // The file changed under us: the length is another one now.
        Err(CarError::Truncated { offset })
    }
}

/// An error that a report can keep, with the file that it is about.
pub(super) fn describe(path: &Path, error: &CarError) -> Arc<str> {
    format!("{}: {error}", path.display()).into()
}
