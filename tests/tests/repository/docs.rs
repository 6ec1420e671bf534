//! What the documents say is held against the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::tree::{File, files, is_for_tests, none, root};

/// GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter_map(move |line| {
        in_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        (!in_code && heading.len() < line.len() && heading.starts_with(' ')).then(|| heading.trim())
    })
}

#[test]
fn links_in_the_docs_resolve() {
    let mut complaints = Vec::new();
    for file in files(".md") {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (number, line) in file.text.lines().enumerate() {
            for (at, open) in line.match_indices("](") {
                let target = line[at + open.len()..].split(')').next().unwrap_or("");
                if target.contains("://") {
                    continue;
                }
                let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
                let linked = if path.is_empty() {
                    root().join(&file.path)
                } else {
                    root().join(folder).join(path)
                };
                let found = if fragment.is_empty() {
                    linked.exists()
                } else {
                    fs::read_to_string(&linked)
                        .is_ok_and(|text| headings(&text).any(|h| anchor(h) == fragment))
                };
                if !found {
                    complaints.push(format!("{}:{}: no {target}", file.path, number + 1));
                }
            }
        }
    }
    none(&complaints);
}

/// The text with its line ends and comment markers taken out.
fn unwrapped(text: &str) -> String {
    let bare = |line: &str| line.trim().trim_start_matches(['/', '!']).trim().to_owned();
    text.lines().map(bare).collect::<Vec<_>>().join(" ")
}

/// A comment that says `docs/name.md`, or that and a heading in quotation marks, is a link too.
#[test]
fn comments_name_docs_that_exist() {
    let mut complaints = Vec::new();
    for file in files(".rs").into_iter().chain(files(".md")) {
        let text = unwrapped(&file.text);
        for (at, found) in text.match_indices("docs/") {
            let tail = &text[at + found.len()..];
            let name: String =
                tail.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            let Some(behind) = tail[name.len()..].strip_prefix(".md") else { continue };
            // This file speaks of documents in general.
            if name == "name" {
                continue;
            }
            let Ok(document) = fs::read_to_string(root().join(format!("docs/{name}.md"))) else {
                complaints.push(format!("{}: no docs/{name}.md", file.path));
                continue;
            };
            let Some(quote) = behind.strip_prefix(", \"") else { continue };
            let quote = quote.split('"').next().unwrap_or("");
            let unnumbered = |c: char| c.is_ascii_digit() || c == '.' || c == ' ';
            if !headings(&document).any(|h| h.trim_start_matches(unnumbered).starts_with(quote)) {
                complaints.push(format!("{}: no {quote:?} in docs/{name}.md", file.path));
            }
        }
    }
    none(&complaints);
}

/// Code refers to documents of this repository only, as `docs/name.md`.
#[test]
fn comments_name_no_other_documents() {
    let mut complaints = Vec::new();
    for file in files(".rs") {
        for (number, line) in file.text.lines().enumerate() {
            for (at, _) in line.match_indices(".md") {
                let start = line[..at].rfind([' ', '`', '(', '"']).map_or(0, |space| space + 1);
                let own = file.path.starts_with("tests/tests/repository/");
                if !own && !line[start..].contains("docs/") {
                    complaints.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
                }
            }
        }
    }
    none(&complaints);
}

/// Whether `path`, such as `shared::virtq::driver`, is a module of the crate that it begins with.
fn is_module(path: &str) -> bool {
    let mut parts = path.split("::");
    let mut place = match parts.next() {
        Some("shared") => root().join("shared/src"),
        Some("host") => root().join("host/src"),
        Some("board") => root().join("board-firmware/src"),
        _ => return false,
    };
    parts.all(|part| {
        place.push(part);
        place.is_dir() || place.with_extension("rs").is_file()
    })
}

