//! One push of one root to one node.

use std::sync::Arc;

use super::difference::Walk;
use super::figures::PushProgress;
use super::kept::{Kept, PinnedRoot};
use super::sending::{Amount, Gather, Sent, car};
use super::target::{Target, Wanted};
use super::{OnProgress, Pinned, PushError};
use crate::block::Cid;
use crate::config::{PUSH_ANEW_EVERY, PUSH_ROOTS_MAX};

/// What came of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Whether the node had it pinned already.
    pub already: bool,
    /// Blocks that were sent.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Subtrees that only a link leads to here, and that were not sent.
    pub far: u64,
}

/// What a node has already.
#[derive(Debug, Clone, Copy, Default)]
struct Base {
    /// A root whose blocks it has.
    has: Option<Cid>,
    /// Subtrees of that one that were left out.
    far: u64,
    /// A root that it pinned.
    pinned: Option<Cid>,
    /// That has another name than our pins have now.
    renamed: bool,
}

/// Shows that a push is under way, as long as it lives.
struct UnderWay<'a>(&'a Target);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.counts.lock().pushing = None;
    }
}

impl Target {
    /// Pushes a root once. Another push to this node is waited for.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        wanted: Wanted,
        progress: &OnProgress,
    ) -> Result<Pushed, PushError> {
        let _one = self.turn.lock().await;
        let _held = self.shared.hold(wanted.root);
        self.counts.lock().pushing = Some(wanted.root);
        let _shown = UnderWay(self);
        let outcome = self.push(wanted, progress).await;
        let mut counts = self.counts.lock();
        match &outcome {
            Ok(pushed) => {
                counts.in_a_row = 0;
                counts.went_well = true;
                counts.last_error = None;
                counts.pushes += u64::from(!pushed.already);
                if !pushed.already {
                    counts.far = pushed.far;
                }
                self.through.notify_waiters();
            }
            Err(error) => {
                counts.failures += 1;
                counts.in_a_row = counts.in_a_row.saturating_add(1);
                counts.last_error = Some(error.to_string());
            }
        }
        outcome
    }

    async fn push(
        self: &Arc<Self>,
        wanted: Wanted,
        progress: &OnProgress,
    ) -> Result<Pushed, PushError> {
        let root = wanted.root;
        let tell = self.teller(progress);
        tell("comparing", Amount::default(), Amount::default());
        let found = self.node.pinned(&root).await?;
        if found != Pinned::No {
            if found == Pinned::OtherName && self.kept().ours.contains(&root) {
                // Pinned anew it gets the name that was configured since.
                self.node.pin(&root, &|_| ()).await?;
            }
            self.settle(wanted).await?;
            return Ok(Pushed {
                already: true,
                ..Pushed::default()
            });
        }
        let kept = self.kept();
        let base = self.base(&kept).await?;
        let mut sent = self.send(root, base.has, progress).await?;
        sent.far += base.far;
        if kept.ours.len() >= PUSH_ROOTS_MAX {
            self.unpin_others(&[Some(root), base.pinned]).await?;
        }
        // Before it is pinned: else a pin whose answer was lost is nobody's.
        self.note(move |kept| {
            kept.delivered = Some((root, sent.far));
            kept.ours.retain(|one| *one != root);
            kept.ours.push(root);
        })
        .await?;
        tell("pinning", sent, sent);
        let unpin = base.pinned.is_some_and(|from| kept.ours.contains(&from));
        let heard = |_| tell("pinning", sent, sent);
        let pinned = self.pin(root, &base, unpin, &heard).await;
        pinned.map_err(|mut error| {
            if let PushError::Lacking { far, .. } = &mut error {
                *far = sent.far;
            }
            error
        })?;
        self.settle(wanted).await?;
        let node = self.name();
        let (blocks, bytes) = (sent.blocks, sent.bytes);
        tracing::info!(node, %root, blocks, bytes, far = sent.far, "the tree is pushed");
        Ok(Pushed {
            already: false,
            blocks: sent.blocks,
            bytes: sent.bytes,
            far: sent.far,
        })
    }

    /// Has the node pin a root: by what differs from one that it pinned, or as a
    /// whole, which takes longer and tells how it gets on.
    async fn pin(
        &self,
        root: Cid,
        base: &Base,
        unpin: bool,
        heard: &(dyn Fn(u64) + Sync),
    ) -> Result<(), PushError> {
        if let Some(from) = base.pinned.filter(|_| !base.renamed) {
            match self.node.move_pin(&from, &root, unpin).await {
                // It may lack something, or have much to do: the other way tells.
                Err(PushError::Lacking { .. }) => {}
                moved => return moved,
            }
        }
        self.node.pin(&root, heard).await
    }

    /// What the node has already, as it says itself.
    async fn base(&self, kept: &Kept) -> Result<Base, PushError> {
        let found = match &kept.pinned {
            Some(pinned) => self.node.pinned(&pinned.root).await?,
            None => Pinned::No,
        };
        let pinned = kept.pinned.filter(|_| found != Pinned::No);
        let pinned = pinned.map(|pinned| pinned.root);
        let tries = self.counts.lock().in_a_row;
        // What is not pinned goes with a collection there, mostly all of it at once.
        let anew = tries > 0 && tries.is_multiple_of(PUSH_ANEW_EVERY);
        let delivered = match kept.delivered.filter(|_| !anew) {
            Some((root, far)) if self.node.holds(&root).await? => Some((root, far)),
            Some(_) | None => None,
        };
        Ok(Base {
            has: delivered.map(|(root, _)| root).or(pinned),
            far: delivered.map_or(0, |(_, far)| far),
            pinned,
            renamed: found == Pinned::OtherName,
        })
    }

    /// Sends what the node lacks.
    async fn send(
        &self,
        root: Cid,
        has: Option<Cid>,
        progress: &OnProgress,
    ) -> Result<Amount, PushError> {
        let blocks = &self.shared.blocks;
        // Before the index is open, what is here counts as far.
        blocks.index_ready().await;
        let fetch = self.fetch.then(|| Arc::clone(blocks));
        let walk = Walk::new(Arc::clone(blocks), root, has);
        let (counted, total) = Gather::new(walk, fetch.clone()).count().await?;
        if total.blocks == 0 {
            return Ok(total);
        }
        let walk = counted.into_walk().again(root, has);
        let sent = Arc::new(Sent::default());
        let tell = self.teller(progress);
        let heard = move |amount| tell("sending", amount, total);
        let car = car(root, Gather::new(walk, fetch), Arc::clone(&sent), heard);
        let taken = self.node.import(&root, car).await;
        let amount = sent.amount();
        {
            let mut counts = self.counts.lock();
            counts.blocks += amount.blocks;
            counts.bytes += amount.bytes;
        }
        let taken = taken.map_err(|error| sent.failure().unwrap_or(error))?;
        if taken.is_some_and(|taken| taken != amount.blocks) {
            let why = format!("it took {taken:?} blocks of {}", amount.blocks);
            return Err(PushError::Away(why));
        }
        let far = total.far;
        Ok(Amount { far, ..amount })
    }

    /// The node has pinned it: lets go of the roots before.
    async fn settle(self: &Arc<Self>, wanted: Wanted) -> Result<(), PushError> {
        let before = self.kept();
        let known = before.pinned.filter(|pinned| pinned.root == wanted.root);
        let pinned = PinnedRoot {
            root: wanted.root,
            sequence: wanted.sequence,
            at: known.map_or_else(|| self.now(), |known| known.at),
        };
        self.note(move |kept| {
            kept.pinned = Some(pinned);
            kept.delivered = None;
        })
        .await?;
        self.unpin_others(&[Some(wanted.root)]).await
    }

    /// Unpins what we pinned, except some.
    async fn unpin_others(self: &Arc<Self>, except: &[Option<Cid>]) -> Result<(), PushError> {
        for root in self.kept().ours {
            if except.contains(&Some(root)) {
                continue;
            }
            self.node.unpin(&root).await?;
            self.note(move |kept| kept.ours.retain(|one| *one != root))
                .await?;
        }
        Ok(())
    }

    /// Tells of progress in the name of this node.
    fn teller(
        &self,
        progress: &OnProgress,
    ) -> impl Fn(&'static str, Amount, Amount) + Send + Sync + 'static {
        let (node, progress) = (self.name().to_owned(), Arc::clone(progress));
        move |phase, done, total| {
            progress(&PushProgress {
                node: node.clone(),
                phase,
                blocks: done.blocks,
                blocks_total: total.blocks,
                bytes: done.bytes,
                bytes_total: total.bytes,
            });
        }
    }
}
