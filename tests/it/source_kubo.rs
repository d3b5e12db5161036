//! A Kubo node's RPC that behaves, and that does not.

use std::sync::Arc;

use cidfs::block::{Block, Cid, DAG_CBOR, RAW, SHA2_256};
use cidfs::clock::SystemClock;
use cidfs::source::{BlockSource, Kubo, KuboAddress, Scope, Selector, SourceError};
use cidfs::testing::http::{HttpDouble, HttpFault};
use cidfs::testing::source::MemorySource;

fn leaf(text: &str) -> Block {
    Block::seal(RAW, SHA2_256, text.to_owned().into()).unwrap()
}

async fn node(blocks: &[Block]) -> (HttpDouble, Kubo) {
    let double = HttpDouble::start().await.unwrap();
    double.insert(blocks.iter().cloned());
    let port = double.url().rsplit(':').next().unwrap().to_owned();
    let address = KuboAddress::parse(&format!("/ip4/127.0.0.1/tcp/{port}")).unwrap();
    let kubo = Kubo::new(
        "kubo".to_owned(),
        address,
        true,
        None,
        Arc::new(SystemClock),
    )
    .unwrap();
    (double, kubo)
}

#[tokio::test]
async fn blocks_come_by_post_and_absent_ones_are_not_found() {
    let (double, kubo) = node(&[leaf("here")]).await;
    kubo.probe().await.unwrap();
    let fetched = kubo.get(leaf("here").cid()).await.unwrap();
    assert_eq!((fetched.block, fetched.keep), (leaf("here"), true));
    let absent = kubo.get(leaf("absent").cid()).await.unwrap_err();
    assert!(matches!(absent, SourceError::NotFound { .. }), "{absent}");
    assert_eq!(double.violations(), Vec::<String>::new());
    assert!(
        double
            .requests()
            .iter()
            .skip(1)
            .all(|request| request.ends_with("&offline=true"))
    );
}

#[tokio::test]
async fn wrong_bytes_and_bodies_over_the_limit_are_refused() {
    let (double, kubo) = node(&[leaf("here")]).await;
    for fault in [HttpFault::WrongBytes, HttpFault::Oversized(1 << 40, false)] {
        double.always(Some(fault));
        let error = kubo.get(leaf("here").cid()).await.unwrap_err();
        assert!(matches!(error, SourceError::Corrupt { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_export_that_fails_in_its_trailer_is_a_failure() {
    let leaves = [leaf("a"), leaf("b")];
    let cids: Vec<Cid> = leaves.iter().map(|block| *block.cid()).collect();
    let data = serde_ipld_dagcbor::to_vec(&cids).unwrap();
    let root = Block::seal(DAG_CBOR, SHA2_256, data.into()).unwrap();
    let (double, kubo) = node(&leaves).await;
    double.insert([root.clone()]);
    let selector = Selector {
        root: *root.cid(),
        path: String::new(),
        scope: Scope::All,
        bytes: None,
    };

    let sink = MemorySource::default();
    kubo.select(&selector, &sink).await.unwrap();
    assert_eq!(sink.blocks().len(), 3);

    double.always(Some(HttpFault::StreamError("block was not found locally")));
    let error = kubo
        .select(&selector, &MemorySource::default())
        .await
        .unwrap_err();
    assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
    double.always(Some(HttpFault::StreamError("context canceled")));
    let error = kubo
        .select(&selector, &MemorySource::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("context canceled"), "{error}");
    double.always(Some(HttpFault::CleanCut(70)));
    assert!(
        kubo.select(&selector, &MemorySource::default())
            .await
            .is_err()
    );

    let part = Selector {
        scope: Scope::Entity,
        ..selector
    };
    let error = kubo
        .select(&part, &MemorySource::default())
        .await
        .unwrap_err();
    assert!(matches!(error, SourceError::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_is_no_kubo_says_so() {
    let (double, kubo) = node(&[]).await;
    double.always(Some(HttpFault::Status(404, "")));
    let error = kubo.get(leaf("x").cid()).await.unwrap_err();
    assert!(error.to_string().contains("no Kubo RPC"), "{error}");
    double.always(Some(HttpFault::Status(403, "")));
    let error = kubo.get(leaf("x").cid()).await.unwrap_err();
    assert!(error.to_string().contains("forbidden"), "{error}");
}
