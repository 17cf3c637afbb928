//! What is seen of a query while it runs: its latest rows, its open windows and its figures, for
//! as many watchers as there are. A watcher costs a number and nothing else: one who does not
//! keep up is given the state again instead of what it missed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holm_lanes::{Batch, Field};

use crate::reader::Format;
use crate::writer::write;

/// Bytes of deltas that are kept for watchers who lag.
const DELTAS_MAX: usize = 1 << 20;
/// Bytes of rows that a new watcher is shown.
const LATEST_MAX: usize = 64 << 10;
/// Open windows that are shown.
const OPEN_MAX: usize = 1_000;

/// What is counted of a query. All of it since the query began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rows in.
    pub rows: u64,
    /// Rows out.
    pub out: u64,
    /// Late for all of their windows.
    pub late: u64,
    /// Without a value.
    pub diverted: u64,
    /// Messages that its tables' brokers sent and that can never be rows.
    pub passed_over: u64,
    /// Bytes in.
    pub bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes that were logged since it was started, and rows that came since then.
    pub logged: (u64, u64),
    /// Bytes of state.
    pub state_bytes: u64,
    /// Panes that are open.
    pub panes: u64,
    /// Keys that are known.
    pub keys: u64,
    /// Time spent on rows, in nanoseconds.
    pub busy_ns: u64,
    /// The watermark in microseconds since 1970; none before the first row.
    pub watermark: Option<i64>,
    /// The clock in microseconds since 1970, as it was when this was counted.
    pub clock: i64,
    /// Whether it has ended.
    pub is_ended: bool,
    /// How many queries share what is kept and logged, this one among them; 0 where nobody knows.
    pub together: u64,
}

impl Figures {
    /// How far the watermark is behind the clock, in microseconds.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        Some(self.clock.saturating_sub(self.watermark?))
    }

    /// As an object of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let time = |time: Option<i64>| time.map_or_else(|| "null".to_owned(), |us| us.to_string());
        format!(
            "{{\"rows\":{},\"out\":{},\"late\":{},\"diverted\":{},\"passed_over\":{},\"bytes\":{},\"log_bytes\":{},\
             \"logged_bytes\":{},\"logged_rows\":{},\"state_bytes\":{},\"panes\":{},\"keys\":{},\"busy_ns\":{},\"watermark_us\":{},\
             \"clock_us\":{},\"lag_us\":{},\"ended\":{},\"together\":{}}}",
            self.rows,
            self.out,
            self.late,
            self.diverted,
            self.passed_over,
            self.bytes,
            self.log_bytes,
            self.logged.0,
            self.logged.1,
            self.state_bytes,
            self.panes,
            self.keys,
            self.busy_ns,
            time(self.watermark),
            self.clock,
            time(self.lag()),
            self.is_ended,
            self.together,
        )
    }
}

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Rows that came out, as lines of JSON; they are final.
    Rows(Arc<str>),
    /// The windows that are open now, as lines of JSON, in place of those before.
    Open(Arc<str>),
    /// Figures.
    Figures(Figures),
}

impl Seen {
    fn weight(&self) -> usize {
        match self {
            Self::Rows(text) | Self::Open(text) => text.len() + 64,
            Self::Figures(_) => 128,
        }
    }
}

/// What a watcher is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What is new; the latest state if it begins, or fell behind.
    pub seen: Vec<Seen>,
    /// Whether this is the state and replaces what was shown.
    pub is_state: bool,
    /// What to ask with next.
    pub next: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the first delta that is kept.
    first: u64,
    deltas: VecDeque<Seen>,
    bytes: usize,
    latest: VecDeque<Arc<str>>,
    latest_bytes: usize,
    open: Option<Arc<str>>,
    figures: Figures,
}

type Bell = Box<dyn Fn(u64) + Send + Sync>;

/// A query as it is seen. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct View(Arc<Inner>);

struct Inner {
    name: String,
    sql: String,
    fields: Vec<Field>,
    state: Mutex<State>,
    bells: Mutex<Vec<Bell>>,
}

