//! MQTT 3.1.1 as a subscriber needs it: the packets that it sends, and those that it gets.
//!
//! ```text
//!   u8 kind and flags   1..4 bytes remaining length, seven bits each   body
//! ```

use thiserror::Error;

/// The longest packet that is understood; a longer message is passed over and named.
pub(crate) const PACKET_MAX: usize = 1 << 20;

/// What a broker sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// The answer to our hello.
    Connected { code: u8 },
    /// The answer to a subscription: a code a topic.
    Subscribed { codes: Vec<u8> },
    /// A message. At least once means that it has an id, which is to be acknowledged.
    Publish {
        topic: String,
        id: Option<u16>,
        payload: Vec<u8>,
    },
    /// A message that is too long; `rest` bytes of it, which are all but its heading, follow and
    /// are to be passed over.
    TooLong {
        topic: String,
        id: Option<u16>,
        rest: usize,
    },
    /// The answer to a sign of life.
    Alive,
}

/// What a broker must not send.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the broker sent what is no MQTT 3.1.1: {what}")]
pub struct Malformed {
    /// What is wrong.
    pub what: String,
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed { what: what.into() })
}

/// Who connects.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name under which the broker keeps what was not acknowledged.
    pub client: String,
    /// Name and password, where the broker asks for them.
    pub user: Option<(String, String)>,
    /// Seconds without a sign of life after which the broker gives up.
    pub keep_alive: u16,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            client: "holm".to_owned(),
            user: None,
            keep_alive: 30,
        }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the password.
        let mut shown = formatter.debug_struct("Login");
        shown.field("client", &self.client).finish_non_exhaustive()
    }
}

/// Two bytes as MQTT has them; the rest of Holm writes the low one first.
pub(super) const fn high_first(value: u16) -> [u8; 2] {
    value.swap_bytes().to_le_bytes()
}

const fn of_high_first(bytes: [u8; 2]) -> u16 {
    u16::from_le_bytes(bytes).swap_bytes()
}

fn text(value: &str, body: &mut Vec<u8>) -> Result<(), Malformed> {
    let Ok(length) = u16::try_from(value.len()) else {
        return malformed(format!("{} bytes of text; 65,535 fit", value.len()));
    };
    body.extend_from_slice(&high_first(length));
    body.extend_from_slice(value.as_bytes());
    Ok(())
}

pub(super) fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    let mut rest = body.len();
    loop {
        let seven = u8::try_from(rest % 128).expect("seven bits fit a byte");
        rest /= 128;
        bytes.push(if rest > 0 { seven | 128 } else { seven });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// The hello. The session is kept: what was not acknowledged comes again.
pub(crate) fn connect(login: &Login) -> Result<Vec<u8>, Malformed> {
    let mut body = Vec::new();
    text("MQTT", &mut body)?;
    body.push(4);
    body.push(if login.user.is_some() { 0b1100_0000 } else { 0 });
    body.extend_from_slice(&high_first(login.keep_alive));
    text(&login.client, &mut body)?;
    if let Some((name, password)) = &login.user {
        text(name, &mut body)?;
        text(password, &mut body)?;
    }
    Ok(packet(0x10, &body))
}

/// A subscription, at least once.
pub(crate) fn subscribe(id: u16, topics: &[String]) -> Result<Vec<u8>, Malformed> {
    let mut body = high_first(id).to_vec();
    for topic in topics {
        text(topic, &mut body)?;
        body.push(1);
    }
    Ok(packet(0x82, &body))
}

/// A message is safe here.
pub(crate) const fn acknowledge(id: u16) -> [u8; 4] {
    let [high, low] = high_first(id);
    [0x40, 2, high, low]
}

/// A sign of life.
pub(crate) const ALIVE: [u8; 2] = [0xC0, 0];
/// A goodbye.
pub(crate) const GOODBYE: [u8; 2] = [0xE0, 0];

/// The length of a packet's head and body; `None` if more bytes are needed to know.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).enumerate() {
        if at == 4 {
            return malformed("a length of more than four bytes");
        }
        length |= usize::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Ok(Some((at + 2, length)));
        }
    }
    if bytes.len() > 5 {
        return malformed("a length of more than four bytes");
    }
    Ok(None)
}

