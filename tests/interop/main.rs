//! The same content through cidfs and through a real Kubo.
//!
//! `scripts/interop.sh` builds the Kubo that `kubo/go.mod` pins and runs these. They skip aloud when
//! `CIDFS_KUBO` names no program, and fail then when `CI` or `CIDFS_REQUIRE_TOOLS=1` is set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod cars;
mod corpora;
mod corpus;
mod flags;
mod kubo;
mod mounts;
mod product;
mod push;
mod refusals;
mod run;
mod single;
mod stdin;
mod written;
