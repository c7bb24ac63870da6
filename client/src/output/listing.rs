//! Tables of text, cut to the width of the terminal.

use std::fmt::Write as _;

/// Characters between two columns.
const GAP: usize = 2;
/// Narrowest that a column is cut to.
const NARROWEST: usize = 8;

/// Rows of text below headings.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which stand at the right.
    numbers: Vec<usize>,
}

impl Listing {
    /// A table with these headings; the columns at `numbers` hold numbers.
    pub(crate) fn new(headings: &[&str], numbers: &[usize]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()], numbers: numbers.to_vec() }
    }

    /// Adds a row. What could move the cursor is replaced.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        let plain = |text: String| text.replace(|c: char| c.is_control(), "?");
        self.rows.push(cells.into_iter().map(plain).collect());
    }

    /// The table, no line longer than `width` as far as that can be.
    pub(crate) fn text(&self, width: Option<usize>) -> String {
        let widths = self.widths(width.unwrap_or(usize::MAX));
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let cell = cut(cell, width);
                // Writing to a String can't fail.
                let _ = match self.numbers.contains(&column) {
                    true => write!(line, "{cell:>width$}{:GAP$}", ""),
                    false => write!(line, "{cell:<width$}{:GAP$}", ""),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// A width for each column: that of its longest cell, unless the widest must give way.
    fn widths(&self, limit: usize) -> Vec<usize> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let longest = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(longest).collect();
        while widths.iter().map(|width| width + GAP).sum::<usize>() > limit.saturating_add(GAP) {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

/// The text, or its beginning and an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Columns of the terminal behind standard output; `None` if it is none.
pub(crate) fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(width.0.into())
}

/// A time span in words: `5 s`, `12 min`, `3 h`, `2 d`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Milliseconds since 1970, by this machine's clock.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let mut listing = Listing::new(&["ID", "STEP", "NAME"], &[1]);
        listing.row(["abc".into(), "7".into(), "a name that is long\n".into()]);
        listing.row(["d".into(), "1000000".into(), "x".into()]);
        listing
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_numbers_stand_right() {
        assert_eq!(listing().text(None), "ID      STEP  NAME\nabc        7  a name that is long?\nd    1000000  x\n");
    }

    #[test]
    fn the_widest_column_gives_way_to_the_terminal() {
        for width in [22, 24, 30, 80] {
            let text = listing().text(Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        }
        assert!(listing().text(Some(24)).contains("a name that…") || listing().text(Some(24)).contains('…'));
        // Nothing is cut to nothing.
        assert!(listing().text(Some(1)).contains("a name …"));
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([5, 125, 8000, 200_000].map(span), ["5 s", "2 min", "2 h", "2 d"]);
    }
}
