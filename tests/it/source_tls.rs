//! A gateway behind TLS, with a certificate that only its operator trusts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cidfs::block::{Block, RAW, SHA2_256};
use cidfs::clock::{Clock, SystemClock};
use cidfs::source::{BlockSource, SourceError, SourceSpec, Sources, Strategy};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A gateway over TLS that offers HTTP/2 (and HTTP/1.1) or HTTP/1.1 alone.
struct Secure {
    address: SocketAddr,
    /// Its own certificate, in PEM.
    pem: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    versions: Vec<Version>,
}

impl Secure {
    async fn start(blocks: &[Block], protocols: &[&str]) -> Self {
        let names = vec!["127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let served: HashMap<String, Bytes> = blocks
            .iter()
            .map(|block| (format!("/ipfs/{}", block.cid()), block.data().clone()))
            .collect();
        tokio::spawn(accept(
            listener,
            acceptor,
            Arc::new(served),
            Arc::clone(&seen),
        ));
        let pem = made.cert.pem();
        Self { address, pem, seen }
    }

    /// The gateway as a configuration would have it.
    fn configured(&self, ca: Option<&Path>) -> Sources {
        let mut spec = SourceSpec::parse(&format!("https://{}", self.address)).unwrap();
        spec.ca = ca.map(|path| path.to_str().unwrap().to_owned());
        spec.retries = Some(0);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Sources::open(&[spec], Strategy::Order, &clock).unwrap()
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    served: Arc<HashMap<String, Bytes>>,
    seen: Arc<Mutex<Seen>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, served, seen) = (acceptor.clone(), served.clone(), seen.clone());
        tokio::spawn(async move {
            // A client that refuses the certificate ends it here.
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            seen.lock().connections += 1;
            let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(move |request| answer(request, served.clone(), seen.clone()));
            let io = TokioIo::new(stream);
            let ended = if two {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.serve_connection(io, service).await
            } else {
                let server = hyper::server::conn::http1::Builder::new();
                server.serve_connection(io, service).await
            };
            drop(ended);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    served: Arc<HashMap<String, Bytes>>,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    seen.lock().versions.push(request.version());
    let mut response = Response::new(Full::default());
    match served.get(request.uri().path()) {
        Some(data) => *response.body_mut() = Full::new(data.clone()),
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

fn blocks() -> Vec<Block> {
    let sizes = [0, 1, 70_000, 1 << 20];
    let sealed = |len| Block::seal(RAW, SHA2_256, vec![len as u8; len].into()).unwrap();
    sizes.into_iter().map(sealed).collect()
}

#[tokio::test]
async fn a_private_gateway_is_read_over_http_2_and_one_connection() {
    let blocks = blocks();
    let secure = Secure::start(&blocks, &["h2", "http/1.1"]).await;
    let temp = tempfile::tempdir().unwrap();
    let ca = temp.path().join("ca.pem");
    std::fs::write(&ca, &secure.pem).unwrap();
    let sources = secure.configured(Some(&ca));
    sources.get(blocks[1].cid()).await.unwrap();
    let all = blocks.iter().map(|block| sources.get(block.cid()));
    for (got, block) in futures::future::join_all(all)
        .await
        .into_iter()
        .zip(&blocks)
    {
        assert_eq!(&got.unwrap().block, block);
    }
    let seen = secure.seen.lock();
    assert_eq!(seen.versions, [Version::HTTP_2; 5]);
    assert_eq!(seen.connections, 1);
}

#[tokio::test]
async fn a_server_without_http_2_is_read_over_http_1() {
    let blocks = blocks();
    let secure = Secure::start(&blocks, &["http/1.1"]).await;
    let temp = tempfile::tempdir().unwrap();
    let ca = temp.path().join("ca.pem");
    std::fs::write(&ca, &secure.pem).unwrap();
    let got = secure.configured(Some(&ca)).get(blocks[3].cid()).await;
    assert_eq!(got.unwrap().block, blocks[3]);
    assert_eq!(secure.seen.lock().versions, [Version::HTTP_11]);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let blocks = blocks();
    let secure = Secure::start(&blocks, &["h2"]).await;
    let other = Secure::start(&blocks, &["h2"]).await;
    let temp = tempfile::tempdir().unwrap();
    let ca = temp.path().join("other.pem");
    std::fs::write(&ca, &other.pem).unwrap();
    for trusted in [None, Some(&*ca)] {
        let refused = secure.configured(trusted).get(blocks[1].cid()).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert_eq!(secure.seen.lock().versions, []);
}

#[tokio::test]
async fn a_file_without_certificates_is_refused_when_the_source_is_configured() {
    let temp = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let file = temp.path().join("ca.pem");
    for content in [None, Some(""), Some("no certificate\n")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let mut spec = SourceSpec::parse("https://127.0.0.1:9").unwrap();
        spec.ca = Some(file.to_str().unwrap().to_owned());
        let refused = Sources::open(&[spec], Strategy::Order, &clock)
            .err()
            .unwrap();
        assert!(refused.to_string().contains("ca.pem"), "{refused}");
    }
}
