//! Blocks and pins into a Kubo node's RPC that behaves, and that does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cidfs::block::{Block, Cid, RAW, SHA2_256};
use cidfs::clock::SystemClock;
use cidfs::source::{CarStream, KuboAddress, KuboPush, Patience, Pinned, SourceError};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How a request is answered.
type Answer = Arc<dyn Fn(Request) -> futures::future::BoxFuture<'static, Response> + Send + Sync>;

/// A server that goes with its test.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn server<F, R>(answer: F) -> Server
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    let answer: Answer = Arc::new(move |request| Box::pin(answer(request)));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let serve = move |State(answer): State<Answer>, request: Request| async move {
        log.lock()
            .push(format!("{} {}", request.method(), request.uri()));
        answer(request).await
    };
    let router = Router::new().fallback(serve).with_state(answer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
    Server { url, seen, task }
}

fn client(url: &str) -> KuboPush {
    let patience = Patience {
        idle: Duration::from_millis(400),
        stall: Duration::from_millis(400),
        pin: Duration::from_millis(400),
        question: Duration::from_millis(400),
    };
    let address = KuboAddress::parse(url).unwrap();
    let made = KuboPush::new(
        "node".to_owned(),
        address,
        "my tree".to_owned(),
        None,
        Arc::new(SystemClock),
    );
    made.unwrap().with_patience(patience)
}

fn cid(text: &'static str) -> Cid {
    *Block::seal(RAW, SHA2_256, text.into()).unwrap().cid()
}

fn pieces(all: Vec<&'static str>) -> CarStream {
    stream::iter(all.into_iter().map(|piece| Ok(Bytes::from(piece)))).boxed()
}

fn failure(message: &str) -> Response {
    let body = format!("{{\"Message\":\"{message}\",\"Code\":0,\"Type\":\"error\"}}");
    (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
}

#[tokio::test]
async fn a_car_file_goes_as_one_form_and_the_node_says_how_many_blocks_it_took() {
    let got = Arc::new(Mutex::new((String::new(), Vec::new())));
    let kept = Arc::clone(&got);
    let node = server(move |request: Request| {
        let kept = Arc::clone(&kept);
        async move {
            let kind = request.headers()["content-type"]
                .to_str()
                .unwrap()
                .to_owned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
            *kept.lock() = (kind, body.unwrap().to_vec());
            let answer = "{\"Stats\":{\"BlockCount\":7,\"BlockBytesCount\":99}}\n";
            answer.into_response()
        }
    })
    .await;
    let car = pieces(vec!["the bytes", " of a", " car"]);
    let taken = client(&node.url).import("it", car).await.unwrap();
    assert_eq!(taken, Some(7));
    let (kind, body) = got.lock().clone();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let body = String::from_utf8(body).unwrap();
    let (head, rest) = body.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("--{boundary}\r\nContent-Disposition: form-data;")));
    assert_eq!(rest, format!("the bytes of a car\r\n--{boundary}--\r\n"));
    let wanted = "POST /api/v0/dag/import?pin-roots=false&stats=true";
    assert_eq!(*node.seen.lock(), [wanted]);
}

#[tokio::test]
async fn what_a_node_does_not_take_is_not_read_ahead() {
    let read = Arc::new(AtomicUsize::new(0));
    let node = server(|_| async {
        // Takes nothing of the body.
        tokio::time::sleep(Duration::from_secs(60)).await;
        StatusCode::OK.into_response()
    })
    .await;
    let counted = Arc::clone(&read);
    let endless = stream::repeat_with(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from(vec![7; 1 << 20]))
    });
    let begun = Instant::now();
    let late = client(&node.url).import("it", endless.boxed()).await;
    assert!(matches!(late, Err(SourceError::Timeout { .. })), "{late:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    // What the sockets' buffers hold.
    let read = read.load(Ordering::Relaxed);
    assert!((1..32).contains(&read), "{read} MiB");
}

