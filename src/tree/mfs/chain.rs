//! The kept checkpoints as they lead to each other, and as the journal names them.

use super::checkpoint::Checkpointed;
use super::op::{Logged, Op, kind};
use crate::block::Cid;
use crate::cache::Blocks;
use crate::journal::{Frame, Reader, Seq};
use crate::tree::error::TreeError;
use crate::tree::posix::commit::Commit;

/// Reads the kept checkpoints, the newest first. Each commit object names the one
/// that was kept before it, also where the journal has its entry no more; the
/// journal helps where that one cannot be read. `unusable` hears of what should be
/// kept and is not usable.
pub(super) fn read_kept(
    journal: &Reader,
    blocks: &Blocks,
    snapshots_kept: usize,
    unusable: &mut dyn FnMut(&Frame, &str),
) -> Result<Vec<Checkpointed>, TreeError> {
    let wanted = snapshots_kept.max(1);
    let mut kept: Vec<Checkpointed> = Vec::new();
    let (mut earlier, mut before) = (None, Seq(u64::MAX));
    loop {
        follow_parents(&mut kept, &mut earlier, wanted, blocks);
        if kept.len() >= wanted || (earlier.is_none() && !kept.is_empty()) {
            return Ok(kept);
        }
        let frames = checkpoints_before(journal, before)?;
        if frames.is_empty() {
            return Ok(kept);
        }
        for frame in frames.iter().rev() {
            before = frame.head.seq;
            if kept.last().is_some_and(|oldest| before.0 > oldest.sequence) {
                continue;
            }
            match read_frame(frame, blocks) {
                Ok((one, parent)) => {
                    kept.push(one);
                    earlier = parent;
                    break;
                }
                Err(why) => {
                    // Others between two that are kept were let go.
                    let named = commit_of(frame).ok().map(|(cid, _)| cid);
                    if kept.is_empty() || named == earlier {
                        unusable(frame, &why);
                    }
                }
            }
        }
    }
}

/// Adds the checkpoints before the oldest, as far as they can be read.
fn follow_parents(
    kept: &mut Vec<Checkpointed>,
    earlier: &mut Option<Cid>,
    wanted: usize,
    blocks: &Blocks,
) {
    while kept.len() < wanted
        && let Some(cid) = *earlier
        && let Ok((one, parent)) = read_commit(&cid, blocks)
        && kept
            .last()
            .is_some_and(|oldest| one.sequence < oldest.sequence)
    {
        kept.push(one);
        *earlier = parent;
    }
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
pub(super) fn named_by(frame: &Frame, blocks: &Blocks) -> Vec<Cid> {
    let Ok((cid, _)) = commit_of(frame) else {
        return Vec::new();
    };
    let block = blocks.get_local(&cid).ok().flatten();
    let commit = block.and_then(|block| Commit::decode(block.data()).ok());
    let roots = commit.map(|commit| [Some(commit.root), commit.posix]);
    std::iter::once(cid)
        .chain(roots.into_iter().flatten().flatten())
        .collect()
}

/// Reads a checkpoint by its commit object, and gives the one before it.
fn read_commit(cid: &Cid, blocks: &Blocks) -> Result<(Checkpointed, Option<Cid>), String> {
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
