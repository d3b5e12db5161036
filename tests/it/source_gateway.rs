//! Trustless gateways that behave, and that do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cidfs::block::{Block, Cid, DAG_CBOR, RAW, SHA2_256};
use cidfs::clock::{Clock, SystemClock};
use cidfs::config::BLOCK_BYTES_MAX;
use cidfs::source::{
    BlockSource, Gateway, Scope, Selector, SourceError, SourceSpec, Sources, Strategy,
};
use cidfs::testing::http::{HttpDouble, HttpFault};
use cidfs::testing::source::MemorySource;

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn leaf(text: &str) -> Block {
    Block::seal(RAW, SHA2_256, text.to_owned().into()).unwrap()
}

fn many(count: usize) -> Vec<Block> {
    (0..count)
        .map(|n| leaf(&n.to_string().repeat(200)))
        .collect()
}

/// A node that links to blocks.
fn parent(children: &[Block]) -> Block {
    let cids: Vec<Cid> = children.iter().map(|block| *block.cid()).collect();
    let data = serde_ipld_dagcbor::to_vec(&cids).unwrap();
    Block::seal(DAG_CBOR, SHA2_256, data.into()).unwrap()
}

async fn double(blocks: &[Block]) -> HttpDouble {
    let double = HttpDouble::start().await.unwrap();
    double.insert(blocks.iter().cloned());
    double
}

/// The gateway alone, without decorators.
fn bare(double: &HttpDouble) -> Gateway {
    Gateway::new("gateway".to_owned(), &double.url(), None, clock()).unwrap()
}

/// The gateway as a configuration would have it.
fn configured(double: &HttpDouble, deadline_s: u64, retries: u32) -> Sources {
    let mut spec = SourceSpec::parse(&double.url()).unwrap();
    (spec.deadline_s, spec.retries) = (Some(deadline_s), Some(retries));
    Sources::open(&[spec], Strategy::Order, &clock()).unwrap()
}

fn whole(root: &Block) -> Selector {
    Selector {
        root: *root.cid(),
        path: String::new(),
        scope: Scope::All,
        bytes: None,
    }
}

#[tokio::test]
async fn blocks_come_proved_over_one_connection_and_by_the_specification() {
    let blocks = many(30);
    let double = double(&blocks).await;
    let gateway = bare(&double);
    gateway.probe().await.unwrap();
    for block in &blocks {
        let fetched = gateway.get(block.cid()).await.unwrap();
        assert_eq!((&fetched.block, fetched.keep), (block, true));
    }
    assert_eq!(double.violations(), Vec::<String>::new());
    assert_eq!(double.connections(), 1);
}

