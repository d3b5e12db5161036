//! A gateway and Kubo RPC on loopback that is strict, and fails as it is told.
//!
//! Speaks HTTP/1.1 by hand, since a well-made server library would not send
//! what a broken one does. A request that is not as the specification wants
//! it is answered 400 and noted in [`HttpDouble::violations`].

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::block::{Block, Cid, Multihash};
use crate::car::CarWriter;

/// What the double does with a request instead of serving it.
#[derive(Debug, Clone)]
pub enum HttpFault {
    /// Sends a good head and flips a bit in the body.
    WrongBytes,
    /// Declares the whole body and sends so many bytes of it, then closes.
    Short(usize),
    /// Sends so many bytes of a body without length, then ends it properly.
    CleanCut(usize),
    /// Sends the head and so many bytes of the body, then nothing more.
    Stall(usize),
    /// Reads the request and never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// Answers with a status and headers, each with its line end.
    Status(u16, &'static str),
    /// Sends a body of so many bytes, with its length or in chunks.
    Oversized(u64, bool),
    /// Redirects to an address.
    Redirect(String),
    /// Ends a chunked body with this trailer.
    StreamError(&'static str),
    /// Adds blocks that nobody asked for to a CAR.
    Unrelated(Vec<Block>),
}

/// The double: serves blocks until it is dropped.
pub struct HttpDouble {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    blocks: Mutex<HashMap<Multihash, Block>>,
    /// Answers for exact paths with their queries.
    answers: Mutex<HashMap<String, (String, Vec<u8>)>>,
    script: Mutex<VecDeque<Option<HttpFault>>>,
    always: Mutex<Option<HttpFault>>,
    requests: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    connections: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl HttpDouble {
    /// Listens on loopback, on a port of the system's choice.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let connection = tokio::spawn(async move {
                    // A client that goes away is no news here.
                    drop(state.serve(stream).await);
                });
                shared.connections.lock().push(connection.abort_handle());
            }
        });
        Ok(Self {
            address,
            state,
            accepting,
        })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds blocks.
    pub fn insert(&self, blocks: impl IntoIterator<Item = Block>) {
        let mut all = self.state.blocks.lock();
        all.extend(blocks.into_iter().map(|block| (*block.cid().hash(), block)));
    }

    /// Sets the answer for a path with its query: headers, each with its line
    /// end, and a body.
    pub fn answer(&self, target: &str, headers: &str, body: impl Into<Vec<u8>>) {
        let answer = (headers.to_owned(), body.into());
        self.state.answers.lock().insert(target.to_owned(), answer);
    }

    /// The next requests meet these, one each; `None` is served.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<HttpFault>>) {
        self.state.script.lock().extend(faults);
    }

    /// Every request that the script leaves meets this; `None` heals.
    pub fn always(&self, fault: Option<HttpFault>) {
        *self.state.always.lock() = fault;
    }

    /// The requests so far, as `GET /ipfs/…`.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().clone()
    }

    /// What clients did against the specification.
    pub fn violations(&self) -> Vec<String> {
        self.state.violations.lock().clone()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.state.connections.lock().len()
    }

    /// Breaks every connection and listens no more.
    pub fn stop(&self) {
        self.accepting.abort();
        for connection in self.state.connections.lock().iter() {
            connection.abort();
        }
    }
}

impl Drop for HttpDouble {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Request {
    method: String,
    target: String,
    accept: String,
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: Vec::new(),
        }
    }

    fn ok(content_type: &str, body: Vec<u8>) -> Self {
        Self {
            status: 200,
            headers: format!("Content-Type: {content_type}\r\n"),
            body,
        }
    }
}

