//! Who may see the dashboard, and where they are signed in.

use super::{Db, Place, Result};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sees.
    Viewer,
    /// Sees and acts.
    Operator,
}

impl Role {
    /// As it is written in the database and on pages.
    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }

    /// The role of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Role::Viewer, Role::Operator].into_iter().find(|role| role.word() == word)
    }
}

/// An access token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What it is called by.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// When it was revoked; 0: it was not.
    pub revoked_ms: i64,
}

/// Somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The access token's name; none for the token of the server's first start.
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
}

const ACCESS: &str = "SELECT id, name, role, created_ms, revoked_ms FROM access";

fn access(row: &AnyRow) -> Result<Access> {
    Ok(Access {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        role: role(row.try_get(2)?),
        created_ms: row.try_get(3)?,
        revoked_ms: row.try_get(4)?,
    })
}

/// A word of a later version gives as little as there is to give.
fn role(word: &str) -> Role {
    Role::from_word(word).unwrap_or(Role::Viewer)
}

impl Db {
    /// Keeps an access token, by the hash of its secret.
    pub async fn add_access(&self, access: &Access, hash: &str) -> Result<()> {
        sqlx::query("INSERT INTO access (id, hash, name, role, created_ms) VALUES ($1, $2, $3, $4, $5)")
            .bind(&access.id)
            .bind(hash)
            .bind(&access.name)
            .bind(access.role.word())
            .bind(access.created_ms)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// The access token of that secret's hash, unless it was revoked.
    pub async fn access(&self, hash: &str) -> Result<Option<Access>> {
        let query = format!("{ACCESS} WHERE hash = $1 AND revoked_ms = 0");
        let row = sqlx::query(AssertSqlSafe(query)).bind(hash).fetch_optional(&self.pool).await?;
        row.as_ref().map(access).transpose()
    }

    /// Access tokens, the last that was made first, from behind `place`.
    pub async fn accesses(&self, place: &Place, count: i64) -> Result<Vec<Access>> {
        let query = format!("{ACCESS} WHERE (created_ms, id) < ($1, $2) ORDER BY created_ms DESC, id DESC LIMIT $3");
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(place.at_ms)
            .bind(&place.id)
            .bind(count)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(access).collect()
    }

    /// Revokes an access token, and ends what was signed in with it. Gives its name; none where there was nothing to revoke.
    pub async fn revoke_access(&self, id: &str, now_ms: i64) -> Result<Option<String>> {
        let mut transaction = self.writer.begin().await?;
        let revoked = sqlx::query("UPDATE access SET revoked_ms = $1 WHERE id = $2 AND revoked_ms = 0")
            .bind(now_ms)
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        if revoked.rows_affected() == 0 {
            return Ok(None);
        }
        sqlx::query("DELETE FROM sessions WHERE access = $1").bind(id).execute(&mut *transaction).await?;
        let row = sqlx::query("SELECT name FROM access WHERE id = $1").bind(id).fetch_one(&mut *transaction).await?;
        let name = row.try_get(0)?;
        transaction.commit().await?;
        Ok(Some(name))
    }

    /// Begins a session, by the hash of its secret; forgets those that are over. `access` is empty for the token of the
    /// server's first start.
    pub async fn begin_session(&self, hash: &str, access: &str, now_ms: i64, expires_ms: i64) -> Result<()> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query("DELETE FROM sessions WHERE expires_ms <= $1").bind(now_ms).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO sessions (hash, access, created_ms, expires_ms) VALUES ($1, $2, $3, $4)")
            .bind(hash)
            .bind(access)
            .bind(now_ms)
            .bind(expires_ms)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The session of that secret's hash, if it is not over and its access token was not revoked.
    pub async fn session(&self, hash: &str, now_ms: i64) -> Result<Option<Session>> {
        let row = sqlx::query(
            "SELECT sessions.access, COALESCE(access.name, ''), COALESCE(access.role, 'operator') \
             FROM sessions LEFT JOIN access ON access.id = sessions.access \
             WHERE sessions.hash = $1 AND sessions.expires_ms > $2 \
             AND (sessions.access = '' OR access.revoked_ms = 0)",
        )
        .bind(hash)
        .bind(now_ms)
        .fetch_optional(&self.pool)
        .await?;
        let session = |row: AnyRow| {
            let of_access = !row.try_get::<&str, _>(0)?.is_empty();
            let name = if of_access { Some(row.try_get(1)?) } else { None };
            Ok(Session { name, role: role(row.try_get(2)?) })
        };
        row.map(session).transpose()
    }

    /// Ends a session.
    pub async fn end_session(&self, hash: &str) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(hash).execute(&self.writer).await?;
        Ok(())
    }

    /// Ends all sessions but this one. How many there were.
    pub async fn end_other_sessions(&self, hash: &str) -> Result<u64> {
        let ended = sqlx::query("DELETE FROM sessions WHERE hash <> $1").bind(hash).execute(&self.writer).await?;
        Ok(ended.rows_affected())
    }

    /// How many sessions are not over.
    pub async fn sessions(&self, now_ms: i64) -> Result<i64> {
        let query = "SELECT COUNT(*) FROM sessions WHERE expires_ms > $1";
        Ok(sqlx::query(query).bind(now_ms).fetch_one(&self.pool).await?.try_get(0)?)
    }
}
