//! Checks everything that the writable tree rests on, and mends what can be.
//!
//! The journal's checksums, the kept checkpoints, every block that the newest
//! sound checkpoint leads to, every record of it, and every block that the
//! journal names since. Checking changes nothing. Mending sets damaged parts of
//! the journal aside, and fetches damaged blocks from the sources again; it
//! never deletes.

mod place;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::Mfs;
use super::checkpoint::Checkpointed;
use super::head;
use super::op::{Logged, kind};
use super::open::{Parts, checkpoints_before, keep_older, named_by, read_checkpoint};
use crate::block::{Cid, DAG_PB};
use crate::cache::Blocks;
use crate::config::{FSCK_LISTED_MAX, RECORDS_PAGE};
use crate::disk::Disk;
use crate::journal::{
    Damage, JournalError, Reader, Seq, VerifyProgress, VerifyReport, set_aside_before,
    set_aside_from,
};
use crate::tree::error::TreeError;
use crate::tree::posix::{PosixMap, key, record};
use crate::unixfs::dag_pb::PbNode;
use crate::unixfs::hamt::prefix_width;
use crate::unixfs::links::links;
use crate::unixfs::node::{Body, Node};
use place::Place;

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsckProgress {
    /// Bytes of the journal, of how many.
    Journal(u64, u64),
    /// Blocks that were read.
    Blocks(u64),
    /// Records that were read.
    Records(u64),
}

/// What a check has found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Inspection {
    /// Journal entries that are whole.
    pub entries: u64,
    /// Kept checkpoints that are sound.
    pub checkpoints: u64,
    /// The newest sound one.
    pub checkpoint: Option<u64>,
    /// Blocks of it, and of the journal since, that are here and sound.
    pub blocks: u64,
    /// Blocks that were written here and are lost.
    pub lost_blocks: u64,
    /// Blocks that are not here, of content that was mounted or shared from
    /// elsewhere and not fetched: as it should be.
    pub absent_blocks: u64,
    /// The first of them, with the paths of the files that need them.
    pub absent: Vec<String>,
    /// Records of it that are sound.
    pub records: u64,
    /// What a crash has left at the end of the journal; the next start cuts it off.
    pub torn: Option<String>,
    /// Whole entries that go with it.
    pub torn_entries: u64,
    /// Files of the journal that were set aside before, to be looked at.
    pub set_aside: Vec<String>,
    /// What is damaged, in words.
    pub problems: Vec<String>,
    /// What is lost by it, in words.
    pub lost: Vec<String>,
    /// What was done about it, in words.
    pub repaired: Vec<String>,
    #[serde(skip)]
    damaged_blocks: Vec<Cid>,
    #[serde(skip)]
    journal_damage: Vec<Damage>,
    #[serde(skip)]
    state: Option<Checkpointed>,
    /// The newest checkpoint, where the journal ends before it.
    #[serde(skip)]
    newer: Option<Checkpointed>,
}

impl Inspection {
    fn problem(&mut self, text: String) {
        if self.problems.len() < FSCK_LISTED_MAX {
            self.problems.push(text);
        }
    }

    /// A block that was written here is not here.
    fn lacks(&mut self, cid: Cid, shown: &str) {
        self.lost_blocks += 1;
        self.problem(format!("block {cid} of {shown} was here and is lost"));
        self.loses(format!("content of {shown}, unless a source has it"));
        self.damaged_blocks.push(cid);
    }

    fn loses(&mut self, text: String) {
        if self.lost.len() < FSCK_LISTED_MAX {
            self.lost.push(text);
        }
    }

    /// The last journal entry that the newest sound checkpoint has.
    fn sequence(&self) -> Seq {
        Seq(self.state.map_or(0, |state| state.sequence))
    }
}

/// Hears of progress.
pub type OnFsck<'a> = &'a (dyn Fn(FsckProgress) + Sync);

impl Mfs {
    /// Checks the tree while it is open.
    pub async fn inspect(&self, progress: OnFsck<'_>) -> Result<Inspection, TreeError> {
        let journal = self.whole_journal();
        let kept = self.options.snapshots_kept;
        let place = (&*self.disk, &*self.journal_dir);
        inspect(&journal, place, &self.blocks, kept, progress).await
    }

    /// Checks every checksum of the journal; `progress` stops it by saying false.
    pub fn verify_journal(
        &self,
        progress: impl FnMut(VerifyProgress) -> bool,
    ) -> Result<VerifyReport, TreeError> {
        Ok(self.whole_journal().verify(progress)?)
    }

