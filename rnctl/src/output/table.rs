//! Columns.

/// Docker's tabwriter settings: a column is at least ten wide, with three blanks after its longest cell.
const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Aligns lines whose cells are separated by tabs. The last cell of a line is not padded.
pub fn align(lines: &[String]) -> String {
    align_to(MIN_WIDTH, lines)
}

/// The same with columns of another least width.
pub fn align_to(min_width: usize, lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|l| l.split('\t').collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|k| {
            // A cell with nothing after it is outside the columns, as in Go's text/tabwriter.
            let cells = rows.iter().filter(|row| k + 1 < row.len());
            let longest = cells.map(|row| row[k].chars().count()).max().unwrap_or(0);
            (longest + PADDING).max(min_width)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (k, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if k + 1 < row.len() {
                let blanks = widths[k].saturating_sub(cell.chars().count());
                line.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let lines = ["ID\tNAME\tMODE", "abcdefghijkl\tweb\treplicated", "b\tä-very-long-name\t"];
        let text = align(&lines.map(str::to_owned));
        assert_eq!(
            text,
            "ID             NAME               MODE\n\
             abcdefghijkl   web                replicated\n\
             b              ä-very-long-name\n"
        );
    }

    #[test]
    fn a_column_is_ten_wide_at_least() {
        assert_eq!(align(&["A\tB".into(), "1\t2".into()]), "A         B\n1         2\n");
    }
}
