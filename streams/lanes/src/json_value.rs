//! JSON_VALUE over a batch: what a path leads to in each row, or what is wanted instead.

use std::sync::Arc;

use crate::batch::Batch;
use crate::expression::{Active, Expr, merge, noting};
use crate::fault::{Fault, Faults};
use crate::json_path::{Found, JsonPath};
use crate::kind::Kind;
use crate::lane::{Lane, LaneBuilder, Values};

/// A value out of text of JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonValue {
    /// The text; of NULL it is NULL.
    pub text: Expr,
    /// Where it stands there.
    pub path: JsonPath,
    /// Its kind: STRING, BOOLEAN, INT or DOUBLE.
    pub kind: Kind,
    /// What it is where nothing stands.
    pub on_empty: Instead,
    /// What it is where the text is none of JSON, or what stands there is none of the kind.
    pub on_error: Instead,
}

/// What stands for a value that is not there.
#[derive(Clone, Debug, PartialEq)]
pub enum Instead {
    /// NULL.
    Null,
    /// The row is diverted.
    Fault,
    /// Another value, of the same kind.
    Value(Expr),
}

impl JsonValue {
    /// The lanes that it reads.
    pub(crate) fn columns(&self, found: &mut Vec<usize>) {
        self.text.columns(found);
        for instead in [&self.on_empty, &self.on_error] {
            if let Instead::Value(value) = instead {
                value.columns(found);
            }
        }
    }

    pub(crate) fn lane(&self, batch: &Batch, active: Active<'_>, faults: &mut Faults) -> Arc<Lane> {
        let texts = self.text.lane(batch, active, faults);
        let Values::Text(values) = texts.values() else {
            panic!("types are settled before values flow: JSON_VALUE is of strings");
        };
        let mut builder = LaneBuilder::new(self.kind.shape());
        // For each row the lane that has its value: this one, or one of those that stand for it.
        let mut chosen = vec![0; batch.rows];
        let mut note = noting(active, faults);
        for (row, text) in values.iter().enumerate() {
            let found = if texts.is_null(row) {
                Found::Empty
            } else {
                self.path.find(text, self.kind)
            };
            let (lane, instead) = match found {
                Found::Value(value) => {
                    builder.push(&value);
                    continue;
                }
                Found::Empty => (1, &self.on_empty),
                Found::Error => (2, &self.on_error),
            };
            builder.push_null();
            match instead {
                _ if texts.is_null(row) => {}
                Instead::Null => {}
                Instead::Value(_) => chosen[row] = lane,
                Instead::Fault => note(row, Fault::undefined("JSON_VALUE", text)),
            }
        }
        drop(note);
        let mut lanes = vec![Arc::new(builder.finish())];
        for (lane, instead) in [(1, &self.on_empty), (2, &self.on_error)] {
            let wanted: Vec<bool> = chosen.iter().map(|it| *it == lane).collect();
            lanes.push(match instead {
                Instead::Value(value) if wanted.contains(&true) => {
                    value.lane(batch, Some(&wanted), faults)
                }
                Instead::Value(_) | Instead::Null | Instead::Fault => Arc::clone(&lanes[0]),
            });
        }
        Arc::new(merge(&lanes, &chosen, self.kind))
    }
}
