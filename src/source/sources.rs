//! Several sources as one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::RwLock;

use super::race::{Failures, Strategy, first_good};
use super::spec::{SourceSpec, SpecError};
use super::{
    BlockSource, Fetched, Meter, Metered, NameRecord, Selector, SourceError, SourceFigures,
};
use crate::block::{Block, BlockSink, Cid};
use crate::clock::Clock;
use crate::config::{HEDGE_WAIT, NAME_GRACE, SOURCES_MAX};

/// The sources that are configured, as one source.
///
/// Sources on this machine's disk are asked first. The others follow in the
/// order of the configuration, or all at once, by the [`Strategy`]; those that
/// fail come behind those that work, and those that sent wrong bytes come
/// last. A block is "not found" only if every source says so. Of the records
/// of a name the one with the highest sequence number wins.
pub struct Sources {
    entries: RwLock<Arc<[Entry]>>,
    strategy: Strategy,
    hedge: Duration,
}

#[derive(Clone)]
struct Entry {
    source: Arc<dyn BlockSource>,
    meter: Arc<Meter>,
}

impl Entry {
    fn new(source: Arc<dyn BlockSource>) -> Self {
        let metered = Metered::new(source);
        let meter = metered.meter();
        Self {
            source: Arc::new(metered),
            meter,
        }
    }

    /// The order in which sources are asked: small comes first.
    fn rank(&self) -> u8 {
        if self.meter.is_distrusted() {
            return 3;
        }
        match (self.source.is_local(), self.meter.is_failing()) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        }
    }
}

/// What a probe of one source found.
#[derive(Debug)]
pub struct Probe {
    /// Name of the source.
    pub name: String,
    /// How long the answer took.
    pub took: Duration,
    /// The answer.
    pub answer: Result<(), SourceError>,
}

impl Sources {
    /// Makes one source of none.
    pub fn new(strategy: Strategy) -> Self {
        Self {
            entries: RwLock::new(Arc::new([])),
            strategy,
            hedge: HEDGE_WAIT,
        }
    }

    /// Asks the next source when one has been silent for `hedge`.
    #[must_use]
    pub fn with_hedge(mut self, hedge: Duration) -> Self {
        self.hedge = hedge;
        self
    }

    /// Builds the sources of a configuration. Sends nothing.
    pub fn open(
        specs: &[SourceSpec],
        strategy: Strategy,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, SpecError> {
        let sources = Self::new(strategy);
        for spec in specs {
            sources.add_spec(spec, clock)?;
        }
        Ok(sources)
    }

    /// Builds one more source and asks it after the others.
    pub fn add_spec(&self, spec: &SourceSpec, clock: &Arc<dyn Clock>) -> Result<(), SpecError> {
        let built = spec.open(clock)?;
        self.push(Entry {
            source: built.source,
            meter: built.meter,
        })
    }

    /// Takes one more source, as it is, and asks it after the others.
    pub fn add(&self, source: Arc<dyn BlockSource>) -> Result<(), SpecError> {
        self.push(Entry::new(source))
    }

    fn push(&self, entry: Entry) -> Result<(), SpecError> {
        let mut entries = self.entries.write();
        let name = entry.source.name();
        if entries.iter().any(|other| other.source.name() == name) {
            return Err(SpecError::Twice(name));
        }
        if entries.len() >= SOURCES_MAX {
            return Err(SpecError::TooMany);
        }
        *entries = entries.iter().cloned().chain([entry]).collect();
        Ok(())
    }

    /// Takes a source away; `false` if there is none of the name. Requests
    /// that it is serving go on.
    pub fn remove(&self, name: &str) -> bool {
        let mut entries = self.entries.write();
        let before = entries.len();
        *entries = entries
            .iter()
            .filter(|entry| entry.source.name() != name)
            .cloned()
            .collect();
        entries.len() < before
    }

    /// Names of the sources, in the order of the configuration.
    pub fn names(&self) -> Vec<String> {
        self.entries
            .read()
            .iter()
            .map(|entry| entry.source.name())
            .collect()
    }

    /// Asks every source, or the one called `name`, whether it works.
    pub async fn test(&self, name: Option<&str>) -> Vec<Probe> {
        let entries = self.snapshot();
        let wanted = entries
            .iter()
            .filter(|e| name.is_none_or(|name| e.source.name() == name));
        join_all(wanted.map(|entry| async {
            let start = std::time::Instant::now();
            let answer = entry.source.probe().await;
            Probe {
                name: entry.source.name(),
                took: start.elapsed(),
                answer,
            }
        }))
        .await
    }

    fn snapshot(&self) -> Arc<[Entry]> {
        Arc::clone(&self.entries.read())
    }

    /// Groups the sources into waves that are asked one after the other.
    fn waves<'a>(&self, entries: &'a [Entry]) -> Vec<Vec<&'a Entry>> {
        let mut ranked: Vec<(u8, &Entry)> = entries.iter().map(|e| (e.rank(), e)).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        match self.strategy {
            Strategy::Order => ranked.into_iter().map(|(_, entry)| vec![entry]).collect(),
            Strategy::Race => {
                let (raced, alone): (Vec<_>, Vec<_>) = ranked
                    .into_iter()
                    .partition(|(rank, _)| matches!(rank, 1 | 2));
                let (first, last): (Vec<_>, Vec<_>) =
                    alone.into_iter().partition(|(rank, _)| *rank == 0);
                let single = |wave: Vec<(u8, &'a Entry)>| wave.into_iter().map(|(_, e)| vec![e]);
                let raced: Vec<&Entry> = raced.into_iter().map(|(_, entry)| entry).collect();
                single(first).chain([raced]).chain(single(last)).collect()
            }
        }
    }
}

