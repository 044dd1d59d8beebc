//! All that the database holds, as lines of text and back: the same for SQLite and PostgreSQL, and for later versions of the tables.
//!
//! A line is a JSON object that begins a table, with its name and its columns, or an array of one row's values. Sessions stay behind:
//! whoever was signed in signs in again.

use super::{Audited, Bytes, Db, EPOCH, Error, Result, TABLES_VERSION, insert_line};
use serde_json::{Value, json};
use sqlx::any::{Any, AnyRow};
use sqlx::query::Query;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use std::io::{BufRead, Write};

/// Rows that are read at once.
const ROWS: i64 = 5000;

/// A table and what it holds.
struct Table {
    name: &'static str,
    /// What tells its rows apart, and the order that they are written in.
    key: &'static str,
    texts: &'static [&'static str],
    integers: &'static [&'static str],
    reals: &'static [&'static str],
}

const TABLES: [Table; 11] = [
    table("settings", "name", &["name", "value"], &[], &[]),
    table("tokens", "hash", &["hash", "used_by", "name"], &["created_ms", "expires_ms"], &[]),
    table("devices", "key", &["key", "name"], &["enrolled_ms", "revoked_ms", "last_ms"], &[]),
    table(
        "channels",
        "name",
        &["name", "base", "adapter", "state", "rule", "claimed_by", "problem", "stages", "rollout"],
        &[
            "length",
            "version",
            "round",
            "claimed_until_ms",
            "stage_ms",
            "stage_reports",
            "stage",
            "stage_began_ms",
            "previous",
            "pinned",
        ],
        &["tolerated"],
    ),
    table(
        "releases",
        "channel, version",
        &["channel", "adapter", "outcome", "reason"],
        &["version", "length", "created_ms", "devices"],
        &[],
    ),
    table(
        "uploads",
        "device, hash",
        &["device", "hash", "channel", "state", "identity"],
        &["length", "received", "round", "changed_ms", "stored"],
        &["weight"],
    ),
    table(
        "reports",
        "device, channel, version",
        &["device", "channel", "verdict"],
        &["version", "at_ms"],
        &["accuracy_before", "accuracy_after"],
    ),
    table("audit", "at_ms, id", &["id", "who", "what", "detail"], &["at_ms"], &[]),
    table("access", "id", &["id", "hash", "name", "role"], &["created_ms", "revoked_ms"], &[]),
    table("members", "channel, device", &["channel", "device"], &["since_ms"], &[]),
    table("names", "name", &["name"], &[], &[]),
];

const fn table(
    name: &'static str,
    key: &'static str,
    texts: &'static [&'static str],
    integers: &'static [&'static str],
    reals: &'static [&'static str],
) -> Table {
    Table { name, key, texts, integers, reals }
}

impl Table {
    fn columns(&self) -> Vec<&'static str> {
        [self.texts, self.integers, self.reals].concat()
    }

    fn values(&self, row: &AnyRow) -> Result<Value> {
        let mut values: Vec<Value> = Vec::new();
        for index in 0..self.columns().len() {
            let (texts, integers) = (self.texts.len(), self.integers.len());
            values.push(match index {
                index if index < texts => row.try_get::<String, _>(index)?.into(),
                index if index < texts + integers => row.try_get::<i64, _>(index)?.into(),
                _ => row.try_get::<f64, _>(index)?.into(),
            });
        }
        Ok(values.into())
    }
}

/// What of the store belongs to a state of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belonging {
    /// Hashes of all adapters that are or were released.
    pub adapters: Vec<String>,
    /// Deltas that count, or are on their way, with the bytes of them that have come.
    pub deltas: Vec<Bytes>,
}

impl Db {
    /// Opens a database as it is, without changing its tables.
    ///
    /// # Errors
    /// A database that is not there, or whose tables are of another version.
    pub async fn attach(url: &str) -> Result<Self> {
        let db = Self::connected(url).await?;
        let query = "SELECT MAX(version) FROM _sqlx_migrations";
        let row = sqlx::query(query).fetch_one(&db.pool).await;
        let version = row.and_then(|row| row.try_get::<i64, _>(0));
        match version {
            Ok(version) if version == TABLES_VERSION as i64 => Ok(db),
            Ok(version) => Err(Error(format!(
                "its tables are of version {version}, and this program's of {}; use the program that serves it",
                TABLES_VERSION
            ))),
            Err(error) => Err(Error(format!("it holds no fleet: {error}"))),
        }
    }

