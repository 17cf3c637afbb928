//! Starts a server on ports of its own in a folder of its own, waits until it serves, and ends it.
//!
//! Processes are ended by their own id only, for other servers may run on the machine. A
//! server that is dropped is killed, so that a failed test leaves none behind.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::http::Connection;
use crate::peer;
use crate::ports::Ports;
use crate::sites::until;

/// How long a server may take until it serves, and until it has stopped: long, for a run of
/// thousands of starts may share its machine with builds, and who fails ends at once.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Our own binary: `HOLM_BIN`, or the one that cargo built beside this test.
    Holm,
    /// The etcd that `HOLM_ETCD` names, or the one that is installed on this machine.
    Etcd,
    /// A newer etcd than distributions have, fetched by name.
    Newer,
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which program serves.
    pub program: Program,
    /// The member's name.
    pub name: String,
    /// Further arguments, which both programs must understand.
    pub arguments: Vec<String>,
    /// Where the data directory is made; the system's folder for temporary files if `None`.
    pub folder: Option<PathBuf>,
    /// A command that starts the server in its stead, such as `sh -c 'ulimit -n 64; exec "$@"' sh`.
    pub wrapper: Vec<String>,
    /// Serve TLS with this certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Setup {
    /// The plain setup of a program.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self {
            program,
            name: "default".to_owned(),
            arguments: Vec::new(),
            folder: None,
            wrapper: Vec::new(),
            tls: None,
        }
    }

    /// With a further argument.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// On a disk in memory where there is one: for tests that do not need a real sync.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        let memory = Path::new("/dev/shm");
        self.folder = memory.is_dir().then(|| memory.to_owned());
        self
    }
}

/// A running server and its folder. The folder lives as long as this does.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    folder: TempDir,
    ports: Ports,
    child: Option<Child>,
}

