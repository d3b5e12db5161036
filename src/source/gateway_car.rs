//! Takes the blocks of a DAG out of a CAR that streams in.

use std::collections::VecDeque;

use reqwest::Response;
use reqwest::header::CONTENT_TYPE;

use super::http::Asking;
use super::related::Related;
use super::{Scope, Selector, SourceError};
use crate::block::{Block, BlockSink, Cid};
use crate::car::{CarDecoder, Section};
use crate::config::{SELECT_BYTES_MAX, SELECT_HELD_BYTES_MAX};

/// The query of a CAR request, as the trustless gateway specification has it.
pub(super) fn selector_query(selector: &Selector) -> String {
    let scope = match selector.scope {
        Scope::Block => "block",
        Scope::Entity => "entity",
        Scope::All => "all",
    };
    let bytes = selector
        .bytes
        .map(|(from, to)| format!("&entity-bytes={from}:{to}"));
    format!("format=car&dag-scope={scope}{}", bytes.unwrap_or_default())
}

/// Reads a CAR answer into `sink`: every block is proved, and only what the
/// root leads to passes.
///
/// Fails if the CAR is cut, if a block is wrong, and if the root is missing.
/// What passed until then is good and stays.
pub(super) async fn receive(
    asking: Asking<'_>,
    mut response: Response,
    root: Cid,
    sink: &dyn BlockSink,
) -> Result<(), SourceError> {
    let mut filter = Filter::new(root, !promises_order(&response), sink);
    let mut decoder = CarDecoder::new();
    let mut read = 0_u64;
    while let Some(piece) = asking.piece(&mut response).await? {
        read += piece.len() as u64;
        if read > SELECT_BYTES_MAX {
            return Err(asking.failed(format!("the answer is over {SELECT_BYTES_MAX} bytes")));
        }
        decoder.feed(&piece);
        while let Some(section) = decoder
            .next_section()
            .map_err(|error| asking.wrong(error))?
        {
            filter.take(asking, section)?;
        }
    }
    decoder
        .finish()
        .map_err(|error| asking.failed(error.to_string()))?;
    if filter.root_seen {
        Ok(())
    } else {
        Err(asking.failed("the CAR lacks its root"))
    }
}

/// Whether parents come before their children: only if the answer says so.
fn promises_order(response: &Response) -> bool {
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.split(';').any(|part| part.trim() == "order=dfs"))
}

/// Lets blocks pass that the root leads to.
pub(super) struct Filter<'a> {
    related: Related,
    /// Proved blocks whose parent may come yet, where the order is not known.
    held: VecDeque<Block>,
    held_bytes: usize,
    hold: bool,
    root: Cid,
    /// Whether the root was among them.
    pub(super) root_seen: bool,
    sink: &'a dyn BlockSink,
}

impl<'a> Filter<'a> {
    /// Starts with the root; `hold` where children may come before parents.
    pub(super) fn new(root: Cid, hold: bool, sink: &'a dyn BlockSink) -> Self {
        let related = Related::new(&root);
        Self {
            related,
            held: VecDeque::new(),
            held_bytes: 0,
            hold,
            root,
            root_seen: false,
            sink,
        }
    }

    /// Proves one section and lets it pass, holds it back, or drops it.
    pub(super) fn take(&mut self, asking: Asking<'_>, section: Section) -> Result<(), SourceError> {
        let block =
            Block::verify(section.head.cid, section.data).map_err(|error| asking.wrong(error))?;
        if self.related.contains(block.cid()) {
            self.pass(asking, block)?;
            return self.pass_held(asking);
        }
        if self.hold {
            self.held_bytes += block.data().len();
            self.held.push_back(block);
            while self.held_bytes > SELECT_HELD_BYTES_MAX {
                let Some(oldest) = self.held.pop_front() else {
                    break;
                };
                self.held_bytes -= oldest.data().len();
            }
        } else {
            tracing::debug!("{} sent {} unasked", asking.source_name, block.cid());
        }
        Ok(())
    }

    fn pass(&mut self, asking: Asking<'_>, block: Block) -> Result<(), SourceError> {
        self.root_seen |= block.cid().hash() == self.root.hash();
        self.related.learn(&block);
        self.sink.put(block).map_err(|error| SourceError::Io {
            source_name: asking.source_name.to_owned(),
            error: std::sync::Arc::new(error),
        })
    }

    fn pass_held(&mut self, asking: Asking<'_>) -> Result<(), SourceError> {
        while let Some(index) = self
            .held
            .iter()
            .position(|block| self.related.contains(block.cid()))
        {
            if let Some(block) = self.held.remove(index) {
                self.held_bytes -= block.data().len();
                self.pass(asking, block)?;
            }
        }
        Ok(())
    }
}