    /// Opens an empty database, with the tables of that version.
    ///
    /// # Errors
    /// A database that is not there, or holds something; a version that is not known.
    pub async fn fresh(url: &str, version: usize) -> Result<Self> {
        if version > TABLES_VERSION {
            return Err(Error(format!("tables of version {version} are not known here; use a newer edgetune-fleet")));
        }
        let db = Self::connected(url).await?;
        db.migrate(version).await?;
        match db.is_new().await? {
            true => Ok(db),
            false => Err(Error("it holds a fleet already; name an empty one with setting `database = URL`".into())),
        }
    }

    /// Writes all that it holds, as it was at one moment, and gives what belongs to that.
    ///
    /// # Errors
    /// The database's; what cannot be written.
    pub async fn dump(&self, out: &mut (dyn Write + Send)) -> Result<Belonging> {
        let written = |error: std::io::Error| Error(error.to_string());
        let mut transaction = self.pool.begin().await?;
        if !self.is_sqlite {
            // What SQLite's transactions are by themselves: all is read as it was at the first look.
            let query = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
            sqlx::query(query).execute(&mut *transaction).await?;
        }
        for table in &TABLES {
            let columns = table.columns();
            writeln!(out, "{}", json!({ "table": table.name, "columns": columns })).map_err(written)?;
            let query =
                format!("SELECT {} FROM {} ORDER BY {} LIMIT $1 OFFSET $2", columns.join(", "), table.name, table.key);
            for page in 0.. {
                let query = sqlx::query(AssertSqlSafe(query.as_str())).bind(ROWS).bind(page * ROWS);
                let rows = query.fetch_all(&mut *transaction).await?;
                for row in &rows {
                    writeln!(out, "{}", table.values(row)?).map_err(written)?;
                }
                if rows.len() < ROWS as usize {
                    break;
                }
            }
        }
        belonging(&mut transaction).await
    }

