//! Expressions over columns, and over groups.

use holm_lanes::{Arithmetic, Comparison, Expr, Kind, OnFault, Part, Pattern, Scalar};
use holm_window::Call as Aggregation;

use crate::bind::{Binder, has_aggregate};
use crate::coerce::{Typed, can_cast, common, computed, unify};
use crate::refusal::{Refusal, Span};
use crate::relation::Relation;
use crate::syntax::{Node as Ast, Operator, Term};

/// What names mean.
#[derive(Debug)]
pub(crate) enum Scope<'a> {
    /// Columns of rows.
    Rows(&'a Relation),
    /// Columns of groups: what rows are grouped by, and aggregates.
    Groups(&'a mut Groups),
}

/// What a query groups by, and the aggregates that it asked for so far.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) input: Relation,
    /// What is grouped by, and the column that has it in the result.
    pub(crate) terms: Vec<(Expr, usize, Kind)>,
    /// Columns beside those of the input, for keys, arguments and conditions.
    pub(crate) added: Vec<Typed>,
    pub(crate) calls: Vec<Aggregation>,
    /// The first column of results.
    pub(crate) first: usize,
    /// Whether it is bound only to see what it is.
    pub(crate) spans: Vec<Span>,
}

type Bound = Result<Typed, Refusal>;

