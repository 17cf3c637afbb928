//! What work costs on a named machine: the file that `holm bench calibrate` writes.
//!
//! What would surprise: CPU times are means. They come from the CPU clocks of real threads, divided by what they did
//! meanwhile, and such a clock knows no single message. What is waited for without a core, a sync or a thread that
//! wakes, is a table of 64 quantiles, since each could be timed by itself.

use crate::refusal::Refusal;
use crate::scenario::{Kind as ValueKind, Table, Value, read_tree, refuse, whole};

/// How many quantiles a table has.
pub const TABLE: usize = 64;
/// The version of the file.
const FORMAT: u64 = 6;
/// How far a figure of the model may lie from the real one, as a share.
pub const TOLERANCE: f64 = 0.15;

/// How much of a machine others may use while it is measured, as a share.
pub const FOREIGN_MAX: f64 = 0.08;

/// A kind of work that has a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A sleeping thread runs again on a core that works: one switch, there and back.
    ThreadWake,
    /// What a thread spends beyond the wake on a core that slept for longer than the shortest of the spans that are
    /// timed, once after its site has written its log.
    Cold,
    /// The generator serves a connection that has something for it.
    GeneratorPoll,
    /// It sends a put and takes the answer.
    GeneratorPut,
    /// It sends a range and takes the answer.
    GeneratorRange,
    /// The front serves a connection that has something for it.
    FrontPoll,
    /// It reads a request that does nothing, and answers it.
    FrontEcho,
    /// It takes a put apart and answers it.
    FrontPut,
    /// It takes a range apart, reads, and answers it.
    FrontRange,
    /// The engine works off a batch.
    EngineTurn,
    /// It orders a put of its own front and answers it.
    EnginePut,
    /// It makes sure that a range of its own front reads what is newest.
    EngineRange,
    /// It logs and applies an entry.
    EngineEntry,
    /// The same in a batch of 512 and more; from 64 on, prices go there by the logarithm.
    EngineCrowd,
    /// A worker writes to a link or reads from it, once: TLS and the system call.
    LinkCall,
    /// What 1,024 bytes on a link cost beyond that, where they are written.
    LinkKib,
    /// And where they are read and taken apart.
    LinkReadKib,
    /// A batch goes to the log on a core that works meanwhile: one write, one sync, without the waiting.
    LogFlush,
    /// The same where the core sleeps until the disk is done.
    IdleFlush,
    /// What an entry in it costs beyond that.
    LogEntry,
}

impl Work {
    /// All of them, by the names that the file uses.
    pub const ALL: [(&'static str, Self); 20] = [
        ("thread.wake", Self::ThreadWake),
        ("thread.cold", Self::Cold),
        ("generator.poll", Self::GeneratorPoll),
        ("generator.put.256", Self::GeneratorPut),
        ("generator.range.256", Self::GeneratorRange),
        ("front.poll", Self::FrontPoll),
        ("front.echo", Self::FrontEcho),
        ("front.put.256", Self::FrontPut),
        ("front.range.256", Self::FrontRange),
        ("engine.turn", Self::EngineTurn),
        ("engine.put.256", Self::EnginePut),
        ("engine.range", Self::EngineRange),
        ("engine.entry.256", Self::EngineEntry),
        ("engine.entry.256.crowd", Self::EngineCrowd),
        ("link.call", Self::LinkCall),
        ("link.kib", Self::LinkKib),
        ("link.read.kib", Self::LinkReadKib),
        ("log.flush", Self::LogFlush),
        ("log.flush.idle", Self::IdleFlush),
        ("log.entry.256", Self::LogEntry),
    ];

    fn index(self) -> usize {
        let found = Self::ALL.iter().position(|(_, work)| *work == self);
        found.expect("all are listed")
    }
}

/// Up to how many entries a batch is one of few, and how many doublings of that make it one of many.
const FEW_ENTRIES: u64 = 64;
const DOUBLINGS: u64 = 3;

/// How far a batch of so many entries is one of many, in thousandths, by their logarithm. The caches of a core then
/// serve many entries by what the first has brought in.
pub(crate) fn crowd_per_mille(entries: u64) -> u64 {
    if entries <= FEW_ENTRIES {
        return 0;
    }
    let doublings = (entries / FEW_ENTRIES).ilog2();
    let from = FEW_ENTRIES << doublings;
    let part = (entries - from) * 1_000 / from;
    (u64::from(doublings) * 1_000 + part).min(DOUBLINGS * 1_000) / DOUBLINGS
}

/// What a client of the table of validation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// One key of 256 bytes is written.
    Put,
    /// One such key is read, linearizably.
    Range,
}

