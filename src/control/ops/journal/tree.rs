//! The writable tree by path. A change that names a transaction is staged in it.

use std::io::Read;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::super::content::find;
use super::super::pins::run_blocking;
use super::transactions::{change, change_all, perform};
use crate::block::Cid;
use crate::cache::OwnSink;
use crate::config::LIST_BATCH;
use crate::control::raw::Raw;
use crate::control::registry::Io;
use crate::control::{Context, ErrorKind, Operation, OperationError, Output};
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::{CHANGED_SINCE_MOUNTED, NodeKind, RenameMode, SetAttr, Staged, WriteAt};
use crate::unixfs::builder::{AddOptions, Adder, Input};

/// What to unmount.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Unmount {
    /// Path in the tree.
    path: Raw,
    /// Also where something in it was changed since it was mounted; that is lost.
    #[serde(default)]
    force: bool,
    /// A transaction to stage it in.
    #[serde(default)]
    transaction: Option<u64>,
}

/// A directory to make.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mkdir {
    /// Path in the tree.
    path: Raw,
    /// Permission bits, octal.
    #[serde(default)]
    mode: Option<String>,
    /// Those above it too; one that is there is fine.
    #[serde(default)]
    parents: bool,
    /// A transaction to stage it in.
    #[serde(default)]
    transaction: Option<u64>,
}

/// A file to write.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Write {
    /// Path in the tree; a file that is not there is made.
    path: Raw,
    /// Where in the file the bytes go; without it they replace what it has.
    #[serde(default)]
    offset: Option<u64>,
    /// At its end as it is now.
    #[serde(default)]
    append: bool,
    /// Text to write, where no bytes are sent as the body.
    #[serde(default)]
    text: Option<String>,
    /// Permission bits of a new file, octal.
    #[serde(default)]
    mode: Option<String>,
    /// Makes the directories above it.
    #[serde(default)]
    parents: bool,
    /// A transaction to stage it in.
    #[serde(default)]
    transaction: Option<u64>,
}

/// What to take away.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// Path in the tree.
    path: Raw,
    /// All below a directory too.
    #[serde(default)]
    recursive: bool,
    /// A transaction to stage it in.
    #[serde(default)]
    transaction: Option<u64>,
}

/// What to move.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Move {
    /// Path in the tree.
    from: Raw,
    /// Its new path.
    to: Raw,
    /// A directory that is at the new path is not replaced but moved into.
    #[serde(default)]
    into: bool,
    /// Refuses to replace what is there.
    #[serde(default)]
    no_replace: bool,
    /// Both change places.
    #[serde(default)]
    exchange: bool,
    /// A transaction to stage it in.
    #[serde(default)]
    transaction: Option<u64>,
}

/// Content to mount.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mount {
    /// Path in the tree; nothing may be there.
    path: Raw,
    /// A CID or a path of IPFS.
    cid: String,
    /// A transaction to stage it in.
    #[serde(default)]
    transaction: Option<u64>,
}

/// A symbolic link to make.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Symlink {
    /// Path in the tree.
    path: Raw,
    /// What it says.
    target: Raw,
    /// A transaction to stage it in.
    #[serde(default)]
    transaction: Option<u64>,
}

/// Attributes to set.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Metadata {
    /// Path in the tree.
    path: Raw,
    /// Permission bits, octal.
    #[serde(default)]
    mode: Option<String>,
    /// Owner.
    #[serde(default)]
    uid: Option<u32>,
    /// Group.
    #[serde(default)]
    gid: Option<u32>,
    /// A transaction to stage it in.
    #[serde(default)]
    transaction: Option<u64>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::write("fs-journal/mkdir", "Makes a directory of the tree.", mkdir),
        Operation::write(
            "fs-journal/write",
            "Writes a file of the tree, all at once.",
            write,
        )
        .taking_body()
        .long(),
        Operation::write(
            "fs-journal/remove",
            "Takes something out of the tree.",
            remove,
        )
        .long(),
        Operation::write("fs-journal/move", "Moves something in the tree.", rename),
        Operation::write(
            "fs-journal/symlink",
            "Makes a symbolic link in the tree.",
            symlink,
        ),
        Operation::write(
            "fs-journal/metadata",
            "Sets mode or owner in the tree.",
            metadata,
        ),
        Operation::write(
            "fs-journal/mount",
            "Mounts content at a path of the tree.",
            mount,
        ),
        Operation::write(
            "fs-journal/unmount",
            "Takes mounted content away; what was changed in it only with force.",
            unmount,
        ),
    ]
}

/// Takes a path apart.
pub(super) fn parse(path: &Raw) -> Result<TreePath, OperationError> {
    TreePath::parse(path.bytes()).map_err(|error| OperationError::from(error).context(path))
}

fn mode(text: Option<&str>, plain: u32) -> Result<u32, OperationError> {
    let Some(text) = text else { return Ok(plain) };
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| OperationError::invalid(format!("{text:?} is no mode in octal")))
}

