//! Checks everything that the writable tree rests on, and mends what can be.
//!
//! The journal's checksums, the kept checkpoints, every block that one of them
//! leads to, every record of the newest sound one, and every block that the
//! journal names since. Checking changes nothing. Mending sets damaged parts of
//! the journal aside, and fetches damaged blocks from the sources again; it
//! never deletes.

mod place;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::changes::op::{Logged, kind};
use super::changes::way;
use super::checkpoint::Checkpointed;
use super::checkpoint::chain::{damaged_before, kept_from, named_by, read_kept};
use super::checkpoint::head;
use super::open::Parts;
use super::path::TreePath;
use super::snapshots::kept::KeptNode;
use super::{Mfs, MfsOptions};
use crate::block::{Cid, DAG_PB};
use crate::cache::Blocks;
use crate::config::{FSCK_LISTED_MAX, RECORDS_PAGE};
use crate::disk::Disk;
use crate::journal::{
    Damage, Frame, JournalError, Reader, Seq, VerifyProgress, VerifyReport, set_aside_before,
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
    /// Blocks of them, and of the journal since, that are here and sound.
    pub blocks: u64,
    /// Blocks that were written here and are lost.
    pub lost_blocks: u64,
    /// Blocks that are not here, of content that was mounted or shared from
    /// elsewhere and not fetched: as it should be.
    pub absent_blocks: u64,
    /// The first of them, with the paths of the files that need them.
    pub absent: Vec<String>,
    /// Records of the newest that are sound.
    pub records: u64,
    /// What a crash has left at the end of the journal; the next start cuts it off.
    pub torn: Option<String>,
    /// Whole entries that go with it.
    pub torn_entries: u64,
    /// Files of the journal that were set aside before, to be looked at.
    pub set_aside: Vec<String>,
    /// Damage that costs nothing of the tree and of what is kept of it, in words.
    pub notices: Vec<String>,
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
    /// The sound kept checkpoints, the newest first.
    #[serde(skip)]
    kept: Vec<Checkpointed>,
    /// The newest checkpoint, where the journal ends before it.
    #[serde(skip)]
    newer: Option<Checkpointed>,
}

impl Inspection {
    fn notice(&mut self, text: String) {
        if self.notices.len() < FSCK_LISTED_MAX {
            self.notices.push(text);
        }
    }

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
        Seq(self.kept.first().map_or(0, |one| one.sequence))
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
        let mut found = inspect(&journal, place, &self.blocks, kept, progress).await?;
        self.inspect_contradiction(&journal, &mut found)?;
        Ok(found)
    }

    /// Tells of an entry that the start did not believe.
    fn inspect_contradiction(
        &self,
        journal: &Reader,
        found: &mut Inspection,
    ) -> Result<(), TreeError> {
        if let Some((from, why)) = &self.recovery.contradicts
            && let Some(damage) = journal.disbelieved(Seq(*from), why)?
        {
            inspect_damage(damage, found);
        }
        Ok(())
    }

    /// Tells what is damaged of a path in a kept checkpoint, in words: reads all that
    /// is here of its content.
    pub async fn damage_in_snapshot(
        &self,
        snapshot: &Checkpointed,
        path: &TreePath,
    ) -> Result<Vec<String>, TreeError> {
        let mut top = KeptNode::root(*snapshot);
        for name in path.names() {
            top = self.kept_find(&top, name).await?;
        }
        let Some(root) = self.kept_cid(&top).await? else {
            return Ok(Vec::new());
        };
        let records = snapshot.posix;
        let map = records.map(|posix| (PosixMap::new(Arc::clone(&self.blocks)), posix));
        let mut place = Place::root();
        for name in path.names() {
            place = place.child(name, map.as_ref()).await;
        }
        let (mut found, mut seen) = (Inspection::default(), HashMap::new());
        let top = (root, place);
        inspect_blocks(&self.blocks, top, records, &mut seen, &mut found, &|_| ()).await;
        Ok(found.lost.into_iter().chain(found.problems).collect())
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
        let mut found = inspect(&journal, place, &parts.blocks, snapshots_kept, progress).await?;
        // What entries contradict shows only when they are applied.
        let options = MfsOptions {
            only_read: true,
            snapshots_kept,
            ..MfsOptions::default()
        };
        if let Ok(shown) = Self::open(parts.clone(), options).await {
            shown.inspect_contradiction(&journal, &mut found)?;
        }
        Ok(found)
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
                continue;
            }
            let kept = match damage.expected <= needed {
                true => set_aside_before(dir, Arc::clone(disk), &damage, needed)?,
                false => set_aside_from(dir, Arc::clone(disk), &damage)?,
            };
            let names = kept.join(", ");
            if kept.is_empty() {
                // History that cannot be told apart from what is needed: it is a notice.
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
    if let Some(newer) = head::newer_than(found.kept.first(), journal, disk, dir, blocks) {
        found.kept = kept_from(&newer.one, blocks, snapshots_kept);
        if newer.is_end_lost {
            found.problem(head::lost_end(&newer.one));
            let at = newer.one.sequence;
            found.loses(format!("changes after entry {at}, if there were any"));
            found.newer = Some(newer.one);
        }
    }
    for damage in report.damage {
        inspect_damage(damage, &mut found);
    }
    let mut seen = HashMap::new();
    for (age, one) in found.kept.clone().into_iter().enumerate() {
        let mut top = Place::root();
        if age > 0 {
            top.path = format!("snapshot {}:", one.sequence);
        }
        let records = Place::own(&format!("{}(records)", top.path));
        for (root, place) in [(Some(one.root), top), (one.posix, records)] {
            if let Some(root) = root {
                let top = (root, place);
                inspect_blocks(blocks, top, one.posix, &mut seen, &mut found, progress).await;
            }
        }
        if let Some(posix) = one.posix.filter(|_| age == 0) {
            inspect_records(blocks, posix, &mut found, progress).await;
        }
    }
    inspect_changes(journal, blocks, &mut found)?;
    Ok(found)
}

