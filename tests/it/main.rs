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
mod mfs_bulk;
mod mfs_crash;
mod mfs_faults;
mod mfs_model;
mod mfs_model_ops;
mod mfs_model_run;
mod mfs_model_runs;
mod mfs_posix;
mod mfs_regress;
mod mfs_sim;
mod mfs_support;
mod mfs_tree;
mod names;
mod posix_hostile;
mod posix_map;
mod source_fixtures;
mod source_gateway;
mod source_kubo;
mod source_sources;
mod store_gc;
mod store_packs;
mod store_reads;
mod store_scale;
mod store_support;
mod support;
mod tidy;
