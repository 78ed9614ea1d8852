//! What the command line can do: one file per verb, each with its arguments and a `run`.

pub(crate) mod about;
pub(crate) mod certs;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod fmt;
pub(crate) mod hash_password;
mod reach;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod steer;

use crate::{
    Exit,
    args::{Args, Command},
};

/// Does what was asked.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(*args),
        Command::Status(args) => show::status(&args),
        Command::Routes(args) => show::routes(&args),
        Command::Listeners(args) => show::listeners(&args),
        Command::Upstreams(args) => show::upstreams(&args),
        Command::Egress(egress) => show::egress(&egress),
        Command::Certs(certs) => certs::run(&certs),
        Command::Config(config) => show::config(&config),
        Command::Reload(args) => steer::reload(&args),
        Command::Drain(args) => steer::drain(&args),
        Command::Stop(args) => steer::stop(&args),
        Command::LogLevel(args) => steer::log_level(&args),
        Command::AccessLog(args) => steer::access_log(&args),
        Command::Healthcheck(args) => steer::healthcheck(&args),
        Command::Demo(args) => demo::run(args),
        Command::Fmt(args) => fmt::run(&args),
        Command::HashPassword(args) => hash_password::run(&args),
        Command::Schema => about::schema(),
        Command::Version => about::version(),
        Command::Completions(args) => about::completions(&args),
    }
}
