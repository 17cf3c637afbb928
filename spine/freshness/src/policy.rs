//! Whether a cache is sent a key's new value or only told that its old one is over.
//!
//! Sending costs bytes at each write; telling costs few, and a whole fetch at the next read. Who
//! knew the number of writes before the next read could choose; nobody does. The rule that needs
//! no such knowledge sends until as much was sent as telling and fetching cost, and then tells:
//! it never costs more than twice what the best choice would have (Karlin et al., *Competitive
//! snoopy caching*, 1988, section 2).
//!
//! Where the past of a key is a guide, one can do better. For each key it is known what always
//! sending and what always telling would have cost, and, once a read has come, what would have
//! been the best. The cheaper of the two is followed as long as the key has cost little more than
//! twice the best; else the rule is, under which it cannot fall back further.
//!
//! What would surprise: a lead of one strategy is capped. What a key was like long ago says
//! little, and a lead that grew for days would take as long to be forgotten.

/// What a key's messages cost, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Sending the new value.
    pub update: u64,
    /// Telling that the old one is over.
    pub invalidate: u64,
    /// A read that has to fetch: asking and answering.
    pub miss: u64,
}

impl Prices {
    /// What telling costs if a read follows.
    const fn absence(self) -> u64 {
        self.invalidate + self.miss
    }
}

/// What to do about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Send the new value.
    Update,
    /// Tell that the old one is over.
    Invalidate,
    /// The cache has no value of the key: nothing.
    Nothing,
}

/// What the cache would hold under a strategy, and what was sent since the last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Course {
    is_held: bool,
    sent: u64,
}

impl Course {
    const HELD: Self = Self {
        is_held: true,
        sent: 0,
    };

    /// Takes a choice; what it costs.
    const fn take(&mut self, choice: Choice, prices: Prices) -> u64 {
        match choice {
            Choice::Update => {
                self.sent += prices.update;
                prices.update
            }
            Choice::Invalidate => {
                self.is_held = false;
                prices.invalidate
            }
            Choice::Nothing => 0,
        }
    }

    /// A read; what it costs.
    const fn read(&mut self, prices: Prices) -> u64 {
        let cost = if self.is_held { 0 } else { prices.miss };
        *self = Self::HELD;
        cost
    }

    /// The rule that needs no knowledge.
    const fn rule(&self, prices: Prices) -> Choice {
        if !self.is_held {
            Choice::Nothing
        } else if self.sent + prices.update > prices.absence() {
            Choice::Invalidate
        } else {
            Choice::Update
        }
    }

    const fn only_if_held(&self, choice: Choice) -> Choice {
        if self.is_held {
            choice
        } else {
            Choice::Nothing
        }
    }
}

/// A lead is capped at so many times what telling and fetching cost.
const LEAD_MAX: u64 = 10;

/// The choice for one key at one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    actual: Course,
    telling: Course,
    /// What sending all writes since the last read costs.
    gap: u64,
    /// By how much always sending costs more than always telling; below 0, less.
    lead: i64,
    /// Twice what the best choices would have cost up to the last read, less what the key has
    /// cost.
    slack: i64,
}

impl Policy {
    /// A key that the cache has just fetched.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            actual: Course::HELD,
            telling: Course::HELD,
            gap: 0,
            lead: 0,
            slack: 0,
        }
    }

    /// Whether the cache holds a value.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.actual.is_held
    }

    /// The key was written, once or several times since the last frame: what the next one says.
    pub fn write(&mut self, prices: Prices) -> Choice {
        let choice = self.choose(prices);
        let actual = self.actual.take(choice, prices);
        let by_telling = self.telling.only_if_held(Choice::Invalidate);
        let telling = self.telling.take(by_telling, prices);
        self.gap += prices.update;
        self.book(prices, actual, (prices.update, telling));
        choice
    }

    /// The key was read at the cache, at least once since the last report.
    pub fn read(&mut self, prices: Prices) {
        let actual = self.actual.read(prices);
        let telling = self.telling.read(prices);
        self.slack = self
            .slack
            .saturating_add(2 * signed(self.gap.min(prices.absence())));
        self.gap = 0;
        self.book(prices, actual, (0, telling));
    }

    fn choose(&self, prices: Prices) -> Choice {
        let absence = signed(prices.absence());
        // A lead of a fetch is a guide; less is chance.
        let guide = if self.lead > absence {
            Some(Choice::Invalidate)
        } else if self.lead < -absence {
            Some(Choice::Update)
        } else {
            None
        };
        // The rule alone may stand two fetches below before the read comes that makes it good.
        let may_follow = self.slack >= -2 * absence;
        match guide.filter(|_| may_follow) {
            Some(choice) => self.actual.only_if_held(choice),
            None => self.actual.rule(prices),
        }
    }

    fn book(&mut self, prices: Prices, actual: u64, (sending, telling): (u64, u64)) {
        let cap = signed(prices.absence()) * signed(LEAD_MAX);
        let lead = self.lead + signed(sending) - signed(telling);
        self.lead = lead.clamp(-cap, cap);
        self.slack = self.slack.saturating_sub(signed(actual));
    }
}

/// Prices are of messages, which are short.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 32)
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
