//! A Kubo node over its RPC.
//!
//! Format: <https://docs.ipfs.tech/reference/kubo/rpc/>. A failure in the
//! middle of an answer stands only in its trailer `X-Stream-Error`, so bodies
//! are read to the end with their trailers.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use multibase::Base;
use reqwest::{Body, Client, Response, StatusCode};
use serde::Deserialize;

use super::gateway_car::Filter;
use super::http::{Asking, chain, client};
use super::ipns::IpnsName;
use super::kubo_address::KuboAddress;
use super::record::IpnsRecord;
use super::{BlockSource, Fetched, NameRecord, Scope, Selector, SourceError, SourceFigures};
use crate::block::{Block, BlockSink, Cid};
use crate::car::CarDecoder;
use crate::clock::Clock;
use crate::config::{
    BLOCK_BYTES_MAX, NAME_SEARCH_WAIT, NAME_TTL_DEFAULT, READ_IDLE_TIMEOUT, RPC_ANSWER_BYTES_MAX,
    SELECT_BYTES_MAX,
};

/// The RPC's number for an event that carries a value.
const EVENT_VALUE: u64 = 5;

/// One Kubo node.
pub struct Kubo {
    name: String,
    address: KuboAddress,
    /// Ask for what the node holds only, so that it does not search the network.
    offline: bool,
    client: Client,
    clock: Arc<dyn Clock>,
}

/// What the RPC answers when it fails.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Failure {
    pub(super) message: String,
}

/// One line of what `routing/get` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoutingEvent {
    #[serde(rename = "Type")]
    kind: u64,
    #[serde(default)]
    extra: String,
}

/// What `name/resolve` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Resolved {
    path: String,
}

impl Kubo {
    /// Makes a client for the RPC at `address`. Sends nothing.
    ///
    /// `ca` is a file of the only certificates to trust; else the system's are.
    pub fn new(
        name: String,
        address: KuboAddress,
        offline: bool,
        ca: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let client = client(&address.base()?, ca)?;
        Ok(Self {
            name,
            address,
            offline,
            client,
            clock,
        })
    }

    fn asking<'a>(&'a self, what: &'a str) -> Asking<'a> {
        Asking {
            source_name: &self.name,
            what,
        }
    }

    /// Sends one command and gives its answer, if it is a success.
    async fn call(
        &self,
        command: &str,
        arg: &str,
        offline: bool,
        asking: Asking<'_>,
    ) -> Result<Response, SourceError> {
        let url = self.address.command(command);
        let mut url = url.map_err(|why| asking.failed(why))?;
        url.query_pairs_mut().append_pair("arg", arg);
        if offline {
            url.query_pairs_mut().append_pair("offline", "true");
        }
        let response = self
            .client
            .post(url)
            .send()
            .await
            .map_err(|error| asking.broken(error))?;
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            let body = asking.body(response, RPC_ANSWER_BYTES_MAX).await?;
            return Err(failure(asking, &body));
        }
        if response.status() == StatusCode::NOT_FOUND {
            return Err(asking.unsupported("this command: there is no Kubo RPC at the address"));
        }
        asking.check_status(response, self.clock.now()).await
    }

    async fn block(&self, cid: &Cid) -> Result<Block, SourceError> {
        let text = cid.to_string();
        let asking = self.asking(&text);
        let response = self.call("block/get", &text, self.offline, asking).await?;
        let mut data = Vec::new();
        read_whole(asking, response, BLOCK_BYTES_MAX as u64, &mut |piece| {
            data.extend_from_slice(&piece);
            Ok(())
        })
        .await?;
        Block::verify(*cid, data.into()).map_err(|error| asking.wrong(error))
    }

    async fn export(
        &self,
        asking: Asking<'_>,
        root: &Cid,
        sink: &dyn BlockSink,
    ) -> Result<(), SourceError> {
        let response = self
            .call("dag/export", asking.what, self.offline, asking)
            .await?;
        receive_export(asking, response, root, sink).await
    }

    /// The signed record of a name: the one that the node holds, or a newer
    /// one that it finds.
    async fn record(&self, name: &IpnsName) -> Result<NameRecord, SourceError> {
        let held = self.routing_get(name, true).await;
        if self.offline {
            return held.map(|record| record.into_name_record(self.clock.now()));
        }
        let search = self.routing_get(name, false);
        let found = match &held {
            // What is held is good until shown otherwise; a search may take minutes.
            Ok(_) => tokio::time::timeout(NAME_SEARCH_WAIT, search).await.ok(),
            Err(_) => Some(search.await),
        };
        let newest = match (held, found) {
            (Ok(held), Some(Ok(found))) => Ok(if found.sequence > held.sequence {
                found
            } else {
                held
            }),
            (Ok(held), _) => Ok(held),
            (Err(_), Some(found)) => found,
            (Err(error), None) => Err(error),
        };
        newest.map(|record| record.into_name_record(self.clock.now()))
    }

    async fn routing_get(&self, name: &IpnsName, offline: bool) -> Result<IpnsRecord, SourceError> {
        let path = format!("/ipns/{name}");
        let asking = self.asking(&path);
        let response = self.call("routing/get", &path, offline, asking).await?;
        let body = asking.body(response, RPC_ANSWER_BYTES_MAX).await?;
        let bytes = routed_value(asking, &body)?;
        IpnsRecord::verify(name, &bytes, self.clock.now()).map_err(|error| asking.wrong(error))
    }

    /// What the node says that a name leads to, without a proof.
    async fn resolve_unproved(&self, name: &str) -> Result<NameRecord, SourceError> {
        let asking = self.asking(name);
        let response = self
            .call("name/resolve", name, self.offline, asking)
            .await?;
        let body = asking.body(response, RPC_ANSWER_BYTES_MAX).await?;
        resolved_path(asking, &body)
    }
}

