//! The grid of windows of one size: its panes, and which windows each pane is part of.
//!
//! A pane is g long, g the greatest common divisor of size and slide. Pane p covers
//! `[origin + p g, origin + (p+1) g)`; p may be negative. Hopping window k is panes
//! `[k m, k m + n)`; a cumulating window ends with each pane and begins with its cycle.

use thiserror::Error;

/// The most panes that a window may need.
pub const PANES_MAX: i64 = 1 << 20;

/// Why there is no such grid.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum GridError {
    /// A length is not positive.
    #[error("a window and its slide are longer than nothing")]
    NotPositive,
    /// A window would be too many panes.
    #[error("the window needs {panes} panes of {pane} us; the limit is {PANES_MAX}")]
    TooManyPanes {
        /// How many.
        panes: i64,
        /// How long each.
        pane: i64,
    },
    /// A cumulating window whose size is not a multiple of its step.
    #[error("the size is no multiple of the step")]
    NoMultiple,
}

/// How windows lie on the panes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `size` panes, every `slide` panes.
    Hop { size: i64, slide: i64 },
    /// Cycles of `size` panes; a window to the end of each.
    Cumulate { size: i64 },
}

/// A grid of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pane: i64,
    origin: i64,
    shape: Shape,
}

pub(crate) const fn gcd(mut left: i64, mut right: i64) -> i64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

const fn ceil_div(value: i64, by: i64) -> i64 {
    -(-value).div_euclid(by)
}

impl Grid {
    /// Windows that touch.
    ///
    /// # Errors
    ///
    /// If the size is not positive.
    pub fn tumble(size: i64, offset: i64) -> Result<Self, GridError> {
        Self::hop(size, size, offset)
    }

    /// Windows that overlap, all lengths in microseconds.
    ///
    /// # Errors
    ///
    /// If a length is not positive or a window is too many panes.
    pub fn hop(slide: i64, size: i64, offset: i64) -> Result<Self, GridError> {
        if slide <= 0 || size <= 0 {
            return Err(GridError::NotPositive);
        }
        let pane = gcd(size, slide);
        let shape = Shape::Hop {
            size: size / pane,
            slide: slide / pane,
        };
        Self::bounded(pane, offset, shape)
    }

    /// Windows that grow by a step until they are as long as the size.
    ///
    /// # Errors
    ///
    /// If a length is not positive, the size is no multiple of the step or it is too many.
    pub fn cumulate(step: i64, size: i64, offset: i64) -> Result<Self, GridError> {
        if step <= 0 || size <= 0 {
            return Err(GridError::NotPositive);
        }
        if size % step != 0 {
            return Err(GridError::NoMultiple);
        }
        let shape = Shape::Cumulate { size: size / step };
        Self::bounded(step, offset, shape)
    }

    const fn bounded(pane: i64, offset: i64, shape: Shape) -> Result<Self, GridError> {
        let panes = match shape {
            Shape::Hop { size, .. } | Shape::Cumulate { size } => size,
        };
        if panes > PANES_MAX {
            return Err(GridError::TooManyPanes { panes, pane });
        }
        Ok(Self {
            pane,
            origin: offset,
            shape,
        })
    }

    /// How long a pane is, in microseconds.
    #[must_use]
    pub const fn pane(&self) -> i64 {
        self.pane
    }

    pub(crate) const fn origin(&self) -> i64 {
        self.origin
    }

    /// The same windows over shorter panes, counted from another origin; `None` if they do not
    /// fit, or would be too many.
    #[must_use]
    pub fn over(&self, pane: i64, origin: i64) -> Option<Self> {
        let times = self.pane / pane;
        let (shape, period) = match self.shape {
            Shape::Hop { size, slide } => {
                let (size, slide) = (size.checked_mul(times)?, slide.checked_mul(times)?);
                (Shape::Hop { size, slide }, slide)
            }
            // A window ends with each of its panes: they stay as they are.
            Shape::Cumulate { size } if times == 1 => (self.shape, size),
            Shape::Cumulate { .. } => return None,
        };
        let away = self.origin.checked_sub(origin)?;
        let fits = self.pane % pane == 0 && away % period.checked_mul(pane)? == 0;
        let grid = Self::bounded(pane, origin, shape).ok()?;
        fits.then_some(grid)
    }

    /// The panes of a window, if there is such a window.
    pub(crate) fn checked_range(&self, window: i64) -> Option<(i64, i64)> {
        match self.shape {
            Shape::Hop { size, slide } => {
                let from = window.checked_mul(slide)?;
                Some((from, from.checked_add(size)?))
            }
            Shape::Cumulate { .. } => window.checked_add(1).map(|_| self.range(window)),
        }
    }

