//! In-process tests: the product without a kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod add;
mod cid_profiles;
mod cli_codes;
mod cli_content;
mod cli_support;
mod control_http;
mod control_world;
mod hostile;
mod names;
mod source_fixtures;
mod source_gateway;
mod source_kubo;
mod source_sources;
mod source_tls;
mod store_gc;
mod store_packs;
mod store_reads;
mod store_scale;
mod store_support;
mod support;
mod tidy;
