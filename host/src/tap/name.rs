//! Names of network interfaces.

use std::fmt;

use super::TapError;

/// Longest name in bytes: the kernel's field has one more for the zero.
const MAX_LEN: usize = 15;

/// A name that the kernel takes for an interface, or a pattern of one: `%d`
/// stands for the first number that is free.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Checks a name: 1 to 15 letters, digits, `.`, `_` and `-`, with at most
    /// one `%d`.
    ///
    /// # Errors
    /// [`TapError::BadName`] says what is wrong with it.
    pub fn new(name: &str) -> Result<Self, TapError> {
        let plain = name.replacen("%d", "", 1);
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > MAX_LEN {
            "it is longer than 15 characters"
        } else if matches!(name, "." | ".." | "all" | "default") {
            "the kernel uses it for something else"
        } else if name.starts_with('-') {
            "it starts with a minus, which tools take for an option"
        } else if !plain.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            "it may hold letters, digits, '.', '_', '-' and one '%d'"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(TapError::BadName { name: name.to_owned(), reason })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
