//! `sluice hash-password`: makes what stands for a password in lists of users.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use sluice_gateway::authn::password::{argon2id, bcrypt_2b};

use crate::Exit;

/// The longest password that is read.
const LONGEST: u64 = 1 << 10;

/// Arguments of `hash-password`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  sluice hash-password
      Asks for the password, twice, without showing it.
  pass show proxy/alice | sluice hash-password
      Takes it from another program. The end of the line is no part of it.
  printf 'alice:%s\\n' \"$(sluice hash-password < password)\" >> /etc/sluice/users
      Puts a user on the list that `basic.file` of a listener names.

The hash goes to standard output and is another one each time: it begins with a salt. Passwords have at
most 1024 bytes (72 with --bcrypt) of UTF-8, and no control characters, since no client can send them.")]
pub(crate) struct Args {
    /// Use bcrypt instead of argon2id, for lists that other programs read, too.
    ///
    /// bcrypt looks at 72 bytes of a password: a longer one is refused, here and when it is verified.
    #[arg(long)]
    bcrypt: bool,
}

/// Hashes.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let password = if io::stdin().is_terminal() {
        typed()?
    } else {
        piped()?
    };
    ensure!(!password.is_empty(), "the password is empty");
    ensure!(
        !password.contains(char::is_control),
        "the password has a control character, which no client can send"
    );
    let hash = if args.bcrypt {
        bcrypt_2b(password.as_bytes())?
    } else {
        argon2id(password.as_bytes())?
    };
    writeln!(io::stdout().lock(), "{hash}")?;
    Ok(Exit::Fine)
}

/// All that another program says, without the end of the line.
fn piped() -> anyhow::Result<String> {
    let mut text = String::new();
    let longest = LONGEST.saturating_add(2);
    let mut input = io::stdin().lock().take(longest.saturating_add(1));
    input
        .read_to_string(&mut text)
        .context("reading the password")?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    bounded(password.strip_suffix('\r').unwrap_or(password))
}

/// What somebody types twice.
fn typed() -> anyhow::Result<String> {
    let _hidden = Hidden::new()?;
    let password = ask("Password: ")?;
    if ask("Again: ")? != password {
        bail!("the two are not the same");
    }
    Ok(password)
}

/// Asks on standard error, since the hash goes to standard output.
fn ask(prompt: &str) -> anyhow::Result<String> {
    let mut out = io::stderr().lock();
    write!(out, "{prompt}")?;
    out.flush()?;
    let mut line = String::new();
    let mut input = io::stdin().lock().take(LONGEST.saturating_add(2));
    let read = input.read_line(&mut line);
    // The end of the line was not shown either.
    writeln!(out)?;
    read.context("reading the password")?;
    bounded(line.trim_end_matches(['\r', '\n']))
}

fn bounded(password: &str) -> anyhow::Result<String> {
    let length = u64::try_from(password.len()).unwrap_or(u64::MAX);
    ensure!(
        length <= LONGEST,
        "the password is longer than {LONGEST} bytes"
    );
    Ok(password.to_owned())
}

/// A terminal that does not show what is typed, until dropped.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn new() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("asking the terminal")?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).context("hiding what is typed")?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.before).unwrap_or_default();
    }
}
