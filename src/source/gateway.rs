//! A trustless gateway over HTTP.
//!
//! Format: <https://specs.ipfs.tech/http-gateways/trustless-gateway/>. Blocks
//! come raw, parts of a DAG as CAR, IPNS names as signed records; all of them
//! are checked here. A DNSLink answer carries no proof and says so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, CACHE_CONTROL};
use reqwest::{Client, Method, Response, Url};

use super::gateway_car::{receive, selector_query};
use super::http::{Asking, client, is_framed};
use super::ipns::IpnsName;
use super::record::IpnsRecord;
use super::{BlockSource, Fetched, NameRecord, Selector, SourceError, SourceFigures};
use crate::block::{Block, BlockSink, Cid};
use crate::clock::Clock;
use crate::config::{BLOCK_BYTES_MAX, IPNS_RECORD_BYTES_MAX, NAME_TTL_DEFAULT, RECORD_TTL_MAX};

const RAW_TYPE: &str = "application/vnd.ipld.raw";
const CAR_TYPE: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";
const RECORD_TYPE: &str = "application/vnd.ipfs.ipns-record";
/// The empty raw block, which every gateway has.
const PROBE: &str = "bafkqaaa";

/// One trustless gateway.
pub struct Gateway {
    name: String,
    base: Url,
    client: Client,
    clock: Arc<dyn Clock>,
}

impl Gateway {
    /// Makes a client for the gateway at `base`. Sends nothing.
    ///
    /// `ca` is a file of the only certificates to trust; else the system's are.
    pub fn new(
        name: String,
        base: &str,
        ca: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let mut base = Url::parse(base).map_err(|error| format!("{base}: {error}"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(format!("{base} is no http or https address"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(format!("{base} has more than a path"));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let client = client(&base, ca)?;
        Ok(Self {
            name,
            base,
            client,
            clock,
        })
    }

    /// The URL of `/<space>/<first>/<path>`, with the path's segments escaped.
    fn url(&self, space: &str, first: &str, path: &str) -> Url {
        let mut url = self.base.clone();
        // Fails only for addresses that cannot have a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            let rest = path.split('/').filter(|segment| !segment.is_empty());
            segments
                .pop_if_empty()
                .extend([space, first].into_iter().chain(rest));
        }
        url
    }

    fn asking<'a>(&'a self, what: &'a str) -> Asking<'a> {
        Asking {
            source_name: &self.name,
            what,
        }
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        accept: &str,
        asking: Asking<'_>,
    ) -> Result<Response, SourceError> {
        let request = self.client.request(method, url).header(ACCEPT, accept);
        let response = request.send().await.map_err(|error| asking.broken(error))?;
        asking.check_status(response, self.clock.now()).await
    }

    async fn block(&self, cid: &Cid) -> Result<Block, SourceError> {
        let text = cid.to_string();
        let asking = self.asking(&text);
        let mut url = self.url("ipfs", &text, "");
        url.set_query(Some("format=raw"));
        let response = self.send(Method::GET, url, RAW_TYPE, asking).await?;
        let framed = is_framed(&response);
        let data = asking.body(response, BLOCK_BYTES_MAX).await?;
        Block::verify(*cid, data).map_err(|error| {
            // A body without length may have been cut on its way: nobody's lie.
            if framed {
                asking.wrong(error)
            } else {
                asking.failed("the answer broke off")
            }
        })
    }

    async fn record(&self, name: &IpnsName) -> Result<NameRecord, SourceError> {
        let text = name.to_string();
        let asking = self.asking(&text);
        let mut url = self.url("ipns", &text, "");
        url.set_query(Some("format=ipns-record"));
        let response = self.send(Method::GET, url, RECORD_TYPE, asking).await?;
        let bytes = asking.body(response, IPNS_RECORD_BYTES_MAX).await?;
        let record = IpnsRecord::verify(name, &bytes, self.clock.now())
            .map_err(|error| asking.wrong(error))?;
        Ok(record.into_name_record(self.clock.now()))
    }

    /// Asks what a DNSLink domain leads to: the gateway's word, not a proof.
    async fn dnslink(&self, domain: &str) -> Result<NameRecord, SourceError> {
        let asking = self.asking(domain);
        let url = self.url("ipns", domain, "");
        let head = self.send(Method::HEAD, url.clone(), "*/*", asking).await;
        if let Some(record) = head.as_ref().ok().and_then(dnslink_answer) {
            return Ok(record);
        }
        // Not every gateway answers HEAD in full; the body of a GET is not read.
        let response = self.send(Method::GET, url, "*/*", asking).await?;
        dnslink_answer(&response)
            .ok_or_else(|| asking.unsupported("DNSLink: it names no X-Ipfs-Roots"))
    }
}

/// Reads `X-Ipfs-Roots` (the CID that the name leads to) and the age of the answer.
pub(super) fn dnslink_answer(response: &Response) -> Option<NameRecord> {
    let roots = response.headers().get("x-ipfs-roots")?.to_str().ok()?;
    let root: Cid = roots.split(',').next()?.trim().parse().ok()?;
    let ttl = response
        .headers()
        .get(CACHE_CONTROL)
        .and_then(|value| max_age(value.to_str().ok()?));
    Some(NameRecord {
        value: format!("/ipfs/{root}"),
        ttl: ttl.unwrap_or(NAME_TTL_DEFAULT).min(RECORD_TTL_MAX),
        sequence: None,
        verified: false,
    })
}

fn is_unknown_name(why: &str) -> bool {
    ["routing: not found", "could not resolve", "DNSLink lookup"]
        .iter()
        .any(|words| why.contains(words))
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let mut parts = cache_control.split(',').map(str::trim);
    let seconds = parts.find_map(|part| part.strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[async_trait]
impl BlockSource for Gateway {
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
        let mut url = self.url("ipfs", &root, &selector.path);
        url.set_query(Some(&selector_query(selector)));
        let response = self.send(Method::GET, url, CAR_TYPE, asking).await?;
        receive(asking, response, selector.root, sink).await
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        let answer = match name.parse::<IpnsName>() {
            Ok(key) => self.record(&key).await,
            Err(_) if IpnsName::may_be_domain(name) => self.dnslink(name).await,
            Err(_) => Err(self.asking(name).not_found()),
        };
        // Kubo's gateway answers 500 for a name that it does not find: that
        // must not count against it.
        match answer {
            Err(SourceError::Unreachable { why, .. }) if is_unknown_name(&why) => {
                Err(self.asking(name).not_found())
            }
            answer => answer,
        }
    }

    async fn probe(&self) -> Result<(), SourceError> {
        let asking = self.asking(PROBE);
        let mut url = self.url("ipfs", PROBE, "");
        url.set_query(Some("format=raw"));
        let response = self.send(Method::GET, url, RAW_TYPE, asking).await?;
        let body = asking.body(response, BLOCK_BYTES_MAX).await?;
        if body.is_empty() {
            Ok(())
        } else {
            Err(asking.wrong("the empty block has bytes"))
        }
    }

    fn figures(&self) -> Vec<SourceFigures> {
        vec![SourceFigures::named(self.name.clone())]
    }
}
