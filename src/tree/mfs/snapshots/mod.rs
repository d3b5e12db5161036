//! Kept checkpoints: looked at, compared, brought back, let go.

pub(super) mod differences;
pub(super) mod kept;
pub(super) mod let_go;
pub(super) mod restore;
