//! Opens the tree: the newest sound checkpoint, and the journal after it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use super::background::Background;
use super::calls::keep::Keeping;
use super::changes::apply::apply;
use super::changes::fits::{contradiction, ready, takes_name};
use super::changes::op::{Attr, Logged, Op, kind};
use super::changes::way;
use super::checkpoint::Checkpointed;
use super::checkpoint::chain::{kept_from, read_kept};
use super::checkpoint::head;
use super::checkpoint::records::{NEXT, ROOT_NAME};
use super::chunks::ahead;
use super::chunks::seal;
use super::loading::load;
use super::loading::load::{cannot_be_had, is_far};
use super::log::Log;
use super::nodes::fault::{Fault, Need, Step};
use super::nodes::node::{Base, Body, Directory, Inode, Sealed};
use super::transaction::Open;
use super::types::{NodeId, NodeKind, Time};
use super::{Mfs, MfsOptions, time_of};
use crate::block::Cid;
use crate::cache::{Blocks, CacheError};
use crate::clock::Clock;
use crate::config::{PLAN_ROUNDS_MAX, RECOVERY_ERRORS_MAX};
use crate::disk::Disk;
use crate::journal::{
    Frame, Journal, JournalError, JournalOptions, JournalPlace, Reader, Recovered, Seq, Torn,
};
use crate::tree::error::TreeError;
use crate::tree::posix::record::{self, Number};
use crate::tree::posix::{PosixMap, key};
use crate::unixfs::MetaKind;
use crate::unixfs::dir_build::DirTally;

/// What opening the tree found and did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Recovery {
    /// Sequence of the checkpoint that it began with; `None` for a new tree.
    pub checkpoint: Option<u64>,
    /// Segments of the journal.
    pub segments: usize,
    /// Journal entries after the checkpoint.
    pub entries_seen: u64,
    /// Of these, changes that were applied.
    pub entries_applied: u64,
    /// Changes of transactions that never ended; one without any counts once.
    pub rolled_back: u64,
    /// Bytes at the end of the journal that a crash had left, and were kept aside.
    pub torn_bytes: u64,
    /// Whole entries among them.
    pub torn_entries: u64,
    /// What else was wrong, in words.
    pub errors: Vec<String>,
    /// The first entry that is not believed, because it contradicts those before it,
    /// and how.
    #[serde(skip)]
    pub contradicts: Option<(u64, String)>,
}

/// Where a tree is, and what it is made of.
#[derive(Clone)]
pub struct Parts {
    /// Directory of the journal.
    pub journal_dir: PathBuf,
    /// The disk that it is on.
    pub disk: Arc<dyn Disk>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The blocks.
    pub blocks: Arc<Blocks>,
    /// Reads them as files and directories.
    pub reader: Arc<crate::unixfs::Reader>,
}

impl Mfs {
    /// Opens the tree of a repository and recovers it. Needs a runtime.
    pub async fn open(parts: Parts, options: MfsOptions) -> Result<Arc<Self>, TreeError> {
        let map = PosixMap::new(Arc::clone(&parts.blocks));
        let mut recovery = Recovery::default();
        let Begun {
            kept,
            newer,
            is_newest,
        } = begun(&parts, &map, &options, &mut recovery).await?;
        let from = kept.last().map_or(Seq(1), |last| Seq(last.sequence).next());
        let (journal, found) = open_journal(&parts, &options, from)?;
        let Parts {
            journal_dir,
            disk,
            clock,
            blocks,
            reader,
        } = parts;
        take_in(&found, &mut recovery);
        let open = Arc::new(Open::default());
        let opened = crate::clock::since_epoch(clock.now()).as_nanos();
        let log = Log::new(journal.reader(), Some(Arc::clone(&open)));
        let mut mfs = Self {
            state: ahead::Gate::default(),
            journal,
            blocks,
            reader,
            map,
            clock,
            options,
            watchers: RwLock::default(),
            checkpointing: tokio::sync::Mutex::default(),
            newest: tokio::sync::watch::Sender::new(kept.last().copied()),
            history: super::history::History::of(&kept),
            kept: Mutex::new(kept),
            passing: AtomicBool::new(false),
            checkpoint_failed: Mutex::default(),
            held_back: Mutex::default(),
            unsealable: Mutex::default(),
            relieving: tokio::sync::Mutex::default(),
            opened_ns: u64::try_from(opened).unwrap_or(u64::MAX),
            marked: AtomicU64::new(marked(&found).0),
            recovery: Recovery::default(),
            sealed: seal::Unsynced::default(),
            open,
            log,
            disk,
            journal_dir,
            closing: AtomicBool::new(false),
            journaled_bytes: AtomicU64::new(0),
            journaled_changes: AtomicU64::new(0),
            background: Background::default(),
            staying: AtomicUsize::new(0),
            trim_due: AtomicBool::new(false),
            keeping: Keeping::default(),
        };
        if let Some(newer) = newer {
            mfs.freeze(format!("{}; {}", head::lost_end(&newer), head::HINT));
        }
        // One that cannot be begun with again is followed by another in any case.
        mfs.begin(is_newest).await?;
        mfs.replay(from, found.durable, &mut recovery).await?;
        if recovery.checkpoint.is_none() && recovery.entries_seen == 0 {
            mfs.found(mfs.now())?;
        }
        mfs.take_up(&mut recovery).await;
        mfs.recovery = recovery;
        let mfs = Arc::new(mfs);
        mfs.start_threads()?;
        Ok(mfs)
    }

