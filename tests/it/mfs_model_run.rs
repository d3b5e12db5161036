//! Runs operations on the model and on the writable tree, and compares.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use cidfs::block::Cid;
use cidfs::testing::dag::Dag;
use cidfs::tree::TreeError;
use cidfs::tree::acl;
use cidfs::tree::mfs::{
    Caller, Checkpointed, CopySource, Mfs, NodeAttr, NodeId, NodeKind, Origin, Seek, SetAttr,
    XattrMode,
};
use cidfs::unixfs::Reader;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::task::JoinHandle;

use crate::mfs_model::{Body, Far, Id, MOUNTED, Model, ROOT, Refused};
use crate::mfs_model_ops::{Op, Who};
use crate::mfs_sim::Sim;

pub(crate) const WHO: (u32, u32) = (3, 4);
const CALLER: Caller = Caller {
    uid: WHO.0,
    gid: WHO.1,
    origin: Origin(0),
};
/// More nodes than these are not made.
const NODES_MAX: usize = 70;

pub(crate) struct Run {
    sim: Option<Sim>,
    pub(crate) model: Model,
    pub(crate) rng: StdRng,
    far: Vec<(Cid, Far)>,
    pub(crate) cookies: HashMap<Vec<u8>, u64>,
    /// What the operation under way refers to, as a kernel would.
    held: Vec<NodeId>,
    /// A checkpoint that is being made.
    beside: Option<JoinHandle<Result<Checkpointed, TreeError>>>,
}

/// The name of an error's variant.
fn variant(error: &TreeError) -> String {
    let text = format!("{error:?}");
    text.split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap()
        .to_owned()
}

/// Both succeed, or fail alike.
fn alike<A, B>(
    want: Result<A, Refused>,
    got: Result<B, TreeError>,
) -> Result<Option<(A, B)>, String> {
    match (want, got) {
        (Ok(want), Ok(got)) => Ok(Some((want, got))),
        (Err(want), Err(got)) if variant(&got) == want => Ok(None),
        (Ok(_), Err(got)) => Err(format!("failed: {got:?}")),
        (Err(want), Ok(_)) => Err(format!("went well, and should be {want}")),
        (Err(want), Err(got)) => Err(format!("is {got:?}, and should be {want}")),
    }
}

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    want: &T,
    got: &T,
) -> Result<(), String> {
    if want == got {
        return Ok(());
    }
    Err(format!("{what}\n  is     {got:?}\n  should {want:?}"))
}

fn bytes_of(seed: u8, len: u64) -> Vec<u8> {
    // Some are zeros, which is what holes read as.
    let step = seed % 5;
    (0..len)
        .map(|at| {
            seed.wrapping_mul(step)
                .wrapping_add((at as u8).wrapping_mul(step))
        })
        .collect()
}

