//! POSIX access control lists, as Linux keeps them in extended attributes.
//!
//! `system.posix_acl_access` and `system.posix_acl_default`: a header of four
//! bytes (version 2), then eight bytes for each entry: tag, permissions, id,
//! little-endian. What is accepted, and how a list and a mode change each
//! other, is as in the kernel's `fs/posix_acl.c` and posix_acl(5). Pure.

/// Name of the attribute that says who may access.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// Name of the attribute of a directory that new entries inherit.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
/// Longest value of an attribute on Linux. A longer list is refused.
const BYTES_MAX: usize = 64 << 10;
/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

/// Why bytes are not a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// The version is not 2 (EOPNOTSUPP).
    #[error("access control list of version {0}")]
    Version(u32),
    /// The kernel would not take it (EINVAL).
    #[error("access control list {0}")]
    Invalid(&'static str),
}

/// Whom an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The owner.
    UserObj,
    /// A user by id.
    User(u32),
    /// The owning group.
    GroupObj,
    /// A group by id.
    Group(u32),
    /// The most that users and groups by id and the owning group get.
    Mask,
    /// Everybody else.
    Other,
}

impl Tag {
    fn decode(tag: u16, id: u32) -> Result<Self, AclError> {
        match tag {
            0x01 => Ok(Self::UserObj),
            0x02 if id != NO_ID => Ok(Self::User(id)),
            0x04 => Ok(Self::GroupObj),
            0x08 if id != NO_ID => Ok(Self::Group(id)),
            0x10 => Ok(Self::Mask),
            0x20 => Ok(Self::Other),
            0x02 | 0x08 => Err(AclError::Invalid("names nobody")),
            _ => Err(AclError::Invalid("has an unknown tag")),
        }
    }

    fn encode(self) -> (u16, u32) {
        match self {
            Self::UserObj => (0x01, NO_ID),
            Self::User(id) => (0x02, id),
            Self::GroupObj => (0x04, NO_ID),
            Self::Group(id) => (0x08, id),
            Self::Mask => (0x10, NO_ID),
            Self::Other => (0x20, NO_ID),
        }
    }
}

/// One entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AclEntry {
    /// Whom it is about.
    pub tag: Tag,
    /// 4 to read, 2 to write, 1 to execute or search.
    pub perm: u8,
}

/// A valid list: owner, users, owning group, groups, mask, others; the mask is
/// there if users or groups are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acl {
    entries: Vec<AclEntry>,
}

/// What a new node gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its mode.
    pub mode: u32,
    /// Its list, where the mode does not say it all.
    pub access: Option<Acl>,
    /// What its own entries inherit, if it is a directory.
    pub default: Option<Acl>,
}

impl Acl {
    /// Checks entries as the kernel does.
    pub fn new(entries: Vec<AclEntry>) -> Result<Self, AclError> {
        validate(&entries)?;
        Ok(Self { entries })
    }

    /// The list that says what a mode says.
    pub fn of_mode(mode: u32) -> Self {
        let tags = [(Tag::UserObj, 6), (Tag::GroupObj, 3), (Tag::Other, 0)];
        let entries = tags.map(|(tag, shift)| AclEntry {
            tag,
            perm: bits(mode, shift),
        });
        Self {
            entries: entries.to_vec(),
        }
    }

    /// The entries in their order.
    pub fn entries(&self) -> &[AclEntry] {
        &self.entries
    }

