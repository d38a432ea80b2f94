//! picom beside tonic, tarpc and bare sockets, all behind one load generator.
//!
//! | what | where |
//! |---|---|
//! | what is measured, and what is to be reached | [`cell`], [`goal`] |
//! | the peers: a server and a caller each | [`peers`], by the trait [`caller`] and the methods of [`service`] |
//! | the server's process and the client's | [`host`], [`load`]; what they are told and say: [`job`] |
//! | the run: rounds, processes, cores, progress | [`run`], [`children`], [`pinning`], [`progress`] |
//! | how quiet the machine is | [`stall`] |
//! | medians and ratios; Markdown, JSON, SVG | [`results`], [`report`] |
//! | how long a cold build takes | [`cold_build`] |
//!
//! `picom-bench` is the program; `picom-load` is a second load generator that shares no loop and no clock with it.

pub mod agent;
pub mod caller;
pub mod cell;
pub mod children;
pub mod clock;
pub mod cold_build;
pub mod command_line;
pub mod goal;
pub mod host;
pub mod job;
pub mod load;
pub mod peers;
pub mod pinning;
pub mod proc_fs;
pub mod progress;
pub mod report;
pub mod results;
pub mod run;
pub mod service;
pub mod stall;
pub mod turn;
