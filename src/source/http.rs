//! What every source over HTTP needs: a client, bounded bodies, and errors.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode, Url, redirect};

use super::SourceError;
use super::time::parse_http_date;
use crate::config::{
    CA_BYTES_MAX, CONNECT_TIMEOUT, READ_IDLE_TIMEOUT, REDIRECTS_MAX, SOURCE_CONCURRENCY,
};

/// Makes a client for one server. Sends nothing.
///
/// Connections are kept and shared; HTTP/2 is used where TLS negotiates it.
/// `http://` needs no certificates, so it works where none are installed.
/// Where `ca` names a file of certificates, those are trusted and no others.
pub(super) fn client(base: &Url, ca: Option<&Path>) -> Result<Client, String> {
    let builder = builder(base, ca)?.read_timeout(READ_IDLE_TIMEOUT);
    builder.build().map_err(|error| chain(&error))
}

/// Makes a client whose caller limits how long an answer takes: one that only
/// comes when much was sent.
pub(super) fn patient_client(base: &Url, ca: Option<&Path>) -> Result<Client, String> {
    builder(base, ca)?.build().map_err(|error| chain(&error))
}

fn builder(base: &Url, ca: Option<&Path>) -> Result<ClientBuilder, String> {
    // Fails only where one is installed already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("cidfs/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(SOURCE_CONCURRENCY)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        .redirect(redirects());
    if base.scheme() == "http" {
        builder = builder.tls_certs_only([]).http1_only();
    } else {
        builder = large_windows(builder);
        if let Some(ca) = ca {
            builder = builder.tls_certs_only(certificates(ca)?);
        }
    }
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    Ok(builder)
}

/// Reads a file of certificates in PEM.
fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let refuse = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CA_BYTES_MAX + 1).read_to_end(&mut pem))
        .map_err(|error| refuse(&error))?;
    if pem.len() as u64 > CA_BYTES_MAX {
        return Err(refuse(&format!("over {CA_BYTES_MAX} bytes")));
    }
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| refuse(&chain(&error)))?;
    if found.is_empty() {
        return Err(refuse(&"no certificate is in it"));
    }
    Ok(found)
}

/// Windows that let one connection fill a fast line with a long round trip.
fn large_windows(builder: ClientBuilder) -> ClientBuilder {
    builder
        .http2_initial_stream_window_size(4 << 20)
        .http2_initial_connection_window_size(16 << 20)
}

/// Few redirects, none to plain HTTP, and none from the network to this machine.
fn redirects() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let previous = attempt.previous();
        if previous.len() > REDIRECTS_MAX {
            return attempt.error(format!("more than {REDIRECTS_MAX} redirects"));
        }
        let weaker = attempt.url().scheme() == "http"
            && previous.last().is_some_and(|url| url.scheme() == "https");
        if weaker {
            return attempt.error("a redirect from https to http");
        }
        let inward = is_loopback(attempt.url()) && !previous.first().is_some_and(is_loopback);
        if inward {
            return attempt.error("a redirect to this machine");
        }
        attempt.follow()
    })
}

/// Whether a URL names this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback() || ip.is_unspecified(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Which source asks for what, for its errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    /// Name of the source.
    pub(super) source_name: &'a str,
    /// CID or path.
    pub(super) what: &'a str,
}

