//! The rules of the house, held as tests: what no compiler lint can see.
//!
//! They read the source tree as text, so they say "looks like" and not "is":
//! each prints the file and line that it dislikes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The one module of each crate that may hold unsafe code.
const UNSAFE_MODULES: [&str; 3] = ["shared/src/raw/", "host/src/raw/", "tests/src/raw/"];

/// Longest non-test part of a source file, in lines.
const LONGEST_FILE: usize = 600;

/// The layers of `shared`, lowest first: each uses only those before it.
/// `raw` implements the traits of `window`, so it may name it.
const SHARED_LAYERS: [&str; 9] =
    ["wire", "address", "fault", "window", "raw", "region", "virtq", "msg", "link"];

/// How a section of the standard is cited: this text, then the section sign and a number.
const CITED_AS: &str = "VirtIO 1.3 ";

struct File {
    /// From the top of the repository, with forward slashes.
    path: String,
    text: String,
}

impl File {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path));
        Self { path: path.to_owned(), text: text.unwrap_or_else(|e| panic!("{path}: {e}")) }
    }

    /// The lines with their numbers, up to the tests inside the file.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    fn in_a_test_tree(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of the repository whose name ends with `ending`.
fn files(ending: &str) -> Vec<File> {
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

fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn comment_free(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// Whether `line` has the keyword `word`, not as part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn unsafe_code_sits_in_one_named_module_a_crate() {
    let mut complaints = Vec::new();
    for file in files(".rs") {
        if UNSAFE_MODULES.iter().any(|module| file.path.starts_with(module)) {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            let code = comment_free(line);
            let allows = code.contains("allow(unsafe_code") || code.contains("expect(unsafe_code");
            if (allows || has_word(code, "unsafe")) && !code.contains('"') {
                complaints.push(format!("{}:{}: unsafe code here", file.path, number + 1));
            }
        }
    }
    none(&complaints);
}

/// Clippy asks for the comment; this asks that it argues.
#[test]
fn every_unsafe_block_has_an_argument() {
    let mut complaints = Vec::new();
    for file in files(".rs") {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = comment_free(line);
            if !code.contains("unsafe {") && !code.contains("unsafe impl") || code.contains('"') {
                continue;
            }
            let above = lines[at.saturating_sub(12)..=at].join("\n");
            let argument = above.rsplit_once("// SAFETY:").map_or("", |(_, text)| text);
            let told = |line: &&str| argument.starts_with(*line) || line.trim().starts_with("//");
            let words: usize =
                argument.lines().filter(told).map(|l| l.split_whitespace().count()).sum();
            if words < 3 {
                complaints.push(format!("{}:{}: no SAFETY argument", file.path, at + 1));
            }
        }
    }
    none(&complaints);
}

