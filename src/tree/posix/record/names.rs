//! Names, and the nodes that they lead to.

use super::{Fields, ITEM_BYTES, Posix, RecordError, canonical, name, opened, unknown};
use crate::config::POSIX_LINKS_BYTES_MAX;
use crate::tree::posix::cbor::Reader;

/// How a directory's UnixFS form is counted, so that it need not be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Its entries.
    pub entries: u64,
    /// What they add up to where a basic directory's size is estimated.
    pub links_bytes: u64,
    /// Bytes of their names and CIDs, the other way to estimate it.
    pub names_bytes: u64,
}

/// Where a dentry's attributes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DentryBody {
    /// Here: the node has this name only.
    Inline(Posix),
    /// In the [`Inode`] under the node's number.
    Linked,
}

/// What is known of one name in a directory. Under `Key::Dentry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dentry {
    /// The node's number.
    pub node: u64,
    /// Its attributes.
    pub body: DentryBody,
    /// Of a directory.
    pub tally: Option<Tally>,
    /// Of a directory: how many of its entries are directories, where it is known.
    pub directories: Option<u64>,
}

impl Dentry {
    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        if let DentryBody::Inline(posix) = &self.body {
            posix.write(fields.field("b"));
        }
        if let Some(directories) = self.directories {
            fields.field("d").uint(directories);
        }
        fields.field("n").uint(self.node);
        if let Some(tally) = self.tally {
            let writer = fields.field("t");
            writer.array(3);
            writer.uint(tally.entries);
            writer.uint(tally.links_bytes);
            writer.uint(tally.names_bytes);
        }
        fields.record()
    }

    /// Decodes and checks a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = opened(bytes)?;
        let (mut posix, mut node, mut tally, mut directories) = (None, None, None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"b" => posix = Some(Posix::read(&mut reader)?),
                b"d" => directories = Some(reader.uint()?),
                b"n" => node = Some(reader.uint()?),
                b"t" => {
                    reader.tuple(3, "a tally")?;
                    tally = Some(Tally {
                        entries: reader.uint()?,
                        links_bytes: reader.uint()?,
                        names_bytes: reader.uint()?,
                    });
                }
                other => return Err(unknown(other)),
            }
        }
        reader.end()?;
        let dentry = Self {
            node: node.ok_or(RecordError::Missing("a node number"))?,
            body: posix.map_or(DentryBody::Linked, DentryBody::Inline),
            tally,
            directories,
        };
        canonical(dentry, Self::encode, bytes)
    }
}

/// A node with several names. Under `Key::Inode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its attributes.
    pub posix: Posix,
    /// Its names, each with the number of its directory. Encoded in order, each
    /// once.
    pub links: Vec<(u64, Vec<u8>)>,
}

impl Inode {
    /// What the names count against [`POSIX_LINKS_BYTES_MAX`].
    pub fn links_bytes(&self) -> usize {
        let bytes = |(_, name): &(u64, Vec<u8>)| name.len() + ITEM_BYTES;
        self.links.iter().map(bytes).sum()
    }

    /// Says whether it can be kept; what is changed must be asked before.
    pub fn check(&self) -> Result<(), RecordError> {
        if self.links_bytes() > POSIX_LINKS_BYTES_MAX {
            return Err(RecordError::TooLarge("names of one node"));
        }
        self.posix.check()
    }

    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut links: Vec<_> = self.links.iter().collect();
        links.sort_unstable();
        links.dedup();
        let mut fields = Fields::default();
        let writer = fields.field("l");
        writer.array(links.len());
        for (parent, name) in links {
            writer.array(2);
            writer.uint(*parent);
            writer.bytes(name);
        }
        self.posix.write(fields.field("p"));
        fields.record()
    }

    /// Decodes and checks a record; the names are in order.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = opened(bytes)?;
        let (mut posix, mut links) = (None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"l" => links = Some(read_links(&mut reader)?),
                b"p" => posix = Some(Posix::read(&mut reader)?),
                other => return Err(unknown(other)),
            }
        }
        reader.end()?;
        let inode = Self {
            posix: posix.ok_or(RecordError::Missing("attributes"))?,
            links: links.ok_or(RecordError::Missing("names"))?,
        };
        inode.check()?;
        canonical(inode, Self::encode, bytes)
    }
}

fn read_links(reader: &mut Reader<'_>) -> Result<Vec<(u64, Vec<u8>)>, RecordError> {
    let mut links = Vec::new();
    for _ in 0..reader.array()? {
        reader.tuple(2, "a name")?;
        links.push((reader.uint()?, name(reader)?));
    }
    Ok(links)
}

/// Where a directory is: its one name. Under `Key::Place`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The number of the directory above.
    pub parent: u64,
    /// Its name there.
    pub name: Vec<u8>,
}

impl Place {
    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.field("n").bytes(&self.name);
        fields.field("p").uint(self.parent);
        fields.record()
    }

    /// Decodes and checks a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = opened(bytes)?;
        let (mut parent, mut found) = (None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"n" => found = Some(name(&mut reader)?),
                b"p" => parent = Some(reader.uint()?),
                other => return Err(unknown(other)),
            }
        }
        reader.end()?;
        let place = Self {
            parent: parent.ok_or(RecordError::Missing("the directory above"))?,
            name: found.ok_or(RecordError::Missing("a name"))?,
        };
        canonical(place, Self::encode, bytes)
    }
}

/// A number of the tree itself, as the next free one. Under `Key::State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub u64);

impl Number {
    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.field("n").uint(self.0);
        fields.record()
    }

    /// Decodes and checks a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = opened(bytes)?;
        let mut number = None;
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"n" => number = Some(reader.uint()?),
                other => return Err(unknown(other)),
            }
        }
        reader.end()?;
        let number = Self(number.ok_or(RecordError::Missing("a number"))?);
        canonical(number, Self::encode, bytes)
    }
}
