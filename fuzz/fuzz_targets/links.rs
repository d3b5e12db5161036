//! The links of a block of any codec: found or refused, never a panic.
#![no_main]

use bytes::Bytes;
use cidfs::block::{Block, DAG_CBOR, DAG_JSON, DAG_PB, SHA2_256};
use cidfs::unixfs::links::links;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for codec in [DAG_PB, DAG_CBOR, DAG_JSON] {
        if let Ok(block) = Block::seal(codec, SHA2_256, Bytes::copy_from_slice(data)) {
            drop(links(&block));
        }
    }
});
