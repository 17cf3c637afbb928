//! One connection to a broker: messages go into a feed, and are acknowledged once they are
//! durable.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, timeout};

use super::packet::{
    ALIVE, GOODBYE, Login, Malformed, PACKET_MAX, Packet, acknowledge, connect, decode, subscribe,
};
use crate::beside::{Beside, Head};
use crate::fed::{Feed, Unfed};

/// Acknowledgements on their way; a broker sends no more than this without one.
const ACKS_MAX: usize = 1 << 16;
/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a full feed is looked at. Meanwhile nothing is read, so the broker is held back.
const ROOM: Duration = Duration::from_millis(2);
/// What is told of a topic.
const TOPIC_SHOWN: usize = 256;
/// What a message is cut into, with what stands beside each row.
const PART: usize = PACKET_MAX;

/// Why a connection ended. All but a refusal may be tried again.
#[derive(Debug, Error)]
pub enum MqttError {
    /// The socket failed or the broker closed it.
    #[error("the connection to the broker ended")]
    Ended(#[source] std::io::Error),
    /// The broker is no broker.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It did not answer.
    #[error("the broker did not answer within {} s", ANSWER.as_secs())]
    Silent,
    /// It said no; asking again will not help.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// Nobody takes rows any more.
    #[error("the stream has stopped")]
    Stopped,
}

impl From<std::io::Error> for MqttError {
    fn from(error: std::io::Error) -> Self {
        Self::Ended(error)
    }
}

/// What a subscriber counted.
#[derive(Debug, Default)]
pub struct MqttCounts {
    /// Messages that came.
    pub messages: AtomicU64,
    /// Messages that were acknowledged.
    pub acknowledged: AtomicU64,
    passed_over: Mutex<PassedOver>,
}

/// Messages that can never be rows: they were acknowledged and thrown away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// How many.
    pub messages: u64,
    /// Why the last one was.
    pub why: String,
}

impl MqttCounts {
    /// What was passed over.
    #[must_use]
    pub fn passed_over(&self) -> PassedOver {
        self.held().clone()
    }

    fn pass_over(&self, why: String) {
        let mut held = self.held();
        held.messages += 1;
        held.why = why;
    }

    fn held(&self) -> MutexGuard<'_, PassedOver> {
        // Nothing is left half done while it is locked.
        let held = self.passed_over.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is subscribed, and where it goes.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Who connects.
    pub login: Login,
    /// Topics, with their wildcards.
    pub topics: Vec<String>,
    /// Where rows go: each message is a row, or several lines.
    pub feed: Feed,
    /// What is counted.
    pub counts: Arc<MqttCounts>,
    /// What is wanted beside each row: `topic` and `timestamp`, when the message came.
    pub beside: Beside,
    /// Microseconds since 1970.
    pub clock: fn() -> i64,
}

impl Subscription {
    /// Serves a connection until it ends, which is always for some reason.
    ///
    /// # Errors
    ///
    /// As [`MqttError`] says.
    pub async fn serve<S>(&self, stream: S) -> Result<(), MqttError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (acks, durable) = channel(ACKS_MAX);
        let mut line = Line {
            stream,
            held: Vec::new(),
        };
        line.send(&connect(&self.login)?).await?;
        match line.answer().await? {
            Packet::Connected { code: 0 } => {}
            Packet::Connected { code } => return Err(MqttError::Refused(reason(code))),
            other => return Err(unexpected(&other)),
        }
        line.send(&subscribe(1, &self.topics)?).await?;
        let mut session = Session {
            of: self,
            line,
            acks,
            durable,
            spoke: Instant::now(),
        };
        session.run().await
    }
}

fn reason(code: u8) -> String {
    match code {
        1 => "it does not speak MQTT 3.1.1".to_owned(),
        2 => "the client's name".to_owned(),
        3 => "it is unavailable".to_owned(),
        4 => "user or password".to_owned(),
        5 => "the client is not authorised".to_owned(),
        other => format!("code {other}"),
    }
}

fn unexpected(packet: &Packet) -> MqttError {
    MqttError::Malformed(Malformed {
        what: format!("{packet:?} where it does not belong"),
    })
}