    /// Reads the journal to its end: also behind damage, where it is not written
    /// any more; else up to the last entry, behind which one may be under way.
    fn whole_journal(&self) -> Reader {
        match self.journal.check() {
            Ok(()) => self.journal.reader(),
            Err(_) => Reader::open(&self.journal_dir, Arc::clone(&self.disk)),
        }
    }

    /// Checks a tree that is not open.
    pub async fn inspect_closed(
        parts: &Parts,
        snapshots_kept: usize,
        progress: OnFsck<'_>,
    ) -> Result<Inspection, TreeError> {
        let journal = Reader::open(&parts.journal_dir, Arc::clone(&parts.disk));
        let place = (&*parts.disk, &*parts.journal_dir);
        inspect(&journal, place, &parts.blocks, snapshots_kept, progress).await
    }

    /// Mends what an inspection of a tree that is not open has found.
    pub async fn mend(parts: &Parts, found: &mut Inspection) -> Result<(), TreeError> {
        for cid in std::mem::take(&mut found.damaged_blocks) {
            match parts.reader.block(&cid).await {
                Ok(_) => found
                    .repaired
                    .push(format!("block {cid} was fetched again")),
                Err(error) => {
                    found
                        .lost
                        .push(format!("block {cid} cannot be had: {error}"));
                    found.damaged_blocks.push(cid);
                }
            }
        }
        if let Some(newer) = found.newer.take() {
            let kept = head::begin_anew(parts, &newer)?.join(", ");
            let text = format!("the journal goes on from checkpoint {}", newer.commit);
            found.repaired.push(match kept.is_empty() {
                true => text,
                false => format!("{text}; what was left of it is set aside: {kept}"),
            });
            return Ok(());
        }
        let needed = found.sequence();
        let (dir, disk) = (&parts.journal_dir, &parts.disk);
        for damage in std::mem::take(&mut found.journal_damage) {
            if damage.costs_nothing() {
                found
                    .repaired
                    .push(format!("left as it is, since no entry is lost: {damage}"));
                continue;
            }
            let kept = match damage.expected <= needed {
                true => set_aside_before(dir, Arc::clone(disk), &damage, needed)?,
                false => set_aside_from(dir, Arc::clone(disk), &damage)?,
            };
            let names = kept.join(", ");
            if kept.is_empty() {
                found
                    .repaired
                    .push(format!("left as it is, since it is only history: {damage}"));
                continue;
            }
            found
                .repaired
                .push(format!("set aside in the journal's directory: {names}"));
            if damage.expected > needed {
                // All that is behind it went with it.
                break;
            }
        }
        Ok(())
    }
}

async fn inspect(
    journal: &Reader,
    (disk, dir): (&dyn Disk, &Path),
    blocks: &Arc<Blocks>,
    snapshots_kept: usize,
    progress: OnFsck<'_>,
) -> Result<Inspection, TreeError> {
    blocks.index_ready().await;
    let mut found = Inspection::default();
    let report = journal.verify(|at| {
        progress(FsckProgress::Journal(at.bytes, at.bytes_total));
        true
    })?;
    found.entries = report.frames;
    found.torn = report.torn.map(|torn| torn.to_string());
    found.torn_entries = report.torn_frames;
    found.set_aside = journal.set_aside()?;
    inspect_checkpoints(journal, blocks, snapshots_kept, &mut found)?;
    if let Some(newer) = head::newer_than(found.state.as_ref(), disk, dir, blocks) {
        found.problem(head::lost_end(&newer));
        found.loses(format!(
            "changes after entry {}, if there were any",
            newer.sequence
        ));
        found.newer = Some(newer);
        found.state = Some(newer);
    }
    for damage in report.damage {
        let is_history = damage.expected <= found.sequence();
        found.problem(format!("journal: {damage}"));
        found.loses(match is_history {
            _ if damage.costs_nothing() => {
                "nothing but the head: its entries are all there".to_owned()
            }
            true => "entries before the last checkpoint: the tree has what they did, only the log \
                     has a gap"
                .to_owned(),
            false => format!(
                "changes from entry {} on; the tree is read-only as of the entry before",
                damage.expected
            ),
        });
        found.journal_damage.push(damage);
    }
    if let Some(state) = found.state {
        let roots = [
            (Some(state.root), Place::root()),
            (state.posix, Place::own("(records)")),
            (Some(state.commit), Place::own("(commit)")),
        ];
        for (root, place) in roots {
            if let Some(root) = root {
                let top = (root, place);
                inspect_blocks(blocks, top, state.posix, &mut found, progress).await;
            }
        }
        if let Some(posix) = state.posix {
            inspect_records(blocks, posix, &mut found, progress).await;
        }
    }
    inspect_changes(journal, blocks, &mut found)?;
    Ok(found)
}

