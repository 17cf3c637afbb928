//! Functions and aggregates by their names.

use holm_lanes::{Expr, Function, Kind, Math, Rounding, Scalar, Words};
use holm_window::{Aggregate, Call as Aggregation};

use crate::bind::Binder;
use crate::bind_expression::{Groups, Scope, one_kind};
use crate::bind_group::place;
use crate::coerce::{Typed, unify};
use crate::refusal::{Refusal, Span, nearest};
use crate::syntax::{Call, Node, Term};

const AGGREGATES: &[&str] = &[
    "COUNT",
    "SUM",
    "AVG",
    "MIN",
    "MAX",
    "APPROX_COUNT_DISTINCT",
    "APPROX_QUANTILE",
    "FIRST_VALUE",
    "LAST_VALUE",
    "VAR_POP",
    "VAR_SAMP",
    "VARIANCE",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "STDDEV",
];

const FUNCTIONS: &[&str] = &[
    "ABS",
    "CEIL",
    "CEILING",
    "FLOOR",
    "ROUND",
    "SIGN",
    "SQRT",
    "POWER",
    "EXP",
    "LN",
    "LOG10",
    "MOD",
    "UPPER",
    "LOWER",
    "TRIM",
    "CHAR_LENGTH",
    "LENGTH",
    "OCTET_LENGTH",
    "SUBSTRING",
    "SUBSTR",
    "CONCAT",
    "REPLACE",
    "GREATEST",
    "LEAST",
    "COALESCE",
    "IFNULL",
    "NULLIF",
    "IF",
    "TO_TIMESTAMP_LTZ",
    "JSON_VALUE",
    "ROW_NUMBER",
];

pub(crate) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.iter().any(|it| it.eq_ignore_ascii_case(name))
}

type Bound = Result<Typed, Refusal>;

impl Binder<'_> {
    pub(crate) fn call(&mut self, call: &Call, span: Span, scope: &mut Scope<'_>) -> Bound {
        if call.over.is_some() {
            let message = "ROW_NUMBER() OVER (...) is a column of a SELECT, and no part of a value";
            return Err(Refusal::new(span, message));
        }
        if is_aggregate(&call.name.text) {
            let Scope::Groups(groups) = scope else {
                let message = format!(
                    "{} is an aggregate, and this is not inside of a SELECT with groups; use HAVING or an outer query",
                    call.name.text.to_uppercase()
                );
                return Err(Refusal::new(span, message));
            };
            return self.aggregate(call, span, groups);
        }
        if call.filter.is_some() || call.is_distinct || call.is_star {
            let message = format!(
                "{} is no aggregate: no *, DISTINCT or FILTER",
                call.name.text
            );
            return Err(Refusal::new(span, message));
        }
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push(self.term(argument, scope)?);
        }
        function(call, arguments, span)
    }

    fn aggregate(&mut self, call: &Call, span: Span, groups: &mut Groups) -> Bound {
        let physical = self.kinds[groups.input.node].len();
        let input = groups.input.clone();
        let argument = self.argument(call, span, &input)?;
        let aggregate = choose(call, argument.as_ref(), span)?;
        let argument = match (aggregate, argument) {
            (Aggregate::Spread { .. } | Aggregate::Quantile { .. }, Some(value)) => {
                Some(value.cast(Kind::Double))
            }
            (_, argument) => argument,
        };
        let filter = match &call.filter {
            None => None,
            Some(term) => Some(self.boolean(term, &mut Scope::Rows(&input))?),
        };
        let mut column = |value: Typed| place(groups, physical, value);
        let wanted = Aggregation {
            aggregate,
            column: argument.map(&mut column),
            filter: filter.map(&mut column),
        };
        let known = groups.calls.iter().position(|other| *other == wanted);
        let at = known.unwrap_or_else(|| {
            groups.calls.push(wanted);
            groups.calls.len() - 1
        });
        groups.spans.push(span);
        Ok(Typed {
            expr: Expr::Column(groups.first + at),
            kind: aggregate.gives(),
            nullable: !matches!(
                aggregate,
                Aggregate::CountRows
                    | Aggregate::Count
                    | Aggregate::CountDistinct
                    | Aggregate::AboutDistinct
            ),
            span,
        })
    }

    fn argument(
        &mut self,
        call: &Call,
        span: Span,
        input: &crate::relation::Relation,
    ) -> Result<Option<Typed>, Refusal> {
        let name = call.name.text.to_uppercase();
        match (call.is_star, call.arguments.as_slice()) {
            (true, []) if name == "COUNT" && !call.is_distinct => Ok(None),
            (false, [argument] | [argument, _])
                if (name == "APPROX_QUANTILE") == (call.arguments.len() == 2) =>
            {
                if crate::bind::has_aggregate(argument) {
                    let message = "an aggregate inside of an aggregate; take the inner one in a query in FROM";
                    return Err(Refusal::new(argument.span, message));
                }
                self.term(argument, &mut Scope::Rows(input)).map(Some)
            }
            _ => {
                let message = if name == "COUNT" {
                    "COUNT takes * or one value".to_owned()
                } else {
                    format!(
                        "{name} takes one value{}",
                        if name == "APPROX_QUANTILE" {
                            " and a part from 0 to 1, such as 0.99"
                        } else {
                            ""
                        }
                    )
                };
                Err(Refusal::new(span, message))
            }
        }
    }
}

