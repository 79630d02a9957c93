//! Pushing: ids made here, so that their order needs no second answer.

use redis::Cmd;
use uuid::Uuid;

use super::fault::Fault;
use super::settle::chunks;
use super::{RedisQueue, codec, millis};
use crate::claimed::JobId;
use crate::push::{Push, Pushed};

impl RedisQueue {
    pub(super) async fn push_all(&self, jobs: &[Push]) -> Result<Vec<Pushed>, Fault> {
        let (script, limit) = (&self.shared.scripts.push, self.limit());
        let mut pushed = Vec::with_capacity(jobs.len());
        for jobs in chunks(jobs, |job| job.payload().len()) {
            let ids: Vec<_> = jobs.iter().map(|_| Uuid::now_v7().to_string()).collect();
            let mut call = self.call(script);
            for (job, id) in jobs.iter().zip(&ids) {
                self.write_job(&mut call, job, id);
            }
            let answer = self.run(script, call, limit).await?;
            let new = codec::flags(answer, jobs.len()).ok_or(Fault::Shape)?;
            pushed.extend(ids.into_iter().zip(new).map(|(id, new)| match new {
                true => Pushed::New(JobId::new(id)),
                false => Pushed::Duplicate,
            }));
        }
        Ok(pushed)
    }

    fn write_job(&self, call: &mut Cmd, job: &Push, id: &str) {
        call.arg(id).arg(rank(job.priority_value())).arg(millis(job.delayed_by()));
        match job.dedupe_key() {
            Some(once) => {
                call.arg(millis(once.period).max(1)).arg(self.shared.keys.once(&once.key))
            }
            None => call.arg("").arg(""),
        };
        call.arg(job.kind()).arg(&job.payload()[..]).arg(codec::write_headers(job.headers()));
    }
}

/// From 0 for the highest priority to 65535: members are sorted from small to large.
fn rank(priority: i16) -> i32 {
    i32::from(i16::MAX) - i32::from(priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_has_five_digits_and_the_order_of_priorities_reversed() {
        assert_eq!([rank(i16::MAX), rank(1), rank(0), rank(i16::MIN)], [0, 32766, 32767, 65535]);
    }
}
