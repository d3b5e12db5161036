//! Operations, defined once, and the faces that speak them.
