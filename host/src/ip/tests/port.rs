//! The port between two IP stacks of the kernel.
