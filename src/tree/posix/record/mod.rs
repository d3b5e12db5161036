//! The values of the posix map. Pure.
//!
//! Each is dag-cbor `[1, {…}]`: the version, then the fields under names of one
//! letter, those at their usual value left out. A value has one encoding, and
//! any other is refused, as are versions and fields that this program does not
//! know: to overlook a field of a newer program would be to lose it.

mod attributes;
mod holes;
mod names;
#[cfg(test)]
mod tests;

pub use attributes::{Posix, Special, Time};
pub use holes::Holes;
pub use names::{Dentry, DentryBody, Inode, Number, Place, Tally};

use super::cbor::{CborError, Reader, Writer};
use crate::config::{NAME_BYTES_MAX, POSIX_VALUE_BYTES_MAX};

/// Version of the records.
const VERSION: u64 = 1;
/// What a name or an attribute counts beside its bytes.
const ITEM_BYTES: usize = 16;

/// Why bytes are not a record, or a record is not one that can be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not the dag-cbor of a record.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The version is one that this program does not know.
    #[error("record of version {0}, which this program does not know")]
    Version(u64),
    /// A field is one that this program does not know.
    #[error("record with the field {0:?}, which this program does not know")]
    UnknownField(String),
    /// A field that must be there is not.
    #[error("record without {0}")]
    Missing(&'static str),
    /// A field has a value that it cannot have.
    #[error("record with {0} out of range")]
    Range(&'static str),
    /// It is not the one encoding that the value has.
    #[error("record is not in its canonical form")]
    NotCanonical,
    /// It is over a limit.
    #[error("{0} over the limit")]
    TooLarge(&'static str),
}

/// Gathers the fields that are there.
#[derive(Debug, Default)]
pub(super) struct Fields {
    count: usize,
    body: Writer,
}

impl Fields {
    /// Begins a field; its value is to be written.
    pub(super) fn field(&mut self, name: &str) -> &mut Writer {
        self.count += 1;
        self.body.text(name);
        &mut self.body
    }

    /// Writes them as a map.
    pub(super) fn write(self, writer: &mut Writer) {
        writer.map(self.count);
        writer.encoded(&self.body.finish());
    }

    /// Makes a record of them.
    fn record(self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.array(2);
        writer.uint(VERSION);
        self.write(&mut writer);
        writer.finish()
    }
}

/// Opens a record up to its fields.
fn opened(bytes: &[u8]) -> Result<Reader<'_>, RecordError> {
    if bytes.len() > POSIX_VALUE_BYTES_MAX {
        return Err(RecordError::TooLarge("record"));
    }
    let mut reader = Reader::new(bytes);
    let len = reader.array()?;
    match reader.uint()? {
        VERSION if len == 2 => Ok(reader),
        VERSION => Err(RecordError::NotCanonical),
        other => Err(RecordError::Version(other)),
    }
}

/// A name as a directory can have it.
fn name(reader: &mut Reader<'_>) -> Result<Vec<u8>, RecordError> {
    let name = reader.bytes()?;
    let reserved = matches!(name, b"" | b"." | b"..");
    if reserved || name.len() > NAME_BYTES_MAX || name.iter().any(|b| matches!(b, b'/' | 0)) {
        return Err(RecordError::Range("a name"));
    }
    Ok(name.to_vec())
}

/// A field that is not known, by as much of its name as is worth showing.
pub(super) fn unknown(name: &[u8]) -> RecordError {
    let shown = name.get(..64).unwrap_or(name);
    RecordError::UnknownField(String::from_utf8_lossy(shown).into_owned())
}

/// Accepts what was decoded if it is encoded as `bytes`: fields twice, out of
/// order or at their usual value are another encoding of the same.
pub(super) fn canonical<T>(
    decoded: T,
    encode: fn(&T) -> Vec<u8>,
    bytes: &[u8],
) -> Result<T, RecordError> {
    match encode(&decoded) == bytes {
        true => Ok(decoded),
        false => Err(RecordError::NotCanonical),
    }
}
