//! The HTTP face: `GET/POST /api/v0/mcp/<operation>`, JSON or raw bytes.
//!
//! Carries parameters in and results out; knows nothing of any operation.
//! docs/CONTROL.md shows the forms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body as HttpBody;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::query::{pairs, to_params};
use super::{
    Body, ByteStream, Call, Context, ErrorKind, Gone, Listener, Operation, OperationError, Output,
    Progress, Registry,
};
use crate::config::{
    BODY_IDLE_TIMEOUT, FOLLOWERS_MAX, OPERATIONS_MAX, PARAMS_BYTES_MAX, PROGRESS_EVENTS_MAX,
};

/// Where operations are.
pub const PREFIX: &str = "/api/v0/mcp/";
/// Trailer that carries the error of a byte stream that ended early.
pub const STREAM_ERROR: &str = "x-stream-error";
/// Header that carries the length of a byte stream, where it is known.
pub const CONTENT_LENGTH_HINT: &str = "x-content-length";
/// Media type of one JSON value a line.
pub const NDJSON: &str = "application/x-ndjson";

/// Bytes of events that are written at once, where so many wait.
const LINES_BYTES: usize = 16 << 10;

/// What all requests share.
struct Face {
    registry: Arc<Registry>,
    context: Arc<Context>,
    running: Arc<Semaphore>,
    following: Arc<Semaphore>,
    calls: AtomicU64,
}

/// Makes the router of the HTTP face.
pub fn router(registry: Arc<Registry>, context: Arc<Context>) -> axum::Router {
    let face = Arc::new(Face {
        registry,
        context,
        running: Arc::new(Semaphore::new(OPERATIONS_MAX)),
        following: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        calls: AtomicU64::new(0),
    });
    axum::Router::new()
        .route("/api/v0/openapi.json", get(openapi))
        .route("/api/v0/mcp/{*operation}", any(operation))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(face)
}

async fn openapi(State(face): State<Arc<Face>>) -> Response {
    axum::Json(super::document(&face.registry)).into_response()
}

async fn nothing_here() -> Response {
    let error = OperationError::new(ErrorKind::UnknownOperation, "nothing is at this path")
        .hint("operations are under /api/v0/mcp/, the list is at /api/v0/openapi.json");
    refuse(&error, None)
}

async fn wrong_method() -> Response {
    let error = OperationError::new(ErrorKind::Method, "this path takes GET")
        .hint("GET /api/v0/openapi.json");
    refuse(&error, None)
}

/// Identity and start of one call.
#[derive(Clone)]
struct Tag {
    id: String,
    started: Instant,
}

impl Tag {
    /// The whole answer of a call that went well.
    fn success(&self, result: Value) -> Value {
        let mut answer = self.head(true);
        match result {
            Value::Object(fields) => answer.extend(fields),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => {
                answer.insert("result".to_owned(), other);
            }
        }
        Value::Object(answer)
    }

    /// The whole answer of a call that failed.
    fn failure(&self, error: &OperationError) -> Value {
        let mut answer = self.head(false);
        answer.insert("error".to_owned(), json!(error));
        Value::Object(answer)
    }

    fn head(&self, success: bool) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("success".to_owned(), success.into());
        head.insert("operation_id".to_owned(), self.id.clone().into());
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        head.insert("duration_ms".to_owned(), millis.into());
        head
    }
}

/// Answers with an error before or without a call.
fn refuse(error: &OperationError, tag: Option<&Tag>) -> Response {
    let body = tag.map_or_else(
        || json!({"success": false, "error": error}),
        |tag| tag.failure(error),
    );
    (status(error.kind), axum::Json(body)).into_response()
}

