//! What each node keeps while it runs, and what it does with a batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use holm_lanes::{
    Batch, Expr, Fault, Faults, Keys, Kind, Lane, LoadError, Loader, Marks, Origin, Saver, Shape,
    Values, index, number,
};
use holm_window::{Gauge, Grouped, Pushed, Sessions, Shared, Windows};

use crate::buffer::Buffer;
use crate::join;
use crate::lookup::{self, Table};
use crate::order;
use crate::plan::{Limits, Node, Plan, WindowKind};
use crate::quiet::Standing;
use crate::repeats::Repeats;
use crate::run::Full;
use crate::several;
use crate::top;
use crate::union::Union;

/// What a node did with a batch.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) batch: Batch,
    /// Rows of the input that came too late.
    pub(crate) late: Vec<usize>,
    /// Rows of the input that have no value.
    pub(crate) diverted: Vec<(usize, Fault)>,
    /// Results that have no value.
    pub(crate) lost: Vec<Fault>,
    /// Results that came when their window had closed.
    pub(crate) stale: usize,
}

impl Done {
    pub(crate) const fn clean(batch: Batch) -> Self {
        Self {
            batch,
            late: Vec::new(),
            diverted: Vec::new(),
            lost: Vec::new(),
            stale: 0,
        }
    }
}

/// The state of a node.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Source,
    /// A later node does its work.
    Folded,
    /// With the columns that are read behind it.
    Filter(Expr, Vec<bool>),
    Unrepeated(Box<Repeats>),
    Project(Vec<Expr>),
    Windows(Windows),
    /// Of these nodes, which read the same.
    Shared(Box<Shared>, Vec<usize>),
    Sessions(Sessions),
    Assign(holm_window::Grid, usize),
    Grouped(Grouped, bool),
    /// With the columns that are read behind it, also of the table.
    Lookup(Table, lookup::Terms),
    Top(Buffer, Top),
    Order(Buffer, Vec<(usize, bool)>, Option<usize>),
    Join(Box<Join>),
    Union(Union),
}

#[derive(Clone, Debug)]
pub(crate) struct Top {
    keys: Vec<(usize, Shape)>,
    order: Vec<(usize, bool)>,
    count: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Join {
    left: (Buffer, i64),
    right: (Buffer, i64),
    right_shapes: Vec<Shape>,
    keys: Vec<(usize, usize)>,
    condition: Option<Expr>,
    keeps_left: bool,
    kinds: Vec<Kind>,
}

/// A batch of no rows with lanes of these kinds.
pub(crate) fn empty(kinds: &[Kind], after: i64) -> Batch {
    let lanes = kinds
        .iter()
        .map(|kind| Lane::dense(Values::empty(kind.shape())));
    let mut batch = Batch::of(lanes.collect());
    batch.marks.after = after;
    batch
}

/// Columns of a node's rows, with the shapes that they have there.
fn shapes(plan: &Plan, input: usize, columns: &[usize]) -> Vec<(usize, Shape)> {
    let shape = |column: &usize| (*column, plan.kinds[input][*column].shape());
    columns.iter().map(shape).collect()
}

impl Stage {
    pub(crate) fn new(
        plan: &Plan,
        number: usize,
        (limits, read): (Limits, &BTreeSet<usize>),
        tables: &[Batch],
    ) -> Self {
        let node = &plan.nodes[number];
        let read = (0..plan.kinds[number].len()).map(|column| read.contains(&column));
        let read: Vec<bool> = read.collect();
        let shapes = |input: usize, columns: &[usize]| shapes(plan, input, columns);
        match node {
            Node::Source(_) => Self::Source,
            Node::Filter { condition, .. } => Self::Filter(condition.clone(), read),
            Node::Unrepeated {
                input,
                columns,
                time,
            } => {
                let columns = shapes(*input, columns);
                let repeats = Repeats::new(&columns, *time, limits.repeats);
                Self::Unrepeated(Box::new(repeats))
            }
            Node::Project { columns, .. } => Self::Project(columns.clone()),
            Node::Window {
                input,
                kind,
                time,
                keys,
                calls,
                strategy,
            } => {
                let keys = shapes(*input, keys);
                let calls = calls.clone();
                match kind {
                    WindowKind::Grid(grid) => {
                        let windows = Windows::new(*grid, *time, &keys, calls, limits.window);
                        Self::Windows(match strategy {
                            Some(strategy) => windows.with_strategy(*strategy),
                            None => windows,
                        })
                    }
                    WindowKind::Session(gap) => {
                        Self::Sessions(Sessions::new(*gap, *time, &keys, calls, limits.window))
                    }
                }
            }
            Node::Assign { grid, time, .. } => Self::Assign(*grid, *time),
            Node::Group {
                input,
                window,
                keys,
                calls,
            } => {
                let keys = shapes(*input, keys);
                let grouped = Grouped::new(*window, &keys, calls.clone(), limits.window);
                Self::Grouped(grouped, window.is_some())
            }
            Node::Lookup {
                table,
                keys,
                keeps_left,
                ..
            } => lookup(&tables[*table], keys, (*keeps_left, read)),
            Node::Top { .. } => Self::top(plan, number, limits),
            Node::Order { order, limit, .. } => {
                Self::Order(Buffer::new(None, limits.rows), order.clone(), *limit)
            }
            Node::Join { .. } => Self::Join(Box::new(Join::new(plan, number, limits))),
            Node::Union { inputs } => {
                Self::Union(Union::new(inputs.len(), &plan.kinds[number], read))
            }
        }
    }