impl Binder<'_> {
    #[expect(clippy::too_many_lines, reason = "a table of the forms of a term")]
    pub(crate) fn term(&mut self, term: &Term, scope: &mut Scope<'_>) -> Bound {
        if let Scope::Groups(groups) = scope
            && !has_aggregate(term)
        {
            let input = groups.input.clone();
            let value = self.term(term, &mut Scope::Rows(&input))?;
            let found = groups.terms.iter().find(|(expr, ..)| *expr == value.expr);
            if let Some((_, at, kind)) = found {
                return Ok(Typed {
                    expr: Expr::Column(*at),
                    kind: *kind,
                    ..value
                });
            }
            if let Ast::Column(_, name) = &term.node {
                let message = format!(
                    "`{0}` is neither in GROUP BY nor inside of an aggregate; GROUP BY {0}, or take MAX({0})",
                    name.text
                );
                return Err(Refusal::new(term.span, message));
            }
        }
        let typed = |expr: Expr, kind: Kind, nullable: bool| Typed {
            expr,
            kind,
            nullable,
            span: term.span,
        };
        let constant = |scalar: Scalar, kind: Kind| {
            let nullable = scalar.is_null();
            Ok(typed(Expr::Literal(scalar, kind), kind, nullable))
        };
        match &term.node {
            Ast::Column(qualifier, name) => {
                let Scope::Rows(relation) = scope else {
                    return Err(Refusal::new(term.span, "no column here"));
                };
                let at = relation.find(qualifier.as_ref(), name)?;
                let column = &relation.columns[at];
                Ok(typed(Expr::Column(at), column.kind, column.nullable))
            }
            Ast::Number(number) => literal(number, term.span),
            Ast::Text(text) => constant(Scalar::Text(text.clone()), Kind::String),
            Ast::Bytes(letters) => constant(Scalar::Text(letters.clone()), Kind::Bytes),
            Ast::Bool(value) => constant(Scalar::Bool(*value), Kind::Boolean),
            Ast::Null => constant(Scalar::Null, Kind::String),
            Ast::Interval(length) => constant(Scalar::Int(*length), Kind::Interval),
            Ast::Typed(kind, text) => {
                let scalar = holm_lanes::convert(&Scalar::Text(text.clone()), Kind::String, *kind);
                let scalar = scalar.map_err(|fault| Refusal::new(term.span, fault.to_string()))?;
                constant(scalar, *kind)
            }
            Ast::Negate(value) => self.negate(value, term.span, scope),
            Ast::Not(value) => {
                let value = self.boolean(value, scope)?;
                Ok(typed(
                    Expr::Not(Box::new(value.expr)),
                    Kind::Boolean,
                    value.nullable,
                ))
            }
            Ast::And(left, right) => {
                let (left, right) = (self.boolean(left, scope)?, self.boolean(right, scope)?);
                let nullable = left.nullable || right.nullable;
                let expr = Expr::And(Box::new(left.expr), Box::new(right.expr));
                Ok(typed(expr, Kind::Boolean, nullable))
            }
            Ast::Or(left, right) => {
                let (left, right) = (self.boolean(left, scope)?, self.boolean(right, scope)?);
                let nullable = left.nullable || right.nullable;
                let expr = Expr::Or(Box::new(left.expr), Box::new(right.expr));
                Ok(typed(expr, Kind::Boolean, nullable))
            }
            Ast::Compare(comparison, left, right) => {
                let (left, right) = (self.term(left, scope)?, self.term(right, scope)?);
                compared(*comparison, left, right, term.span)
            }
            Ast::Compute(operator, left, right) => {
                let (left, right) = (self.term(left, scope)?, self.term(right, scope)?);
                arithmetic(*operator, left, right, term.span)
            }
            Ast::IsNull(value) => {
                let value = self.term(value, scope)?;
                Ok(typed(
                    Expr::IsNull(Box::new(value.expr)),
                    Kind::Boolean,
                    false,
                ))
            }
            Ast::In(value, list) => self.within(value, list, scope),
            Ast::Between(value, low, high) => self.between((value, low, high), term.span, scope),
            Ast::Like(value, pattern, escape) => self.like(value, pattern, *escape, scope),
            Ast::Case(operand, branches, otherwise) => self.case(
                operand.as_deref(),
                branches,
                otherwise.as_deref(),
                (term.span, scope),
            ),
            Ast::Cast(value, kind, is_try) => {
                let value = self.term(value, scope)?;
                cast(value, *kind, *is_try, term.span)
            }
            Ast::Extract(part, value) => {
                let value = self.term(value, scope)?;
                let Some(part) = Part::named(&part.text) else {
                    let message = "use YEAR, MONTH, DAY, HOUR, MINUTE, SECOND or DOW";
                    return Err(Refusal::new(part.span, message));
                };
                if !value.kind.is_time() && value.kind != Kind::Date {
                    let message = format!("EXTRACT is of times and dates, this is {}", value.kind);
                    return Err(Refusal::new(value.span, message));
                }
                let function = holm_lanes::Function::Extract(part);
                let expr = Expr::Call(function, vec![(value.expr, value.kind)], Kind::BigInt);
                Ok(typed(expr, Kind::BigInt, value.nullable))
            }
            Ast::Json(json) => self.json_value(json, term.span, scope),
            Ast::Call(call) => self.call(call, term.span, scope),
        }
    }

    pub(crate) fn boolean(&mut self, term: &Term, scope: &mut Scope<'_>) -> Bound {
        let value = self.term(term, scope)?;
        if value.is_null() {
            return Ok(value.cast(Kind::Boolean));
        }
        if value.kind == Kind::Boolean {
            return Ok(value);
        }
        let message = format!("this is {}, and a condition is BOOLEAN", value.kind);
        Err(Refusal::new(term.span, message))
    }

    fn negate(&mut self, value: &Term, span: Span, scope: &mut Scope<'_>) -> Bound {
        if let Ast::Number(number) = &value.node {
            return literal(&format!("-{number}"), span);
        }
        let value = self.term(value, scope)?;
        if !value.kind.is_number() && value.kind != Kind::Interval {
            let message = format!("{} has no negative", value.kind);
            return Err(Refusal::new(span, message));
        }
        let zero = Typed {
            expr: Expr::Literal(Scalar::Int(0), Kind::Int),
            kind: Kind::Int,
            nullable: false,
            span,
        };
        let zero = zero.cast(value.kind);
        let kind = value.kind;
        let negated = Expr::Arithmetic {
            op: Arithmetic::Subtract,
            left: Box::new((zero.expr, kind)),
            right: Box::new((value.expr, kind)),
            kind,
        };
        Ok(Typed {
            expr: negated,
            kind,
            nullable: value.nullable,
            span,
        })
    }

    fn within(&mut self, value: &Term, list: &[Term], scope: &mut Scope<'_>) -> Bound {
        let mut any: Option<Typed> = None;
        for one in list {
            let (left, right) = (self.term(value, scope)?, self.term(one, scope)?);
            let equal = compared(Comparison::Equal, left, right, one.span)?;
            any = Some(match any {
                None => equal,
                Some(before) => Typed {
                    nullable: before.nullable || equal.nullable,
                    expr: Expr::Or(Box::new(before.expr), Box::new(equal.expr)),
                    ..equal
                },
            });
        }
        any.ok_or_else(|| Refusal::new(value.span, "IN takes at least one value"))
    }

    fn between(
        &mut self,
        (value, low, high): (&Term, &Term, &Term),
        span: Span,
        scope: &mut Scope<'_>,
    ) -> Bound {
        let (left, right) = (self.term(value, scope)?, self.term(low, scope)?);
        let above = compared(Comparison::GreaterOrEqual, left, right, span)?;
        let (left, right) = (self.term(value, scope)?, self.term(high, scope)?);
        let below = compared(Comparison::LessOrEqual, left, right, span)?;
        Ok(Typed {
            nullable: above.nullable || below.nullable,
            expr: Expr::And(Box::new(above.expr), Box::new(below.expr)),
            kind: Kind::Boolean,
            span,
        })
    }

    fn like(
        &mut self,
        value: &Term,
        pattern: &Term,
        escape: Option<char>,
        scope: &mut Scope<'_>,
    ) -> Bound {
        let value = self.term(value, scope)?;
        if value.kind != Kind::String {
            let message = format!("LIKE is of STRING, this is {}", value.kind);
            return Err(Refusal::new(value.span, message));
        }
        let Ast::Text(text) = &pattern.node else {
            return Err(Refusal::new(
                pattern.span,
                "the pattern of LIKE is written out, in quotes",
            ));
        };
        Ok(Typed {
            expr: Expr::Like(Box::new(value.expr), Pattern::new(text, escape)),
            kind: Kind::Boolean,
            ..value
        })
    }

    fn case(
        &mut self,
        operand: Option<&Term>,
        branches: &[(Term, Term)],
        otherwise: Option<&Term>,
        (span, scope): (Span, &mut Scope<'_>),
    ) -> Bound {
        let mut conditions = Vec::new();
        let mut results = Vec::new();
        for (condition, result) in branches {
            let condition = match operand {
                None => self.boolean(condition, scope)?,
                Some(operand) => {
                    let left = self.term(operand, scope)?;
                    let right = self.term(condition, scope)?;
                    compared(Comparison::Equal, left, right, condition.span)?
                }
            };
            conditions.push(condition.expr);
            results.push(self.term(result, scope)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.term(otherwise, scope)?,
            None => Typed {
                expr: Expr::Literal(Scalar::Null, Kind::String),
                kind: Kind::String,
                nullable: true,
                span,
            },
        });
        let (mut results, kind, nullable) = one_kind(results)?;
        let otherwise = Box::new(results.pop().expect("ELSE is there").expr);
        let branches = conditions
            .into_iter()
            .zip(results.into_iter().map(|result| result.expr))
            .collect();
        Ok(Typed {
            expr: Expr::Case {
                branches,
                otherwise,
                kind,
            },
            kind,
            nullable,
            span,
        })
    }
}

