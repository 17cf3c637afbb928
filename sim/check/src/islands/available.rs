//! An island answers, whatever its links do.

use std::time::Duration;

use holm_base::Time;

use crate::verdict::Violation;

/// Something that was asked of an island and not answered, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Which island.
    pub site: usize,
    /// When it was asked for.
    pub asked: Time,
    /// When the client gave it up, or was refused.
    pub ended: Time,
    /// When the island was last down, paused or without its disk; it may have been well ever
    /// since it began, at zero.
    pub unwell: Time,
}

/// Demands that an island which has been well for `within` answers.
///
/// # Errors
///
/// The first request that such an island did not answer.
pub fn available(all: &[Unanswered], within: Duration) -> Result<(), Violation> {
    match all.iter().find(|one| one.asked > one.unwell + within) {
        None => Ok(()),
        Some(one) => {
            let place = format!(
                "island {} was last unwell at {:?}; asked at {:?}, it had not answered at {:?}",
                one.site, one.unwell, one.asked, one.ended
            );
            let rule = "an island that is well needs no other to answer";
            Err(Violation::new("available", rule, place))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(unwell: u64, asked: u64) -> bool {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let one = Unanswered {
            site: 0,
            asked: at(asked),
            ended: at(asked + 5),
            unwell: at(unwell),
        };
        available(&[one], Duration::from_secs(3)).is_ok()
    }

    #[test]
    fn who_comes_back_need_not_answer_at_once() {
        assert!(judged(10, 12) && judged(10, 13));
        assert!(available(&[], Duration::ZERO).is_ok());
    }

    #[test]
    fn who_is_well_must_answer() {
        assert!(!judged(10, 14) && !judged(0, 4));
    }
}