impl Load {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Range => "range",
        }
    }
}

/// Nanoseconds of CPU of one site, by what its threads do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// The workers: connections of clients, and links.
    pub front: f64,
    /// The engine, and what it writes to the log itself.
    pub engine: f64,
    /// The log.
    pub log: f64,
    /// Everything else.
    pub other: f64,
}

impl Parts {
    /// All of it.
    #[must_use]
    pub fn all(&self) -> f64 {
        self.front + self.engine + self.log + self.other
    }

    /// With so many times the other.
    #[must_use]
    pub fn plus(self, other: Self, times: f64) -> Self {
        Self {
            front: self.front + other.front * times,
            engine: self.engine + other.engine * times,
            log: self.log + other.log * times,
            other: self.other + other.other * times,
        }
    }

    /// So many times this.
    #[must_use]
    pub fn times(self, by: f64) -> Self {
        Self::default().plus(self, by)
    }
}

/// A load that prices come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// What was asked for; nothing but an answer, if it is none.
    pub load: Option<Load>,
    /// At how many sites: the three, or one alone.
    pub sites: u32,
    /// By how many clients.
    pub clients: u32,
    /// Over how many connections.
    pub connections: u32,
    /// What the site that leads and is asked spent for each answer.
    pub leader: Parts,
    /// What each of the others spent, on average.
    pub follower: Parts,
    /// What the generator spent.
    pub generator: f64,
    /// How long a sync of a site waited for the disk, in nanoseconds; nothing where none was.
    pub sync: f64,
}

/// What it takes to wake a thread on a core that sleeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdleWake {
    /// How long the core has slept, in nanoseconds.
    pub slept: u64,
    /// What the thread spends on waking, in nanoseconds of CPU.
    pub wake: u64,
    /// What whoever calls it spends.
    pub call: u64,
    /// How long it takes until it runs, less what it spends, in nanoseconds, ascending.
    pub delay: Vec<u64>,
}

/// How long a sync of the log waits without a core, by what was written.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncWait {
    /// How many bytes.
    pub bytes: u64,
    /// In nanoseconds, ascending.
    pub alone: Vec<u64>,
    /// The same while others sync, too: as many as a machine of the table has sites.
    pub beside: Vec<u64>,
    /// How many times as long it waits at sites under load, for all else that they do with the disk.
    pub load: f64,
}

impl SyncWait {
    fn lines(&self) -> String {
        let [alone, beside] = [&self.alone, &self.beside].map(|table| listed(table));
        let (bytes, load) = (self.bytes, self.load);
        format!(
            "\n[[sync]]\nbytes = {bytes}\nload = {load:.3}\nalone = [{alone}]\nbeside = [{beside}]"
        )
    }
}

impl IdleWake {
    fn lines(&self) -> String {
        let [slept, wake, call] = [self.slept, self.wake, self.call].map(micros);
        let delay = listed(&self.delay);
        format!("\n[[idle]]\nslept = {slept}\nwake = {wake}\ncall = {call}\ndelay = [{delay}]")
    }
}

impl Measured {
    fn lines(&self) -> String {
        let load = self.load.map_or("echo", Load::name);
        let (sites, clients, connections) = (self.sites, self.clients, self.connections);
        let parts = |it: &Parts| {
            let all = [it.front, it.engine, it.log, it.other];
            all.map(|nanos| format!("{:.4}", nanos / 1e3)).join(", ")
        };
        format!(
            "\n[[measured]]\nload = {load:?}\nsites = {sites}\nclients = {clients}\nconnections = {connections}\n\
             leader = [{}]\nfollower = [{}]\ngenerator = {:.4}\nsync = {:.1}",
            parts(&self.leader),
            parts(&self.follower),
            self.generator / 1e3,
            self.sync / 1e3
        )
    }
}

