//! All sites of this process and the cables between them: what the control socket's questions do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use holm_net::{Cable, Direction, Way};
use tokio::time::Instant;

use super::child::{self, Fate, Health, SiteProcess};
use super::plan::{Plan, Site};
use super::protocol::{Act, Answer, LinkRow, LinkState, Request, SiteRow};

/// How often processes are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a site may take to end when it is asked to: its own grace, and some.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// How long an answer waits for a site that was started: it may have to elect a leader first.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// The sites, for whoever asks. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Crew {
    plan: Arc<Plan>,
    sites: Arc<Mutex<Vec<SiteProcess>>>,
    cables: Arc<Vec<Strung>>,
}

/// A cable and the sites that it joins, by their places in the plan.
#[derive(Debug)]
struct Strung {
    first: usize,
    second: usize,
    cable: Cable,
}

impl Crew {
    /// Lays a cable for each pair and makes the sites, without starting any. `words` gives a site's command line
    /// from its place and its detours.
    ///
    /// # Errors
    ///
    /// No free port.
    pub(super) async fn gather(
        plan: Plan,
        data_dir: &Path,
        words: impl Fn(&Site, &str) -> Vec<String>,
    ) -> anyhow::Result<Self> {
        let mut cables = Vec::new();
        for (second, to) in plan.sites.iter().enumerate() {
            for (first, from) in plan.sites.iter().enumerate().take(second) {
                let cable = Cable::lay([from.peer, to.peer]).await?;
                cables.push(Strung {
                    first,
                    second,
                    cable,
                });
            }
        }
        cables.sort_by_key(|strung| (strung.first, strung.second));
        let sites = plan.sites.iter().enumerate().map(|(at, site)| {
            let via = via(&plan, &cables, at);
            SiteProcess::new(site.clone(), data_dir, words(site, &via))
        });
        Ok(Self {
            sites: Arc::new(Mutex::new(sites.collect())),
            cables: Arc::new(cables),
            plan: Arc::new(plan),
        })
    }

    /// The plan that it was gathered by.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SiteProcess>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts all sites.
    ///
    /// # Errors
    ///
    /// The first that the system refused.
    pub(super) fn start_all(&self) -> anyhow::Result<()> {
        self.lock().iter_mut().try_for_each(SiteProcess::start)
    }

    /// Looks at all processes; what ended by itself is told, once.
    pub(super) fn look(&self) -> Vec<String> {
        let mut sites = self.lock();
        sites.iter_mut().filter_map(SiteProcess::look).collect()
    }

    /// How all sites are, asked at their consoles at once.
    pub(super) async fn rows(&self) -> Vec<SiteRow> {
        let running: Vec<Option<Site>> = {
            let sites = self.lock();
            let is_running = |site: &&SiteProcess| *site.fate() == Fate::Running;
            let site = |it| Some(it).filter(is_running).map(|it| it.site().clone());
            sites.iter().map(site).collect()
        };
        let asked: Vec<_> = running
            .into_iter()
            .map(|site| {
                tokio::task::spawn_blocking(move || site.and_then(|site| child::health(&site)))
            })
            .collect();
        let mut answers: Vec<Option<Health>> = Vec::new();
        for asked in asked {
            // A probe that panicked is one without an answer.
            answers.push(asked.await.ok().flatten());
        }
        let sites = self.lock();
        let rows = sites.iter().zip(answers);
        rows.map(|(site, answer)| site.row(answer)).collect()
    }

    /// Answers a question.
    pub(super) async fn answer(&self, request: Request) -> Answer {
        let done = match request {
            Request::Links => Ok(Answer::Links {
                links: self.links(|_strung| true),
            }),
            Request::Set {
                from,
                to,
                one_way,
                state,
            } => self.set(&from, &to, one_way, state),
            Request::HealAll => {
                for strung in self.cables.iter() {
                    strung.cable.set(Direction::There, Way::Open);
                    strung.cable.set(Direction::Back, Way::Open);
                }
                Ok(Answer::Links {
                    links: self.links(|_strung| true),
                })
            }
            Request::Sites => Ok(Answer::Sites {
                sites: self.rows().await,
            }),
            Request::Site { name, act } => self.act(&name, act).await,
        };
        done.unwrap_or_else(|error| Answer::Refused {
            why: format!("{error:#}"),
        })
    }