/// All as one kind, and that.
pub(crate) fn one_kind(values: Vec<Typed>) -> Result<(Vec<Typed>, Kind, bool), Refusal> {
    let mut kind: Option<Kind> = None;
    for value in values.iter().filter(|value| !value.is_null()) {
        kind = Some(match kind {
            None => value.kind,
            Some(before) => common(before, value.kind).ok_or_else(|| {
                let message = format!("this is {}, the one before {before}; CAST one", value.kind);
                Refusal::new(value.span, message)
            })?,
        });
    }
    let kind = kind.unwrap_or(Kind::String);
    let nullable = values.iter().any(|value| value.nullable);
    let values = values.into_iter().map(|value| value.cast(kind)).collect();
    Ok((values, kind, nullable))
}

/// A number as it is written: INT, BIGINT, DECIMAL, or DOUBLE with an exponent.
fn literal(number: &str, span: Span) -> Bound {
    let constant = |scalar: Scalar, kind: Kind| {
        Ok(Typed {
            expr: Expr::Literal(scalar, kind),
            kind,
            nullable: false,
            span,
        })
    };
    let refused = || Refusal::new(span, "this number fits no type");
    if number.contains(['e', 'E']) {
        let value = holm_lanes::parse_double(number).ok_or_else(refused)?;
        return constant(Scalar::Real(value), Kind::Double);
    }
    let digits = number.trim_start_matches('-');
    let Some((whole, part)) = digits.split_once('.') else {
        if let Some(value) = holm_lanes::parse_integer(number) {
            let is_int = i32::try_from(value).is_ok();
            return constant(
                Scalar::Int(value),
                if is_int { Kind::Int } else { Kind::BigInt },
            );
        }
        return Err(refused());
    };
    let whole = whole.trim_start_matches('0');
    let scale = u8::try_from(part.len()).map_err(|_long| refused())?;
    let precision = u8::try_from(whole.len() + part.len()).map_err(|_long| refused())?;
    let precision = precision.max(1);
    let value = holm_lanes::parse_decimal(number, precision.min(38), scale);
    let value = value.filter(|_| precision <= 38).ok_or_else(refused)?;
    constant(Scalar::Wide(value), Kind::Decimal { precision, scale })
}

