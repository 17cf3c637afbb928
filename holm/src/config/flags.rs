//! The flags of `holm up`, made from the table of settings.

use clap::builder::{OsStr, Str};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::layer::{Layer, Said, Source};
use super::settings::{SETTINGS, Setting, WITHOUT_MEANING};

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The settings named by flags.
    pub(crate) layer: Layer,
    /// The file of settings.
    pub(crate) config: Option<String>,
    /// Flags of etcd that mean nothing here, with what they were given.
    pub(crate) without_meaning: Vec<(&'static str, String)>,
    /// How many sites to start.
    pub(crate) sites: Option<u8>,
    /// What they are called.
    pub(crate) names: Option<String>,
    /// Whether the process ends with its standard input, as those do that another process started.
    pub(crate) ends_with_input: bool,
}

fn flag(setting: &'static Setting) -> Arg {
    let default = if setting.default.is_empty() {
        String::new()
    } else {
        format!(" [default: {}]", setting.default)
    };
    let variable = setting.name.to_uppercase().replace('-', "_");
    let mut arg = Arg::new(setting.name)
        .long(setting.name)
        .help(format!("{}{default} [env: HOLM_{variable}]", setting.help))
        .help_heading(setting.heading)
        .hide(setting.help.is_empty())
        .action(ArgAction::Set);
    for alias in setting.aliases {
        arg = arg.alias(*alias);
    }
    if setting.value.is_empty() {
        arg.value_name("true|false")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(OsStr::from("true"))
    } else {
        arg.value_name(Str::from(setting.value))
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .alias("config-file")
            .value_name("FILE")
            .help("A TOML file whose keys are these flags' names; flags and variables win over it")
            .help_heading("Node")
            .action(ArgAction::Set);
        let hidden = |name: &'static str| {
            Arg::new(name)
                .long(name)
                .hide(true)
                .num_args(0..=1)
                .default_missing_value(OsStr::from("true"))
                .action(ArgAction::Set)
        };
        let sites = Arg::new("sites")
            .long("sites")
            .value_name("N")
            .help("Start so many sites on this machine, with links that `holm link` cuts and heals")
            .help_heading("Sites")
            .value_parser(clap::value_parser!(u8).range(2..=7))
            .action(ArgAction::Set);
        let names = Arg::new("names")
            .long("names")
            .value_name("NAMES")
            .help(
                "What the sites are called, commas between [default: a, b, c, ...]; a/a1,a/a2,a/a3,b makes three \
                 nodes of site a",
            )
            .help_heading("Sites")
            .action(ArgAction::Set);
        let ends_with_input = Arg::new("ends-with-input")
            .long("ends-with-input")
            .hide(true)
            .action(ArgAction::SetTrue);
        SETTINGS
            .iter()
            .map(flag)
            .fold(command.arg(config), Command::arg)
            .args(WITHOUT_MEANING.iter().map(|name| hidden(name)))
            .args([sites, names, ends_with_input])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let said = |name: &str| matches.get_one::<String>(name).cloned();
        let mut flags = Self {
            layer: Layer::new(),
            config: said("config"),
            without_meaning: Vec::new(),
            sites: matches.get_one::<u8>("sites").copied(),
            names: said("names"),
            ends_with_input: matches.get_flag("ends-with-input"),
        };
        for setting in SETTINGS {
            if let Some(text) = said(setting.name) {
                let source = Source::Flag(setting.name.to_owned());
                flags.layer.insert(setting.name, Said { text, source });
            }
        }
        for name in WITHOUT_MEANING {
            flags
                .without_meaning
                .extend(said(name).map(|text| (*name, text)));
        }
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
