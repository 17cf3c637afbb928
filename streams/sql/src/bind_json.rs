//! JSON_VALUE: a value out of text, of a kind, or what stands for it.

use holm_lanes::{Expr, Instead, JsonPath, JsonValue, Kind, Scalar};

use crate::bind::Binder;
use crate::bind_expression::Scope;
use crate::coerce::{Typed, can_cast};
use crate::refusal::{Refusal, Span};
use crate::syntax::{Json, Otherwise};

impl Binder<'_> {
    pub(crate) fn json_value(
        &mut self,
        json: &Json,
        span: Span,
        scope: &mut Scope<'_>,
    ) -> Result<Typed, Refusal> {
        let text = self.term(&json.text, scope)?;
        if text.kind != Kind::String {
            let message = format!("JSON_VALUE reads STRING, this is {}", text.kind);
            return Err(Refusal::new(text.span, message));
        }
        let (path, path_span) = &json.path;
        let path = JsonPath::new(path).map_err(|why| Refusal::new(*path_span, why))?;
        let kind = json.kind.map_or(Kind::String, |(kind, _)| kind);
        if let Some((kind, span)) = json.kind
            && !matches!(
                kind,
                Kind::String | Kind::Boolean | Kind::Int | Kind::Double
            )
        {
            let message = format!(
                "RETURNING takes STRING, BOOLEAN, INT or DOUBLE, not {kind}; CAST(JSON_VALUE(...) AS {kind})"
            );
            return Err(Refusal::new(span, message));
        }
        let mut instead = |otherwise: &Option<Otherwise>| {
            Ok(match otherwise {
                None | Some(Otherwise::Null) => Instead::Null,
                Some(Otherwise::Error) => Instead::Fault,
                Some(Otherwise::Term(term)) => {
                    let value = self.term(term, scope)?;
                    Instead::Value(default(value, kind)?)
                }
            })
        };
        let json = JsonValue {
            path,
            kind,
            on_empty: instead(&json.instead[0])?,
            on_error: instead(&json.instead[1])?,
            text: text.expr,
        };
        Ok(Typed {
            expr: Expr::Json(Box::new(json)),
            kind,
            nullable: true,
            span,
        })
    }
}

/// A default as the kind that is returned.
fn default(value: Typed, kind: Kind) -> Result<Expr, Refusal> {
    if !value.is_null() && !can_cast(value.kind, kind) {
        let message = format!("the default is {}, and {kind} is returned", value.kind);
        return Err(Refusal::new(value.span, message));
    }
    // As text a truth is small here, as those of JSON are.
    if let (Expr::Literal(Scalar::Bool(truth), _), Kind::String) = (&value.expr, kind) {
        return Ok(Expr::Literal(Scalar::Text(truth.to_string()), kind));
    }
    Ok(value.cast(kind).expr)
}