#[tokio::test]
async fn a_slow_node_is_not_late_as_long_as_it_takes_something() {
    let node = server(|request: Request| async {
        let mut body = request.into_body().into_data_stream();
        while let Some(piece) = body.next().await {
            drop(piece.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        "".into_response()
    })
    .await;
    let slowly = stream::iter(0..40).then(|_| async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok(Bytes::from(vec![7; 64 << 10]))
    });
    let begun = Instant::now();
    let taken = client(&node.url).import("it", slowly.boxed()).await;
    assert_eq!(taken.unwrap(), None);
    assert!(
        begun.elapsed() > Duration::from_secs(1),
        "longer than idle may be"
    );
}

#[tokio::test]
async fn a_node_that_is_away_hangs_breaks_off_or_fails_is_told_apart() {
    // Nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let away = client(&nobody).pinned(&cid("x")).await;
    assert!(
        matches!(away, Err(SourceError::Unreachable { .. })),
        "{away:?}"
    );
    let away = client(&nobody).import("it", pieces(vec!["x"])).await;
    assert!(
        matches!(away, Err(SourceError::Unreachable { .. })),
        "{away:?}"
    );

    let hangs = server(|_| std::future::pending()).await;
    let node = client(&hangs.url);
    let late = node.pinned(&cid("x")).await;
    assert!(matches!(late, Err(SourceError::Timeout { .. })), "{late:?}");
    let late = node.pin(&cid("x"), &|_| ()).await;
    assert!(matches!(late, Err(SourceError::Timeout { .. })), "{late:?}");
    let late = node.move_pin(&cid("x"), &cid("y"), true).await;
    assert!(matches!(late, Err(SourceError::Timeout { .. })), "{late:?}");

    let fails = server(|_| async { failure("the disk is full") }).await;
    let node = client(&fails.url);
    for failed in [
        node.import("it", pieces(vec!["x"])).await.map(drop),
        node.pin(&cid("x"), &|_| ()).await,
        node.move_pin(&cid("x"), &cid("y"), true).await,
        node.unpin(&cid("x")).await,
        node.pinned(&cid("x")).await.map(drop),
        node.holds(&cid("x")).await.map(drop),
    ] {
        let failed = failed.unwrap_err();
        assert!(
            matches!(failed, SourceError::Unreachable { .. }),
            "{failed:?}"
        );
        assert!(failed.to_string().contains("the disk is full"), "{failed}");
    }

    let forbids = server(|_| async { StatusCode::FORBIDDEN.into_response() }).await;
    let refused = client(&forbids.url).pinned(&cid("x")).await;
    assert!(
        matches!(refused, Err(SourceError::Unsupported { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 4096];
            drop(tokio::io::AsyncReadExt::read(&mut stream, &mut some).await);
        }
    });
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![7; 64 << 10])));
    let cut = client(&url).import("it", endless.boxed()).await;
    assert!(
        matches!(cut, Err(SourceError::Unreachable { .. })),
        "{cut:?}"
    );
    let cut = client(&url).pin(&cid("x"), &|_| ()).await;
    assert!(
        matches!(cut, Err(SourceError::Unreachable { .. })),
        "{cut:?}"
    );
    task.abort();
}

#[tokio::test]
async fn what_this_side_cannot_give_is_no_complete_car() {
    let whole = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&whole);
    let node = server(move |request: Request| {
        let kept = Arc::clone(&kept);
        async move {
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
            *kept.lock() = Some(body.is_ok());
            "".into_response()
        }
    })
    .await;
    let broken = stream::iter([
        Ok(Bytes::from("some")),
        Err(std::io::Error::other("a block is lost")),
    ]);
    let failed = client(&node.url).import("it", broken.boxed()).await;
    assert!(failed.is_err(), "{failed:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_ne!(*whole.lock(), Some(true), "the node took it for complete");
}

/// Answers a pin with lines, one each tenth of a second, and then never ends.
fn lines(all: Vec<String>, then: Option<&'static str>) -> Response {
    let told = stream::iter(all).then(|line| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, std::io::Error>(Bytes::from(line))
    });
    let end = match then {
        Some(last) => stream::iter([Ok(Bytes::from(last))]).boxed(),
        None => stream::pending().boxed(),
    };
    Body::from_stream(told.chain(end)).into_response()
}

