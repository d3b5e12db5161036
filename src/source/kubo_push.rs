//! Blocks and pins into a Kubo node, over its RPC.
//!
//! Format: <https://docs.ipfs.tech/reference/kubo/rpc/>. Blocks go as one CAR
//! file in a multipart body that is made while it is sent, so that neither side
//! holds it. What a request may take is limited by how long nothing happens.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use super::http::{Asking, chain, patient_client};
use super::kubo::{Failure, read_whole};
use super::{KuboAddress, SourceError};
use crate::block::Cid;
use crate::clock::Clock;
use crate::config::{
    PUSH_IDLE_TIMEOUT, PUSH_PIN_STALL, PUSH_PIN_TIMEOUT, PUSH_QUESTION_TIMEOUT,
    RPC_ANSWER_BYTES_MAX,
};

/// A CAR file as it is made.
pub type CarStream = BoxStream<'static, io::Result<Bytes>>;

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The node takes nothing of what is sent, or does not answer at its end.
    pub idle: Duration,
    /// A pin does not get on.
    pub stall: Duration,
    /// A pin is moved, of which no progress is told.
    pub pin: Duration,
    /// A question about one CID.
    pub question: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: PUSH_IDLE_TIMEOUT,
            stall: PUSH_PIN_STALL,
            pin: PUSH_PIN_TIMEOUT,
            question: PUSH_QUESTION_TIMEOUT,
        }
    }
}

/// One Kubo node that takes blocks and pins.
pub struct KuboPush {
    name: String,
    address: KuboAddress,
    pin_name: String,
    client: Client,
    clock: Arc<dyn Clock>,
    patience: Patience,
}

/// A line of what `dag/import` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Imported {
    stats: Option<Stats>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stats {
    block_count: u64,
}

/// A line of what `pin/add` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pinning {
    #[serde(default)]
    pins: Option<Vec<String>>,
    #[serde(default)]
    progress: u64,
}

/// Whether a node pinned a root as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// No.
    No,
    /// It did, under the name that it was given here, or one that it does not tell.
    Yes,
    /// It did, under another name.
    OtherName,
}

/// What `pin/ls` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PinList {
    #[serde(default)]
    keys: HashMap<String, PinKey>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PinKey {
    #[serde(default)]
    name: String,
}

/// What an answer came to: a failure has only words for it.
enum Answer {
    Good(Response),
    Failed(String),
}

impl KuboPush {
    /// Makes a client for the RPC at `address`; pins get `pin_name`. Sends nothing.
    pub fn new(
        name: String,
        address: KuboAddress,
        pin_name: String,
        ca: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let client = patient_client(&address.base()?, ca)?;
        Ok(Self {
            name,
            address,
            pin_name,
            client,
            clock,
            patience: Patience::default(),
        })
    }

    /// Says how long what may take.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a DAG is pinned there as a whole, by this root.
    pub async fn pinned(&self, root: &Cid) -> Result<Pinned, SourceError> {
        let text = root.to_string();
        let asking = self.asking(&text);
        let pairs = [
            ("arg", text.as_str()),
            ("type", "recursive"),
            ("names", "true"),
        ];
        let asked = self.ask(asking, "pin/ls", &pairs, self.patience.question);
        let told = match asked.await? {
            Ok(told) => told,
            Err(why) if why.contains("not pinned") => return Ok(Pinned::No),
            Err(why) => return Err(asking.failed(why)),
        };
        // An older node tells no names.
        let list = serde_json::from_slice::<PinList>(&told).ok();
        let key = list.and_then(|list| list.keys.into_values().next());
        let name = key.unwrap_or_default().name;
        match name.is_empty() || name == self.pin_name {
            true => Ok(Pinned::Yes),
            false => Ok(Pinned::OtherName),
        }
    }

    /// Whether the node itself has a block.
    pub async fn holds(&self, cid: &Cid) -> Result<bool, SourceError> {
        let text = cid.to_string();
        let asking = self.asking(&text);
        let pairs = [("arg", text.as_str()), ("offline", "true")];
        let asked = self.ask(asking, "block/stat", &pairs, self.patience.question);
        match asked.await? {
            Ok(_) => Ok(true),
            Err(why) if why.contains("not found") || why.contains("could not find") => Ok(false),
            Err(why) => Err(asking.failed(why)),
        }
    }

