//! What a change by path comes to, by the tree as it is at that moment.

use std::collections::HashSet;

use super::Known;
use super::staged::{Staged, WriteAt};
use crate::block::Cid;
use crate::config::{LIST_BATCH, TRANSACTION_CHANGES_MAX};
use crate::journal::Class;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::calls::content::{content, stamp};
use crate::tree::mfs::calls::elsewhere::note_elsewhere;
use crate::tree::mfs::calls::entries;
use crate::tree::mfs::calls::entries::{free_name, make_op};
use crate::tree::mfs::calls::meta::attr_op;
use crate::tree::mfs::calls::mounts::Content;
use crate::tree::mfs::calls::rename::may_move;
use crate::tree::mfs::changes::apply::MOUNTED;
use crate::tree::mfs::changes::op;
use crate::tree::mfs::changes::op::{Logged, Op};
use crate::tree::mfs::checkpoint::plan::loaded_directories;
use crate::tree::mfs::loading::load::cannot_be_had;
use crate::tree::mfs::nodes::extents::{Data, Extent};
use crate::tree::mfs::nodes::fault::{Fault, Need, Step};
use crate::tree::mfs::nodes::node::{Body, Inode, Name, To};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::types::{Caller, New, NodeId, NodeKind, RenameMode, Time};

/// Permission bits that group and others do not get where nothing is said.
const UMASK: u32 = 0o022;

impl Mfs {
    /// Loads what a change will need, and refuses what can never be. What is not
    /// loaded here ends the plan of the whole transaction, which begins anew.
    pub(super) async fn prepare(
        &self,
        staged: &Staged,
        known: &mut Known,
    ) -> Result<(), TreeError> {
        match staged {
            Staged::Write { path, size, at, .. } => {
                let offset = match at {
                    WriteAt::Offset(offset) => Some(*offset),
                    WriteAt::Whole => None,
                    WriteAt::End => {
                        if let Some(end) = self.look(|state| self.end_of_file(state, path)).await? {
                            self.keep(&[end]).await?;
                        }
                        None
                    }
                };
                let end = self.end_of(offset.unwrap_or(0), *size)?;
                let cuts = offset.map_or(Vec::new(), |offset| vec![offset, end]);
                self.check_room(Class::Normal)?;
                self.keep_cuts(path, &cuts).await?;
            }
            Staged::Truncate { path, size } => {
                self.end_of(0, *size)?;
                self.keep_cuts(path, &[*size]).await?;
            }
            Staged::Remove { path, recursive } => {
                self.prepare_remove(path, *recursive, known).await?;
            }
            Staged::Symlink { path, target } => {
                self.check_new(&New::Symlink(target.clone()))?;
                self.loaded(path).await?;
            }
            Staged::Move { from, to, into, .. } => {
                self.loaded(from).await?;
                self.load_emptiness(to).await?;
                if let Some(inside) = inside(from, to).filter(|_| *into) {
                    self.load_emptiness(&inside).await?;
                }
            }
            Staged::Link { from, to } => {
                self.loaded(from).await?;
                self.load_emptiness(to).await?;
            }
            Staged::Mkdir { path, .. }
            | Staged::Metadata { path, .. }
            | Staged::Mount { path, .. }
            | Staged::Unmount { path, .. } => {
                self.loaded(path).await?;
            }
        }
        Ok(())
    }