#[tokio::test]
async fn wrong_bytes_are_never_served_and_mark_the_gateway() {
    let block = leaf("true");
    let liar = double(std::slice::from_ref(&block)).await;
    liar.always(Some(HttpFault::WrongBytes));
    let sources = configured(&liar, 5, 2);
    let error = sources.get(block.cid()).await.unwrap_err();
    assert!(matches!(error, SourceError::Corrupt { .. }), "{error}");
    let figures = &sources.figures()[0];
    assert_eq!(
        (figures.health.as_str(), figures.corrupt),
        ("distrusted", 1)
    );
    assert_eq!(
        liar.requests().len(),
        1,
        "a liar is not asked again for the same"
    );

    // From then on it comes last, even where it stands first.
    let honest = double(std::slice::from_ref(&block)).await;
    sources
        .add_spec(&SourceSpec::parse(&honest.url()).unwrap(), &clock())
        .unwrap();
    liar.always(None);
    sources.get(block.cid()).await.unwrap();
    assert_eq!((liar.requests().len(), honest.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_short_body_is_a_failure_and_no_lie() {
    let block = leaf("a body that will be cut");
    let double = double(std::slice::from_ref(&block)).await;
    for fault in [HttpFault::Short(5), HttpFault::CleanCut(5)] {
        double.always(Some(fault));
        let error = bare(&double).get(block.cid()).await.unwrap_err();
        assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    }
    double.always(None);
    double.script([Some(HttpFault::Short(5)), Some(HttpFault::CleanCut(5))]);
    let sources = configured(&double, 10, 2);
    assert_eq!(sources.get(block.cid()).await.unwrap().block, block);
    assert_eq!(sources.figures()[0].health, "good");
}

#[tokio::test]
async fn a_gateway_that_hangs_costs_its_deadline_and_no_more() {
    let block = leaf("slow");
    let double = double(std::slice::from_ref(&block)).await;
    for fault in [HttpFault::Hang, HttpFault::Stall(2)] {
        double.always(Some(fault));
        let start = Instant::now();
        let error = configured(&double, 1, 3)
            .get(block.cid())
            .await
            .unwrap_err();
        assert!(matches!(error, SourceError::Timeout { .. }), "{error}");
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{:?}",
            start.elapsed()
        );
    }
    // A second attempt fits into the deadline.
    double.always(None);
    double.script([Some(HttpFault::Hang)]);
    assert_eq!(
        configured(&double, 2, 1)
            .get(block.cid())
            .await
            .unwrap()
            .block,
        block
    );
}

#[tokio::test]
async fn statuses_say_whether_a_block_is_absent_or_a_gateway_is_ill() {
    let block = leaf("status");
    let double = double(std::slice::from_ref(&block)).await;
    assert!(matches!(
        bare(&double).get(leaf("absent").cid()).await,
        Err(SourceError::NotFound { .. })
    ));
    for status in [
        400, 403, 404, 406, 410, 412, 451, 500, 502, 504, 204, 206, 302,
    ] {
        double.always(Some(HttpFault::Status(status, "")));
        let error = bare(&double).get(block.cid()).await.unwrap_err();
        let absent = matches!(error, SourceError::NotFound { .. });
        assert_eq!(
            absent,
            matches!(status, 404 | 410 | 412),
            "{status}: {error}"
        );
    }
}

#[tokio::test]
async fn a_500_is_tried_again_and_a_404_is_not() {
    let block = leaf("second try");
    let double = double(std::slice::from_ref(&block)).await;
    double.script([Some(HttpFault::Status(500, ""))]);
    let sources = configured(&double, 10, 2);
    assert_eq!(sources.get(block.cid()).await.unwrap().block, block);
    assert_eq!(double.requests().len(), 2);
    assert!(sources.get(leaf("absent").cid()).await.is_err());
    assert_eq!(double.requests().len(), 3);
}

#[tokio::test]
async fn retry_after_is_waited_for_when_short_and_handed_on_when_long() {
    let block = leaf("limited");
    let double = double(std::slice::from_ref(&block)).await;
    double.script([Some(HttpFault::Status(429, "Retry-After: 1\r\n"))]);
    let start = Instant::now();
    assert_eq!(
        configured(&double, 10, 2)
            .get(block.cid())
            .await
            .unwrap()
            .block,
        block
    );
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );

    double.script([Some(HttpFault::Status(429, "Retry-After: 3600\r\n"))]);
    let sources = configured(&double, 10, 2);
    for _ in 0..3 {
        let error = sources.get(block.cid()).await.unwrap_err();
        assert!(matches!(error, SourceError::Limited { .. }), "{error}");
    }
    assert_eq!(double.requests().len(), 3, "it is left alone");
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_an_error_with_its_cause() {
    let double = HttpDouble::start().await.unwrap();
    double.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = configured(&double, 5, 1)
        .get(leaf("x").cid())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_broken_off() {
    let block = leaf("small");
    let double = double(std::slice::from_ref(&block)).await;
    let just_over = BLOCK_BYTES_MAX as u64 + (64 << 10);
    for (len, declared) in [
        (just_over, true),
        (just_over, false),
        (1 << 40, true),
        (1 << 40, false),
    ] {
        double.always(Some(HttpFault::Oversized(len, declared)));
        let start = Instant::now();
        let error = bare(&double).get(block.cid()).await.unwrap_err();
        assert!(error.to_string().contains("the answer is over"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn redirects_are_followed_a_few_times() {
    let block = leaf("moved");
    let double = double(std::slice::from_ref(&block)).await;
    let target = format!("{}/ipfs/{}?format=raw", double.url(), block.cid());
    double.script([Some(HttpFault::Redirect(target.clone()))]);
    assert_eq!(bare(&double).get(block.cid()).await.unwrap().block, block);

    double.always(Some(HttpFault::Redirect(target)));
    let error = bare(&double).get(block.cid()).await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    assert!(double.requests().len() < 12);
}

#[tokio::test]
async fn a_car_gives_what_the_root_leads_to_in_any_order_and_nothing_else() {
    let leaves = many(20);
    let root = parent(&leaves);
    let double = double(&leaves).await;
    double.insert([root.clone()]);
    double.script([Some(HttpFault::Unrelated(vec![leaf("nobody asked")]))]);
    let sink = MemorySource::default();
    bare(&double).select(&whole(&root), &sink).await.unwrap();
    assert_eq!(sink.blocks().len(), 21);
    assert!(sink.get(leaf("nobody asked").cid()).await.is_err());
    assert_eq!(double.violations(), Vec::<String>::new());

    let part = Selector {
        scope: Scope::Entity,
        bytes: Some((5, 9)),
        path: "a b/ü".into(),
        ..whole(&root)
    };
    drop(bare(&double).select(&part, &sink).await);
    let request = double.requests().last().unwrap().clone();
    let expected = format!(
        "GET /ipfs/{}/a%20b/%C3%BC?format=car&dag-scope=entity&entity-bytes=5:9",
        root.cid()
    );
    assert_eq!(request, expected);
}

#[tokio::test]
async fn a_car_that_is_cut_is_a_failure_although_200_was_sent() {
    let leaves = many(20);
    let root = parent(&leaves);
    let double = double(&leaves).await;
    double.insert([root.clone()]);
    for fault in [
        HttpFault::Short(3000),
        HttpFault::CleanCut(3000),
        HttpFault::CleanCut(0),
    ] {
        double.always(Some(fault));
        let sink = MemorySource::default();
        let error = bare(&double)
            .select(&whole(&root), &sink)
            .await
            .unwrap_err();
        assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
        // What came before the cut is proved and stays.
        assert!(sink.blocks().len() < 20);
    }
}

#[tokio::test]
async fn a_car_with_a_wrong_block_or_without_its_root_is_refused() {
    let leaves = many(3);
    let root = parent(&leaves);
    let double = double(&leaves).await;
    double.insert([root.clone()]);
    double.always(Some(HttpFault::WrongBytes));
    let sources = configured(&double, 5, 0);
    let sink = MemorySource::default();
    let error = sources.select(&whole(&root), &sink).await.unwrap_err();
    assert!(matches!(error, SourceError::Corrupt { .. }), "{error}");
    assert_eq!(sources.figures()[0].health, "distrusted");

    let mut writer = cidfs::car::CarWriter::new(Vec::new(), &[*root.cid()]).unwrap();
    writer.write(&leaves[0]).unwrap();
    let target = format!("/ipfs/{}?format=car&dag-scope=all", root.cid());
    double.always(None);
    double.answer(&target, "", writer.into_inner());
    let sink = MemorySource::default();
    let error = bare(&double)
        .select(&whole(&root), &sink)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("root"), "{error}");
    assert!(sink.blocks().is_empty());
}

#[tokio::test]
async fn a_gateway_that_goes_away_in_the_middle_is_replaced_by_the_next() {
    let blocks = many(20);
    let (first, second) = (double(&blocks).await, double(&blocks).await);
    let specs = [&first, &second].map(|double| SourceSpec::parse(&double.url()).unwrap());
    let sources = Sources::open(&specs, Strategy::Order, &clock()).unwrap();
    for (number, block) in blocks.iter().enumerate() {
        if number == 10 {
            first.stop();
        }
        assert_eq!(&sources.get(block.cid()).await.unwrap().block, block);
    }
    assert!(second.requests().len() >= 10);
    assert_eq!(sources.figures()[0].health, "failing");
}

#[tokio::test]
async fn dnslink_comes_from_the_roots_header_and_counts_as_unproved() {
    let root = *leaf("site").cid();
    let double = double(&[]).await;
    let headers = format!("X-Ipfs-Roots: {root}\r\nCache-Control: public, max-age=77\r\n");
    double.answer("/ipns/example.net", &headers, "");
    let record = bare(&double).resolve("example.net").await.unwrap();
    assert_eq!(record.value, format!("/ipfs/{root}"));
    assert_eq!(
        (record.ttl, record.verified),
        (Duration::from_secs(77), false)
    );
    assert!(bare(&double).resolve("other.example").await.is_err());
    assert!(bare(&double).resolve("../etc").await.is_err());
    assert!(
        double
            .requests()
            .iter()
            .all(|request| !request.contains("etc"))
    );
}