/// Tells what damage to the journal costs.
fn inspect_damage(damage: Damage, found: &mut Inspection) {
    if damage.costs_nothing() {
        found.notice(format!("journal: {damage}: its entries are all there"));
    } else if damage.expected <= found.sequence() {
        found.notice(format!(
            "journal: {damage}: entries before the last checkpoint: the tree has what they did, \
             only the log has a gap"
        ));
    } else {
        found.problem(format!(
            "journal: {damage}; the tree takes no change until it is set aside"
        ));
        found.loses(format!("changes from entry {} on", damage.expected));
    }
    found.journal_damage.push(damage);
}

/// Looks at the kept checkpoints.
fn inspect_checkpoints(
    journal: &Reader,
    blocks: &Blocks,
    snapshots_kept: usize,
    found: &mut Inspection,
) -> Result<(), TreeError> {
    let mut unusable = Vec::new();
    let each = &mut |frame: &Frame, why: &str| unusable.push((frame.clone(), why.to_owned()));
    found.kept = read_kept(journal, blocks, snapshots_kept, each)?;
    found.checkpoints = found.kept.len() as u64;
    found.checkpoint = found.kept.first().map(|one| one.sequence);
    // Their commit objects.
    found.blocks += found.checkpoints;
    for (frame, why) in &unusable {
        let at = frame.head.seq;
        found.problem(format!("checkpoint at entry {at}: {why}"));
        found.loses(format!("the checkpoint at entry {at}"));
        let known = named_by(frame, blocks).into_iter();
        let gone = known.filter(|cid| !matches!(blocks.get_local(cid), Ok(Some(_))));
        found.damaged_blocks.extend(gone);
    }
    let oldest = found.kept.last();
    if let Some(cid) = oldest.and_then(|oldest| damaged_before(oldest, blocks)) {
        found.notice(format!(
            "commit object {cid} is damaged: checkpoints up to that one are no snapshots any more"
        ));
    }
    if found.kept.is_empty() && !unusable.is_empty() {
        found.problem(
            "no kept checkpoint is sound: unless the journal goes back to the first entry, the \
             tree is shown empty and takes no change. Bring packs/own back, or configure a source \
             that has the blocks and run `cidfs fsck --repair`"
                .to_owned(),
        );
    }
    Ok(())
}

/// Reads and proves every local block below a root that was not `seen` yet.
///
/// Of each is seen whether it was only met as something that may be elsewhere:
/// what is met as something written here later is looked at again, with all below it.
async fn inspect_blocks(
    blocks: &Arc<Blocks>,
    (root, top): (Cid, Place),
    posix: Option<Cid>,
    seen: &mut HashMap<Cid, bool>,
    found: &mut Inspection,
    progress: OnFsck<'_>,
) {
    let records = posix.map(|posix| (PosixMap::new(Arc::clone(blocks)), posix));
    let mut absent = BTreeMap::new();
    let mut open = vec![(root, top)];
    while let Some((cid, place)) = open.pop() {
        let before = seen.get(&cid).copied();
        if before.is_some_and(|elsewhere| place.elsewhere || !elsewhere) {
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
                    let path = way::shown(logged.path.clone());
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
