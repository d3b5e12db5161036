//! The kept checkpoints as they lead to each other, and as the journal names them.

use crate::block::Cid;
use crate::cache::Blocks;
use crate::journal::{Frame, Reader, Seq};
use crate::tree::error::TreeError;
use crate::tree::mfs::changes::op::{Logged, Op, kind};
use crate::tree::mfs::checkpoint::Checkpointed;
use crate::tree::posix::commit::Commit;

/// Reads the kept checkpoints, the newest first: the newest of the journal that is
/// sound, and those before it, as each commit object names the one that was kept
/// before, also where the journal has its entry no more. `unusable` hears of newer
/// ones that are not usable.
pub(in crate::tree::mfs) fn read_kept(
    journal: &Reader,
    blocks: &Blocks,
    snapshots_kept: usize,
    unusable: &mut dyn FnMut(&Frame, &str),
) -> Result<Vec<Checkpointed>, TreeError> {
    let mut before = Seq(u64::MAX);
    loop {
        let frames = checkpoints_before(journal, before)?;
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        for frame in frames.iter().rev() {
            before = frame.head.seq;
            match read_frame(frame, blocks) {
                Ok((one, parent)) => {
                    let mut kept = vec![one];
                    follow_parents(&mut kept, parent, snapshots_kept, blocks);
                    return Ok(kept);
                }
                Err(why) => unusable(frame, &why),
            }
        }
    }
}

/// The same for a checkpoint that the journal does not name.
pub(in crate::tree::mfs) fn kept_from(
    newest: &Checkpointed,
    blocks: &Blocks,
    snapshots_kept: usize,
) -> Vec<Checkpointed> {
    let parent = commit_object(&newest.commit, blocks).and_then(|commit| commit.parent);
    let mut kept = vec![*newest];
    follow_parents(&mut kept, parent, snapshots_kept, blocks);
    kept
}

/// Adds the checkpoints before the oldest: they end where one was let go. One
/// whose content is damaged is passed over.
fn follow_parents(
    kept: &mut Vec<Checkpointed>,
    mut parent: Option<Cid>,
    snapshots_kept: usize,
    blocks: &Blocks,
) {
    let mut passed = 0;
    while kept.len() + passed < snapshots_kept
        && let Some(cid) = parent
        && let Some(commit) = commit_object(&cid, blocks)
    {
        match read_commit(&cid, blocks) {
            Ok((one, _)) => {
                let oldest = kept.last().map_or(u64::MAX, |oldest| oldest.sequence);
                if one.sequence >= oldest {
                    return;
                }
                kept.push(one);
            }
            Err(why) => {
                tracing::error!(%cid, why, "a kept checkpoint is not usable");
                passed += 1;
            }
        }
        parent = commit.parent;
    }
}

fn commit_object(cid: &Cid, blocks: &Blocks) -> Option<Commit> {
    let block = blocks.get_local(cid).ok()??;
    Commit::decode(block.data()).ok()
}

/// The commit object before the oldest kept checkpoint, if it is here and damaged.
pub(in crate::tree::mfs) fn damaged_before(oldest: &Checkpointed, blocks: &Blocks) -> Option<Cid> {
    let (_, parent) = read_commit(&oldest.commit, blocks).ok()?;
    let is_damaged = |cid: &Cid| !matches!(blocks.get_local(cid), Ok(Some(_)));
    parent.filter(|cid| blocks.has_local(cid) && is_damaged(cid))
}

/// The checkpoints before an entry that are in the newest segment with any, in
/// order: one walk through that segment, however many there are.
fn checkpoints_before(journal: &Reader, before: Seq) -> Result<Vec<Frame>, TreeError> {
    let mut all = Vec::new();
    journal.newest(|head, payload| {
        let is_one = head.kind == kind::CHECKPOINT && head.seq < before;
        if is_one {
            let payload = bytes::Bytes::copy_from_slice(payload);
            all.push(Frame {
                head: *head,
                payload,
            });
        }
        is_one
    })?;
    Ok(all)
}

/// Reads the checkpoint of an entry, and gives the one that was kept before it.
fn read_frame(frame: &Frame, blocks: &Blocks) -> Result<(Checkpointed, Option<Cid>), String> {
    let (cid, through) = commit_of(frame)?;
    let (mut one, parent) = read_commit(&cid, blocks)?;
    one.sequence = through;
    Ok((one, parent))
}

fn commit_of(frame: &Frame) -> Result<(Cid, u64), String> {
    let logged = Logged::decode(frame.head.kind, &frame.payload).map_err(|e| e.to_string())?;
    let Op::Checkpoint { commit, through } = logged.op else {
        return Err("not a checkpoint".to_owned());
    };
    Ok((commit, through))
}

/// The blocks without which a checkpoint is not usable, as far as they are known.
pub(in crate::tree::mfs) fn named_by(frame: &Frame, blocks: &Blocks) -> Vec<Cid> {
    let Ok((cid, _)) = commit_of(frame) else {
        return Vec::new();
    };
    let roots = commit_object(&cid, blocks).map(|commit| [Some(commit.root), commit.posix]);
    std::iter::once(cid)
        .chain(roots.into_iter().flatten().flatten())
        .collect()
}

/// Reads a checkpoint by its commit object, and gives the one before it.
pub(in crate::tree::mfs) fn read_commit(
    cid: &Cid,
    blocks: &Blocks,
) -> Result<(Checkpointed, Option<Cid>), String> {
    let block = blocks.get_local(cid).map_err(|error| error.to_string())?;
    let block = block.ok_or_else(|| format!("commit object {cid} is lost"))?;
    let commit = Commit::decode(block.data()).map_err(|error| error.to_string())?;
    for root in [Some(commit.root), commit.posix].into_iter().flatten() {
        match blocks.get_local(&root) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("{root} is lost")),
            Err(error) => return Err(error.to_string()),
        }
    }
    let one = Checkpointed {
        sequence: commit.sequence,
        time: commit.time,
        commit: *cid,
        root: commit.root,
        posix: commit.posix,
    };
    Ok((one, commit.parent))
}
