//! virtio-msg messages and channels.
