//! Expressions out of tokens, by precedence: OR, AND, NOT, comparison, sum, product, sign.

use holm_lanes::{Comparison, Kind};

use crate::lexer::Token;
use crate::parser::Parser;
use crate::refusal::{Refusal, Span};
use crate::syntax::{Call, Json, Node, Operator, Otherwise, Over, Term, Word};

type Parsed<T> = Result<T, Refusal>;

const COMPARISONS: &[(&str, Comparison)] = &[
    ("=", Comparison::Equal),
    ("<>", Comparison::NotEqual),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

fn join(left: Term, right: Term, make: impl FnOnce(Box<Term>, Box<Term>) -> Node) -> Term {
    let span = left.span.to(right.span);
    Term {
        node: make(Box::new(left), Box::new(right)),
        span,
    }
}

impl Parser {
    pub(crate) fn term(&mut self) -> Parsed<Term> {
        self.deeper(|parser| {
            let mut left = parser.conjunction()?;
            while parser.take_word("OR") {
                left = join(left, parser.conjunction()?, Node::Or);
            }
            Ok(left)
        })
    }

    fn conjunction(&mut self) -> Parsed<Term> {
        let mut left = self.negation()?;
        while self.take_word("AND") {
            left = join(left, self.negation()?, Node::And);
        }
        Ok(left)
    }

    fn negation(&mut self) -> Parsed<Term> {
        let span = self.span();
        if !self.take_word("NOT") {
            return self.comparison();
        }
        let term = self.deeper(Self::negation)?;
        Ok(not(span, term))
    }

    fn comparison(&mut self) -> Parsed<Term> {
        let left = self.sum()?;
        for (sign, comparison) in COMPARISONS {
            if self.take_sign(sign) {
                let right = self.sum()?;
                return Ok(join(left, right, |left, right| {
                    Node::Compare(*comparison, left, right)
                }));
            }
        }
        let span = self.span();
        if self.take_word("IS") {
            let is_negated = self.take_word("NOT");
            if !self.is_word("NULL") {
                return self.refuse(format!("expected NULL, found {}", self.here()));
            }
            self.skip();
            let whole = left.span.to(self.last());
            let term = Term {
                node: Node::IsNull(Box::new(left)),
                span: whole,
            };
            return Ok(if is_negated { not(span, term) } else { term });
        }
        let is_negated = self.take_word("NOT");
        let Some(term) = self.set(left, is_negated)? else {
            return self.refuse(format!(
                "expected IN, BETWEEN or LIKE, found {}",
                self.here()
            ));
        };
        Ok(if is_negated { not(span, term) } else { term })
    }

    /// IN, BETWEEN and LIKE; what was before if none of them is here.
    fn set(&mut self, left: Term, is_negated: bool) -> Parsed<Option<Term>> {
        let start = left.span;
        let node = if self.take_word("IN") {
            self.expect_sign("(")?;
            if self.is_word("SELECT") {
                return self.refuse("a query inside of IN is not built; join instead");
            }
            let list = self.list(Self::term)?;
            self.expect_sign(")")?;
            Node::In(Box::new(left), list)
        } else if self.take_word("BETWEEN") {
            let low = Box::new(self.sum()?);
            self.expect_word("AND")?;
            let high = Box::new(self.sum()?);
            Node::Between(Box::new(left), low, high)
        } else if self.take_word("LIKE") {
            let pattern = Box::new(self.sum()?);
            let escape = if self.take_word("ESCAPE") {
                let (text, span) = self.text("a letter")?;
                let mut letters = text.chars();
                let (Some(letter), None) = (letters.next(), letters.next()) else {
                    return Err(Refusal::new(span, "ESCAPE takes one letter"));
                };
                Some(letter)
            } else {
                None
            };
            Node::Like(Box::new(left), pattern, escape)
        } else {
            return Ok((!is_negated).then_some(left));
        };
        let span = start.to(self.last());
        Ok(Some(Term { node, span }))
    }

    fn sum(&mut self) -> Parsed<Term> {
        let mut left = self.product()?;
        loop {
            let operator = if self.take_sign("+") {
                Operator::Add
            } else if self.take_sign("-") {
                Operator::Subtract
            } else if self.take_sign("||") {
                Operator::Concat
            } else {
                return Ok(left);
            };
            let right = self.product()?;
            left = join(left, right, |left, right| {
                Node::Compute(operator, left, right)
            });
        }
    }

    fn product(&mut self) -> Parsed<Term> {
        let mut left = self.signed()?;
        loop {
            let operator = if self.take_sign("*") {
                Operator::Multiply
            } else if self.take_sign("/") {
                Operator::Divide
            } else if self.take_sign("%") {
                Operator::Remainder
            } else {
                return Ok(left);
            };
            let right = self.signed()?;
            left = join(left, right, |left, right| {
                Node::Compute(operator, left, right)
            });
        }
    }

    fn signed(&mut self) -> Parsed<Term> {
        let start = self.span();
        if self.take_sign("-") {
            let term = self.deeper(Self::signed)?;
            let span = start.to(term.span);
            return Ok(Term {
                node: Node::Negate(Box::new(term)),
                span,
            });
        }
        if self.take_sign("+") {
            return self.deeper(Self::signed);
        }
        self.primary()
    }

    fn primary(&mut self) -> Parsed<Term> {
        let span = self.span();
        let node = match self.peek().clone() {
            Token::Number(number) => {
                self.skip();
                Node::Number(number)
            }
            Token::Text(text) => {
                self.skip();
                Node::Text(text)
            }
            Token::Sign("(") => {
                self.skip();
                if self.is_word("SELECT") {
                    return self.refuse("a query as a value is not built; join instead");
                }
                let term = self.term()?;
                self.expect_sign(")")?;
                return Ok(term);
            }
            Token::Quoted(_) => self.column()?,
            Token::Word(word) => self.word(&word)?,
            Token::Sign(_) | Token::End => {
                return self.refuse(format!("expected a value, found {}", self.here()));
            }
        };
        Ok(Term {
            node,
            span: span.to(self.last()),
        })
    }

    fn word(&mut self, word: &str) -> Parsed<Node> {
        let word = word.to_ascii_uppercase();
        let node = match word.as_str() {
            "NULL" => Node::Null,
            "TRUE" => Node::Bool(true),
            "FALSE" => Node::Bool(false),
            "INTERVAL" => return Ok(Node::Interval(self.interval()?.0)),
            "X" if self.is_hex() => return self.hex(),
            "CASE" => return self.case(),
            "CAST" | "TRY_CAST" => return self.cast(word == "TRY_CAST"),
            "EXTRACT" => return self.extract(),
            "TIMESTAMP" | "DATE" => {
                let at = self.tokens_text_after();
                let Some(text) = at else {
                    return self.column();
                };
                self.skip();
                self.skip();
                let kind = if word == "DATE" {
                    Kind::Date
                } else {
                    let digits = text.split_once('.').map_or(0, |(_, part)| part.len());
                    Kind::Timestamp {
                        digits: if digits > 3 { 6 } else { 3 },
                    }
                };
                return Ok(Node::Typed(kind, text));
            }
            "SELECT" | "FROM" | "WHERE" | "GROUP" | "HAVING" | "ORDER" | "LIMIT" | "JOIN"
            | "ON" | "AS" | "AND" | "OR" | "THEN" | "WHEN" | "ELSE" | "END" => {
                return self.refuse(format!("expected a value, found {}", self.here()));
            }
            _ => return self.column(),
        };
        self.skip();
        Ok(node)
    }

    /// Whether a string stands right behind the word that is here.
    fn is_hex(&mut self) -> bool {
        let end = self.span().end;
        self.skip();
        let is_text = matches!(self.peek(), Token::Text(_)) && self.span().start == end;
        self.back();
        is_text
    }

    /// X'...': bytes.
    fn hex(&mut self) -> Parsed<Node> {
        self.skip();
        let (text, span) = self.text("digits")?;
        let Some(letters) = holm_lanes::parse_hex(&text) else {
            return Err(Refusal::new(span, "pairs of the digits 0 to 9 and A to F"));
        };
        Ok(Node::Bytes(letters))
    }

    /// The string after the word that stands here, if one does.
    fn tokens_text_after(&mut self) -> Option<String> {
        self.skip();
        let text = if let Token::Text(text) = self.peek() {
            Some(text.clone())
        } else {
            None
        };
        self.back();
        text
    }

    fn column(&mut self) -> Parsed<Node> {
        let first = self.name("a column")?;
        if self.take_sign("(") {
            if first.is("JSON_VALUE") {
                return self.json_value();
            }
            return self.call(first);
        }
        if self.take_sign(".") {
            let name = self.name("a column")?;
            return Ok(Node::Column(Some(first), name));
        }
        Ok(Node::Column(None, first))
    }

    /// What stands behind `JSON_VALUE(`.
    fn json_value(&mut self) -> Parsed<Node> {
        let text = self.term()?;
        self.expect_sign(",")?;
        let path = self.text("a path such as '$.a.b[0]'")?;
        let mut kind = None;
        if self.take_word("RETURNING") {
            let start = self.span();
            kind = Some((self.kind()?, start.to(self.last())));
        }
        let mut instead = [None, None];
        while !self.take_sign(")") {
            let start = self.span();
            let otherwise = if self.take_word("NULL") {
                Otherwise::Null
            } else if self.take_word("ERROR") {
                Otherwise::Error
            } else if self.take_word("DEFAULT") {
                Otherwise::Term(self.term()?)
            } else {
                let here = self.here();
                return self.refuse(format!(
                    "expected RETURNING, NULL, ERROR or DEFAULT ... ON EMPTY or ON ERROR, or `)`, found {here}"
                ));
            };
            self.expect_word("ON")?;
            let place = usize::from(self.is_word("ERROR"));
            if place == 0 && !self.is_word("EMPTY") {
                return self.refuse(format!("expected EMPTY or ERROR, found {}", self.here()));
            }
            self.skip();
            if instead[place].replace(otherwise).is_some() {
                return Err(Refusal::new(start.to(self.last()), "this is said twice"));
            }
        }
        Ok(Node::Json(Box::new(Json {
            text,
            path,
            kind,
            instead,
        })))
    }

    fn call(&mut self, name: Word) -> Parsed<Node> {
        let is_distinct = self.take_word("DISTINCT");
        let is_star = self.take_sign("*");
        let mut arguments = Vec::new();
        if !is_star && !matches!(self.peek(), Token::Sign(")")) {
            arguments = self.list(Self::term)?;
        }
        self.expect_sign(")")?;
        let mut filter = None;
        if self.take_word("FILTER") {
            self.expect_sign("(")?;
            self.expect_word("WHERE")?;
            filter = Some(self.term()?);
            self.expect_sign(")")?;
        }
        let over = self.take_word("OVER").then(|| self.over()).transpose()?;
        Ok(Node::Call(Box::new(Call {
            name,
            is_distinct,
            is_star,
            arguments,
            filter,
            over,
        })))
    }

    fn over(&mut self) -> Parsed<Over> {
        let start = self.span();
        self.expect_sign("(")?;
        let mut partition = Vec::new();
        if self.take_word("PARTITION") {
            self.expect_word("BY")?;
            partition = self.list(Self::term)?;
        }
        let mut order = Vec::new();
        if self.take_word("ORDER") {
            self.expect_word("BY")?;
            order = self.list(Self::ordered)?;
        }
        self.expect_sign(")")?;
        Ok(Over {
            partition,
            order,
            span: start.to(self.last()),
        })
    }

    fn case(&mut self) -> Parsed<Node> {
        self.skip();
        let operand = if self.is_word("WHEN") {
            None
        } else {
            Some(Box::new(self.term()?))
        };
        let mut branches = Vec::new();
        while self.take_word("WHEN") {
            let condition = self.term()?;
            self.expect_word("THEN")?;
            branches.push((condition, self.term()?));
        }
        if branches.is_empty() {
            return self.refuse(format!("expected WHEN, found {}", self.here()));
        }
        let otherwise = self.take_word("ELSE").then(|| self.term()).transpose()?;
        self.expect_word("END")?;
        Ok(Node::Case(operand, branches, otherwise.map(Box::new)))
    }

    fn cast(&mut self, is_try: bool) -> Parsed<Node> {
        self.skip();
        self.expect_sign("(")?;
        let term = Box::new(self.term()?);
        self.expect_word("AS")?;
        let kind = self.kind()?;
        self.expect_sign(")")?;
        Ok(Node::Cast(term, kind, is_try))
    }

    fn extract(&mut self) -> Parsed<Node> {
        self.skip();
        self.expect_sign("(")?;
        let part = self.name("a part of a time, such as HOUR")?;
        self.expect_word("FROM")?;
        let term = Box::new(self.term()?);
        self.expect_sign(")")?;
        Ok(Node::Extract(part, term))
    }

    /// INTERVAL 'n' UNIT, in microseconds.
    pub(crate) fn interval(&mut self) -> Parsed<(i64, Span)> {
        let start = self.span();
        if !self.take_word("INTERVAL") {
            let here = self.here();
            return self.refuse(format!(
                "expected a length such as INTERVAL '5' SECOND, found {here}"
            ));
        }
        let (text, text_span) = self.text("a number")?;
        let unit = self.name("a unit, such as SECOND")?;
        let micros = match unit.text.to_ascii_uppercase().trim_end_matches('S') {
            "MILLISECOND" => 1_000,
            "SECOND" => 1_000_000,
            "MINUTE" => 60_000_000,
            "HOUR" => 3_600_000_000,
            "DAY" => 86_400_000_000_i64,
            _ => {
                let message = format!(
                    "{} is no unit; use MILLISECOND, SECOND, MINUTE, HOUR or DAY",
                    unit.text
                );
                return Err(Refusal::new(unit.span, message));
            }
        };
        if self.take_sign("(") {
            // SECOND(3): how many digits, which Flink wants and this does not need.
            self.skip();
            self.expect_sign(")")?;
        }
        let seconds = holm_lanes::parse_decimal(&text, 38, 6);
        let length = seconds.and_then(|count| count.checked_mul(i128::from(micros)));
        let length = length.and_then(|length| i64::try_from(length / 1_000_000).ok());
        // A hundred years: longer ones are mistakes, and sums of times stay in range.
        let length = length.filter(|length| length.abs() < 100 * 366 * 86_400_000_000);
        let refused = || {
            Refusal::new(
                text_span,
                format!("'{text}' is no number of {}s", unit.text),
            )
        };
        Ok((length.ok_or_else(refused)?, start.to(self.last())))
    }
}

fn not(span: Span, term: Term) -> Term {
    let span = span.to(term.span);
    Term {
        node: Node::Not(Box::new(term)),
        span,
    }
}