    /// Starts what goes on beside the calls, where anything may change.
    fn start_threads(self: &Arc<Self>) -> Result<(), TreeError> {
        if self.options.only_read {
            return Ok(());
        }
        let failed = |error: std::io::Error| TreeError::Failed(error.to_string());
        self.start_hashing().map_err(failed)?;
        self.start(tokio::runtime::Handle::current())
            .map_err(failed)
    }

    /// Makes the root as the checkpoint has it, or that of a new tree. Unless that
    /// `is_newest` the next checkpoint is made though nothing changes.
    async fn begin(&self, is_newest: bool) -> Result<(), TreeError> {
        let last = self.kept.lock().last().copied();
        let now = time_of(self.clock.now());
        let mut root = Inode {
            mode: 0o755,
            uid: self.options.uid,
            gid: self.options.gid,
            atime: now.into(),
            mtime: now.into(),
            ctime: now.into(),
            ..Inode::plain(NodeKind::Directory, Body::Special)
        };
        let is_new = last.is_none();
        let mut directory = Directory {
            complete: is_new,
            directories: is_new.then_some(0),
            ..Directory::default()
        };
        let mut next = 1;
        if let Some(last) = last {
            let mut tally = None;
            if let Some(posix) = &last.posix {
                let at = key::dentry(0, ROOT_NAME);
                if let Some(value) = self.map.get(posix, &at).await? {
                    let dentry = record::Dentry::decode(&value)?;
                    tally = dentry.tally.map(|tally| DirTally {
                        entries: tally.entries,
                        links_bytes: tally.links_bytes,
                        names_bytes: tally.names_bytes,
                    });
                    directory.directories = dentry.directories;
                    if let record::DentryBody::Inline(known) = dentry.body {
                        load::take_record(&mut root, known);
                    }
                }
                if let Some(value) = self.map.get(posix, &key::state(NEXT)).await? {
                    next = Number::decode(&value)?.0;
                }
            }
            let tsize = self.reader.tsize(&last.root).await?;
            let sealed = Sealed {
                cid: (&last.root).into(),
                tsize,
            };
            directory.base = Some(Base { sealed, tally });
        }
        root.body = Body::Directory(directory.into());
        let mut state = self.state.lock();
        state.nodes.insert(NodeId::ROOT, root);
        state.posix = last.and_then(|last| last.posix);
        state.epoch = u64::from(last.is_some() && is_newest);
        state.next = next;
        Ok(())
    }

