//! What is known of a node beside its content.

use std::collections::BTreeMap;

use super::holes::{self, Holes};
use super::{Fields, ITEM_BYTES, RecordError, unknown};
use crate::config::{NAME_BYTES_MAX, POSIX_VALUE_BYTES_MAX, POSIX_XATTRS_BYTES_MAX};
use crate::tree::posix::cbor::{Reader, Writer};

/// Permission bits with setuid, setgid and sticky.
const MODE_MAX: u32 = 0o7777;
const NSEC_MAX: u32 = 999_999_999;
/// More than what a record holds beside attributes, names and holes.
const OTHER_FIELDS_BYTES: usize = 512;

/// A point in time, as the kernel gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since the epoch.
    pub sec: i64,
    /// Nanoseconds after them, below 1,000,000,000.
    pub nsec: u32,
}

impl Time {
    pub(in super::super) fn write(&self, writer: &mut Writer) {
        writer.array(2);
        writer.int(self.sec);
        writer.uint(self.nsec.into());
    }

    pub(in super::super) fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        reader.tuple(2, "a time")?;
        let (sec, nsec) = (reader.int()?, reader.uint32()?);
        if nsec > NSEC_MAX {
            return Err(RecordError::Range("nanoseconds"));
        }
        Ok(Self { sec, nsec })
    }
}

/// Files that UnixFS does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device; [`Posix::rdev`] says which.
    Char,
    /// A block device; [`Posix::rdev`] says which.
    Block,
}

impl Special {
    fn number(self) -> u64 {
        match self {
            Self::Fifo => 1,
            Self::Socket => 2,
            Self::Char => 3,
            Self::Block => 4,
        }
    }

    fn of(number: u64) -> Result<Self, RecordError> {
        match number {
            1 => Ok(Self::Fifo),
            2 => Ok(Self::Socket),
            3 => Ok(Self::Char),
            4 => Ok(Self::Block),
            _ => Err(RecordError::Range("the kind of special file")),
        }
    }
}

/// Attributes of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Posix {
    /// Permission bits with setuid, setgid and sticky; the type is not in it.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of content or attributes.
    pub ctime: Time,
    /// Device number of a device.
    pub rdev: u64,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Set where the node is neither file, directory nor symbolic link.
    pub special: Option<Special>,
    /// Of a file: its holes.
    pub holes: Holes,
}

impl Posix {
    /// What the extended attributes count against [`POSIX_XATTRS_BYTES_MAX`].
    pub fn xattrs_bytes(&self) -> usize {
        let bytes = |(name, value): (&Vec<u8>, &Vec<u8>)| name.len() + value.len() + ITEM_BYTES;
        self.xattrs.iter().map(bytes).sum()
    }

    /// Lets go of the shortest holes where a record has no room for all beside
    /// the attributes and `names_bytes` of names: they count as data then.
    pub fn fit_holes(&mut self, names_bytes: usize) {
        let others = self.xattrs_bytes() + names_bytes + OTHER_FIELDS_BYTES;
        let room = POSIX_VALUE_BYTES_MAX.saturating_sub(others);
        self.holes = holes::within(std::mem::take(&mut self.holes), room);
    }

    /// Says whether it can be kept; what is changed must be asked before.
    pub fn check(&self) -> Result<(), RecordError> {
        if self.mode > MODE_MAX {
            return Err(RecordError::Range("mode"));
        }
        let times = [self.atime, self.mtime, self.ctime];
        if times.iter().any(|time| time.nsec > NSEC_MAX) {
            return Err(RecordError::Range("nanoseconds"));
        }
        if self
            .xattrs
            .keys()
            .any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX)
        {
            return Err(RecordError::Range("the name of an attribute"));
        }
        if self.xattrs_bytes() > POSIX_XATTRS_BYTES_MAX {
            return Err(RecordError::TooLarge("extended attributes"));
        }
        Ok(())
    }

    /// Writes the fields, those at their usual value left out: numbers at 0, no
    /// attributes, no special file, times that equal `mtime`.
    pub(super) fn write(&self, writer: &mut Writer) {
        let mut fields = Fields::default();
        if self.atime != self.mtime {
            self.atime.write(fields.field("a"));
        }
        if self.ctime != self.mtime {
            self.ctime.write(fields.field("c"));
        }
        if self.gid != 0 {
            fields.field("g").uint(self.gid.into());
        }
        if !self.holes.is_empty() {
            holes::write(&self.holes, fields.field("h"));
        }
        self.mtime.write(fields.field("m"));
        fields.field("p").uint(self.mode.into());
        if self.rdev != 0 {
            fields.field("r").uint(self.rdev);
        }
        if let Some(special) = self.special {
            fields.field("s").uint(special.number());
        }
        if self.uid != 0 {
            fields.field("u").uint(self.uid.into());
        }
        if !self.xattrs.is_empty() {
            self.write_xattrs(fields.field("x"));
        }
        fields.write(writer);
    }

    fn write_xattrs(&self, writer: &mut Writer) {
        writer.array(self.xattrs.len());
        for (name, value) in &self.xattrs {
            writer.array(2);
            writer.bytes(name);
            writer.bytes(value);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let mut posix = Self::default();
        let (mut atime, mut mtime, mut ctime, mut mode) = (None, None, None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"a" => atime = Some(Time::read(reader)?),
                b"c" => ctime = Some(Time::read(reader)?),
                b"g" => posix.gid = reader.uint32()?,
                b"h" => posix.holes = holes::read(reader)?,
                b"m" => mtime = Some(Time::read(reader)?),
                b"p" => mode = Some(reader.uint32()?),
                b"r" => posix.rdev = reader.uint()?,
                b"s" => posix.special = Some(Special::of(reader.uint()?)?),
                b"u" => posix.uid = reader.uint32()?,
                b"x" => posix.xattrs = read_xattrs(reader)?,
                other => return Err(unknown(other)),
            }
        }
        posix.mode = mode.ok_or(RecordError::Missing("mode"))?;
        posix.mtime = mtime.ok_or(RecordError::Missing("mtime"))?;
        posix.atime = atime.unwrap_or(posix.mtime);
        posix.ctime = ctime.unwrap_or(posix.mtime);
        posix.check()?;
        Ok(posix)
    }
}

fn read_xattrs(reader: &mut Reader<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, RecordError> {
    let mut xattrs = BTreeMap::new();
    for _ in 0..reader.array()? {
        reader.tuple(2, "an attribute")?;
        xattrs.insert(reader.bytes()?.to_vec(), reader.bytes()?.to_vec());
    }
    Ok(xattrs)
}
