//! One end of a link: greeting, binding, bound, closed.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use holm_base::{NodeId, Time};
use holm_machine::{Effects, Machine};
use holm_wire::Frame;
use sha2::{Digest, Sha256};

use crate::config::{Config, PlaneRange};
use crate::effect::{Binding, Effect, Event};
use crate::hello::Hello;
use crate::identity::Identity;
use crate::input::Input;
use crate::kinds::{BIND, CLOSE, HELLO, LINK_PLANE, MARK, PING, PONG, PREPARE, RENEW, own};
use crate::layers::{Chosen, agree};
use crate::reason::Reason;

/// The longest words of a Close.
const WORDS_MAX: usize = 512;

/// One end of one connection: a [`Machine`].
#[derive(Clone, Debug)]
pub struct Link {
    config: Config,
    state: State,
}

/// How far the ends have come.
#[derive(Clone, Debug)]
enum State {
    Fresh,
    Greeting(Box<Greeting>),
    Binding(Box<Bound>, Bytes),
    Bound(Box<Bound>),
    Closed,
}

/// This end has greeted.
#[derive(Clone, Debug)]
struct Greeting {
    opened: Time,
    exporter: [u8; 32],
    certificate: Identity,
    hello: Bytes,
}

/// The ends know each other.
#[derive(Clone, Debug)]
struct Bound {
    opened: Time,
    binding: Binding,
    heard: Time,
    ping_at: Time,
    ping_sent: Option<Time>,
    smooth: Option<Duration>,
    /// When this end sent its Mark.
    drained: Option<Time>,
    /// Whether the other end's Mark came.
    is_marked: bool,
}

