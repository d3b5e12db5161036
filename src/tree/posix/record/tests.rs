//! Records as bytes and back, and what is refused.

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(sec, nsec)| Time { sec, nsec })
}

fn special() -> impl Strategy<Value = Special> {
    use Special::{Block, Char, Fifo, Socket};
    prop_oneof![Just(Fifo), Just(Socket), Just(Char), Just(Block)]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 0..2000u32, any::<u32>()]
}

prop_compose! {
    fn posix()(
        mode in 0..=0o7777u32,
        uid in number(),
        gid in number(),
        mtime in time(),
        others in option::of((time(), time())),
        rdev in prop_oneof![Just(0), any::<u64>()],
        xattrs in btree_map(vec(any::<u8>(), 1..20), vec(any::<u8>(), 0..50), 0..4),
        special in option::of(special()),
        holes in vec((1..1u64 << 40, 1..1u64 << 40), 0..4),
    ) -> Posix {
        let (atime, ctime) = others.unwrap_or((mtime, mtime));
        let mut end = 0;
        let holes = holes.into_iter().map(|(distance, len)| {
            let start = end + distance;
            end = start + len;
            (start, len)
        });
        let holes = holes.collect();
        Posix { mode, uid, gid, atime, mtime, ctime, rdev, xattrs, special, holes }
    }
}

prop_compose! {
    fn dentry()(
        node in any::<u64>(),
        posix in option::of(posix()),
        tally in option::of((any::<u64>(), any::<u64>())),
    ) -> Dentry {
        Dentry {
            node,
            body: posix.map_or(DentryBody::Linked, DentryBody::Inline),
            tally: tally.map(|(entries, links_bytes)| Tally { entries, links_bytes, names_bytes: 9 }),
            directories: None,
        }
    }
}

fn links() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    vec((0..10u64, vec(b'a'..=255u8, 1..20)), 0..10)
}

/// Says that the value is dag-cbor as another library writes it.
fn assert_dag_cbor(bytes: &[u8]) {
    let value: ipld_core::ipld::Ipld = serde_ipld_dagcbor::from_slice(bytes).unwrap();
    assert_eq!(serde_ipld_dagcbor::to_vec(&value).unwrap(), bytes);
}

