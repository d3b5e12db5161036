//! The second way in: operations on the repository, the mounts and the sources.
//!
//! Every operation is defined once, in the registry ([`Registry::standard`]):
//! name, typed parameters with limits, result, handler, whether it changes
//! anything. Faces (HTTP over the Unix socket, the command line in process)
//! only carry parameters in and results out; nothing of HTTP is in a handler.
//!
//! What it never does: name the kernel's side or a kind of source. Mounts,
//! sources and the daemon's end come in as the traits [`Mounts`],
//! [`SourceAdmin`] and [`Lifecycle`], wired by the composition root.
//!
//! Nothing here survives a crash or needs to: state is in `cache`.

mod channel;
pub mod client;
mod context;
mod convert;
mod error;
pub mod http;
mod openapi;
pub mod ops;
mod progress;
mod query;
pub(crate) mod raw;
pub(crate) mod registry;
pub mod server;
pub mod tarball;
mod walk;

pub use context::{
    AloneLifecycle, Context, Info, Lifecycle, MountInfo, MountRequest, Mounts, NoMounts,
    SourceAdmin,
};
pub use error::{ErrorKind, OperationError};
pub use openapi::document;
pub use progress::{Gone, Listener, Progress};
pub use registry::{Body, ByteStream, Call, Operation, Output, Registry};
