use super::*;

const LARGE: u64 = SMALL_BYTES + 1;

fn queue(transfers: usize) -> (Queue<u32>, Instant) {
    let rules = Rules {
        delay: Duration::from_secs(1),
        transfers,
    };
    (Queue::new(rules), Instant::now())
}

fn after(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

#[test]
fn many_saves_within_the_delay_are_one_upload() {
    let (mut queue, start) = queue(8);
    for save in 0..10 {
        queue.staged(1, 10, after(start, save * 100));
    }
    assert_eq!(queue.next(after(start, 1800)), None);
    assert_eq!(queue.next_due(start), Some(after(start, 1900)));
    assert_eq!(queue.next(after(start, 1900)), Some(1));
    assert_eq!(queue.next(after(start, 9000)), None);
}

#[test]
fn a_file_that_is_saved_without_end_is_uploaded_now_and_then() {
    let (mut queue, start) = queue(8);
    let begun = (0..100)
        .map(|half| after(start, half * 500))
        .find(|now| {
            queue.staged(1, 10, *now);
            queue.next(*now).is_some()
        })
        .expect("begins at last");
    assert_eq!(begun, after(start, 30_000));
}

#[test]
fn what_failed_under_one_name_is_due_under_another() {
    let (mut queue, start) = queue(8);
    queue.owed(1, 10, start);
    assert_eq!(queue.next(start), Some(1));
    queue.failed(1, Fault::Blocked, start, 0.5);
    assert_eq!(queue.next(after(start, 5000)), None);
    queue.hold(1, after(start, 5000));
    queue.moved(1, after(start, 5000));
    assert_eq!(queue.next(after(start, 5000)), None, "still held");
    queue.release(1, true);
    assert_eq!(queue.next(after(start, 5000)), Some(1));
}

#[test]
fn the_oldest_goes_first_and_no_more_than_allowed_at_once() {
    let (mut queue, start) = queue(2);
    for id in [3, 1, 2] {
        queue.staged(id, 10, after(start, u64::from(id)));
    }
    let now = after(start, 5000);
    assert_eq!(queue.next(now), Some(1));
    assert_eq!(queue.next(now), Some(2));
    assert_eq!(queue.next(now), None);
    queue.sent(1);
    assert_eq!(queue.next(now), Some(3), "who lands takes no place");
}

#[test]
fn all_that_were_sent_together_are_looked_for_while_the_next_ones_go() {
    let (mut queue, start) = queue(2);
    for id in 0..100 {
        queue.owed(id, 10, start);
    }
    let mut gone = 0;
    while let Some(id) = queue.next(start) {
        queue.sent(id);
        gone += 1;
    }
    assert_eq!(gone, 2 * LANDING, "and no more than that");
    queue.delivered(0, true, start);
    assert!(queue.next(start).is_some());
}

#[test]
fn one_place_is_kept_for_small_files() {
    let (mut queue, start) = queue(3);
    for id in 0..5 {
        queue.owed(id, LARGE, start);
    }
    assert!(queue.next(start).is_some());
    assert!(queue.next(start).is_some());
    assert_eq!(queue.next(start), None);
    queue.owed(9, SMALL_BYTES, after(start, 1));
    assert_eq!(queue.next(after(start, 1)), Some(9));
}

#[test]
fn with_one_place_large_files_go_too() {
    let (mut queue, start) = queue(1);
    queue.owed(1, LARGE, start);
    assert_eq!(queue.next(start), Some(1));
}

#[test]
fn a_failure_delays_its_own_file_longer_each_time() {
    let (mut queue, start) = queue(8);
    queue.owed(1, 10, start);
    let mut now = start;
    for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        assert_eq!(queue.next(now), Some(1));
        queue.failed(1, Fault::File, now, 1.0);
        let due = queue.next_due(now).expect("tried again");
        assert_eq!((due - now).as_secs(), expected);
        now = due;
    }
    queue.failed(1, Fault::File, now, 0.0);
    assert_eq!((queue.next_due(now).expect("again") - now).as_secs(), 150);
}

#[test]
fn a_failing_file_does_not_stop_the_others() {
    let (mut queue, start) = queue(1);
    queue.owed(1, 10, start);
    queue.owed(2, 10, after(start, 1));
    let now = after(start, 10);
    assert_eq!(queue.next(now), Some(1));
    queue.failed(1, Fault::Blocked, now, 0.5);
    assert_eq!(queue.next(now), Some(2));
    assert_eq!(queue.stage(1).expect("owed").0, Stage::Blocked);
}

