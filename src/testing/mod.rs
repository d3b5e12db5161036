//! Doubles for faults that a real part will not produce on demand.

pub mod http;
pub mod source;
