//! MQTT 3.1.1 in: a subscriber, at least once, that acknowledges what is durable and nothing
//! else. The socket is handed in, so TLS is somebody else's.

mod packet;
mod session;

pub use packet::{Login, Malformed};
pub use session::{MqttCounts, MqttError, PassedOver, Subscription};
