//! `edgetune tasks`: the table of what can be learned.

use crate::cli::Done;
use crate::cli::flags::option;
use crate::cli::print::Printer;
use crate::task::{TASKS, Task};
use anyhow::Result;
use serde::Serialize;

/// List the tasks: the data, loss and metric of each, with an example
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune tasks --json | jq -r '.[].example'")]
pub struct Args {
    /// Print the table of docs/tasks.md
    #[arg(long)]
    markdown: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    data: &'static str,
    losses: &'static [&'static str],
    metric: &'static str,
    answer: &'static str,
    example: String,
}

impl From<&'static Task> for Row {
    fn from(task: &'static Task) -> Self {
        let options = task.example.iter().map(|(setting, value)| format!("{} {value} ", option(setting)));
        let example = format!("edgetune train model.onnx {}--out A.edelta", options.collect::<String>());
        let Task { name, data, losses, metric, answers, .. } = task;
        // A file has no name that could be typed.
        let losses: &[&str] = if *losses == ["file"] { &["FILE.onnx"] } else { losses };
        Row { name, data, losses, metric, answer: answers, example }
    }
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let rows: Vec<Row> = TASKS.iter().map(Row::from).collect();
    printer.document(&rows);
    if args.markdown {
        printer.text("| task | data | loss | metric | answer | example |\n|---|---|---|---|---|---|");
        for row in &rows {
            let losses = row.losses.iter().map(|loss| format!("`{loss}`")).collect::<Vec<_>>().join(", ");
            let Row { name, data, metric, answer, example, .. } = row;
            printer.text(format!("| {name} | {data} | {losses} | {metric} | {answer} | `{example}` |"));
        }
        return Ok(Done::Fully);
    }
    for row in &rows {
        printer.text(row.name);
        printer.text(format!("  data     {}", row.data));
        printer.text(format!("  loss     {}", row.losses.join(", ")));
        printer.text(format!("  metric   {}", row.metric));
        printer.text(format!("  answer   {}", row.answer));
        printer.text(format!("  example  {}", row.example));
    }
    Ok(Done::Fully)
}
