//! Real mounts, real tools.
