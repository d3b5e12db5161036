//! A client of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use axum::http::{Request, header};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::http::{CONTENT_LENGTH_HINT, NDJSON, PREFIX, STREAM_ERROR};
use super::query::encoded;
use super::raw;
use super::server::{Reach, SOCKET_NAME};
use super::{Body, ByteStream, Call, ErrorKind, OperationError, Output, Progress};
use crate::config::PARAMS_BYTES_MAX;

type RequestBody = Either<Full<Bytes>, StreamBody<Frames>>;
type Frames = stream::BoxStream<'static, io::Result<Frame<Bytes>>>;

/// A daemon that answered at its socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Finds the daemon of a repository: `None` if nobody listens there.
    pub async fn find(repo: &Path) -> io::Result<Option<Self>> {
        let client = Self {
            socket: repo.join(SOCKET_NAME),
        };
        match client.connect().await {
            Ok(_) => Ok(Some(client)),
            Err(error) if nobody_listens(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        let reach = Reach::open(&self.socket)?;
        UnixStream::connect(reach.path()).await
    }

    /// Runs the operation `name`. `gives_bytes` as the registry says.
    pub async fn call(
        &self,
        name: &str,
        gives_bytes: bool,
        call: Call,
    ) -> Result<Output, OperationError> {
        let lost = |error: &dyn std::fmt::Display| {
            let message = format!("the daemon at {} is gone: {error}", self.socket.display());
            OperationError::new(ErrorKind::Unavailable, message)
                .hint("daemon.log in the repository tells why")
        };
        let stream = match self.connect().await {
            Ok(stream) => stream,
            Err(error) if nobody_listens(&error) => return Err(self.ending()),
            Err(error) => return Err(lost(&error)),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, RequestBody>(TokioIo::new(stream))
                .await
                .map_err(|error| lost(&error))?;
        // Ends by itself when the answer is read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("control connection: {error}");
            }
        });
        let progress = call.progress.clone();
        let request = request(name, gives_bytes, call)?;
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(_) if self.has_ended().await => return Err(self.ending()),
            Err(error) => return Err(lost(&error)),
        };
        let good = response.status().is_success();
        if good && gives_bytes {
            return Ok(bytes_output(response));
        }
        let body = response.into_body();
        let last = if good {
            last_line(body, &progress).await?
        } else {
            whole(body).await?
        };
        result_of(last)
    }
}

/// Whether there is no daemon at a socket.
fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        // Reset: a daemon that is just ending took its socket away.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

impl Client {
    fn ending(&self) -> OperationError {
        let message = format!("the daemon at {} is ending", self.socket.display());
        OperationError::new(ErrorKind::Ending, message).hint("nothing was done: try again")
    }

