//! Kernel requests become calls on the tree.
