//! In-process tests: the product without a kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod add;
mod cid_profiles;
mod cli_codes;
mod cli_content;
mod cli_journal;
mod cli_support;
mod control_http;
mod control_journal;
mod control_transactions;
mod control_tree;
mod control_world;
mod hostile;
mod journal_crash;
mod journal_damage;
mod journal_fixtures;
mod journal_group;
mod journal_reader;
mod journal_space;
mod journal_support;
#[allow(
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a model of many operations has an arm for each, in one place"
)]
mod mfs_crash;
#[allow(
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a model of many operations has an arm for each, in one place"
)]
mod mfs_model;
#[allow(
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a model of many operations has an arm for each, in one place"
)]
mod mfs_model_ops;
#[allow(
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a model of many operations has an arm for each, in one place"
)]
mod mfs_model_run;
#[allow(
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a model of many operations has an arm for each, in one place"
)]
mod mfs_model_runs;
mod mfs_regress;
#[allow(
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a model of many operations has an arm for each, in one place"
)]
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
mod source_tls;
mod store_gc;
mod store_packs;
mod store_reads;
mod store_scale;
mod store_support;
mod support;
mod tidy;
mod unixfs_dirs;
mod unixfs_files;
mod unixfs_world;