impl Link {
    /// An end that waits for [`Input::Open`].
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            state: State::Fresh,
        }
    }

    /// What was agreed on, once it was and as long as the link lives.
    #[must_use]
    pub fn binding(&self) -> Option<&Binding> {
        match &self.state {
            State::Bound(bound) => Some(&bound.binding),
            State::Fresh | State::Greeting(_) | State::Binding(_, _) | State::Closed => None,
        }
    }

    /// Whether the other end's Mark came: it sends no more frames of planes here.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        match &self.state {
            State::Bound(bound) => bound.is_marked,
            State::Closed => true,
            State::Fresh | State::Greeting(_) | State::Binding(_, _) => false,
        }
    }

    fn open(
        &mut self,
        now: Time,
        (exporter, certificate): ([u8; 32], Option<Identity>),
        effects: &mut Effects<Effect>,
    ) {
        assert!(matches!(self.state, State::Fresh), "a link opens once");
        let Some(certificate) = certificate else {
            return self.close(Reason::NoIdentity, effects);
        };
        let ours = self.config.identity.cluster();
        if certificate.cluster() != ours {
            let reason = Reason::ForeignCertificate {
                ours: ours.to_owned(),
                theirs: certificate.cluster().to_owned(),
            };
            return self.close(reason, effects);
        }
        let hello = self.config.hello().encode();
        effects.push(Effect::Send(own(HELLO, hello.clone())));
        self.state = State::Greeting(Box::new(Greeting {
            opened: now,
            exporter,
            certificate,
            hello,
        }));
    }

    fn frame(&mut self, now: Time, frame: Frame, effects: &mut Effects<Effect>) {
        if frame.plane == LINK_PLANE && frame.kind == CLOSE {
            return self.told(&frame.body, effects);
        }
        match mem::replace(&mut self.state, State::Closed) {
            State::Greeting(greeting) => self.greeted(now, *greeting, &frame, effects),
            State::Binding(bound, bind) => self.bind(now, (bound, bind), &frame, effects),
            State::Bound(bound) => {
                self.state = State::Bound(bound);
                self.speak(now, frame, effects);
            }
            State::Fresh => {
                self.state = State::Fresh;
                self.early(&frame, effects);
            }
            State::Closed => {}
        }
    }

    /// I19: whoever speaks out of turn is refused.
    fn early(&mut self, frame: &Frame, effects: &mut Effects<Effect>) {
        let (plane, kind) = (frame.plane, frame.kind);
        self.close(Reason::Early { plane, kind }, effects);
    }

    /// A Hello is due.
    fn greeted(
        &mut self,
        now: Time,
        greeting: Greeting,
        frame: &Frame,
        effects: &mut Effects<Effect>,
    ) {
        let site = greeting.certificate.site().to_owned();
        self.state = State::Greeting(Box::new(greeting.clone()));
        if (frame.plane, frame.kind) != (LINK_PLANE, HELLO) {
            return self.early(frame, effects);
        }
        let judged = self.judge(&greeting, &frame.body, &site);
        let (hello, chosen, planes) = match judged {
            Ok(judged) => judged,
            Err(reason) => return self.close(reason, effects),
        };
        self.note_differences(&hello, &chosen, effects);
        let digest = self.digest(&greeting, &frame.body, hello.node);
        let bind = encode_bind(&digest, &chosen);
        effects.push(Effect::Send(own(BIND, bind.clone())));
        let binding = Binding {
            node: hello.node,
            identity: greeting.certificate,
            boot: hello.boot,
            run: hello.run(),
            chosen,
            planes,
        };
        let bound = Bound {
            opened: greeting.opened,
            binding,
            heard: now,
            ping_at: now,
            ping_sent: None,
            smooth: None,
            drained: None,
            is_marked: false,
        };
        self.state = State::Binding(Box::new(bound), bind);
    }

    /// Whether the greeting fits the certificate, the member table and this end (I20).
    fn judge(&self, greeting: &Greeting, body: &[u8], site: &str) -> Result<Judged, Reason> {
        let hello = Hello::decode(body).map_err(Reason::Hello)?;
        let config = &self.config;
        let node = hello.node;
        let certificate = greeting.certificate.to_string();
        if hello.cluster != config.cluster {
            let (ours, theirs) = (config.cluster, hello.cluster);
            return Err(Reason::ForeignHello {
                ours,
                theirs,
                certificate,
            });
        }
        if node == config.node {
            return Err(Reason::Itself { node });
        }
        let Some(member) = config.member(node) else {
            return Err(Reason::NotMember { node, certificate });
        };
        let name = greeting.certificate.node();
        if member.name.is_empty() {
            if config.has_name(name) {
                return Err(Reason::NameTaken { node, certificate });
            }
        } else if member.name != name {
            let table = member.name.clone();
            return Err(Reason::NameDiffers {
                node,
                table,
                certificate,
            });
        }
        if let Some(expected) = config.expected.filter(|expected| *expected != node) {
            let found = node;
            return Err(Reason::Unexpected { expected, found });
        }
        if hello.boot < member.boot_seen {
            let (boot, newest) = (hello.boot, member.boot_seen);
            return Err(Reason::Fenced { node, boot, newest });
        }
        let is_other = |run: [u8; 16]| run != hello.run();
        if hello.boot == member.boot_seen && member.run_seen.is_some_and(is_other) {
            let boot = hello.boot;
            return Err(Reason::Cloned { node, boot });
        }
        let planes = common_planes(&config.offer.planes, &hello.offer.planes, site)?;
        let (ours, theirs) = (&config.offer.layers, &hello.offer.layers);
        let chosen = agree(ours, theirs, &config.floors, site)?;
        Ok((hello, chosen, planes))
    }

    fn note_differences(&self, hello: &Hello, chosen: &[Chosen], effects: &mut Effects<Effect>) {
        if hello.policy != self.config.policy() {
            effects.push(Effect::Note(Event::PolicyDiffers));
        }
        let theirs = &hello.offer.layers;
        for layer in self.config.offer.layers.iter().map(|layer| layer.id) {
            let is_offered = theirs.iter().any(|it| it.id == layer);
            if is_offered && chosen.iter().all(|it| it.layer != layer) {
                effects.push(Effect::Note(Event::LayerUnused { layer }));
            }
        }
    }

    /// SHA-256 of the lower node's greeting, the higher's, and the TLS exporter.
    fn digest(&self, greeting: &Greeting, theirs: &[u8], node: NodeId) -> [u8; 32] {
        let ours = &greeting.hello[..];
        let (lower, higher) = if self.config.node < node {
            (ours, theirs)
        } else {
            (theirs, ours)
        };
        let mut digest = Sha256::new();
        digest.update(lower);
        digest.update(higher);
        digest.update(greeting.exporter);
        digest.finalize().into()
    }

    /// A Bind is due, equal to ours.
    fn bind(
        &mut self,
        now: Time,
        (mut bound, ours): (Box<Bound>, Bytes),
        frame: &Frame,
        effects: &mut Effects<Effect>,
    ) {
        if (frame.plane, frame.kind) != (LINK_PLANE, BIND) {
            return self.early(frame, effects);
        }
        if frame.body != ours {
            let epoch = frame.body.get(32..36).and_then(|it| it.first_chunk());
            let epoch = epoch.map_or(0, |bytes| u32::from_le_bytes(*bytes));
            let reason = match epoch {
                0 => Reason::BindDiffers,
                epoch => Reason::EpochUnsupported { epoch },
            };
            return self.close(reason, effects);
        }
        bound.heard = now;
        effects.push(Effect::Bind(bound.binding.clone()));
        self.state = State::Bound(bound);
        self.ping(now, effects);
    }

    /// A frame between bound ends.
    fn speak(&mut self, now: Time, frame: Frame, effects: &mut Effects<Effect>) {
        let State::Bound(bound) = &mut self.state else {
            return;
        };
        bound.heard = now;
        if frame.plane != LINK_PLANE {
            let (plane, kind, version) = (frame.plane, frame.kind, frame.version);
            let agreed = bound.binding.planes.iter().find(|(it, _)| *it == plane);
            effects.push(match agreed {
                Some((_, agreed)) if version <= *agreed => Effect::Deliver(frame),
                Some(_) | None => Effect::Note(Event::FrameDropped {
                    plane,
                    kind,
                    version,
                }),
            });
            return;
        }
        match frame.kind {
            PING if bound.drained.is_none() => effects.push(Effect::Send(own(PONG, frame.body))),
            PING => {}
            PONG => bound.returned(now, &frame.body, effects),
            MARK => {
                bound.is_marked = true;
                self.finish(effects);
            }
            RENEW => effects.push(Effect::Renew),
            PREPARE => self.close(Reason::EpochUnsupported { epoch: 1 }, effects),
            HELLO | BIND => self.close(Reason::Senseless { kind: frame.kind }, effects),
            kind => effects.push(Effect::Note(Event::FrameDropped {
                plane: LINK_PLANE,
                kind,
                version: frame.version,
            })),
        }
    }

    fn ping(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let every = self.config.ping_interval;
        let State::Bound(bound) = &mut self.state else {
            return;
        };
        if bound.drained.is_some() {
            return;
        }
        bound.ping_at = now + every;
        bound.ping_sent = Some(now);
        let stamp = Bytes::copy_from_slice(&now.nanos().to_le_bytes());
        effects.push(Effect::Send(own(PING, stamp)));
    }

    fn drain(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let State::Bound(bound) = &mut self.state else {
            return;
        };
        if bound.drained.is_none() {
            bound.drained = Some(now);
            effects.push(Effect::Send(own(MARK, Bytes::new())));
            self.finish(effects);
        }
    }

    /// Both Marks have been seen: everything that was sent here has arrived.
    fn finish(&mut self, effects: &mut Effects<Effect>) {
        if let State::Bound(bound) = &self.state
            && bound.is_marked
            && bound.drained.is_some()
        {
            self.state = State::Closed;
            effects.push(Effect::Close(Reason::Drained));
        }
    }

    fn fence(&mut self, newest: u64, effects: &mut Effects<Effect>) {
        let (State::Bound(bound) | State::Binding(bound, _)) = &self.state else {
            return;
        };
        let (node, boot) = (bound.binding.node, bound.binding.boot);
        if boot < newest {
            self.close(Reason::Fenced { node, boot, newest }, effects);
        }
    }

    fn told(&mut self, body: &[u8], effects: &mut Effects<Effect>) {
        let site = match &self.state {
            State::Greeting(greeting) => greeting.certificate.site().to_owned(),
            State::Binding(bound, _) | State::Bound(bound) => {
                bound.binding.identity.site().to_owned()
            }
            State::Fresh => "?".to_owned(),
            State::Closed => return,
        };
        let text = words(body);
        self.state = State::Closed;
        effects.push(Effect::Close(Reason::Told { site, text }));
    }

    /// Says why, and ends.
    fn close(&mut self, reason: Reason, effects: &mut Effects<Effect>) {
        self.state = State::Closed;
        let text = Bytes::from(reason.to_string().into_bytes());
        let text = text.slice(..text.len().min(WORDS_MAX));
        effects.push(Effect::Send(own(CLOSE, text)));
        effects.push(Effect::Close(reason));
    }

    fn wake(&mut self, now: Time, effects: &mut Effects<Effect>) {
        match &self.state {
            State::Fresh | State::Closed => {}
            State::Greeting(_) | State::Binding(_, _) => {
                let timeout = self.config.bind_timeout;
                if self.wake_at().is_some_and(|at| at <= now) {
                    self.close(Reason::BindLate(timeout), effects);
                }
            }
            State::Bound(bound) => {
                let (silence, drain) = (self.config.silence_max, self.config.drain_timeout);
                if bound.drained.is_some_and(|since| since + drain <= now) {
                    return self.close(Reason::DrainLate(drain), effects);
                }
                if bound.drained.is_none() && bound.heard + silence <= now {
                    return self.close(Reason::Silent(silence), effects);
                }
                if bound.ping_at <= now {
                    self.ping(now, effects);
                }
            }
        }
    }
}

