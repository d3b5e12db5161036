//! `cidfs journal`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{Common, in_tree};
use super::backend::Backend;
use super::cat::{bytes, pump};
use super::failure::Failure;
use super::follow;
use super::output::{counted, human_bytes, list, number, print, print_json, safe, text};
use super::progress::Bar;
use crate::control::{Call, OperationError, Output};

/// Exit code of a check that found damage.
const DAMAGED: u8 = 5;

/// Flags of `cidfs journal`.
#[derive(Debug, Args)]
pub(super) struct Journal {
    #[command(subcommand)]
    command: JournalCommand,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Show what the journal and the writable tree do
    Status,
    /// List entries, the newest first
    Log {
        #[command(flatten)]
        which: Which,
        /// Most entries
        #[arg(short = 'n', long, value_name = "N")]
        limit: Option<usize>,
        /// The oldest first
        #[arg(long)]
        oldest: bool,
        /// Go on where an answer before ended
        #[arg(long, value_name = "N")]
        cursor: Option<u64>,
        /// Show new entries as they come, after the last --limit ones if that is given
        #[arg(short, long, conflicts_with_all = ["oldest", "cursor"])]
        follow: bool,
    },
    /// Show one entry
    Show {
        /// Its number
        entry: u64,
    },
    /// Check every checksum
    Verify,
    /// Write entries as lines of JSON, the oldest first
    Export {
        #[command(flatten)]
        which: Which,
        /// File to write; - and none are standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make the tree a root CID now
    Checkpoint,
    /// Tell what the recovery at the start found
    Recover {
        /// Tell what a recovery would find
        #[arg(long)]
        dry_run: bool,
    },
    /// Show entries as they come
    Follow {
        #[command(flatten)]
        which: Which,
    },
    /// Tell whether the journal is well; exits with 1 if not
    Monitor {
        #[command(flatten)]
        limits: Limits,
    },
}

/// Beyond which figures something is not well.
#[derive(Debug, Args)]
struct Limits {
    /// Most changes that are in no checkpoint yet
    #[arg(long, value_name = "N")]
    changes_max: Option<u64>,
    /// Highest age of the oldest change that a power loss would take, in milliseconds
    #[arg(long, value_name = "MS")]
    unsynced_ms_max: Option<u64>,
    /// Least free space of the journal's disk, such as 500MB or 10GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    disk_free_min: Option<u64>,
    /// Most transactions of clients that are under way
    #[arg(long, value_name = "N")]
    transactions_max: Option<u64>,
    /// Most failures in a row of pushing the tree to a node
    #[arg(long, value_name = "N")]
    push_failures_max: Option<u32>,
}

impl Limits {
    fn params(&self) -> Value {
        let all = [
            ("changes_max", self.changes_max),
            ("unsynced_ms_max", self.unsynced_ms_max),
            ("disk_free_min", self.disk_free_min),
            ("transactions_max", self.transactions_max),
            ("push_failures_max", self.push_failures_max.map(u64::from)),
        ];
        let given = all.into_iter();
        let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        Value::Object(given.collect())
    }
}

fn size(text: &str) -> Result<u64, String> {
    crate::repo::parse_size(text).ok_or_else(|| "a number of bytes, or 500MB, 10GiB".to_owned())
}

/// Which entries.
#[derive(Debug, Args)]
struct Which {
    /// Only of this status: pending, completed, failed or rolled_back
    #[arg(long)]
    status: Option<String>,
    /// Only this type of operation, such as write; may be repeated
    #[arg(long, value_name = "TYPE")]
    operation: Vec<String>,
    /// Only what concerns this path of the tree or something below it
    #[arg(long)]
    path: Option<OsString>,
    /// Only from this time on: 2026-01-31T12:00:00Z, or seconds since the epoch
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only after this entry
    #[arg(long, value_name = "ENTRY")]
    since: Option<u64>,
    /// Only before this entry
    #[arg(long, value_name = "ENTRY")]
    before: Option<u64>,
    /// Only of this transaction
    #[arg(long, value_name = "N")]
    transaction: Option<u64>,
}

impl Which {
    fn params(&self) -> Value {
        json!({
            "status": self.status,
            "operation": self.operation,
            "path": self.path.as_deref().map(in_tree),
            "from": self.from,
            "until": self.until,
            "since": self.since,
            "before": self.before,
            "transaction": self.transaction,
        })
    }
}

pub(super) async fn run(common: &Common, args: Journal) -> Result<(), Failure> {
    match args.command {
        JournalCommand::Status => {
            let status = ask(common, "fs-journal/status", json!({})).await?;
            show(common, &status, status_lines)
        }
        JournalCommand::Log {
            which,
            limit,
            oldest,
            cursor,
            follow,
        } => {
            let mut params = which.params();
            if follow {
                return follow::run(common, params, limit).await;
            }
            let order = if oldest { "oldest" } else { "newest" };
            let more = [
                ("limit", json!(limit)),
                ("cursor", json!(cursor)),
                ("order", json!(order)),
            ];
            if let Some(fields) = params.as_object_mut() {
                fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
            }
            log(common, params).await
        }
        JournalCommand::Show { entry } => {
            let entry = ask(common, "fs-journal/entry", json!({"id": entry})).await?;
            show(common, &entry, |entry| fields(entry, ""))
        }
        JournalCommand::Verify => verify(common).await,
        JournalCommand::Export { which, output } => export(common, which.params(), output).await,
        JournalCommand::Checkpoint => {
            let made = call(common, "fs-journal/checkpoint", "checkpointing", json!({})).await?;
            show(common, &made, |made| {
                format!(
                    "{} after entry {}\n",
                    text(made, "root"),
                    text(made, "sequence")
                )
            })
        }
        JournalCommand::Recover { dry_run } => {
            let backend = Backend::open_as(common, dry_run).await?;
            let params = json!({"dry_run": dry_run});
            let report = backend.json("fs-journal/recover", params).await;
            backend.close().await?;
            let report = report?;
            show(common, &report, |report| fields(report, ""))
        }
        JournalCommand::Follow { which } => follow::run(common, which.params(), None).await,
        JournalCommand::Monitor { limits } => monitor(common, limits.params()).await,
    }
}

/// Runs an operation and lets the repository go.
pub(super) async fn ask(common: &Common, name: &str, params: Value) -> Result<Value, Failure> {
    let backend = Backend::open_for(common, name).await?;
    let outcome = backend.json(name, params).await;
    backend.close().await?;
    outcome
}

/// Runs an operation that takes long, with a bar.
pub(super) async fn call(
    common: &Common,
    name: &str,
    what: &str,
    params: Value,
) -> Result<Value, Failure> {
    let backend = Backend::open_for(common, name).await?;
    let bar = Bar::start(what, common.json);
    let call = Call {
        progress: bar.hear(None),
        ..Call::with(params)
    };
    let output = backend.call(name, call).await;
    bar.end();
    backend.close().await?;
    match output? {
        Output::Json(result) => Ok(result),
        Output::Bytes { .. } => Err(OperationError::internal(format!("{name} gave bytes")).into()),
    }
}

/// Prints a result, as JSON or for people.
pub(super) fn show(
    common: &Common,
    result: &Value,
    people: impl Fn(&Value) -> String,
) -> Result<(), Failure> {
    match common.json {
        true => print_json(result),
        false => print(&people(result)),
    }
}

/// Every field of an object on a line; those of objects in it below.
pub(super) fn fields(value: &Value, indent: &str) -> String {
    let mut out = String::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(_) => {
                out.push_str(&format!("{indent}{name}\n"));
                out.push_str(&fields(value, &format!("{indent}  ")));
            }
            Value::String(text) => out.push_str(&format!("{indent}{name} {}\n", safe(text))),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                out.push_str(&format!("{indent}{name} {value}\n"));
            }
        }
    }
    out
}

