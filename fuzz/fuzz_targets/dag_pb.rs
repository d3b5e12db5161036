//! A dag-pb node that decodes, encodes to what decodes to itself.
#![no_main]

use bytes::Bytes;
use cidfs::unixfs::dag_pb::PbNode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(node) = PbNode::decode(&Bytes::copy_from_slice(data)) {
        let encoded = node.encode();
        assert_eq!(encoded.len(), node.encoded_len());
        assert_eq!(
            PbNode::decode(&encoded).expect("what was encoded decodes"),
            node
        );
    }
});