/// A part of all, as it is written: a number from 0 to 1.
fn part(term: &Term) -> Result<u32, Refusal> {
    let written = if let Node::Number(text) = &term.node {
        text.parse::<f64>().ok()
    } else {
        None
    };
    let part = written.filter(|part| (0.0..=1.0).contains(part));
    let message = "the part is a number from 0 to 1, such as 0.99";
    let part = part.ok_or_else(|| Refusal::new(term.span, message))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is from 0 to a million"
    )]
    let millionths = (part * 1e6).round() as u32;
    Ok(millionths)
}

fn choose(call: &Call, argument: Option<&Typed>, span: Span) -> Result<Aggregate, Refusal> {
    let name = call.name.text.to_uppercase();
    let Some(value) = argument else {
        return Ok(Aggregate::CountRows);
    };
    let kind = value.kind;
    if call.is_distinct && name != "COUNT" && name != "MIN" && name != "MAX" {
        let message = format!("{name}(DISTINCT) is not built; COUNT(DISTINCT ...) is");
        return Err(Refusal::new(span, message));
    }
    let number = |aggregate: Aggregate| {
        if kind.is_number() {
            return Ok(aggregate);
        }
        let message = format!("{name} is of numbers, this is {kind}");
        Err(Refusal::new(value.span, message))
    };
    let spread = |of_sample: bool, is_root: bool| number(Aggregate::Spread { of_sample, is_root });
    match name.as_str() {
        "COUNT" if call.is_distinct => Ok(Aggregate::CountDistinct),
        "APPROX_COUNT_DISTINCT" => Ok(Aggregate::AboutDistinct),
        "APPROX_QUANTILE" => number(Aggregate::Quantile {
            millionths: part(&call.arguments[1])?,
        }),
        "COUNT" => Ok(Aggregate::Count),
        "SUM" | "AVG" => {
            if let Kind::Decimal { precision, scale } = kind
                && precision > 28
            {
                let message = format!(
                    "{name} is of decimals of 28 digits at most, this has {precision}; CAST it AS DECIMAL(28, {scale})"
                );
                return Err(Refusal::new(value.span, message));
            }
            number(if name == "SUM" {
                Aggregate::Sum(kind)
            } else {
                Aggregate::Average(kind)
            })
        }
        "MIN" => Ok(Aggregate::Least(kind)),
        "MAX" => Ok(Aggregate::Greatest(kind)),
        "FIRST_VALUE" => Ok(Aggregate::First(kind)),
        "LAST_VALUE" => Ok(Aggregate::Last(kind)),
        "VAR_POP" => spread(false, false),
        "VAR_SAMP" | "VARIANCE" => spread(true, false),
        "STDDEV_POP" => spread(false, true),
        _ => spread(true, true),
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "a table of names, a line or two for each"
)]
fn function(call: &Call, arguments: Vec<Typed>, span: Span) -> Bound {
    let name = call.name.text.to_uppercase();
    let count = arguments.len();
    let usage = |text: &str| Err(Refusal::new(span, format!("write {text}")));
    let rounding = |rounding: Rounding, arguments: Vec<Typed>| {
        let kind = arguments[0].kind;
        if !kind.is_number() {
            let message = format!("{name} is of numbers, this is {kind}");
            return Err(Refusal::new(arguments[0].span, message));
        }
        let kind = match (rounding, kind) {
            (Rounding::Ceil | Rounding::Floor, Kind::Decimal { precision, .. }) => Kind::Decimal {
                precision,
                scale: 0,
            },
            (_, kind) => kind,
        };
        Ok(called(Function::Rounded(rounding), arguments, kind, span))
    };
    let math = |math: Math, arguments: Vec<Typed>| {
        let mut floats = Vec::new();
        for value in arguments {
            if !value.kind.is_number() {
                let message = format!("{name} is of numbers, this is {}", value.kind);
                return Err(Refusal::new(value.span, message));
            }
            floats.push(value.cast(Kind::Double));
        }
        Ok(called(Function::Math(math), floats, Kind::Double, span))
    };
    match (name.as_str(), count) {
        ("ABS", 1) => rounding(Rounding::Abs, arguments),
        ("CEIL" | "CEILING", 1) => rounding(Rounding::Ceil, arguments),
        ("FLOOR", 1) => rounding(Rounding::Floor, arguments),
        ("SIGN", 1) => rounding(Rounding::Sign, arguments),
        ("ROUND", 1 | 2) => {
            let is_written = arguments.get(1).is_none_or(|digits| {
                digits.kind == Kind::Int && matches!(digits.expr, Expr::Literal(..))
            });
            if !is_written {
                return usage("ROUND(value) or ROUND(value, digits), the digits written out");
            }
            let kept = arguments[0].kind;
            let kind = decimal_rounded(kept, arguments.get(1));
            let rounded = rounding(Rounding::Round, arguments)?;
            Ok(retyped(rounded, kind))
        }
        ("SQRT", 1) => math(Math::Sqrt, arguments),
        ("POWER", 2) => math(Math::Power, arguments),
        ("EXP", 1) => math(Math::Exp, arguments),
        ("LN", 1) => math(Math::Ln, arguments),
        ("LOG10", 1) => math(Math::Log10, arguments),
        ("UPPER", 1) => words(Words::Upper, arguments, span),
        ("LOWER", 1) => words(Words::Lower, arguments, span),
        ("TRIM", 1) => words(Words::Trim, arguments, span),
        ("LENGTH" | "OCTET_LENGTH", 1) if arguments[0].kind == Kind::Bytes => Ok(called(
            Function::Words(Words::CharLength),
            arguments,
            Kind::Int,
            span,
        )),
        ("CHAR_LENGTH" | "LENGTH", 1) => words(Words::CharLength, arguments, span),
        ("SUBSTRING" | "SUBSTR", 2 | 3) => words(Words::Substring, arguments, span),
        ("REPLACE", 3) => words(Words::Replace, arguments, span),
        ("CONCAT", 1..) => concat(arguments, span),
        ("GREATEST" | "LEAST", 1..) => {
            let (arguments, kind, _) = one_kind(arguments)?;
            let is_greatest = name == "GREATEST";
            Ok(called(
                Function::Best { is_greatest },
                arguments,
                kind,
                span,
            ))
        }
        ("COALESCE", 1..) | ("IFNULL", 2) => {
            let nullable = arguments.iter().all(|value| value.nullable);
            let (arguments, kind, _) = one_kind(arguments)?;
            let values = arguments.into_iter().map(|value| value.expr).collect();
            Ok(Typed {
                expr: Expr::Coalesce(values, kind),
                kind,
                nullable,
                span,
            })
        }
        ("NULLIF", 2) => null_if(arguments, span),
        ("IF", 3) => choice(arguments, span),
        ("MOD", 2) => usage("a % b"),
        ("TO_TIMESTAMP_LTZ", 2) => to_timestamp(arguments, span),
        _ => Err(unknown(&call.name.text, call.name.span, count)),
    }
}

