//! Two ends of a link, the frames between them, and a clock that only a command moves.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses its own part of this, and a command that cannot be read fails"
)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{ClusterId, NodeId, Time};
use holm_link::{
    CHANNEL, COMPRESSION, Choice, Config, Effect, Floor, Identity, Input, Layer, LayerId, Link,
    Member, PlaneRange,
};
use holm_machine::{Effects, Machine};
use holm_wire::Frame;

/// One end.
pub struct End {
    pub config: Config,
    pub certificate: Identity,
    pub exporter: [u8; 32],
    pub link: Option<Link>,
    pub inbox: VecDeque<Frame>,
}

pub struct Stage {
    pub now: Time,
    pub ends: BTreeMap<String, End>,
}

pub fn config(node: u64, site: &str) -> Config {
    let identity = Identity::new("demo", site, &format!("n{node}")).unwrap();
    let mut config = Config::new(ClusterId::new(7), NodeId::new(node), identity);
    config.nonce = [u8::try_from(node).unwrap(); 32];
    config.members = (1..=3)
        .map(|id| Member::new(NodeId::new(id), &format!("n{id}")))
        .collect();
    config.offer.planes = vec![plane(1, 1, 1)];
    config
}

pub const fn plane(plane: u8, lowest: u16, highest: u16) -> PlaneRange {
    PlaneRange {
        plane,
        lowest,
        highest,
    }
}

pub fn frame(kind: u8, plane: u8, version: u16, body: &str) -> Frame {
    Frame {
        kind,
        plane,
        version,
        group: 0,
        body: Bytes::from(body.to_owned()),
    }
}

impl Stage {
    /// Nodes 1 and 2, at sites a and b.
    pub fn new() -> Self {
        let end = |node, site: &str| {
            let config = config(node, site);
            let end = End {
                certificate: config.identity.clone(),
                config,
                exporter: [9; 32],
                link: None,
                inbox: VecDeque::new(),
            };
            (site.to_owned(), end)
        };
        Self {
            now: Time::ZERO,
            ends: BTreeMap::from([end(1, "a"), end(2, "b")]),
        }
    }

    fn end(&mut self, name: &str) -> &mut End {
        self.ends.get_mut(name).unwrap()
    }

    pub fn other(name: &str) -> &'static str {
        match name {
            "a" => "b",
            _ => "a",
        }
    }

    /// Lets something happen to one end; its frames go to the other's inbox.
    pub fn input(&mut self, name: &str, input: Input) -> Vec<Effect> {
        let now = self.now;
        let mut effects = Effects::new();
        let end = self.end(name);
        end.link.as_mut().unwrap().step(now, input, &mut effects);
        let effects: Vec<Effect> = effects.drain().collect();
        for effect in &effects {
            if let Effect::Send(frame) = effect {
                self.end(Self::other(name)).inbox.push_back(frame.clone());
            }
        }
        effects
    }

    pub fn open(&mut self, name: &str) -> Vec<Effect> {
        let certificate = self.end(Self::other(name)).certificate.clone();
        let end = self.end(name);
        end.link = Some(Link::new(end.config.clone()));
        let exporter = end.exporter;
        let certificate = Some(certificate);
        self.input(
            name,
            Input::Open {
                exporter,
                certificate,
            },
        )
    }

    /// Lets one frame arrive at `name`, if one waits.
    pub fn deliver(&mut self, name: &str) -> Option<Vec<Effect>> {
        let frame = self.end(name).inbox.pop_front()?;
        Some(self.input(name, Input::Frame(frame)))
    }

    /// Both open, and all frames arrive until none is left.
    pub fn meet(&mut self) -> Vec<(String, Effect)> {
        let mut all = Vec::new();
        for name in ["a", "b"] {
            let effects = self.open(name);
            all.extend(effects.into_iter().map(|it| (name.to_owned(), it)));
        }
        all.extend(self.settle());
        all
    }

    pub fn settle(&mut self) -> Vec<(String, Effect)> {
        let mut all = Vec::new();
        loop {
            let before = all.len();
            for name in ["a", "b"] {
                if let Some(effects) = self.deliver(name) {
                    all.extend(effects.into_iter().map(|it| (name.to_owned(), it)));
                }
            }
            let is_quiet = self.ends.values().all(|end| end.inbox.is_empty());
            if all.len() == before && is_quiet {
                return all;
            }
        }
    }

    /// Runs a line of a scenario.
    pub fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let effects = match words[..] {
            ["set", name, ref what @ ..] => {
                set(self.end(name), what);
                Vec::new()
            }
            ["open", name] => named(name, self.open(name)),
            ["meet"] => self.meet(),
            ["deliver", name] => named(name, self.deliver(name).unwrap()),
            ["settle"] => self.settle(),
            ["lose", name] => {
                self.end(name).inbox.clear();
                Vec::new()
            }
            ["say", name, kind, plane, version] => {
                let kind = kind.parse().unwrap();
                let (plane, version) = (plane.parse().unwrap(), version.parse().unwrap());
                let inbox = &mut self.end(Self::other(name)).inbox;
                inbox.push_back(frame(kind, plane, version, "words"));
                Vec::new()
            }
            ["fence", name, boot] => {
                let boot = boot.parse().unwrap();
                named(name, self.input(name, Input::Fence { boot }))
            }
            ["drain", name] => named(name, self.input(name, Input::Drain)),
            ["renew", name] => named(name, self.input(name, Input::Renew)),
            ["heard", name] => named(name, self.input(name, Input::Heard)),
            ["pass", ms] => {
                self.now = self.now + Duration::from_millis(ms.parse().unwrap());
                Vec::new()
            }
            ["wake", name] => named(name, self.input(name, Input::Wake)),
            _ => panic!("no such command: {line}"),
        };
        told(&effects)
    }
}