/// What was seen under one load, in a closed loop at the site that leads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// What was asked for.
    pub load: Load,
    /// By how many clients.
    pub clients: u32,
    /// Answers a second.
    pub rate: f64,
    /// The median latency.
    pub p50_us: f64,
    /// The 99th percentile; shown and not judged.
    pub p99_us: f64,
    /// CPU of all three sites for each answer.
    pub cpu_us: f64,
}

/// How far a figure of the model lies from the real one, as a share of that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Miss {
    /// Of which cell.
    pub load: Load,
    /// Its clients.
    pub clients: u32,
    /// `throughput`, `p50`, `p99` or `CPU`.
    pub figure: &'static str,
    /// Model over real, less one.
    pub error: f64,
}

impl Miss {
    /// Whether the rule of validation asks for it.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.figure != "p99"
    }
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clients = if self.clients == 1 {
            "client"
        } else {
            "clients"
        };
        let (load, count, figure) = (self.load.name(), self.clients, self.figure);
        write!(
            f,
            "{load}, {count} {clients}: {figure} off by {:.0} %",
            self.error.abs() * 100.0
        )
    }
}

impl Cell {
    /// What the model says of this cell, against what was real.
    #[must_use]
    pub fn misses(&self, model: &Self) -> Vec<Miss> {
        let pairs = [
            ("throughput", self.rate, model.rate),
            ("p50", self.p50_us, model.p50_us),
            ("CPU", self.cpu_us, model.cpu_us),
            ("p99", self.p99_us, model.p99_us),
        ];
        let miss = |(figure, real, said): (&'static str, f64, f64)| Miss {
            load: self.load,
            clients: self.clients,
            figure,
            error: said / real - 1.0,
        };
        pairs.into_iter().map(miss).collect()
    }
}

/// The machine a file is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its processor, in words.
    pub processor: String,
    /// Its cores.
    pub cores: usize,
    /// Its kernel's release.
    pub kernel: String,
    /// The release of Holm, such as 0.1.0.
    pub release: String,
}

impl Machine {
    /// The part of a release that must not differ: `0.1` of `0.1.0`.
    fn minor(release: &str) -> &str {
        let mut dots = release.match_indices('.').map(|(at, _)| at);
        let (_, end) = (dots.next(), dots.next());
        end.map_or(release, |end| &release[..end])
    }
}

/// Service times of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// What reports call it: where it was read from.
    pub name: String,
    /// Whose they are.
    pub machine: Machine,
    /// SHA-256 of the program that was measured, in hexadecimal.
    pub build: String,
    /// When.
    pub date: String,
    /// How much of all cores others used meanwhile, as a share.
    pub foreign: f64,
    /// The longest value they hold for.
    pub value_bytes: u32,
    /// Nanoseconds of CPU, by [`Work`].
    cpu: [u64; Work::ALL.len()],
    /// How often a thread whose core is busy wakes on another that sleeps, of a million times.
    pub search: u32,
    /// How long a sleeping thread takes to run on a core that works, beyond what it and its caller spend, in
    /// nanoseconds, ascending.
    pub wake: Vec<u64>,
    /// The same on a core that sleeps, by how long it has, ascending.
    pub idle: Vec<IdleWake>,
    /// How long a sync of the log waits, by what was written, ascending.
    pub sync: Vec<SyncWait>,
    /// What the prices come from.
    pub measured: Vec<Measured>,
    /// What was seen on the real machine.
    pub real: Vec<Cell>,
    /// What the model said of the same when the file was made.
    pub model: Vec<Cell>,
}

impl Costs {
    /// A file in the making: nothing is measured.
    #[must_use]
    pub fn new(name: String, machine: Machine) -> Self {
        Self {
            name,
            machine,
            build: String::new(),
            date: String::new(),
            foreign: 0.0,
            value_bytes: 256,
            cpu: [0; Work::ALL.len()],
            search: 1_000_000,
            wake: vec![0],
            idle: Vec::new(),
            sync: Vec::new(),
            measured: Vec::new(),
            real: Vec::new(),
            model: Vec::new(),
        }
    }

    /// What one piece of work costs, in nanoseconds of CPU.
    #[must_use]
    pub fn of(&self, work: Work) -> u64 {
        self.cpu[work.index()]
    }

