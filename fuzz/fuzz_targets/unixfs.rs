//! A UnixFS message that decodes, encodes to what decodes to itself; and a
//! whole node is decoded or refused.
#![no_main]

use bytes::Bytes;
use cidfs::unixfs::data::UnixFs;
use cidfs::unixfs::node::{Body, Node};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(message) = UnixFs::decode(&bytes) {
        let again = UnixFs::decode(&message.encode()).expect("what was encoded decodes");
        assert_eq!(again, message);
    }
    if let Ok(Node {
        body: Body::File(file),
        ..
    }) = Node::decode(&bytes)
    {
        let mut end = file.inline.len() as u64;
        for part in &file.parts {
            assert!(part.end >= end, "parts are in order");
            end = part.end;
        }
        assert_eq!(end, file.size);
    }
});