/// Content from elsewhere, of layouts that are not made here.
fn far_content(dag: &mut Dag) -> Vec<(Cid, Far)> {
    let mut file = |sizes: &[u64], seed: u8| {
        let all = bytes_of(seed, sizes.iter().sum());
        let mut at = 0;
        let mut parts = Vec::new();
        for size in sizes {
            let end = at + *size as usize;
            parts.push((dag.leaf(Bytes::copy_from_slice(&all[at..end])), *size));
            at = end;
        }
        match parts.as_slice() {
            [(only, _)] => (*only, all),
            several => (dag.file(several), all),
        }
    };
    let odd = file(&[50, 50, 50, 50, 30], 1);
    let small = file(&[30], 2);
    let native = file(&[64, 64, 64], 3);
    let large = file(&[150, 7, 150], 4);
    let empty = file(&[0], 6);
    // Two levels, of which the lower one begins off any grid.
    let deep_root = dag.file(&[(small.0, 30), (odd.0, 230)]);
    let deep = (deep_root, [small.1.clone(), odd.1.clone()].concat());
    let link = dag.symlink("where/to");
    let sub = dag.directory(&[("deep", deep.0), ("link", link)]);
    let name = |name: &str| name.as_bytes().to_vec();
    let far_sub = vec![
        (name("deep"), Far::File(deep.1.clone())),
        (name("link"), Far::Link(name("where/to"))),
    ];
    let root = dag.directory(&[("n1", odd.0), ("n2", sub), ("n3", empty.0)]);
    let far_root = vec![
        (name("n1"), Far::File(odd.1.clone())),
        (name("n2"), Far::Dir(far_sub)),
        (name("n3"), Far::File(Vec::new())),
    ];
    let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
    let mut entries: Vec<(&str, Cid)> = names.iter().map(|name| (&**name, small.0)).collect();
    entries.sort_unstable();
    let wide = dag.directory(&entries);
    let far_wide = names
        .iter()
        .map(|n| (name(n), Far::File(small.1.clone())))
        .collect();
    let mut all: Vec<(Cid, Far)> = [odd, small, native, large, deep]
        .map(|(cid, bytes)| (cid, Far::File(bytes)))
        .into();
    all.push((link, Far::Link(name("where/to"))));
    all.push((root, Far::Dir(far_root)));
    all.push((wide, Far::Dir(far_wide)));
    all
}

impl Run {
    pub(crate) fn new(sim: Sim, seed: u64) -> Self {
        let mut dag = Dag::default();
        let far = far_content(&mut dag);
        dag.blocks
            .into_iter()
            .for_each(|block| sim.place.source.insert(block));
        let model = Model::new(sim.clock.time());
        let (rng, cookies) = (StdRng::seed_from_u64(seed), HashMap::new());
        Self {
            sim: Some(sim),
            model,
            rng,
            far,
            cookies,
            held: Vec::new(),
            beside: None,
        }
    }

    /// Goes on with a tree that is as `model` says.
    pub(crate) fn resume(sim: Sim, model: Model, seed: u64) -> Self {
        Self {
            model,
            ..Self::new(sim, seed)
        }
    }

    pub(crate) fn into_sim(self) -> Sim {
        self.sim.unwrap()
    }

    /// Runs one of them, at a time of its own.
    pub(crate) async fn step(&mut self, op: &Op) -> Result<(), String> {
        self.sim().clock.tick();
        self.model.now = self.sim().clock.time();
        let done = self.one(op).await;
        self.let_go();
        done
    }

    /// Refers to a node until the operation has ended.
    pub(crate) async fn hold(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId, String> {
        let found = self.mfs().lookup(dir, name, true).await;
        let found = found.map_err(|e| format!("lookup of {}: {e:?}", name.escape_ascii()))?;
        self.held.push(found.node);
        Ok(found.node)
    }

    fn let_go(&mut self) {
        let holds: Vec<(NodeId, u64)> = self.held.drain(..).map(|node| (node, 1)).collect();
        self.mfs().release_all(&holds);
    }

    pub(crate) fn sim(&self) -> &Sim {
        self.sim.as_ref().unwrap()
    }

    pub(crate) fn mfs(&self) -> Arc<Mfs> {
        Arc::clone(&self.sim().mfs)
    }

    fn pick(&self, who: Who) -> Id {
        let fits = |kind: NodeKind| match who {
            Who::Any(_) => true,
            Who::Dir(_) => kind == NodeKind::Directory,
            Who::File(_) => kind == NodeKind::File,
        };
        let (Who::Any(pick) | Who::Dir(pick) | Who::File(pick)) = who;
        let nodes = self
            .model
            .nodes
            .iter()
            .filter(|(_, inode)| fits(inode.kind));
        let ids: Vec<Id> = nodes.map(|(id, _)| *id).collect();
        ids.get(pick as usize % ids.len().max(1))
            .copied()
            .unwrap_or(ROOT)
    }

    /// The number of a node, which is looked up on a way to it as the kernel does.
    fn reach(
        &mut self,
        id: Id,
    ) -> Pin<Box<dyn Future<Output = Result<NodeId, String>> + Send + '_>> {
        Box::pin(async move {
            let names = self.model.names(id);
            let Some((dir, name)) = names.choose(&mut self.rng).cloned() else {
                return Ok(self.model.nodes[&id].number.unwrap());
            };
            let parent = self.reach(dir).await?;
            let found = self.hold(parent, &name).await?;
            self.number(id, found)
        })
    }