    /// What an entry costs in a batch of so many.
    pub(crate) fn of_entry(&self, entries: u64) -> u64 {
        let (one, crowd) = (self.of(Work::EngineEntry), self.of(Work::EngineCrowd));
        let share = crowd_per_mille(entries);
        (one * (1_000 - share) + crowd * share) / 1_000
    }

    /// Says what one piece of work costs.
    pub fn set(&mut self, work: Work, nanos: u64) {
        self.cpu[work.index()] = nanos;
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// What it lacks, what it has too much of, and where.
    pub fn parse(text: &str, file: &str) -> Result<Self, Refusal> {
        let mut top = read_tree(text, file)?;
        let format = top.need("format")?;
        if top.number(&format, "format")?.to_bits() != 6.0_f64.to_bits() {
            let what = "format is 6: this build reads no other; calibrate again";
            return Err(top.refuse(format.line, what));
        }
        let machine = Machine {
            processor: words(&mut top, "machine")?,
            cores: usize::try_from(number(&mut top, "cores")?).unwrap_or(0),
            kernel: words(&mut top, "kernel")?,
            release: words(&mut top, "release")?,
        };
        let mut costs = Self::new(file.to_owned(), machine);
        costs.build = words(&mut top, "build")?;
        costs.date = words(&mut top, "date")?;
        costs.foreign = real(&mut top, "foreign_cpu")?;
        costs.value_bytes = u32::try_from(number(&mut top, "value_bytes")?).unwrap_or(0);
        costs.prices(&mut top)?;
        let search = real(&mut top, "search")?;
        costs.search = u32::try_from(whole(search.clamp(0.0, 1.0) * 1e6)).unwrap_or(0);
        costs.wake = quantiles(&mut top, "wake")?;
        costs.idle = idle(&mut top)?;
        costs.sync = syncs(&mut top)?;
        costs.measured = measured(&mut top)?;
        costs.real = cells(&mut top, "real")?;
        costs.model = cells(&mut top, "model")?;
        top.finish()?;
        Ok(costs)
    }

    fn prices(&mut self, top: &mut Table) -> Result<(), Refusal> {
        let table = top.table("cpu")?;
        let mut table = table.ok_or_else(|| refuse(&top.file, 1, "the file has no [cpu]"))?;
        for (name, work) in Work::ALL {
            let value = table.take(name).ok_or_else(|| {
                let what = format!(
                    "no measure of {name}: work of that kind would be free; calibrate again with \
                     this release"
                );
                table.refuse(table.line, what)
            })?;
            let nanos = nanos(&table, &value, name)?;
            self.set(work, nanos);
        }
        table.finish()
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::from(
            "# Service times, by `holm bench calibrate`. Spans are in microseconds.\n",
        );
        let mut line = |words: String| {
            text.push_str(&words);
            text.push('\n');
        };
        let Machine {
            processor,
            cores,
            kernel,
            release,
        } = &self.machine;
        line(format!("format = {FORMAT}"));
        line(format!("machine = {processor:?}"));
        line(format!("cores = {cores}"));
        line(format!("kernel = {kernel:?}"));
        line(format!("release = {release:?}"));
        line(format!("build = {:?}", self.build));
        line(format!("date = {:?}", self.date));
        line(format!("foreign_cpu = {:.4}", self.foreign));
        line(format!("value_bytes = {}", self.value_bytes));
        line(format!("search = {:.6}", f64::from(self.search) / 1e6));
        line(format!("wake = [{}]", listed(&self.wake)));
        line("\n[cpu]".to_owned());
        for (name, work) in Work::ALL {
            line(format!("{name:?} = {}", micros(self.of(work))));
        }
        for one in &self.idle {
            line(one.lines());
        }
        for one in &self.sync {
            line(one.lines());
        }
        for one in &self.measured {
            line(one.lines());
        }
        for (name, cells) in [("real", &self.real), ("model", &self.model)] {
            for cell in cells {
                let Cell {
                    clients,
                    rate,
                    p50_us,
                    p99_us,
                    cpu_us,
                    ..
                } = cell;
                line(format!(
                    "\n[[{name}]]\nload = {:?}\nclients = {clients}\nrate = {rate:.1}\np50 = {p50_us:.1}\n\
                     p99 = {p99_us:.1}\ncpu = {cpu_us:.2}",
                    cell.load.name()
                ));
            }
        }
        text
    }

    /// What the model said when the file was made, against what was real.
    #[must_use]
    pub fn misses(&self) -> Vec<Miss> {
        misses(&self.real, &self.model)
    }

    /// Why nothing that follows from these costs may be quoted, if so.
    #[must_use]
    pub fn flaw(&self) -> Option<String> {
        if self.foreign > FOREIGN_MAX {
            let percent = self.foreign * 100.0;
            return Some(format!(
                "calibrated while others used {percent:.0} % of the machine"
            ));
        }
        let misses = self.misses();
        match worst(&misses) {
            None => Some("never validated".to_owned()),
            Some(miss) => (miss.error.abs() > TOLERANCE).then(|| miss.to_string()),
        }
    }

    /// Why these costs are not to be used here, if so.
    #[must_use]
    pub fn foreign_to(&self, here: &Machine) -> Option<String> {
        let own = &self.machine;
        if Machine::minor(&own.release) != Machine::minor(&here.release) {
            return Some(format!(
                "{} was made with holm {}, this is {}: calibrate again",
                self.name, own.release, here.release
            ));
        }
        None
    }

    /// Why what they say cannot be held against this machine, if so.
    #[must_use]
    pub fn elsewhere(&self, here: &Machine) -> Option<String> {
        let own = &self.machine;
        ((&own.processor, own.cores) != (&here.processor, here.cores)).then(|| {
            format!(
                "{} is of another machine ({}, {} cores): this is {}, {} cores",
                self.name, own.processor, own.cores, here.processor, here.cores
            )
        })
    }
}

/// What the model says of each real cell, against that; a cell without a model is left out.
#[must_use]
pub fn misses(real: &[Cell], model: &[Cell]) -> Vec<Miss> {
    let same = |cell: &Cell| {
        let mut all = model.iter();
        all.find(|other| (other.load, other.clients) == (cell.load, cell.clients))
    };
    let pairs = real.iter().filter_map(|cell| Some((cell, same(cell)?)));
    pairs.flat_map(|(cell, model)| cell.misses(model)).collect()
}

/// The worst of what is judged; none if nothing is.
#[must_use]
pub fn worst(misses: &[Miss]) -> Option<&Miss> {
    let judged = misses.iter().filter(|miss| miss.is_judged());
    judged.max_by(|one, other| one.error.abs().total_cmp(&other.error.abs()))
}

fn listed(table: &[u64]) -> String {
    let points = table.iter().map(|nanos| micros(*nanos));
    points.collect::<Vec<_>>().join(", ")
}

fn micros(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1_000, nanos % 1_000)
}