    /// Windows of several nodes over common panes.
    pub(crate) fn sharing(plan: &Plan, nodes: &[usize], limits: Limits) -> Self {
        let Node::Window {
            input, time, keys, ..
        } = &plan.nodes[nodes[0]]
        else {
            panic!("only windows share panes");
        };
        let keys = shapes(plan, *input, keys);
        let queries = nodes.iter().filter_map(|node| several::query(plan, *node));
        let queries: Vec<_> = queries.collect();
        let shared = Shared::new(*time, &keys, &queries, limits.window);
        let shared = shared.expect("it was found out that they can share");
        Self::Shared(Box::new(shared), nodes.to_vec())
    }

    /// Windows that count the keys of each group, out of those.
    pub(crate) fn counted_by(self, parts: &[(usize, Shape)], results: usize) -> Self {
        let Self::Windows(windows) = self else {
            panic!("only windows on a grid are folded");
        };
        Self::Windows(windows.counted_by(parts, results))
    }

    fn top(plan: &Plan, number: usize, limits: Limits) -> Self {
        let Node::Top {
            input,
            window,
            keys,
            order,
            count,
        } = &plan.nodes[number]
        else {
            panic!("it is made of first rows");
        };
        Self::Top(
            Buffer::new(Some(*window), limits.rows),
            Top {
                keys: shapes(plan, *input, keys),
                order: order.clone(),
                count: *count,
            },
        )
    }

    /// What it does with a batch of its only input.
    pub(crate) fn step(&mut self, batch: &Batch) -> Result<Done, Full> {
        match self {
            Self::Source | Self::Folded | Self::Join(_) | Self::Union(_) => {
                Ok(Done::clean(batch.clone()))
            }
            Self::Shared(..) => panic!("a run takes what shared windows did from where it waits"),
            Self::Filter(condition, read) => Ok(filter(condition, read, batch)),
            Self::Unrepeated(repeats) => Ok(Done::clean(repeats.pass(batch))),
            Self::Project(columns) => Ok(project(columns, batch)),
            Self::Windows(windows) => {
                let pushed = windows.push(batch);
                Ok(closed(pushed, windows.keys(), batch.marks.after, true))
            }
            Self::Sessions(sessions) => {
                let pushed = sessions.push(batch);
                Ok(closed(pushed, sessions.keys(), batch.marks.after, true))
            }
            Self::Grouped(grouped, has_window) => {
                let pushed = grouped.push(batch);
                Ok(closed(
                    pushed,
                    grouped.keys(),
                    batch.marks.after,
                    *has_window,
                ))
            }
            Self::Assign(grid, time) => Ok(assign(grid, *time, batch)),
            Self::Lookup(table, terms) => Ok(Done::clean(table.beside(batch, terms))),
            Self::Top(buffer, of) => {
                buffer.hold(batch, "a list of first rows")?;
                let mut parts = Vec::new();
                while let Some(key) = buffer.due(batch.marks.after) {
                    let held = buffer.release(key).expect("it is due");
                    parts.push(top::first(&held, &of.keys, &of.order, of.count));
                }
                let mut none = batch.take(&[]);
                none.lanes
                    .push(Arc::new(Lane::dense(Values::Int(Vec::new()))));
                Ok(Done::clean(together(&none, &parts, batch.marks.after)))
            }
            Self::Order(buffer, order, limit) => {
                buffer.hold(batch, "an order")?;
                let mut out = batch.take(&[]);
                if let Some(key) = buffer.due(batch.marks.after) {
                    let held = buffer.release(key).expect("it is due");
                    let mut rows = order::sorted(&held, order);
                    rows.truncate(limit.unwrap_or(usize::MAX));
                    out = held.take(&rows);
                }
                out.marks.after = batch.marks.after;
                Ok(Done::clean(out))
            }
        }
    }