/// Takes the records of several sources until all have answered, or until a
/// grace after the first good one: the newest proved record wins.
async fn newest_record(
    mut answers: FuturesUnordered<BoxFuture<'_, Result<NameRecord, SourceError>>>,
) -> Result<NameRecord, Failures> {
    let mut failures = Failures::default();
    let mut best: Option<NameRecord> = None;
    let grace = tokio::time::sleep(NAME_GRACE);
    tokio::pin!(grace);
    loop {
        tokio::select! {
            answer = answers.next() => match answer {
                Some(Ok(record)) => {
                    if best.is_none() {
                        grace.as_mut().reset(tokio::time::Instant::now() + NAME_GRACE);
                    }
                    let newer = best.as_ref().is_none_or(|best| {
                        (record.verified, record.sequence) > (best.verified, best.sequence)
                    });
                    if newer {
                        best = Some(record);
                    }
                }
                Some(Err(error)) => failures.note(error),
                None => break,
            },
            () = &mut grace, if best.is_some() => break,
        }
    }
    best.ok_or(failures)
}

#[async_trait]
impl BlockSource for Sources {
    fn name(&self) -> String {
        "all sources".to_owned()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        let inline = Block::inline(cid).and_then(Result::ok);
        if let Some(block) = inline {
            return Ok(Fetched { block, keep: false });
        }
        let entries = self.snapshot();
        let waves = self.waves(&entries).into_iter();
        let waves = waves.map(|wave| wave.into_iter().map(|e| e.source.get(cid)).collect());
        let answer = first_good(waves.collect(), self.hedge).await;
        answer.map_err(|failures| failures.into_error(&cid.to_string()))
    }

    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        let entries = self.snapshot();
        let mut failures = Failures::default();
        // Never two at once: the bytes of a whole DAG are not to come twice.
        for entry in self.waves(&entries).into_iter().flatten() {
            match entry.source.select(selector, sink).await {
                Ok(()) => return Ok(()),
                Err(error) => failures.note(error),
            }
        }
        Err(failures.into_error(&selector.root.to_string()))
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        let entries = self.snapshot();
        let trusted = entries.iter().filter(|entry| !entry.meter.is_distrusted());
        let answers = trusted.map(|entry| entry.source.resolve(name)).collect();
        match newest_record(answers).await {
            Ok(record) => Ok(record),
            Err(mut failures) => {
                for entry in entries.iter().filter(|entry| entry.meter.is_distrusted()) {
                    match entry.source.resolve(name).await {
                        // Its word alone is worth nothing.
                        Ok(record) if record.verified => return Ok(record),
                        Ok(_) => (),
                        Err(error) => failures.note(error),
                    }
                }
                Err(failures.into_error(&format!("/ipns/{name}")))
            }
        }
    }

    async fn probe(&self) -> Result<(), SourceError> {
        let mut failures = Failures::default();
        for probe in self.test(None).await {
            match probe.answer {
                Ok(()) => return Ok(()),
                Err(error) => failures.note(error),
            }
        }
        Err(failures.into_error("a probe"))
    }

    fn roots(&self) -> Vec<Cid> {
        self.snapshot()
            .iter()
            .flat_map(|entry| entry.source.roots())
            .collect()
    }

    fn figures(&self) -> Vec<SourceFigures> {
        self.snapshot()
            .iter()
            .flat_map(|entry| entry.source.figures())
            .collect()
    }
}