fn status_lines(status: &Value) -> String {
    let journal = status.get("journal").unwrap_or(&Value::Null);
    let figure = |name| number(journal, name);
    let mut out = format!(
        "journal     entries {} to {}, durable to {}; {}, {}\n",
        figure("first"),
        figure("last"),
        figure("durable"),
        counted(figure("segments"), "segment", "segments"),
        human_bytes(figure("bytes")),
    );
    if figure("given_up_segments") > 0 {
        out.push_str(&format!(
            "given up    {}, {}, because the disk was full\n",
            counted(figure("given_up_segments"), "segment", "segments"),
            human_bytes(figure("given_up_bytes"))
        ));
    }
    if let Some(why) = status.get("stopped").and_then(Value::as_str) {
        out.push_str(&format!("read-only   {}\n", safe(why)));
    }
    match status.get("checkpoint").filter(|one| !one.is_null()) {
        Some(last) => out.push_str(&format!(
            "checkpoint  {} after entry {}, {}\n",
            text(last, "root"),
            text(last, "sequence"),
            text(last, "time")
        )),
        None => out.push_str("checkpoint  none yet\n"),
    }
    for one in list(status, "held_back") {
        let (path, why) = (text(one, "path"), text(one, "why"));
        out.push_str(&format!("held back   {path}: {why}\n"));
    }
    let changed = human_bytes(number(status, "changed_bytes"));
    out.push_str(&format!(
        "since then  {}, {changed}\n",
        counted(number(status, "changes"), "change", "changes")
    ));
    for one in list(status, "open_transactions") {
        let id = number(one, "transaction");
        let staged = counted(number(one, "staged"), "change", "changes");
        out.push_str(&format!("transaction {id}: {staged} staged\n"));
    }
    for node in list(status, "push") {
        out.push_str(&format!("push        {}\n", super::push::line(node)));
    }
    for name in list(status, "set_aside").iter().filter_map(Value::as_str) {
        let name = safe(name);
        out.push_str(&format!(
            "set aside   journal/{name}: look at what was lost, then remove it\n"
        ));
    }
    let recovery = status.get("recovery").unwrap_or(&Value::Null);
    for error in list(recovery, "errors").iter().filter_map(Value::as_str) {
        out.push_str(&format!("damage      {}\n", safe(error)));
    }
    out
}

