//! The keys of the posix map: a letter for the kind, then numbers and names.
//!
//! Numbers are eight bytes, big-endian, so that what belongs to one node stands
//! together and a directory's names stand in the order of their bytes.

/// A dentry: `d`, the directory's number, the name.
const DENTRY: u8 = b'd';
/// A hard-linked node: `i`, its number.
const INODE: u8 = b'i';
/// Where a directory is: `p`, its number.
const PLACE: u8 = b'p';
/// What belongs to the tree as a whole: `s`, a name.
const STATE: u8 = b's';

/// A key, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// Holds a [`Dentry`](super::record::Dentry).
    Dentry {
        /// The directory's number.
        parent: u64,
        /// The name in it.
        name: &'a [u8],
    },
    /// Holds an [`Inode`](super::record::Inode): a node with several names.
    Inode {
        /// The node's number.
        node: u64,
    },
    /// Holds a [`Place`](super::record::Place): the way up from a directory.
    Place {
        /// The directory's number.
        node: u64,
    },
    /// Holds a [`Number`](super::record::Number) of the tree itself.
    State {
        /// What it is.
        name: &'a [u8],
    },
}

impl<'a> Key<'a> {
    /// Puts the key together.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, number, name) = match *self {
            Key::Dentry { parent, name } => (DENTRY, Some(parent), name),
            Key::Inode { node } => (INODE, Some(node), &[][..]),
            Key::Place { node } => (PLACE, Some(node), &[][..]),
            Key::State { name } => (STATE, None, name),
        };
        let mut key = Vec::with_capacity(9 + name.len());
        key.push(kind);
        if let Some(number) = number {
            key.extend(number.to_be_bytes());
        }
        key.extend_from_slice(name);
        key
    }

    /// Takes a key apart; `None` for one of a kind that is not known.
    pub fn decode(key: &'a [u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        if *kind == STATE {
            return Some(Key::State { name: rest });
        }
        let (number, name) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        match (*kind, name) {
            (DENTRY, [_, ..]) => Some(Key::Dentry {
                parent: number,
                name,
            }),
            (INODE, []) => Some(Key::Inode { node: number }),
            (PLACE, []) => Some(Key::Place { node: number }),
            _ => None,
        }
    }
}

/// The key of a directory's entry.
pub fn dentry(parent: u64, name: &[u8]) -> Vec<u8> {
    Key::Dentry { parent, name }.encode()
}

/// The range of a directory's entries: from the first to before the second.
pub fn dentries(parent: u64) -> (Vec<u8>, Vec<u8>) {
    let until = match parent.checked_add(1) {
        Some(next) => dentry(next, &[]),
        None => vec![DENTRY + 1],
    };
    (dentry(parent, &[]), until)
}

/// The key of a hard-linked node.
pub fn inode(node: u64) -> Vec<u8> {
    Key::Inode { node }.encode()
}

/// The key of a directory's place.
pub fn place(node: u64) -> Vec<u8> {
    Key::Place { node }.encode()
}

/// The key of something that belongs to the tree as a whole.
pub fn state(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    Key::State { name }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_bytes_that_the_documents_say() {
        assert_eq!(dentry(0x0102, b"a"), b"d\0\0\0\0\0\0\x01\x02a");
        assert_eq!(inode(u64::MAX), b"i\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(place(7), b"p\0\0\0\0\0\0\0\x07");
        assert_eq!(state("next"), b"snext");
    }

    #[test]
    fn keys_are_read_back_as_they_were_written() {
        let keys = [
            Key::Dentry {
                parent: 5,
                name: b"x\xff",
            },
            Key::Inode { node: 5 },
            Key::Place { node: u64::MAX },
            Key::State { name: b"next" },
        ];
        for key in keys {
            assert_eq!(Key::decode(&key.encode()), Some(key));
        }
        let no_keys: [&[u8]; 5] = [
            b"",
            b"d\0\0",
            b"d\0\0\0\0\0\0\0\0",
            b"x12345678",
            b"i123456789",
        ];
        for bytes in no_keys {
            assert_eq!(Key::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_range_of_a_directory_holds_its_entries_only() {
        for parent in [0, 255, 1 << 62, u64::MAX] {
            let (from, until) = dentries(parent);
            for name in [&b"\0"[..], &[0xff; 255]] {
                let key = dentry(parent, name);
                assert!(from <= key && key < until);
            }
            for other in [parent.wrapping_add(1), parent.wrapping_sub(1)] {
                let key = dentry(other, b"x");
                assert!(key < from || key >= until);
            }
            assert!(until <= inode(0));
        }
    }
}
