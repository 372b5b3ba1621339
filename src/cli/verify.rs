//! `orderstream verify`: runs the checker over the store of these settings, beside a server that may be running, and
//! prints the report for people or for programs. It changes nothing. Exit codes: 0 nothing is wrong, 1 something is,
//! 2 the check could not be done.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value};

use super::output;
use crate::app::{self, ReadOnlyBackends};
use crate::checker::stuck::find_stuck;
use crate::checker::verify::{Confirmed, Options, Report, verify};
use crate::config::Settings;
use crate::order::{OrderId, Status};

/// How many findings are printed.
const LISTED: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Report every order that is pending.
    #[arg(long)]
    idle: bool,
    /// File of orders whose writes were confirmed to callers, or - for standard input: lines of
    /// `<order_id>[ <status>]`, the status being created, updated, deleted or accepted. Each order must exist, or be
    /// deleted.
    #[arg(long, value_name = "FILE")]
    confirmed: Option<String>,
    /// Do not check amounts, where a processor of your own computes them.
    #[arg(long)]
    skip_amounts: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Checks and prints.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    // The list is read before the check: a mistake in its line 1,000,000 should not appear after the long work.
    let confirmed = args.confirmed.as_deref().map(read_confirmed).transpose()?.unwrap_or_default();
    let backends = app::open_for_reading(settings).await?;
    let options = Options { idle: args.idle, amounts: !args.skip_amounts, listed: LISTED };
    let report = check(&backends, confirmed, &options).await;
    backends.bus.close().await;
    backends.store.close().await;
    let report = report?;
    let text = if args.json { as_json(&report)? } else { as_text(&report) };
    // The exit code reports findings also where the reader has closed standard output.
    output::quiet(output::print(text))?;
    Ok(exit_code(&report))
}

/// The exit code that tells whether something was found.
pub(super) fn exit_code(report: &Report) -> ExitCode {
    if report.found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The check of a copy of a store: orders in it may be pending.
pub(super) fn of_copy(amounts: bool) -> Options {
    Options { idle: false, amounts, listed: LISTED }
}

async fn check(backends: &ReadOnlyBackends, confirmed: Confirmed, options: &Options) -> Result<Report> {
    let dead_letters = backends.dead_letters().await?;
    let mut report = verify(&*backends.store, dead_letters, confirmed, options).await?;
    find_stuck(&*backends.store, &*backends.bus, &mut report, options.listed).await?;
    Ok(report)
}

fn read_confirmed(file: &str) -> Result<Confirmed> {
    if file == "-" {
        return parse_confirmed(io::stdin().lock(), "standard input");
    }
    let opened = File::open(file).with_context(|| format!("the list of confirmed orders {file}"))?;
    parse_confirmed(BufReader::new(opened), file)
}

fn parse_confirmed(lines: impl BufRead, source: &str) -> Result<Confirmed> {
    let mut confirmed = Confirmed::default();
    for (number, line) in (1..).zip(lines.lines()) {
        let line = line.with_context(|| format!("{source}, line {number}"))?;
        let mut words = line.split_whitespace();
        let Some(id) = words.next() else { continue };
        let Some(order_id) = OrderId::parse(id) else {
            bail!("{source}, line {number}: {id:?} is not a UUID; write <order_id>[ <status>]");
        };
        match (words.next(), words.next()) {
            (Some("deleted"), None) => confirmed.add_deleted(order_id),
            (None | Some("created" | "updated" | "accepted"), None) => confirmed.add_stored(order_id),
            _ => bail!(
                "{source}, line {number}: write <order_id>[ <status>], the status being created, updated, \
                 deleted or accepted"
            ),
        }
    }
    Ok(confirmed)
}

/// A report for people.
pub(super) fn as_text(report: &Report) -> String {
    let by_status: Vec<String> =
        by_status(report).map(|(status, count)| format!("{count} {status}")).collect();
    let by_status = if by_status.is_empty() { String::new() } else { format!(" ({})", by_status.join(", ")) };
    let mut text = format!(
        "checked {} orders{by_status}; {} pending; {} dead letters\n",
        report.total(),
        report.pending,
        report.dead_letters
    );
    if report.confirmed > 0 {
        text += &format!("looked up {} orders that were confirmed to callers\n", report.confirmed);
    }
    if report.foreign > 0 {
        text += &format!(
            "{} orders were written by another service and are as it left them; they are not findings\n",
            report.foreign
        );
    }
    if report.not_judged > 0 {
        text += &format!(
            "{} orders are pending, and the workers have not consumed the whole topic: whether their events are still \
             there is not known\n",
            report.not_judged
        );
    }
    for finding in &report.findings {
        text += &format!("{finding}\n");
    }
    match report.found - report.findings.len() as u64 {
        0 => {}
        more => text += &format!("... and {more} more\n"),
    }
    text + &match report.found {
        0 => "nothing is wrong\n".to_owned(),
        found => format!("findings: {found}\n"),
    }
}

#[derive(Serialize)]
struct ReportBody<'a> {
    checked: u64,
    orders: Map<String, Value>,
    pending: u64,
    dead_letters: u64,
    confirmed: u64,
    foreign: u64,
    found: u64,
    findings: Vec<FindingBody<'a>>,
}

