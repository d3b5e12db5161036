//! Changes: what they say, their bytes in the journal, and what they do to the loaded tree.

pub(super) mod apply;
pub(super) mod class;
pub(super) mod codec;
pub(super) mod fits;
pub(super) mod op;
pub(super) mod way;