    /// Decodes the value of an attribute; `None` for one without entries, which
    /// removes the list.
    pub fn decode(value: &[u8]) -> Result<Option<Self>, AclError> {
        if value.len() > BYTES_MAX {
            return Err(AclError::Invalid("is too long"));
        }
        let cut_off = AclError::Invalid("is cut off");
        let (version, rest) = value
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(cut_off.clone())?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(AclError::Version(version));
        }
        let (chunks, []) = rest.as_chunks::<ENTRY_BYTES>() else {
            return Err(cut_off);
        };
        if chunks.is_empty() {
            return Ok(None);
        }
        let entries: Result<_, _> = chunks.iter().map(decode_entry).collect();
        Self::new(entries?).map(Some)
    }

    /// Encodes the list as the value of an attribute.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES);
        value.extend(VERSION.to_le_bytes());
        for entry in &self.entries {
            let (tag, id) = entry.tag.encode();
            value.extend(tag.to_le_bytes());
            value.extend(u16::from(entry.perm).to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    /// The nine bits that say the same, if nine bits can. Such a list is not
    /// kept: setting it is a change of mode.
    pub fn equivalent_mode(&self) -> Option<u32> {
        let minimal = self.entries.len() == 3;
        minimal.then(|| self.mode_of())
    }

    /// The nine bits of a file with this list: for the group those of the mask,
    /// or of the owning group where there is none.
    pub fn mode_of(&self) -> u32 {
        let perm = |wanted| self.perm(wanted).map(u32::from);
        let group = perm(Tag::Mask).or(perm(Tag::GroupObj)).unwrap_or(0);
        let owner = perm(Tag::UserObj).unwrap_or(0);
        owner << 6 | group << 3 | perm(Tag::Other).unwrap_or(0)
    }

    /// The list after the mode was changed: owner, mask or else owning group,
    /// and others are those of the mode.
    #[must_use]
    pub fn chmod(&self, mode: u32) -> Self {
        let group = self.group_class();
        let entry = |entry: &AclEntry| AclEntry {
            perm: match entry.tag {
                Tag::UserObj => bits(mode, 6),
                Tag::Other => bits(mode, 0),
                tag if tag == group => bits(mode, 3),
                Tag::User(_) | Tag::GroupObj | Tag::Group(_) | Tag::Mask => entry.perm,
            },
            ..*entry
        };
        Self {
            entries: self.entries.iter().map(entry).collect(),
        }
    }

    fn perm(&self, wanted: Tag) -> Option<u8> {
        let found = self.entries.iter().find(|entry| entry.tag == wanted);
        found.map(|entry| entry.perm)
    }

    /// The entry that the mode's group bits stand for.
    fn group_class(&self) -> Tag {
        match self.perm(Tag::Mask) {
            Some(_) => Tag::Mask,
            None => Tag::GroupObj,
        }
    }
}

/// Gives what a new node gets where its directory has `default`.
///
/// With a list the umask is not used: the bits that `mode` asks for and those
/// of the list are met. Not for symbolic links, which have no list. Bits of
/// `mode` above the nine stay.
pub fn create(default: Option<&Acl>, mode: u32, umask: u32, directory: bool) -> Created {
    let Some(default) = default else {
        return Created {
            mode: mode & !(umask & 0o777),
            access: None,
            default: None,
        };
    };
    let met = mode & default.mode_of();
    let access = default.chmod(met);
    Created {
        mode: mode & !0o777 | met,
        access: access.equivalent_mode().is_none().then_some(access),
        default: directory.then(|| default.clone()),
    }
}

/// Three bits of a mode.
fn bits(mode: u32, shift: u32) -> u8 {
    (mode >> shift & 7) as u8
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> Result<AclEntry, AclError> {
    let [t0, t1, p0, p1, id @ ..] = *bytes;
    let tag = Tag::decode(u16::from_le_bytes([t0, t1]), u32::from_le_bytes(id))?;
    let perm = u8::try_from(u16::from_le_bytes([p0, p1]));
    let perm = perm.map_err(|_| AclError::Invalid("has unknown permissions"))?;
    Ok(AclEntry { tag, perm })
}

/// What may come next in a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    UserObj,
    Users,
    Groups,
    Other,
    End,
}

fn validate(entries: &[AclEntry]) -> Result<(), AclError> {
    let mut expects = Expects::UserObj;
    let mut needs_mask = false;
    for entry in entries {
        if entry.perm > 7 {
            return Err(AclError::Invalid("has unknown permissions"));
        }
        expects = match (entry.tag, expects) {
            (Tag::UserObj, Expects::UserObj) => Expects::Users,
            (Tag::User(_), Expects::Users) => {
                needs_mask = true;
                Expects::Users
            }
            (Tag::GroupObj, Expects::Users) => Expects::Groups,
            (Tag::Group(_), Expects::Groups) => {
                needs_mask = true;
                Expects::Groups
            }
            (Tag::Mask, Expects::Groups) => Expects::Other,
            (Tag::Other, Expects::Other) => Expects::End,
            (Tag::Other, Expects::Groups) if !needs_mask => Expects::End,
            (Tag::Other, Expects::Groups) => return Err(AclError::Invalid("has no mask")),
            _ => return Err(AclError::Invalid("is out of order or names one twice")),
        };
    }
    if expects != Expects::End {
        return Err(AclError::Invalid("is not complete"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Tag::{Group, GroupObj, Mask, Other, User, UserObj};

    fn acl(entries: &[(Tag, u8)]) -> Acl {
        new(entries).unwrap()
    }

    fn new(entries: &[(Tag, u8)]) -> Result<Acl, AclError> {
        let entry = |(tag, perm): &(Tag, u8)| AclEntry {
            tag: *tag,
            perm: *perm,
        };
        Acl::new(entries.iter().map(entry).collect())
    }

    /// rwx for the owner, rwx for one user, r-x for the group, mask, others r.
    fn extended(mask: u8) -> Acl {
        acl(&[
            (UserObj, 7),
            (User(1000), 7),
            (GroupObj, 5),
            (Mask, mask),
            (Other, 4),
        ])
    }

    #[test]
    fn a_list_has_the_bytes_that_setfacl_writes() {
        // setfacl -m u:1000:rwx on a file of mode 0654, as getfattr shows it.
        let bytes = [
            "02000000",
            "01000600ffffffff",
            "02000700e8030000",
            "04000500ffffffff",
            "10000700ffffffff",
            "20000400ffffffff",
        ];
        let hex = bytes.concat();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let value: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let expected = acl(&[
            (UserObj, 6),
            (User(1000), 7),
            (GroupObj, 5),
            (Mask, 7),
            (Other, 4),
        ]);
        assert_eq!(Acl::decode(&value), Ok(Some(expected.clone())));
        assert_eq!(expected.encode(), value);
    }

    #[test]
    fn values_that_the_kernel_refuses_are_refused() {
        let good = extended(7).encode();
        let invalid = |value: &[u8]| matches!(Acl::decode(value), Err(AclError::Invalid(_)));
        for len in (0..good.len()).filter(|len| *len != 4) {
            assert!(invalid(&good[..len]), "{len}");
        }
        assert_eq!(Acl::decode(&good[..4]), Ok(None));
        assert_eq!(Acl::decode(&[1, 0, 0, 0]), Err(AclError::Version(1)));
        for (at, byte) in [(4, 3), (6, 8), (7, 1), (12, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(invalid(&bad), "byte {at}");
        }
        let mut nobody = good.clone();
        nobody[16..20].fill(0xff);
        assert!(invalid(&nobody));
        // The kernel does not look at the id of an entry that has none.
        let mut odd = good.clone();
        odd[8..12].fill(0);
        assert_eq!(Acl::decode(&odd), Ok(Some(extended(7))));
        let many = [&good[..20], &good[12..20].repeat(8192), &good[20..]].concat();
        assert!(invalid(&many));
    }

    #[test]
    fn the_order_and_number_of_entries_are_checked() {
        let bad: [&[(Tag, u8)]; 10] = [
            &[],
            &[(UserObj, 7)],
            &[(UserObj, 7), (GroupObj, 7)],
            &[(UserObj, 7), (Other, 7)],
            &[(GroupObj, 7), (UserObj, 7), (Other, 7)],
            &[(UserObj, 7), (UserObj, 7), (GroupObj, 7), (Other, 7)],
            &[(UserObj, 7), (User(1), 7), (GroupObj, 7), (Other, 7)],
            &[(UserObj, 7), (GroupObj, 7), (Group(1), 7), (Other, 7)],
            &[
                (UserObj, 7),
                (GroupObj, 7),
                (User(1), 7),
                (Mask, 7),
                (Other, 7),
            ],
            &[(UserObj, 7), (GroupObj, 7), (Other, 7), (Other, 7)],
        ];
        for entries in bad {
            assert!(new(entries).is_err(), "{entries:?}");
        }
        assert!(new(&[(UserObj, 8), (GroupObj, 0), (Other, 0)]).is_err());
        assert!(new(&[(UserObj, 7), (GroupObj, 0), (Mask, 0), (Other, 0)]).is_ok());
    }

    #[test]
    fn only_a_list_of_three_entries_is_a_mode() {
        let minimal = acl(&[(UserObj, 6), (GroupObj, 4), (Other, 0)]);
        assert_eq!(minimal.equivalent_mode(), Some(0o640));
        assert_eq!(Acl::of_mode(0o104640), minimal);
        let masked = acl(&[(UserObj, 6), (GroupObj, 4), (Mask, 4), (Other, 0)]);
        assert_eq!(masked.equivalent_mode(), None);
        assert_eq!(extended(7).equivalent_mode(), None);
    }

    #[test]
    fn the_group_bits_of_the_mode_are_the_mask_where_there_is_one() {
        assert_eq!(extended(2).mode_of(), 0o724);
        assert_eq!(Acl::of_mode(0o751).mode_of(), 0o751);
    }

    #[test]
    fn chmod_changes_the_mask_and_not_the_owning_group() {
        let changed = extended(7).chmod(0o100_620);
        let expected = [
            (UserObj, 6),
            (User(1000), 7),
            (GroupObj, 5),
            (Mask, 2),
            (Other, 0),
        ];
        assert_eq!(changed, acl(&expected));
        assert_eq!(changed.mode_of(), 0o620);
        assert_eq!(Acl::of_mode(0o777).chmod(0o640), Acl::of_mode(0o640));
    }

    #[test]
    fn without_a_default_list_the_umask_counts() {
        let created = create(None, 0o2777, 0o27, true);
        assert_eq!(
            (created.mode, created.access, created.default),
            (0o2750, None, None)
        );
    }

    #[test]
    fn with_a_default_list_the_umask_does_not_count() {
        let default = extended(7);
        let file = create(Some(&default), 0o666, 0o777, false);
        assert_eq!(file.mode, 0o664);
        let access = [
            (UserObj, 6),
            (User(1000), 7),
            (GroupObj, 5),
            (Mask, 6),
            (Other, 4),
        ];
        assert_eq!(file.access, Some(acl(&access)));
        assert_eq!(file.default, None);
        let dir = create(Some(&default), 0o3777, 0, true);
        assert_eq!(dir.mode, 0o3774);
        assert_eq!(dir.access, Some(default.clone()));
        assert_eq!(dir.default, Some(default));
    }

    #[test]
    fn a_minimal_default_list_leaves_a_mode_only() {
        let default = Acl::of_mode(0o750);
        let dir = create(Some(&default), 0o777, 0o77, true);
        assert_eq!((dir.mode, dir.access), (0o750, None));
        assert_eq!(dir.default, Some(default));
    }
}