fn unknown(name: &str, span: Span, count: usize) -> Refusal {
    let known = FUNCTIONS.iter().chain(AGGREGATES).copied();
    if known.clone().any(|it| it.eq_ignore_ascii_case(name)) {
        let message = format!("{} does not take {count} values", name.to_uppercase());
        return Refusal::new(span, message);
    }
    let advice =
        nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Refusal::new(span, format!("there is no function {name}{advice}"))
}

fn called(function: Function, arguments: Vec<Typed>, kind: Kind, span: Span) -> Typed {
    Typed {
        nullable: arguments.iter().any(|value| value.nullable),
        expr: Expr::Call(
            function,
            arguments
                .into_iter()
                .map(|value| (value.expr, value.kind))
                .collect(),
            kind,
        ),
        kind,
        span,
    }
}

fn retyped(mut value: Typed, kind: Kind) -> Typed {
    if let Expr::Call(_, _, of) = &mut value.expr {
        *of = kind;
    }
    Typed { kind, ..value }
}

/// ROUND of a decimal has as many digits behind the point as were asked for.
fn decimal_rounded(kind: Kind, digits: Option<&Typed>) -> Kind {
    let Kind::Decimal { precision, scale } = kind else {
        return kind;
    };
    let wanted = match digits.map(|digits| &digits.expr) {
        Some(Expr::Literal(Scalar::Int(digits), _)) => u8::try_from(*digits).unwrap_or(0),
        _ => 0,
    };
    let scale = wanted.min(scale);
    Kind::Decimal {
        precision: precision.saturating_add(1).min(38),
        scale,
    }
}