#[test]
fn files_are_short_enough_to_read() {
    let mut complaints = Vec::new();
    for file in files(".rs").iter().filter(|file| !file.in_a_test_tree()) {
        let lines = file.code_lines().count();
        if lines > LONGEST_FILE {
            complaints.push(format!("{}: {lines} lines, split at {LONGEST_FILE}", file.path));
        }
    }
    none(&complaints);
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let left = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let mut complaints = Vec::new();
    for file in files(".rs") {
        for (number, line) in file.text.lines().enumerate() {
            if left.iter().any(|name| comment_free(line).contains(name.as_str())) {
                complaints.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none(&complaints);
}

/// Whether the section sign behind `before` starts a citation, or goes on with a list of them.
fn is_cited(before: &str) -> bool {
    let Some(list) = before.strip_suffix(", ") else { return before.ends_with(CITED_AS) };
    list.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
        .strip_suffix('§')
        .is_some_and(is_cited)
}

/// Sections are cited in one form, `VirtIO 1.3 §2.7.13.3.1`, so that a search finds them all.
#[test]
fn the_standard_is_cited_in_one_form() {
    let any_version = CITED_AS.trim_end_matches("3 ").to_ascii_lowercase();
    let mut complaints = Vec::new();
    for file in files(".rs").into_iter().chain(files(".md")) {
        for (number, line) in file.text.lines().enumerate() {
            for (at, sign) in line.match_indices('§') {
                let (before, section) = (&line[..at], &line[at + sign.len()..]);
                let well = is_cited(before) && section.starts_with(|c: char| c.is_ascii_digit());
                if before.to_ascii_lowercase().contains("virtio") && !well {
                    complaints.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
                }
            }
            let lower = line.to_ascii_lowercase();
            for (at, found) in lower.match_indices(&any_version) {
                let version = line.get(at..at + found.len() + 1);
                if version != Some(CITED_AS.trim_end()) && version != Some("VIRTIO 1.3") {
                    complaints.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn the_layers_of_shared_call_downwards() {
    let rank = |name: &str| SHARED_LAYERS.iter().position(|layer| *layer == name);
    let mut complaints = Vec::new();
    for file in files(".rs") {
        let Some(below) = file.path.strip_prefix("shared/src/") else { continue };
        let own = below.split(['/', '.']).next().unwrap_or("");
        if own == "lib" {
            continue;
        }
        let Some(own) = rank(own) else {
            complaints.push(format!("{}: {own} is no layer that this test knows", file.path));
            continue;
        };
        for (number, line) in file.code_lines() {
            for (at, found) in comment_free(line).match_indices("crate::") {
                let name: String = line[at + found.len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if rank(&name).is_some_and(|used| used > own) {
                    complaints.push(format!("{}:{number}: calls up to {name}", file.path));
                }
            }
        }
    }
    none(&complaints);
}

/// Only `vphys` brings its own board; the library and the daemon know none.
#[test]
fn the_host_library_and_the_daemon_know_no_board() {
    let mut complaints = Vec::new();
    for file in files(".rs") {
        if !file.path.starts_with("host/src/") || file.path.starts_with("host/src/bin/vphys") {
            continue;
        }
        for (number, line) in file.code_lines() {
            let code = comment_free(line);
            if code.contains("use board::") || code.contains(" board::") {
                complaints.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none(&complaints);
}

#[test]
fn shared_needs_no_allocator() {
    let mut complaints = Vec::new();
    for file in files(".rs").iter().filter(|file| file.path.starts_with("shared/src/")) {
        for (number, line) in file.code_lines() {
            if has_word(comment_free(line), "alloc") && !file.in_a_test_tree() {
                complaints.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none(&complaints);
}

/// Dependencies that a manifest names, without the workspace's own packages.
fn dependencies() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for manifest in files("Cargo.toml") {
        let mut inside = false;
        for line in manifest.text.lines() {
            if let Some(section) = line.strip_prefix('[') {
                inside = section.trim_end_matches(']').ends_with("dependencies");
            } else if let (true, Some((name, value))) = (inside, line.split_once('=')) {
                let name = name.trim().trim_end_matches(".workspace").trim_matches('"');
                if !value.contains("path =") && !["shared", "board", "host"].contains(&name) {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    names
}

/// The rows of the table under `heading`: their cells.
fn table(file: &File, heading: &str) -> Vec<Vec<String>> {
    let start = file
        .text
        .lines()
        .position(|l| l.starts_with('#') && l.trim_start_matches('#').trim() == heading);
    let start = start.unwrap_or_else(|| panic!("{} has no heading {heading:?}", file.path));
    let rows = file.text.lines().skip(start + 1).skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let document = File::read("docs/dependencies.md");
    let mut explained = BTreeSet::new();
    for heading in ["In what ships", "In tests only"] {
        for row in table(&document, heading) {
            explained.insert(row[0].trim_matches('`').to_owned());
        }
    }
    let used = dependencies();
    assert!(used.len() > 2, "found only {used:?}");
    assert_eq!(
        used.difference(&explained).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "no reason given"
    );
}

#[test]
fn the_readme_says_what_works() {
    let rows = table(&File::read("README.md"), "What works");
    assert!(rows.len() >= 5, "{} rows", rows.len());
    let states = ["works", "does not", "untested on hardware"];
    for row in rows {
        assert!(
            states.iter().any(|state| row[1].starts_with(state)),
            "status of {:?}: {:?}",
            row[0],
            row[1]
        );
    }
}