    /// Tells whether a daemon that gave no answer has ended in order: it takes
    /// its socket away, and before that answers what it has taken on.
    async fn has_ended(&self) -> bool {
        for _ in 0..25 {
            if !self.socket.exists() {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        false
    }
}

/// Makes the request of a call.
fn request(
    name: &str,
    gives_bytes: bool,
    call: Call,
) -> Result<Request<RequestBody>, OperationError> {
    let accept = if gives_bytes { "*/*" } else { NDJSON };
    let (path, media_type, body) = match call.body {
        Some(body) => {
            let path = format!("{PREFIX}{name}?{}", to_query(&call.params));
            (
                path,
                "application/octet-stream",
                Either::Right(StreamBody::new(frames(body))),
            )
        }
        None => {
            let text = call.params.to_string();
            let body = Either::Left(Full::new(Bytes::from(text)));
            (format!("{PREFIX}{name}"), "application/json", body)
        }
    };
    Request::post(path)
        .header(header::HOST, "cidfs")
        .header(header::CONTENT_TYPE, media_type)
        .header(header::ACCEPT, accept)
        .header(header::TE, "trailers")
        .body(body)
        .map_err(|error| OperationError::internal(error.to_string()))
}

fn frames(body: Body) -> Frames {
    body.map_ok(Frame::data).boxed()
}

/// Writes parameters as a query string; lists repeat their name.
fn to_query(params: &Value) -> String {
    let mut pairs = Vec::new();
    for (name, value) in params.as_object().into_iter().flatten() {
        let values = match value {
            Value::Null => continue,
            Value::Array(list) => list.as_slice(),
            one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
                std::slice::from_ref(one)
            }
        };
        let name = encoded(name.as_bytes());
        pairs.extend(
            values
                .iter()
                .map(|one| format!("{name}={}", encoded(&plain(one)))),
        );
    }
    pairs.join("&")
}

/// One value as the bytes of a query string.
fn plain(value: &Value) -> Vec<u8> {
    if let Some(bytes) = raw::from_json(value) {
        return bytes;
    }
    let text = value.as_str().map(str::to_owned);
    text.unwrap_or_else(|| value.to_string()).into_bytes()
}

/// Reads a whole small answer.
async fn whole(body: Incoming) -> Result<Value, OperationError> {
    let limited = http_body_util::Limited::new(body, PARAMS_BYTES_MAX);
    let bytes = limited
        .collect()
        .await
        .map_err(|error| {
            OperationError::internal(format!("the daemon's answer broke off: {error}"))
        })?
        .to_bytes();
    parse(&bytes)
}

/// Reads lines, hands events to `progress`, and gives the last line: the result.
async fn last_line(body: Incoming, progress: &Progress) -> Result<Value, OperationError> {
    let mut body = body.into_data_stream();
    let mut rest = Vec::new();
    let mut result = None;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        let mut events = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let value = parse(&rest)?;
                rest.clear();
                if value.get("success").is_some() {
                    result = Some(value);
                } else if progress.is_heard() {
                    events.push(value);
                }
            }
        }
        hear(progress, events).await?;
    }
    result.ok_or_else(|| broken(&"no result"))
}

/// Hands events on from where it may block.
async fn hear(progress: &Progress, events: Vec<Value>) -> Result<(), OperationError> {
    if events.is_empty() {
        return Ok(());
    }
    let progress = progress.clone();
    let work = move || {
        events
            .into_iter()
            .try_for_each(|event| progress.item(event))
    };
    let heard = tokio::task::spawn_blocking(work).await;
    match heard {
        Ok(Ok(())) => Ok(()),
        Ok(Err(gone)) => Err(OperationError::internal(gone.to_string())),
        Err(error) => Err(OperationError::internal(error.to_string())),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, OperationError> {
    serde_json::from_slice(bytes).map_err(|error| {
        OperationError::internal(format!("the daemon's answer is not JSON: {error}"))
    })
}

fn broken(error: &dyn std::fmt::Display) -> OperationError {
    let message = format!("the daemon's answer broke off: {error}");
    OperationError::new(ErrorKind::Unavailable, message)
        .hint("daemon.log in the repository tells why")
}

/// Takes the result out of an answer.
fn result_of(mut answer: Value) -> Result<Output, OperationError> {
    if let Some(error) = answer.get_mut("error") {
        let error = serde_json::from_value(error.take());
        return Err(error.unwrap_or_else(|_| OperationError::internal("an error of no known form")));
    }
    if let Some(fields) = answer.as_object_mut() {
        for head in ["success", "operation_id", "duration_ms"] {
            fields.remove(head);
        }
    }
    Ok(Output::Json(answer))
}

/// Makes byte output of a response; its trailer becomes the error it carries.
fn bytes_output(response: axum::http::Response<Incoming>) -> Output {
    let length = response
        .headers()
        .get(CONTENT_LENGTH_HINT)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let stream: ByteStream = Box::pin(stream::unfold(Some(response.into_body()), next_bytes));
    Output::Bytes {
        content_type: "application/octet-stream",
        length,
        stream,
    }
}

async fn next_bytes(
    body: Option<Incoming>,
) -> Option<(Result<Bytes, OperationError>, Option<Incoming>)> {
    let mut body = body?;
    loop {
        match body.frame().await {
            None if body.is_end_stream() => return None,
            None => return None,
            Some(Err(error)) => return Some((Err(broken(&error)), None)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => return Some((Ok(bytes), Some(body))),
                Err(frame) => {
                    let error = frame.trailers_ref().and_then(|all| all.get(STREAM_ERROR));
                    if let Some(error) = error {
                        let error = serde_json::from_slice(error.as_bytes())
                            .unwrap_or_else(|_| broken(&"an error of no known form"));
                        return Some((Err(error), None));
                    }
                }
            },
        }
    }
}
