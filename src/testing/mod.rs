//! Doubles for faults that a real part will not produce on demand, and small
//! makers of content. Never in a release.

pub mod dag;
pub mod disk;
pub mod http;
pub mod sim_disk;
pub mod source;
