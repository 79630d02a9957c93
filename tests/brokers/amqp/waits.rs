//! What is published to a broker that refuses it, is gone, or is short of memory: no message
//! waits for another one's answer.

use std::time::Duration;

use lifecycle_worker::{AmqpQueue, Fail, Next, Push, Queue, QueueError, Settled};
use tests::brokers::{PrivateRabbit, Proxy};
use tokio::time::Instant;

use super::{all_done, jobs, receipts, work_off};
use crate::held::held_within;

/// Longer than anything takes here, `rabbitmqctl` on a busy machine included.
const LONG: Duration = Duration::from_secs(60);

/// As many as are settled at one time.
const MANY: usize = 500;

/// One broker for all of them, since it is long in starting; one by one, since they count its
/// channels, and a lack of memory is everybody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_waits_for_another() {
    let broker = PrivateRabbit::start().await;
    large_ones_to_nowhere(&broker).await;
    some_not_permitted(&broker).await;
    a_push_given_up(&broker).await;
    while_memory_is_short(&broker).await;
}

async fn connected(broker: &PrivateRabbit, name: &str) -> AmqpQueue {
    AmqpQueue::connect(&broker.url(), name).await.unwrap().classic().call_bound(LONG)
}

/// How many channels the broker has opened so far.
async fn channels(broker: &PrivateRabbit) -> u64 {
    let count = "element(4, hd(ets:lookup(connection_churn_metrics, node()))).";
    broker.ctl(&["eval", count]).await.parse().unwrap()
}

/// Messages of a size that the broker has not taken before, and that nothing takes now.
async fn large_ones_to_nowhere(broker: &PrivateRabbit) {
    let queue = connected(broker, "nowhere").await;
    let pushes = vec![Push::new("large", vec![b'x'; 70 << 10]); 60];
    let before = channels(broker).await;
    let error = queue.push(&pushes).await.unwrap_err();
    assert!(matches!(error, QueueError::NotPrepared { .. }), "{error:?}");
    let opened = channels(broker).await - before;
    assert!(opened < 20, "{opened} channels: they went one by one");
}

/// Copies to an exchange that is not for this user, among others: so many and large that the client
/// has most of them still to send when the broker ends their channel.
async fn some_not_permitted(broker: &PrivateRabbit) {
    let owner = connected(broker, "denied").await;
    owner.prepare().await.unwrap();
    let large = Push::new("mail", vec![b'x'; 60 << 10]);
    owner.push(&vec![large.clone(); MANY - 1]).await.unwrap();
    broker.ctl(&["add_user", "ada", "x"]).await;
    broker.ctl(&["set_permissions", "ada", "^$", r"^amq\.default$", "^denied.*"]).await;
    let proxy = Proxy::start(broker.port()).await;
    let ada = format!("amqp://ada:x@127.0.0.1:{}", proxy.port());
    let ada = AmqpQueue::connect(&ada, "denied").await.unwrap().classic().call_bound(LONG);
    ada.push(&[large]).await.unwrap();
    let held = held_within(&ada, MANY, LONG).await;
    let delay = |at| Duration::from_secs(if at % 2 == 0 { 3600 } else { 0 });
    let fails = held.iter().enumerate().map(|(at, job)| {
        let next = Next::Retry(delay(at));
        Fail::new(job.receipt.clone(), "no", next)
    });
    let before = channels(broker).await;
    let fails: Vec<_> = fails.collect();
    proxy.freeze();
    let failing = tokio::spawn(async move { ada.fail(&fails).await });
    // Sleeps: nothing tells what the client has queued.
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.thaw();
    let settled = failing.await.unwrap();
    for (at, settled) in settled.iter().enumerate() {
        let denied = matches!(settled, Settled::Retry(QueueError::Denied(_)));
        assert_eq!((settled.is_done(), denied), (at % 2 == 1, at % 2 == 0), "{at}: {settled:?}");
    }
    let opened = channels(broker).await - before;
    assert!(opened < 20, "{opened} channels: they went one by one");
}

/// Nobody waits for it any more: what was sent is there, and nothing else comes.
async fn a_push_given_up(broker: &PrivateRabbit) {
    let proxy = Proxy::start(broker.port()).await;
    let url = format!("amqp://guest:guest@127.0.0.1:{}", proxy.port());
    let queue = AmqpQueue::connect(&url, "late").await.unwrap().classic().call_bound(LONG);
    queue.prepare().await.unwrap();
    queue.push(&jobs(1)).await.unwrap();
    proxy.freeze();
    let impatient = queue.clone().call_bound(Duration::from_secs(2));
    let error = impatient.push(&jobs(1500)).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    proxy.thaw();
    let first = held_within(&queue, 2, LONG).await;
    assert!(all_done(&queue.ack(&receipts(&first)).await));
    let all = first.len() + work_off(&queue).await;
    assert!(all < 1501, "the push went on to its end");
}

/// Has whoever keeps the dead letters stop, or go on: until then nothing there is confirmed.
async fn dead_letters(broker: &PrivateRabbit, what: &str) {
    let name = r#"rabbit_misc:r(<<"/">>, queue, <<"short.dead">>)"#;
    let queue = format!("{{ok, Queue}} = rabbit_amqqueue:lookup({name})");
    broker.ctl(&["eval", &format!("{queue}, sys:{what}(amqqueue:get_pid(Queue)).")]).await;
}

/// Asks until one of those lines is that word.
async fn is_listed(broker: &PrivateRabbit, list: &[&str], word: &str) {
    let limit = Instant::now() + LONG;
    // Each turn is a second or so of `rabbitmqctl`.
    while !broker.ctl(list).await.lines().any(|line| line.trim() == word) {
        assert!(Instant::now() < limit, "never {word} in {list:?}");
    }
}

/// A copy is confirmed when the client may send no more: its job is acknowledged.
async fn while_memory_is_short(broker: &PrivateRabbit) {
    let queue = connected(broker, "short").await;
    queue.prepare().await.unwrap();
    queue.push(&jobs(1)).await.unwrap();
    let job = held_within(&queue, 1, LONG).await.remove(0);
    dead_letters(broker, "suspend").await;
    let failing = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.fail(&[Fail::new(job.receipt, "no", Next::Dead)]).await })
    };
    is_listed(broker, &["list_channels", "messages_unconfirmed"], "1").await;

    broker.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    let push = || {
        let queue = queue.clone();
        tokio::spawn(async move { queue.push(&jobs(1)).await })
    };
    // The broker blocks those that publish, when they do. The second one is not sent.
    let first = push();
    is_listed(broker, &["list_connections", "state"], "blocked").await;
    let second = push();
    dead_letters(broker, "resume").await;
    let settled = failing.await.unwrap();
    assert!(all_done(&settled), "{settled:?}");

    broker.ctl(&["set_vm_memory_high_watermark", "0.9"]).await;
    for push in [first, second] {
        push.await.unwrap().unwrap();
    }
    assert_eq!(work_off(&queue).await, 2);
}