async fn mkdir(context: Arc<Context>, what: Mkdir, _: Io) -> Result<Output, OperationError> {
    let (path, mode) = (parse(&what.path)?, mode(what.mode.as_deref(), 0o777)?);
    let staged = Staged::Mkdir {
        path,
        mode,
        parents: what.parents,
    };
    change(&context, what.transaction, staged).await
}

async fn write(context: Arc<Context>, what: Write, io: Io) -> Result<Output, OperationError> {
    let (path, mode) = (parse(&what.path)?, mode(what.mode.as_deref(), 0o666)?);
    if what.append && what.offset.is_some() {
        return Err(OperationError::invalid("append goes with no offset"));
    }
    if io.body.is_some() && what.text.is_some() {
        return Err(OperationError::invalid(
            "give either text or bytes to write",
        ));
    }
    if io.body.is_none() && what.text.is_none() {
        return Err(OperationError::invalid("no bytes came to write").hint(
            "send them as the body, of any type but application/json, or give `text`; \
             an empty body with its length and type writes nothing",
        ));
    }
    // The end is where it is when the bytes have come and the change is made.
    let at = match (what.append, what.offset) {
        (true, _) => WriteAt::End,
        (false, Some(offset)) => WriteAt::Offset(offset),
        (false, None) => WriteAt::Whole,
    };
    let reader: Box<dyn Read + Send> = match (io.body, what.text) {
        // Made here: reading the body needs the runtime that it came by.
        (Some(body), _) => Box::new(SyncIoBridge::new(StreamReader::new(body))),
        (None, text) => Box::new(std::io::Cursor::new(text.unwrap_or_default())),
    };
    // No collection begins before the tree names what is added.
    let sink = context.blocks.own_sink();
    let (content, written) = add(&context, Arc::clone(&sink), reader).await?;
    let file = path.clone();
    let mut staged = Vec::new();
    if let Some(path) = path.above().filter(|_| what.parents) {
        staged.push(Staged::Mkdir {
            path,
            mode: 0o777,
            parents: true,
        });
    }
    staged.push(Staged::Write {
        path,
        content,
        size: written,
        at,
        mode,
    });
    let Output::Json(mut told) = change_all(&context, what.transaction, staged).await? else {
        return Err(OperationError::internal("bytes where JSON was expected"));
    };
    let now = match (at, what.transaction) {
        (WriteAt::Whole, _) => Some((written, Some(content))),
        // What it comes to shows when it is committed.
        (_, Some(_)) => None,
        (_, None) => as_it_is(&context, &file).await,
    };
    if let Some(fields) = told.as_object_mut() {
        fields.insert("written".to_owned(), written.into());
        if let Some((size, cid)) = now {
            fields.insert("size".to_owned(), size.into());
            fields.insert("cid".to_owned(), cid.map(|cid| cid.to_string()).into());
        }
    }
    Ok(Output::Json(told))
}

/// Size and CID of a file. It was written: that they cannot be told fails nothing.
async fn as_it_is(context: &Context, file: &TreePath) -> Option<(u64, Option<Cid>)> {
    let found = context.mfs.find(file).await.ok()?;
    let cid = context.mfs.cid(found.node()).await.ok().flatten();
    Some((found.attr().size, cid))
}

/// Makes own blocks of bytes, as the tree itself would.
async fn add(
    context: &Context,
    sink: Arc<OwnSink>,
    reader: Box<dyn Read + Send>,
) -> Result<(Cid, u64), OperationError> {
    let options = AddOptions {
        pin: false,
        ..AddOptions::from_profile(context.mfs.profile())
    };
    run_blocking(move || {
        let adder = Adder::new(options, Arc::clone(&sink) as _)?;
        let added = adder.add_all(vec![Input::reader(reader)], &|_| ())?;
        sink.flush()?;
        let root = added.first();
        let root = root.ok_or_else(|| OperationError::internal("nothing was added"))?;
        Ok((root.cid, root.size))
    })
    .await
}

async fn remove(context: Arc<Context>, what: Remove, _: Io) -> Result<Output, OperationError> {
    let path = parse(&what.path)?;
    let staged = Staged::Remove {
        path: path.clone(),
        recursive: what.recursive,
    };
    let outcome = change(&context, what.transaction, staged).await;
    match outcome {
        Err(error)
            if error.kind == ErrorKind::TooLarge
                && what.recursive
                && what.transaction.is_none() =>
        {
            // Too much for one transaction: in parts, the lowest first.
            let last = remove_in_parts(&context, path).await?;
            Ok(Output::Json(json!({"entry_id": last})))
        }
        outcome => outcome,
    }
}

