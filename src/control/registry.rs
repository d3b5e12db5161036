//! The registry: what operations there are, and how to call one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Context, ErrorKind, OperationError, Progress};
use crate::config::{NOTICE_WAIT, OPERATION_TIMEOUT};

/// Bytes that an operation gives, in order. An error ends them.
pub type ByteStream = BoxStream<'static, Result<Bytes, OperationError>>;
/// Bytes that an operation takes.
pub type Body = BoxStream<'static, std::io::Result<Bytes>>;

/// What an operation gives.
pub enum Output {
    /// A JSON object.
    Json(Value),
    /// Raw bytes.
    Bytes {
        /// Media type.
        content_type: &'static str,
        /// How many bytes come, if that is known.
        length: Option<u64>,
        /// The bytes.
        stream: ByteStream,
    },
}

/// One call of an operation.
#[derive(Default)]
pub struct Call {
    /// The parameters: a JSON object, or null for none.
    pub params: Value,
    /// Bytes, where the operation takes some.
    pub body: Option<Body>,
    /// Where it reports to.
    pub progress: Progress,
}

impl Call {
    /// Makes a call with parameters only.
    pub fn with(params: Value) -> Self {
        Self {
            params,
            ..Self::default()
        }
    }
}

/// What a handler gets beside its parameters.
pub struct Io {
    /// Bytes, where the caller sent some.
    pub body: Option<Body>,
    /// Where to report to.
    pub progress: Progress,
}

type Answer = Result<Output, OperationError>;
type Handler = Box<dyn Fn(Arc<Context>, Call) -> BoxFuture<'static, Answer> + Send + Sync>;

/// One operation.
pub struct Operation {
    /// Its name, `group/verb`.
    pub name: &'static str,
    /// One sentence on what it does.
    pub summary: &'static str,
    /// Whether it changes anything.
    pub mutates: bool,
    /// Whether it takes bytes; the parameters then travel beside them.
    pub takes_body: bool,
    /// Media type of the bytes that it gives; `None` gives JSON.
    pub gives: Option<&'static str>,
    /// How long it may take; `None` for work that is bounded step by step.
    pub deadline: Option<Duration>,
    /// Whether it goes on until the caller leaves.
    pub endless: bool,
    /// JSON schema of the parameters.
    pub params: Value,
    handler: Handler,
}

impl Operation {
    /// Defines an operation that changes nothing and gives JSON.
    pub fn read<P, F, R>(name: &'static str, summary: &'static str, handler: F) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Arc<Context>, P, Io) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        let handler: Handler = Box::new(move |context, call| {
            let handler = handler.clone();
            Box::pin(async move {
                let params: P = decode(call.params)?;
                handler(
                    context,
                    params,
                    Io {
                        body: call.body,
                        progress: call.progress,
                    },
                )
                .await
            })
        });
        Self {
            name,
            summary,
            mutates: false,
            takes_body: false,
            gives: None,
            deadline: Some(OPERATION_TIMEOUT),
            endless: false,
            params: schemars::schema_for!(P).to_value(),
            handler,
        }
    }

    /// Defines an operation that changes something.
    pub fn write<P, F, R>(name: &'static str, summary: &'static str, handler: F) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Arc<Context>, P, Io) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        Self {
            mutates: true,
            ..Self::read(name, summary, handler)
        }
    }

    /// Says that it takes bytes.
    #[must_use]
    pub fn taking_body(self) -> Self {
        Self {
            takes_body: true,
            ..self
        }
    }

    /// Says that it gives bytes of a media type.
    #[must_use]
    pub fn giving(self, content_type: &'static str) -> Self {
        Self {
            gives: Some(content_type),
            ..self
        }
    }

    /// Says that it may run for long: each of its steps has a deadline instead.
    #[must_use]
    pub fn long(self) -> Self {
        Self {
            deadline: None,
            ..self
        }
    }

    /// Says that it goes on until the caller leaves.
    #[must_use]
    pub fn endless(self) -> Self {
        Self {
            deadline: None,
            endless: true,
            ..self
        }
    }

    /// The part of the name before the slash.
    pub fn group(&self) -> &'static str {
        self.name.split_once('/').map_or("core", |(group, _)| group)
    }

    /// Runs it.
    pub async fn call(&self, context: Arc<Context>, call: Call) -> Answer {
        if call.body.is_some() && !self.takes_body {
            return Err(OperationError::invalid(format!(
                "{} takes no bytes",
                self.name
            )));
        }
        let mfs = Arc::clone(&context.mfs);
        let answer = self.run(context, call).await;
        if self.mutates {
            // What was done is what every mount shows when the answer is read.
            mfs.told(NOTICE_WAIT).await;
        }
        answer
    }

    async fn run(&self, context: Arc<Context>, call: Call) -> Answer {
        let running = (self.handler)(context, call);
        let Some(deadline) = self.deadline else {
            return running.await;
        };
        tokio::time::timeout(deadline, running)
            .await
            .unwrap_or_else(|_| {
                let message = format!("{} took longer than {} s", self.name, deadline.as_secs());
                Err(OperationError::new(ErrorKind::Timeout, message))
            })
    }
}

/// Decodes parameters; no parameters are an empty object.
pub(super) fn decode<P: DeserializeOwned>(params: Value) -> Result<P, OperationError> {
    let params = if params.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        params
    };
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." {
            String::new()
        } else {
            format!("{path}: ")
        };
        let what = in_words(&error.into_inner().to_string());
        OperationError::invalid(format!("bad parameters: {place}{what}"))
    })
}

/// What was expected, without the names that types have in this program.
fn in_words(message: &str) -> String {
    let Some((what, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let words = match expected {
        "usize" | "u64" => "a number from 0",
        "u32" => "a number from 0 to 4294967295",
        "i64" | "isize" => "a whole number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    // JSON and query strings call their values otherwise than the library does.
    format!(
        "{}, expected {words}",
        what.replace("integer `", "number `")
    )
}

/// All operations by name.
pub struct Registry {
    operations: BTreeMap<&'static str, Operation>,
}

impl Registry {
    /// Collects operations; of two with one name the later stays.
    pub fn new(operations: impl IntoIterator<Item = Operation>) -> Self {
        Self {
            operations: operations.into_iter().map(|one| (one.name, one)).collect(),
        }
    }

    /// All operations of this program.
    pub fn standard() -> Self {
        Self::new(super::ops::all())
    }

    /// Finds an operation.
    pub fn get(&self, name: &str) -> Result<&Operation, OperationError> {
        self.operations.get(name).ok_or_else(|| {
            let message = format!("there is no operation {name:?}");
            OperationError::new(ErrorKind::UnknownOperation, message)
                .hint("GET /api/v0/openapi.json lists what there is")
        })
    }

    /// Gives all, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values()
    }

    /// Runs the operation `name`.
    pub async fn call(&self, context: Arc<Context>, name: &str, call: Call) -> Answer {
        self.get(name)?.call(context, call).await
    }
}