fn words(table: &mut Table, key: &'static str) -> Result<String, Refusal> {
    let value = table.need(key)?;
    table.text(value, key)
}

fn real(table: &mut Table, key: &'static str) -> Result<f64, Refusal> {
    let value = table.need(key)?;
    table.number(&value, key)
}

fn number(table: &mut Table, key: &'static str) -> Result<u64, Refusal> {
    Ok(u64::try_from(whole(real(table, key)?)).unwrap_or(0))
}

fn nanos(table: &Table, value: &Value, key: &str) -> Result<u64, Refusal> {
    let micros = table.number(value, key)?;
    u64::try_from(whole(micros * 1e3))
        .map_err(|_negative| table.refuse(value.line, format!("{key} is a span in microseconds")))
}

fn quantiles(table: &mut Table, key: &'static str) -> Result<Vec<u64>, Refusal> {
    let value = table.need(key)?;
    let line = value.line;
    let ValueKind::List(list) = value.kind else {
        return Err(table.refuse(line, format!("{key} is a list of {TABLE} spans")));
    };
    let spans: Result<Vec<u64>, Refusal> = list.iter().map(|one| nanos(table, one, key)).collect();
    let spans = spans?;
    if spans.len() != TABLE || !spans.is_sorted() {
        return Err(table.refuse(line, format!("{key} is a list of {TABLE} rising spans")));
    }
    Ok(spans)
}

