//! A shard that decodes holds only slots below its fanout, and a look-up in
//! it ends at every depth.
#![no_main]

use bytes::Bytes;
use cidfs::unixfs::dag_pb::PbNode;
use cidfs::unixfs::data::{Kind, UnixFs};
use cidfs::unixfs::hamt::{MURMUR3_X64_64, Shard};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u16, Vec<u8>, &[u8], u64)| {
    let (fanout, field, node, hash) = data;
    let Ok(node) = PbNode::decode(&Bytes::copy_from_slice(node)) else {
        return;
    };
    let message = UnixFs {
        fanout: Some(u64::from(fanout)),
        hash_type: Some(MURMUR3_X64_64),
        data: Some(field.into()),
        ..UnixFs::new(Kind::HamtShard)
    };
    if let Ok(shard) = Shard::decode(node.links, &message) {
        assert!(shard.slots().count() <= usize::from(fanout));
        for depth in 0..70 {
            let found = shard.find(hash, depth);
            assert!(
                depth < 22 || found.is_none(),
                "a 64-bit hash has no more bits"
            );
        }
    }
});
