//! Splits a migration's file into statements, and decides how each is applied to tables that are in use, with which
//! locks. The files are plain SQL for `psql`; this file parses only the syntax that they use. A statement that it does
//! not recognize is applied as a short one.

use std::fmt;

/// A statement of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::postgres) enum Statement {
    /// An index. Built concurrently, on each partition separately.
    Index(Index),
    /// A change of rows, in batches by the table's key.
    Update(Update),
    /// Statistics; writers do not wait for it.
    Analyze(String),
    /// Any other statement: short, in a transaction of its own with a short lock timeout.
    Short(String),
}

/// The definition of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) is_unique: bool,
    pub(in crate::store::postgres) name: String,
    pub(in crate::store::postgres) table: String,
    /// The text behind the table's name.
    pub(in crate::store::postgres) rest: String,
}

/// An UPDATE of orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::postgres) struct Update {
    /// The text in front of WHERE.
    pub(super) head: String,
    pub(in crate::store::postgres) condition: String,
}

impl Statement {
    fn of(sql: &str) -> Statement {
        let words: Vec<&str> = sql.split_whitespace().collect();
        let short = || Statement::Short(sql.to_owned());
        match words.as_slice() {
            ["CREATE", "UNIQUE", "INDEX", ..] => index(sql, true).map_or_else(short, Statement::Index),
            ["CREATE", "INDEX", ..] => index(sql, false).map_or_else(short, Statement::Index),
            ["UPDATE", "orders", ..] => match sql.rsplit_once("WHERE ") {
                Some((head, condition)) => {
                    let (head, condition) = (head.trim_end().to_owned(), condition.to_owned());
                    Statement::Update(Update { head, condition })
                }
                None => short(),
            },
            ["ANALYZE", ..] => Statement::Analyze(sql.to_owned()),
            _ => short(),
        }
    }

    /// The locks that a statement takes on tables that are in use, and for how long.
    fn locks(&self) -> &'static str {
        match self {
            Statement::Index(_) => {
                "SHARE UPDATE EXCLUSIVE while it is built, beside reads and writes; SHARE for a moment"
            }
            Statement::Update(_) => "ROW EXCLUSIVE, and the rows of one batch",
            Statement::Analyze(_) => "SHARE UPDATE EXCLUSIVE, beside reads and writes",
            Statement::Short(sql) => match sql.split_whitespace().next() {
                Some("CREATE") => "none on a table that is in use",
                Some("INSERT") => "ROW EXCLUSIVE",
                _ => "ACCESS EXCLUSIVE for a moment",
            },
        }
    }
}

/// The statement in one line, and its locks. The alternate form shows the whole statement, for a plan; a line of the
/// log is cut.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, how) = match self {
            Statement::Index(index) => {
                let unique = if index.is_unique { "UNIQUE " } else { "" };
                let what = format!("CREATE {unique}INDEX {} ON {} {}", index.name, index.table, index.rest);
                (what, "concurrently, partition by partition; ")
            }
            Statement::Update(update) => {
                (format!("{} WHERE {}", update.head, update.condition), "in batches; ")
            }
            Statement::Analyze(sql) | Statement::Short(sql) => (sql.clone(), ""),
        };
        let words: Vec<&str> = what.split_whitespace().collect();
        let mut line = words.join(" ");
        if let Some((end, _)) = line.char_indices().nth(MAX_SHOWN).filter(|_| !f.alternate()) {
            line.truncate(end);
            line += "...";
        }
        write!(f, "{line}\n      {how}locks: {}", self.locks())
    }
}

/// How many characters of a statement a line of the log shows.
const MAX_SHOWN: usize = 100;

/// `CREATE [UNIQUE] INDEX IF NOT EXISTS name ON table rest`, as the files write it.
fn index(sql: &str, is_unique: bool) -> Option<Index> {
    let (_, behind) = sql.split_once("IF NOT EXISTS ")?;
    let (name, behind) = behind.split_once(" ON ")?;
    let (table, rest) = behind.split_once(' ')?;
    Some(Index { is_unique, name: name.to_owned(), table: table.to_owned(), rest: rest.to_owned() })
}

/// The statements of a file, without its comments.
pub(super) fn of_file(sql: &str) -> Vec<Statement> {
    let (mut statements, mut current) = (Vec::new(), String::new());
    let (mut quote, mut rest) = (None, sql);
    while let Some(c) = rest.chars().next() {
        let mark = ["$$", "'", "--"].into_iter().find(|mark| rest.starts_with(mark));
        let length = match (quote, mark) {
            (None, Some("--")) => {
                rest = rest.find('\n').map_or("", |end| &rest[end..]);
                continue;
            }
            (None, Some(open)) => {
                quote = Some(open);
                open.len()
            }
            (Some(open), Some(mark)) if open == mark => {
                quote = None;
                mark.len()
            }
            (None, None) if c == ';' => {
                statements.push(std::mem::take(&mut current));
                rest = &rest[1..];
                continue;
            }
            // A comment within a quoted body is part of the body.
            _ => c.len_utf8(),
        };
        current.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    statements.push(current);
    let texts = statements.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    texts.map(Statement::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_at_the_ends_of_its_statements() {
        let sql = "-- It's one; comment.\nCREATE TABLE a (b text DEFAULT ';--'); -- end\n\
                   DO $$ BEGIN\n  -- It's; no end.\n  PERFORM 'x;'; END $$;\nANALYZE a;\n";
        assert_eq!(
            of_file(sql),
            [
                Statement::Short("CREATE TABLE a (b text DEFAULT ';--')".to_owned()),
                Statement::Short("DO $$ BEGIN\n  -- It's; no end.\n  PERFORM 'x;'; END $$".to_owned()),
                Statement::Analyze("ANALYZE a".to_owned()),
            ]
        );
    }

    #[test]
    fn indexes_and_updates_are_recognized() {
        let sql = "CREATE UNIQUE INDEX IF NOT EXISTS i ON orders (left(a, 5) COLLATE \"C\", b) WHERE b IS NOT NULL;\n\
                   UPDATE orders SET a = coalesce(b, now())\n WHERE a IS NULL AND b = 'x';";
        let [Statement::Index(index), Statement::Update(update)] = &of_file(sql)[..] else {
            panic!("{:?}", of_file(sql))
        };
        assert_eq!((index.is_unique, index.name.as_str(), index.table.as_str()), (true, "i", "orders"));
        assert_eq!(index.rest, "(left(a, 5) COLLATE \"C\", b) WHERE b IS NOT NULL");
        assert_eq!(update.head, "UPDATE orders SET a = coalesce(b, now())");
        assert_eq!(update.condition, "a IS NULL AND b = 'x'");
    }
}