#[derive(Serialize)]
struct FindingBody<'a> {
    order_id: String,
    code: &'a str,
    detail: String,
}

fn as_json(report: &Report) -> Result<String> {
    let findings = report.findings.iter().map(|finding| FindingBody {
        order_id: finding.order_id.to_string(),
        code: finding.fault.code(),
        detail: finding.fault.to_string(),
    });
    let body = ReportBody {
        checked: report.total(),
        orders: by_status(report).map(|(status, count)| (status.to_string(), count.into())).collect(),
        pending: report.pending,
        dead_letters: report.dead_letters,
        confirmed: report.confirmed,
        foreign: report.foreign,
        found: report.found,
        findings: findings.collect(),
    };
    Ok(serde_json::to_string(&body)? + "\n")
}

/// The number of orders of each status that some order has.
fn by_status(report: &Report) -> impl Iterator<Item = (Status, u64)> {
    Status::ALL.into_iter().zip(report.orders).filter(|(_, count)| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::findings::{Fault, Finding};

    #[test]
    fn a_line_is_an_id_and_perhaps_a_status() {
        let (stored, deleted) = (OrderId::generate(), OrderId::generate());
        let text = format!("{stored}\n\n {stored} accepted \r\n{deleted} deleted\n{stored} created");
        let mut expected = Confirmed::default();
        (0..3).for_each(|_| expected.add_stored(stored));
        expected.add_deleted(deleted);
        assert_eq!(parse_confirmed(text.as_bytes(), "x").unwrap(), expected);
    }

    #[test]
    fn an_error_names_the_bad_line_by_its_number() {
        let id = OrderId::generate();
        for line in ["7".to_owned(), format!("{id} lost"), format!("{id} deleted twice")] {
            let error =
                parse_confirmed(format!("{id}\n{line}\n").as_bytes(), "ids.txt").unwrap_err().to_string();
            assert!(error.starts_with("ids.txt, line 2: "), "{error}");
            assert!(error.contains("write <order_id>[ <status>]"), "{error}");
        }
    }

    #[test]
    fn the_text_lists_some_findings_and_counts_all() {
        let order_id = OrderId::generate();
        let findings = vec![Finding { order_id, fault: Fault::Lost }];
        let report = Report { orders: [1, 0, 2, 0, 0, 0], found: 3, findings, ..Report::default() };
        let expected = format!(
            "checked 3 orders (1 new, 2 done); 0 pending; 0 dead letters\n\
             order {order_id}: it was confirmed as stored, but there is no such order\n\
             ... and 2 more\nfindings: 3\n"
        );
        assert_eq!(as_text(&report), expected);
        let empty = "checked 0 orders; 0 pending; 0 dead letters\nnothing is wrong\n";
        assert_eq!(as_text(&Report::default()), empty);
    }
}