fn named(name: &str, effects: Vec<Effect>) -> Vec<(String, Effect)> {
    let name = |it| (name.to_owned(), it);
    effects.into_iter().map(name).collect()
}

fn told(effects: &[(String, Effect)]) -> String {
    let mut out = String::new();
    for (name, effect) in effects {
        let words = match effect {
            Effect::Send(frame) if frame.plane == 0 => {
                let kinds = [
                    "?", "Hello", "Bind", "Ping", "Pong", "Close", "Mark", "Renew",
                ];
                format!("sends {}", kinds[usize::from(frame.kind)])
            }
            Effect::Send(frame) => format!("sends plane {} kind {}", frame.plane, frame.kind),
            Effect::Bind(binding) => {
                let chosen = binding.chosen.iter();
                let chosen: Vec<String> = chosen
                    .map(|it| format!("{}:{}", it.layer.value(), it.choice))
                    .collect();
                format!(
                    "bound to node {} boot {} as {}, layers [{}], planes {:?}",
                    binding.node,
                    binding.boot,
                    binding.identity,
                    chosen.join(" "),
                    binding.planes
                )
            }
            Effect::Deliver(frame) => format!("delivers plane {} kind {}", frame.plane, frame.kind),
            Effect::Renew => "is asked to renew".to_owned(),
            Effect::Close(reason) => format!("ends: {reason}"),
            Effect::Note(event) => format!("notes {event:?}"),
        };
        writeln!(out, "  {name} {words}").unwrap();
    }
    out
}

fn set(end: &mut End, what: &[&str]) {
    let config = &mut end.config;
    match what {
        ["node", id] => config.node = NodeId::new(id.parse().unwrap()),
        ["boot", boot] => config.boot = boot.parse().unwrap(),
        ["cluster", id] => config.cluster = ClusterId::new(id.parse().unwrap()),
        ["certificate", text] => end.certificate = text.parse().unwrap(),
        ["exporter", byte] => end.exporter = [byte.parse().unwrap(); 32],
        ["expects", id] => config.expected = Some(NodeId::new(id.parse().unwrap())),
        ["seen", id, boot] => {
            let id = NodeId::new(id.parse().unwrap());
            let member = config.members.iter_mut().find(|it| it.node == id).unwrap();
            member.boot_seen = boot.parse().unwrap();
        }
        ["ran", id, byte] => {
            let id = NodeId::new(id.parse().unwrap());
            let member = config.members.iter_mut().find(|it| it.node == id).unwrap();
            member.run_seen = Some([byte.parse().unwrap(); 16]);
        }
        ["unnamed", id] => {
            let id = NodeId::new(id.parse().unwrap());
            let member = config.members.iter_mut().find(|it| it.node == id).unwrap();
            member.name.clear();
        }
        ["plane", id, lowest, highest] => {
            let id = id.parse().unwrap();
            let range = plane(id, lowest.parse().unwrap(), highest.parse().unwrap());
            config.offer.planes.retain(|it| it.plane != id);
            config.offer.planes.push(range);
            config.offer.planes.sort();
        }
        ["layer", name, rest @ ..] => {
            let is_required = rest.first() == Some(&"required");
            let choices = rest.iter().filter_map(|it| it.split_once('='));
            let choice =
                |(id, rank): (&str, &str)| Choice::new(id.parse().unwrap(), rank.parse().unwrap());
            config.offer.layers.push(Layer {
                id: layer(name),
                is_required,
                choices: choices.map(choice).collect(),
            });
            config.offer.layers.sort_by_key(|it| it.id);
        }
        ["floor", name, rank] => config.floors.push(Floor {
            layer: layer(name),
            rank_min: rank.parse().unwrap(),
        }),
        other => panic!("nothing to set: {other:?}"),
    }
}

fn layer(name: &str) -> LayerId {
    match name {
        "channel" => CHANNEL,
        "compression" => COMPRESSION,
        number => LayerId::new(number.parse().unwrap()),
    }
}