fn status(kind: ErrorKind) -> StatusCode {
    StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn operation(
    State(face): State<Arc<Face>>,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let number = face.calls.fetch_add(1, Ordering::Relaxed);
    let tag = Tag {
        id: format!("{}-{number}", std::process::id()),
        started: Instant::now(),
    };
    // What the library makes of a bad address is not JSON.
    let Path(name) = match name {
        Ok(name) => name,
        Err(error) => return refuse(&OperationError::invalid(error.body_text()), Some(&tag)),
    };
    tracing::debug!(operation = name, id = tag.id, "called");
    match answer(&face, &name, query.as_deref(), request, &tag).await {
        Ok(response) => response,
        Err(error) => {
            tracing::info!(operation = name, id = tag.id, kind = ?error.kind, "{error}");
            let mut response = refuse(&error, Some(&tag));
            if error.kind == ErrorKind::Method
                && let Ok(operation) = face.registry.get(&name)
                && let Ok(methods) = allowed(operation).parse()
            {
                response.headers_mut().insert(header::ALLOW, methods);
            }
            response
        }
    }
}

async fn answer(
    face: &Arc<Face>,
    name: &str,
    query: Option<&str>,
    request: Request,
    tag: &Tag,
) -> Result<Response, OperationError> {
    let operation = face.registry.get(name)?;
    let permit = admit(face, operation)?;
    let headers = request.headers().clone();
    let call = read_call(operation, query, request).await?;
    if operation.gives.is_none() && accepts(&headers, NDJSON) {
        return Ok(lines(
            Arc::clone(face),
            name.to_owned(),
            call,
            tag.clone(),
            permit,
        ));
    }
    match operation.call(Arc::clone(&face.context), call).await? {
        Output::Json(value) => Ok(axum::Json(tag.success(value)).into_response()),
        Output::Bytes {
            content_type,
            length,
            stream,
        } => Ok(bytes_response(
            content_type,
            length,
            stream,
            accepts_trailers(&headers),
            permit,
        )),
    }
}

/// Lets an operation run, unless there are too many of its sort. What goes on
/// without an end takes no place of those that end.
fn admit(face: &Face, operation: &Operation) -> Result<OwnedSemaphorePermit, OperationError> {
    let (room, message, hint) = if operation.endless {
        let message = format!("{FOLLOWERS_MAX} callers follow already");
        (&face.following, message, "end one of them")
    } else {
        let message = format!("{OPERATIONS_MAX} operations run already");
        (&face.running, message, "try again in a moment")
    };
    Arc::clone(room)
        .try_acquire_owned()
        .map_err(|_| OperationError::new(ErrorKind::Unavailable, message).hint(hint))
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(media_type))
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get(header::TE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("trailers"))
}

/// The methods that an operation takes; of HEAD the library sends no body.
fn methods(operation: &Operation) -> &'static [Method] {
    if operation.mutates {
        &[Method::POST]
    } else {
        &[Method::GET, Method::HEAD, Method::POST]
    }
}

/// The same as the header `allow` has it.
fn allowed(operation: &Operation) -> String {
    let names: Vec<_> = methods(operation).iter().map(Method::as_str).collect();
    names.join(", ")
}

/// Reads parameters and body of a request.
async fn read_call(
    operation: &Operation,
    query: Option<&str>,
    request: Request,
) -> Result<Call, OperationError> {
    if !methods(operation).contains(request.method()) {
        let message = format!("{} is not for {}", operation.name, request.method());
        return Err(OperationError::new(ErrorKind::Method, message)
            .hint(format!("it takes {}", allowed(operation))));
    }
    let by_query = to_params(pairs(query.unwrap_or_default())?, &operation.params)?;
    if request.method() != Method::POST {
        return Ok(Call::with(by_query));
    }
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    let is_sent = sends_bytes(&request);
    let body = request.into_body();
    if operation.takes_body && !is_json {
        let body = is_sent.then(|| patient(body));
        return Ok(Call {
            params: by_query,
            body,
            progress: Progress::default(),
        });
    }
    let reading = axum::body::to_bytes(body, PARAMS_BYTES_MAX);
    let bytes = tokio::time::timeout(BODY_IDLE_TIMEOUT, reading)
        .await
        .map_err(|_| OperationError::new(ErrorKind::Timeout, "the request did not arrive"))?
        .map_err(|_| {
            let message = format!("parameters are over the limit of {PARAMS_BYTES_MAX} bytes");
            OperationError::new(ErrorKind::TooLarge, message)
        })?;
    if bytes.is_empty() {
        return Ok(Call::with(by_query));
    }
    let sent: Value = serde_json::from_slice(&bytes)
        .map_err(|error| OperationError::invalid(format!("the body is not JSON: {error}")))?;
    Ok(Call::with(merge(by_query, sent)?))
}

/// Whether a request carries bytes. None at all are some where it says so, by a
/// length and a type; one without a body says nothing.
fn sends_bytes(request: &Request) -> bool {
    let has = |name| request.headers().contains_key(name);
    let says_empty = has(header::CONTENT_LENGTH) && has(header::CONTENT_TYPE);
    says_empty || !http_body::Body::is_end_stream(request.body())
}

/// Joins parameters of the query and of the body; the body's win.
fn merge(query: Value, body: Value) -> Result<Value, OperationError> {
    match (query, body) {
        (Value::Object(mut all), Value::Object(sent)) => {
            all.extend(sent);
            Ok(Value::Object(all))
        }
        (_, _) => Err(OperationError::invalid("the body is not a JSON object")),
    }
}