    /// Numbers stay.
    pub(crate) fn number(&mut self, id: Id, number: NodeId) -> Result<NodeId, String> {
        let known = *self
            .model
            .nodes
            .get_mut(&id)
            .unwrap()
            .number
            .get_or_insert(number);
        same("the number of a node", &known, &number)?;
        Ok(number)
    }

    /// Runs all of them.
    pub(crate) async fn all(&mut self, ops: &[Op]) -> Result<(), String> {
        for (count, op) in ops.iter().enumerate() {
            self.step(op)
                .await
                .map_err(|why| format!("operation {count}, {op:?}: {why}"))?;
        }
        self.end_beside().await?;
        let alike = self.compare().await;
        self.let_go();
        alike
    }

    async fn end_beside(&mut self) -> Result<(), String> {
        match self.beside.take() {
            Some(task) => task
                .await
                .unwrap()
                .map(drop)
                .map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    async fn one(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Compare => self.compare().await,
            Op::Sync => self.mfs().sync().map_err(|error| error.to_string()),
            Op::Checkpoint => self
                .mfs()
                .checkpoint()
                .await
                .map(drop)
                .map_err(|e| e.to_string()),
            Op::CheckpointBeside => {
                self.end_beside().await?;
                let mfs = self.mfs();
                self.beside = Some(tokio::spawn(async move { mfs.checkpoint().await }));
                Ok(())
            }
            Op::Reopen | Op::Kill => {
                match op {
                    // It may end as it likes.
                    Op::Kill => drop(self.beside.take()),
                    _ => self.end_beside().await?,
                }
                self.held.clear();
                let sim = self.sim.take().unwrap();
                let sim = match op {
                    Op::Kill => sim.killed().await,
                    _ => sim.reopened().await,
                };
                let errors = sim.mfs.recovery().errors.clone();
                self.sim = Some(sim);
                self.model.restart();
                same("the errors of the recovery", &Vec::new(), &errors)
            }
            Op::Make { dir, name, .. } if self.model.nodes.len() > NODES_MAX => {
                let (dir, node) = self.dir(*dir).await?;
                let want = self.model.unlink(dir, name);
                alike(want, self.mfs().unlink(CALLER, node, name).await)?;
                let want = self.model.rmdir(dir, name);
                alike(want, self.mfs().rmdir(CALLER, node, name).await).map(drop)
            }
            Op::Make { .. } | Op::Link { .. } | Op::Unlink { .. } | Op::Rmdir { .. } => {
                self.names(op).await
            }
            Op::Rename {
                dir,
                name,
                to,
                new,
                mode,
            } => {
                let (from, from_node) = self.dir(*dir).await?;
                let (to, to_node) = self.dir(*to).await?;
                let want = self.model.rename((from, name), (to, new), *mode);
                let got = self
                    .mfs()
                    .rename(CALLER, (from_node, name), (to_node, new), *mode)
                    .await;
                alike(want, got).map(drop)
            }
            Op::Write { .. } | Op::Allocate { .. } | Op::Copy { .. } | Op::CopyFar { .. } => {
                self.content(op).await
            }
            Op::SetAttr { node, set } => self.set_attr(*node, set).await,
            Op::SetXattr { .. } | Op::RemoveXattr { .. } | Op::SetAcl { .. } => {
                self.attributes(op).await
            }
            Op::Mount { .. } | Op::MountAt { .. } | Op::Unmount { .. } => self.mounts(op).await,
            Op::Lookup { dir, name, hold } => self.lookup(*dir, name, *hold).await,
            Op::Release { pick } => {
                let held = self.model.nodes.iter().filter(|(_, inode)| inode.held > 0);
                let held: Vec<Id> = held.map(|(id, _)| *id).collect();
                let Some(id) = held.get(*pick as usize % held.len().max(1)).copied() else {
                    return Ok(());
                };
                let number = self.reach(id).await?;
                self.model.release(id);
                self.mfs().release(number, 1);
                Ok(())
            }
            Op::Read { .. } | Op::Seek { .. } | Op::Cid { .. } => self.look(op).await,
        }
    }

    async fn dir(&mut self, who: Who) -> Result<(Id, NodeId), String> {
        let id = self.pick(who);
        Ok((id, self.reach(id).await?))
    }

    /// What was shown of a node that was just made or changed.
    pub(crate) fn shown(&mut self, id: Id, got: NodeAttr) -> Result<(), String> {
        let number = self.number(id, got.node)?;
        same(
            "attributes",
            &self.model.nodes[&id].attr(number),
            &self.model.plain(id, got),
        )
    }

    async fn names(&mut self, op: &Op) -> Result<(), String> {
        let mfs = self.mfs();
        match op {
            Op::Make {
                dir,
                name,
                new,
                mode,
                umask,
                hold,
            } => {
                let (dir, node) = self.dir(*dir).await?;
                let want = self.model.make(WHO, (dir, name), new, (*mode, *umask));
                let got = mfs
                    .make(CALLER, node, name, new.clone(), *mode, *umask, *hold)
                    .await;
                let Some((id, got)) = alike(want, got)? else {
                    return Ok(());
                };
                self.model.nodes.get_mut(&id).unwrap().held += u64::from(*hold);
                self.shown(id, got)
            }
            Op::Link { node, dir, name } => {
                let id = self.pick(*node);
                let number = self.reach(id).await?;
                let (dir, parent) = self.dir(*dir).await?;
                let want = self.model.link(id, dir, name);
                let got = mfs.link(CALLER, number, parent, name, false).await;
                let Some((_, got)) = alike(want, got)? else {
                    return Ok(());
                };
                self.shown(id, got)
            }
            Op::Unlink { dir, name } => {
                let (dir, node) = self.dir(*dir).await?;
                alike(
                    self.model.unlink(dir, name),
                    mfs.unlink(CALLER, node, name).await,
                )
                .map(drop)
            }
            Op::Rmdir { dir, name } => {
                let (dir, node) = self.dir(*dir).await?;
                alike(
                    self.model.rmdir(dir, name),
                    mfs.rmdir(CALLER, node, name).await,
                )
                .map(drop)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn content(&mut self, op: &Op) -> Result<(), String> {
        let mfs = self.mfs();
        match op {
            Op::Write {
                file,
                at,
                len,
                seed,
                kill,
            } => {
                let (id, node) = self.dir(*file).await?;
                let data = bytes_of(*seed, *len);
                let want = self.model.write(id, *at, &data, *kill);
                let got = mfs.write(CALLER, node, *at, &data, *kill).await;
                match alike(want, got)? {
                    Some((_, written)) => same("bytes written", &data.len(), &written),
                    None => Ok(()),
                }
            }
            Op::Allocate {
                file,
                what,
                at,
                len,
            } => {
                let (id, node) = self.dir(*file).await?;
                let want = self.model.allocate(id, *what, *at, *len);
                alike(want, mfs.allocate(CALLER, node, *what, *at, *len).await).map(drop)
            }
            Op::Copy {
                from,
                from_at,
                to,
                at,
                len,
            } => {
                let (from, from_node) = self.dir(*from).await?;
                let (to, to_node) = self.dir(*to).await?;
                let source = self
                    .model
                    .node(from)
                    .and_then(|inode| inode.bytes().cloned());
                let want = self.copied(source, *from_at, to, *at, *len);
                let source = CopySource::Node(from_node);
                let got = mfs
                    .copy_range(CALLER, source, *from_at, to_node, *at, *len)
                    .await;
                match alike(want, got)? {
                    Some((want, got)) => same("bytes copied", &want, &got),
                    None => Ok(()),
                }
            }
            Op::CopyFar {
                which,
                from_at,
                to,
                at,
                len,
            } => {
                let (to, to_node) = self.dir(*to).await?;
                let (cid, far) = self.far[*which as usize % self.far.len()].clone();
                let source = match far {
                    Far::File(bytes) => Ok(bytes),
                    Far::Dir(_) | Far::Link(_) => Err("IsADirectory"),
                };
                let want = self.copied(source, *from_at, to, *at, *len);
                let source = CopySource::Content(cid);
                let got = mfs
                    .copy_range(CALLER, source, *from_at, to_node, *at, *len)
                    .await;
                alike(want, got).map(drop)
            }
            other => panic!("{other:?}"),
        }
    }

    fn copied(
        &mut self,
        source: Result<Vec<u8>, Refused>,
        from_at: u64,
        to: Id,
        at: u64,
        len: u64,
    ) -> Result<u64, Refused> {
        let source = source?;
        let start = (from_at as usize).min(source.len());
        let end = ((from_at + len) as usize).min(source.len());
        self.model.put_copy(to, at, &source[start..end])
    }

    async fn set_attr(&mut self, who: Who, set: &SetAttr) -> Result<(), String> {
        let (id, node) = self.dir(who).await?;
        let want = self.model.set_attr(id, set);
        let got = self.mfs().set_attr(CALLER, node, *set).await;
        match alike(want, got)? {
            Some((_, got)) => self.shown(id, got),
            None => Ok(()),
        }
    }

    async fn attributes(&mut self, op: &Op) -> Result<(), String> {
        let mfs = self.mfs();
        match op {
            Op::SetXattr {
                node,
                name,
                len,
                mode,
            } => {
                let (id, node) = self.dir(*node).await?;
                let value = vec![b'v'; *len];
                let want = self.model.set_xattr(id, name, &value, *mode);
                alike(want, mfs.set_xattr(CALLER, node, name, &value, *mode).await).map(drop)
            }
            Op::RemoveXattr { node, name } => {
                let (id, node) = self.dir(*node).await?;
                let want = self.model.remove_xattr(id, name);
                alike(want, mfs.remove_xattr(CALLER, node, name).await).map(drop)
            }
            Op::SetAcl { node, access, list } => {
                let (id, node) = self.dir(*node).await?;
                let want = self.model.set_acl(id, *access, list.as_ref());
                let name = if *access { acl::ACCESS } else { acl::DEFAULT };
                let value = list
                    .as_ref()
                    .map_or_else(|| vec![2, 0, 0, 0], |list| list.encode());
                let got = mfs
                    .set_xattr(CALLER, node, name, &value, XattrMode::Set)
                    .await;
                alike(want, got).map(drop)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn mounts(&mut self, op: &Op) -> Result<(), String> {
        let mfs = self.mfs();
        match op {
            Op::Mount { dir, name, which } => {
                let (dir, node) = self.dir(*dir).await?;
                let (cid, far) = self.far[*which as usize % self.far.len()].clone();
                let want = self.model.mount(WHO, (dir, name), (&far, &cid.to_string()));
                let got = mfs.mount(CALLER, node, name, &cid).await;
                let Some((id, got)) = alike(want, got)? else {
                    return Ok(());
                };
                self.shown(id, got)
            }
            Op::MountAt { node, which } => {
                let (id, node) = self.dir(*node).await?;
                let (cid, far) = self.far[*which as usize % self.far.len()].clone();
                let value = cid.to_string();
                let want = self.model.mount_at(id, &far, &value);
                let got = mfs.set_xattr(CALLER, node, MOUNTED, value.as_bytes(), XattrMode::Set);
                alike(want, got.await).map(drop)
            }
            Op::Unmount { dir, name } => {
                let (dir, node) = self.dir(*dir).await?;
                let want = self.model.unmount(dir, name);
                alike(want, mfs.unmount(CALLER, node, name).await).map(drop)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn lookup(&mut self, who: Who, name: &[u8], hold: bool) -> Result<(), String> {
        let (dir, node) = self.dir(who).await?;
        let want = match name.len() {
            0..256 => self
                .model
                .find(dir, name)
                .and_then(|found| found.ok_or("NotFound")),
            _ => Err("NameTooLong"),
        };
        let got = self.mfs().lookup(node, name, hold).await;
        let Some((id, got)) = alike(want, got)? else {
            return Ok(());
        };
        self.model.nodes.get_mut(&id).unwrap().held += u64::from(hold);
        self.shown(id, got)
    }

    async fn look(&mut self, op: &Op) -> Result<(), String> {
        let mfs = self.mfs();
        match op {
            Op::Read { file, at, len } => {
                let (id, node) = self.dir(*file).await?;
                let mut out = vec![0xaa; *len as usize];
                let want = self.model.node(id).and_then(|inode| inode.bytes());
                let got = mfs.read(node, *at, &mut out).await;
                let Some((bytes, got)) = alike(want, got)? else {
                    return Ok(());
                };
                let end = bytes.len().min((at + len) as usize);
                let want = &bytes[(*at as usize).min(end)..end];
                same("the bytes read", &want, &&out[..got])
            }
            Op::Seek { file, at } => {
                let (id, node) = self.dir(*file).await?;
                let Ok(bytes) = self.model.node(id).and_then(|inode| inode.bytes()) else {
                    return Ok(());
                };
                seek(&mfs, node, *at, bytes).await
            }
            Op::Cid { node } => {
                let (id, node) = self.dir(*node).await?;
                let inode = &self.model.nodes[&id];
                if inode.nlink == 0 {
                    return Ok(());
                }
                let cid = mfs.cid(node).await.map_err(|error| error.to_string())?;
                let (Body::File(bytes), Some(cid)) = (&inode.body, cid) else {
                    return same(
                        "whether there is a CID",
                        &!matches!(inode.body, Body::Special),
                        &cid.is_some(),
                    );
                };
                let mut out = vec![0; bytes.len()];
                let reader = Reader::new(self.sim().blocks.clone());
                let read = reader
                    .read(&cid, 0, &mut out)
                    .await
                    .map_err(|error| error.to_string())?;
                same("the length by its CID", &bytes.len(), &read)?;
                same("the bytes by its CID", bytes, &out)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What is said to be a hole is zeros, and data is found before a byte that is not zero.
async fn seek(mfs: &Mfs, node: NodeId, at: u64, bytes: &[u8]) -> Result<(), String> {
    let end = bytes.len() as u64;
    let data = mfs.seek(node, at, Seek::Data).await;
    let hole = mfs.seek(node, at, Seek::Hole).await;
    if at >= end {
        let none = |found: &Result<u64, TreeError>| matches!(found, Err(TreeError::NoSuchPosition));
        return same(
            "seeking behind the end",
            &(true, true),
            &(none(&data), none(&hole)),
        );
    }
    let data = match data {
        Ok(data) => data,
        Err(TreeError::NoSuchPosition) => end,
        Err(error) => return Err(error.to_string()),
    };
    let hole = hole.map_err(|error| error.to_string())?;
    let zeros = bytes[at as usize..data.max(at) as usize]
        .iter()
        .all(|byte| *byte == 0);
    let sound = data >= at && hole >= at && (data == at || hole == at) && hole <= end;
    same("what is before the data", &(true, true), &(zeros, sound))
}
