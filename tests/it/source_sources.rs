//! Several sources as one: order, race, health, errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cidfs::block::{Block, IDENTITY, RAW, SHA2_256};
use cidfs::source::{BlockSource, Limit, NameRecord, Retry, SourceError, Sources, Strategy};
use cidfs::testing::source::{Fault, FaultSource, MemorySource};

fn block() -> Block {
    Block::seal(RAW, SHA2_256, "block".into()).unwrap()
}

fn having(name: &str) -> Arc<FaultSource> {
    Arc::new(FaultSource::new(Arc::new(MemorySource::with(
        name,
        [block()],
    ))))
}

fn empty(name: &str) -> Arc<FaultSource> {
    Arc::new(FaultSource::new(Arc::new(MemorySource::new(name))))
}

fn together(strategy: Strategy, all: &[&Arc<FaultSource>]) -> Sources {
    let sources = Sources::new(strategy).with_hedge(Duration::from_millis(200));
    for source in all {
        sources
            .add(Arc::clone(source) as Arc<dyn BlockSource>)
            .unwrap();
    }
    sources
}

#[tokio::test]
async fn in_order_the_second_is_asked_only_when_the_first_fails() {
    let (first, second) = (having("first"), having("second"));
    let sources = together(Strategy::Order, &[&first, &second]);
    sources.get(block().cid()).await.unwrap();
    assert_eq!((first.gets(), second.gets()), (1, 0));
    first.script([Some(Fault::NotFound)]);
    sources.get(block().cid()).await.unwrap();
    assert_eq!((first.gets(), second.gets()), (2, 1));
}

