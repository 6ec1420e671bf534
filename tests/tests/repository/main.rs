//! The rules of the house, held as tests: what no compiler lint can see.
//!
//! They read the source tree as text, so they say "looks like" and not "is":
//! each prints the file and line that it dislikes.

mod docs;
mod tree;

use tree::{files, is_for_tests, none};

/// The one module of each crate that may hold unsafe code.
const UNSAFE_MODULE: &str = "/src/raw/";

/// Longest non-test part of a source file, in lines.
const LONGEST_FILE: usize = 600;

/// The layers of `shared`, lowest first: each uses only those before it.
/// `raw` implements the traits of `window`, so it may name it.
const SHARED_LAYERS: [&str; 9] =
    ["wire", "address", "fault", "window", "raw", "region", "virtq", "msg", "link"];

/// How a section of the standard is cited: this text, then the section sign and a number.
const CITED_AS: &str = "VirtIO 1.3 ";

fn comment_free(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// The code of a line in front of its first string literal: where a keyword is one.
fn before_text(line: &str) -> &str {
    comment_free(line).split('"').next().unwrap_or("")
}

/// Whether `line` has the keyword `word`, not as part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn unsafe_code_sits_in_one_named_module_a_crate() {
    let mut complaints = Vec::new();
    for file in files(".rs") {
        if file.path.contains(UNSAFE_MODULE) {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            let code = before_text(line);
            let allows = code.contains("allow(unsafe_code") || code.contains("expect(unsafe_code");
            if allows || has_word(code, "unsafe") {
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
            let code = before_text(line);
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
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
        if own == "lib" || is_for_tests("shared/src", own) {
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

/// Libraries have error types of their own; the programs may gather them.
#[test]
fn anyhow_stays_in_the_programs() {
    let mut complaints = Vec::new();
    for file in files(".rs") {
        let program = file.path.contains("/src/bin/") || file.path.contains("/boards/");
        for (number, line) in file.code_lines() {
            if !program && !file.in_a_test_tree() && has_word(comment_free(line), "anyhow") {
                complaints.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none(&complaints);
}
