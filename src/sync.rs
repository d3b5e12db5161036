//! Small tools for sharing memory between threads.