/// The value in what `routing/get` answered: a line of JSON for each event.
pub(super) fn routed_value(asking: Asking<'_>, body: &[u8]) -> Result<Vec<u8>, SourceError> {
    let mut events = serde_json::Deserializer::from_slice(body).into_iter::<RoutingEvent>();
    let event = events
        .find_map(|event| event.ok().filter(|event| event.kind == EVENT_VALUE))
        .ok_or_else(|| asking.not_found())?;
    Base::Base64Pad
        .decode(&event.extra)
        .map_err(|_| asking.wrong("the record is not base64"))
}

/// The path in what `name/resolve` answered.
pub(super) fn resolved_path(asking: Asking<'_>, body: &[u8]) -> Result<NameRecord, SourceError> {
    let answer: Resolved = serde_json::from_slice(body)
        .map_err(|error| asking.failed(format!("the answer is not understood: {error}")))?;
    let good = ["/ipfs/", "/ipns/"]
        .iter()
        .any(|start| answer.path.starts_with(start));
    if !good {
        return Err(asking.failed("the answer is no content path"));
    }
    Ok(NameRecord {
        value: answer.path,
        ttl: NAME_TTL_DEFAULT,
        sequence: None,
        verified: false,
    })
}

/// Reads what `dag/export` answers into `sink`: every block is proved.
pub(super) async fn receive_export(
    asking: Asking<'_>,
    response: Response,
    root: &Cid,
    sink: &dyn BlockSink,
) -> Result<(), SourceError> {
    let mut decoder = CarDecoder::new();
    let mut filter = Filter::new(*root, false, sink);
    read_whole(asking, response, SELECT_BYTES_MAX, &mut |piece| {
        decoder.feed(&piece);
        while let Some(section) = decoder
            .next_section()
            .map_err(|error| asking.wrong(error))?
        {
            filter.take(asking, section)?;
        }
        Ok(())
    })
    .await?;
    decoder
        .finish()
        .map_err(|error| asking.failed(error.to_string()))?;
    if filter.root_seen {
        Ok(())
    } else {
        Err(asking.failed("the CAR lacks its root"))
    }
}

/// Understands what the RPC says, which has only words for it.
pub(super) fn failure(asking: Asking<'_>, body: &[u8]) -> SourceError {
    let message = match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => failure.message,
        Err(_) => String::from_utf8_lossy(body).chars().take(200).collect(),
    };
    let absent = [
        "not found",
        "could not find",
        "could not resolve",
        "DNSLink lookup",
        "no link named",
    ];
    if absent.iter().any(|words| message.contains(words)) {
        return asking.not_found();
    }
    asking.failed(message)
}

/// Reads a body with its trailers, and gives each piece to `take`.
pub(super) async fn read_whole(
    asking: Asking<'_>,
    response: Response,
    limit: u64,
    take: &mut (dyn FnMut(Bytes) -> Result<(), SourceError> + Send),
) -> Result<(), SourceError> {
    let mut body = Body::from(response);
    let mut read = 0_u64;
    loop {
        let frame = tokio::time::timeout(READ_IDLE_TIMEOUT, body.frame())
            .await
            .map_err(|_| SourceError::Timeout {
                what: asking.what.to_owned(),
                source_name: asking.source_name.to_owned(),
                after: READ_IDLE_TIMEOUT,
            })?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|error| asking.failed(chain(&error)))?;
        match frame.into_data() {
            Ok(piece) => {
                read += piece.len() as u64;
                if read > limit {
                    return Err(asking.wrong(format!("the answer is over {limit} bytes")));
                }
                take(piece)?;
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                if let Some(error) = trailers.get("x-stream-error") {
                    let why = String::from_utf8_lossy(error.as_bytes()).into_owned();
                    return Err(failure(asking, why.as_bytes()));
                }
            }
        }
    }
}

#[async_trait]
impl BlockSource for Kubo {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        Ok(Fetched {
            block: self.block(cid).await?,
            keep: true,
        })
    }

    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        let root = selector.root.to_string();
        let asking = self.asking(&root);
        // The RPC exports whole DAGs and knows no ranges.
        match (selector.scope, selector.path.is_empty(), selector.bytes) {
            (Scope::All, true, None) => self.export(asking, &selector.root, sink).await,
            _ => Err(asking.unsupported("parts of a DAG as CAR")),
        }
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        match name.parse::<IpnsName>() {
            Ok(key) => match self.record(&key).await {
                // An RPC that is not Kubo's own may lack the records.
                Err(SourceError::Unsupported { .. }) => self.resolve_unproved(name).await,
                answer => answer,
            },
            Err(_) if IpnsName::may_be_domain(name) => self.resolve_unproved(name).await,
            Err(_) => Err(self.asking(name).not_found()),
        }
    }

    async fn probe(&self) -> Result<(), SourceError> {
        let asking = self.asking("its version");
        let response = self.call("version", "", false, asking).await?;
        asking
            .body(response, RPC_ANSWER_BYTES_MAX)
            .await
            .map(|_| ())
    }

    fn figures(&self) -> Vec<SourceFigures> {
        vec![SourceFigures::named(self.name.clone())]
    }
}
