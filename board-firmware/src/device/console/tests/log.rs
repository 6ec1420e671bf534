//! The log against the plainest model of one: a list.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::device::console::{LINE_MAX, Log, LogLine, LogReader};
use crate::rig::leak;

/// All that a reader finds now: lines lost, and lines.
fn read(log: &Log<'_>, reader: &mut LogReader) -> (u64, Vec<String>) {
    let (mut lost, mut lines) = (0, Vec::new());
    let mut text = [0; LINE_MAX];
    while let Some(found) = log.read(reader, &mut text) {
        match found {
            LogLine::Lost(count) => lost += count,
            LogLine::Line(len) => lines.push(String::from_utf8_lossy(&text[..len]).into()),
        }
    }
    (lost, lines)
}

#[test]
fn lines_carry_their_time() {
    let mut log = Log::new(leak(256));
    log.line(7, format_args!("first"));
    log.line(83_456, format_args!("second"));
    let mut reader = LogReader::new();
    let expected = (0, vec!["[    0.007] first".into(), "[   83.456] second".into()]);
    assert_eq!(read(&log, &mut reader), expected);
    assert_eq!(read(&log, &mut reader), (0, vec![]));
    assert_eq!(read(&log, &mut log.oldest()), expected);
}

#[test]
fn a_line_stays_one_line() {
    let mut log = Log::new(leak(1024));
    log.line(0, format_args!("a\nb\r\x1b[2Jc\x7f"));
    log.line(0, format_args!("{}", "x".repeat(500)));
    let (_, lines) = read(&log, &mut LogReader::new());
    assert_eq!(lines[0], "[    0.000] a.b..[2Jc.");
    assert_eq!(lines[1].len(), LINE_MAX - 1);
    assert_eq!(lines.len(), 2);
}

proptest! {
    /// Whatever its size, the log keeps the newest lines whole and in order,
    /// and every line is either read or counted as lost.
    #[test]
    fn every_line_is_read_or_counted(
        size in 0..700_usize,
        lines in vec((0..130_usize, any::<bool>()), 0..60),
    ) {
        let mut log = Log::new(leak(size));
        let mut reader = LogReader::new();
        let (mut written, mut accounted) = (Vec::new(), 0);
        for (number, (len, look)) in lines.iter().enumerate() {
            let text: String = format!("{number} ").chars().cycle().take(*len).collect();
            log.line(number as u64, format_args!("{text}"));
            let whole = format!("[    0.{number:03}] {text}");
            written.push(whole[..whole.len().min(LINE_MAX.min(size).saturating_sub(1))].to_string());
            if *look {
                let (lost, found) = read(&log, &mut reader);
                accounted += usize::try_from(lost).unwrap();
                prop_assert_eq!(&found, &written[accounted..]);
                accounted += found.len();
                prop_assert_eq!(accounted, written.len());
            }
        }
        // As many lines are kept as there is memory for.
        let kept = read(&log, &mut log.oldest()).1;
        let bytes = |lines: &[String]| lines.iter().map(|line| line.len() + 1).sum::<usize>();
        prop_assert!(bytes(&kept) <= size);
        if kept.len() < written.len() && size > 0 {
            prop_assert!(bytes(&written[written.len() - kept.len() - 1..]) > size);
        }
    }
}