#[test]
fn a_server_that_fails_one_file_after_the_other_is_asked_by_one_alone() {
    let (mut queue, start) = queue(4);
    for id in 0..10 {
        queue.owed(id, 10, start);
    }
    let up: Vec<u32> = std::iter::from_fn(|| queue.next(start)).collect();
    assert_eq!(up.len(), 4);
    for id in &up {
        queue.failed(*id, Fault::Server, start, 1.0);
    }
    assert_eq!(queue.next(start), None);
    let probe = queue.next_due(start).expect("a probe");
    let first = queue.next(probe).expect("one");
    assert!(!up.contains(&first), "another one than those that failed");
    assert_eq!(queue.next(probe), None);
    queue.failed(first, Fault::Server, probe, 1.0);
    let later = queue.next_due(probe).expect("another probe");
    assert!(later - probe > probe - start, "and less and less often");
    let second = queue.next(later).expect("one");
    queue.delivered(second, true, later);
    assert_eq!(std::iter::from_fn(|| queue.next(later)).count(), 4);
}

#[test]
fn one_file_that_the_server_chokes_on_is_no_sign_that_it_is_ill() {
    let (mut queue, start) = queue(4);
    queue.owed(1, 10, start);
    queue.owed(2, 10, start);
    queue.owed(3, 10, start);
    let mut now = start;
    for _ in 0..3 {
        while queue.next(now) != Some(1) {
            now += Duration::from_secs(1);
        }
        queue.failed(1, Fault::Server, now, 1.0);
    }
    queue.owed(4, 10, now);
    queue.delivered(2, true, now);
    assert!(queue.next(now).is_some());
}

#[test]
fn a_sign_of_life_makes_all_that_failed_due() {
    let (mut queue, start) = queue(4);
    for id in 0..4 {
        queue.owed(id, 10, start);
        queue.next(start);
    }
    for id in 0..3 {
        queue.failed(id, Fault::Server, start, 1.0);
    }
    queue.failed(3, Fault::Blocked, start, 1.0);
    queue.wake(start);
    assert_eq!(std::iter::from_fn(|| queue.next(start)).count(), 4);
}

#[test]
fn who_is_waited_for_goes_first_and_also_where_the_server_is_left_alone() {
    let (mut queue, start) = queue(1);
    for id in 0..4 {
        queue.owed(id, 10, start);
    }
    assert!(queue.urge(2, start));
    assert_eq!(queue.next(start), Some(2));
    queue.failed(2, Fault::Server, start, 1.0);
    assert_eq!(queue.next(start), Some(0));
    queue.failed(0, Fault::Server, start, 1.0);
    assert_eq!(queue.next(start), None);
    queue.urge(2, start);
    assert_eq!(queue.next(start), Some(2));
    assert!(!queue.urge(77, start));
}

#[test]
fn what_is_staged_while_it_flies_flies_again_after_the_delay() {
    let (mut queue, start) = queue(4);
    queue.owed(1, 10, start);
    assert_eq!(queue.next(start), Some(1));
    assert!(queue.staged(1, 20, after(start, 100)));
    queue.overtaken(1, true, after(start, 200));
    assert_eq!(queue.next(after(start, 1000)), None);
    assert_eq!(queue.next(after(start, 1100)), Some(1));
    queue.delivered(1, true, after(start, 1200));
    assert_eq!(queue.stage(1), None);
}

#[test]
fn what_is_held_stays_on_the_ground_until_all_have_let_go() {
    let (mut queue, start) = queue(4);
    queue.owed(1, 10, start);
    assert!(!queue.hold(1, start));
    assert!(!queue.hold(1, start));
    assert_eq!(queue.next(start), None);
    queue.release(1, true);
    assert_eq!(queue.next(start), None);
    queue.release(1, true);
    assert_eq!(queue.next(start), Some(1));
    assert!(queue.hold(1, start), "it flies, and is to be stopped");
    queue.overtaken(1, true, start);
    assert_eq!(queue.next(start), None);
    queue.release(1, false);
    assert_eq!(queue.stage(1), None);
}

#[test]
fn nothing_begins_after_the_end() {
    let (mut queue, start) = queue(4);
    queue.owed(1, 10, start);
    queue.close();
    assert_eq!(queue.next(start), None);
}
