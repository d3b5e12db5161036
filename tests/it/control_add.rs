//! What an import says on the way, and that it ends with its caller.

use std::sync::{Arc, Mutex};

use cidfs::control::{Call, Gone, Listener, Output, Progress, Registry};
use cidfs::testing::dag::Dag;
use serde_json::{Value, json};

use crate::control_world::{Ended, context};

/// Keeps what it hears; it may have gone already.
struct Heard {
    events: Mutex<Vec<Value>>,
    gone: bool,
}

impl Listener for Heard {
    fn item(&self, event: Value) -> Result<(), Gone> {
        self.events.lock().unwrap().push(event);
        Ok(())
    }

    fn tick(&self, _event: Value) {}

    fn is_gone(&self) -> bool {
        self.gone
    }
}

/// Adds a directory of 100 files: the outcome, and how many events came.
async fn add(terse: bool, gone: bool) -> (Result<Value, String>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    for number in 0..100 {
        std::fs::write(files.join(number.to_string()), number.to_string()).unwrap();
    }
    let context = context(
        dir.path().to_owned(),
        Dag::default(),
        Arc::new(Ended::default()),
    );
    let heard = Arc::new(Heard {
        events: Mutex::default(),
        gone,
    });
    let params = json!({"paths": [files], "terse": terse, "options": {"recursive": true}});
    let call = Call {
        progress: Progress::new(Arc::clone(&heard) as _),
        ..Call::with(params)
    };
    let answer = Registry::standard().call(context, "ipfs/add", call).await;
    let outcome = match answer {
        Ok(Output::Json(result)) => Ok(result),
        Ok(Output::Bytes { .. }) => Err("bytes".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let events = heard.events.lock().unwrap().len();
    (outcome, events)
}

#[tokio::test]
async fn a_terse_import_says_only_its_result() {
    let (talkative, events) = add(false, false).await;
    assert_eq!(events, 101);
    let (terse, events) = add(true, false).await;
    assert_eq!(events, 0);
    assert_eq!(terse.unwrap()["roots"], talkative.unwrap()["roots"]);
}

#[tokio::test]
async fn a_terse_import_ends_when_nobody_waits_for_it_any_more() {
    let (outcome, _) = add(true, true).await;
    assert!(outcome.unwrap_err().contains("cancelled"));
}