impl State {
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream).await? {
            self.requests
                .lock()
                .push(format!("{} {}", request.method, request.target));
            let scripted = self.script.lock().pop_front();
            let fault = scripted.unwrap_or_else(|| self.always.lock().clone());
            let extra = match &fault {
                Some(HttpFault::Unrelated(blocks)) => blocks.as_slice(),
                _ => &[],
            };
            let answer = self.respond(&request, extra);
            if !send(stream.get_mut(), &request, answer, fault).await? {
                break;
            }
        }
        Ok(())
    }

    fn respond(&self, request: &Request, extra: &[Block]) -> Answer {
        if let Some((headers, body)) = self.answers.lock().get(&request.target) {
            return Answer {
                status: 200,
                headers: headers.clone(),
                body: body.clone(),
            };
        }
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((&request.target, ""));
        if path.starts_with("/api/v0/") {
            return self.rpc(request, path, query);
        }
        let Some(rest) = path.strip_prefix("/ipfs/") else {
            return Answer::status(404);
        };
        let Some(Ok(cid)) = rest.split('/').next().map(str::parse::<Cid>) else {
            return self.violation(request, "no CID in the path");
        };
        let raw = query == "format=raw" && request.accept == "application/vnd.ipld.raw";
        let car = query.starts_with("format=car&dag-scope=")
            && request
                .accept
                .starts_with("application/vnd.ipld.car; version=1");
        match (request.method.as_str(), raw, car) {
            ("GET", true, _) => self.raw(&cid),
            ("GET", _, true) => self.car(&cid, extra),
            _ => self.violation(request, "method, format and Accept do not fit"),
        }
    }

    fn rpc(&self, request: &Request, path: &str, query: &str) -> Answer {
        if request.method != "POST" {
            return self.violation(request, "the RPC takes POST only");
        }
        let arg = query.split('&').find_map(|pair| pair.strip_prefix("arg="));
        let cid = arg.and_then(|arg| arg.parse::<Cid>().ok());
        match (path, cid) {
            ("/api/v0/version", _) => Answer::ok("application/json", b"{}".to_vec()),
            ("/api/v0/block/get", Some(cid)) => match self.find(&cid) {
                Some(block) => Answer::ok("text/plain", block.data().to_vec()),
                None => rpc_error("block was not found locally (offline): ipld: could not find"),
            },
            ("/api/v0/dag/export", Some(cid)) => self.car(&cid, &[]),
            _ => rpc_error("routing: not found"),
        }
    }

    fn find(&self, cid: &Cid) -> Option<Block> {
        if let Some(Ok(block)) = Block::inline(cid) {
            return Some(block);
        }
        self.blocks.lock().get(cid.hash()).cloned()
    }

    fn raw(&self, cid: &Cid) -> Answer {
        match self.find(cid) {
            Some(block) => Answer::ok("application/vnd.ipld.raw", block.data().to_vec()),
            None => Answer::status(404),
        }
    }

    /// All blocks as a CAR, the root first: the double knows no links.
    fn car(&self, root: &Cid, extra: &[Block]) -> Answer {
        let Some(first) = self.find(root) else {
            return Answer::status(404);
        };
        let blocks = self.blocks.lock();
        let rest = blocks
            .values()
            .filter(|block| block.cid().hash() != root.hash());
        let all = std::iter::once(&first).chain(extra).chain(rest);
        let written = CarWriter::new(Vec::new(), &[*root]).and_then(|mut writer| {
            all.into_iter()
                .try_for_each(|block| writer.write(block).map(drop))?;
            Ok(writer.into_inner())
        });
        let content_type = "application/vnd.ipld.car; version=1; order=unk; dups=n";
        written.map_or_else(
            |_| Answer::status(500),
            |body| Answer::ok(content_type, body),
        )
    }

    fn violation(&self, request: &Request, why: &str) -> Answer {
        let Request {
            method,
            target,
            accept,
        } = request;
        self.violations
            .lock()
            .push(format!("{method} {target} (Accept: {accept}): {why}"));
        Answer::status(400)
    }
}

fn rpc_error(message: &str) -> Answer {
    let body = format!("{{\"Message\":\"{message}\",\"Code\":0,\"Type\":\"error\"}}");
    Answer {
        status: 500,
        ..Answer::ok("application/json", body.into_bytes())
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let (mut accept, mut length) = (String::new(), 0_u64);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 || line.trim().is_empty() {
            break;
        }
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("accept") => {
                value.trim().clone_into(&mut accept);
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap_or(0);
            }
            _ => (),
        }
    }
    tokio::io::copy(&mut stream.take(length), &mut tokio::io::sink()).await?;
    Ok(Some(Request {
        method,
        target,
        accept,
    }))
}

