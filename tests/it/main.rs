//! In-process tests.

mod source_fixtures;
mod source_gateway;
mod source_kubo;
mod source_sources;
