//! The namespaces: `ipfs/`, `ipns/` and (later) the writable `mfs/`.
