//! `edgetune ops`: the table of gradient rules.

use crate::cli::Done;
use crate::cli::print::Printer;
use crate::grad::{Action, Rule, rules};
use anyhow::Result;
use serde::Serialize;

/// List the operators and whether a gradient passes them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune ops --json | jq '.[] | select(.gradient == \"refuses\")'")]
pub struct Args {
    /// Show only operators whose name contains this
    filter: Option<String>,
    /// Print the table of docs/operators.md
    #[arg(long, conflicts_with = "filter")]
    markdown: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    op: &'static str,
    domain: &'static str,
    opset_min: i64,
    opset_max: i64,
    gradient: &'static str,
    note: &'static str,
}

impl From<&Rule> for Row {
    fn from(rule: &Rule) -> Self {
        let (gradient, remedy) = match rule.action {
            Action::Flows(_) => ("flows", ""),
            Action::Stops => ("stops", ""),
            Action::Refuses(remedy) => ("refuses", remedy),
        };
        let note = if rule.note.is_empty() { remedy } else { rule.note };
        let (opset_min, opset_max) = (*rule.opsets.start(), *rule.opsets.end());
        Row { op: rule.op, domain: rule.domain, opset_min, opset_max, gradient, note }
    }
}

impl Row {
    /// The operator, with its domain unless it is `ai.onnx`.
    fn name(&self) -> String {
        if self.domain.is_empty() { self.op.to_string() } else { format!("{}.{}", self.domain, self.op) }
    }

    fn opsets(&self) -> String {
        format!("{}–{}", self.opset_min, self.opset_max)
    }
}

/// A Markdown table, one line a rule.
fn markdown(rows: &[Row]) -> Vec<String> {
    let mut lines = vec!["| operator | opsets | gradient | note |".to_string(), "|---|---|---|---|".to_string()];
    lines.extend(rows.iter().map(|row| {
        let note = row.note.replace('|', "\\|");
        format!("| `{}` | {} | {} | {note} |", row.name(), row.opsets(), row.gradient)
    }));
    lines
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let wanted = args.filter.as_deref().unwrap_or_default().to_lowercase();
    let rows: Vec<Row> =
        rules::all().iter().filter(|rule| rule.op.to_lowercase().contains(&wanted)).map(Row::from).collect();
    printer.document(&rows);
    if args.markdown {
        markdown(&rows).iter().for_each(|line| printer.text(line));
        return Ok(Done::Fully);
    }
    printer.text(format!("{:<28} {:<8} {:<9} note", "operator", "opsets", "gradient"));
    for row in &rows {
        let (op, opsets) = (row.name(), row.opsets());
        printer.text(format!("{op:<28} {opsets:<8} {:<9} {}", row.gradient, row.note).trim_end());
    }
    Ok(Done::Fully)
}
