//! Rules that hold over many ends: hostile greetings, symmetric choices, kept bytes.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod stage;

use bytes::Bytes;
use holm_base::{ClusterId, NodeId};
use holm_link::{
    Choice, Effect, Hello, HelloError, Input, JoinToken, Layer, LayerId, Link, Offer, Reason,
};
use holm_machine::{Effects, Machine};
use stage::{Stage, frame, plane};

fn hello() -> Hello {
    Hello {
        cluster: ClusterId::new(0x0102_0304_0506_0708),
        node: NodeId::new(2),
        boot: 3,
        nonce: [4; 32],
        policy: [5; 32],
        offer: Offer {
            planes: vec![plane(1, 1, 2), plane(3, 7, 7)],
            layers: vec![
                Layer {
                    id: LayerId::new(1),
                    is_required: true,
                    choices: vec![Choice::new(1, 9)],
                },
                Layer {
                    id: LayerId::new(2),
                    is_required: false,
                    choices: vec![Choice::new(1, 1), Choice::new(2, 200)],
                },
            ],
        },
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

#[test]
fn the_greeting_of_version_1_is_read_and_written() {
    let kept = hex(include_str!("compat/hello-1.hex"));
    assert_eq!(Hello::decode(&kept), Ok(hello()));
    assert_eq!(&hello().encode()[..], kept);
}

#[test]
fn a_later_version_may_append_and_an_early_end_is_refused() {
    let kept = hello().encode().to_vec();
    let mut later = kept.clone();
    later.extend_from_slice(b"more");
    let named = u16::try_from(later.len()).unwrap().to_le_bytes();
    later[10..12].copy_from_slice(&named);
    assert!(matches!(
        Hello::decode(&later),
        Err(HelloError::Length { .. })
    ));
    later[8] = 2;
    assert_eq!(Hello::decode(&later), Ok(hello()));
    for end in 0..kept.len() {
        assert!(Hello::decode(&kept[..end]).is_err(), "{end}");
    }
    assert_eq!(Hello::decode(b"GET / HT"), Err(HelloError::Magic));
}

#[test]
fn ids_must_rise_and_counts_have_limits() {
    let mut twice = hello();
    twice.offer.planes = vec![plane(1, 1, 1), plane(1, 2, 2)];
    let order = |what| Err(HelloError::Order { what });
    assert_eq!(Hello::decode(&twice.encode()), order("planes"));
    let mut empty = hello();
    empty.offer.planes = vec![plane(1, 2, 1)];
    assert_eq!(Hello::decode(&empty.encode()), order("planes"));
    let mut layers = hello();
    layers.offer.layers.reverse();
    assert_eq!(Hello::decode(&layers.encode()), order("layers"));
    let mut choices = hello();
    choices.offer.layers[1].choices.reverse();
    assert_eq!(Hello::decode(&choices.encode()), order("choices"));
    let mut many = hello().encode().to_vec();
    many[100] = 33;
    let refused = HelloError::TooMany {
        what: "planes",
        count: 33,
        max: 32,
    };
    assert_eq!(Hello::decode(&many), Err(refused));
}

#[test]
fn random_greetings_never_panic_and_random_changes_never_bind() {
    arbtest::arbtest(|u| {
        let mut stage = Stage::new();
        stage.open("a");
        stage.open("b");
        let end = stage.ends.get_mut("b").unwrap();
        let mut greeting = end.inbox.pop_front().unwrap();
        let mut bytes = greeting.body.to_vec();
        for _ in 0..u.int_in_range(1..=4)? {
            let at = u.choose_index(bytes.len())?;
            bytes[at] = u.arbitrary()?;
        }
        let is_changed = bytes != greeting.body;
        greeting.body = Bytes::from(bytes);
        end.inbox.push_back(greeting);
        let effects = stage.settle();
        let is_bound = effects
            .iter()
            .any(|(_, effect)| matches!(effect, Effect::Bind(_)));
        assert!(!(is_changed && is_bound), "a changed greeting went unseen");
        Ok(())
    });
}

#[test]
fn random_offers_give_both_ends_one_choice_or_one_refusal() {
    arbtest::arbtest(|u| {
        let mut stage = Stage::new();
        for name in ["a", "b"] {
            let mut layers = Vec::new();
            for id in 1..=4 {
                if !u.arbitrary()? {
                    continue;
                }
                let mut choices = Vec::new();
                for choice in 1..=4 {
                    if u.arbitrary()? {
                        choices.push(Choice::new(choice, u.int_in_range(0..=3)?));
                    }
                }
                layers.push(Layer {
                    id: LayerId::new(id),
                    is_required: u.ratio(1, 8)?,
                    choices,
                });
            }
            stage.ends.get_mut(name).unwrap().config.offer.layers = layers;
        }
        let (mut bound, mut refused) = (Vec::new(), 0);
        for (_, effect) in stage.meet() {
            match effect {
                Effect::Bind(binding) => bound.push(binding.chosen),
                Effect::Close(Reason::Layer { .. }) => refused += 1,
                Effect::Close(reason) => assert!(matches!(reason, Reason::Told { .. }), "{reason}"),
                _ => {}
            }
        }
        match &bound[..] {
            [] => assert!(refused > 0, "they end for no reason"),
            [one, other] => assert_eq!(one, other, "I32"),
            _ => panic!("one end is bound and the other is not"),
        }
        Ok(())
    });
}

#[test]
fn random_inputs_never_panic_and_nothing_follows_a_close() {
    arbtest::arbtest(|u| {
        let mut stage = Stage::new();
        stage.open("a");
        stage.open("b");
        if u.arbitrary()? {
            stage.settle();
        }
        let mut link: Link = stage.ends.remove("a").unwrap().link.unwrap();
        let (mut is_closed, mut effects) = (false, Effects::new());
        for _ in 0..u.int_in_range(1..=20)? {
            let input = match u.int_in_range(0..=5)? {
                0 => Input::Wake,
                1 => Input::Heard,
                2 => Input::Fence {
                    boot: u.arbitrary()?,
                },
                3 => Input::Drain,
                4 => Input::Renew,
                _ => {
                    let (kind, plane) = (u.int_in_range(0..=20)?, u.int_in_range(0..=2)?);
                    Input::Frame(frame(kind, plane, u.int_in_range(0..=2)?, "body"))
                }
            };
            link.step(stage.now, input, &mut effects);
            assert!(!is_closed || effects.is_empty(), "{:?}", effects.as_slice());
            is_closed |= effects.drain().any(|it| matches!(it, Effect::Close(_)));
        }
        Ok(())
    });
}

#[test]
fn random_texts_are_no_tokens_and_never_panic() {
    arbtest::arbtest(|u| {
        let letters = b"ABCabc019-_=.";
        let mut text = "holm-join-v1.".to_owned();
        for _ in 0..u.int_in_range(0..=200)? {
            text.push(char::from(*u.choose(letters)?));
        }
        assert!(text.parse::<JoinToken>().is_err(), "{text}");
        Ok(())
    });
}

#[test]
fn a_link_without_an_identity_is_refused() {
    let mut link = Link::new(stage::config(1, "a"));
    let mut effects = Effects::new();
    let open = Input::Open {
        exporter: [0; 32],
        certificate: None,
    };
    link.step(holm_base::Time::ZERO, open, &mut effects);
    let last = effects.drain().last();
    assert_eq!(last, Some(Effect::Close(Reason::NoIdentity)));
    assert_eq!(link.wake_at(), None);
}
