//! `cargo xtask`: the chores of this workspace. It runs cargo, a real Consul and the suites, and reads the tree; it
//! knows nothing of the product's types. One command, one file; what stands here is the list of them.

mod agent;
mod args;
mod bench;
mod ci;
mod consul;
mod fuzz;
mod integration;
mod node_peer;
mod outcome;
mod process;
mod stopwatch;
mod tidy;
mod times;
mod workspace;

use std::process::ExitCode;

use crate::args::{Args, UsageError};

/// One chore: what the help prints and what runs.
struct Command {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(Args) -> anyhow::Result<ExitCode>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "ci",
        summary: "everything a change must pass: fmt, tidy, clippy, test, doc, integration",
        help: ci::HELP,
        run: ci::run,
    },
    Command {
        name: "consul",
        summary: "find a consul binary, or unpack Debian's into target/consul",
        help: consul::HELP,
        run: consul::run,
    },
    Command {
        name: "integration",
        summary: "run the end-to-end suite against a real Consul on free ports",
        help: integration::HELP,
        run: integration::run,
    },
    Command {
        name: "fuzz",
        summary: "run the fuzz targets on the stable toolchain",
        help: fuzz::HELP,
        run: fuzz::run,
    },
    Command {
        name: "bench",
        summary: "measure picom beside tonic, tarpc and bare sockets",
        help: bench::HELP,
        run: bench::run,
    },
    Command {
        name: "tidy",
        summary: "check the rules of the house that the compiler cannot see",
        help: tidy::HELP,
        run: tidy::run,
    },
];

/// The exit code of a command line that makes no sense; 1 is for work that failed.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(name) = words.next() else {
        print!("{}", overview());
        return ExitCode::SUCCESS;
    };
    let rest: Vec<String> = words.collect();
    match name.as_str() {
        "help" | "--help" | "-h" => return help(rest.first().map(String::as_str)),
        // Not in the list: this is how the keeper of a Consul agent starts itself.
        agent::KEEPER => return agent::keep(&rest),
        _ => {}
    }
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        eprintln!("error: there is no command {name:?}\n");
        eprint!("{}", overview());
        return ExitCode::from(USAGE);
    };
    let args = Args::new(rest);
    if args.asks_for_help() {
        print!("{}", command.help);
        return ExitCode::SUCCESS;
    }
    match (command.run)(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<UsageError>() {
                eprintln!("see `cargo xtask {name} --help`");
                return ExitCode::from(USAGE);
            }
            ExitCode::FAILURE
        }
    }
}

fn help(topic: Option<&str>) -> ExitCode {
    match topic {
        None => print!("{}", overview()),
        Some(topic) => match COMMANDS.iter().find(|c| c.name == topic) {
            Some(command) => print!("{}", command.help),
            None => {
                eprintln!("error: there is no command {topic:?}");
                return ExitCode::from(USAGE);
            }
        },
    }
    ExitCode::SUCCESS
}

fn overview() -> String {
    let mut text = String::from(
        "The chores of the picom workspace.\n\nUsage: cargo xtask <command> [options]\n\nCommands:\n",
    );
    for command in COMMANDS {
        text.push_str(&format!("  {:<12} {}\n", command.name, command.summary));
    }
    text.push_str("\n`cargo xtask <command> --help` tells more about one of them.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_begins_with_its_summary_and_names_its_usage() {
        for command in COMMANDS {
            let usage = format!("Usage: cargo xtask {}", command.name);
            assert!(
                command.help.contains(&usage),
                "{} does not say {usage:?}",
                command.name
            );
            assert!(
                command.help.ends_with('\n'),
                "the help of {} ends without a line end",
                command.name
            );
            assert!(overview().contains(command.summary));
        }
    }
}
