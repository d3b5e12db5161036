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
