//! Which kinds go together, and what they become: Flink's rules.

use holm_lanes::{Expr, Kind, OnFault, Scalar, convert};

use crate::refusal::{Refusal, Span};

/// An expression whose kind is known.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) expr: Expr,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) span: Span,
}

impl Typed {
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.expr, Expr::Literal(Scalar::Null, _))
    }

    /// The same value as another kind.
    pub(crate) fn cast(self, to: Kind) -> Self {
        self.cast_or(to, OnFault::Divert)
    }

    pub(crate) fn cast_or(self, to: Kind, on_fault: OnFault) -> Self {
        if self.kind == to {
            return self;
        }
        if let Expr::Literal(scalar, from) = &self.expr
            && let Ok(scalar) = convert(scalar, *from, to)
        {
            return Self {
                expr: Expr::Literal(scalar, to),
                kind: to,
                ..self
            };
        }
        Self {
            expr: Expr::Cast {
                value: Box::new(self.expr),
                from: self.kind,
                to,
                on_fault,
            },
            kind: to,
            nullable: self.nullable || on_fault == OnFault::Null,
            span: self.span,
        }
    }
}

/// The kind that values of both have, if there is one.
pub(crate) fn common(left: Kind, right: Kind) -> Option<Kind> {
    if left == right {
        return Some(left);
    }
    if left.is_integer() && right.is_integer() {
        let wider = left.bounds().1 >= right.bounds().1;
        return Some(if wider { left } else { right });
    }
    if left.is_number() && right.is_number() {
        if left.is_float() || right.is_float() {
            let is_single = [left, right]
                .iter()
                .all(|kind| *kind == Kind::Float || kind.is_integer());
            return Some(if is_single { Kind::Float } else { Kind::Double });
        }
        let ((digits, scale), (other_digits, other_scale)) = (left.decimal()?, right.decimal()?);
        let whole = (digits - scale).max(other_digits - other_scale);
        let scale = scale.max(other_scale);
        return Some(Kind::Decimal {
            precision: (whole + scale).min(38),
            scale: scale.min(38_u8.saturating_sub(whole)),
        });
    }
    match (left, right) {
        (Kind::Timestamp { digits }, Kind::Timestamp { digits: other }) => Some(Kind::Timestamp {
            digits: digits.max(other),
        }),
        (Kind::TimestampLtz { digits }, Kind::TimestampLtz { digits: other }) => {
            Some(Kind::TimestampLtz {
                digits: digits.max(other),
            })
        }
        (Kind::Date, time @ Kind::Timestamp { .. })
        | (time @ Kind::Timestamp { .. }, Kind::Date) => Some(time),
        _ => None,
    }
}

/// Both as one kind: strings that are written out are read as what stands on the other side.
pub(crate) fn unify(left: Typed, right: Typed) -> Result<(Typed, Typed), Refusal> {
    if left.is_null() {
        let kind = right.kind;
        return Ok((left.cast(kind), right));
    }
    if right.is_null() {
        let kind = left.kind;
        return Ok((left, right.cast(kind)));
    }
    if let Some(kind) = common(left.kind, right.kind) {
        return Ok((left.cast(kind), right.cast(kind)));
    }
    let (left_kind, right_kind) = (left.kind, right.kind);
    let is_read = |kind: Kind| !kind.is_number() && kind != Kind::Bytes;
    if right_kind == Kind::String && is_written(&right) && is_read(left_kind) {
        let right = read(right, left_kind)?;
        return Ok((left, right));
    }
    if left_kind == Kind::String && is_written(&left) && is_read(right_kind) {
        let left = read(left, right_kind)?;
        return Ok((left, right));
    }
    let message = format!("{left_kind} and {right_kind} are not compared; CAST one of them");
    Err(Refusal::new(left.span.to(right.span), message))
}

const fn is_written(value: &Typed) -> bool {
    matches!(value.expr, Expr::Literal(..))
}

fn read(value: Typed, kind: Kind) -> Result<Typed, Refusal> {
    let span = value.span;
    let read = value.cast(kind);
    if is_written(&read) {
        return Ok(read);
    }
    Err(Refusal::new(span, format!("this is no {kind}")))
}

/// The kind of a sum, a product or a quotient of two numbers.
pub(crate) fn computed(op: holm_lanes::Arithmetic, left: Kind, right: Kind) -> Option<Kind> {
    use holm_lanes::Arithmetic;
    let common = common(left, right)?;
    let Kind::Decimal { .. } = common else {
        return Some(common);
    };
    let ((p1, s1), (p2, s2)) = (left.decimal()?, right.decimal()?);
    let wide = |number: u8| i32::from(number);
    let (p1, s1, p2, s2) = (wide(p1), wide(s1), wide(p2), wide(s2));
    let (precision, scale) = match op {
        Arithmetic::Add | Arithmetic::Subtract => {
            let scale = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        Arithmetic::Multiply => (p1 + p2, s1 + s2),
        Arithmetic::Divide => {
            let scale = 6.max(s1 + p2 + 1);
            (p1 - s1 + s2 + scale, scale)
        }
        Arithmetic::Remainder => {
            let scale = s1.max(s2);
            ((p1 - s1).min(p2 - s2) + scale, scale)
        }
    };
    // What is too long loses digits behind the point first, down to six.
    let (precision, scale) = if precision > 38 {
        let whole = precision - scale;
        (38, (38 - whole).max(scale.min(6)))
    } else {
        (precision.max(1), scale)
    };
    Some(Kind::Decimal {
        precision: u8::try_from(precision).ok()?,
        scale: u8::try_from(scale).ok()?,
    })
}

/// Whether a CAST from one to the other means anything.
pub(crate) fn can_cast(from: Kind, to: Kind) -> bool {
    let is_scalar = |kind: Kind| kind.is_number() || kind == Kind::Boolean;
    if from == Kind::Bytes || to == Kind::Bytes {
        return from == to || from == Kind::String || to == Kind::String;
    }
    from == to
        || from == Kind::String
        || to == Kind::String
        || (is_scalar(from) && is_scalar(to))
        || matches!(
            (from, to),
            (
                Kind::Date,
                Kind::Timestamp { .. } | Kind::TimestampLtz { .. }
            ) | (
                Kind::Timestamp { .. } | Kind::TimestampLtz { .. },
                Kind::Date
            ) | (
                Kind::Timestamp { .. } | Kind::TimestampLtz { .. },
                Kind::Timestamp { .. } | Kind::TimestampLtz { .. }
            )
        )
}
