//! Runs that are recorded replay to the same effects, and a difference is found where it lies.

mod support;

use bytes::{Bytes, BytesMut};
use holm_base::{NodeId, RequestId, Term, Time, WriteId};
use holm_machine::{Effects, Machine};
use holm_raft::{
    Body, Config, Configuration, Effect, Ended, Ending, Input, Message, Payload, Position, Raft,
    Recorder, RecordingError, Restored, replay,
};
use support::id;

/// What a node alone among three is told: it never wins, and then follows.
fn story() -> Vec<(u64, Vec<Input>)> {
    let from = id(2);
    let heartbeat = |round| Input::Message {
        from,
        message: Message {
            term: Term::new(5),
            body: Body::Heartbeat {
                round,
                commit: holm_base::Op::ZERO,
                stamp: Time::ZERO,
            },
        },
    };
    let append = Input::Message {
        from,
        message: Message {
            term: Term::new(5),
            body: Body::Append {
                previous: Position::ZERO,
                commit: holm_base::Op::new(1),
                entries: vec![holm_raft::Entry {
                    op: holm_base::Op::new(1),
                    term: Term::new(5),
                    payload: Payload::Blank,
                }],
            },
        },
    };
    let request = |number| Input::Request {
        request: RequestId::new(number),
        body: Bytes::from(format!("put {number}")),
    };
    let read = Input::Read {
        request: RequestId::new(9),
    };
    let through = WriteId::new(2);
    vec![
        (10, vec![request(1), request(2)]),
        (2_500, vec![Input::Wake]),
        (2_510, vec![heartbeat(1), append]),
        (2_515, vec![Input::Durable { through }]),
        (2_520, vec![read, request(3), heartbeat(2)]),
        (2_600, vec![Input::Suspect { peer: from }]),
        (3_650, vec![Input::Wake]),
        (
            3_700,
            vec![Input::Suspect {
                peer: NodeId::new(9),
            }],
        ),
    ]
}

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

/// The recording, frame by frame: the beginning, one a step, the end.
fn record(config: &Config) -> Vec<Bytes> {
    let restored = Restored::fresh(Configuration::new((1..=3).map(id)));
    let mut recorder = Recorder::default();
    let mut frames = vec![recorder.start(config, &restored)];
    let mut raft = Raft::restore(config.clone(), restored, Time::ZERO);
    for (millis, inputs) in story() {
        let mut effects: Effects<Effect> = Effects::new();
        recorder.before(at(millis), &inputs);
        raft.step_batch(at(millis), inputs, &mut effects);
        frames.push(recorder.after(effects.as_slice()));
    }
    assert!(raft.wake_at().is_some());
    frames.push(recorder.end(Ended::Stopped));
    frames
}

fn joined(frames: &[Bytes]) -> Bytes {
    let mut all = BytesMut::new();
    for frame in frames {
        all.extend_from_slice(frame);
    }
    all.freeze()
}

fn config() -> Config {
    Config::new(id(1), 4)
}

#[test]
fn a_recording_replays_to_the_same_effects() {
    let replayed = replay(&joined(&record(&config()))).expect("it is sound");
    assert_eq!(replayed.differs, None);
    assert_eq!((replayed.node, replayed.boot), (id(1), 4));
    assert_eq!((replayed.steps, replayed.inputs), (8, 12));
    assert_eq!(replayed.until, at(3_700));
    assert_eq!(replayed.ending, Ending::Said(Ended::Stopped));
}

#[test]
fn a_difference_is_named_by_its_first_step() {
    // Another seed draws another election timeout: the first that shows is the wake's.
    let mut frames = record(&config());
    let other = Config {
        seed: 77,
        ..config()
    };
    frames[0] = record(&other).remove(0);
    let replayed = replay(&joined(&frames)).expect("it is sound");
    assert_eq!(replayed.differs, None, "no effect depends on it here");
    // A step that was recorded by a build which wanted something else: planted by hand.
    let mut frames = record(&config());
    let mut recorder = Recorder::default();
    let (millis, inputs) = story().remove(2);
    recorder.before(at(millis), &inputs);
    frames[3] = recorder.after(&[]);
    let replayed = replay(&joined(&frames)).expect("it is sound");
    let difference = replayed.differs.expect("it was planted");
    assert_eq!((difference.step, replayed.steps), (3, 2));
    assert_eq!(difference.now, at(2_510));
    assert!(difference.inputs[1].contains("Append"), "{difference:?}");
    assert!(!difference.effects.is_empty());
}

#[test]
fn what_was_forgotten_shows_too() {
    let mut frames = record(&config());
    frames.remove(3);
    let replayed = replay(&joined(&frames)).expect("each frame is sound");
    assert_eq!(replayed.differs.map(|it| it.step), Some(3));
}

#[test]
fn a_torn_end_is_no_damage_and_damage_is_no_torn_end() {
    let frames = record(&config());
    let whole = joined(&frames);
    let start = frames[0].len();
    for bytes in start..whole.len() {
        let replayed = replay(&whole.slice(..bytes)).expect("a prefix is sound");
        assert_eq!((replayed.differs, replayed.ending), (None, Ending::Torn));
    }
    for bytes in 0..start {
        assert!(replay(&whole.slice(..bytes)).is_err(), "{bytes} bytes");
    }
    let last = whole.len() - frames.last().expect("there is an end").len();
    for at in start..last {
        let mut spoiled = BytesMut::from(&whole[..]);
        spoiled[at] ^= 1;
        let found = replay(&spoiled.freeze());
        // A length that was spoiled may make all behind it look torn; nothing is ever equal.
        let is_caught = match found {
            Err(RecordingError::Damaged { .. }) => true,
            Ok(replayed) => replayed.ending == Ending::Torn,
            Err(_) => false,
        };
        assert!(is_caught, "byte {at}");
    }
}

#[test]
fn other_files_and_releases_are_refused() {
    let text = Bytes::from_static(b"HOLMTAPE and much more that is none of it");
    assert_eq!(replay(&text), Err(RecordingError::Foreign));
    let mut other = BytesMut::from(&joined(&record(&config()))[..]);
    other[8] = 9;
    let version = RecordingError::Version { version: 9 };
    assert_eq!(replay(&other.freeze()), Err(version));
}