impl Server {
    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    ///
    /// A program that is not there, or that does not serve within two minutes; the error
    /// holds the end of what it wrote.
    pub fn start(setup: Setup) -> Result<Self> {
        let mut server = Self::prepare(setup)?;
        server.begin()?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Chooses ports and makes the folder, and starts nothing yet.
    ///
    /// # Errors
    ///
    /// No free port or no folder.
    pub fn prepare(setup: Setup) -> Result<Self> {
        let folder = match &setup.folder {
            Some(folder) => TempDir::with_prefix_in("holm-process-", folder)?,
            None => TempDir::with_prefix("holm-process-")?,
        };
        Ok(Self {
            setup,
            folder,
            ports: Ports::hold(&[0, 1, 2])?,
            child: None,
        })
    }

    /// Starts the process; it may not serve yet.
    ///
    /// # Errors
    ///
    /// A program that is not there.
    pub fn begin(&mut self) -> Result<()> {
        let program = locate(self.setup.program)?;
        let mut words = self.setup.wrapper.clone();
        words.push(program.to_string_lossy().into_owned());
        // An argument of the setup stands in for ours: a flag may be given only once.
        let name = |word: &str| word.split('=').next().map(str::to_owned);
        let given: Vec<_> = self.setup.arguments.iter().map(|it| name(it)).collect();
        let own = self.own_arguments().into_iter();
        words.extend(own.filter(|word| !given.contains(&name(word))));
        words.extend(self.setup.arguments.iter().cloned());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", words[0]))?;
        self.child = Some(child);
        Ok(())
    }

    fn own_arguments(&self) -> Vec<String> {
        let [client, peer, console] = [0, 1, 2].map(|at| self.ports.ports()[at]);
        let data = self.data().to_string_lossy().into_owned();
        let mut words: Vec<String> = match self.setup.program {
            Program::Holm => [
                "up".to_owned(),
                format!("--data-dir={data}"),
                format!("--name={}", self.setup.name),
                format!("--listen=127.0.0.1:{client}"),
                format!("--peer=127.0.0.1:{peer}"),
                format!("--console=127.0.0.1:{console}"),
            ]
            .to_vec(),
            Program::Etcd | Program::Newer => {
                let (scheme, name) = (self.scheme(), &self.setup.name);
                [
                    format!("--data-dir={data}"),
                    format!("--name={name}"),
                    format!("--listen-client-urls={scheme}://127.0.0.1:{client}"),
                    format!("--advertise-client-urls={scheme}://127.0.0.1:{client}"),
                    format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                    format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                    format!("--initial-cluster={name}=http://127.0.0.1:{peer}"),
                ]
                .to_vec()
            }
        };
        if let Some((certificate, key)) = &self.setup.tls {
            words.push(format!("--cert-file={}", certificate.display()));
            words.push(format!("--key-file={}", key.display()));
        }
        words
    }

    /// Waits until a client gets an answer.
    ///
    /// # Errors
    ///
    /// A process that ended, or two minutes without an answer.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                bail!(
                    "{:?} ended with {status} before it served:\n{}",
                    self.setup.program,
                    self.log_end()
                );
            }
            if self.is_ready() {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        bail!(
            "{:?} did not serve in {PATIENCE:?}:\n{}",
            self.setup.program,
            self.log_end()
        )
    }

    fn is_ready(&self) -> bool {
        if self.setup.tls.is_some() {
            // With TLS an open port is all that can be seen without a TLS client.
            return std::net::TcpStream::connect(self.address()).is_ok();
        }
        Connection::open(self.address())
            .and_then(|mut connection| connection.ask("GET", "/health", &[], b""))
            .is_ok_and(|reply| reply.status == 200)
    }

    /// Whether the process has ended by itself, and how.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// `kill -9`: nothing is said to the process, and nothing is lost that was acknowledged.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("kill the server")?;
            child.wait().context("wait for the killed server")?;
        }
        Ok(())
    }

    /// Asks the process to stop, as an operator does, and waits for its end.
    ///
    /// # Errors
    ///
    /// A process that does not stop within two minutes.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let Some(mut child) = self.child.take() else {
            bail!("the server is not running");
        };
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.context("a process id is a small number")?, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(10));
        }
        child.kill()?;
        bail!(
            "the server did not stop in {PATIENCE:?}:\n{}",
            self.log_end()
        )
    }

    /// Starts the process again on its own directory and ports, and waits until it serves.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn again(&mut self) -> Result<()> {
        self.begin()?;
        self.wait_until_ready()
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.ports.address(0)
    }

    /// The client port as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.address())
    }

    fn scheme(&self) -> &'static str {
        if self.setup.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the server was started with; changes hold from the next start on.
    pub fn setup_mut(&mut self) -> &mut Setup {
        &mut self.setup
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// All that the server wrote to its output.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where a site serves its streams, once it does.
    ///
    /// # Errors
    ///
    /// That it does not.
    pub fn streams(&self) -> Result<SocketAddr> {
        let mut found = None;
        until("streams are served", || {
            let log = self.log();
            let line = log
                .lines()
                .rfind(|line| line.contains("streams are served"));
            found = line.and_then(|line| line.split_once("address=")?.1.trim().parse().ok());
            Ok(found.is_some())
        })?;
        found.context("it was found")
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // The test is over, well or not; an error here would hide its own.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The program's file.
///
/// # Errors
///
/// It is not there; the error says what to do.
pub fn locate(program: Program) -> Result<PathBuf> {
    match program {
        Program::Etcd | Program::Newer => peer::tool(program, "etcd"),
        Program::Holm => match std::env::var_os("HOLM_BIN") {
            Some(path) => Ok(path.into()),
            None => built_beside(),
        },
    }
}

fn built_beside() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent);
    let binary = folder.context("a test lies two folders deep")?.join("holm");
    if !binary.is_file() {
        bail!(
            "{} is missing: `cargo build -p holm`, or set HOLM_BIN",
            binary.display()
        );
    }
    Ok(binary)
}

/// Where a program of that name lies on the search path.
#[must_use]
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
