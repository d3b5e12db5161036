//! A CAR file of what is lacked, made while it is sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::difference::{Absent, Step, Walk};
use super::{CarStream, PushError};
use crate::block::Cid;
use crate::cache::Blocks;
use crate::car::{encode_header, encode_section_head};
use crate::config::{PUSH_PIECE_BLOCKS, PUSH_PIECE_BYTES};

/// How much it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// Blocks.
    pub(super) blocks: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Subtrees that are not here and were left out.
    pub(super) far: u64,
}

/// A walk, and the blocks to fetch what is absent from.
pub(super) struct Gather {
    walk: Walk,
    /// `None` leaves out what is not here.
    fetch: Option<Arc<Blocks>>,
}

/// Some of it.
struct Piece {
    sections: BytesMut,
    amount: Amount,
    absent: Option<Absent>,
    ended: bool,
}

impl Gather {
    pub(super) fn new(walk: Walk, fetch: Option<Arc<Blocks>>) -> Self {
        Self { walk, fetch }
    }

    pub(super) fn into_walk(self) -> Walk {
        self.walk
    }

    /// Goes on until there is enough for a while; `false` at the end.
    async fn more(
        self,
        sections: &mut BytesMut,
        amount: &mut Amount,
    ) -> Result<(Self, bool), PushError> {
        let Self { mut walk, fetch } = self;
        let reading = tokio::task::spawn_blocking(move || {
            let piece = read(&mut walk);
            (walk, piece)
        });
        let (mut walk, piece) = reading
            .await
            .map_err(|error| PushError::Content(error.to_string()))?;
        let piece = piece?;
        sections.unsplit(piece.sections);
        amount.add(piece.amount);
        if let Some(absent) = piece.absent {
            match &fetch {
                None => amount.far += 1,
                Some(blocks) => {
                    let block = blocks.get(&absent.cid).await;
                    let block = block.map_err(|error| PushError::Content(error.to_string()))?;
                    let step = walk.give(&block, absent)?;
                    amount.take(step, sections);
                }
            }
        }
        Ok((Self { walk, fetch }, !piece.ended))
    }

    /// Walks to the end and tells how much it is.
    pub(super) async fn count(self) -> Result<(Self, Amount), PushError> {
        let (mut this, mut going) = (self, true);
        let mut amount = Amount::default();
        while going {
            (this, going) = this.more(&mut BytesMut::new(), &mut amount).await?;
        }
        Ok((this, amount))
    }
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.far += other.far;
    }

    /// Counts a block and writes its section, if its bytes are there.
    fn take(&mut self, step: Step, sections: &mut BytesMut) {
        let Step::Block { cid, len, data } = step else {
            return;
        };
        self.blocks += 1;
        self.bytes += len;
        if let Some(data) = data {
            sections.extend_from_slice(&encode_section_head(&cid, data.len()));
            sections.extend_from_slice(&data);
        }
    }
}

/// Reads what is here. Blocks.
fn read(walk: &mut Walk) -> Result<Piece, PushError> {
    let mut piece = Piece {
        sections: BytesMut::new(),
        amount: Amount::default(),
        absent: None,
        ended: false,
    };
    for _ in 0..PUSH_PIECE_BLOCKS {
        match walk.next()? {
            Step::End => {
                piece.ended = true;
                break;
            }
            Step::Absent(absent) => {
                piece.absent = Some(absent);
                break;
            }
            step @ Step::Block { .. } => piece.amount.take(step, &mut piece.sections),
        }
        if piece.sections.len() >= PUSH_PIECE_BYTES {
            break;
        }
    }
    Ok(piece)
}

/// What was sent so far, and why it broke off on this side.
#[derive(Default)]
pub(super) struct Sent {
    blocks: AtomicU64,
    bytes: AtomicU64,
    failed: Mutex<Option<PushError>>,
}

impl Sent {
    pub(super) fn amount(&self) -> Amount {
        Amount {
            blocks: self.blocks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            far: 0,
        }
    }

    pub(super) fn failure(&self) -> Option<PushError> {
        self.failed.lock().take()
    }
}

/// The blocks as a CAR file; `heard` is called for each piece that is handed on.
pub(super) fn car(
    root: Cid,
    gather: Gather,
    sent: Arc<Sent>,
    heard: impl Fn(Amount) + Send + 'static,
) -> CarStream {
    let header = stream::iter([Ok(Bytes::from(encode_header(&[root])))]);
    let pieces = stream::unfold(Some(gather), move |state| {
        let sent = Arc::clone(&sent);
        async move {
            let mut gather = state?;
            let (mut sections, mut amount) = (BytesMut::new(), Amount::default());
            loop {
                let going = match gather.more(&mut sections, &mut amount).await {
                    Ok((next, going)) => {
                        gather = next;
                        going
                    }
                    Err(error) => {
                        let told = io::Error::other(error.to_string());
                        *sent.failed.lock() = Some(error);
                        return Some((Err(told), None));
                    }
                };
                if !going && sections.is_empty() {
                    return None;
                }
                if !going || sections.len() >= PUSH_PIECE_BYTES {
                    sent.blocks.fetch_add(amount.blocks, Ordering::Relaxed);
                    sent.bytes.fetch_add(amount.bytes, Ordering::Relaxed);
                    let next = going.then_some(gather);
                    return Some((Ok((sections.freeze(), sent.amount())), next));
                }
            }
        }
    });
    let pieces = pieces.map(move |piece| {
        piece.map(|(bytes, amount)| {
            heard(amount);
            bytes
        })
    });
    header.chain(pieces).boxed()
}
