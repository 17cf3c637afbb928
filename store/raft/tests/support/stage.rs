//! A stage for scenarios: nothing moves unless a command says so.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Time};
use holm_machine::Machine;
use holm_raft::{
    Body, Change, Config, Configuration, Entry, Input, Message, Operation, Payload, ReadMode,
    Restored,
};

use super::{Host, Out, id};

/// Hosts, the messages between them, and the clock.
pub struct Stage {
    pub now: Time,
    pub hosts: BTreeMap<NodeId, Host>,
    pub mail: Vec<(NodeId, NodeId, Message)>,
    next: u64,
    said: String,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            now: Time::ZERO,
            hosts: BTreeMap::new(),
            mail: Vec::new(),
            next: 0,
            said: String::new(),
        }
    }

    /// A group of `voters`, and `spares` that belong to nothing yet.
    pub fn group(voters: u64, spares: u64, tune: impl Fn(&mut Config)) -> Self {
        let mut stage = Self::new();
        for node in 1..=voters + spares {
            let known = if node <= voters { voters } else { 0 };
            let mut config = Config::new(id(node), 1);
            tune(&mut config);
            let restored = Restored::fresh(Configuration::new((1..=known).map(id)));
            let host = Host::new(config, restored, Time::ZERO);
            stage.hosts.insert(id(node), host);
        }
        stage
    }

    /// Lets node 1 win the first election, and everything settle.
    pub fn elect(&mut self, node: u64) {
        let at = self.now + Duration::from_secs(2);
        self.now = at;
        self.input(id(node), Input::Wake);
        self.settle();
        self.said.clear();
    }

    pub fn input(&mut self, node: NodeId, input: Input) -> Vec<Out> {
        let now = self.now;
        let out = self
            .hosts
            .get_mut(&node)
            .expect("it exists")
            .step(now, input);
        self.note(node, &out);
        out
    }

    pub fn request(&mut self, node: u64, body: &str) -> RequestId {
        self.next += 1;
        let request = RequestId::new(self.next);
        let body = Bytes::from(body.to_owned());
        self.input(id(node), Input::Request { request, body });
        request
    }

    pub fn read(&mut self, node: u64) -> RequestId {
        self.next += 1;
        let request = RequestId::new(self.next);
        self.input(id(node), Input::Read { request });
        request
    }

    pub fn operate(&mut self, node: u64, operation: Operation) -> RequestId {
        self.next += 1;
        let request = RequestId::new(self.next);
        self.input(id(node), Input::Operate { request, operation });
        request
    }

    fn note(&mut self, node: NodeId, out: &[Out]) {
        for out in out {
            let line = match out {
                Out::Sent(to, message) => {
                    self.mail.push((node, *to, message.clone()));
                    continue;
                }
                Out::Writing => continue,
                Out::Applied { op, body, request } => {
                    let body = String::from_utf8_lossy(body);
                    let whose =
                        request.map_or(String::new(), |id| format!(", answers request {id}"));
                    format!("applied {op} {body}{whose}")
                }
                Out::Advanced { op, because } => format!("advanced {op}: {}", short(because)),
                Out::Read {
                    request, applied, ..
                } => format!("read {request} at {applied}"),
                Out::Refused(request, why) => format!("refused {request}: {}", short(why)),
                Out::Done(request, outcome) => format!("done {request}: {}", short(outcome)),
                Out::Noted(event) => short(event),
            };
            writeln!(self.said, "  n{node} {line}").expect("a string takes all");
        }
    }

    /// What was said since the last call.
    pub fn said(&mut self) -> String {
        std::mem::take(&mut self.said)
    }

    pub fn sync(&mut self, node: NodeId, count: usize) {
        let now = self.now;
        let out = self
            .hosts
            .get_mut(&node)
            .expect("it exists")
            .sync(now, count);
        self.note(node, &out);
    }

    /// Takes the first message on a way, of a kind if one is named.
    pub fn take(&mut self, from: NodeId, to: NodeId, kind: Option<&str>) -> Option<Message> {
        let at = self.mail.iter().position(|(source, target, message)| {
            *source == from && *target == to && kind.is_none_or(|kind| name(&message.body) == kind)
        })?;
        Some(self.mail.remove(at).2)
    }

    pub fn deliver(&mut self, from: u64, to: u64, kind: &str) {
        let message = self.take(id(from), id(to), Some(kind));
        let message = message.unwrap_or_else(|| panic!("no {kind} from {from} to {to}"));
        self.input(
            id(to),
            Input::Message {
                from: id(from),
                message,
            },
        );
    }

    /// Delivers and syncs everything, except to and from these, until nothing is left to do.
    pub fn settle_without(&mut self, silent: &[u64]) {
        for _ in 0..10_000 {
            let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
            for node in nodes {
                if !silent.contains(&node.value()) {
                    self.sync(node, usize::MAX);
                }
            }
            let is_silent = |node: &NodeId| silent.contains(&node.value());
            let reaches = |(from, to, _): &(NodeId, NodeId, Message)| {
                !is_silent(from)
                    && !is_silent(to)
                    && self.hosts.get(to).is_some_and(|host| host.raft.is_some())
            };
            let Some(at) = self.mail.iter().position(reaches) else {
                return;
            };
            let (from, to, message) = self.mail.remove(at);
            self.input(to, Input::Message { from, message });
        }
        panic!("it never settles");
    }

    pub fn settle(&mut self) {
        self.settle_without(&[]);
        self.mail.clear();
    }

    /// Time passes; each node is woken at the moments it asked for.
    pub fn pass(&mut self, millis: u64, silent: &[u64]) {
        let until = self.now + Duration::from_millis(millis);
        loop {
            let wake = |host: &Host| host.raft.as_ref().and_then(Machine::wake_at);
            let next = self
                .hosts
                .iter()
                .filter_map(|(node, host)| Some((wake(host)?, *node)))
                .min();
            let Some((at, node)) = next.filter(|(at, _)| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            self.input(node, Input::Wake);
            self.settle_without(silent);
            self.mail.retain(|(from, to, _)| {
                !silent.contains(&from.value()) && !silent.contains(&to.value())
            });
        }
        self.now = until;
    }

    /// Runs one command of a scenario.
    #[expect(clippy::too_many_lines, reason = "one arm a command")]
    pub fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.said.clear();
        match words.as_slice() {
            ["nodes", voters, rest @ ..] => {
                let spares = rest.first().map_or(0, |word| number(word));
                let is_leased = rest.contains(&"lease");
                *self = Self::group(number(voters), spares, |config| {
                    if is_leased {
                        config.read_mode = ReadMode::Lease;
                    }
                    config.kept_ops = 0;
                });
            }
            ["elect", node] => self.elect(nodes(node)),
            ["request", node, body] => {
                self.request(nodes(node), body);
            }
            ["read", node] => {
                self.read(nodes(node));
            }
            ["durable", node] => self.sync(id(nodes(node)), usize::MAX),
            ["durable", node, count] => {
                let count = usize::try_from(number(count)).expect("small");
                self.sync(id(nodes(node)), count);
            }
            ["deliver", way, rest @ ..] => return self.deliver_words(way, rest),
            ["drop", way] => {
                let (from, to) = way.split_once("->").expect("a way is nA->nB");
                let (from, to) = (id(nodes(from)), id(nodes(to)));
                self.mail
                    .retain(|(source, target, _)| (*source, *target) != (from, to));
            }
            ["drop"] => self.mail.clear(),
            ["settle"] => self.settle(),
            ["settle", "without", silent @ ..] => {
                let silent: Vec<u64> = silent.iter().map(|node| nodes(node)).collect();
                self.settle_without(&silent);
            }
            ["pass", millis] => self.pass(number(millis), &[]),
            ["pass", millis, "without", silent @ ..] => {
                let silent: Vec<u64> = silent.iter().map(|node| nodes(node)).collect();
                self.pass(number(millis), &silent);
            }
            ["wake", node] => {
                let node = id(nodes(node));
                let at = self.hosts[&node].raft().wake_at().expect("a timer is set");
                self.now = self.now.max(at);
                self.input(node, Input::Wake);
            }
            ["crash", node] => self.host(node).crash(),
            ["restart", node] => {
                let now = self.now;
                self.host(node).restart(now);
            }
            ["lose", node, count, rest @ ..] => {
                let count = usize::try_from(number(count)).expect("small");
                let is_known = rest.is_empty();
                let disk = &mut self.host(node).disk;
                let kept = disk.entries.len() - count;
                disk.entries.truncate(kept);
                disk.is_damaged = is_known;
            }
            ["save", node] => {
                let (now, node) = (self.now, id(nodes(node)));
                let out = self
                    .hosts
                    .get_mut(&node)
                    .expect("it exists")
                    .save(now, true);
                self.note(node, &out);
            }
            ["change", node, rest @ ..] => {
                let change = change(rest);
                self.operate(nodes(node), Operation::Change(change));
            }
            ["suspect", node, peer] => {
                let peer = id(nodes(peer));
                self.input(id(nodes(node)), Input::Suspect { peer });
            }
            ["move", node, to] => {
                let to = id(nodes(to));
                self.operate(nodes(node), Operation::MoveLeader { to });
            }
            ["mail"] => return self.list_mail(),
            ["state"] => return self.state(),
            other => panic!("no such command: {other:?}"),
        }
        self.said()
    }

    fn deliver_words(&mut self, way: &str, rest: &[&str]) -> String {
        let (from, to) = way.split_once("->").expect("a way is nA->nB");
        let (from, to) = (id(nodes(from)), id(nodes(to)));
        let (is_twice, is_kept) = (rest.contains(&"twice"), rest.contains(&"keep"));
        let is_kind = |word: &&&str| !["twice", "keep"].contains(*word);
        let kind = rest.iter().find(is_kind).copied();
        let Some(message) = self.take(from, to, kind) else {
            return "  nothing to deliver".to_owned();
        };
        if is_kept {
            self.mail.push((from, to, message.clone()));
        }
        for _ in 0..if is_twice { 2 } else { 1 } {
            let message = message.clone();
            self.input(to, Input::Message { from, message });
        }
        self.said()
    }

    fn host(&mut self, node: &str) -> &mut Host {
        self.hosts.get_mut(&id(nodes(node))).expect("it exists")
    }

    fn list_mail(&self) -> String {
        let line = |(from, to, message): &(NodeId, NodeId, Message)| {
            format!("  n{from}->n{to} {}\n", describe(message))
        };
        self.mail.iter().map(line).collect()
    }

    fn state(&self) -> String {
        let line = |(node, host): (&NodeId, &Host)| {
            let Some(raft) = &host.raft else {
                return format!("  n{node} is down\n");
            };
            let entries: Vec<String> = (raft.base().op.value() + 1..=raft.last().op.value())
                .map(|op| {
                    raft.entry(Op::new(op))
                        .map_or_else(|| format!("{op}:?"), entry)
                })
                .collect();
            format!(
                "  n{node} {:?} term {} commit {} applied {} log [{}]\n",
                raft.role(),
                raft.term(),
                raft.commit(),
                raft.applied(),
                entries.join(" "),
            )
        };
        self.hosts.iter().map(line).collect()
    }
}

