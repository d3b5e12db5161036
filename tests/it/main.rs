//! In-process tests: the product without a kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod add;
mod cid_profiles;
mod tidy;
