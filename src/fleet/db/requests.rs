//! Counting requests, so that none is taken twice: as many at once as have come while the ones before were written. A commit is a write
//! to the disk that is waited for, and every request of a device needs one.

use super::{Db, Error, Result};
use sqlx::AnyPool;
use tokio::sync::{mpsc, oneshot};

/// Requests that are counted in one transaction, at most.
const TOGETHER_MAX: usize = 64;

/// A request that waits to be counted.
#[derive(Debug)]
struct Waiting {
    key: String,
    time_ms: i64,
    counted: oneshot::Sender<Result<bool>>,
}

/// Where requests wait. Its task ends when nobody can ask it any more.
#[derive(Debug, Clone)]
pub(super) struct Queue(mpsc::Sender<Waiting>);

impl Queue {
    pub(super) fn new(writer: AnyPool) -> Self {
        let (sender, receiver) = mpsc::channel(TOGETHER_MAX);
        tokio::spawn(count_all(writer, receiver));
        Self(sender)
    }
}

impl Db {
    /// Counts a request of this time, if the device is enrolled and its last one was earlier.
    pub async fn count_request(&self, key: &str, time_ms: i64) -> Result<bool> {
        let (counted, answer) = oneshot::channel();
        let gone = || Error("requests are not counted any more".into());
        self.requests.0.send(Waiting { key: key.into(), time_ms, counted }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn count_all(writer: AnyPool, mut receiver: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::with_capacity(TOGETHER_MAX);
    while receiver.recv_many(&mut waiting, TOGETHER_MAX).await > 0 {
        // In one order in all replicas, so that no two wait for each other's rows; of one device, in the order of its times.
        waiting.sort_by(|one, other| (&one.key, one.time_ms).cmp(&(&other.key, other.time_ms)));
        match together(&writer, &waiting).await {
            Ok(counted) => {
                for (one, counted) in waiting.drain(..).zip(counted) {
                    // Who does not wait any more has gone.
                    let _ = one.counted.send(Ok(counted));
                }
            }
            Err(Error(problem)) => {
                for one in waiting.drain(..) {
                    let _ = one.counted.send(Err(Error(problem.clone())));
                }
            }
        }
    }
}

async fn together(writer: &AnyPool, waiting: &[Waiting]) -> Result<Vec<bool>> {
    let mut transaction = writer.begin().await?;
    let mut counted = Vec::with_capacity(waiting.len());
    for one in waiting {
        let changed = sqlx::query("UPDATE devices SET last_ms = $1 WHERE key = $2 AND revoked_ms = 0 AND last_ms < $1")
            .bind(one.time_ms)
            .bind(&one.key)
            .execute(&mut *transaction)
            .await?;
        counted.push(changed.rows_affected() == 1);
    }
    transaction.commit().await?;
    Ok(counted)
}
