//! The answers of gateways and Kubo nodes as bytes, on the way that they take
//! inside the sources, without a network: for fuzzing and tests.

use std::time::{Duration, SystemTime};

use futures::stream;
use reqwest::{Body, Response};

use super::http::{Asking, retry_after};
use super::{NameRecord, SourceError, gateway, gateway_car, kubo};
use crate::block::{BlockSink, Cid};

const ASKING: Asking<'static> = Asking {
    source_name: "bytes",
    what: "an answer",
};

/// An answer with some headers whose body comes in pieces of `piece` bytes;
/// `None` where no server could send such headers.
pub fn answer(headers: &[(&str, &[u8])], body: &[u8], piece: usize) -> Option<Response> {
    let mut built = hyper::Response::builder();
    for (name, value) in headers {
        built = built.header(*name, *value);
    }
    let pieces: Vec<_> = body.chunks(piece.max(1)).map(<[u8]>::to_vec).collect();
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    Some(Response::from(built.body(Body::wrap_stream(pieces)).ok()?))
}

/// Takes a gateway's CAR.
pub async fn gateway_car(
    response: Response,
    root: Cid,
    sink: &dyn BlockSink,
) -> Result<(), SourceError> {
    gateway_car::receive(ASKING, response, root, sink).await
}

/// Takes the CAR of a Kubo node's `dag/export`.
pub async fn kubo_export(
    response: Response,
    root: Cid,
    sink: &dyn BlockSink,
) -> Result<(), SourceError> {
    kubo::receive_export(ASKING, response, &root, sink).await
}

/// Reads a body of at most `limit` bytes.
pub async fn body(response: Response, limit: usize) -> Result<bytes::Bytes, SourceError> {
    ASKING.body(response, limit).await
}

/// Reads a gateway's headers: a DNSLink answer, and how long to wait.
pub fn headers(response: &Response, now: SystemTime) -> (Option<NameRecord>, Option<Duration>) {
    (
        gateway::dnslink_answer(response),
        retry_after(response, now),
    )
}

/// The value in an answer of `routing/get`.
pub fn routed_value(body: &[u8]) -> Result<Vec<u8>, SourceError> {
    kubo::routed_value(ASKING, body)
}

/// The path in an answer of `name/resolve`.
pub fn resolved_path(body: &[u8]) -> Result<NameRecord, SourceError> {
    kubo::resolved_path(ASKING, body)
}

/// What a failure of the RPC means.
pub fn failure(body: &[u8]) -> SourceError {
    kubo::failure(ASKING, body)
}