    /// Journals the root of a new tree, so that it is the same after a restart.
    fn found(&self, now: Time) -> Result<(), TreeError> {
        let attr = Attr {
            node: NodeId::ROOT,
            mode: Some(0o755),
            uid: Some(self.options.uid),
            gid: Some(self.options.gid),
            atime: Some(now),
            mtime: Some(now),
            ctime: now,
            acl: None,
        };
        let logged = Logged {
            path: b"/".to_vec(),
            to: Vec::new(),
            op: Op::Attr(attr),
        };
        let founded = self.perform(&mut self.state.lock(), &[logged]);
        match founded {
            Ok(_) => self.sync(),
            // Damaged, or on a full disk: it is served as it is.
            Err(TreeError::ReadOnly(_) | TreeError::NoSpace(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Applies what was committed after the checkpoint.
    async fn replay(
        &self,
        from: Seq,
        durable: Seq,
        recovery: &mut Recovery,
    ) -> Result<(), TreeError> {
        let mut staged: HashMap<u64, Vec<(Seq, Logged)>> = HashMap::new();
        let mut next = from;
        for frame in self.journal.reader().frames(from)? {
            let frame = match frame {
                Ok(frame) => frame,
                Err(JournalError::Damaged(damage)) => {
                    // The journal takes nothing either, unless the disk has just failed.
                    self.freeze(format!("the journal cannot be read to its end: {damage}"));
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            if frame.head.seq > next {
                let last = frame.head.seq.previous();
                let why = format!("the entries from {next} to {last} are gone");
                self.freeze(format!("{why}; `cidfs fsck` tells what is missing"));
                note(recovery, why);
                // What follows was done to another tree than this one.
                break;
            }
            next = frame.head.seq.next();
            let unproved = frame.head.seq > durable;
            if let Some((missing, why)) = self.missing_block(&frame, unproved) {
                if let Some(error) = why {
                    // Nobody knows, so nothing is cut off: it may be there the next time.
                    let seq = frame.head.seq;
                    let why = format!("entry {seq}: block {missing} cannot be read: {error}");
                    self.freeze(format!(
                        "{why}; a start when the disk is well makes it whole"
                    ));
                    note(recovery, why);
                } else if frame.head.seq > durable {
                    // Its data did not survive; the order of what was acknowledged ends here.
                    let after = frame.head.seq.previous();
                    if self.options.only_read {
                        let last = self.journal.last();
                        note(
                            recovery,
                            format!(
                                "entries {} to {last} are to be cut off: block {missing} of the first is lost",
                                frame.head.seq
                            ),
                        );
                        recovery.torn_entries += last.0 - after.0;
                    } else {
                        tell_torn(&self.journal.cut_after(after)?, recovery);
                    }
                    break;
                } else {
                    note(
                        recovery,
                        format!("entry {}: block {missing} is lost", frame.head.seq),
                    );
                }
            }
            recovery.entries_seen += 1;
            self.replay_frame(frame, &mut staged, recovery).await?;
            if self.is_disbelieved(recovery) {
                break;
            }
        }
        recovery.rolled_back += staged
            .values()
            .map(|ops| ops.len().max(1) as u64)
            .sum::<u64>();
        let applied = recovery.entries_applied;
        self.journaled_changes
            .store(applied, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Whether an entry could not be believed: then nothing is built on what there is.
    fn is_disbelieved(&self, recovery: &mut Recovery) -> bool {
        let Some((from, why)) = &recovery.contradicts else {
            return false;
        };
        let why = format!("entry {from} contradicts those before it: {why}");
        self.freeze(format!(
            "{why}; `cidfs fsck --repair` sets it aside, and what follows it"
        ));
        note(recovery, why);
        true
    }

    async fn replay_frame(
        &self,
        frame: Frame,
        staged: &mut HashMap<u64, Vec<(Seq, Logged)>>,
        recovery: &mut Recovery,
    ) -> Result<(), TreeError> {
        let (seq, tx) = (frame.head.seq, frame.head.tx.0);
        let logged = match Logged::decode(frame.head.kind, &frame.payload) {
            Ok(logged) => logged,
            Err(error) => {
                note(recovery, format!("entry {seq}: {error}"));
                return Ok(());
            }
        };
        match (&logged.op, tx) {
            (Op::Commit, tx) => {
                let all = staged.remove(&tx).unwrap_or_default();
                for (one, logged) in all {
                    self.replay_op(one, &logged, recovery).await?;
                    if let Some((from, _)) = &mut recovery.contradicts {
                        // Without this entry the next start takes all of it back, and
                        // what others did meanwhile stays.
                        *from = seq.0;
                        break;
                    }
                }
            }
            (Op::Rollback, tx) => {
                staged.remove(&tx);
            }
            (Op::Begin, tx) => {
                staged.entry(tx).or_default();
            }
            (Op::Failed { .. } | Op::Checkpoint { .. } | Op::Synced, _) => {}
            (_, 0) => self.replay_op(seq, &logged, recovery).await?,
            (_, tx) => staged.entry(tx).or_default().push((seq, logged)),
        }
        Ok(())
    }

    /// Applies a change if all that it touches is loaded; gives how many bytes
    /// are unsealed then, or what of the tree it contradicts.
    fn try_replay(&self, seq: Seq, op: &Op) -> Step<Result<u64, &'static str>> {
        let mut state = self.state.lock();
        ready(&state, op)?;
        if let Some(why) = contradiction(&state, op) {
            return Ok(Err(why));
        }
        apply(&mut state, op, seq.0, self.options.chunk_bytes());
        Ok(Ok(state.unsealed_bytes))
    }

    /// Applies a change. If it needs content that cannot be had, the tree is
    /// shown without it, and takes no change that would make this last.
    async fn replay_op(
        &self,
        seq: Seq,
        logged: &Logged,
        recovery: &mut Recovery,
    ) -> Result<(), TreeError> {
        let _stay = self.stay();
        match self.replay_loading(seq, logged, recovery).await {
            Err(error) if is_far(&error) => {
                let path = way::shown(logged.path.clone());
                let path = path.escape_ascii();
                let why = format!("entry {seq}: {path} cannot be had now: {error}");
                self.freeze(format!("{why}; a start with its source makes it whole"));
                note(recovery, why);
                Ok(())
            }
            other => other,
        }
    }

    /// Loads what a change lacks; what it removes need not be here for that.
    async fn load_for(&self, need: &Need, op: &Op) -> Result<(), TreeError> {
        let failed = match self.load(need).await {
            Err(error) if cannot_be_had(&error) => error,
            other => return other,
        };
        let kind = if let Op::Unlink { .. } = op {
            MetaKind::File
        } else if let Op::Rmdir { .. } | Op::Unmount { .. } = op {
            MetaKind::Directory
        } else {
            return Err(failed);
        };
        match need {
            Need::Entry(parent, name) if self.stand_in(*parent, name, kind).await? => Ok(()),
            Need::Entry(..)
            | Need::Listing(_)
            | Need::Linked(..)
            | Need::Unchanged(_)
            | Need::Keep(_)
            | Need::Hashes(_) => Err(failed),
        }
    }

    /// Notes an entry that contradicts the tree. Where one before it was passed over
    /// it may be sound: a start that can read what that one needs finds out.
    fn disbelieve(&self, seq: Seq, why: &str, recovery: &mut Recovery) {
        if recovery.errors.is_empty() {
            recovery.contradicts = Some((seq.0, why.to_owned()));
            return;
        }
        let why = format!("entry {seq} is passed over, as one before it was: {why}");
        self.freeze(why.clone());
        note(recovery, why);
    }

    async fn replay_loading(
        &self,
        seq: Seq,
        logged: &Logged,
        recovery: &mut Recovery,
    ) -> Result<(), TreeError> {
        if let Op::Unmount { .. } = &logged.op {
            match self.find_path(&logged.path).await {
                Ok(Some(node)) => self.load_linked_below(node).await?,
                // What goes need not be here for that.
                Err(error) if !cannot_be_had(&error) => return Err(error),
                Ok(None) | Err(_) => {}
            }
        }
        let mut searched = false;
        for _ in 0..PLAN_ROUNDS_MAX {
            match self.try_replay(seq, &logged.op) {
                Ok(Err(why)) => {
                    self.disbelieve(seq, why, recovery);
                    return Ok(());
                }
                Ok(Ok(unsealed)) => {
                    recovery.entries_applied += 1;
                    if unsealed > self.options.unsealed_bytes_max
                        && !self.options.only_read
                        && let Err(error) = self.relieve().await
                    {
                        // It needs more memory then, which is better than no tree.
                        tracing::error!(%error, "what was replayed cannot be sealed yet");
                    }
                    return Ok(());
                }
                Err(Fault::Need(need)) => self.load_for(&need, &logged.op).await?,
                Err(Fault::Error(_)) if searched => break,
                Err(Fault::Error(_)) => {
                    self.find_path(&logged.path).await?;
                    self.find_path(&logged.to).await?;
                    searched = true;
                }
            }
        }
        if takes_name(&logged.op) {
            self.disbelieve(seq, "the name is not there", recovery);
        } else if !logged.path.is_empty() {
            let path = way::shown(logged.path.clone());
            let path = path.escape_ascii();
            note(recovery, format!("entry {seq}: {path} is not there"));
        }
        Ok(())
    }

    /// Loads the nodes on the way of an entry, as far as it goes; gives the last if it goes to its end.
    pub(super) async fn find_path(&self, path: &[u8]) -> Result<Option<NodeId>, TreeError> {
        let Some((mut at, path)) = way::begin(path) else {
            return Ok(None);
        };
        if !self.find_place(at).await? {
            return Ok(None);
        }
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            match self.lookup(at, name, false).await {
                Ok(attr) => at = attr.node,
                Err(TreeError::NotFound | TreeError::NotADirectory) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(at))
    }

    /// A block that a frame names and that is not here, or of which the disk does
    /// not say whether it is. Where a power loss may have torn it, its bytes are
    /// looked at.
    fn missing_block(&self, frame: &Frame, unproved: bool) -> Option<(Cid, Option<CacheError>)> {
        if frame.head.kind != kind::WRITE_BLOCKS {
            return None;
        }
        let logged = Logged::decode(frame.head.kind, &frame.payload).ok()?;
        let Op::WriteBlocks { blocks, .. } = logged.op else {
            return None;
        };
        let is_here = |cid: &Cid| match unproved {
            true => self.blocks.is_whole(cid),
            false => Ok(self.blocks.has_local(cid)),
        };
        // One that is missing for sure says more than one that cannot be read.
        let mut unread = None;
        for (cid, _) in blocks {
            match is_here(&cid) {
                Ok(true) => {}
                Ok(false) => return Some((cid, None)),
                Err(error) => unread = Some((cid, Some(error))),
            }
        }
        unread
    }
}

/// What the tree begins with.
struct Begun {
    /// The kept checkpoints, oldest first.
    kept: Vec<Checkpointed>,
    /// The last of them, where the journal ends before it.
    newer: Option<Checkpointed>,
    /// Whether no newer one is there that cannot be used.
    is_newest: bool,
}

/// Finds what the tree begins with.
async fn begun(
    parts: &Parts,
    map: &PosixMap,
    options: &MfsOptions,
    recovery: &mut Recovery,
) -> Result<Begun, TreeError> {
    let (disk, dir, blocks) = (&parts.disk, &parts.journal_dir, &parts.blocks);
    let journal = Reader::open(dir, Arc::clone(disk));
    if head::exists(&**disk, dir) {
        blocks.index_ready().await;
    }
    wait_for_blocks(&journal, blocks).await?;
    let (mut kept, mut newest) = kept_checkpoints(&journal, blocks, options, recovery)?;
    let newer = head::newer_than(kept.last(), &journal, &**disk, dir, blocks);
    if let Some(newer) = newer {
        kept = kept_from(&newer.one, blocks, options.snapshots_kept);
        kept.reverse();
        // Where only its entry is gone it gets another.
        newest = newer.is_end_lost.then_some(newer.one.sequence);
    }
    let newer = newer
        .filter(|newer| newer.is_end_lost)
        .map(|newer| newer.one);
    if let Some(newer) = &newer {
        note(recovery, head::lost_end(newer));
    }
    pass_over_damaged(&mut kept, (map, &parts.reader), recovery).await;
    let is_newest = newest == recovery.checkpoint;
    Ok(Begun {
        kept,
        newer,
        is_newest,
    })
}

/// Opens the journal, of which frames from `from` on are needed.
fn open_journal(
    parts: &Parts,
    options: &MfsOptions,
    from: Seq,
) -> Result<(Journal, Recovered), TreeError> {
    let blocks = Arc::clone(&parts.blocks);
    let place = JournalPlace {
        dir: parts.journal_dir.clone(),
        disk: Arc::clone(&parts.disk),
        clock: Arc::clone(&parts.clock),
        room: parts.blocks.room(),
        // What entries refer to was flushed before them.
        before_sync: Arc::new(move || blocks.sync_flushed().map_err(std::io::Error::other)),
    };
    let how = JournalOptions {
        only_read: options.only_read,
        ..JournalOptions::default()
    };
    Ok(Journal::open(&place, how, from, &mut |_, _| {})?)
}

/// Before the index is open no block is known to be here, and what lacks would
/// be taken for lost: waits for it where an entry refers to blocks.
async fn wait_for_blocks(journal: &Reader, blocks: &Blocks) -> Result<(), TreeError> {
    let refers = |number: u8| {
        matches!(
            number,
            kind::CHECKPOINT | kind::WRITE_BLOCKS | kind::SHARE | kind::MOUNT
        )
    };
    if journal.newest(|head, _| refers(head.kind))?.is_some() {
        blocks.index_ready().await;
    }
    Ok(())
}

/// What the journal's own recovery has found.
fn take_in(found: &Recovered, recovery: &mut Recovery) {
    recovery.segments = found.segments;
    if let Some(torn) = &found.torn {
        tell_torn(torn, recovery);
    }
    let damage = found.history.iter().chain(&found.damage);
    recovery.errors.extend(damage.map(ToString::to_string));
}

/// The last entry that needs no mark behind it: an end of which the entries
/// themselves say that what is before it is durable.
fn marked(found: &Recovered) -> Seq {
    match found.durable.next() >= found.last {
        true => found.last,
        false => Seq(0),
    }
}

/// Counts what was cut off, and says where it is.
fn tell_torn(torn: &Torn, recovery: &mut Recovery) {
    recovery.torn_bytes += torn.bytes;
    recovery.torn_entries += torn.frames;
    let (after, bytes, entries) = (torn.after, torn.bytes, torn.frames);
    let kept = torn.kept.join(", ");
    if torn.kept.is_empty() {
        tracing::warn!(%after, bytes, entries, "the next start cuts off the torn end of the journal");
    } else if entries > 0 {
        tracing::error!(
            %after, bytes, entries, kept,
            "whole entries behind a broken one were cut off and kept in the journal's directory: \
             no sync is known to have covered them, as after a power loss. If there was none, \
             copy the repository and look at the disk before writing on"
        );
    } else {
        tracing::warn!(%after, bytes, kept, "a torn end of the journal was cut off and kept");
    }
}

pub(super) fn note(recovery: &mut Recovery, error: String) {
    tracing::error!(error, "recovery");
    if recovery.errors.len() < RECOVERY_ERRORS_MAX {
        recovery.errors.push(error);
    }
}

/// The newest checkpoints, oldest first, the last of them sound; and the sequence
/// of the newest that the journal has.
fn kept_checkpoints(
    journal: &Reader,
    blocks: &Blocks,
    options: &MfsOptions,
    recovery: &mut Recovery,
) -> Result<(Vec<Checkpointed>, Option<u64>), TreeError> {
    let mut newest = None;
    let mut kept = read_kept(
        journal,
        blocks,
        options.snapshots_kept,
        &mut |frame, why| {
            let at = frame.head.seq;
            let text = format!("the checkpoint at entry {at} is not usable: {why}");
            note(recovery, text);
            newest.get_or_insert(at.0);
        },
    )?;
    let sound = kept.first().map(|one| one.sequence);
    let newest = newest.or(sound);
    kept.reverse();
    recovery.checkpoint = sound;
    Ok((kept, newest))
}

/// Takes away the newest checkpoints that cannot be begun with. Where the journal
/// has not what came after the one before, the replay meets the gap.
async fn pass_over_damaged(
    kept: &mut Vec<Checkpointed>,
    (map, reader): (&PosixMap, &crate::unixfs::Reader),
    recovery: &mut Recovery,
) {
    while let Some(last) = kept.last()
        && let Err(error) = prove_beginning(last, map, reader).await
    {
        let at = last.sequence;
        note(
            recovery,
            format!("the checkpoint at entry {at} is not usable: {error}"),
        );
        kept.pop();
    }
    recovery.checkpoint = kept.last().map(|last| last.sequence);
}

/// Reads what the tree begins with.
async fn prove_beginning(
    one: &Checkpointed,
    map: &PosixMap,
    reader: &crate::unixfs::Reader,
) -> Result<(), TreeError> {
    if let Some(posix) = &one.posix {
        map.get(posix, &key::dentry(0, ROOT_NAME)).await?;
        map.get(posix, &key::state(NEXT)).await?;
    }
    reader.tsize(&one.root).await?;
    Ok(())
}
