//! Quantities with units, and distributions of spans of time.

use holm_virtual::Distribution;

/// A span of time in nanoseconds: `5ms`, `0.7 ms`, `-2s`.
pub(crate) fn span(text: &str) -> Result<i64, String> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3_600e9,
        "" => return Err(format!("{text} has no unit: write ns, us, ms, s, m or h")),
        _ => {
            return Err(format!(
                "{text}: the unit of a span is ns, us, ms, s, m or h"
            ));
        }
    };
    Ok(whole(number * scale))
}

/// A span that does not lie in the past.
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    u64::try_from(span(text)?).map_err(|_negative| format!("{text} is negative"))
}

/// A number of bytes: `256B`, `4KiB`, `1MB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1_024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => {
            return Err(format!(
                "{text}: the unit of a size is B, kB, MB, GB, KiB, MiB or GiB"
            ));
        }
    };
    positive(number * scale, text)
}

/// Bytes a second: `100Mbit/s`, `400MB/s`.
pub(crate) fn bandwidth(text: &str) -> Result<u64, String> {
    let amount = text.strip_suffix("/s");
    let amount = amount.ok_or_else(|| format!("{text}: a rate ends with /s"))?;
    let (number, unit) = split(amount)?;
    let scale = match unit {
        "bit" => 0.125,
        "kbit" => 125.0,
        "Mbit" => 125e3,
        "Gbit" => 125e6,
        _ => return bytes(amount),
    };
    positive(number * scale, text)
}

/// How often a second, in thousandths: `200/s`, `0.5/s`, `30/m`.
pub(crate) fn frequency_milli(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "/s" => 1e3,
        "/m" => 1e3 / 60.0,
        _ => return Err(format!("{text}: how often is said by /s or /m")),
    };
    positive(number * scale, text)
}

/// A share: `5%`, `0.05`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    match unit {
        "%" => Ok(number / 100.0),
        "" => Ok(number),
        _ => Err(format!("{text} is no share: write 5%")),
    }
}

fn positive(number: f64, text: &str) -> Result<u64, String> {
    u64::try_from(whole(number)).map_err(|_negative| format!("{text} is negative"))
}

/// The number at the beginning, and the rest.
pub(crate) fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let is_part = |one: char| one.is_ascii_digit() || one == '.' || one == '-';
    let end = text.find(|one| !is_part(one)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse::<f64>();
    let number = number.map_err(|_error| format!("{text} does not begin with a number"))?;
    Ok((number, unit.trim()))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it saturates, and limits are checked where the value is used"
)]
pub(crate) fn whole(number: f64) -> i64 {
    libm::rint(number) as i64
}

/// A distribution. `one` reads a plain value, so that spans and bare numbers share the words.
pub(crate) fn distribution(
    text: &str,
    one: &dyn Fn(&str) -> Result<i64, String>,
) -> Result<Distribution, String> {
    let parts = top_level(text, '+');
    if parts.len() > 1 {
        let parts = parts.iter().map(|part| distribution(part, one));
        return Ok(Distribution::Sum(parts.collect::<Result<_, _>>()?));
    }
    let text = text.trim();
    let Some((name, inside)) = text.split_once('(') else {
        return Ok(Distribution::Fixed(one(text)?));
    };
    let inside = inside.strip_suffix(')');
    let inside = inside.ok_or_else(|| format!("{text} lacks a closing parenthesis"))?;
    let arguments = top_level(inside, ',');
    let count = |wanted: usize| {
        if arguments.len() == wanted {
            Ok(())
        } else {
            Err(format!(
                "{name} takes {wanted} arguments, not {}",
                arguments.len()
            ))
        }
    };
    match name.trim() {
        "uniform" => {
            count(2)?;
            let (low, high) = (one(arguments[0])?, one(arguments[1])?);
            if low > high {
                return Err(format!("{text}: the first is the smaller one"));
            }
            Ok(Distribution::Uniform(low, high))
        }
        "normal" => {
            count(2)?;
            Ok(Distribution::Normal(one(arguments[0])?, one(arguments[1])?))
        }
        "exp" => {
            count(1)?;
            Ok(Distribution::Exponential(one(arguments[0])?))
        }
        "lognormal" => {
            count(2)?;
            let deviation = split(arguments[1])?.0;
            Ok(Distribution::LogNormal(one(arguments[0])?, deviation))
        }
        "mix" => {
            let part = |argument: &&str| {
                let (weight, rest) = argument
                    .split_once(':')
                    .ok_or_else(|| format!("{argument}: write a weight, a colon, and a part"))?;
                let weight = split(weight)?.0;
                if weight <= 0.0 {
                    return Err(format!("{argument}: a part without weight is no part"));
                }
                Ok((weight, distribution(rest, one)?))
            };
            let parts = arguments.iter().map(part).collect::<Result<_, String>>()?;
            Ok(Distribution::Mix(parts))
        }
        "file" => Err(format!(
            "{text}: measured values are not read yet; use mix(...) or lognormal(...)"
        )),
        other => Err(format!(
            "{other} is no distribution: use uniform, normal, exp, lognormal, mix or a sum"
        )),
    }
}

/// Splits where no parenthesis is open.
fn top_level(text: &str, at: char) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0_u32, 0);
    for (index, one) in text.char_indices() {
        match one {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            other if other == at && depth == 0 => {
                parts.push(text[begin..index].trim());
                begin = index + at.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[begin..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units_and_say_so() {
        assert_eq!(span("0.7 ms"), Ok(700_000));
        assert_eq!(span("-2s"), Ok(-2_000_000_000));
        assert_eq!(duration("30m"), Ok(1_800_000_000_000));
        assert!(span("5").unwrap_err().contains("has no unit"));
        assert!(duration("-1s").unwrap_err().contains("negative"));
        assert_eq!(bytes("4KiB"), Ok(4_096));
        assert_eq!(bandwidth("100Mbit/s"), Ok(12_500_000));
        assert_eq!(bandwidth("400MB/s"), Ok(400_000_000));
        assert_eq!(frequency_milli("0.5/s"), Ok(500));
        assert_eq!(share("5 %"), Ok(0.05));
    }

    #[test]
    fn distributions_nest_and_add() {
        let read = |text| distribution(text, &span);
        let sum = read("15ms + lognormal(0.3ms, 0.8)").unwrap();
        let parts = vec![
            Distribution::Fixed(15_000_000),
            Distribution::LogNormal(300_000, 0.8),
        ];
        assert_eq!(sum, Distribution::Sum(parts));
        let mixed = read("mix(0.995: 1ms, 0.005: exp(1s) + 2ms)").unwrap();
        assert!(matches!(mixed, Distribution::Mix(parts) if parts.len() == 2));
        for wrong in [
            "uniform(2ms, 1ms)",
            "exp(1ms",
            "beta(1ms)",
            "mix(1ms)",
            "exp()",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