/// Gives the bytes of a body; silence over the limit is an error.
fn patient(body: HttpBody) -> Body {
    let chunks = body.into_data_stream();
    Box::pin(stream::unfold(Some(chunks), |chunks| async move {
        let mut chunks = chunks?;
        match tokio::time::timeout(BODY_IDLE_TIMEOUT, chunks.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(chunks))),
            Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
            Ok(None) => None,
            Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
        }
    }))
}

/// Answers with raw bytes.
///
/// An error on the way goes into a trailer for callers that read trailers;
/// for others the connection breaks, so that nobody takes a part for the whole.
fn bytes_response(
    content_type: &'static str,
    length: Option<u64>,
    stream: ByteStream,
    trailers: bool,
    permit: OwnedSemaphorePermit,
) -> Response {
    let mut response = Response::builder().header(header::CONTENT_TYPE, content_type);
    if let Some(length) = length {
        response = response.header(CONTENT_LENGTH_HINT, length);
    }
    if trailers {
        response = response.header(header::TRAILER, STREAM_ERROR);
    }
    let frames = stream.map(move |chunk| {
        let _held = &permit;
        match chunk {
            Ok(bytes) => Ok(Frame::data(bytes)),
            Err(error) => {
                tracing::warn!(kind = ?error.kind, "a byte stream ended early: {error}");
                error_trailer(&error)
                    .filter(|_| trailers)
                    .map(Frame::trailers)
                    .ok_or(error)
            }
        }
    });
    let body = HttpBody::new(StreamBody::new(frames));
    response
        .body(body)
        .unwrap_or_else(|error| refuse(&OperationError::internal(error.to_string()), None))
}

fn error_trailer(error: &OperationError) -> Option<HeaderMap> {
    // JSON in ASCII: a header carries nothing else.
    let text: String = serde_json::to_string(error).ok()?.escape_non_ascii();
    let mut trailers = HeaderMap::new();
    trailers.insert(STREAM_ERROR, text.parse().ok()?);
    Some(trailers)
}

/// Text with everything outside ASCII as JSON escapes.
trait EscapeNonAscii {
    fn escape_non_ascii(&self) -> String;
}

impl EscapeNonAscii for String {
    fn escape_non_ascii(&self) -> String {
        let mut units = [0_u16; 2];
        self.chars()
            .map(|one| {
                if one.is_ascii() {
                    return one.to_string();
                }
                one.encode_utf16(&mut units)
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}"))
                    .collect()
            })
            .collect()
    }
}

/// Hands events to a channel that a response reads.
struct ToChannel(mpsc::Sender<Value>);

impl Listener for ToChannel {
    fn item(&self, event: Value) -> Result<(), Gone> {
        self.0.blocking_send(event).map_err(|_| Gone)
    }

    fn tick(&self, event: Value) {
        // A full channel drops figures: newer ones follow.
        drop(self.0.try_send(event));
    }

    fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// Ends a task when nobody waits for it any more.
struct EndOnDrop(tokio::task::JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers with one JSON value a line: events, then the result.
fn lines(
    face: Arc<Face>,
    name: String,
    mut call: Call,
    tag: Tag,
    permit: OwnedSemaphorePermit,
) -> Response {
    let (sender, receiver) = mpsc::channel(PROGRESS_EVENTS_MAX);
    call.progress = Progress::new(Arc::new(ToChannel(sender.clone())));
    let work = EndOnDrop(tokio::spawn(async move {
        let answer = face
            .registry
            .call(Arc::clone(&face.context), &name, call)
            .await;
        let last = match answer {
            Ok(Output::Json(value)) => tag.success(value),
            Ok(Output::Bytes { .. }) => {
                tag.failure(&OperationError::internal("bytes where JSON was expected"))
            }
            Err(error) => {
                tracing::info!(operation = name, id = tag.id, kind = ?error.kind, "{error}");
                tag.failure(&error)
            }
        };
        // No one left to read the result: nothing to do about it.
        drop(sender.send(last).await);
        drop(permit);
    }));
    let body = HttpBody::from_stream(to_lines(receiver, work));
    ([(header::CONTENT_TYPE, NDJSON)], body).into_response()
}

fn to_lines(
    receiver: mpsc::Receiver<Value>,
    work: EndOnDrop,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::unfold((receiver, work), |(mut receiver, work)| async move {
        let mut text = String::new();
        let mut next = Some(receiver.recv().await?);
        // What waits already goes in one piece: an import has events faster
        // than they are written one by one.
        while let Some(event) = next {
            text.push_str(&event.to_string());
            text.push('\n');
            let more = text.len() < LINES_BYTES;
            next = more.then(|| receiver.try_recv().ok()).flatten();
        }
        Some((Ok(Bytes::from(text)), (receiver, work)))
    })
}
