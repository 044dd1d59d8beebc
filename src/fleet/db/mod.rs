//! The database: SQLite by default, PostgreSQL by URL, one set of queries that both take. Nothing else in the project speaks SQL.
//!
//! What two replicas might do at the same time is decided by one statement that changes a row only as long as it is as expected;
//! whether it was is the number of rows that it changed. That is what `FOR UPDATE SKIP LOCKED` would be needed for, and SQLite
//! has it too. Transactions begin with what they write, so that SQLite takes its lock at once and never gives up half-way.
//!
//! Every query fails with [`Error`] where the database cannot be reached, does not answer in time or refuses it.

mod access;
mod channels;
mod copy;
mod devices;
mod history;
mod members;
mod requests;
mod reports;
mod rollouts;
mod states;
mod uploads;

pub use access::{Access, Role, Session};
pub use channels::{Channel, Channels, Closing, NewRelease};
pub use copy::Belonging;
pub use devices::{Device, Enrolment, Newcomer};
pub use history::{Kept, Logged, Outcome, Place, Reported, Seen, Sent};
pub use rollouts::{Version, Vote};
pub use states::{DeltaState, ReleaseState, RolloutState, RoundState, Word};
pub use uploads::{Accepted, Bytes, Came, Counted, Upload, Worth};

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, Connection, Row, SqlSafeStr};
use std::borrow::Cow;
use std::time::Duration;

/// Connections of a replica. SQLite writes one at a time whatever there are.
const CONNECTIONS: u32 = 8;
/// How long a request waits for one of them.
const WAIT: Duration = Duration::from_secs(10);

/// All changes of the tables since the first, in order.
const MIGRATIONS: [(i64, &str, &str); 7] = [
    (1, "tables", include_str!("migrations/1.sql")),
    (2, "rollouts", include_str!("migrations/2.sql")),
    (3, "dashboard", include_str!("migrations/3.sql")),
    (4, "retention", include_str!("migrations/4.sql")),
    (5, "members", include_str!("migrations/5.sql")),
    (6, "names", include_str!("migrations/6.sql")),
    (7, "identities", include_str!("migrations/7.sql")),
];

/// The version of this program's tables.
pub const TABLES_VERSION: usize = MIGRATIONS.len();

/// The setting that tells states of the fleet apart that were restored from backups.
const EPOCH: &str = "epoch";

/// What the audit log calls refusals: what anybody can make happen. They are bounded, and forgotten after a while.
pub const REFUSALS: [&str; 5] = ["refused", "enrolment refused", "upload refused", "delta refused", "sign-in refused"];

/// Why the database did not do what it was asked: it cannot be reached, did not answer in time, or refuses.
#[derive(Debug, thiserror::Error)]
#[error("the database: {0}")]
pub struct Error(String);

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

/// A result of the database.
pub type Result<T> = std::result::Result<T, Error>;

/// An open database with the tables of this version.
#[derive(Debug, Clone)]
pub struct Db {
    /// Reads.
    pool: AnyPool,
    /// Writes, and reads within a transaction.
    writer: AnyPool,
    /// Requests that are to be counted.
    requests: requests::Queue,
    is_sqlite: bool,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// A device's key, `operator`, or an address where nobody is known.
    pub who: String,
    /// What was done or refused.
    pub what: String,
    /// To what, or why.
    pub detail: String,
}

impl Db {
    /// Opens `sqlite:PATH` or `postgres://…` and brings its tables up to this version.
    ///
    /// # Errors
    /// A database that is not there, or one of a later version.
    pub async fn open(url: &str) -> Result<Self> {
        let db = Self::connected(url).await?;
        db.migrate(TABLES_VERSION).await?;
        Ok(db)
    }

