//! Settling and extending: in chunks, and an answer for each job whatever happens.

use std::sync::Arc;

use redis::{Cmd, Script};
use tokio::time::Instant;

use super::fault::Fault;
use super::{BYTES_MOST, JOBS_MOST, RedisQueue, codec, millis};
use crate::claimed::Receipt;
use crate::queue::{Extend, Extended, Fail, Next, Release, Settled};

impl RedisQueue {
    pub(super) async fn ack_all(&self, receipts: &[Receipt]) -> Vec<Settled> {
        let script = &self.shared.scripts.ack;
        settled(self.each(script, &[], receipts, |_| 0, write_receipt).await)
    }

    pub(super) async fn release_all(&self, jobs: &[Release]) -> Vec<Settled> {
        let write = |call: &mut Cmd, job: &Release| {
            write_receipt(call, &job.receipt);
            call.arg(millis(job.delay));
            write_checkpoint(call, job.checkpoint.as_deref());
        };
        let script = &self.shared.scripts.release;
        let size = |job: &Release| size(job.checkpoint.as_deref());
        settled(self.each(script, &[], jobs, size, write).await)
    }

    pub(super) async fn fail_all(&self, jobs: &[Fail]) -> Vec<Settled> {
        let write = |call: &mut Cmd, job: &Fail| {
            write_receipt(call, &job.receipt);
            call.arg(&job.error);
            match job.next {
                Next::Dead => call.arg(""),
                Next::Retry(delay) => call.arg(millis(delay)),
            };
            write_checkpoint(call, job.checkpoint.as_deref());
        };
        let script = &self.shared.scripts.fail;
        let size = |job: &Fail| job.error.len() + size(job.checkpoint.as_deref());
        settled(self.each(script, &[], jobs, size, write).await)
    }

    pub(super) async fn extend_all(&self, jobs: &[Extend]) -> Vec<Extended> {
        let write = |call: &mut Cmd, job: &Extend| {
            write_receipt(call, &job.receipt);
            write_checkpoint(call, job.checkpoint.as_deref());
        };
        let script = &self.shared.scripts.extend;
        let size = |job: &Extend| size(job.checkpoint.as_deref());
        let answers = self.each(script, &[millis(self.lease)], jobs, size, write).await;
        let extended = answers.into_iter().map(|answer| match answer {
            Ok((true, asked)) => Extended::Until(asked + self.lease),
            Ok((false, _)) => Extended::Lost,
            Err(fault) => Extended::Retry(fault.into()),
        });
        extended.collect()
    }

    /// For each item whether its claim is the newest, and from before when that answer is.
    async fn each<T>(
        &self,
        script: &Arc<Script>,
        first: &[u64],
        items: &[T],
        size: impl Fn(&T) -> usize,
        write: impl Fn(&mut Cmd, &T),
    ) -> Vec<Result<(bool, Instant), Fault>> {
        let limit = self.limit();
        let mut answers = Vec::with_capacity(items.len());
        for chunk in chunks(items, size) {
            let mut call = self.call(script);
            call.arg(first);
            for item in chunk {
                write(&mut call, item);
            }
            let asked = Instant::now();
            let answer = Box::pin(self.run(script, call, limit)).await;
            let flags =
                answer.and_then(|answer| codec::flags(answer, chunk.len()).ok_or(Fault::Shape));
            match flags {
                Ok(flags) => answers.extend(flags.into_iter().map(|flag| Ok((flag, asked)))),
                // The others would only wait for the same.
                Err(fault) => {
                    answers.resize(items.len(), Err(fault));
                    break;
                }
            }
        }
        answers
    }
}

/// In their order, each of so many items or bytes at most, but one item at least.
pub(super) fn chunks<T>(items: &[T], size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(JOBS_MOST).take_while(|item| {
            let first = bytes == 0;
            bytes += size(item).max(1);
            first || bytes <= BYTES_MOST
        });
        let (chunk, after) = rest.split_at(fits.count());
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn settled(answers: Vec<Result<(bool, Instant), Fault>>) -> Vec<Settled> {
    let settled = answers.into_iter().map(|answer| match answer {
        Ok((true, _)) => Settled::Done,
        Ok((false, _)) => Settled::Lost,
        Err(fault) => Settled::Retry(fault.into()),
    });
    settled.collect()
}

fn write_receipt(call: &mut Cmd, receipt: &Receipt) {
    call.arg(receipt.id().as_str()).arg(receipt.number());
}

fn write_checkpoint(call: &mut Cmd, checkpoint: Option<&[u8]>) {
    call.arg(u8::from(checkpoint.is_some())).arg(checkpoint.unwrap_or_default());
}

fn size(checkpoint: Option<&[u8]>) -> usize {
    checkpoint.map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_and_lose_nothing() {
        let sizes =
            |items: &[usize]| chunks(items, |item| *item).map(<[usize]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0_usize; 0]);
        assert_eq!(sizes(&vec![0; 1001]), [500, 500, 1]);
        assert_eq!(sizes(&[BYTES_MOST - 1, 1, 1, 2 * BYTES_MOST, 1]), [2, 1, 1, 1]);
    }
}
