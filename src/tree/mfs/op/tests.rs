//! Every change survives its encoding, and nothing else is taken for one.

use super::*;
use crate::block::{Block, RAW, SHA2_256};

#[expect(clippy::too_many_lines, reason = "one of each change")]
fn all() -> Vec<Op> {
    let (node, parent, name): (_, _, Name) = (NodeId::counted(7), NodeId::ROOT, b"n\xff".into());
    let time = Time {
        sec: -3,
        nsec: 999_999_999,
    };
    let stamp = Stamp {
        time,
        mode: Some(0o755),
    };
    let cid = *Block::seal(RAW, SHA2_256, "x".into()).unwrap().cid();
    let make = |new| {
        let xattrs = vec![(Name::from(b"user.a"), Bytes::from("v"))];
        let (parent, name) = (parent, name.clone());
        Op::Make(Make {
            parent,
            name,
            node,
            new,
            mode: 0o4755,
            uid: 1,
            gid: 2,
            time,
            xattrs,
        })
    };
    let entry = || (parent, name.clone());
    let ranges = vec![
        Extent {
            len: 5,
            data: Data::Hole,
        },
        Extent {
            len: 6,
            data: Data::Shared {
                cid: (&cid).into(),
                offset: 9,
            },
        },
        Extent {
            len: 2,
            data: Data::Bytes(std::sync::Arc::new(b"ab".to_vec())),
        },
    ];
    vec![
        make(New::File),
        make(New::Directory),
        make(New::Symlink("target".into())),
        make(New::Fifo),
        make(New::Socket),
        make(New::CharDevice(259)),
        make(New::BlockDevice(5)),
        Op::Link {
            node,
            parent,
            name: name.clone(),
            time,
        },
        Op::Unlink {
            parent,
            name: name.clone(),
            time,
        },
        Op::Rmdir {
            parent,
            name: name.clone(),
            time,
        },
        Op::Rename {
            from: entry(),
            to: entry(),
            mode: RenameMode::Exchange,
            time,
        },
        Op::Write {
            node,
            offset: 9,
            stamp,
            bytes: "bytes".into(),
        },
        Op::WriteBlocks {
            node,
            offset: 1 << 20,
            stamp,
            blocks: vec![(cid, 77)],
        },
        Op::Resize {
            node,
            size: 3,
            stamp,
        },
        Op::Allocate {
            node,
            what: Allocate::Zero { keep_size: true },
            offset: 1,
            len: 2,
            stamp,
        },
        Op::Share {
            node,
            offset: 0,
            stamp,
            ranges,
        },
        Op::Attr(Attr {
            node,
            mode: Some(1),
            uid: None,
            gid: Some(3),
            atime: Some(time),
            mtime: None,
            ctime: time,
            acl: Some("acl".into()),
        }),
        Op::SetXattr {
            node,
            name: name.clone(),
            value: "v".into(),
            mode: None,
            time,
        },
        Op::RemoveXattr {
            node,
            name: name.clone(),
            time,
        },
        Op::Mount(Mount {
            parent,
            name: name.clone(),
            node,
            cid,
            kind: NodeKind::File,
            size: 1,
            tsize: 2,
            target: Bytes::new(),
            mode: 0o644,
            uid: 3,
            gid: 4,
            mtime: time,
            time,
        }),
        Op::Unmount {
            parent,
            name: name.clone(),
            time,
        },
        Op::Checkpoint {
            commit: cid,
            through: 5,
        },
        Op::Begin,
        Op::Commit,
        Op::Rollback,
        Op::Failed {
            why: "conflict".into(),
        },
        Op::Synced,
    ]
}

#[test]
fn every_change_survives_its_encoding() {
    for op in all() {
        let logged = Logged {
            path: b"/a/b".to_vec(),
            to: b"/c".to_vec(),
            op,
        };
        let payload = Bytes::from(logged.encode());
        assert_eq!(Logged::decode(logged.kind(), &payload), Ok(logged));
    }
}

#[test]
fn cut_or_longer_payloads_are_refused_and_nothing_panics() {
    for op in all() {
        let logged = Logged {
            path: vec![],
            to: vec![],
            op,
        };
        let payload = Bytes::from(logged.encode());
        for end in 0..payload.len() {
            assert!(Logged::decode(logged.kind(), &payload.slice(..end)).is_err());
        }
        let longer = Bytes::from([&payload[..], b"x"].concat());
        assert!(Logged::decode(logged.kind(), &longer).is_err());
    }
}

#[test]
fn what_ranges_take_in_an_entry_is_counted_to_the_byte() {
    const SHA2_512: u64 = 0x13;
    let mut ranges = Vec::new();
    for index in 0..9000_u64 {
        let bytes = Bytes::from(index.to_string());
        let cid = *Block::seal(RAW, SHA2_512, bytes).unwrap().cid();
        let data = Data::Shared {
            cid: (&cid).into(),
            offset: index,
        };
        ranges.push(Extent { len: 1, data });
        if index % 3000 == 0 {
            let data = Data::Bytes(std::sync::Arc::new(vec![1; 900 << 10]));
            ranges.push(Extent {
                len: 900 << 10,
                data,
            });
        }
        let data = Data::Hole;
        ranges.push(Extent { len: 2, data });
    }
    let groups = super::super::content::framed(&ranges);
    assert!(groups.len() < 12, "{}", groups.len());
    let mut len = 0;
    for group in groups {
        let mut out = Writer::with_room(0);
        group.iter().for_each(|range| write_range(&mut out, range));
        let counted: usize = group.iter().map(range_bytes).sum();
        assert_eq!(out.finish().len(), counted);
        assert!(counted <= crate::config::SHARED_BYTES_MAX);
        len += group.iter().map(|range| range.len).sum::<u64>();
    }
    assert_eq!(len, ranges.iter().map(|range| range.len).sum::<u64>());
}