    /// The column with the end of the window that each row carries.
    pub(crate) const fn end(&self) -> Option<usize> {
        match self {
            Self::Grouped(grouped, true) => grouped.end(),
            Self::Top(buffer, _) => buffer.end(),
            Self::Grouped(_, false)
            | Self::Source
            | Self::Folded
            | Self::Filter(..)
            | Self::Unrepeated(_)
            | Self::Project(_)
            | Self::Windows(_)
            | Self::Shared(..)
            | Self::Sessions(_)
            | Self::Assign(..)
            | Self::Lookup(..)
            | Self::Order(..)
            | Self::Join(_)
            | Self::Union(_) => None,
        }
    }

    /// How much it keeps.
    pub(crate) fn gauge(&self) -> Gauge {
        match self {
            Self::Windows(windows) => windows.gauge(),
            Self::Shared(shared, _) => shared.gauge(),
            Self::Sessions(sessions) => sessions.gauge(),
            Self::Grouped(grouped, _) => grouped.gauge(),
            Self::Top(buffer, _) | Self::Order(buffer, ..) => buffer.gauge(),
            Self::Join(join) => join.left.0.gauge().and(join.right.0.gauge()),
            Self::Unrepeated(repeats) => repeats.gauge(),
            Self::Source
            | Self::Folded
            | Self::Filter(..)
            | Self::Project(_)
            | Self::Assign(..)
            | Self::Union(_)
            | Self::Lookup(..) => Gauge::default(),
        }
    }

    /// What a union does with what its inputs have.
    pub(crate) fn union(&mut self, inputs: &[Option<&Batch>], standing: &Standing) -> Done {
        let Self::Union(union) = self else {
            panic!("only a union has as many inputs");
        };
        Done::clean(union.step(inputs, standing))
    }

    /// What a join does with batches of its two inputs.
    pub(crate) fn join(
        &mut self,
        (left, right): (Option<&Batch>, Option<&Batch>),
        standing: &Standing,
    ) -> Result<Done, Full> {
        let Self::Join(join) = self else {
            panic!("only a join has two inputs");
        };
        join.step((left, right), standing)
    }
}

impl Join {
    fn new(plan: &Plan, number: usize, limits: Limits) -> Self {
        let Node::Join {
            inputs,
            windows,
            keys,
            condition,
            keeps_left,
        } = &plan.nodes[number]
        else {
            panic!("it is made of a join");
        };
        Self {
            left: (Buffer::new(Some(windows.0), limits.rows), Marks::START),
            right: (Buffer::new(Some(windows.1), limits.rows), Marks::START),
            right_shapes: plan.kinds[inputs.1]
                .iter()
                .map(|kind| kind.shape())
                .collect(),
            keys: keys.clone(),
            condition: condition.clone(),
            keeps_left: *keeps_left,
            kinds: plan.kinds[number].clone(),
        }
    }