impl Machine for Link {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Wake => self.wake(now, effects),
            Input::Open {
                exporter,
                certificate,
            } => self.open(now, (exporter, certificate), effects),
            Input::Frame(frame) => self.frame(now, frame, effects),
            Input::Heard => {
                if let State::Bound(bound) = &mut self.state {
                    bound.heard = now;
                }
            }
            Input::Damage(error) => {
                if !matches!(self.state, State::Closed) {
                    self.close(Reason::Damaged(error), effects);
                }
            }
            Input::Fence { boot } => self.fence(boot, effects),
            Input::Drain => self.drain(now, effects),
            Input::Renew => {
                if let State::Bound(bound) = &self.state
                    && bound.drained.is_none()
                {
                    effects.push(Effect::Send(own(RENEW, Bytes::new())));
                }
            }
        }
    }

    fn wake_at(&self) -> Option<Time> {
        let config = &self.config;
        match &self.state {
            State::Fresh | State::Closed => None,
            State::Greeting(greeting) => Some(greeting.opened + config.bind_timeout),
            State::Binding(bound, _) => Some(bound.opened + config.bind_timeout),
            State::Bound(bound) => Some(match bound.drained {
                Some(since) => since + config.drain_timeout,
                None => bound.ping_at.min(bound.heard + config.silence_max),
            }),
        }
    }
}