/// Looks at the checkpoints of the journal down to the newest sound one, and at
/// those that are kept before it.
fn inspect_checkpoints(
    journal: &Reader,
    blocks: &Blocks,
    snapshots_kept: usize,
    found: &mut Inspection,
) -> Result<(), TreeError> {
    let mut before = Seq(u64::MAX);
    while found.state.is_none() {
        let frames = checkpoints_before(journal, before)?;
        if frames.is_empty() {
            break;
        }
        for frame in frames.iter().rev() {
            before = frame.head.seq;
            match read_checkpoint(frame, blocks) {
                Ok(one) => {
                    found.state = Some(one);
                    break;
                }
                Err(why) => {
                    found.problem(format!("checkpoint at entry {before}: {why}"));
                    found.loses(format!("the checkpoint at entry {before}"));
                    let known = named_by(frame, blocks).into_iter();
                    let gone = known.filter(|cid| !matches!(blocks.get_local(cid), Ok(Some(_))));
                    found.damaged_blocks.extend(gone);
                }
            }
        }
    }
    found.checkpoint = found.state.map(|one| one.sequence);
    let mut kept: Vec<_> = found.state.into_iter().collect();
    keep_older(&mut kept, snapshots_kept.max(1), blocks);
    found.checkpoints = kept.len() as u64;
    if before < Seq(u64::MAX) && kept.is_empty() {
        found.problem(
            "no kept checkpoint is sound: unless the journal goes back to the first entry, the \
             tree is shown empty and takes no change. Bring packs/own back, or configure a source \
             that has the blocks and run `cidfs fsck --repair`"
                .to_owned(),
        );
    }
    Ok(())
}

/// Reads and proves every local block below a root.
async fn inspect_blocks(
    blocks: &Arc<Blocks>,
    (root, top): (Cid, Place),
    posix: Option<Cid>,
    found: &mut Inspection,
    progress: OnFsck<'_>,
) {
    let records = posix.map(|posix| (PosixMap::new(Arc::clone(blocks)), posix));
    // Whether it was only met as something that may be elsewhere: what is met as
    // something written here later is looked at again, with all below it.
    let mut seen: HashMap<Cid, bool> = HashMap::new();
    let mut absent = BTreeMap::new();
    let mut open = vec![(root, top)];
    while let Some((cid, place)) = open.pop() {
        let before = seen.get(&cid).copied();
        // The history of commits goes back further than what is kept.
        let is_history = place.path == "(commit)" && !seen.is_empty();
        if is_history || before.is_some_and(|elsewhere| place.elsewhere || !elsewhere) {
            continue;
        }
        seen.insert(cid, place.elsewhere);
        let shown = place.shown();
        let block = match blocks.get_local(&cid) {
            Ok(Some(block)) => block,
            Ok(None) if blocks.has_local(&cid) && before.is_some() => continue,
            Ok(None) if blocks.has_local(&cid) => {
                found.problem(format!("block {cid} is damaged"));
                found.loses(format!("content of {shown}, unless a source has it"));
                found.damaged_blocks.push(cid);
                continue;
            }
            Ok(None) if place.elsewhere => {
                absent.insert(cid, format!("{cid} of {shown}"));
                continue;
            }
            Ok(None) => {
                absent.remove(&cid);
                found.lacks(cid, shown);
                continue;
            }
            Err(error) => {
                found.problem(format!("block {cid} of {shown}: {error}"));
                continue;
            }
        };
        found.blocks += u64::from(before.is_none());
        progress(FsckProgress::Blocks(found.blocks));
        let below = match below(&block) {
            Ok(below) => below,
            Err(why) => {
                found.problem(format!("block {cid} of {shown} is malformed: {why}"));
                continue;
            }
        };
        for (cid, name) in below {
            let place = match name {
                Some(name) => place.child(&name, records.as_ref()).await,
                None => place.clone(),
            };
            open.push((cid, place));
        }
    }
    found.absent_blocks += absent.len() as u64;
    let room = FSCK_LISTED_MAX.saturating_sub(found.absent.len());
    found.absent.extend(absent.into_values().take(room));
}