    /// Takes what [`Db::dump`] has written, all or nothing, and brings the tables up to this version. The epoch is then `epoch`, or the next
    /// after the copy's where that is later; the line of the audit log is of this moment.
    ///
    /// # Errors
    /// The database's; lines that are none.
    pub async fn load(&self, lines: impl BufRead, epoch: u64, (line, id): (&Audited, &str)) -> Result<()> {
        let mut transaction = self.writer.begin().await?;
        let mut insert = String::new();
        for (number, text) in lines.lines().enumerate() {
            let odd = |problem: String| Error(format!("line {} of the copy: {problem}", number + 1));
            let text = text.map_err(|error| odd(error.to_string()))?;
            match serde_json::from_str(&text).map_err(|error| odd(error.to_string()))? {
                Value::Object(table) => insert = inserting(&table).ok_or_else(|| odd("it is no table's".into()))?,
                Value::Array(values) if !insert.is_empty() => {
                    let query = values.into_iter().try_fold(sqlx::query(AssertSqlSafe(insert.as_str())), bound);
                    query
                        .ok_or_else(|| odd("a value is of no kind that is known".into()))?
                        .execute(&mut *transaction)
                        .await?;
                }
                _ => return Err(odd("it is neither a table nor a row".into())),
            }
        }
        let query = "SELECT value FROM settings WHERE name = $1";
        let row = sqlx::query(query).bind(EPOCH).fetch_optional(&mut *transaction).await?;
        let before = row.map(|row| row.try_get::<String, _>(0)).transpose()?.and_then(|epoch| epoch.parse().ok());
        let before: u64 = before.unwrap_or(0);
        sqlx::query(
            "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(EPOCH)
        .bind(epoch.max(before + 1).to_string())
        .execute(&mut *transaction)
        .await?;
        insert_line(&mut transaction, line, id).await?;
        transaction.commit().await?;
        self.migrate(TABLES_VERSION).await
    }
}

async fn belonging(connection: &mut AnyConnection) -> Result<Belonging> {
    let rows =
        sqlx::query("SELECT DISTINCT adapter FROM releases ORDER BY adapter").fetch_all(&mut *connection).await?;
    let adapters = rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_>>()?;
    let query = "SELECT device, hash, received, changed_ms FROM uploads \
                 WHERE stored = 1 AND state IN ('accepted', 'receiving') ORDER BY device, hash";
    let rows = sqlx::query(query).fetch_all(connection).await?;
    Ok(Belonging { adapters, deltas: rows.iter().map(super::uploads::bytes).collect::<Result<_>>()? })
}

/// The statement that a table's rows are put in by. Names are words, whatever the file says.
fn inserting(table: &serde_json::Map<String, Value>) -> Option<String> {
    let word = |name: &Value| {
        let name = name.as_str()?;
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then(|| name.to_owned())
    };
    let name = table.get("table").and_then(word)?;
    let columns: Vec<String> = table.get("columns")?.as_array()?.iter().map(word).collect::<Option<_>>()?;
    let places: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
    Some(format!("INSERT INTO {name} ({}) VALUES ({})", columns.join(", "), places.join(", ")))
}

type Bound<'q> = Query<'q, Any, sqlx::any::AnyArguments>;

fn bound(query: Bound<'_>, value: Value) -> Option<Bound<'_>> {
    Some(match value {
        Value::String(text) => query.bind(text),
        Value::Number(number) if number.is_i64() => query.bind(number.as_i64()?),
        Value::Number(number) => query.bind(number.as_f64()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened<T>(act: impl AsyncFnOnce(String) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}?mode=rwc", folder.path().join("fleet.sqlite").display());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(act(url))
    }

    /// A migration that adds a column or a table is a change of [`TABLES`], too: what is not listed there is not in a backup.
    #[test]
    fn nothing_but_sessions_is_left_out_of_a_copy() {
        opened(async |url| {
            let db = Db::open(&url).await.unwrap();
            let query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
                         AND name NOT LIKE 'sqlite%' ORDER BY name";
            let rows = sqlx::query(query).fetch_all(&db.pool).await.unwrap();
            let names: Vec<String> = rows.iter().map(|row| row.get(0)).filter(|name| name != "sessions").collect();
            let mut listed: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
            listed.sort_unstable();
            assert_eq!(names, listed);
            for table in &TABLES {
                let query = format!("SELECT name FROM pragma_table_info('{}') ORDER BY name", table.name);
                let rows = sqlx::query(AssertSqlSafe(query.as_str())).fetch_all(&db.pool).await.unwrap();
                let mut columns = table.columns();
                columns.sort_unstable();
                assert_eq!(
                    rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>(),
                    columns,
                    "{}",
                    table.name
                );
            }
        });
    }

    /// Before 3.51.3 a checkpoint and a commit at the same moment could damage a database.
    #[test]
    fn sqlite_is_without_the_wal_reset_bug() {
        let version: String = opened(async |url| {
            let db = Db::open(&url).await.unwrap();
            sqlx::query("SELECT sqlite_version()").fetch_one(&db.pool).await.unwrap().get(0)
        });
        let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
        assert!(parts >= vec![3, 51, 3], "{version}");
    }

    #[test]
    fn a_copy_is_what_was_copied() {
        let (text, again) = opened(async |url| {
            let db = Db::open(&url).await.unwrap();
            db.setting("fleet", "\"a\nb\"").await.unwrap();
            db.add_token("ab", "hall", 5, i64::MAX).await.unwrap();
            let query = "INSERT INTO uploads (device, hash, channel, length, received, state, round, weight, changed_ms) \
                         VALUES ('d', 'h', 'c', 7, 3, 'receiving', 1, 2.0, 4)";
            sqlx::query(query).execute(&db.writer).await.unwrap();
            let mut text = Vec::new();
            let belonging = db.dump(&mut text).await.unwrap();
            let delta = Bytes { device: "d".into(), hash: "h".into(), length: 3, changed_ms: 4 };
            assert_eq!(belonging, Belonging { adapters: Vec::new(), deltas: vec![delta] });
            let held = Db::fresh(&url, TABLES_VERSION).await.unwrap_err().to_string();
            assert!(held.contains("setting `database"), "{held}");
            let other = url.replace("fleet.sqlite", "other.sqlite");
            let copy = Db::fresh(&other, TABLES_VERSION).await.unwrap();
            let line = Audited { at_ms: 9, who: "w".into(), what: "restored".into(), detail: String::new() };
            let damaged = copy.load(&text[..text.len() - 3], 4, (&line, "i")).await.unwrap_err().to_string();
            assert!(damaged.contains("of the copy"), "{damaged}");
            copy.load(text.as_slice(), 4, (&line, "i")).await.unwrap();
            assert_eq!(copy.epoch().await.unwrap(), 4);
            assert_eq!(copy.audited(9).await.unwrap(), std::slice::from_ref(&line));
            let mut again = Vec::new();
            copy.dump(&mut again).await.unwrap();
            Db::attach(&other).await.unwrap();
            // Restored where the clock is wrong, it is later all the same.
            let third = Db::fresh(&url.replace("fleet.sqlite", "third.sqlite"), TABLES_VERSION).await.unwrap();
            third.load(again.as_slice(), 1, (&line, "j")).await.unwrap();
            assert_eq!(third.epoch().await.unwrap(), 5);
            (String::from_utf8(text).unwrap(), String::from_utf8(again).unwrap())
        });
        let plain = |text: &str| {
            let lines = text.lines().filter(|line| !line.contains("\"epoch\"") && !line.contains("\"restored\""));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(plain(&text), plain(&again));
    }
}
