//! Tests of netlink, each in a network namespace of its own.