    fn place(&self, name: &str) -> anyhow::Result<usize> {
        let sites = &self.plan.sites;
        let place = sites.iter().position(|site| site.name == name);
        place.with_context(|| {
            let names = self.plan.names().join(", ");
            format!("no site is called {name}: there are {names}")
        })
    }

    /// The node of that name, or all nodes of the site of that name.
    fn places(&self, name: &str) -> anyhow::Result<Vec<usize>> {
        let sites = self.plan.sites.iter().enumerate();
        let at_site = sites.filter(|(_, it)| it.name != name && it.site() == name);
        let mut places: Vec<usize> = at_site.map(|(at, _)| at).collect();
        let node = self.place(name);
        if places.is_empty() {
            return Ok(vec![node?]);
        }
        // One that is called as its site is goes with the others.
        places.extend(node.ok());
        places.sort_unstable();
        Ok(places)
    }

    fn set(&self, from: &str, to: &str, one_way: bool, state: LinkState) -> anyhow::Result<Answer> {
        let (from_all, to_all) = (self.places(from)?, self.places(to)?);
        ensure!(
            from_all.iter().all(|it| !to_all.contains(it)),
            "{from} and {to} are one site: name two of {}",
            self.plan.names().join(", ")
        );
        let way = match state {
            LinkState::Open => Way::Open,
            LinkState::Cut => Way::Cut,
            LinkState::Slow { delay_us } => {
                let delay = Duration::from_micros(delay_us);
                ensure!(
                    delay <= Duration::from_secs(60),
                    "a link can be slowed by 60 s at most"
                );
                Way::Slow(delay)
            }
        };
        let joins = |one: &usize, two: &usize| from_all.contains(one) && to_all.contains(two);
        let is_pair = |it: &Strung| joins(&it.first, &it.second) || joins(&it.second, &it.first);
        for strung in self.cables.iter().filter(|strung| is_pair(strung)) {
            let (ahead, behind) = if from_all.contains(&strung.first) {
                (Direction::There, Direction::Back)
            } else {
                (Direction::Back, Direction::There)
            };
            strung.cable.set(ahead, way);
            if !one_way {
                strung.cable.set(behind, way);
            }
        }
        Ok(Answer::Links {
            links: self.links(is_pair),
        })
    }

    fn links(&self, wanted: impl Fn(&Strung) -> bool) -> Vec<LinkRow> {
        let name = |at: usize| self.plan.sites[at].name.clone();
        let row = |strung: &Strung| {
            let view = strung.cable.view();
            let [there, back] = view.ways.map(state);
            let [bytes_there, bytes_back] = view.bytes;
            LinkRow {
                first: name(strung.first),
                second: name(strung.second),
                there,
                back,
                bytes_there,
                bytes_back,
                connections: view.connections,
            }
        };
        let cables = self.cables.iter().filter(|strung| wanted(strung));
        cables.map(row).collect()
    }

    /// Does it, and waits until it is done.
    async fn act(&self, name: &str, act: Act) -> anyhow::Result<Answer> {
        let at = self.place(name)?;
        self.lock()[at].act(act)?;
        let begun = Instant::now();
        loop {
            // What dies here is told by who looks at all sites.
            let is_there = self.lock()[at].is_there();
            let row = self.rows().await.swap_remove(at);
            let is_done = match act {
                Act::Kill | Act::Stop => !is_there,
                Act::Start => {
                    let is_coming = matches!(row.state.as_str(), "starting" | "no leader");
                    !is_coming || begun.elapsed() >= START_PATIENCE
                }
                Act::Pause | Act::Resume => true,
            };
            if is_done {
                return Ok(Answer::Sites { sites: vec![row] });
            }
            if begun.elapsed() >= STOP_PATIENCE {
                bail!(
                    "site {name} did not end within {} s: `holm site kill {name}` does not ask",
                    STOP_PATIENCE.as_secs()
                );
            }
            tokio::time::sleep(LOOK_EVERY / 2).await;
        }
    }

    /// Asks all sites to end, waits, and ends those that do not.
    pub(super) async fn stop_all(&self) -> Vec<String> {
        for site in self.lock().iter_mut().filter(|site| site.is_there()) {
            // One that has just ended cannot be asked, and need not be.
            site.act(Act::Stop).ok();
        }
        let begun = Instant::now();
        let mut late = Vec::new();
        while self.lock().iter().any(SiteProcess::is_there) {
            self.look();
            if begun.elapsed() >= STOP_PATIENCE && late.is_empty() {
                for site in self.lock().iter_mut().filter(|site| site.is_there()) {
                    late.push(site.site().name.clone());
                    site.act(Act::Kill).ok();
                }
            }
            tokio::time::sleep(LOOK_EVERY / 2).await;
        }
        late
    }
}