impl fmt::Debug for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("View");
        shown.field("name", &self.0.name).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is seen is shown to people: half an update is better than none.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// A query of this name and text, whose rows have these columns.
    #[must_use]
    pub fn new(name: &str, sql: &str, fields: &[Field]) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            sql: sql.to_owned(),
            fields: fields.to_vec(),
            state: Mutex::default(),
            bells: Mutex::default(),
        }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its text.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.0.sql
    }

    /// The columns of its rows.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.0.fields
    }

    /// Rings with the number of the next delta whenever there is something new. It must return at
    /// once: it is called by whoever runs the query.
    pub fn ring(&self, bell: impl Fn(u64) + Send + Sync + 'static) {
        lock(&self.0.bells).push(Box::new(bell));
    }

    /// Rows came out.
    pub fn rows(&self, rows: &Batch) {
        if rows.rows == 0 {
            return;
        }
        let text: Arc<str> = self.lines(rows).into();
        let mut state = lock(&self.0.state);
        state.latest_bytes += text.len();
        state.latest.push_back(Arc::clone(&text));
        while state.latest_bytes > LATEST_MAX && state.latest.len() > 1 {
            let gone = state.latest.pop_front().map_or(0, |text| text.len());
            state.latest_bytes -= gone;
        }
        self.add(state, Seen::Rows(text));
    }

    /// These windows are open, and would give these rows if they ended now. Of many the first are
    /// shown.
    pub fn open(&self, rows: &Batch) {
        let shown: Vec<u32> = (0..rows.rows.min(OPEN_MAX))
            .map(holm_lanes::number)
            .collect();
        let text: Arc<str> = self.lines(&rows.take(&shown)).into();
        let mut state = lock(&self.0.state);
        state.open = Some(Arc::clone(&text));
        self.add(state, Seen::Open(text));
    }

    /// This was counted.
    pub fn figures(&self, figures: Figures) {
        let mut state = lock(&self.0.state);
        state.figures = figures;
        self.add(state, Seen::Figures(figures));
    }

    /// What was counted last.
    #[must_use]
    pub fn latest(&self) -> Figures {
        lock(&self.0.state).figures
    }

    /// What is new since a number; the state, if nothing says what was seen before, or if it is
    /// too long ago.
    #[must_use]
    pub fn since(&self, next: Option<u64>) -> Shown {
        let state = lock(&self.0.state);
        let count = u64::try_from(state.deltas.len()).expect("memory is smaller");
        let end = state.first + count;
        if let Some(next) = next
            && (state.first..=end).contains(&next)
        {
            let skip = usize::try_from(next - state.first).expect("memory is smaller");
            let seen = state.deltas.iter().skip(skip).cloned().collect();
            return Shown {
                seen,
                is_state: false,
                next: end,
            };
        }
        let rows = state.latest.iter().cloned().map(Seen::Rows);
        let mut seen: Vec<Seen> = rows.collect();
        seen.extend(state.open.clone().map(Seen::Open));
        seen.push(Seen::Figures(state.figures));
        Shown {
            seen,
            is_state: true,
            next: end,
        }
    }

    fn lines(&self, rows: &Batch) -> String {
        let mut text = String::new();
        write(Format::JsonLines, &self.0.fields, rows, &mut text);
        text
    }

    fn add(&self, mut state: MutexGuard<'_, State>, seen: Seen) {
        state.bytes += seen.weight();
        state.deltas.push_back(seen);
        while state.bytes > DELTAS_MAX && state.deltas.len() > 1 {
            let gone = state.deltas.pop_front().map_or(0, |seen| seen.weight());
            state.bytes -= gone;
            state.first += 1;
        }
        let count = u64::try_from(state.deltas.len()).expect("memory is smaller");
        let next = state.first + count;
        drop(state);
        lock(&self.0.bells).iter().for_each(|bell| bell(next));
    }
}

#[cfg(test)]
mod tests {
    use holm_lanes::{Kind, Lane, Values};

    use super::*;

    fn view() -> View {
        let field = Field {
            name: "n".into(),
            kind: Kind::BigInt,
            nullable: false,
        };
        View::new("hot", "SELECT 1", &[field])
    }

    fn rows(values: Vec<i64>) -> Batch {
        Batch::of(vec![Lane::dense(Values::Int(values))])
    }

    #[test]
    fn a_watcher_begins_with_the_state_and_goes_on_with_what_is_new() {
        let view = view();
        view.rows(&rows(vec![1]));
        view.open(&rows(vec![7]));
        view.open(&rows(vec![8]));
        let begun = view.since(None);
        assert!(begun.is_state);
        assert_eq!(
            begun.seen,
            [
                Seen::Rows("{\"n\":1}\n".into()),
                Seen::Open("{\"n\":8}\n".into()),
                Seen::Figures(Figures::default())
            ]
        );
        assert_eq!(view.since(Some(begun.next)).seen, []);
        view.rows(&rows(vec![2, 3]));
        let more = view.since(Some(begun.next));
        assert!(!more.is_state);
        assert_eq!(more.seen, [Seen::Rows("{\"n\":2}\n{\"n\":3}\n".into())]);
    }

    #[test]
    fn who_falls_behind_is_given_the_state() {
        let view = view();
        let begun = view.since(None);
        for n in 0..40_000 {
            view.rows(&rows(vec![n]));
        }
        let behind = view.since(Some(begun.next));
        assert!(behind.is_state);
        let bytes: usize = behind.seen.iter().map(Seen::weight).sum();
        assert!(bytes < 1 << 20, "{bytes} bytes are shown");
        assert_eq!(view.since(Some(behind.next)).seen, []);
        // A number of somebody else's is none.
        assert!(view.since(Some(behind.next + 1)).is_state);
    }

    #[test]
    fn the_bell_rings_for_each_thing_seen() {
        let rung = Arc::new(Mutex::new(Vec::new()));
        let view = view();
        let heard = Arc::clone(&rung);
        view.ring(move |next| heard.lock().unwrap().push(next));
        view.rows(&rows(vec![1]));
        view.figures(Figures::default());
        view.rows(&rows(vec![]));
        assert_eq!(*rung.lock().unwrap(), [1, 2]);
    }
}
