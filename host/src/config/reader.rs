//! Tables read key by key: each value with its place in the file, each key
//! that nobody asked for is a problem.
//!
//! Nothing stops at the first problem: what is wrong is noted, the reader
//! gives `None`, and the next key is read. The tables are not trusted: they
//! may have any shape that TOML allows.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::similar::most_similar;

/// What is wrong so far.
#[derive(Debug)]
pub(super) struct Notes<'t> {
    text: &'t str,
    problems: RefCell<Vec<(usize, Problem)>>,
}

impl<'t> Notes<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, problems: RefCell::new(Vec::new()) }
    }

    /// Notes a problem with `key` at byte `at` of the text.
    pub(super) fn add(&self, at: usize, key: &str, text: impl fmt::Display) {
        let (line, column) = place(self.text, at);
        let problem = Problem { line, column, key: key.to_owned(), text: text.to_string() };
        self.problems.borrow_mut().push((at, problem));
    }

    /// All of them, in the order of the text.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(at, _)| *at);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Line and column, counted from 1, of byte `at`.
pub(super) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before.get(start..).map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

/// A table whose keys are asked for one by one.
#[derive(Debug)]
pub(super) struct Section<'a, 'i> {
    notes: &'a Notes<'i>,
    /// Its own key, such as `board.queue_size`; empty for the whole file.
    key: String,
    /// Where it is named.
    at: usize,
    table: &'a DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn new(notes: &'a Notes<'i>, key: &str, at: usize, table: &'a DeTable<'i>) -> Self {
        Self { notes, key: key.to_owned(), at, table, known: Vec::new() }
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Field<'a, 'i>> {
        self.known.push(key);
        let (spanned, value) = self.table.get_key_value(key)?;
        let field = Field { notes: self.notes, key: self.path(key), at: spanned.span(), value };
        Some(field)
    }

    /// The same for a key that has to be there; `fix` says what to write.
    pub(super) fn need(&mut self, key: &'static str, fix: &str) -> Option<Field<'a, 'i>> {
        let field = self.get(key);
        if field.is_none() {
            self.notes.add(self.at, &self.path(key), format_args!("missing: {fix}"));
        }
        field
    }

    /// Notes every key that was not asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let path = self.path(&shown(name));
            let fix = match most_similar(name, self.known.iter().copied()) {
                Some(similar) => format!("did you mean {similar:?}?"),
                None => format!("choose one of {}", self.known.join(", ")),
            };
            self.notes.add(key.span().start, &path, format_args!("unknown key: {fix}"));
        }
    }
}

/// A key as it may be printed: control characters escaped, not endless.
fn shown(name: &str) -> String {
    let printable: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    if name.chars().count() > 40 { printable + "..." } else { printable }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Field<'a, 'i> {
    notes: &'a Notes<'i>,
    key: String,
    at: Range<usize>,
    value: &'a Spanned<DeValue<'i>>,
}

impl<'a, 'i> Field<'a, 'i> {
    /// Notes what is wrong with this value.
    pub(super) fn wrong(&self, text: impl fmt::Display) {
        // Tables of the `[table]` form have their place in their header.
        let value = self.value.span();
        let at = if value.is_empty() { &self.at } else { &value };
        self.notes.add(at.start, &self.key, text);
    }

    fn kind(&self, wanted: &str) {
        let found = self.value.get_ref().type_str();
        self.wrong(format_args!("{wanted} is needed, this is {}", article(found)));
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.kind("a text in quotation marks");
        }
        text
    }

    pub(super) fn flag(&self) -> Option<bool> {
        let flag = self.value.get_ref().as_bool();
        if flag.is_none() {
            self.kind("true or false");
        }
        flag
    }

    /// A number within `range`.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let DeValue::Integer(number) = self.value.get_ref() else {
            self.kind("a whole number");
            return None;
        };
        let found = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let found = found.filter(|number| range.contains(number));
        if found.is_none() {
            let (least, most) = range.into_inner();
            self.wrong(format_args!(
                "{} is out of range: choose {least} to {most}",
                shown_number(number)
            ));
        }
        found
    }

    /// A number of 64 bits, hexadecimal or not.
    pub(super) fn bits(&self) -> Option<u64> {
        let number = self.value.get_ref().as_integer()?;
        u64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    /// One of these words.
    pub(super) fn choice<T: Clone>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let word = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == word);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            let similar = most_similar(word, choices.iter().map(|(name, _)| *name));
            let fix = match similar {
                Some(similar) => format!("did you mean {similar:?}?"),
                None => format!("choose {}", names.join(" or ")),
            };
            self.wrong(format_args!("unknown word \"{}\": {fix}", shown(word)));
        }
        found.map(|(_, value)| value.clone())
    }

    /// A text that `parse` understands; its error says what to write.
    pub(super) fn parsed<T, E: fmt::Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(self.text()?).map_err(|error| self.wrong(error)).ok()
    }

    /// The values of a list of at most `most`.
    pub(super) fn list(&self, most: usize) -> Option<Vec<Self>> {
        let Some(values) = self.value.get_ref().as_array() else {
            self.kind("a list in brackets");
            return None;
        };
        if values.len() > most {
            self.wrong(format_args!("{} entries: at most {most} are allowed", values.len()));
            return None;
        }
        let field = |value: &'a Spanned<DeValue<'i>>| Self { value, ..self.clone() };
        Some(values.iter().map(field).collect())
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// The keys of a table.
    pub(super) fn section(&self) -> Option<Section<'a, 'i>> {
        let Some(table) = self.value.get_ref().as_table() else {
            self.kind("a table of keys");
            return None;
        };
        let value = self.value.span();
        let at = if value.is_empty() { self.at.start } else { value.start };
        Some(Section::new(self.notes, &self.key, at, table))
    }
}

fn shown_number(number: &toml::de::DeInteger<'_>) -> String {
    shown(&number.to_string())
}

/// What TOML calls a value's kind, for a sentence.
fn article(kind: &str) -> &str {
    match kind {
        "string" => "a text",
        "integer" => "a whole number",
        "float" => "a fractional number",
        "boolean" => "true or false",
        "datetime" => "a date",
        "array" => "a list",
        "table" => "a table",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_in_characters() {
        let text = "a = 1\n\u{e4}\u{e4} = 2\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 5), (1, 6));
        assert_eq!(place(text, 6), (2, 1));
        assert_eq!(place(text, 11), (2, 4));
        assert_eq!(place(text, 999), (3, 1));
    }

    #[test]
    fn a_key_of_the_files_is_printed_harmlessly() {
        assert_eq!(shown("a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
        assert!(shown(&"x".repeat(1000)).len() < 50);
    }
}
