//! The rule by which a replacement goes on: from what all members have reported to what one of
//! them is to do. Pure, so that all small worlds of it can be tried (`tests/authority.rs`).

use holm_base::NodeId;

use super::{Fingerprint, Report};

/// How far a replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Not all trust the next authority yet.
    Trust,
    /// All do; not all have certificates of it, or its key where they are to have it.
    Sign,
    /// All have; not all have let go of the others.
    Drop,
    /// All have.
    Finish,
}

/// A member, and what it has reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its id.
    pub node: NodeId,
    /// Whether it votes.
    pub has_vote: bool,
    /// What it has; `None` if it has told nothing yet.
    pub report: Option<Report>,
}

/// What a stage waits for at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It has told nothing.
    Report,
    /// It is to trust the next authority.
    Trust,
    /// It is to have the next authority's key.
    Key,
    /// It is to have a certificate of the next authority.
    Certificate,
    /// It is to let go of all others.
    Drop,
}

/// What a site is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// To trust the next authority as well.
    Trust,
    /// To sign with the key that lies ready.
    TakeKey,
    /// To ask another site for the key.
    AskKey,
    /// To let go of a key that it has without a vote.
    LoseKey,
    /// To renew its certificate.
    Renew,
    /// To trust the next authority alone.
    Drop,
    /// To say that it is done.
    Finish,
    /// To wait for others.
    Rest,
}

/// How far it is that `next` replaces the others.
#[must_use]
pub fn stage(next: Fingerprint, sites: &[Site]) -> Stage {
    let stages = [Stage::Trust, Stage::Sign, Stage::Drop];
    let waits = |stage: &Stage| sites.iter().any(|site| lack(next, *stage, site).is_some());
    stages.into_iter().find(waits).unwrap_or(Stage::Finish)
}

/// What a stage waits for at a site; `None` if nothing.
#[must_use]
pub fn lack(next: Fingerprint, stage: Stage, site: &Site) -> Option<Lack> {
    let Some(report) = &site.report else {
        return Some(Lack::Report);
    };
    match stage {
        Stage::Trust => (!report.trusts.contains(&next)).then_some(Lack::Trust),
        // Who could still sign with another key would make a certificate that all are to refuse.
        Stage::Sign if report.key != Some(next) && (site.has_vote || report.key.is_some()) => {
            Some(Lack::Key)
        }
        Stage::Sign => (report.signed_by != Some(next)).then_some(Lack::Certificate),
        Stage::Drop => (report.trusts != [next]).then_some(Lack::Drop),
        Stage::Finish => None,
    }
}

/// What a site that has `own` is to do at a stage.
#[must_use]
pub fn step(next: Fingerprint, stage: Stage, own: &Report, has_vote: bool) -> Step {
    if !own.trusts.contains(&next) {
        return Step::Trust;
    }
    match stage {
        Stage::Trust => Step::Rest,
        Stage::Sign if own.key != Some(next) && own.ready == Some(next) => Step::TakeKey,
        Stage::Sign if own.key != Some(next) && has_vote => Step::AskKey,
        Stage::Sign if own.key.is_some_and(|key| key != next) => Step::LoseKey,
        Stage::Sign if own.signed_by != Some(next) => Step::Renew,
        Stage::Sign => Step::Rest,
        Stage::Drop if own.trusts != [next] => Step::Drop,
        Stage::Drop => Step::Rest,
        Stage::Finish => Step::Finish,
    }
}

/// Whether the key of the next authority is at no member, and will never be: then another has to
/// be made.
///
/// The one that made it had it before anybody heard of it. So it is lost if that one is no member
/// any more, or has heard of it and says that it has it not; unless others have it by then.
#[must_use]
pub fn is_lost(next: Fingerprint, by: Option<NodeId>, sites: &[Site]) -> bool {
    let reports = || sites.iter().filter_map(|site| site.report.as_ref());
    if reports().any(|it| it.key == Some(next) || it.ready == Some(next)) {
        return false;
    }
    let maker = sites.iter().find(|site| Some(site.node) == by);
    maker.is_none_or(|it| {
        let report = it.report.as_ref();
        report.is_some_and(|report| report.trusts.contains(&next))
    })
}
