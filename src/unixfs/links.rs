//! The links of a block, whatever its codec.

use ipld_core::ipld::Ipld;

use super::dag_pb::PbNode;
use super::error::Malformed;
use crate::block::{Block, CBOR, Cid, DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW};

/// Lists what a block links to, in its order; empty for codecs without links.
///
/// A codec that is not known is an error: leaving its links out would make a
/// collector of garbage delete what they lead to.
pub fn links(block: &Block) -> Result<Vec<Cid>, Malformed> {
    match block.cid().codec() {
        RAW | CBOR | JSON => Ok(Vec::new()),
        DAG_PB => Ok(PbNode::decode(block.data())?
            .links
            .into_iter()
            .map(|l| l.cid)
            .collect()),
        DAG_CBOR => {
            let value: Ipld = serde_ipld_dagcbor::from_slice(block.data())
                .map_err(|_| Malformed::Kind("not dag-cbor"))?;
            let mut found = Vec::new();
            value.references(&mut found);
            found.iter().map(widen).collect()
        }
        DAG_JSON => {
            let value: serde_json::Value = serde_json::from_slice(block.data())
                .map_err(|_| Malformed::Kind("not dag-json"))?;
            let mut found = Vec::new();
            json_links(&value, &mut found)?;
            Ok(found)
        }
        _ => Err(Malformed::Kind("links of this codec are not known")),
    }
}

fn widen(cid: &ipld_core::cid::Cid) -> Result<Cid, Malformed> {
    Cid::try_from(cid.to_bytes()).map_err(|_| Malformed::Kind("bad CID in dag-cbor"))
}

/// In dag-json a link is an object whose one key is `/` with a string.
fn json_links(value: &serde_json::Value, found: &mut Vec<Cid>) -> Result<(), Malformed> {
    match value {
        serde_json::Value::Array(items) => items.iter().try_for_each(|v| json_links(v, found)),
        serde_json::Value::Object(map) => {
            if let (1, Some(serde_json::Value::String(cid))) = (map.len(), map.get("/")) {
                let cid = Cid::try_from(cid.as_str());
                found.push(cid.map_err(|_| Malformed::Kind("bad CID in dag-json"))?);
                return Ok(());
            }
            map.values().try_for_each(|v| json_links(v, found))
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => Ok(()),
    }
}
