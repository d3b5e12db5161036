//! Composition root: wires the parts, starts and stops them in order.
