//! Names: found, listed, made, linked and taken away.

use std::collections::HashMap;

use bytes::Bytes;

use super::xattr::{check_xattrs, inherited, xattr_bytes};
use crate::config::{
    DIRECTORY_BASIC_BYTES_MAX, DIRECTORY_ENTRY_BYTES_MAX, NAME_BYTES_MAX, POSIX_LINKS_BYTES_MAX,
    SYMLINK_BYTES_MAX, TREE_DEPTH_MAX,
};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::op::{Logged, Make, Op};
use crate::tree::mfs::nodes::fault;
use crate::tree::mfs::nodes::fault::{Fault, Need, Step};
use crate::tree::mfs::nodes::node::{Hashes, Inode, Key, Name, To};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::perform::Plan;
use crate::tree::mfs::types::{Caller, New, NodeAttr, NodeEntry, NodeId, NodeKind, Time};
use crate::tree::writable::SNAPSHOTS;

const SETGID: u32 = 0o2000;

impl Mfs {
    /// Finds a name; `NotFound` is proven. With `hold` the node is held once.
    pub async fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        hold: bool,
    ) -> Result<NodeAttr, TreeError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(TreeError::NameTooLong);
        }
        self.look(|state| {
            let node = state.find(parent, name)?.ok_or(TreeError::NotFound)?;
            Ok(told(state, node, hold)?)
        })
        .await
    }

    /// Entries after `cookie` (0: from the start), at most `limit`, without `.`
    /// and `..`; empty at the end.
    pub async fn readdir(
        &self,
        dir: NodeId,
        cookie: u64,
        limit: usize,
    ) -> Result<Vec<NodeEntry>, TreeError> {
        let guesses = HashMap::new();
        let mut ahead = false;
        loop {
            let step = |state: &mut State| page(state, dir, (cookie, limit), &guesses);
            let (entries, unloaded) = self.look(step).await?;
            match unloaded.first() {
                None => return Ok(entries),
                Some(first) if !std::mem::replace(&mut ahead, true) => {
                    self.load_ahead(dir, first).await;
                }
                Some(_) => self.load_entries(dir, unloaded).await?,
            }
        }
    }

    /// Lists like [`readdir`](Self::readdir), for who shows it: of content that
    /// is far and known to be a file, or that cannot be had, it tells what the
    /// directory says of it.
    pub async fn list(
        &self,
        dir: NodeId,
        cookie: u64,
        limit: usize,
    ) -> Result<Vec<NodeEntry>, TreeError> {
        let mut guesses = HashMap::new();
        let mut ahead = false;
        loop {
            let step = |state: &mut State| page(state, dir, (cookie, limit), &guesses);
            let (entries, unloaded) = self.look(step).await?;
            match unloaded.first() {
                None => return Ok(entries),
                Some(first) if !std::mem::replace(&mut ahead, true) => {
                    self.load_ahead(dir, first).await;
                }
                Some(_) => guesses.extend(self.load_or_guess(dir, unloaded).await?),
            }
        }
    }

    /// Makes a node. Applies setgid directories, the umask and default ACLs.
    #[expect(
        clippy::too_many_arguments,
        reason = "what mknod(2) takes, and who asks"
    )]
    pub async fn make(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        new: New,
        mode: u32,
        umask: u32,
        hold: bool,
    ) -> Result<NodeAttr, TreeError> {
        check_name(name)?;
        self.check_new(&new)?;
        let plan = |state: &mut State, time: Time| {
            free_name(state, parent, name)?;
            let node = state.fresh();
            let made = make_op(
                state,
                caller,
                (parent, name),
                (node, &new),
                (mode, umask),
                time,
            )?;
            Ok(Plan::of(
                state.way(parent, Some(name)),
                Op::Make(made),
                node,
            ))
        };
        let done = |state: &mut State, node| told(state, node, hold);
        self.change(caller.origin, plan, done).await?
    }

    pub(in crate::tree::mfs) fn check_new(&self, new: &New) -> Result<(), TreeError> {
        match new {
            New::Symlink(target) if target.is_empty() => Err(TreeError::NotFound),
            New::Symlink(target) if target.len() > SYMLINK_BYTES_MAX => Err(TreeError::NameTooLong),
            New::Fifo | New::Socket | New::CharDevice(_) | New::BlockDevice(_)
                if self.options.portable =>
            {
                Err(TreeError::NotPermitted("special files are not portable"))
            }
            New::File
            | New::Directory
            | New::Symlink(_)
            | New::Fifo
            | New::Socket
            | New::CharDevice(_)
            | New::BlockDevice(_) => Ok(()),
        }
    }

    /// Gives a node one more name.
    pub async fn link(
        &self,
        caller: Caller,
        node: NodeId,
        parent: NodeId,
        name: &[u8],
        hold: bool,
    ) -> Result<NodeAttr, TreeError> {
        check_name(name)?;
        let plan = |state: &mut State, time: Time| {
            self.may_link(state, node, parent, name)?;
            let logged = Logged {
                path: state.way(node, None),
                to: state.way(parent, Some(name)),
                op: Op::Link {
                    node,
                    parent,
                    name: name.into(),
                    time,
                },
            };
            Ok(Plan {
                logged: vec![logged],
                told: (),
            })
        };
        let done = |state: &mut State, ()| told(state, node, hold);
        self.change(caller.origin, plan, done).await?
    }

    /// Refuses hard links where they may not be.
    pub(in crate::tree::mfs) fn check_links(&self) -> Result<(), TreeError> {
        match self.options.portable {
            true => Err(TreeError::NotPermitted("hard links are not portable")),
            false => Ok(()),
        }
    }

    /// Proves that a node may get one more name.
    pub(in crate::tree::mfs) fn may_link(
        &self,
        state: &State,
        node: NodeId,
        parent: NodeId,
        name: &[u8],
    ) -> Step<()> {
        self.check_links()?;
        let inode = state.node(node)?;
        free_name(state, parent, name)?;
        if inode.kind == NodeKind::Directory {
            return Err(TreeError::NotPermitted("directories have one name").into());
        }
        if inode.nlink == 0 {
            return Err(TreeError::NotFound.into());
        }
        Ok(check_room(inode, None, name)?)
    }

    /// Takes the name of what is not a directory away, or of content that cannot
    /// be had: nobody can tell what that is.
    pub async fn unlink(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
    ) -> Result<(), TreeError> {
        let plan = |state: &mut State, time: Time, unseen: bool| {
            let node = there(state, parent, name, unseen)?;
            if let Some(node) = node
                && state.node(node)?.kind == NodeKind::Directory
            {
                return Err(TreeError::IsADirectory.into());
            }
            let op = Op::Unlink {
                parent,
                name: name.into(),
                time,
            };
            Ok(Plan::of(state.way(parent, Some(name)), op, ()))
        };
        self.take_name(caller, (parent, name), plan).await
    }

    /// Takes an empty directory away, or content that cannot be had.
    pub async fn rmdir(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
    ) -> Result<(), TreeError> {
        let plan = |state: &mut State, time: Time, unseen: bool| {
            if let Some(node) = there(state, parent, name, unseen)? {
                if state.node(node)?.kind != NodeKind::Directory {
                    return Err(TreeError::NotADirectory.into());
                }
                if !state.is_empty(node)? {
                    return Err(TreeError::NotEmpty.into());
                }
            }
            let op = Op::Rmdir {
                parent,
                name: name.into(),
                time,
            };
            Ok(Plan::of(state.way(parent, Some(name)), op, ()))
        };
        self.take_name(caller, (parent, name), plan).await
    }

    /// Plans that a name goes; a second time where what it leads to cannot be had.
    async fn take_name(
        &self,
        caller: Caller,
        (parent, name): (NodeId, &[u8]),
        plan: impl Fn(&mut State, Time, bool) -> Step<Plan<()>>,
    ) -> Result<(), TreeError> {
        let seen = |state: &mut State, time: Time| plan(state, time, false);
        match self.change(caller.origin, seen, |_, ()| ()).await {
            Err(error) if self.is_unseen(&error, parent, name).await => {}
            done => return done,
        }
        let unseen = |state: &mut State, time: Time| plan(state, time, true);
        self.change(caller.origin, unseen, |_, ()| ()).await
    }
}