    /// Opens it with the tables that it has.
    async fn connected(url: &str) -> Result<Self> {
        install_default_drivers();
        let options = |connections| {
            let options = AnyPoolOptions::new().max_connections(connections).acquire_timeout(WAIT);
            // A transaction that SQLite has ended by itself (the disk is full) is one still for sqlx, which would put all that comes
            // later into it, and commit nothing. Such a connection is not used again.
            options.after_release(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        };
        let pool = options(CONNECTIONS).connect(url).await?;
        let mut writer = pool.clone();
        let is_sqlite = url.starts_with("sqlite:");
        if is_sqlite {
            // One writes at a time anyway: waiting for the connection is fair, where SQLite's own waiting sleeps and tries again.
            writer = options(1).connect(url).await?;
            // Readers do not wait for the writer. What is acknowledged is on the disk: `synchronous` stays FULL.
            sqlx::query("PRAGMA journal_mode = WAL").execute(&pool).await?;
        }
        let requests = requests::Queue::new(writer.clone());
        Ok(Self { pool, writer, requests, is_sqlite })
    }

    /// Brings the tables up to a version.
    async fn migrate(&self, version: usize) -> Result<()> {
        let migrations = MIGRATIONS[..version].iter().map(|(number, what, sql)| {
            Migration::new(*number, Cow::Borrowed(*what), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let migrator = Migrator { migrations: Cow::Owned(migrations.collect()), ..Migrator::DEFAULT };
        migrator.run(&self.pool).await.map_err(|error| Error(error.to_string()))
    }

    /// Whether it takes writes; nothing is changed by this one.
    ///
    /// # Errors
    /// It does not.
    pub async fn try_write(&self) -> Result<()> {
        sqlx::query("UPDATE settings SET value = value WHERE name = 'fleet'").execute(&self.writer).await?;
        Ok(())
    }

    /// Whether no server has ever worked with it.
    pub async fn is_new(&self) -> Result<bool> {
        let settings: i64 = sqlx::query("SELECT COUNT(*) FROM settings").fetch_one(&self.pool).await?.try_get(0)?;
        Ok(settings == 0)
    }

    /// The setting of that name: `value`, where there was none. All replicas get the same.
    pub async fn setting(&self, name: &str, value: &str) -> Result<String> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(value)
            .execute(&self.writer)
            .await?;
        let row = sqlx::query("SELECT value FROM settings WHERE name = $1").bind(name).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// The number of the state that was restored last from a backup; 0 for one that never was.
    ///
    /// # Errors
    /// The database's; a number that is none.
    pub async fn epoch(&self) -> Result<u64> {
        let text = self.setting(EPOCH, "0").await?;
        text.parse().map_err(|_| Error(format!("its epoch `{text}` is no number")))
    }

    /// Adds a line to the audit log; `id` tells lines of one millisecond apart.
    pub async fn audit(&self, line: &Audited, id: &str) -> Result<()> {
        insert_line(&mut *self.writer.acquire().await?, line, id).await
    }

    /// Forgets refusals from before a moment, so many at most. Whether there may be more. What was done stays for ever.
    pub async fn forget_refusals(&self, before_ms: i64, count: i64) -> Result<bool> {
        let query = "DELETE FROM audit WHERE (at_ms, id) IN (SELECT at_ms, id FROM audit \
                     WHERE what IN ($3, $4, $5, $6, $7) AND at_ms < $1 ORDER BY at_ms LIMIT $2)";
        let query =
            REFUSALS.iter().fold(sqlx::query(query).bind(before_ms).bind(count), |query, what| query.bind(*what));
        let gone = query.execute(&self.writer).await?;
        Ok(gone.rows_affected() == count as u64)
    }

    /// The last lines of the audit log, newest first.
    pub async fn audited(&self, count: i64) -> Result<Vec<Audited>> {
        let rows = sqlx::query("SELECT at_ms, who, what, detail FROM audit ORDER BY at_ms DESC, id DESC LIMIT $1")
            .bind(count)
            .fetch_all(&self.pool)
            .await?;
        let line = |row: &sqlx::any::AnyRow| {
            Ok(Audited { at_ms: row.try_get(0)?, who: row.try_get(1)?, what: row.try_get(2)?, detail: row.try_get(3)? })
        };
        rows.iter().map(line).collect()
    }

    /// Ends all connections, after what they are at.
    pub async fn close(&self) {
        self.pool.close().await;
        self.writer.close().await;
    }
}

/// A line of the audit log, beside whatever else the connection is at.
async fn insert_line(connection: &mut AnyConnection, line: &Audited, id: &str) -> Result<()> {
    sqlx::query("INSERT INTO audit (at_ms, id, who, what, detail) VALUES ($1, $2, $3, $4, $5)")
        .bind(line.at_ms)
        .bind(id)
        .bind(&line.who)
        .bind(&line.what)
        .bind(&line.detail)
        .execute(connection)
        .await?;
    Ok(())
}
