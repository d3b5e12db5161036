//! Asks several sources for one thing: in order, or at once.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};

use super::SourceError;

/// How several sources are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// One after the other, in the order of the configuration.
    #[default]
    Order,
    /// All of the network at once; the first good answer wins.
    Race,
}

/// Starts one wave of requests after the other until one succeeds.
///
/// The next wave starts when all requests so far have failed, or when they
/// have been silent for `hedge`; what is under way goes on. When one succeeds
/// the others are dropped. Fails when all have: see [`Failures`].
pub(super) async fn first_good<'a, T>(
    waves: Vec<Vec<BoxFuture<'a, Result<T, SourceError>>>>,
    hedge: Duration,
) -> Result<T, Failures> {
    let mut running = FuturesUnordered::new();
    let mut failures = Failures::default();
    let mut waves = waves.into_iter();
    loop {
        if running.is_empty() {
            match waves.next() {
                Some(wave) => running.extend(wave),
                None => return Err(failures),
            }
            continue;
        }
        tokio::select! {
            answer = running.next() => match answer {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => failures.note(error),
                None => (),
            },
            () = tokio::time::sleep(hedge), if waves.len() > 0 => {
                running.extend(waves.next().unwrap_or_default());
            }
        }
    }
}

/// What several sources answered instead.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: usize,
    weightiest: Option<SourceError>,
}

impl Failures {
    /// Takes one more answer.
    pub(super) fn note(&mut self, error: SourceError) {
        self.count += 1;
        let weight = self.weightiest.as_ref().map(SourceError::weight);
        if weight.is_none_or(|weight| error.weight() > weight) {
            self.weightiest = Some(error);
        }
    }

    /// The error for all: "not here" only if every source said so.
    pub(super) fn into_error(self, what: &str) -> SourceError {
        let nobody = |source_name: String| SourceError::NotFound {
            what: what.to_owned(),
            source_name,
        };
        match self.weightiest {
            None => nobody("any source: none is configured".to_owned()),
            Some(SourceError::NotFound { .. }) if self.count > 1 => {
                nobody(format!("any of {} sources", self.count))
            }
            Some(error) => error,
        }
    }
}