#[tokio::test]
async fn in_order_a_silent_source_does_not_hold_up_the_next() {
    let (first, second) = (having("first"), having("second"));
    first.always(Some(Fault::Hang));
    let start = Instant::now();
    together(Strategy::Order, &[&first, &second])
        .get(block().cid())
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn in_a_race_the_first_good_answer_wins() {
    let (slow, wrong, fast) = (having("slow"), having("wrong"), having("fast"));
    slow.always(Some(Fault::Slow(Duration::from_secs(20))));
    wrong.always(Some(Fault::Corrupt));
    fast.always(Some(Fault::Slow(Duration::from_millis(50))));
    let start = Instant::now();
    let sources = together(Strategy::Race, &[&slow, &wrong, &fast]);
    sources.get(block().cid()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!([slow.gets(), wrong.gets(), fast.gets()], [1, 1, 1]);
    // The one that sent wrong bytes takes part no more.
    sources.get(block().cid()).await.unwrap();
    assert_eq!([slow.gets(), wrong.gets(), fast.gets()], [2, 1, 2]);
}

#[tokio::test]
async fn the_local_disk_is_asked_before_any_network_and_kept_when_damaged() {
    let network = having("network");
    let disk = Arc::new(FaultSource::new(Arc::new(
        MemorySource::with("disk", [block()]).local(),
    )));
    disk.script([Some(Fault::Corrupt)]);
    let sources = together(Strategy::Race, &[&network, &disk]);
    assert!(sources.get(block().cid()).await.unwrap().keep);
    assert!(!sources.get(block().cid()).await.unwrap().keep);
    assert_eq!((disk.gets(), network.gets()), (2, 1));
}

#[tokio::test]
async fn a_block_is_not_found_only_if_every_source_says_so() {
    let (first, second) = (empty("first"), empty("second"));
    for strategy in [Strategy::Order, Strategy::Race] {
        let sources = together(strategy, &[&first, &second]);
        let error = sources.get(block().cid()).await.unwrap_err();
        assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
        assert!(
            error.to_string().ends_with("is not at any of 2 sources"),
            "{error}"
        );

        for (fault, words) in [
            (Fault::Unreachable, "failed"),
            (Fault::Timeout, "did not answer"),
            (Fault::Limited(None), "limits"),
            (Fault::Corrupt, "wrong data"),
        ] {
            second.script([Some(fault)]);
            let sources = together(strategy, &[&first, &second]);
            let error = sources.get(block().cid()).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    let nothing = Sources::new(Strategy::Order)
        .get(block().cid())
        .await
        .unwrap_err();
    assert!(matches!(nothing, SourceError::NotFound { .. }), "{nothing}");
}

#[tokio::test]
async fn a_failing_source_comes_behind_those_that_work() {
    let (ill, well) = (having("ill"), having("well"));
    ill.always(Some(Fault::Unreachable));
    let sources = together(Strategy::Order, &[&ill, &well]);
    for _ in 0..10 {
        sources.get(block().cid()).await.unwrap();
    }
    assert_eq!((ill.gets(), well.gets()), (3, 10));
    let health: Vec<String> = sources.figures().into_iter().map(|f| f.health).collect();
    assert_eq!(health, ["failing", "good"]);
}

#[tokio::test]
async fn identity_cids_need_no_source() {
    let inline = Block::seal(RAW, IDENTITY, "inline".into()).unwrap();
    let fetched = Sources::new(Strategy::Order)
        .get(inline.cid())
        .await
        .unwrap();
    assert_eq!((fetched.block, fetched.keep), (inline, false));
}

#[tokio::test]
async fn sources_are_added_and_removed_while_others_serve() {
    let (first, second) = (having("first"), having("second"));
    let sources = together(Strategy::Order, &[&first, &second]);
    let again = sources.add(having("first")).unwrap_err();
    assert!(again.to_string().contains("first"));
    assert!(sources.remove("first"));
    assert!(!sources.remove("first"));
    assert_eq!(sources.names(), ["second"]);
    sources.get(block().cid()).await.unwrap();
    assert_eq!((first.gets(), second.gets()), (0, 1));
}

#[tokio::test]
async fn a_test_asks_each_source_and_times_it() {
    let (well, ill) = (having("well"), having("ill"));
    ill.always(Some(Fault::Unreachable));
    let sources = together(Strategy::Order, &[&well, &ill]);
    let probes = sources.test(None).await;
    let good: Vec<bool> = probes.iter().map(|probe| probe.answer.is_ok()).collect();
    assert_eq!(good, [true, false]);
    assert_eq!(sources.test(Some("ill")).await.len(), 1);
}

#[tokio::test]
async fn retries_are_bounded_and_only_for_passing_failures() {
    for (fault, asked) in [
        (Fault::Unreachable, 3),
        (Fault::Timeout, 3),
        (Fault::NotFound, 1),
        (Fault::Corrupt, 1),
    ] {
        let source = having("source");
        source.always(Some(fault));
        assert!(
            Retry::new(Arc::clone(&source) as _, 2)
                .get(block().cid())
                .await
                .is_err()
        );
        assert_eq!(source.gets(), asked);
    }
}

#[tokio::test]
async fn no_more_requests_than_the_limit_run_at_once() {
    let source = having("source");
    source.always(Some(Fault::Slow(Duration::from_millis(300))));
    let limited = Arc::new(Limit::new(Arc::clone(&source) as _, 3));
    let tasks: Vec<_> = (0..9)
        .map(|_| {
            let limited = Arc::clone(&limited);
            tokio::spawn(async move { limited.get(block().cid()).await.map(drop) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(source.gets(), 3);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(source.gets(), 9);
}

fn record(value: &str, sequence: Option<u64>) -> NameRecord {
    let (value, ttl) = (value.to_owned(), Duration::from_secs(60));
    NameRecord {
        value,
        ttl,
        sequence,
        verified: sequence.is_some(),
    }
}

fn naming(source: &str, record: NameRecord) -> Arc<dyn BlockSource> {
    let source = MemorySource::new(source);
    source.set_name("name", record);
    Arc::new(source)
}

#[tokio::test]
async fn of_several_records_the_proved_one_with_the_highest_sequence_wins() {
    let sources = Sources::new(Strategy::Order);
    sources
        .add(naming("unproved", record("/ipfs/unproved", None)))
        .unwrap();
    sources
        .add(naming("old", record("/ipfs/old", Some(1))))
        .unwrap();
    sources
        .add(naming("new", record("/ipfs/new", Some(5))))
        .unwrap();
    sources
        .add(naming("older", record("/ipfs/older", Some(0))))
        .unwrap();
    assert_eq!(sources.resolve("name").await.unwrap().value, "/ipfs/new");
    assert!(matches!(
        sources.resolve("other").await,
        Err(SourceError::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_silent_source_does_not_hold_up_a_name() {
    let sources = Sources::new(Strategy::Order);
    let silent = empty("silent");
    silent.always(Some(Fault::Hang));
    sources.add(silent).unwrap();
    sources
        .add(naming("good", record("/ipfs/good", Some(1))))
        .unwrap();
    let start = Instant::now();
    assert_eq!(sources.resolve("name").await.unwrap().value, "/ipfs/good");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}