impl Bound {
    /// A ping came back; one that was not sent is passed over.
    fn returned(&mut self, now: Time, body: &[u8], effects: &mut Effects<Effect>) {
        let stamp = body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let Some(sent) = self.ping_sent.filter(|it| Some(it.nanos()) == stamp) else {
            return;
        };
        self.ping_sent = None;
        let after = now - sent;
        let smooth = self.smooth.map_or(after, |old| (old * 7 + after) / 8);
        self.smooth = Some(smooth);
        effects.push(Effect::Note(Event::Returned { after, smooth }));
    }
}

/// What an acceptable greeting leads to.
type Judged = (Hello, Vec<Chosen>, Vec<(u8, u16)>);

/// The planes that both speak, in the highest common version of each.
fn common_planes(
    ours: &[PlaneRange],
    theirs: &[PlaneRange],
    site: &str,
) -> Result<Vec<(u8, u16)>, Reason> {
    let mut common = Vec::new();
    for our in ours {
        let Some(their) = theirs.iter().find(|their| their.plane == our.plane) else {
            continue;
        };
        let version = our.highest.min(their.highest);
        if version < our.lowest.max(their.lowest) {
            return Err(Reason::NoCommonVersion {
                plane: our.plane,
                ours: range(our),
                theirs: range(their),
                site: site.to_owned(),
            });
        }
        common.push((our.plane, version));
    }
    Ok(common)
}

fn range(plane: &PlaneRange) -> String {
    format!("{} to {}", plane.lowest, plane.highest)
}

/// ```text
///   0 [32] digest   32 u32 epoch 0   36 u8 choices x {u16 layer, u32 choice}
/// ```
fn encode_bind(digest: &[u8; 32], chosen: &[Chosen]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(digest);
    out.put_u32_le(0);
    out.put_u8(u8::try_from(chosen.len()).expect("layers are few"));
    for chosen in chosen {
        out.put_u16_le(chosen.layer.value());
        out.put_u32_le(chosen.choice);
    }
    out.freeze()
}

/// A stranger's words, made safe to print.
fn words(body: &[u8]) -> String {
    let printable = |byte: &u8| match *byte {
        byte @ b' '..=b'~' => char::from(byte),
        _ => '?',
    };
    body.iter().take(WORDS_MAX).map(printable).collect()
}