fn idle(top: &mut Table) -> Result<Vec<IdleWake>, Refusal> {
    let one = |mut table: Table| {
        let span = |table: &mut Table, key: &'static str| {
            let value = table.need(key)?;
            nanos(table, &value, key)
        };
        let timed = IdleWake {
            slept: span(&mut table, "slept")?,
            wake: span(&mut table, "wake")?,
            call: span(&mut table, "call")?,
            delay: quantiles(&mut table, "delay")?,
        };
        table.finish()?;
        Ok(timed)
    };
    let all: Result<Vec<IdleWake>, Refusal> = top.tables("idle")?.into_iter().map(one).collect();
    let all = all?;
    if all.is_empty() || !all.is_sorted_by_key(|one| one.slept) {
        let what = "[[idle]] says what it takes to wake a core, by how long it has slept, rising";
        return Err(top.refuse(1, what));
    }
    Ok(all)
}

fn syncs(top: &mut Table) -> Result<Vec<SyncWait>, Refusal> {
    let one = |mut table: Table| {
        let timed = SyncWait {
            bytes: number(&mut table, "bytes")?,
            alone: quantiles(&mut table, "alone")?,
            beside: quantiles(&mut table, "beside")?,
            load: real(&mut table, "load")?,
        };
        if timed.load <= 0.0 {
            let what = "load is how many times as long a sync waits at sites under load";
            return Err(table.refuse(table.line, what));
        }
        table.finish()?;
        Ok(timed)
    };
    let all: Result<Vec<SyncWait>, Refusal> = top.tables("sync")?.into_iter().map(one).collect();
    let all = all?;
    let rises = all.is_sorted_by(|one, next| one.bytes < next.bytes);
    if all.is_empty() || !rises {
        let what = "[[sync]] says how long a sync waits, by how many bytes were written, rising";
        return Err(top.refuse(1, what));
    }
    Ok(all)
}

fn cells(top: &mut Table, key: &'static str) -> Result<Vec<Cell>, Refusal> {
    let cell = |mut table: Table| {
        let load = match words(&mut table, "load")?.as_str() {
            "put" => Load::Put,
            "range" => Load::Range,
            other => {
                return Err(table.refuse(table.line, format!("load is put or range, not {other}")));
            }
        };
        let cell = Cell {
            load,
            clients: u32::try_from(number(&mut table, "clients")?).unwrap_or(0),
            rate: real(&mut table, "rate")?,
            p50_us: real(&mut table, "p50")?,
            p99_us: real(&mut table, "p99")?,
            cpu_us: real(&mut table, "cpu")?,
        };
        table.finish()?;
        Ok(cell)
    };
    top.tables(key)?.into_iter().map(cell).collect()
}

fn measured(top: &mut Table) -> Result<Vec<Measured>, Refusal> {
    let one = |mut table: Table| {
        let load = match words(&mut table, "load")?.as_str() {
            "echo" => None,
            "put" => Some(Load::Put),
            "range" => Some(Load::Range),
            other => {
                let what = format!("load is echo, put or range, not {other}");
                return Err(table.refuse(table.line, what));
            }
        };
        let measured = Measured {
            load,
            sites: u32::try_from(number(&mut table, "sites")?).unwrap_or(0),
            clients: u32::try_from(number(&mut table, "clients")?).unwrap_or(0),
            connections: u32::try_from(number(&mut table, "connections")?).unwrap_or(0),
            leader: parts(&mut table, "leader")?,
            follower: parts(&mut table, "follower")?,
            generator: real(&mut table, "generator")? * 1e3,
            sync: real(&mut table, "sync")? * 1e3,
        };
        table.finish()?;
        Ok(measured)
    };
    top.tables("measured")?.into_iter().map(one).collect()
}

/// Microseconds of the front, the engine, the log and the rest.
fn parts(table: &mut Table, key: &'static str) -> Result<Parts, Refusal> {
    let value = table.need(key)?;
    let line = value.line;
    let ValueKind::List(list) = value.kind else {
        return Err(table.refuse(line, format!("{key} is a list of four spans")));
    };
    let spans: Result<Vec<f64>, Refusal> = list.iter().map(|it| table.number(it, key)).collect();
    let spans = spans?;
    let [front, engine, log, other] = spans.as_slice() else {
        return Err(table.refuse(line, format!("{key} is a list of four spans")));
    };
    let parts = Parts {
        front: *front,
        engine: *engine,
        log: *log,
        other: *other,
    };
    Ok(parts.times(1e3))
}