/// What a name leads to; with `unseen`, `None` of content that is not loaded.
fn there(state: &State, parent: NodeId, name: &[u8], unseen: bool) -> Step<Option<NodeId>> {
    match state.find(parent, name) {
        Err(Fault::Need(Need::Entry(..))) if unseen => Ok(None),
        found => Ok(Some(found?.ok_or(TreeError::NotFound)?)),
    }
}

/// A node's attributes, and one hold more if it is asked for.
fn told(state: &mut State, node: NodeId, hold: bool) -> Result<NodeAttr, TreeError> {
    let inode = state.nodes.get_mut(&node).ok_or(TreeError::NotFound)?;
    if hold {
        inode.hold();
    }
    Ok(inode.attr(node))
}

/// Refuses what no file can be called.
pub(in crate::tree::mfs) fn check_name(name: &[u8]) -> Result<(), TreeError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(TreeError::NameTooLong);
    }
    match name {
        b"" | b"." | b".." => Err(TreeError::Invalid("no name for a file")),
        _ if name.contains(&b'/') || name.contains(&0) => {
            Err(TreeError::Invalid("no name for a file"))
        }
        _ => Ok(()),
    }
}

/// Proves that a name is free, and that something may be made there.
pub(in crate::tree::mfs) fn free_name(state: &State, parent: NodeId, name: &[u8]) -> Step<()> {
    not_reserved(parent, name)?;
    if state.find(parent, name)?.is_some() {
        return Err(TreeError::Exists.into());
    }
    fits_beside(state, parent, name, None)?;
    if state.depth(parent) >= TREE_DEPTH_MAX {
        return Err(TreeError::Limit(format!("directories deeper than {TREE_DEPTH_MAX}")).into());
    }
    Ok(())
}