proptest! {
    #[test]
    fn dentries_are_read_back_as_they_were_written(dentry in dentry()) {
        let bytes = dentry.encode();
        assert_dag_cbor(&bytes);
        prop_assert_eq!(Dentry::decode(&bytes), Ok(dentry));
    }

    #[test]
    fn inodes_are_read_back_with_their_names_in_order(posix in posix(), mut links in links()) {
        let bytes = Inode { posix: posix.clone(), links: links.clone() }.encode();
        assert_dag_cbor(&bytes);
        links.sort();
        links.dedup();
        prop_assert_eq!(Inode::decode(&bytes), Ok(Inode { posix, links }));
    }

    #[test]
    fn damaged_records_are_refused_or_have_that_one_encoding(
        dentry in dentry(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = dentry.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = Dentry::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_decoded_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let refused = [
            Dentry::decode(&bytes).is_err(),
            Inode::decode(&bytes).is_err(),
            Place::decode(&bytes).is_err(),
            Number::decode(&bytes).is_err(),
        ];
        prop_assert!(refused.iter().filter(|r| **r).count() >= 3);
    }
}

/// A dentry of an ordinary file of root's.
fn plain() -> Dentry {
    let mtime = Time { sec: 1, nsec: 2 };
    let posix = Posix {
        mode: 0o644,
        atime: mtime,
        mtime,
        ctime: mtime,
        ..Posix::default()
    };
    Dentry {
        node: 5,
        body: DentryBody::Inline(posix),
        tally: None,
        directories: None,
    }
}

#[test]
fn a_record_has_the_bytes_that_the_documents_say() {
    let bytes = b"\x82\x01\xa2\x61b\xa2\x61m\x82\x01\x02\x61p\x19\x01\xa4\x61n\x05";
    assert_eq!(plain().encode(), bytes);
    let linked = Dentry {
        node: 5,
        body: DentryBody::Linked,
        tally: Some(Tally {
            entries: 3,
            links_bytes: 4,
            names_bytes: 5,
        }),
        directories: Some(7),
    };
    assert_eq!(
        linked.encode(),
        b"\x82\x01\xa3\x61d\x07\x61n\x05\x61t\x83\x03\x04\x05"
    );
    let place = Place {
        parent: 9,
        name: b"x".to_vec(),
    };
    assert_eq!(place.encode(), b"\x82\x01\xa2\x61n\x41x\x61p\x09");
    assert_eq!(Place::decode(&place.encode()), Ok(place));
    assert_eq!(Number(7).encode(), b"\x82\x01\xa1\x61n\x07");
    assert_eq!(Number::decode(&Number(7).encode()), Ok(Number(7)));
}

#[test]
fn a_record_takes_few_bytes() {
    let now = Time {
        sec: 1_700_000_000,
        nsec: 123_456_789,
    };
    let mut posix = Posix {
        mode: 0o644,
        atime: now,
        mtime: now,
        ctime: now,
        ..Posix::default()
    };
    let bytes = |posix: &Posix| {
        let body = DentryBody::Inline(posix.clone());
        let (node, tally) = (1 << 62, None);
        Dentry {
            node,
            body,
            tally,
            directories: None,
        }
        .encode()
        .len()
    };
    assert_eq!(bytes(&posix), 35);
    (posix.uid, posix.gid) = (1000, 1000);
    (posix.atime.sec, posix.ctime.sec) = (now.sec + 1, now.sec + 1);
    assert_eq!(bytes(&posix), 71);
}

#[test]
fn records_of_a_newer_program_are_refused_with_the_reason() {
    let mut newer = plain().encode();
    newer[1] = 2;
    assert_eq!(Dentry::decode(&newer), Err(RecordError::Version(2)));
    let more = b"\x82\x01\xa2\x61n\x05\x61z\x01";
    let unknown = RecordError::UnknownField("z".into());
    assert_eq!(Dentry::decode(more), Err(unknown));
    let special = b"\x82\x01\xa2\x61b\xa3\x61m\x82\x01\x02\x61p\x00\x61s\x05\x61n\x05";
    assert!(matches!(
        Dentry::decode(special),
        Err(RecordError::Range(_))
    ));
}

#[test]
fn another_encoding_of_the_same_is_refused() {
    let others: [&[u8]; 4] = [
        // A usual value written out.
        b"\x82\x01\xa2\x61b\xa3\x61m\x82\x01\x02\x61p\x00\x61u\x00\x61n\x05",
        // Fields in another order.
        b"\x82\x01\xa2\x61t\x83\x03\x04\x05\x61n\x05",
        // A field twice.
        b"\x82\x01\xa2\x61n\x04\x61n\x05",
        // Three items where two belong.
        b"\x83\x01\xa1\x61n\x05\x00",
    ];
    for bytes in others {
        assert_eq!(
            Dentry::decode(bytes),
            Err(RecordError::NotCanonical),
            "{bytes:?}"
        );
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let posix = |change: fn(&mut Posix)| {
        let mut posix = Posix::default();
        change(&mut posix);
        let checked = posix.check();
        let (body, tally) = (DentryBody::Inline(posix), None);
        let bytes = Dentry {
            node: 1,
            body,
            tally,
            directories: None,
        }
        .encode();
        assert_eq!(Dentry::decode(&bytes).map(drop), checked);
        checked
    };
    assert_eq!(posix(|p| p.mode = 0o7777), Ok(()));
    assert_eq!(posix(|p| p.mode = 0o10000), Err(RecordError::Range("mode")));
    let late = posix(|p| p.ctime.nsec = 1_000_000_000);
    assert_eq!(late, Err(RecordError::Range("nanoseconds")));
    let nameless = posix(|p| drop(p.xattrs.insert(Vec::new(), Vec::new())));
    assert_eq!(
        nameless,
        Err(RecordError::Range("the name of an attribute"))
    );
    let longest = posix(|p| drop(p.xattrs.insert(b"user.x".to_vec(), vec![0; 64 << 10])));
    assert_eq!(longest, Ok(()));
    let more = posix(|p| drop(p.xattrs.insert(b"user.x".to_vec(), vec![0; 80 << 10])));
    assert_eq!(more, Err(RecordError::TooLarge("extended attributes")));
}

#[test]
fn names_that_no_directory_has_are_refused() {
    let decoded = |name: &[u8]| {
        let name = name.to_vec();
        let place = Place { parent: 1, name };
        let inode = Inode {
            posix: Posix::default(),
            links: vec![(1, place.name.clone())],
        };
        let (place, inode) = (
            Place::decode(&place.encode()),
            Inode::decode(&inode.encode()),
        );
        assert_eq!(place.is_ok(), inode.is_ok());
        place.map(drop)
    };
    let bad: [&[u8]; 6] = [b"", b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]];
    for name in bad {
        assert_eq!(decoded(name), Err(RecordError::Range("a name")), "{name:?}");
    }
    let good: [&[u8]; 4] = [b"...", b"\xff", b"a b", &[b'x'; 255]];
    for name in good {
        assert_eq!(decoded(name), Ok(()), "{name:?}");
    }
}

#[test]
fn the_fullest_record_that_passes_its_check_fits_into_the_map() {
    let xattr = |k: u32| (k.to_be_bytes().to_vec(), vec![0; 4]);
    let link = |k: u32| {
        (
            u64::MAX,
            vec![0x80 + (k / 100) as u8, 0x80 + (k % 100) as u8],
        )
    };
    let mut inode = Inode {
        posix: Posix {
            mode: 0o7777,
            uid: u32::MAX,
            gid: u32::MAX,
            atime: Time {
                sec: i64::MIN,
                nsec: 999_999_999,
            },
            mtime: Time {
                sec: i64::MAX,
                nsec: 999_999_999,
            },
            ctime: Time {
                sec: i64::MIN,
                nsec: 999_999_998,
            },
            rdev: u64::MAX,
            xattrs: (0..3413).map(xattr).collect(),
            special: Some(Special::Block),
            holes: (0..20_000).map(|k| (k << 33, 1 << 32)).collect(),
        },
        links: (0..2275).map(link).collect(),
    };
    assert_eq!(inode.check(), Ok(()));
    let names = inode.links_bytes();
    inode.posix.fit_holes(names);
    assert!(inode.posix.holes.len() > 400);
    let bytes = inode.encode();
    assert!(bytes.len() <= POSIX_VALUE_BYTES_MAX, "{}", bytes.len());
    assert_eq!(Inode::decode(&bytes), Ok(inode.clone()));
    inode.links.push(link(2275));
    assert_eq!(
        inode.check(),
        Err(RecordError::TooLarge("names of one node"))
    );
    assert_eq!(
        Inode::decode(&inode.encode()),
        Err(RecordError::TooLarge("names of one node"))
    );
}