/// Takes a directory away that has too much in it for one transaction.
async fn remove_in_parts(context: &Arc<Context>, path: TreePath) -> Result<u64, OperationError> {
    let mut open = vec![path];
    while let Some(path) = open.last().cloned() {
        let staged = Staged::Remove {
            path: path.clone(),
            recursive: true,
        };
        match perform(context, vec![staged]).await {
            Ok(last) if open.len() == 1 => return Ok(last),
            Ok(_) => {
                open.pop();
            }
            Err(error) if error.kind == ErrorKind::TooLarge => {
                let dir = context.mfs.find(&path).await?;
                let page = context.mfs.readdir(dir.node(), 0, LIST_BATCH).await?;
                let (dirs, files): (Vec<_>, Vec<_>) = page
                    .into_iter()
                    .partition(|entry| entry.attr.kind == NodeKind::Directory);
                let gone = files.iter().map(|entry| Staged::Remove {
                    path: path.join(&entry.name),
                    recursive: false,
                });
                perform(context, gone.collect()).await?;
                open.extend(dirs.iter().map(|entry| path.join(&entry.name)));
            }
            Err(error) => return Err(error),
        }
    }
    Err(OperationError::internal("nothing was removed"))
}

async fn rename(context: Arc<Context>, what: Move, _: Io) -> Result<Output, OperationError> {
    let mode = match (what.no_replace, what.exchange) {
        (false, false) => RenameMode::Replace,
        (true, false) => RenameMode::NoReplace,
        (false, true) => RenameMode::Exchange,
        (true, true) => {
            return Err(OperationError::invalid(
                "no_replace and exchange exclude each other",
            ));
        }
    };
    if what.into && what.exchange {
        return Err(OperationError::invalid(
            "into and exchange exclude each other",
        ));
    }
    let staged = Staged::Move {
        from: parse(&what.from)?,
        to: parse(&what.to)?,
        into: what.into,
        mode,
    };
    change(&context, what.transaction, staged).await
}

async fn symlink(context: Arc<Context>, what: Symlink, _: Io) -> Result<Output, OperationError> {
    let staged = Staged::Symlink {
        path: parse(&what.path)?,
        target: what.target.bytes().to_vec().into(),
    };
    change(&context, what.transaction, staged).await
}

async fn metadata(context: Arc<Context>, what: Metadata, _: Io) -> Result<Output, OperationError> {
    let bits = what
        .mode
        .as_deref()
        .map(|text| mode(Some(text), 0))
        .transpose()?;
    let set = SetAttr {
        mode: bits,
        uid: what.uid,
        gid: what.gid,
        ..SetAttr::default()
    };
    if set == SetAttr::default() {
        return Err(OperationError::invalid("give a mode, a uid or a gid"));
    }
    change(
        &context,
        what.transaction,
        Staged::Metadata {
            path: parse(&what.path)?,
            set,
        },
    )
    .await
}

async fn mount(context: Arc<Context>, what: Mount, _: Io) -> Result<Output, OperationError> {
    let node = find(&context, &what.cid).await?;
    let cid = context.tree.cid(&node).await?;
    let cid = cid.ok_or_else(|| OperationError::invalid(format!("{} has no CID", what.cid)))?;
    let content = context.mfs.content(&cid).await;
    let content = content.map_err(|error| OperationError::from(error).context(cid))?;
    let staged = Staged::Mount {
        path: parse(&what.path)?,
        content,
        plain: false,
    };
    change(&context, what.transaction, staged).await
}

async fn unmount(context: Arc<Context>, at: Unmount, _: Io) -> Result<Output, OperationError> {
    let staged = Staged::Unmount {
        path: parse(&at.path)?,
        force: at.force,
    };
    let outcome = change(&context, at.transaction, staged).await;
    outcome.map_err(
        |error| match error.message.contains(CHANGED_SINCE_MOUNTED) {
            true => error.hint("`--force` (`force`) takes it away with what was changed"),
            false => error,
        },
    )
}

/// Mounts what was added in the tree: at `path`, or in it if that is a directory
/// or ends with a slash.
pub(in super::super) async fn link_added(
    context: &Arc<Context>,
    path: &str,
    result: &Value,
) -> Result<(), OperationError> {
    let place = parse(&path.into())?;
    let is_directory = match context.mfs.find(&place).await {
        Ok(found) => found.attr().kind == NodeKind::Directory,
        Err(crate::tree::TreeError::NotFound) => path.ends_with('/'),
        Err(error) => return Err(OperationError::from(error).context(path)),
    };
    let roots = result.get("roots").and_then(Value::as_array);
    let roots = roots.map_or(&[][..], Vec::as_slice);
    if roots.len() > 1 && !is_directory {
        let message = format!("{path} is no directory for {} things", roots.len());
        return Err(OperationError::invalid(message));
    }
    let mut staged = Vec::new();
    for root in roots {
        let text = |field: &str| root.get(field).and_then(Value::as_str).unwrap_or_default();
        let cid = Cid::try_from(text("cid"))
            .map_err(|error| OperationError::internal(error.to_string()))?;
        let name = match text("name") {
            "" => text("cid"),
            name => name,
        };
        let at = if is_directory {
            place.join(name.as_bytes())
        } else {
            place.clone()
        };
        let content = context.mfs.content(&cid).await?;
        staged.push(Staged::Mount {
            path: at,
            content,
            plain: true,
        });
    }
    perform(context, staged).await?;
    Ok(())
}
