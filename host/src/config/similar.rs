//! "Did you mean": the known word that is most like a mistyped one.

/// Longest word that is compared, in characters: a file may hold any text.
const LONGEST: usize = 64;

/// The known word that differs least from `word`, if any is alike at all.
pub(super) fn most_similar<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let word: Vec<char> = word.chars().take(LONGEST + 1).flat_map(char::to_lowercase).collect();
    if word.len() > LONGEST {
        return None;
    }
    let distances = known.into_iter().map(|candidate| {
        let letters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        let within = (letters.len().max(word.len()) / 3).max(1);
        (distance(&word, &letters), within, candidate)
    });
    distances
        .filter(|(distance, within, _)| distance <= within)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., candidate)| candidate)
}

/// Letters to insert, delete, replace, or swap with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = row[j] + usize::from(from != to);
            let mut least = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            let swapped = i > 0 && j > 0 && a[i - 1] == *to && *from == b[j - 1];
            if swapped {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["interface", "mtu", "addresses", "queue_size"];

    #[test]
    fn slips_of_the_hand_are_understood() {
        for (word, meant) in [
            ("interfaec", "interface"),
            ("Interface", "interface"),
            ("mut", "mtu"),
            ("adresses", "addresses"),
            ("queuesize", "queue_size"),
            ("queue-size", "queue_size"),
        ] {
            assert_eq!(most_similar(word, KNOWN), Some(meant), "{word}");
        }
    }

    #[test]
    fn other_words_are_other_words() {
        for word in ["", "x", "colour", "face", &"m".repeat(1 << 20)] {
            assert_eq!(most_similar(word, KNOWN), None, "{word:.10}");
        }
    }
}