/// The architecture's names are modules, and what it says of folders is there.
#[test]
fn the_architecture_names_what_is_there() {
    let document = File::read("docs/architecture.md");
    let mut complaints = Vec::new();
    let mut modules = 0;
    for (number, line) in document.text.lines().enumerate() {
        let is_path = |c: char| {
            !(c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '/' || c == '.' || c == '-')
        };
        for word in line.split(is_path) {
            let word = word.trim_end_matches([':', '.']);
            let module = ["shared::", "host::", "board::"].iter().any(|c| word.starts_with(c));
            let folder = ["shared/", "host/", "board-firmware/", "tests/"]
                .iter()
                .any(|c| word.starts_with(c));
            let found = if module {
                modules += 1;
                // Types and functions behind the modules are not looked up.
                let named = word.split("::").take_while(|p| !p.starts_with(char::is_uppercase));
                is_module(&named.collect::<Vec<_>>().join("::"))
            } else {
                !folder || root().join(word).exists()
            };
            if !found {
                complaints.push(format!("docs/architecture.md:{}: no {word}", number + 1));
            }
        }
    }
    for source in ["shared/src", "host/src", "board-firmware/src"] {
        for entry in fs::read_dir(root().join(source)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let stem = name.trim_end_matches(".rs");
            let mapped = ["", ".rs"]
                .iter()
                .any(|ending| document.text.contains(&format!("`{source}/{stem}{ending}`")));
            if stem != "lib" && !mapped && !is_for_tests(source, stem) {
                complaints.push(format!("docs/architecture.md: {source}/{name} is on no map"));
            }
        }
    }
    none(&complaints);
    assert!(modules > 20, "only {modules} modules named");
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
                if !value.contains("path =")
                    && !["shared", "board", "host", "qemu-common"].contains(&name)
                {
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
    let complaint = |what: &str, name: &String| format!("{name}: {what}");
    let unexplained = used.difference(&explained).map(|name| complaint("no reason given", name));
    let unused = explained.difference(&used).map(|name| complaint("explained, not used", name));
    none(&unexplained.chain(unused).collect::<Vec<_>>());
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

#[test]
fn every_cause_of_a_dropped_frame_is_explained() {
    let rows = table(&File::read("docs/safety.md"), "Frames from the board");
    let written: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(written, host::net::FrameFault::ALL.map(host::net::FrameFault::name));
}

#[test]
fn the_unsafe_inventory_is_complete() {
    let rows = table(&File::read("docs/safety.md"), "Unsafe code");
    let written: BTreeSet<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let is_unsafe = |file: &File| {
        file.text.lines().any(|line| crate::has_word(crate::before_text(line), "unsafe"))
    };
    let found = files(".rs").into_iter().filter(is_unsafe).map(|file| file.path);
    assert_eq!(written, found.collect::<BTreeSet<_>>());
}

/// Lines of a Rust, assembler or linker file that are neither blank nor comment.
fn lines_without_comments(file: &File) -> usize {
    let assembler = file.path.ends_with(".s");
    let mut inside = false;
    let mut is_code = |line: &str| {
        let comment = line.starts_with("//") || (assembler && line.starts_with('#'));
        let block = inside || line.starts_with("/*");
        inside = block && !line.contains("*/");
        !(line.is_empty() || comment || block)
    };
    file.text.lines().filter(|line| is_code(line.trim())).count()
}

/// How long a board is, as docs/boards.md says: per kind of file and in all.
#[test]
fn the_boards_are_as_long_as_is_said() {
    let rows = table(&File::read("docs/boards.md"), "How many lines");
    let boards = ["qemu-aarch64", "qemu-riscv64", "qemu-powerpc"];
    let sources: Vec<_> = [".rs", ".s", ".ld"].into_iter().flat_map(files).collect();
    let counted = |board: &str, kind: &str| -> usize {
        let folder = format!("board-firmware/boards/{board}/");
        let names = |file: &&File| {
            let name = file.path.strip_prefix(&folder).unwrap_or("");
            let unsafe_rust = name.starts_with("src/raw/") && name.ends_with(".rs");
            let mut kinds = vec!["all of it", if unsafe_rust { "src/raw/*.rs" } else { name }];
            kinds.retain(|known| !name.is_empty() && *known == kind);
            !kinds.is_empty()
        };
        sources.iter().filter(names).map(lines_without_comments).sum()
    };
    let mut complaints = Vec::new();
    let mut parts = [0; 3];
    for row in &rows {
        let kind = row[0].split('`').nth(1).unwrap_or("all of it");
        let is: Vec<_> = boards.iter().map(|board| counted(board, kind)).collect();
        let said: Vec<usize> = row[1..=3].iter().map(|cell| cell.parse().unwrap_or(0)).collect();
        if said != is {
            complaints.push(format!("docs/boards.md: {kind}: {said:?}, there are {is:?}"));
        }
        if kind == "all of it" {
            assert_eq!(is, parts, "a file of a board is in no row");
        } else {
            parts.iter_mut().zip(is).for_each(|(sum, lines)| *sum += lines);
        }
    }
    none(&complaints);
    assert!(rows.len() > 1, "{rows:?}");
}
