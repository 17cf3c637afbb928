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
    /// etcd's list of the first members.
    pub(crate) initial_cluster: Option<String>,
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
        SETTINGS
            .iter()
            .map(flag)
            .fold(command.arg(config), Command::arg)
            .args(WITHOUT_MEANING.iter().map(|name| hidden(name)))
            .arg(hidden("initial-cluster"))
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
            initial_cluster: said("initial-cluster"),
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