/// One entry as a line.
pub(super) fn line(entry: &Value) -> String {
    if let Some(damage) = entry.get("damage").and_then(Value::as_str) {
        return format!("damage: {}\n", safe(damage));
    }
    let mut out = format!(
        "{:>8}  {}  {:<11} {:<10}",
        text(entry, "entry_id"),
        text(entry, "timestamp"),
        text(entry, "status"),
        text(entry, "operation_type"),
    );
    if let Some(path) = entry.get("path").and_then(Value::as_str) {
        out.push_str(&format!(" {}", safe(path)));
    }
    if let Some(to) = entry.get("to").and_then(Value::as_str) {
        out.push_str(&format!(" -> {}", safe(to)));
    }
    if entry.get("transaction_id") != entry.get("entry_id") {
        out.push_str(&format!("  [{}]", text(entry, "transaction_id")));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

async fn log(common: &Common, params: Value) -> Result<(), Failure> {
    let found = ask(common, "fs-journal/transactions", params).await?;
    show(common, &found, |found| {
        let mut out: String = list(found, "transactions").iter().map(line).collect();
        for damage in list(found, "damage").iter().filter_map(Value::as_str) {
            out.push_str(&format!("damage: {}\n", safe(damage)));
        }
        out
    })?;
    if let (false, Some(cursor)) = (common.json, found.get("cursor").and_then(Value::as_u64)) {
        let note = format!("more: --cursor {cursor}\n");
        io::stderr()
            .write_all(note.as_bytes())
            .map_err(Failure::output)?;
    }
    Ok(())
}

async fn verify(common: &Common) -> Result<(), Failure> {
    let report = call(common, "fs-journal/verify", "verifying", json!({})).await?;
    show(common, &report, |report| {
        let mut out = String::new();
        for damage in list(report, "damage").iter().filter_map(Value::as_str) {
            out.push_str(&format!("damaged: {}\n", safe(damage)));
        }
        if let Some(torn) = report.get("torn").and_then(Value::as_str) {
            out.push_str(&format!("torn: {}\n", safe(torn)));
        }
        let (entries, bytes) = (
            number(report, "entries"),
            human_bytes(number(report, "bytes")),
        );
        out + &format!(
            "{} sound, {bytes}\n",
            counted(entries, "entry is", "entries are")
        )
    })?;
    match report.get("clean") == Some(&Value::Bool(true)) {
        true => Ok(()),
        false => Err(Failure::Quiet(DAMAGED)),
    }
}

async fn export(common: &Common, params: Value, output: Option<PathBuf>) -> Result<(), Failure> {
    let backend = Backend::open_for(common, "fs-journal/export").await?;
    let (_, stream) = bytes(
        backend
            .call("fs-journal/export", Call::with(params))
            .await?,
    )?;
    match super::export::file_of(output) {
        None => {
            pump(stream, &mut io::stdout().lock(), |_| ()).await?;
        }
        Some(file) => {
            let bar = Bar::start("exporting", common.json);
            let written = super::export::into_file(stream, &file, &bar).await?;
            bar.end();
            if common.json {
                print_json(&json!({"file": file, "bytes": written}))?;
            }
        }
    }
    backend.close().await
}

async fn monitor(common: &Common, limits: Value) -> Result<(), Failure> {
    let report = ask(common, "fs-journal/monitor", limits).await?;
    show(common, &report, |report| {
        let lines = list(report, "checks").iter().map(|check| {
            let fine = check.get("ok") == Some(&Value::Bool(true));
            let (name, value) = (text(check, "name"), safe(&text(check, "value")));
            let mark = if fine { "ok  " } else { "bad " };
            format!("{mark} {name} {value}").trim_end().to_owned() + "\n"
        });
        lines.collect()
    })?;
    match report.get("healthy") == Some(&Value::Bool(true)) {
        true => Ok(()),
        false => Err(Failure::Quiet(1)),
    }
}
