//! Which keys the requests name.

use super::message::scatter;
use super::options::Order;

/// A sequence of key numbers below `space`, the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    order: Order,
    space: u64,
    state: u64,
}

impl Keys {
    /// The sequence of one thread; threads of one run get different `lane`s.
    pub(crate) fn new(order: Order, space: u64, lane: u64) -> Self {
        let state = match order {
            Order::Random => lane << 40,
            Order::Sequential => 0,
        };
        Self {
            order,
            space: space.max(1),
            state,
        }
    }

    /// The next key number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        match self.order {
            Order::Random => scatter(self.state) % self.space,
            Order::Sequential => (self.state - 1) % self.space,
        }
    }

    /// The key `offset` behind `key`, around the end.
    pub(crate) fn behind(&self, key: u64, offset: u64) -> u64 {
        (key + offset) % self.space
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_keys_start_at_zero_and_wrap() {
        let mut keys = Keys::new(Order::Sequential, 3, 0);
        let seen: Vec<u64> = (0..5).map(|_| keys.next()).collect();
        assert_eq!(seen, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn random_keys_differ_between_lanes_and_stay_below_the_space() {
        let mut one = Keys::new(Order::Random, 1000, 1);
        let mut two = Keys::new(Order::Random, 1000, 2);
        let ones: Vec<u64> = (0..100).map(|_| one.next()).collect();
        let twos: Vec<u64> = (0..100).map(|_| two.next()).collect();
        assert_ne!(ones, twos);
        assert!(ones.iter().chain(&twos).all(|key| *key < 1000));
    }
}