#[tokio::test]
async fn a_pin_may_take_long_as_long_as_it_gets_on() {
    let node = server(|_| async {
        // In pieces that end anywhere.
        let told = (1..10).map(|at| format!("{at}}}\n{{\"Progress\":"));
        let told = std::iter::once("{\"Progress\":".to_owned()).chain(told);
        lines(told.collect(), Some("10}\n{\"Pins\":[\"x\"]}\n"))
    })
    .await;
    let heard = Mutex::new(Vec::new());
    let pinned = |nodes| heard.lock().push(nodes);
    client(&node.url).pin(&cid("x"), &pinned).await.unwrap();
    assert_eq!(*heard.lock(), (1..=10).collect::<Vec<u64>>());
    assert!(node.seen.lock()[0].ends_with("&progress=true&name=my+tree"));

    let stuck = server(|_| async { lines(vec!["{\"Progress\":4}\n".to_owned(); 100], None) }).await;
    let begun = Instant::now();
    let late = client(&stuck.url).pin(&cid("x"), &|_| ()).await;
    assert!(matches!(late, Err(SourceError::Timeout { .. })), "{late:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));

    let ended = server(|_| async { lines(vec!["{\"Progress\":4}\n".to_owned()], Some("")) }).await;
    let failed = client(&ended.url).pin(&cid("x"), &|_| ()).await;
    assert!(
        matches!(failed, Err(SourceError::Unreachable { .. })),
        "{failed:?}"
    );
}

#[tokio::test]
async fn what_kubo_says_of_what_is_not_there_is_understood() {
    let node = server(|request: Request| async move {
        match request.uri().path() {
            "/api/v0/pin/ls" => failure("path '/ipfs/x' is not pinned"),
            "/api/v0/pin/rm" => failure("not pinned or pinned indirectly"),
            "/api/v0/block/stat" => {
                failure("block was not found locally (offline): ipld: could not find x")
            }
            _ => failure("unexpected"),
        }
    })
    .await;
    let client = client(&node.url);
    assert_eq!(client.pinned(&cid("x")).await.unwrap(), Pinned::No);
    assert!(!client.holds(&cid("x")).await.unwrap());
    client.unpin(&cid("x")).await.unwrap();
}

#[tokio::test]
async fn a_pin_is_told_by_its_name_where_the_node_tells_names() {
    for (told, wanted) in [
        (
            r#"{"Keys":{"Qm":{"Type":"recursive","Name":"my tree"}}}"#,
            Pinned::Yes,
        ),
        (
            r#"{"Keys":{"Qm":{"Type":"recursive","Name":"other"}}}"#,
            Pinned::OtherName,
        ),
        (r#"{"Keys":{"Qm":{"Type":"recursive"}}}"#, Pinned::Yes),
        ("{}", Pinned::Yes),
        ("", Pinned::Yes),
    ] {
        let node = server(move |_| async move { told.into_response() }).await;
        let found = client(&node.url).pinned(&cid("x")).await.unwrap();
        assert_eq!(found, wanted, "{told}");
        assert!(node.seen.lock()[0].ends_with("&type=recursive&names=true"));
    }
}

#[tokio::test]
async fn a_user_and_password_in_the_address_are_sent_and_not_shown() {
    let got = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&got);
    let node = server(move |request: Request| {
        let header = request.headers().get("authorization").cloned();
        *kept.lock() = header.map(|value| value.to_str().unwrap().to_owned());
        async { failure("no") }
    })
    .await;
    let url = node.url.replace("http://", "http://me:secret@");
    let failed = client(&url).pinned(&cid("x")).await.unwrap_err();
    assert_eq!(got.lock().as_deref(), Some("Basic bWU6c2VjcmV0"));
    assert!(!failed.to_string().contains("secret"), "{failed}");
}
