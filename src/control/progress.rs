//! How an operation tells what it is doing while it runs.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

/// The one who listened has gone: stop working for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller has gone")]
pub struct Gone;

/// Someone who hears of progress. Called from several threads at once.
pub trait Listener: Send + Sync {
    /// Takes something that must not be lost (a file that was added). May
    /// block until there is room: never called from an async task.
    fn item(&self, event: Value) -> Result<(), Gone>;

    /// Takes figures that a later call replaces. Never blocks; may be dropped.
    fn tick(&self, event: Value);
}

/// Where an operation reports to. Cheap to clone; reports nowhere by default.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Listener>>);

impl Progress {
    /// Reports to `listener`.
    pub fn new(listener: Arc<dyn Listener>) -> Self {
        Self(Some(listener))
    }

    /// Tells whether anyone listens.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Reports something that must not be lost. May block.
    pub fn item(&self, event: impl Serialize) -> Result<(), Gone> {
        match (&self.0, serde_json::to_value(event)) {
            (Some(listener), Ok(value)) => listener.item(value),
            (None, _) | (_, Err(_)) => Ok(()),
        }
    }

    /// Reports figures that a later call replaces.
    pub fn tick(&self, event: impl Serialize) {
        if let (Some(listener), Ok(value)) = (&self.0, serde_json::to_value(event)) {
            listener.tick(value);
        }
    }
}