    /// Sends the blocks of a CAR file and pins nothing; how many the node took,
    /// if it says so.
    pub async fn import(&self, what: &str, car: CarStream) -> Result<Option<u64>, SourceError> {
        let asking = self.asking(what);
        let moved = Arc::new(Mutex::new(Instant::now()));
        let (content_type, body) = multipart(car, Arc::clone(&moved));
        let pairs = [("pin-roots", "false"), ("stats", "true")];
        let request = self.request(asking, "dag/import", &pairs)?;
        let request = request
            .header(CONTENT_TYPE, content_type)
            .body(Body::wrap_stream(body));
        let idle = self.patience.idle;
        let response = tokio::select! {
            sent = request.send() => sent.map_err(|error| asking.broken(error))?,
            () = idled(&moved, idle) => return Err(late(asking, idle)),
        };
        let response = match self.answer(asking, response).await? {
            Answer::Good(response) => response,
            Answer::Failed(why) => return Err(asking.failed(why)),
        };
        let body = read_all(asking, response).await?;
        let lines = serde_json::Deserializer::from_slice(&body).into_iter::<Imported>();
        let mut stats = lines.filter_map(|line| line.ok()?.stats);
        Ok(stats.next().map(|stats| stats.block_count))
    }

    /// Pins a DAG as a whole; `pinned` hears how many nodes are. Ends with a
    /// timeout where that does not get on: the node lacks something. A pin of
    /// another name gets this one.
    pub async fn pin(&self, root: &Cid, pinned: &(dyn Fn(u64) + Sync)) -> Result<(), SourceError> {
        let text = root.to_string();
        let asking = self.asking(&text);
        let pairs = [
            ("arg", text.as_str()),
            ("progress", "true"),
            ("name", &self.pin_name),
        ];
        let stall = self.patience.stall;
        let sent = self.request(asking, "pin/add", &pairs)?.send();
        let sent = tokio::time::timeout(stall, sent).await;
        let sent = sent.map_err(|_| late(asking, stall))?;
        let response = sent.map_err(|error| asking.broken(error))?;
        let response = match self.answer(asking, response).await? {
            Answer::Good(response) => response,
            Answer::Failed(why) => return Err(asking.failed(why)),
        };
        self.follow_pin(asking, response, pinned).await
    }