    fn step(
        &mut self,
        (left, right): (Option<&Batch>, Option<&Batch>),
        standing: &Standing,
    ) -> Result<Done, Full> {
        if let Some(batch) = left {
            self.left.0.hold(batch, "a join")?;
            self.left.1 = batch.marks.after;
        }
        if let Some(batch) = right {
            self.right.0.hold(batch, "a join")?;
            self.right.1 = batch.marks.after;
        }
        let mark = standing.lowest(&[self.left.1, self.right.1]);
        let mut parts = Vec::new();
        let mut lost = Vec::new();
        loop {
            let dues = [self.left.0.due(mark), self.right.0.due(mark)];
            let Some(key) = dues.into_iter().flatten().min() else {
                break;
            };
            let (left, right) = (self.left.0.release(key), self.right.0.release(key));
            let Some(left) = left else {
                continue;
            };
            let terms = join::Terms {
                keys: &self.keys,
                condition: self.condition.as_ref(),
                keeps_left: self.keeps_left,
            };
            let mut faults = Faults::default();
            let shapes = &self.right_shapes;
            parts.push(join::pairs(
                &left,
                right.as_ref(),
                shapes,
                &terms,
                &mut faults,
            ));
            lost.extend(faults.iter().map(|(_, fault)| fault.clone()));
        }
        let mut done = Done::clean(together(&empty(&self.kinds, mark), &parts, mark));
        done.lost = lost;
        Ok(done)
    }
}

/// Batches one after the other.
fn together(none: &Batch, parts: &[Batch], after: i64) -> Batch {
    use holm_lanes::LaneBuilder;
    let mut builders: Vec<LaneBuilder> = none
        .lanes
        .iter()
        .map(|lane| LaneBuilder::new(lane.shape()))
        .collect();
    for part in parts {
        for (builder, lane) in builders.iter_mut().zip(&part.lanes) {
            builder.extend_from(lane, 0..part.rows);
        }
    }
    let mut batch = Batch::of(builders.into_iter().map(LaneBuilder::finish).collect());
    batch.marks.after = after;
    batch
}

fn lookup(table: &Batch, keys: &[(usize, usize)], (keeps_left, read): (bool, Vec<bool>)) -> Stage {
    let theirs: Vec<usize> = keys.iter().map(|(_, column)| *column).collect();
    let terms = lookup::Terms {
        columns: keys.iter().map(|(column, _)| *column).collect(),
        keeps_left,
        read,
    };
    Stage::Lookup(Table::new(table, &theirs), terms)
}

/// The batch without its faulty rows, and those.
fn without(batch: Batch, faults: &Faults) -> Done {
    if faults.is_empty() {
        return Done::clean(batch);
    }
    let kept: Vec<u32> = (0..number(batch.rows))
        .filter(|row| !faults.has(index(*row)))
        .collect();
    let mut done = Done::clean(batch.take(&kept));
    done.diverted = faults
        .iter()
        .map(|(row, fault)| (row, fault.clone()))
        .collect();
    done
}

fn filter(condition: &Expr, read: &[bool], batch: &Batch) -> Done {
    let mut faults = Faults::default();
    let truths = condition.evaluate(batch, &mut faults);
    let kept: Vec<u32> = match (truths.values(), truths.nulls(), faults.is_empty()) {
        (Values::Bool(values), None, true) => chosen(values),
        _ => (0..number(batch.rows))
            .filter(|row| truths.is_true(index(*row)) && !faults.has(index(*row)))
            .collect(),
    };
    let out = if kept.len() == batch.rows {
        batch.read_only(|lane| read[lane])
    } else {
        batch.take_read(&kept, |lane| read[lane])
    };
    let mut done = Done::clean(out);
    done.diverted = faults
        .iter()
        .map(|(row, fault)| (row, fault.clone()))
        .collect();
    done
}

/// The rows that are true, without a branch for each.
fn chosen(truths: &[bool]) -> Vec<u32> {
    let mut rows = vec![0; truths.len()];
    let mut count = 0;
    for (row, is_true) in (0..).zip(truths) {
        rows[count] = row;
        count += usize::from(*is_true);
    }
    rows.truncate(count);
    rows
}

fn project(columns: &[Expr], batch: &Batch) -> Done {
    let mut faults = Faults::default();
    let lanes = columns
        .iter()
        .map(|column| column.evaluate(batch, &mut faults))
        .collect();
    without(batch.with_lanes(lanes), &faults)
}

/// Adds computed columns, and sets rows aside whose time is NULL.
pub(crate) fn prepare(
    computed: &[(holm_lanes::Field, Expr)],
    time: Option<usize>,
    batch: Batch,
) -> Done {
    let mut faults = Faults::default();
    let mut lanes = batch.lanes.clone();
    for (_, expr) in computed {
        lanes.push(expr.evaluate(&batch, &mut faults));
    }
    let batch = batch.with_lanes(lanes);
    if let Some(time) = time
        && let Some(nulls) = batch.lanes[time].nulls()
    {
        let rows = nulls.iter().enumerate().filter(|(_, is_null)| **is_null);
        rows.for_each(|(row, _)| faults.note(row, Fault::Null));
    }
    without(batch, &faults)
}

/// What windows over common panes do with a batch, by node.
pub(crate) fn shared(shared: &mut Shared, batch: &Batch) -> Vec<Done> {
    let pushed = shared.push(batch).into_iter().enumerate();
    let after = batch.marks.after;
    pushed
        .map(|(member, pushed)| closed(pushed, shared.keys_of(member), after, true))
        .collect()
}

/// Rows of closed windows as a batch: start, end, key, results; or without start and end.
fn closed(pushed: Pushed, keys: &Keys, after: i64, has_window: bool) -> Done {
    let Pushed {
        mut closed,
        late,
        diverted,
    } = pushed;
    let lost = std::mem::take(&mut closed.faults);
    let rows = closed.codes.len();
    let mut lanes = Vec::new();
    if has_window {
        lanes.push(Lane::dense(Values::Int(closed.starts.clone())));
        lanes.push(Lane::dense(Values::Int(closed.ends.clone())));
    }
    lanes.extend(keys.tuples(&closed.codes));
    lanes.extend(closed.into_results());
    Done {
        batch: Batch {
            lanes: lanes.into_iter().map(Arc::new).collect(),
            rows,
            origin: Origin::Run(0),
            marks: Marks { after, rows: None },
        },
        late,
        diverted,
        lost,
        stale: 0,
    }
}

/// A copy of each row for each of its open windows.
fn assign(grid: &holm_window::Grid, time: usize, batch: &Batch) -> Done {
    let times = batch.lanes[time].ints().expect("a time is an integer");
    let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut late = Vec::new();
    for (row, time) in times.iter().enumerate() {
        let mark = batch
            .marks
            .rows
            .as_ref()
            .map_or(Marks::START, |marks| marks[row]);
        let windows = grid.windows_of(*time, mark);
        if windows.is_empty() && !grid.windows_of(*time, Marks::START).is_empty() {
            late.push(row);
        }
        for (start, end) in windows {
            rows.push(number(row));
            starts.push(start);
            ends.push(end);
        }
    }
    let mut out = batch.take(&rows);
    out.lanes.push(Arc::new(Lane::dense(Values::Int(starts))));
    out.lanes.push(Arc::new(Lane::dense(Values::Int(ends))));
    let mut done = Done::clean(out);
    done.late = late;
    done
}

/// State as bytes, and back.
impl Stage {
    pub(crate) fn save(&self, to: &mut Saver) {
        match self {
            // What a lookup reads is kept apart: it never changes.
            Self::Source
            | Self::Folded
            | Self::Filter(..)
            | Self::Project(_)
            | Self::Assign(..)
            | Self::Lookup(..) => {}
            Self::Unrepeated(repeats) => repeats.save(to),
            Self::Windows(windows) => windows.save(to),
            Self::Shared(shared, _) => shared.save(to),
            Self::Sessions(sessions) => sessions.save(to),
            Self::Grouped(grouped, _) => grouped.save(to),
            Self::Top(buffer, _) | Self::Order(buffer, ..) => buffer.save(to),
            Self::Union(union) => union.marks.iter().for_each(|mark| to.int(*mark)),
            Self::Join(join) => {
                for (buffer, mark) in [&join.left, &join.right] {
                    to.int(*mark);
                    buffer.save(to);
                }
            }
        }
    }

    pub(crate) fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        match self {
            Self::Source
            | Self::Folded
            | Self::Filter(..)
            | Self::Project(_)
            | Self::Assign(..)
            | Self::Lookup(..) => Ok(()),
            Self::Unrepeated(repeats) => repeats.load(from),
            Self::Windows(windows) => windows.load(from),
            Self::Shared(shared, _) => shared.load(from),
            Self::Sessions(sessions) => sessions.load(from),
            Self::Grouped(grouped, _) => grouped.load(from),
            Self::Top(buffer, _) | Self::Order(buffer, ..) => buffer.load(from),
            Self::Union(union) => union.marks.iter_mut().try_for_each(|mark| {
                *mark = from.int()?;
                Ok(())
            }),
            Self::Join(join) => {
                for (buffer, mark) in [&mut join.left, &mut join.right] {
                    *mark = from.int()?;
                    buffer.load(from)?;
                }
                Ok(())
            }
        }
    }
}
