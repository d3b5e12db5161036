//! Every change survives its encoding, and nothing else is taken for one.

use super::*;
use crate::block::{Block, RAW, SHA2_256};
use crate::tree::mfs::calls::content;

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
fn changes_that_end_where_no_file_can_are_refused() {
    let time = Time { sec: 0, nsec: 0 };
    let stamp = Stamp { time, mode: None };
    let node = NodeId::counted(7);
    let cid = *Block::seal(RAW, SHA2_256, "x".into()).unwrap().cid();
    let hole = |len| Extent {
        len,
        data: Data::Hole,
    };
    let far = i64::MAX as u64;
    let changes = |offset: u64| {
        let what = Allocate::Punch;
        let (bytes, blocks) = (Bytes::from("bytes"), vec![(cid, 5)]);
        let (len, ranges) = (5, vec![hole(2), hole(3)]);
        #[rustfmt::skip]
        let all = [
            Op::Write { node, offset, stamp, bytes },
            Op::WriteBlocks { node, offset, stamp, blocks },
            Op::Resize { node, size: offset + 5, stamp },
            Op::Allocate { node, what, offset, len, stamp },
            Op::Share { node, offset, stamp, ranges },
        ];
        all
    };
    let more = |offset, len, ranges| {
        let what = Allocate::Punch;
        #[rustfmt::skip]
        let all = [
            Op::Allocate { node, what, offset, len, stamp },
            Op::Share { node, offset, stamp, ranges },
        ];
        all
    };
    let decoded = |op: Op| {
        let (path, to) = (Vec::new(), Vec::new());
        let logged = Logged { path, to, op };
        Logged::decode(logged.kind(), &logged.encode().into())
    };
    for op in changes(far - 5) {
        decoded(op).unwrap();
    }
    let two = vec![hole(u64::MAX), hole(u64::MAX)];
    for op in changes(far - 4).into_iter().chain(more(7, u64::MAX, two)) {
        let told = decoded(op.clone());
        assert!(told.is_err(), "{op:?}");
    }
}

/// A segment with a frame for each of them.
fn segment() -> Vec<u8> {
    use crate::journal::{FrameHead, Place, SegmentHead, Seq, TxId, encode, encode_head};
    let head = SegmentHead {
        first: Seq(1),
        begun_ns: 0,
        durable: Seq(0),
    };
    let mut out = encode_head(&head).to_vec();
    for (op, seq) in all().into_iter().zip(1..) {
        let logged = Logged {
            path: b"/a/b".to_vec(),
            to: b"/c".to_vec(),
            op,
        };
        let head = FrameHead {
            seq: Seq(seq),
            tx: TxId(0),
            kind: logged.kind(),
            time_ns: 0,
            durable: Seq(0),
        };
        let (payload, offset) = (logged.encode(), out.len() as u64);
        let segment = Seq(1);
        out.extend(encode(&head, &payload, Place { segment, offset }));
        out.extend(payload);
    }
    out
}

#[test]
fn changes_are_encoded_as_in_the_fixture_of_their_version() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = root.join("tests/fixtures/journal/v1/changes");
    let path = dir.join("00000000000000000001.seg");
    if std::env::var_os("CIDFS_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(&path, segment()).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == segment());
    let disk = std::sync::Arc::new(crate::disk::RealDisk);
    let frames = crate::journal::Reader::open(&dir, disk).frames(crate::journal::Seq(1));
    let frames: Vec<_> = frames.unwrap().map(Result::unwrap).collect();
    let decoded = |frame: &crate::journal::Frame| {
        let logged = Logged::decode(frame.head.kind, &frame.payload);
        logged.unwrap().op
    };
    assert_eq!(frames.iter().map(decoded).collect::<Vec<_>>(), all());
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
    let groups = content::framed(&ranges);
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
