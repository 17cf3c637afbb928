//! How requests come to a node.

use holm_base::{NodeId, RequestId};
use holm_machine::Offer;

use crate::node::Node;
use crate::world::wakes::Waker;
use crate::world::{Reply, World};

/// How a request gets to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// On the calling thread, which does the engine's work.
    Here,
    /// Through its inbox.
    Inbox,
}

impl<N: Node> World<N> {
    /// Hands a request to a node; `None` if it is down, and nobody will answer.
    pub fn request(&mut self, node: NodeId, body: N::Request) -> Option<RequestId> {
        self.request_at(node, body, Door::Here)
    }

    /// The same, from a thread that leaves it in the node's inbox and wakes the engine's thread for it.
    pub fn request_inbox(&mut self, node: NodeId, body: N::Request) -> Option<RequestId> {
        self.request_at(node, body, Door::Inbox)
    }

    fn request_at(&mut self, node: NodeId, body: N::Request, from: Door) -> Option<RequestId> {
        let index = self.index(node);
        let driver = self.processes[index].driver.as_mut()?;
        let request = self.next_request.next();
        self.next_request = request;
        match driver.offer(N::request(request, body)) {
            Offer::Taken => match from {
                Door::Here if self.stay(index) => {}
                Door::Here => self.stir(index),
                Door::Inbox => self.rouse(index, Waker::Worker(index)),
            },
            Offer::Unavailable(_) | Offer::Dropped(_) => self.replies.push(Reply {
                at: self.now,
                node,
                request,
                answer: N::unavailable(),
            }),
        }
        Some(request)
    }
}