/// Where a site dials to reach the others.
fn via(plan: &Plan, cables: &[Strung], own: usize) -> String {
    let door = |strung: &Strung| -> Option<(usize, SocketAddr)> {
        if strung.first == own {
            Some((strung.second, strung.cable.door(Direction::There)))
        } else if strung.second == own {
            Some((strung.first, strung.cable.door(Direction::Back)))
        } else {
            None
        }
    };
    let doors = cables.iter().filter_map(door);
    let words = doors.map(|(other, door)| format!("{}={door}", plan.sites[other].name));
    words.collect::<Vec<_>>().join(",")
}

fn state(way: Way) -> LinkState {
    match way {
        Way::Open => LinkState::Open,
        Way::Cut => LinkState::Cut,
        Way::Slow(delay) => LinkState::slow(delay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SitesBase;
    use crate::sites::plan::names;
    use crate::sites::ports::Ports;

    async fn three(folder: &Path) -> (Crew, Vec<String>) {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let base = SitesBase {
            data_dir: folder.to_owned(),
            listen: nowhere,
            peer: nowhere,
            console: nowhere,
            streams: None,
            is_said: true,
        };
        let plan =
            Plan::settle(&base, &names(Some(3), None).unwrap(), &mut Ports::default()).unwrap();
        let detours = Mutex::new(Vec::new());
        let words = |_site: &Site, via: &str| {
            detours.lock().unwrap().push(via.to_owned());
            Vec::new()
        };
        let crew = Crew::gather(plan, folder, words).await.unwrap();
        (crew, detours.into_inner().unwrap())
    }

    fn set(from: &str, to: &str, one_way: bool, state: LinkState) -> Request {
        Request::Set {
            from: from.to_owned(),
            to: to.to_owned(),
            one_way,
            state,
        }
    }

    fn links(answer: Answer) -> Vec<(String, LinkState, LinkState)> {
        let Answer::Links { links } = answer else {
            panic!("{answer:?} is about no link");
        };
        let row = |it: LinkRow| (format!("{} {}", it.first, it.second), it.there, it.back);
        links.into_iter().map(row).collect()
    }

    #[tokio::test]
    async fn links_change_as_they_are_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let (crew, detours) = three(folder.path()).await;
        assert!(detours[1].starts_with("a=127.0.0.1:") && detours[1].contains(",c=127.0.0.1:"));
        let slow = LinkState::slow(Duration::from_millis(15));
        let row = |pair: &str, there, back| (pair.to_owned(), there, back);
        let cut = crew.answer(set("c", "a", true, LinkState::Cut)).await;
        assert_eq!(links(cut), [row("a c", LinkState::Open, LinkState::Cut)]);
        let slowed = crew.answer(set("b", "c", false, slow)).await;
        assert_eq!(links(slowed), [row("b c", slow, slow)]);
        let open = LinkState::Open;
        let all = links(crew.answer(Request::Links).await);
        assert_eq!(
            all,
            [
                row("a b", open, open),
                row("a c", open, LinkState::Cut),
                row("b c", slow, slow)
            ]
        );
        let healed = links(crew.answer(Request::HealAll).await);
        assert!(
            healed
                .iter()
                .all(|(_, there, back)| (*there, *back) == (open, open))
        );
    }

    #[tokio::test]
    async fn refusals_teach() {
        let folder = tempfile::tempdir().unwrap();
        let (crew, _detours) = three(folder.path()).await;
        let kill = |name: &str| Request::Site {
            name: name.to_owned(),
            act: Act::Kill,
        };
        let long = LinkState::slow(Duration::from_secs(61));
        let cases = [
            (
                set("a", "x", false, LinkState::Cut),
                "no site is called x: there are a, b, c",
            ),
            (
                set("a", "a", false, LinkState::Cut),
                "a and a are one site: name two of a, b, c",
            ),
            (
                set("a", "b", false, long),
                "a link can be slowed by 60 s at most",
            ),
            (kill("y"), "no site is called y: there are a, b, c"),
            (
                kill("b"),
                "site b does not run: `holm site start b` starts it",
            ),
        ];
        for (request, expected) in cases {
            let why = expected.to_owned();
            assert_eq!(crew.answer(request).await, Answer::Refused { why });
        }
    }
}