/// Sends an answer, or what the fault makes of it; `false` closes the connection.
async fn send(
    stream: &mut TcpStream,
    request: &Request,
    mut answer: Answer,
    fault: Option<HttpFault>,
) -> std::io::Result<bool> {
    match fault {
        None | Some(HttpFault::Unrelated(_)) => (),
        Some(HttpFault::WrongBytes) => match answer.body.last_mut() {
            Some(byte) => *byte ^= 1,
            None => answer.body.push(1),
        },
        Some(HttpFault::Short(len)) => {
            let head = head(&answer, &length_header(answer.body.len() as u64));
            stream.write_all(head.as_bytes()).await?;
            stream
                .write_all(answer.body.get(..len).unwrap_or_default())
                .await?;
            return Ok(false);
        }
        Some(HttpFault::CleanCut(len)) => {
            stream
                .write_all(head(&answer, "Connection: close\r\n").as_bytes())
                .await?;
            stream
                .write_all(answer.body.get(..len).unwrap_or(&answer.body))
                .await?;
            return Ok(false);
        }
        Some(HttpFault::Stall(len)) => {
            let head = head(&answer, &length_header(answer.body.len() as u64));
            stream.write_all(head.as_bytes()).await?;
            stream
                .write_all(answer.body.get(..len).unwrap_or_default())
                .await?;
            std::future::pending::<()>().await;
        }
        Some(HttpFault::Hang) => std::future::pending::<()>().await,
        Some(HttpFault::Close) => return Ok(false),
        Some(HttpFault::Status(status, headers)) => {
            answer = Answer {
                status,
                headers: headers.to_owned(),
                body: Vec::new(),
            };
        }
        Some(HttpFault::Redirect(to)) => {
            answer = Answer {
                headers: format!("Location: {to}\r\n"),
                ..Answer::status(302)
            };
        }
        Some(HttpFault::Oversized(len, declared)) => {
            return send_oversized(stream, &answer, len, declared).await;
        }
        Some(HttpFault::StreamError(error)) => {
            let head = head(
                &answer,
                "Transfer-Encoding: chunked\r\nTrailer: X-Stream-Error\r\n",
            );
            stream.write_all(head.as_bytes()).await?;
            send_chunk(stream, &answer.body).await?;
            stream
                .write_all(format!("0\r\nX-Stream-Error: {error}\r\n\r\n").as_bytes())
                .await?;
            return Ok(true);
        }
    }
    let head = head(&answer, &length_header(answer.body.len() as u64));
    stream.write_all(head.as_bytes()).await?;
    if request.method != "HEAD" {
        stream.write_all(&answer.body).await?;
    }
    Ok(true)
}

fn head(answer: &Answer, framing: &str) -> String {
    format!(
        "HTTP/1.1 {} Double\r\n{}{framing}\r\n",
        answer.status, answer.headers
    )
}

fn length_header(len: u64) -> String {
    format!("Content-Length: {len}\r\n")
}

async fn send_oversized(
    stream: &mut TcpStream,
    answer: &Answer,
    len: u64,
    declared: bool,
) -> std::io::Result<bool> {
    let framing = if declared {
        length_header(len)
    } else {
        "Transfer-Encoding: chunked\r\n".to_owned()
    };
    stream.write_all(head(answer, &framing).as_bytes()).await?;
    let piece = vec![0; 64 << 10];
    for _ in 0..len.div_ceil(piece.len() as u64) {
        if declared {
            stream.write_all(&piece).await?;
        } else {
            send_chunk(stream, &piece).await?;
        }
        // Gives the client the time to have had enough.
        tokio::time::sleep(Duration::from_micros(10)).await;
    }
    Ok(false)
}

async fn send_chunk(stream: &mut TcpStream, data: &[u8]) -> std::io::Result<()> {
    if !data.is_empty() {
        stream
            .write_all(format!("{:x}\r\n", data.len()).as_bytes())
            .await?;
        stream.write_all(data).await?;
        stream.write_all(b"\r\n").await?;
    }
    Ok(())
}