/// A socket, and what was read of it.
struct Line<S> {
    stream: S,
    held: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), MqttError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads some more; safe to give up.
    async fn fill(&mut self) -> Result<(), MqttError> {
        if self.stream.read_buf(&mut self.held).await? == 0 {
            return Err(MqttError::Ended(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Packet>, MqttError> {
        let Some((packet, used)) = decode(&self.held)? else {
            return Ok(None);
        };
        self.held.drain(..used);
        Ok(Some(packet))
    }

    async fn answer(&mut self) -> Result<Packet, MqttError> {
        loop {
            if let Some(packet) = self.next()? {
                return Ok(packet);
            }
            let filled = timeout(ANSWER, self.fill()).await;
            filled.map_err(|_elapsed| MqttError::Silent)??;
        }
    }
}

struct Session<'s, S> {
    of: &'s Subscription,
    line: Line<S>,
    acks: Sender<u16>,
    durable: Receiver<u16>,
    /// When a sign of life was given last.
    spoke: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn run(&mut self) -> Result<(), MqttError> {
        let alive = self.alive();
        let mut is_asked = false;
        loop {
            while let Some(packet) = self.line.next()? {
                is_asked = false;
                self.take(packet).await?;
            }
            tokio::select! {
                filled = self.line.fill() => filled?,
                Some(id) = self.durable.recv() => self.acknowledge(id).await?,
                () = sleep(alive) => {
                    if is_asked {
                        return Err(MqttError::Silent);
                    }
                    is_asked = true;
                    self.live().await?;
                }
            }
        }
    }

    /// After how much silence of ours a sign of life is due.
    fn alive(&self) -> Duration {
        Duration::from_secs(u64::from(self.of.login.keep_alive.max(2)) / 2)
    }

    async fn live(&mut self) -> Result<(), MqttError> {
        self.spoke = Instant::now();
        self.line.send(&ALIVE).await
    }

    async fn take(&mut self, packet: Packet) -> Result<(), MqttError> {
        match packet {
            Packet::Subscribed { codes } => {
                if let Some(at) = codes.iter().position(|code| *code > 1) {
                    let topic = self.of.topics.get(at).map_or("", String::as_str);
                    return Err(MqttError::Refused(format!("topic {topic}")));
                }
                Ok(())
            }
            Packet::Publish { topic, id, payload } => {
                let known = [("topic", Some(topic.as_str()))];
                let head = self.of.beside.at((self.of.clock)(), &known);
                self.publish(id, &head, &payload).await
            }
            Packet::TooLong { topic, id, rest } => {
                let topic: String = topic.chars().take(TOPIC_SHOWN).collect();
                let why = format!("{rest} bytes on {topic}; {PACKET_MAX} bytes is the limit");
                self.of.counts.pass_over(why);
                self.pass_over(id, rest).await
            }
            Packet::Alive => Ok(()),
            Packet::Connected { .. } => Err(unexpected(&packet)),
        }
    }

    /// Feeds a message, in parts where it grows, and is heard of when the last of them is durable:
    /// so are the others then.
    async fn publish(
        &mut self,
        id: Option<u16>,
        head: &Head,
        payload: &[u8],
    ) -> Result<(), MqttError> {
        self.of.counts.messages.fetch_add(1, Ordering::Relaxed);
        if payload.trim_ascii().is_empty() {
            return self.give_back(id).await;
        }
        let mut rest = payload;
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(head.fit(rest, PART));
            rest = behind;
            let id = id.filter(|_| rest.is_empty());
            self.feed(id, head, part).await?;
        }
        Ok(())
    }

    /// Feeds rows, and waits for room. Acknowledgements and signs of life go out meanwhile.
    async fn feed(&mut self, id: Option<u16>, head: &Head, part: &[u8]) -> Result<(), MqttError> {
        let mut part = part;
        loop {
            if self.spoke.elapsed() >= self.alive() {
                self.live().await?;
            }
            let acks = self.acks.clone();
            let told = Box::new(move || {
                if let Some(id) = id {
                    // The connection may have ended; then the broker sends it again.
                    acks.try_send(id).ok();
                }
            });
            match self.of.feed.offer(head.before(part), None, told) {
                Ok(_) => return Ok(()),
                // The last two are of keys, which messages have none of.
                Err(Unfed::Full | Unfed::Recovering | Unfed::Other) => {}
                Err(why @ Unfed::TooLong { .. }) => {
                    self.of.counts.pass_over(why.to_string());
                    // A line that is no row stands for it: parts before it are durable first.
                    part = b"\n";
                    continue;
                }
                Err(Unfed::Stopped) => {
                    self.line.send(&GOODBYE).await?;
                    return Err(MqttError::Stopped);
                }
            }
            tokio::select! {
                Some(id) = self.durable.recv() => self.acknowledge(id).await?,
                () = sleep(ROOM) => {}
            }
        }
    }

    /// The rest of a message that can never be a row: it does not come again.
    async fn pass_over(&mut self, id: Option<u16>, rest: usize) -> Result<(), MqttError> {
        let mut rest = rest;
        loop {
            let here = rest.min(self.line.held.len());
            self.line.held.drain(..here);
            rest -= here;
            if rest == 0 {
                return self.give_back(id).await;
            }
            let filled = timeout(ANSWER, self.line.fill()).await;
            filled.map_err(|_elapsed| MqttError::Silent)??;
        }
    }

    async fn give_back(&mut self, id: Option<u16>) -> Result<(), MqttError> {
        match id {
            Some(id) => self.acknowledge(id).await,
            None => Ok(()),
        }
    }

    async fn acknowledge(&mut self, id: u16) -> Result<(), MqttError> {
        let mut bytes = acknowledge(id).to_vec();
        let mut count = 1;
        // One write for all that became durable together.
        while let Ok(id) = self.durable.try_recv() {
            bytes.extend_from_slice(&acknowledge(id));
            count += 1;
        }
        self.of
            .counts
            .acknowledged
            .fetch_add(count, Ordering::Relaxed);
        self.spoke = Instant::now();
        self.line.send(&bytes).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::super::packet::{high_first, packet};
    use super::*;
    use crate::fed::fed;
    use crate::source::{Source, Taken};

    fn subscription(feed: Feed) -> Subscription {
        Subscription {
            login: Login {
                client: "holm".into(),
                user: None,
                keep_alive: 30,
            },
            topics: vec!["t".into()],
            feed,
            counts: Arc::default(),
            beside: Beside::default(),
            clock: || 0,
        }
    }

    #[tokio::test]
    async fn a_message_is_acknowledged_once_it_is_durable() {
        let (feed, mut source) = fed("mqtt", None, 1 << 20);
        let of = subscription(feed);
        let (ours, mut broker) = duplex(1 << 16);
        let script = async {
            let mut hello = [0; 16 + 4];
            broker.read_exact(&mut hello[..18]).await.unwrap();
            broker.write_all(&[0x20, 2, 0, 0]).await.unwrap();
            let mut asked = [0; 8];
            broker.read_exact(&mut asked).await.unwrap();
            broker.write_all(&[0x90, 3, 0, 1, 1]).await.unwrap();
            broker
                .write_all(b"\x32\x0c\0\x01t\0\x09{\"n\":1}")
                .await
                .unwrap();
            let piece = loop {
                if let Taken::Rows(piece) = source.take(100, Duration::ZERO).unwrap() {
                    break piece;
                }
                sleep(Duration::from_millis(1)).await;
            };
            assert_eq!(piece.rows, b"{\"n\":1}\n");
            let mut ack = [0; 4];
            let early = timeout(Duration::from_millis(20), broker.read_exact(&mut ack)).await;
            assert!(early.is_err(), "nothing is durable yet");
            source.acknowledge(&piece.position);
            broker.read_exact(&mut ack).await.unwrap();
            assert_eq!(ack, [0x40, 2, 0, 9]);
            drop(broker);
        };
        let (ended, ()) = tokio::join!(of.serve(ours), script);
        assert!(matches!(ended, Err(MqttError::Ended(_))), "{ended:?}");
        assert_eq!(of.counts.acknowledged.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_message_comes_with_its_topic_if_that_is_wanted() {
        let (feed, mut source) = fed("mqtt", None, 1 << 20);
        let mut of = subscription(feed);
        of.beside = Beside::of(["topic".to_owned(), "timestamp".to_owned()]);
        let (ours, mut broker) = duplex(1 << 16);
        broker.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        broker.write_all(&[0x90, 3, 0, 1, 1]).await.unwrap();
        broker
            .write_all(b"\x30\x0c\0\x03t/7{\"n\":1}")
            .await
            .unwrap();
        let taken = async {
            loop {
                if let Taken::Rows(piece) = source.take(100, Duration::ZERO).unwrap() {
                    break piece.rows;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        let rows = tokio::select! {
            rows = taken => rows,
            ended = of.serve(ours) => panic!("{ended:?}"),
        };
        let head = "{\"topic\":\"t/7\",\"timestamp\":\"1970-01-01T00:00:00.000Z\"}";
        let wanted = format!("{head}\u{1e}{{\"n\":1}}\n");
        assert_eq!(String::from_utf8(rows).unwrap(), wanted);
    }

    /// A message at least once with the id 9.
    fn message(topic: &str, payload: &[u8]) -> Vec<u8> {
        let topic_length = high_first(u16::try_from(topic.len()).unwrap());
        let body = [&topic_length, topic.as_bytes(), &[0, 9], payload].concat();
        packet(0x32, &body)
    }

    /// A broker that has heard who is there and lets them subscribe.
    async fn welcomed(broker: &mut tokio::io::DuplexStream) {
        let mut hello = [0; 18 + 8];
        broker.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        broker.write_all(&[0x90, 3, 0, 1, 1]).await.unwrap();
        broker.read_exact(&mut hello).await.unwrap();
    }

    /// The topic stands before each row: that makes 6 MB of 300 bytes, of which no more than one
    /// MiB is there at a time.
    #[tokio::test]
    async fn a_message_that_grows_comes_in_parts_and_is_acknowledged_behind_the_last() {
        let (feed, mut source) = fed("mqtt", None, PART);
        let mut of = subscription(feed);
        of.beside = Beside::of(["topic".to_owned()]);
        let (ours, mut broker) = duplex(1 << 16);
        let script = async {
            welcomed(&mut broker).await;
            let sent = message(&"t".repeat(60_000), &b"{}\n".repeat(100));
            broker.write_all(&sent).await.unwrap();
            let (mut rows, mut parts) = (0, 0);
            loop {
                let Taken::Rows(piece) = source.take(1, Duration::ZERO).unwrap() else {
                    sleep(Duration::from_millis(1)).await;
                    continue;
                };
                assert!(piece.rows.len() <= PART, "{}", piece.rows.len());
                rows += piece.rows.split(|byte| *byte == b'\n').count() - 1;
                parts += 1;
                if rows == 100 {
                    let mut ack = [0; 4];
                    let read = broker.read_exact(&mut ack);
                    let early = timeout(Duration::from_millis(20), read).await;
                    assert!(early.is_err(), "the last part is not durable");
                    source.acknowledge(&piece.position);
                    broker.read_exact(&mut ack).await.unwrap();
                    assert_eq!((ack, parts), ([0x40, 2, 0, 9], 6));
                    break;
                }
                source.acknowledge(&piece.position);
            }
            drop(broker);
        };
        let both = async { tokio::join!(of.serve(ours), script) };
        let (ended, ()) = timeout(ANSWER, both).await.expect("all rows come");
        assert!(matches!(ended, Err(MqttError::Ended(_))), "{ended:?}");
        assert_eq!(of.counts.passed_over(), PassedOver::default());
    }

    #[tokio::test]
    async fn what_is_too_long_is_passed_over_and_told() {
        let (feed, source) = fed("mqtt", None, 16);
        let of = subscription(feed);
        let (ours, mut broker) = duplex(1 << 16);
        let script = async {
            welcomed(&mut broker).await;
            let mut ack = [0; 4];
            let topic = "t".repeat(300);
            broker
                .write_all(&message(&topic, &vec![b'x'; PACKET_MAX]))
                .await
                .unwrap();
            broker.read_exact(&mut ack).await.unwrap();
            let shown = "t".repeat(TOPIC_SHOWN);
            let why = format!("{PACKET_MAX} bytes on {shown}; {PACKET_MAX} bytes is the limit");
            assert_eq!(of.counts.passed_over(), PassedOver { messages: 1, why });
            broker
                .write_all(&message("t", b"{\"n\":12345678901}"))
                .await
                .unwrap();
            let mut source = source;
            let piece = loop {
                if let Taken::Rows(piece) = source.take(100, Duration::ZERO).unwrap() {
                    break piece;
                }
                sleep(Duration::from_millis(1)).await;
            };
            assert_eq!(piece.rows, b"\n", "no row stands for it");
            source.acknowledge(&piece.position);
            broker.read_exact(&mut ack).await.unwrap();
            let why = "17 bytes at once; the limit is 16".to_owned();
            assert_eq!(of.counts.passed_over(), PassedOver { messages: 2, why });
            drop((source, broker));
        };
        let both = async { tokio::join!(of.serve(ours), script) };
        let (ended, ()) = timeout(ANSWER, both).await.expect("both are acknowledged");
        ended.unwrap_err();
    }

    #[tokio::test]
    async fn who_waits_for_room_gives_signs_of_life() {
        let (feed, source) = fed("mqtt", None, 8);
        let mut of = subscription(feed);
        of.login.keep_alive = 2;
        let (ours, mut broker) = duplex(1 << 16);
        let script = async {
            welcomed(&mut broker).await;
            let sent = [message("t", b"{\"n\":1}"), message("t", b"{\"n\":2}")].concat();
            broker.write_all(&sent).await.unwrap();
            let mut sign = [0; 2];
            let read = timeout(ANSWER, broker.read_exact(&mut sign)).await;
            read.expect("the second message waits, and it lives")
                .unwrap();
            assert_eq!(sign, ALIVE);
            drop((source, broker));
        };
        let (ended, ()) = tokio::join!(of.serve(ours), script);
        ended.unwrap_err();
    }

    #[tokio::test]
    async fn a_broker_that_says_no_is_quoted() {
        let (feed, _source) = fed("mqtt", None, 1 << 20);
        let of = subscription(feed);
        let (ours, mut broker) = duplex(1 << 16);
        broker.write_all(&[0x20, 2, 0, 5]).await.unwrap();
        let ended = of.serve(ours).await.unwrap_err();
        assert_eq!(
            ended.to_string(),
            "the broker refused: the client is not authorised"
        );
    }
}
