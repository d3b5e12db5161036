//! All that can be seen of a tree and of its model, side by side.

use std::collections::HashSet;

use cidfs::tree::mfs::{NodeId, NodeKind};
use rand::Rng;

use crate::mfs_model::{Body, Id, ROOT};
use crate::mfs_model_run::{Run, same};

impl Run {
    /// Everything that can be seen of both.
    pub(crate) async fn compare(&mut self) -> Result<(), String> {
        let mut seen = HashSet::new();
        let mut open = vec![(ROOT, NodeId::ROOT, "/".to_owned())];
        self.same_node(ROOT, NodeId::ROOT).await?;
        while let Some((dir, node, path)) = open.pop() {
            for (name, child, number) in self
                .entries(dir, node)
                .await
                .map_err(|e| format!("{path}: {e}"))?
            {
                let path = format!("{path}{}/", name.escape_ascii());
                same(
                    "the node looked up",
                    &number,
                    &self.hold(node, &name).await?,
                )?;
                if seen.insert(child) {
                    self.same_node(child, number)
                        .await
                        .map_err(|e| format!("{path}: {e}"))?;
                }
                if self.model.nodes[&child].kind == NodeKind::Directory {
                    same("the parent", &Some(node), &self.mfs().parent(number))?;
                    open.push((child, number, path));
                }
            }
        }
        let orphans = self
            .model
            .nodes
            .iter()
            .filter(|(_, inode)| inode.nlink == 0);
        let orphans: Vec<(Id, NodeId)> = orphans
            .map(|(id, inode)| (*id, inode.number.unwrap()))
            .collect();
        for (id, number) in orphans {
            self.same_node(id, number)
                .await
                .map_err(|e| format!("unlinked {id}: {e}"))?;
        }
        self.mfs().check_sound()
    }

    /// Lists a directory page by page.
    async fn entries(
        &mut self,
        dir: Id,
        node: NodeId,
    ) -> Result<Vec<(Vec<u8>, Id, NodeId)>, String> {
        let want = self.model.dir(dir).unwrap().clone();
        let mut found = Vec::new();
        let mut cookie = 0;
        loop {
            let limit = self.rng.random_range(1..9);
            let page = self
                .mfs()
                .readdir(node, cookie, limit)
                .await
                .map_err(|e| e.to_string())?;
            let Some(last) = page.last() else { break };
            if page.len() > limit || last.cookie <= cookie {
                return Err(format!(
                    "a page of {} from {cookie} to {}",
                    page.len(),
                    last.cookie
                ));
            }
            cookie = last.cookie;
            for entry in page {
                let name = entry.name.to_vec();
                let known = *self.cookies.entry(name.clone()).or_insert(entry.cookie);
                same("the cookie of a name", &known, &entry.cookie)?;
                let Some(id) = want.get(&name) else {
                    return Err(format!("{} should not be there", name.escape_ascii()));
                };
                let number = self.number(*id, entry.attr.node)?;
                let attr = self.model.nodes[id].attr(number);
                same(
                    "attributes in a listing",
                    &attr,
                    &self.model.plain(*id, entry.attr),
                )?;
                found.push((name, *id, number));
            }
        }
        let names: HashSet<&Vec<u8>> = found.iter().map(|(name, ..)| name).collect();
        same("how many names there are", &want.len(), &names.len())?;
        same("how often they are listed", &want.len(), &found.len())?;
        Ok(found)
    }

    async fn same_node(&mut self, id: Id, number: NodeId) -> Result<(), String> {
        let mfs = self.mfs();
        let attr = mfs.attr(number).map_err(|error| error.to_string())?;
        self.shown(id, attr)?;
        let inode = &self.model.nodes[&id];
        match &inode.body {
            Body::File(bytes) => {
                let mut out = vec![0xaa; bytes.len() + 3];
                let read = mfs
                    .read(number, 0, &mut out)
                    .await
                    .map_err(|error| error.to_string())?;
                same("the length read", &bytes.len(), &read)?;
                same("the bytes", &&bytes[..], &&out[..read])?;
            }
            Body::Link(to) => {
                let got = mfs.readlink(number).map_err(|error| error.to_string())?;
                same("the target", &&to[..], &&got[..])?;
            }
            Body::Dir(_) | Body::Special => {}
        }
        let listed = mfs.list_xattr(number).map_err(|error| error.to_string())?;
        let listed: Vec<Vec<u8>> = listed.iter().map(|name| name.to_vec()).collect();
        let want = inode
            .xattrs
            .keys()
            .filter(|name| !name.starts_with(b"cidfs."));
        same("the names of attributes", &want.cloned().collect(), &listed)?;
        for (name, value) in &inode.xattrs {
            let got = mfs
                .get_xattr(number, name)
                .await
                .map_err(|error| error.to_string())?;
            same("an attribute", &&value[..], &&got[..])?;
        }
        Ok(())
    }
}