    /// Loads a file, and sees that its leaves which are cut are here.
    async fn keep_cuts(&self, path: &TreePath, cuts: &[u64]) -> Result<(), TreeError> {
        let Some(node) = self.loaded(path).await? else {
            return Ok(());
        };
        match self.keep_cut_leaves(node, cuts).await {
            // The plan says what is wrong.
            Ok(()) | Err(TreeError::IsADirectory | TreeError::Invalid(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Loads what a path leads to, and of a directory whether anything is in it.
    async fn load_emptiness(&self, path: &TreePath) -> Result<(), TreeError> {
        let Some(node) = self.loaded(path).await? else {
            return Ok(());
        };
        match self.look(|state| state.is_empty(node)).await {
            Ok(_) | Err(TreeError::NotFound | TreeError::NotADirectory) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What a path leads to now; `None` where it leads nowhere yet.
    async fn loaded(&self, path: &TreePath) -> Result<Option<NodeId>, TreeError> {
        match self.look(|state| state.at(path)).await {
            Ok(node) => Ok(Some(node)),
            Err(TreeError::NotFound | TreeError::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Loads all names below a directory, up to what one transaction may take
    /// away, and notes what of it cannot be had.
    async fn load_below(&self, node: NodeId, known: &mut Known) -> Result<(), TreeError> {
        let (mut open, mut count) = (vec![node], 0);
        while let Some(dir) = open.pop() {
            let is_open = {
                let state = self.state.lock();
                let inode = state.nodes.get(&dir);
                inode.is_some_and(|inode| {
                    inode.kind == NodeKind::Directory && inode.xattr(MOUNTED).is_none()
                })
            };
            if !is_open {
                continue;
            }
            let mut cookie = 0;
            loop {
                let page = match self.list(dir, cookie, LIST_BATCH).await {
                    Ok(page) => page,
                    Err(TreeError::NotFound | TreeError::NotADirectory) => break,
                    Err(error) if cannot_be_had(&error) => {
                        known.unlisted.insert(dir);
                        break;
                    }
                    Err(error) => return Err(error),
                };
                let Some(last) = page.last() else { break };
                cookie = last.cookie;
                count += page.len();
                if count > TRANSACTION_CHANGES_MAX {
                    return Err(too_many());
                }
                for entry in page {
                    if entry.guessed {
                        let name = Name::from(&*entry.name);
                        match self.load_entry(dir, &name).await {
                            Ok(()) => {}
                            Err(error) if cannot_be_had(&error) => {
                                known.unseen.insert((dir, name));
                            }
                            Err(error) => return Err(error),
                        }
                    } else if entry.attr.kind == NodeKind::Directory {
                        open.push(entry.attr.node);
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks at what is to be removed, with all below it if `recursive`.
    async fn prepare_remove(
        &self,
        path: &TreePath,
        recursive: bool,
        known: &mut Known,
    ) -> Result<(), TreeError> {
        let done = match (recursive, self.loaded(path).await) {
            (true, Ok(Some(node))) => self.load_below(node, known).await,
            (true, Ok(None)) => Ok(()),
            (false, Ok(_)) => self.load_emptiness(path).await,
            (_, Err(error)) => Err(error),
        };
        let Err(error) = done else { return Ok(()) };
        let place = self
            .look(|state| state.above(path).map(|(at, name)| (at, name.clone())))
            .await;
        let Ok((parent, name)) = place else {
            return Err(error);
        };
        if !self.is_unseen(&error, parent, &name).await {
            return Err(error);
        }
        known.unseen.insert((parent, name));
        Ok(())
    }

    /// Proves that a change may happen, and gives what it does.
    pub(super) fn plan(
        &self,
        state: &State,
        caller: Caller,
        staged: &Staged,
        time: Time,
        known: &Known,
    ) -> Step<Vec<Logged>> {
        match staged {
            Staged::Mkdir {
                path,
                mode,
                parents,
            } => mkdir(state, caller, path, (*mode, *parents), time),
            Staged::Write {
                path,
                content,
                size,
                at,
                mode,
            } => {
                // It may have got another end since that was kept.
                self.end_is_kept(state, path, *at)?;
                let is_here = self.blocks.has_own(content);
                write(
                    state,
                    caller,
                    path,
                    (*content, *size, *at, is_here),
                    *mode,
                    time,
                )
            }
            Staged::Truncate { path, size } => truncate(state, path, *size, time),
            Staged::Remove { path, recursive } => {
                let mut gone = Vec::new();
                let at = state.above(path)?;
                remove(state, (at.0, at.1), *recursive, time, known, &mut gone)?;
                Ok(gone)
            }
            Staged::Move {
                from,
                to,
                into,
                mode,
            } => rename(state, from, (to, *into), *mode, time),
            Staged::Symlink { path, target } => {
                let (parent, name) = state.above(path)?;
                free_name(state, parent, name)?;
                let new = New::Symlink(target.clone());
                let at = (parent, &name[..]);
                let made = make_op(state, caller, at, (state.fresh(), &new), (0, 0), time)?;
                Ok(vec![logged(path, Op::Make(made))])
            }
            Staged::Link { from, to } => self.plan_link(state, from, to, time),
            Staged::Metadata { path, set } => {
                let node = state.at(path)?;
                let inode = state.node(node)?;
                self.check_owner(inode, set)?;
                let op = attr_op(inode, node, set, time)?;
                Ok(vec![logged(path, Op::Attr(op))])
            }
            Staged::Mount {
                path,
                content,
                plain,
            } => {
                let is_here = self.blocks.has_own(&content.cid());
                mount(state, caller, path, (content, *plain, is_here), time)
            }
            Staged::Unmount { path, .. } => unmount(state, path, time),
        }
    }

    fn plan_link(
        &self,
        state: &State,
        from: &TreePath,
        to: &TreePath,
        time: Time,
    ) -> Step<Vec<Logged>> {
        let node = state.at(from)?;
        let (parent, name) = state.above(to)?;
        self.may_link(state, node, parent, name)?;
        let op = Op::Link {
            node,
            parent,
            name: name.clone(),
            time,
        };
        Ok(vec![Logged {
            path: from.bytes(),
            to: to.bytes(),
            op,
        }])
    }
}

/// Proves that what is linked below nodes to unmount is loaded.
pub(super) fn with_linked(
    state: &State,
    planned: Vec<Logged>,
    linked: &HashSet<NodeId>,
) -> Step<Vec<Logged>> {
    for one in &planned {
        if let Op::Unmount { parent, name, .. } = &one.op
            && let Some(node) = state.find(*parent, name)?
            && !linked.contains(&node)
        {
            let below = loaded_directories(state, node);
            return Err(Fault::Need(Need::Linked(node, below)));
        }
    }
    Ok(planned)
}

fn truncate(state: &State, path: &TreePath, size: u64, time: Time) -> Step<Vec<Logged>> {
    let node = state.at(path)?;
    let inode = state.node(node)?;
    content(inode)?;
    let stamp = stamp(inode, time, true);
    Ok(vec![logged(path, Op::Resize { node, size, stamp })])
}

fn unmount(state: &State, path: &TreePath, time: Time) -> Step<Vec<Logged>> {
    let (parent, name) = state.above(path)?;
    let node = state.find(parent, name)?.ok_or(TreeError::NotFound)?;
    if state.node(node)?.xattr(MOUNTED).is_none() {
        return Err(TreeError::Invalid("no CID is mounted there").into());
    }
    let name = name.clone();
    Ok(vec![logged(path, Op::Unmount { parent, name, time })])
}

fn too_many() -> TreeError {
    TreeError::Limit(format!("{TRANSACTION_CHANGES_MAX} changes at once"))
}

fn logged(path: &TreePath, op: Op) -> Logged {
    Logged {
        path: path.bytes(),
        to: Vec::new(),
        op,
    }
}

fn mkdir(
    state: &State,
    caller: Caller,
    path: &TreePath,
    (mode, parents): (u32, bool),
    time: Time,
) -> Step<Vec<Logged>> {
    let mut all = Vec::new();
    let (mut at, mut here) = (NodeId::ROOT, TreePath::parse(b"")?);
    // Below the first that is missing nothing is there.
    let mut above: Option<Inode> = None;
    let count = path.names().len();
    for (depth, name) in (1..).zip(path.names()) {
        here = here.join(name);
        let is_last = depth == count;
        let found = if above.is_none() {
            state.find(at, name)?
        } else {
            None
        };
        if let Some(node) = found {
            if is_last && !parents {
                return Err(TreeError::Exists.into());
            }
            state.directory(node)?;
            at = node;
            continue;
        }
        if !is_last && !parents {
            return Err(TreeError::NotFound.into());
        }
        if above.is_none() {
            free_name(state, at, name)?;
        }
        let node = NodeId::counted(state.next + all.len() as u64);
        let parent = match &above {
            Some(inode) => inode,
            None => state.node(at)?,
        };
        let made = entries::make_in(
            parent,
            caller,
            (at, name),
            (node, &New::Directory),
            (mode, UMASK),
            time,
        )?;
        let mut inode = Inode {
            mode: made.mode,
            gid: made.gid,
            ..Inode::plain(NodeKind::Directory, Body::Special)
        };
        inode.set_xattrs(made.xattrs.iter().cloned().collect());
        above = Some(inode);
        all.push(logged(&here, Op::Make(made)));
        at = node;
    }
    if path.names().is_empty() && !parents {
        return Err(TreeError::Exists.into());
    }
    Ok(all)
}

fn write(
    state: &State,
    caller: Caller,
    path: &TreePath,
    (cid, size, at, is_here): (Cid, u64, WriteAt, bool),
    mode: u32,
    time: Time,
) -> Step<Vec<Logged>> {
    let (parent, name) = state.above(path)?;
    let mut all = Vec::new();
    let (node, mark, there) = match state.find(parent, name)? {
        Some(node) => {
            let inode = state.node(node)?;
            let mark = stamp(inode, time, true);
            let there = content(inode)?.size();
            if there > 0 && at == WriteAt::Whole {
                all.push(logged(
                    path,
                    Op::Resize {
                        node,
                        size: 0,
                        stamp: mark,
                    },
                ));
            }
            (node, mark, there)
        }
        None => {
            free_name(state, parent, name)?;
            let node = state.fresh();
            let at = (parent, &name[..]);
            let made = make_op(state, caller, at, (node, &New::File), (mode, UMASK), time)?;
            all.push(logged(path, Op::Make(made)));
            (node, op::Stamp { time, mode: None }, 0)
        }
    };
    let offset = match at {
        WriteAt::Whole => 0,
        WriteAt::Offset(offset) => offset,
        WriteAt::End => there,
    };
    offset.checked_add(size).ok_or(TreeError::TooLarge)?;
    if !is_here {
        let note = note_elsewhere(node, state.nodes.get(&node), time);
        all.extend(note.map(|op| logged(path, op)));
    }
    all.extend(share(node, offset, (cid, size), mark).map(|op| logged(path, op)));
    Ok(all)
}

/// Puts content into a file.
fn share(node: NodeId, offset: u64, (cid, size): (Cid, u64), stamp: op::Stamp) -> Option<Op> {
    let data = Data::Shared {
        cid: (&cid).into(),
        offset: 0,
    };
    let ranges = vec![Extent { len: size, data }];
    (size > 0).then_some(Op::Share {
        node,
        offset,
        stamp,
        ranges,
    })
}

/// Gathers what takes a name away, and before it what is below.
fn remove(
    state: &State,
    (parent, name): (NodeId, &Name),
    recursive: bool,
    time: Time,
    known: &Known,
    gone: &mut Vec<Logged>,
) -> Step<()> {
    // What is to be visited, and whether what is below it was.
    let mut open = vec![((parent, name.clone()), false)];
    while let Some(((parent, name), below_done)) = open.pop() {
        let path = state.way(parent, Some(&name));
        let logged = |op| Logged {
            path: path.clone(),
            to: Vec::new(),
            op,
        };
        if gone.len() + open.len() > TRANSACTION_CHANGES_MAX {
            return Err(too_many().into());
        }
        let node = match state.find(parent, &name) {
            Err(Fault::Need(Need::Entry(..))) if known.unseen.contains(&(parent, name.clone())) => {
                gone.push(logged(Op::Unlink { parent, name, time }));
                continue;
            }
            found => found?.ok_or(TreeError::NotFound)?,
        };
        let inode = state.node(node)?;
        if inode.kind != NodeKind::Directory {
            gone.push(logged(Op::Unlink { parent, name, time }));
        } else if recursive && (inode.xattr(MOUNTED).is_some() || known.unlisted.contains(&node)) {
            // Content as a whole: what is below it is not to be fetched for this.
            gone.push(logged(Op::Unmount { parent, name, time }));
        } else if below_done {
            gone.push(logged(Op::Rmdir { parent, name, time }));
        } else if recursive {
            open.push(((parent, name), true));
            let directory = state.directory(node)?;
            if directory.base.is_some() && !directory.complete {
                return Err(Fault::Need(Need::Listing(node)));
            }
            let there = directory.entries.iter();
            let there = there.filter(|(_, dentry)| dentry.to() != To::Absent);
            open.extend(there.map(|(key, _)| ((node, key.name.clone()), false)));
        } else if state.is_empty(node)? {
            gone.push(logged(Op::Rmdir { parent, name, time }));
        } else {
            return Err(TreeError::NotEmpty.into());
        }
    }
    Ok(())
}

/// The names in a directory, all of them loaded.
pub(in super::super) fn names_in(state: &State, node: NodeId) -> Step<Vec<Name>> {
    let directory = state.directory(node)?;
    if directory.base.is_some() && !directory.complete {
        return Err(Fault::Need(Need::Listing(node)));
    }
    let mut names = Vec::new();
    for (key, dentry) in &directory.entries {
        match dentry.to() {
            To::Node(_) => names.push(key.name.clone()),
            To::Unloaded => return Err(Fault::Need(Need::Entry(node, key.name.clone()))),
            To::Absent => {}
        }
    }
    Ok(names)
}

/// The place in a directory of what is moved into it.
fn inside(from: &TreePath, dir: &TreePath) -> Option<TreePath> {
    from.names().last().map(|name| dir.join(name))
}

/// Where something goes that is moved to a path, or into the directory there.
fn target(state: &State, from: &TreePath, to: &TreePath) -> Step<TreePath> {
    let found = match state.at(to) {
        Ok(node) => state.node(node)?.kind == NodeKind::Directory,
        Err(Fault::Error(TreeError::NotFound | TreeError::NotADirectory)) => false,
        Err(fault) => return Err(fault),
    };
    let inside = inside(from, to).filter(|_| found);
    Ok(inside.unwrap_or_else(|| to.clone()))
}

fn rename(
    state: &State,
    from: &TreePath,
    (to, into): (&TreePath, bool),
    mode: RenameMode,
    time: Time,
) -> Step<Vec<Logged>> {
    let to = &match into {
        true => target(state, from, to)?,
        false => to.clone(),
    };
    let (source, target) = (state.above(from)?, state.above(to)?);
    if !may_move(state, (source.0, source.1), (target.0, target.1), mode)? {
        return Ok(Vec::new());
    }
    let op = Op::Rename {
        from: (source.0, source.1.clone()),
        to: (target.0, target.1.clone()),
        mode,
        time,
    };
    Ok(vec![Logged {
        path: from.bytes(),
        to: to.bytes(),
        op,
    }])
}

fn mount(
    state: &State,
    caller: Caller,
    path: &TreePath,
    (content, plain, is_here): (&Content, bool, bool),
    time: Time,
) -> Step<Vec<Logged>> {
    let (parent, name) = state.above(path)?;
    free_name(state, parent, name)?;
    let node = state.fresh();
    let op = Op::Mount(content.mount((parent, name.clone()), node, caller, time));
    let mut all = vec![logged(path, op)];
    if plain && !is_here {
        // It will not show as mounted.
        let note = note_elsewhere(node, None, time);
        all.extend(note.map(|op| logged(path, op)));
    }
    if plain {
        all.push(logged(
            path,
            Op::RemoveXattr {
                node,
                name: MOUNTED.into(),
                time,
            },
        ));
    }
    Ok(all)
}