pub(crate) fn compared(comparison: Comparison, left: Typed, right: Typed, span: Span) -> Bound {
    let nullable = left.nullable || right.nullable;
    let (left, right) = unify(left, right)?;
    Ok(Typed {
        expr: Expr::Compare(comparison, Box::new(left.expr), Box::new(right.expr)),
        kind: Kind::Boolean,
        nullable,
        span,
    })
}

fn arithmetic(operator: Operator, left: Typed, right: Typed, span: Span) -> Bound {
    let nullable = left.nullable || right.nullable;
    let op = match operator {
        Operator::Add => Arithmetic::Add,
        Operator::Subtract => Arithmetic::Subtract,
        Operator::Multiply => Arithmetic::Multiply,
        Operator::Divide => Arithmetic::Divide,
        Operator::Remainder => Arithmetic::Remainder,
        Operator::Concat => {
            let parts = vec![left, right];
            return crate::bind_call::concat(parts, span);
        }
    };
    let is_move = matches!(op, Arithmetic::Add | Arithmetic::Subtract);
    let result = if left.kind.is_time() && right.kind == Kind::Interval && is_move {
        left.kind
    } else if left.kind == Kind::Interval && right.kind.is_time() && op == Arithmetic::Add {
        right.kind
    } else if left.kind == Kind::Interval && right.kind == Kind::Interval && is_move {
        Kind::Interval
    } else {
        let kinds = (left.kind, right.kind);
        let is_number = kinds.0.is_number() && kinds.1.is_number();
        let kind = computed(op, kinds.0, kinds.1).filter(|_| is_number);
        let Some(kind) = kind else {
            let message = format!(
                "{} and {} cannot be computed with; CAST one",
                kinds.0, kinds.1
            );
            return Err(Refusal::new(span, message));
        };
        let operand = |value: Typed| {
            if let (Kind::Decimal { .. }, Some((precision, scale))) = (kind, value.kind.decimal()) {
                // Decimals keep their own scales; integers become decimals of scale zero.
                value.cast(Kind::Decimal { precision, scale })
            } else {
                value.cast(kind)
            }
        };
        let (left, right) = (operand(left), operand(right));
        return Ok(Typed {
            expr: Expr::Arithmetic {
                op,
                left: Box::new((left.expr, left.kind)),
                right: Box::new((right.expr, right.kind)),
                kind,
            },
            kind,
            nullable,
            span,
        });
    };
    Ok(Typed {
        expr: Expr::Arithmetic {
            op,
            left: Box::new((left.expr, left.kind)),
            right: Box::new((right.expr, right.kind)),
            kind: result,
        },
        kind: result,
        nullable,
        span,
    })
}

fn cast(value: Typed, kind: Kind, is_try: bool, span: Span) -> Bound {
    if value.is_null() {
        return Ok(Typed {
            expr: Expr::Literal(Scalar::Null, kind),
            kind,
            ..value
        });
    }
    if !can_cast(value.kind, kind) {
        let message = format!("{} has no value as {kind}", value.kind);
        return Err(Refusal::new(span, message));
    }
    let on_fault = if is_try {
        OnFault::Null
    } else {
        OnFault::Divert
    };
    Ok(value.cast_or(kind, on_fault))
}