    /// How many panes the longest window has.
    #[must_use]
    pub const fn panes(&self) -> i64 {
        match self.shape {
            Shape::Hop { size, .. } | Shape::Cumulate { size } => size,
        }
    }

    /// How many panes lie between the ends of windows.
    #[must_use]
    pub const fn slide(&self) -> i64 {
        match self.shape {
            Shape::Hop { slide, .. } => slide,
            Shape::Cumulate { .. } => 1,
        }
    }

    /// Whether its windows grow.
    #[must_use]
    pub const fn is_cumulating(&self) -> bool {
        matches!(self.shape, Shape::Cumulate { .. })
    }

    /// The pane of a time.
    pub(crate) const fn pane_of(&self, time: i64) -> i64 {
        (time - self.origin).div_euclid(self.pane)
    }

    /// Where a pane begins.
    pub(crate) const fn start_of(&self, pane: i64) -> i64 {
        self.origin + pane * self.pane
    }

    /// The panes of a window, the last one left out.
    pub(crate) const fn range(&self, window: i64) -> (i64, i64) {
        match self.shape {
            Shape::Hop { size, slide } => (window * slide, window * slide + size),
            Shape::Cumulate { size } => (window.div_euclid(size) * size, window + 1),
        }
    }

    /// The first window that a pane is part of.
    pub(crate) const fn first_with(&self, pane: i64) -> i64 {
        match self.shape {
            Shape::Hop { size, slide } => ceil_div(pane - size + 1, slide),
            Shape::Cumulate { .. } => pane,
        }
    }

    /// The last window that a pane is part of; before the first if it is part of none.
    pub(crate) const fn last_with(&self, pane: i64) -> i64 {
        match self.shape {
            Shape::Hop { slide, .. } => pane.div_euclid(slide),
            Shape::Cumulate { size } => pane.div_euclid(size) * size + size - 1,
        }
    }

    /// Start and end of each window that a time is in and that ends after a mark.
    #[must_use]
    pub fn windows_of(&self, time: i64, mark: i64) -> Vec<(i64, i64)> {
        let pane = self.pane_of(time);
        (self.first_with(pane)..=self.last_with(pane))
            .map(|window| (self.start_of(self.range(window).0), self.end_of(window)))
            .filter(|(_, end)| *end > mark)
            .collect()
    }

    /// When a window ends.
    pub(crate) const fn end_of(&self, window: i64) -> i64 {
        self.start_of(self.range(window).1)
    }

    /// The first window that is open at a watermark: the first that ends after it.
    pub(crate) const fn open_at(&self, mark: i64) -> i64 {
        let whole = self.pane_of(mark);
        match self.shape {
            Shape::Hop { size, slide } => (whole - size).div_euclid(slide) + 1,
            Shape::Cumulate { .. } => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_panes_agree_on_every_grid() {
        let grids = [
            Grid::hop(2, 6, 1).unwrap(),
            Grid::hop(4, 6, 0).unwrap(),
            Grid::hop(5, 3, 2).unwrap(),
            Grid::tumble(7, 3).unwrap(),
            Grid::cumulate(2, 8, 1).unwrap(),
        ];
        for grid in grids {
            for pane in -50..50 {
                let covering: Vec<i64> = (-200..200)
                    .filter(|window| {
                        let (from, to) = grid.range(*window);
                        from <= pane && pane < to
                    })
                    .collect();
                let (first, last) = (grid.first_with(pane), grid.last_with(pane));
                if covering.is_empty() {
                    assert!(first > last, "{grid:?} {pane}");
                } else {
                    assert_eq!(covering.first(), Some(&first), "{grid:?} {pane}");
                    assert_eq!(covering.last(), Some(&last), "{grid:?} {pane}");
                }
            }
            for mark in -60..60 {
                let open = (-300..300).find(|window| grid.end_of(*window) > mark);
                assert_eq!(open, Some(grid.open_at(mark)), "{grid:?} {mark}");
            }
        }
    }

    #[test]
    fn an_absurd_window_is_refused() {
        let hour = 3_600_000_000;
        let refused = Grid::hop(7_000, hour, 0).unwrap_err();
        assert_eq!(
            refused,
            GridError::TooManyPanes {
                panes: 3_600_000,
                pane: 1_000
            }
        );
        assert_eq!(Grid::hop(0, 1, 0), Err(GridError::NotPositive));
        assert_eq!(Grid::cumulate(2, 5, 0), Err(GridError::NoMultiple));
    }
}