impl Asking<'_> {
    /// It is not there.
    pub(super) fn not_found(self) -> SourceError {
        SourceError::NotFound {
            what: self.what.to_owned(),
            source_name: self.source_name.to_owned(),
        }
    }

    /// The request failed.
    pub(super) fn failed(self, why: impl Into<String>) -> SourceError {
        SourceError::Unreachable {
            what: self.what.to_owned(),
            source_name: self.source_name.to_owned(),
            why: why.into(),
        }
    }

    /// What came is wrong.
    pub(super) fn wrong(self, why: impl ToString) -> SourceError {
        SourceError::Corrupt {
            what: self.what.to_owned(),
            source_name: self.source_name.to_owned(),
            why: why.to_string(),
        }
    }

    /// The source cannot do this.
    pub(super) fn unsupported(self, what: &'static str) -> SourceError {
        SourceError::Unsupported {
            source_name: self.source_name.to_owned(),
            what,
        }
    }

    /// The request could not be sent, or its answer broke off.
    pub(super) fn broken(self, error: reqwest::Error) -> SourceError {
        // An URL may hold a password.
        let error = error.without_url();
        if error.is_timeout() {
            let after = if error.is_connect() {
                CONNECT_TIMEOUT
            } else {
                READ_IDLE_TIMEOUT
            };
            return SourceError::Timeout {
                what: self.what.to_owned(),
                source_name: self.source_name.to_owned(),
                after,
            };
        }
        self.failed(chain(&error))
    }

    /// Lets a success pass and makes an error of every other status.
    pub(super) async fn check_status(
        self,
        response: Response,
        now: SystemTime,
    ) -> Result<Response, SourceError> {
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let retry_after = retry_after(&response, now);
        Err(match status.as_u16() {
            404 | 410 | 412 => self.not_found(),
            429 => SourceError::Limited {
                source_name: self.source_name.to_owned(),
                retry_after,
            },
            503 if retry_after.is_some() => SourceError::Limited {
                source_name: self.source_name.to_owned(),
                retry_after,
            },
            401 | 403 | 451 => self.unsupported("this request: it is forbidden there"),
            400 | 405 | 406 | 414 | 415 | 501 => {
                self.unsupported("this request: it is not understood there")
            }
            _ => self.failed(format!("the answer was {status}{}", said(response).await)),
        })
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn body(self, response: Response, limit: usize) -> Result<Bytes, SourceError> {
        let too_long = || self.wrong(format!("the answer is over {limit} bytes"));
        let declared = response.content_length();
        if declared.is_some_and(|len| len > limit as u64) {
            return Err(too_long());
        }
        let mut response = response;
        let Some(first) = self.piece(&mut response).await? else {
            return Ok(Bytes::new());
        };
        if first.len() > limit {
            return Err(too_long());
        }
        // One piece is the usual case, and needs no copy.
        if declared == Some(first.len() as u64) {
            return Ok(first);
        }
        let room = declared
            .and_then(|len| usize::try_from(len).ok())
            .unwrap_or(first.len() * 2);
        let mut body = BytesMut::with_capacity(room.min(limit));
        body.extend_from_slice(&first);
        while let Some(piece) = self.piece(&mut response).await? {
            if body.len() + piece.len() > limit {
                return Err(too_long());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// Reads the next piece of a body.
    pub(super) async fn piece(self, response: &mut Response) -> Result<Option<Bytes>, SourceError> {
        response.chunk().await.map_err(|error| self.broken(error))
    }
}

/// Whether the end of the body can be told from a broken connection.
pub(super) fn is_framed(response: &Response) -> bool {
    let headers = response.headers();
    response.version() >= reqwest::Version::HTTP_2
        || headers.contains_key(CONTENT_LENGTH)
        || headers.contains_key(TRANSFER_ENCODING)
}

pub(super) fn retry_after(response: &Response, now: SystemTime) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(
            parse_http_date(text)?
                .duration_since(now)
                .unwrap_or(Duration::ZERO),
        ),
    }
}

/// The first words of a failure, so that a log line tells its cause.
async fn said(mut response: Response) -> String {
    let first = tokio::time::timeout(Duration::from_secs(1), response.chunk()).await;
    let Ok(Ok(Some(first))) = first else {
        return String::new();
    };
    let text = String::from_utf8_lossy(first.get(..400).unwrap_or(&first)).into_owned();
    let line = text.lines().next().unwrap_or_default().trim();
    let shown: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    if shown.is_empty() {
        shown
    } else {
        format!(": {shown}")
    }
}

/// An error with its causes, since the outermost one says little.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}