/// Refuses the one name in the root that is not an entry's.
pub(in crate::tree::mfs) fn not_reserved(parent: NodeId, name: &[u8]) -> Result<(), TreeError> {
    if parent == NodeId::ROOT && name == SNAPSHOTS {
        return Err(TreeError::NotPermitted("the name is for snapshots"));
    }
    Ok(())
}

/// Refuses a name with the hash of another one in the directory: blocks find
/// names by their hashes alone, so a large directory cannot hold both. `leaving`
/// makes room. The name was looked for before, so of what is sealed a name with
/// this hash is known too.
pub(in crate::tree::mfs) fn fits_beside(
    state: &State,
    parent: NodeId,
    name: &[u8],
    leaving: Option<&[u8]>,
) -> Step<()> {
    let from = Key {
        name: Name::from(b""),
        ..Key::new(name)
    };
    let hash = from.hash;
    let mut equal = state
        .directory(parent)?
        .entries
        .range(from..)
        .take_while(|(key, _)| key.hash == hash);
    let taken = equal.any(|(key, dentry)| {
        let other = &*key.name;
        dentry.to() != To::Absent && other != name && leaving != Some(other)
    });
    if taken {
        return Err(TreeError::Invalid("another name here has the same hash").into());
    }
    match leaving {
        Some(_) => Ok(()),
        None => may_grow(state, parent),
    }
}

/// Refuses one more name in a directory that must stay one block, since mounted
/// names in it have equal hashes, and whose block is nearly full.
fn may_grow(state: &State, parent: NodeId) -> Step<()> {
    let directory = state.directory(parent)?;
    let Some(base) = directory.base.as_ref() else {
        return Ok(());
    };
    let known = match directory.hashes {
        Hashes::Differ => return Ok(()),
        Hashes::Equal(bytes) => Some(bytes),
        Hashes::Unknown => None,
    };
    let new = match known {
        Some(_) => directory.changed.len(),
        None => directory.entries.len(),
    };
    let sealed = base.tally.map(|tally| tally.links_bytes).or(known);
    let bytes = sealed.map(|sealed| sealed + new as u64 * DIRECTORY_ENTRY_BYTES_MAX);
    match known {
        _ if bytes.is_some_and(|bytes| bytes <= DIRECTORY_BASIC_BYTES_MAX) => Ok(()),
        None => Err(Fault::Need(Need::Hashes(parent))),
        Some(_) => Err(TreeError::Limit(
            "a directory with names of equal hashes has no room for more".to_owned(),
        )
        .into()),
    }
}

