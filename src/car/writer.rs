//! Writes a CAR file of version 1.

use std::io::Write;

use super::header::encode_header;
use super::section::{SectionHead, encode_section_head};
use crate::block::{Block, Cid};

/// Writes a header and then sections.
///
/// Buffers nothing and never syncs: both are the business of who owns the file.
#[derive(Debug)]
pub struct CarWriter<W> {
    output: W,
    position: u64,
}

impl<W: Write> CarWriter<W> {
    /// Writes the header with `roots`, which may be empty.
    pub fn new(mut output: W, roots: &[Cid]) -> std::io::Result<Self> {
        let header = encode_header(roots);
        output.write_all(&header)?;
        Ok(Self {
            output,
            position: header.len() as u64,
        })
    }

    /// Appends a block and tells where it stands.
    pub fn write(&mut self, block: &Block) -> std::io::Result<SectionHead> {
        let head = encode_section_head(block.cid(), block.data().len());
        self.output.write_all(&head)?;
        self.output.write_all(block.data())?;
        let written = SectionHead {
            cid: *block.cid(),
            offset: self.position,
            head_len: head.len() as u64,
            data_len: block.data().len() as u64,
        };
        self.position = written.end();
        Ok(written)
    }

    /// Length of what was written.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Gives the output back, not flushed.
    pub fn into_inner(self) -> W {
        self.output
    }
}