/// The first packet, and how many bytes it is; `None` if it is not whole yet.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Packet, usize)>, Malformed> {
    let Some(kind) = bytes.first() else {
        return Ok(None);
    };
    let Some((head, length)) = lengths(bytes)? else {
        return Ok(None);
    };
    let is_publish = kind >> 4 == 3;
    if length > PACKET_MAX {
        if !is_publish {
            return malformed(format!("a packet of {length} bytes"));
        }
        return too_long(bytes, (head, length));
    }
    let Some(body) = bytes.get(head..head + length) else {
        return Ok(None);
    };
    let packet = match (kind >> 4, body) {
        (2, [_, code]) => Packet::Connected { code: *code },
        (9, [_, _, codes @ ..]) => Packet::Subscribed {
            codes: codes.to_vec(),
        },
        (13, []) => Packet::Alive,
        (3, body) => publish(*kind, body)?,
        (other, _) => return malformed(format!("a packet of kind {other}, {length} bytes")),
    };
    Ok(Some((packet, head + length)))
}

/// The topic, the id and what is behind them.
fn heading(kind: u8, body: &[u8]) -> Option<(&[u8], Option<u16>, &[u8])> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(of_high_first(*length)))?;
    if kind >> 1 & 3 == 0 {
        return Some((topic, None, rest));
    }
    let (id, rest) = rest.split_first_chunk::<2>()?;
    Some((topic, Some(of_high_first(*id)), rest))
}

fn publish(kind: u8, body: &[u8]) -> Result<Packet, Malformed> {
    if kind >> 1 & 3 > 1 {
        return malformed("a message more often than at least once");
    }
    let Some((topic, id, payload)) = heading(kind, body) else {
        return malformed("a message that ends within its heading");
    };
    let Ok(topic) = std::str::from_utf8(topic) else {
        return malformed("a topic that is not UTF-8");
    };
    Ok(Packet::Publish {
        topic: topic.to_owned(),
        id,
        payload: payload.to_vec(),
    })
}

fn too_long(
    bytes: &[u8],
    (head, length): (usize, usize),
) -> Result<Option<(Packet, usize)>, Malformed> {
    const HEADING_MAX: usize = 2 + 65_535 + 2;
    let held = &bytes[head..];
    match heading(bytes[0], held) {
        Some((topic, id, rest)) => {
            let used = held.len() - rest.len();
            let topic = String::from_utf8_lossy(topic).into_owned();
            let rest = length.saturating_sub(used);
            Ok(Some((Packet::TooLong { topic, id, rest }, head + used)))
        }
        None if held.len() < HEADING_MAX => Ok(None),
        None => malformed("a message that ends within its heading"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_the_standard_has_them() {
        let login = Login {
            client: "holm".into(),
            user: Some(("u".into(), "p".into())),
            keep_alive: 30,
        };
        let hello = connect(&login).unwrap();
        assert_eq!(
            hello,
            b"\x10\x16\0\x04MQTT\x04\xC0\0\x1e\0\x04holm\0\x01u\0\x01p"
        );
        assert_eq!(format!("{login:?}"), "Login { client: \"holm\", .. }");
        let topics = ["a/+/b".to_owned()];
        assert_eq!(
            subscribe(1, &topics).unwrap(),
            b"\x82\x0a\0\x01\0\x05a/+/b\x01"
        );
        assert_eq!(acknowledge(258), [0x40, 2, 1, 2]);
        assert_eq!(packet(0x30, &[0; 321])[..3], [0x30, 0xC1, 2]);
    }

    #[test]
    fn a_message_is_decoded_once_it_is_whole() {
        let bytes = b"\x32\x08\0\x01t\0\x09{1}rest";
        for end in 0..10 {
            assert_eq!(decode(&bytes[..end]), Ok(None), "{end}");
        }
        let (packet, used) = decode(bytes).unwrap().unwrap();
        let expected = Packet::Publish {
            topic: "t".into(),
            id: Some(9),
            payload: b"{1}".to_vec(),
        };
        assert_eq!((packet, used), (expected, 10));
        let (packet, _) = decode(b"\x30\x03\0\x01t").unwrap().unwrap();
        assert!(matches!(packet, Packet::Publish { id: None, .. }));
    }

    #[test]
    fn a_message_that_is_too_long_is_passed_over() {
        let mut bytes = packet(0x32, &vec![0; PACKET_MAX + 1]);
        bytes.truncate(20);
        let (packet, used) = decode(&bytes).unwrap().unwrap();
        let rest = PACKET_MAX + 1 - 4;
        let (topic, id) = (String::new(), Some(0));
        assert_eq!(packet, Packet::TooLong { topic, id, rest });
        assert_eq!(used, 4 + 4);
    }

    #[test]
    fn noise_is_refused_or_waits() {
        arbtest::arbtest(|input| {
            let mut bytes: Vec<u8> = input.arbitrary()?;
            if input.arbitrary()? {
                bytes.splice(..0, *b"\x32");
            }
            if let Ok(Some((_, used))) = decode(&bytes) {
                assert!(0 < used && used <= bytes.len());
            }
            Ok(())
        })
        .budget_ms(500);
    }
}
