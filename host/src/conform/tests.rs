//! The tables of points against each other and against the documents.

use std::collections::BTreeSet;
use std::path::Path;

use super::points::groups;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn names_are_unique_and_begin_with_their_groups() {
    let mut names = BTreeSet::new();
    for group in groups() {
        for point in group.points {
            assert!(point.id.starts_with(&format!("{}-", group.name)), "{}", point.id);
            assert!(names.insert(point.id), "{} twice", point.id);
            assert!(!point.rule.contains("  ") && !point.rule.ends_with('.'), "{}", point.rule);
        }
    }
    assert!(names.len() > 200, "only {} points", names.len());
}

#[test]
fn sections_are_headings_of_the_documents() {
    let headings = |name: &str| -> Vec<String> {
        let text = document(name);
        let headings = text.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| line.trim_start_matches('#').trim().to_owned()).collect()
    };
    let protocol = headings("docs/protocol.md");
    let (rings, safety) = (headings("docs/protocol-rings.md"), headings("docs/safety.md"));
    for point in groups().iter().flat_map(|group| group.points) {
        let found = match point.section.split_once(": ") {
            Some(("rings", heading)) => rings.iter().any(|h| h == heading),
            Some(("safety", heading)) => safety.iter().any(|h| h == heading),
            Some(_) => false,
            None => protocol.iter().any(|h| {
                let number = h.split(' ').next().unwrap_or("");
                number.trim_end_matches('.') == point.section
            }),
        };
        assert!(found, "{}: no section {:?}", point.id, point.section);
    }
}

/// docs/conformance.md has each point with its section and its rule, in order.
#[test]
fn every_point_is_in_the_document() {
    let text = document("docs/conformance.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|row: &Vec<&str>| row.len() == 3)
        .collect();
    let points: Vec<Vec<String>> = groups()
        .iter()
        .flat_map(|group| group.points)
        .map(|point| {
            let rule = point.rule.replace('|', "\\|");
            vec![format!("`{}`", point.id), point.section.to_owned(), rule]
        })
        .collect();
    for (row, point) in rows.iter().zip(&points) {
        assert_eq!(row, point);
    }
    assert_eq!(rows.len(), points.len(), "rows of docs/conformance.md");
    for group in groups() {
        let heading = format!("### {}: {}", group.name, group.about);
        assert!(text.lines().any(|line| line == heading), "no {heading:?}");
    }
}