fn entry(entry: &Entry) -> String {
    let what = match &entry.payload {
        Payload::Blank => "-".to_owned(),
        Payload::Command(command) => String::from_utf8_lossy(&command.body).into_owned(),
        Payload::Configuration(members) => voters(members),
    };
    format!("{}:{}:{what}", entry.op, entry.term)
}

fn voters(members: &Configuration) -> String {
    let list = |nodes: &[NodeId]| {
        nodes
            .iter()
            .map(|node| format!("n{node}"))
            .collect::<Vec<_>>()
            .join("+")
    };
    let mut text = list(members.voters().incoming());
    if members.voters().is_joint() {
        write!(text, "/{}", list(members.voters().outgoing())).expect("a string takes all");
    }
    if !members.learners().is_empty() {
        write!(text, "~{}", list(members.learners())).expect("a string takes all");
    }
    text
}

fn name(body: &Body) -> String {
    let text = format!("{body:?}");
    text.split([' ', '{']).next().unwrap_or("").to_owned()
}

fn describe(message: &Message) -> String {
    let term = message.term;
    match &message.body {
        Body::Append {
            previous,
            commit,
            entries,
        } => {
            let list: Vec<String> = entries.iter().map(entry).collect();
            format!(
                "Append t{term} after {}:{} commit {commit} [{}]",
                previous.op,
                previous.term,
                list.join(" ")
            )
        }
        Body::Forward { commands } => format!("Forward t{term} of {}", commands.len()),
        Body::Offer { manifest } => format!("Offer t{term} of op {}", manifest.checkpoint.at.op),
        Body::Chunk { op, index, .. } => format!("Chunk t{term} {index} of op {op}"),
        other => format!("t{term} {}", short(other)),
    }
}