/// Proves that a node's record has room for one name instead of another.
pub(in crate::tree::mfs) fn check_names(
    state: &State,
    node: NodeId,
    old: (NodeId, &[u8]),
    new: &[u8],
) -> Result<(), TreeError> {
    let inode = state.node(node)?;
    match inode.links() {
        Some(links) if links.len() > 1 => check_room(inode, Some(old), new),
        Some(_) | None => Ok(()),
    }
}

fn check_room(inode: &Inode, old: Option<(NodeId, &[u8])>, new: &[u8]) -> Result<(), TreeError> {
    let stay = inode
        .names()
        .filter(|(at, name)| old.is_none_or(|old| (*at, &**name) != old));
    let bytes: usize = stay.map(|(_, name)| name.len() + 16).sum();
    if bytes + new.len() + 16 > POSIX_LINKS_BYTES_MAX {
        return Err(TreeError::TooManyLinks);
    }
    Ok(())
}

/// What a new node will be, in a directory of the tree.
pub(in crate::tree::mfs) fn make_op(
    state: &State,
    caller: Caller,
    at: (NodeId, &[u8]),
    new: (NodeId, &New),
    modes: (u32, u32),
    time: Time,
) -> Result<Make, TreeError> {
    make_in(state.node(at.0)?, caller, at, new, modes, time)
}

/// What a new node will be, in the directory `above`.
pub(in crate::tree::mfs) fn make_in(
    above: &Inode,
    caller: Caller,
    (parent, name): (NodeId, &[u8]),
    (node, new): (NodeId, &New),
    (mode, umask): (u32, u32),
    time: Time,
) -> Result<Make, TreeError> {
    let is_directory = *new == New::Directory;
    let (mut mode, xattrs) = match new {
        New::Symlink(_) => (0o777, Vec::new()),
        New::File
        | New::Directory
        | New::Fifo
        | New::Socket
        | New::CharDevice(_)
        | New::BlockDevice(_) => inherited(above, mode & 0o7777, umask, is_directory)?,
    };
    let mut gid = caller.gid;
    if above.mode & SETGID != 0 {
        gid = above.gid;
        if is_directory {
            mode |= SETGID;
        }
    }
    let bytes = xattrs
        .iter()
        .map(|(name, value)| xattr_bytes(name, value))
        .sum();
    check_xattrs(bytes)?;
    let name: Name = name.into();
    let (new, uid) = (new.clone(), caller.uid);
    Ok(Make {
        parent,
        name,
        node,
        new,
        mode,
        uid,
        gid,
        time,
        xattrs,
    })
}

/// A page of a listing, and the names on it that must be loaded first.
fn page(
    state: &State,
    dir: NodeId,
    (cookie, limit): (u64, usize),
    guesses: &HashMap<Name, NodeAttr>,
) -> Step<(Vec<NodeEntry>, Vec<Name>)> {
    let directory = state.directory(dir)?;
    if directory.base.is_some() && !directory.complete {
        return Err(Fault::Need(fault::Need::Listing(dir)));
    }
    let (mut entries, mut unloaded) = (Vec::new(), Vec::new());
    // A cookie is the hash; behind others of that hash, the next free number.
    // Where that begins is at most as far back as there are entries, and what
    // it depends on as far again.
    let back = 2 * directory.entries.len() as u64;
    let from = Key {
        hash: cookie.saturating_sub(back),
        name: Name::from(b""),
    };
    let mut at = 0;
    for (key, dentry) in directory.entries.range(from..) {
        at = key.hash.max(at + 1);
        if at <= cookie || dentry.to() == To::Absent {
            continue;
        }
        match dentry.to() {
            To::Node(node) => entries.push(NodeEntry {
                cookie: at,
                name: Bytes::copy_from_slice(&key.name),
                attr: state.node(node)?.attr(node),
                guessed: false,
            }),
            To::Unloaded => match guesses.get(&key.name) {
                Some(guess) => entries.push(NodeEntry {
                    cookie: at,
                    name: Bytes::copy_from_slice(&key.name),
                    attr: *guess,
                    guessed: true,
                }),
                None => unloaded.push(key.name.clone()),
            },
            To::Absent => {}
        }
        if entries.len() + unloaded.len() >= limit {
            break;
        }
    }
    Ok((entries, unloaded))
}