    async fn follow_pin(
        &self,
        asking: Asking<'_>,
        response: Response,
        pinned: &(dyn Fn(u64) + Sync),
    ) -> Result<(), SourceError> {
        let stall = self.patience.stall;
        let mut body = Body::from(response);
        let (mut line, mut nodes, mut moved) = (Vec::new(), 0, Instant::now());
        loop {
            let left = stall.saturating_sub(moved.elapsed());
            let frame = tokio::time::timeout(left, body.frame()).await;
            let frame = frame.map_err(|_| late(asking, stall))?;
            let Some(frame) = frame else {
                return Err(asking.failed("the answer ended before the pin was there"));
            };
            let frame = frame.map_err(|error| asking.failed(chain(&error)))?;
            match frame.into_data() {
                Ok(piece) => line.extend_from_slice(&piece),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    if let Some(error) = trailers.get("x-stream-error") {
                        let why = String::from_utf8_lossy(error.as_bytes()).into_owned();
                        return Err(asking.failed(why));
                    }
                }
            }
            if line.len() > RPC_ANSWER_BYTES_MAX {
                return Err(asking.wrong("a line of the answer is too long"));
            }
            while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                let rest = line.split_off(end + 1);
                let told = serde_json::from_slice::<Pinning>(&line).ok();
                line = rest;
                let Some(told) = told else { continue };
                if told.pins.is_some() {
                    return Ok(());
                }
                if told.progress > nodes {
                    (nodes, moved) = (told.progress, Instant::now());
                    pinned(nodes);
                }
            }
        }
    }

    /// Pins `to` by what differs from the pin `from`, whose name it gets, and
    /// unpins that if `unpin`.
    pub async fn move_pin(&self, from: &Cid, to: &Cid, unpin: bool) -> Result<(), SourceError> {
        let (from, to) = (from.to_string(), to.to_string());
        let asking = self.asking(&to);
        let unpin = if unpin { "true" } else { "false" };
        let pairs = [("arg", from.as_str()), ("arg", &to), ("unpin", unpin)];
        let asked = self.ask(asking, "pin/update", &pairs, self.patience.pin);
        asked.await?.map(drop).map_err(|why| asking.failed(why))
    }

    /// Takes a pin away; that there is none is fine.
    pub async fn unpin(&self, root: &Cid) -> Result<(), SourceError> {
        let text = root.to_string();
        let asking = self.asking(&text);
        let pairs = [("arg", text.as_str())];
        let asked = self.ask(asking, "pin/rm", &pairs, self.patience.question);
        match asked.await? {
            Err(why) if !why.contains("not pinned") => Err(asking.failed(why)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn asking<'a>(&'a self, what: &'a str) -> Asking<'a> {
        Asking {
            source_name: &self.name,
            what,
        }
    }

    fn request(
        &self,
        asking: Asking<'_>,
        command: &str,
        pairs: &[(&str, &str)],
    ) -> Result<RequestBuilder, SourceError> {
        let url = self.address.command(command);
        let mut url = url.map_err(|why| asking.failed(why))?;
        url.query_pairs_mut().extend_pairs(pairs);
        Ok(self.client.post(url))
    }

    /// A request with a small answer: its bytes, or the words of its failure.
    async fn ask(
        &self,
        asking: Asking<'_>,
        command: &str,
        pairs: &[(&str, &str)],
        within: Duration,
    ) -> Result<Result<Bytes, String>, SourceError> {
        let whole = async {
            let sent = self.request(asking, command, pairs)?.send().await;
            let response = sent.map_err(|error| asking.broken(error))?;
            match self.answer(asking, response).await? {
                Answer::Good(response) => Ok(Ok(read_all(asking, response).await?)),
                Answer::Failed(why) => Ok(Err(why)),
            }
        };
        let done = tokio::time::timeout(within, whole).await;
        done.unwrap_or_else(|_| Err(late(asking, within)))
    }

    async fn answer(&self, asking: Asking<'_>, response: Response) -> Result<Answer, SourceError> {
        match response.status() {
            StatusCode::INTERNAL_SERVER_ERROR => {
                let body = asking.body(response, RPC_ANSWER_BYTES_MAX).await?;
                Ok(Answer::Failed(words(&body)))
            }
            StatusCode::NOT_FOUND => {
                Err(asking.unsupported("this command: there is no Kubo RPC at the address"))
            }
            _ => {
                let checked = asking.check_status(response, self.clock.now()).await;
                checked.map(Answer::Good)
            }
        }
    }
}

/// What the RPC says of a failure.
fn words(body: &[u8]) -> String {
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => failure.message,
        Err(_) => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

async fn read_all(asking: Asking<'_>, response: Response) -> Result<Bytes, SourceError> {
    let mut all = Vec::new();
    read_whole(
        asking,
        response,
        RPC_ANSWER_BYTES_MAX as u64,
        &mut |piece| {
            all.extend_from_slice(&piece);
            Ok(())
        },
    )
    .await?;
    Ok(all.into())
}

fn late(asking: Asking<'_>, after: Duration) -> SourceError {
    SourceError::Timeout {
        what: asking.what.to_owned(),
        source_name: asking.source_name.to_owned(),
        after,
    }
}

/// Waits until nothing has moved for `limit`.
async fn idled(moved: &Mutex<Instant>, limit: Duration) {
    loop {
        let left = limit.saturating_sub(moved.lock().elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

/// One file as a form: its media type, and its bytes as they come. Each piece
/// that is taken sets `moved` to now.
fn multipart(car: CarStream, moved: Arc<Mutex<Instant>>) -> (String, CarStream) {
    // Random, so that no content can hold it.
    let boundary = format!("cidfs-{:032x}", rand::random::<u128>());
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"path\"; filename=\"tree.car\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let piece = |text: String| stream::iter([Ok(Bytes::from(text))]);
    let body = piece(head).chain(car).chain(piece(tail));
    let body = body.inspect(move |_| *moved.lock() = Instant::now());
    let content_type = format!("multipart/form-data; boundary={boundary}");
    (content_type, body.boxed())
}