/// Debug output without the names of wrapper types.
fn short(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    for wrapper in [
        "Term(",
        "Op(",
        "NodeId(",
        "RequestId(",
        "ByteCount(",
        "Time(",
        "Some(",
    ] {
        while let Some(at) = text.find(wrapper) {
            let end = matching(&text, at + wrapper.len());
            text.remove(end);
            text.replace_range(at..at + wrapper.len(), "");
        }
    }
    text
}

/// Where the bracket closes that was opened just before `from`.
fn matching(text: &str, from: usize) -> usize {
    let mut depth = 1_u32;
    for (at, letter) in text.char_indices().skip_while(|(at, _)| *at < from) {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    panic!("no bracket closes in {text}");
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn nodes(word: &str) -> u64 {
    number(word.trim_start_matches('n'))
}

fn change(words: &[&str]) -> Change {
    match words {
        ["learner", node] => Change::AddLearner(id(nodes(node))),
        ["voter", node] => Change::AddVoter(id(nodes(node))),
        ["promote", node] => Change::Promote(id(nodes(node))),
        ["demote", node] => Change::Demote(id(nodes(node))),
        ["remove", node] => Change::Remove(id(nodes(node))),
        ["replace", outgoing, incoming] => Change::Replace {
            outgoing: id(nodes(outgoing)),
            incoming: id(nodes(incoming)),
        },
        other => panic!("no such change: {other:?}"),
    }
}