fn words(words: Words, arguments: Vec<Typed>, span: Span) -> Bound {
    let mut fitted = Vec::new();
    for (at, value) in arguments.into_iter().enumerate() {
        let wants_number = words == Words::Substring && at > 0;
        let fits = if wants_number {
            value.kind.is_integer()
        } else {
            value.kind == Kind::String
        };
        if !fits {
            let wanted = if wants_number { "an integer" } else { "STRING" };
            let message = format!("this is {}, and it takes {wanted}", value.kind);
            return Err(Refusal::new(value.span, message));
        }
        fitted.push(value);
    }
    let kind = if words == Words::CharLength {
        Kind::Int
    } else {
        Kind::String
    };
    Ok(called(Function::Words(words), fitted, kind, span))
}

/// Strings one after the other; what is none becomes one.
pub(crate) fn concat(parts: Vec<Typed>, span: Span) -> Bound {
    if let Some(bytes) = parts.iter().find(|value| value.kind == Kind::Bytes) {
        let message = "BYTES are not put together; CAST them AS STRING";
        return Err(Refusal::new(bytes.span, message));
    }
    let parts = parts.into_iter().map(|value| value.cast(Kind::String));
    let function = Function::Words(Words::Concat);
    Ok(called(function, parts.collect(), Kind::String, span))
}

fn null_if(mut arguments: Vec<Typed>, span: Span) -> Bound {
    let right = arguments.remove(1);
    let left = arguments.remove(0);
    let (kept, kind) = (left.clone(), left.kind);
    let (left, right) = unify(left, right)?;
    let equal = Expr::Compare(
        holm_lanes::Comparison::Equal,
        Box::new(left.expr),
        Box::new(right.expr),
    );
    Ok(Typed {
        expr: Expr::Case {
            branches: vec![(equal, Expr::Literal(Scalar::Null, kind))],
            otherwise: Box::new(kept.expr),
            kind,
        },
        kind,
        nullable: true,
        span,
    })
}

fn choice(mut arguments: Vec<Typed>, span: Span) -> Bound {
    let condition = arguments.remove(0);
    if condition.kind != Kind::Boolean {
        return Err(Refusal::new(condition.span, "IF begins with a condition"));
    }
    let (mut values, kind, nullable) = one_kind(arguments)?;
    let otherwise = values.pop().expect("there are two").expr;
    let then = values.pop().expect("there are two").expr;
    Ok(Typed {
        expr: Expr::Case {
            branches: vec![(condition.expr, then)],
            otherwise: Box::new(otherwise),
            kind,
        },
        kind,
        nullable,
        span,
    })
}

fn to_timestamp(arguments: Vec<Typed>, span: Span) -> Bound {
    let Expr::Literal(Scalar::Int(digits @ (0 | 3)), _) = arguments[1].expr else {
        let message = "the second value is 0 for seconds or 3 for milliseconds";
        return Err(Refusal::new(arguments[1].span, message));
    };
    if !arguments[0].kind.is_integer() {
        let message = format!("this is {}, and it takes an integer", arguments[0].kind);
        return Err(Refusal::new(arguments[0].span, message));
    }
    let mut arguments = arguments;
    arguments[1].expr = Expr::Literal(Scalar::Int(digits), Kind::Int);
    let kind = Kind::TimestampLtz { digits: 3 };
    Ok(called(Function::ToTimestampLtz, arguments, kind, span))
}
