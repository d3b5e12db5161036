//! `cidfs gc` and `cidfs verify`.

use clap::Args;
use serde_json::{Value, json};

use super::args::Common;
use super::backend::Backend;
use super::failure::Failure;
use super::output::{counted, human_bytes, list, number, print, print_json, safe, text};
use super::progress::Bar;
use crate::control::{Call, OperationError, Output};

/// Flags of `cidfs gc`.
#[derive(Debug, Args)]
pub(super) struct Gc {}

/// Flags of `cidfs verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {}

async fn call(common: &Common, name: &str, what: &str) -> Result<Value, Failure> {
    let backend = Backend::open_for(common, name).await?;
    let bar = Bar::start(what, common.json);
    let call = Call {
        progress: bar.hear(None),
        ..Call::with(json!({}))
    };
    let output = backend.call(name, call).await;
    bar.end();
    let Output::Json(result) = output? else {
        return Err(OperationError::internal(format!("{name} gave bytes")).into());
    };
    backend.close().await?;
    Ok(result)
}

pub(super) async fn gc(common: &Common, _: Gc) -> Result<(), Failure> {
    let result = call(common, "cache/gc", "collecting").await?;
    if common.json {
        return print_json(&result);
    }
    let figure = |name| number(&result, name);
    print(&format!(
        "freed {}, {}; kept {}\n",
        counted(figure("freed_blocks"), "block", "blocks"),
        human_bytes(figure("freed_bytes")),
        counted(figure("kept_blocks"), "block", "blocks"),
    ))?;
    print(&stayed(&result))
}

/// What a collection has left, and why.
fn stayed(result: &Value) -> String {
    let figure = |name| number(result, name);
    let mut out = String::new();
    if let missing @ 1.. = figure("missing_blocks") {
        let missing = counted(missing, "pinned block is", "pinned blocks are");
        out += &format!("{missing} not here; `cidfs pin add` fetches what is missing\n");
    }
    if let full @ 1.. = figure("full_packs") {
        let needs = human_bytes(figure("full_needs_bytes"));
        let full = counted(full, "pack has", "packs have");
        let line = "removed content and could not be made smaller: the disk is full";
        out += &format!("{full} {line}; have {needs} more free, then `cidfs gc` again\n");
    }
    if let lacks @ 1.. = figure("reserve_lacks_bytes") {
        let needs = human_bytes(lacks);
        let line = "what is kept back for a full disk comes first: writing goes on once";
        out += &format!("{line} {needs} more are free\n");
    }
    if let damaged @ 1.. = figure("damaged_packs") {
        let damaged = counted(damaged, "pack stays as it is", "packs stay as they are");
        out += &format!("{damaged}: something is damaged; `cidfs verify` names it\n");
    }
    out
}

pub(super) async fn verify(common: &Common, _: Verify) -> Result<(), Failure> {
    let result = call(common, "cache/verify", "verifying").await?;
    let clean = result
        .get("clean")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    if common.json {
        print_json(&result)?;
    } else {
        for block in list(&result, "damaged") {
            let (cid, pack) = (text(block, "cid"), safe(&text(block, "pack")));
            let why = safe(&text(block, "why"));
            print(&format!(
                "damaged {cid} in {pack} at {}: {why}\n",
                text(block, "offset")
            ))?;
        }
        for pack in list(&result, "torn") {
            let (file, end) = (safe(&text(pack, "pack")), text(pack, "end"));
            print(&format!(
                "torn {file} after {end}: {}\n",
                safe(&text(pack, "why"))
            ))?;
        }
        let (blocks, bytes) = (number(&result, "blocks"), number(&result, "bytes"));
        print(&format!(
            "{blocks} blocks are sound, {}\n",
            human_bytes(bytes)
        ))?;
    }
    if clean {
        Ok(())
    } else {
        Err(Failure::Quiet(DAMAGED))
    }
}

/// Exit code of a scrub that found damage.
const DAMAGED: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_on_a_full_disk_says_what_it_could_not_do_and_what_that_needs() {
        assert_eq!(stayed(&json!({"full_packs": 0, "freed_blocks": 3})), "");
        let full = json!({
            "full_packs": 2, "full_needs_bytes": 3 << 20, "reserve_lacks_bytes": 5 << 20,
        });
        let told = stayed(&full);
        assert!(
            told.starts_with("2 packs") && told.contains("3.00 MiB more"),
            "{told}"
        );
        assert!(told.contains("5.00 MiB more are free"), "{told}");
        let one = stayed(&json!({"missing_blocks": 1, "damaged_packs": 1}));
        assert!(one.starts_with("1 pinned block is"), "{one}");
        assert!(one.contains("1 pack stays as it is"), "{one}");
    }
}
