//! The repository's files, as text.

use std::fs;
use std::path::{Path, PathBuf};

/// One file.
pub(crate) struct File {
    /// From the top of the repository, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path));
        Self { path: path.to_owned(), text: text.unwrap_or_else(|e| panic!("{path}: {e}")) }
    }

    /// The lines with their numbers, up to the tests inside the file.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    pub(crate) fn in_a_test_tree(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches")
    }
}

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of the repository whose name ends with `ending`.
pub(crate) fn files(ending: &str) -> Vec<File> {
    fn walk(folder: &Path, ending: &str, into: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    walk(&path, ending, into);
                }
            } else if name.ends_with(ending) {
                let below = path.strip_prefix(root()).unwrap();
                into.push(below.to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root(), ending, &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "found no {ending} file");
    paths.iter().map(|path| File::read(path)).collect()
}

/// Fails with the complaints, one a line, if there are any.
pub(crate) fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Whether the module `stem` at the top of a crate's `source` folder is there in tests only.
pub(crate) fn is_for_tests(source: &str, stem: &str) -> bool {
    let declarations = File::read(&format!("{source}/lib.rs")).text;
    ["", "pub ", "pub(crate) "]
        .iter()
        .any(|seen| declarations.contains(&format!("#[cfg(test)]\n{seen}mod {stem};")))
}