/// Blocks with names where they are those of entries.
type Below = Vec<(Cid, Option<Vec<u8>>)>;

/// What a block leads to.
fn below(block: &crate::block::Block) -> Result<Below, String> {
    let cids = links(block).map_err(|error| error.to_string())?;
    let names = match block.cid().codec() {
        DAG_PB => names_of(block),
        _ => Vec::new(),
    };
    let mut names = names.into_iter();
    let each = cids.into_iter();
    let each = each.map(|cid| (cid, names.next().filter(|name| !name.is_empty())));
    Ok(each.collect())
}

/// Names of the links of a directory or of a shard of one.
fn names_of(block: &crate::block::Block) -> Vec<Vec<u8>> {
    let Ok(node) = PbNode::decode(block.data()) else {
        return Vec::new();
    };
    let skipped = match Node::decode(block.data()).map(|node| node.body) {
        Ok(Body::Shard(shard)) => prefix_width(shard.fanout()),
        Ok(Body::Directory(_)) => 0,
        Ok(Body::File(_) | Body::Symlink(_)) | Err(_) => return Vec::new(),
    };
    let name = |link: &crate::unixfs::dag_pb::Link| {
        let name = link.name.as_deref().unwrap_or_default();
        name.get(skipped..).unwrap_or_default().to_vec()
    };
    node.links.iter().map(name).collect()
}

/// Reads every record.
async fn inspect_records(
    blocks: &Arc<Blocks>,
    posix: Cid,
    found: &mut Inspection,
    progress: OnFsck<'_>,
) {
    let map = PosixMap::new(Arc::clone(blocks));
    let mut from = Vec::new();
    loop {
        let page = match map.range(&posix, &from, None, RECORDS_PAGE).await {
            Ok(page) => page,
            Err(error) => {
                found.problem(format!("records: {error}"));
                found.loses("owners, modes and attributes that are recorded there".to_owned());
                return;
            }
        };
        for (at, value) in &page {
            match check_record(at, value) {
                Ok(()) => found.records += 1,
                Err(why) => found.problem(format!("record {}: {why}", at.escape_ascii())),
            }
        }
        progress(FsckProgress::Records(found.records));
        match page.last() {
            Some((last, _)) if page.len() == RECORDS_PAGE => from = [&last[..], &[0]].concat(),
            _ => return,
        }
    }
}

fn check_record(at: &[u8], value: &[u8]) -> Result<(), String> {
    let decoded = match key::Key::decode(at) {
        Some(key::Key::Dentry { .. }) => record::Dentry::decode(value).map(drop),
        Some(key::Key::Inode { .. }) => record::Inode::decode(value).map(drop),
        Some(key::Key::Place { .. }) => record::Place::decode(value).map(drop),
        Some(key::Key::State { .. }) => record::Number::decode(value).map(drop),
        None => return Err("a key of no known kind".to_owned()),
    };
    decoded.map_err(|error| error.to_string())
}

/// Reads the changes after the checkpoint, and looks for the blocks that they name.
fn inspect_changes(
    journal: &Reader,
    blocks: &Blocks,
    found: &mut Inspection,
) -> Result<(), TreeError> {
    for frame in journal.frames(found.sequence().next())? {
        let frame = match frame {
            Ok(frame) => frame,
            Err(JournalError::Damaged(_)) => break,
            Err(error) => return Err(error.into()),
        };
        let seq = frame.head.seq;
        match Logged::decode(frame.head.kind, &frame.payload) {
            Ok(logged) if frame.head.kind == kind::WRITE_BLOCKS => {
                let mut named = Vec::new();
                logged.op.referred(&mut named);
                for cid in named {
                    if blocks.get_local(&cid).is_ok_and(|block| block.is_some()) {
                        found.blocks += 1;
                        continue;
                    }
                    let path = super::way::shown(logged.path.clone());
                    let path = path.escape_ascii();
                    found.problem(format!("entry {seq}: block {cid} is damaged or lost"));
                    found.loses(format!("what was written then to {path}"));
                    found.damaged_blocks.push(cid);
                }
            }
            Ok(_) => {}
            Err(error) => found.problem(format!("entry {seq}: {error}")),
        }
    }
    Ok(())
}
