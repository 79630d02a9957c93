//! Many jobs at once, and payloads of all kinds.

use std::time::Duration;

use lifecycle_worker::{Extend, Extended, Fail, Next, Push, Queue, Release};
use tokio::time::Instant;

use super::{all_done, jobs, most, receipts, server_and_queue, work_off};

#[tokio::test]
async fn a_hundred_thousand_ready_jobs() {
    let (_redis, queue) = server_and_queue().await;
    let queue = queue.call_bound(Duration::from_secs(60));
    let began = Instant::now();
    let pushed = queue.push(&jobs(100_000)).await.unwrap();
    assert!(pushed.len() == 100_000 && pushed.iter().all(|pushed| pushed.is_new()));
    eprintln!("pushed in {:?}", began.elapsed());
    assert_eq!(queue.stats().await.unwrap().ready, 100_000);

    // More than one script call may take, and all receipts in one call.
    let began = Instant::now();
    let first = queue.claim(most(20_000), Duration::ZERO).await.unwrap();
    assert_eq!(first.len(), 20_000);
    assert!(first.iter().enumerate().all(|(at, job)| job.payload == at.to_string()));
    let extends: Vec<_> = receipts(&first).into_iter().map(Extend::new).collect();
    let extended = queue.extend(&extends).await;
    assert!(extended.iter().all(|extended| matches!(extended, Extended::Until(_))));
    let releases: Vec<_> = receipts(&first).into_iter().map(Release::unstarted).collect();
    assert!(all_done(&queue.release(&releases).await));
    assert_eq!(work_off(&queue).await, 100_000);
    eprintln!("claimed, released and worked off in {:?}", began.elapsed());
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.running, stats.done), (0, 0, 100_000));
    assert_eq!((stats.attempts, stats.returns), (100_000, 20_000));
}

#[tokio::test]
async fn twenty_thousand_due_jobs_and_as_many_ended_leases_at_once() {
    let (redis, queue) = server_and_queue().await;
    let queue = queue.call_bound(Duration::from_secs(60)).lease(Duration::from_secs(600));
    queue.push(&jobs(20_000)).await.unwrap();
    assert_eq!(queue.claim(most(20_000), Duration::ZERO).await.unwrap().len(), 20_000);
    let hour = Duration::from_secs(3600);
    let later: Vec<_> = jobs(20_000).into_iter().map(|job| job.delay(hour)).collect();
    queue.push(&later).await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled, stats.running), (0, 20_000, 20_000));
    // Time passes at once: the scores are when each is due.
    let pass = "for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do \
                redis.call('ZADD', KEYS[1], 1, m) end";
    for set in ["lifecycle:{mail}:leases", "lifecycle:{mail}:scheduled"] {
        redis.cli(&["eval", pass, "1", set]).await;
    }
    assert_eq!(queue.stats().await.unwrap().ready, 40_000);

    let (mut count, mut slowest) = (0, Duration::ZERO);
    while count < 40_000 {
        let began = Instant::now();
        let jobs = queue.claim(most(100), Duration::ZERO).await.unwrap();
        slowest = slowest.max(began.elapsed());
        assert_eq!(jobs.len(), 100);
        assert!(all_done(&queue.ack(&receipts(&jobs)).await));
        count += jobs.len();
    }
    eprintln!("slowest claim of 100 among 40 000: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled, stats.running), (0, 0, 0));
    // Those whose lease ended were tried twice.
    assert_eq!((stats.done, stats.attempts), (40_000, 60_000));
}

#[tokio::test]
async fn payloads_of_all_kinds_come_as_they_went() {
    let (_redis, queue) = server_and_queue().await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let payloads = [every_byte, Vec::new(), vec![0xff, 0xfe, 0], b"\r\n$-1\r\n".to_vec()];
    let push = |payload: &Vec<u8>| {
        Push::new("sch\u{f6}n", payload.clone()).header("a\0b", "\u{20ac}\n").header("", "")
    };
    queue.push(&payloads.iter().map(push).collect::<Vec<_>>()).await.unwrap();
    let mut claimed = queue.claim(most(10), Duration::ZERO).await.unwrap();
    for (job, payload) in claimed.iter().zip(&payloads) {
        assert!(job.payload == payload, "{} bytes", payload.len());
        assert_eq!(&*job.kind, "sch\u{f6}n");
        let headers = [("a\0b", "\u{20ac}\n"), ("", "")].map(|(n, v)| (n.into(), v.into()));
        assert_eq!(job.headers, headers);
    }
    assert_eq!(claimed.len(), payloads.len());
    // Checkpoints are bytes too; none leaves the last one, an empty one replaces it.
    for (saved, kept) in [(Some(&payloads[0]), &payloads[0]), (None, &payloads[0])] {
        let checkpoint = saved.map(|bytes| bytes.clone().into());
        let job = claimed.remove(0).receipt;
        assert!(all_done(&queue.release(&[Release::started(job, checkpoint)]).await));
        claimed.insert(0, queue.claim(most(1), Duration::ZERO).await.unwrap().remove(0));
        assert!(claimed[0].checkpoint.as_deref() == Some(&kept[..]));
    }
    let mut failed = Fail::new(claimed.remove(0).receipt, "\u{fc}ber\n", Next::Dead);
    failed.checkpoint = Some("".into());
    assert!(all_done(&queue.fail(&[failed]).await));
    let dead = queue.dead(most(10)).await.unwrap().remove(0);
    assert!(dead.payload == payloads[0] && dead.error == "\u{fc}ber\n" && dead.attempts == 1);
}

#[tokio::test]
async fn megabytes_are_claimed_and_listed_in_parts() {
    let (_redis, queue) = server_and_queue().await;
    let queue = queue.call_bound(Duration::from_secs(60));
    let big: Vec<_> = (0..40).map(|at| Push::new("big", vec![at; 1 << 20])).collect();
    assert_eq!(queue.push(&big).await.unwrap().len(), 40);
    let mut claimed = Vec::new();
    while claimed.len() < 40 {
        let jobs = queue.claim(most(40), Duration::ZERO).await.unwrap();
        assert!((1..=16).contains(&jobs.len()), "{} MB in one answer", jobs.len());
        claimed.extend(jobs);
    }
    let fails = claimed.into_iter().map(|job| Fail::new(job.receipt, "too big", Next::Dead));
    assert!(all_done(&queue.fail(&fails.collect::<Vec<_>>()).await));
    let dead = queue.dead(most(30)).await.unwrap();
    let firsts: Vec<_> = dead.iter().map(|job| job.payload[0]).collect();
    assert_eq!(firsts, (10..40).rev().collect::<Vec<_>>());
}
