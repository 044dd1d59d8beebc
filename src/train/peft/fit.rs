//! What PEFT has saved → what a base calls it.

use super::{LORA_A, LORA_B, Saved, TENSORS};
use crate::adapter::{self, Change, Learned, Target};
use crate::graph::{Graph, ValueId};
use crate::order::{Order, gathered};
use crate::train::artifact::LearnedTensor;
use crate::train::error::Error;
use crate::train::prepare::{Base, divide};
use std::collections::{BTreeMap, BTreeSet};

/// Candidates that an error lists for a name, at most; and names that it lists, at most.
const SHOWN: usize = 3;

/// Parts of a module's path that the base calls otherwise: `self_attn` that is `attn` there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// One part or several, with dots between.
    pub from: String,
    /// What stands there in the base.
    pub to: String,
}

/// What was saved, as a base has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Under the base's names and in its layout, sorted by name.
    pub tensors: Vec<LearnedTensor>,
    /// Columns of the output.
    pub width: u64,
}

/// Finds the saved tensors' places in a base.
///
/// A module of PEFT is the base's layer of the same path. The path may lack, or have before it, the same parts for all
/// modules: an exporter's wrapper. What learned as a whole (`modules_to_save`, biases) is the base's initializer of that
/// name, or the weight of the layer of that path, transposed where the exporter has done so. `output` is what predictions are
/// made from.
///
/// # Errors
/// [`Error::Peft`] with the modules that the base does not have and those that it has instead; shapes that do not fit.
pub fn fit(saved: &Saved, base: &Base, output: ValueId, renames: &[Rename]) -> Result<Fitted, Error> {
    let refuse = |problem| Error::Peft { path: saved.folder.join(TENSORS), problem };
    let targets: BTreeMap<String, Target> =
        gathered(adapter::targets(&base.graph, output).into_iter().map(|target| (target.module.clone(), target)));
    let names: Vec<String> = saved.tensors.iter().map(|(name, _, _)| renamed(name, renames)).collect();
    let modules: BTreeSet<&str> = gathered(names.iter().filter_map(|name| factor(name)).map(|(module, _)| module));
    let known: BTreeSet<&str> = gathered(targets.keys().map(String::as_str));
    if let Some(problem) = unfit(&names, &modules, &known, |module| adapter::unfit(&base.graph, output, module)) {
        return Err(refuse(problem));
    }
    if modules.is_empty() {
        return Err(refuse("holds no factor of LoRA (`….lora_A.weight`); save the adapter again".into()));
    }
    let prefix = common_prefix(&modules, &known)
        .map_err(|problem| refuse(format!("{problem}; is it for {}?", base.path.display())))?;
    let mut fitted = BTreeMap::new();
    for (name, (_, shape, values)) in names.iter().zip(&saved.tensors) {
        let (name, shape, values) = match factor(name) {
            Some((module, suffix)) => (prefix.applied_to(module) + suffix, shape.clone(), values.clone()),
            // Beside the wrapper that all modules share there may be a head of the model's own.
            None => whole(&base.graph, &targets, &prefix.applied_to(name), (shape, values))
                .or_else(|problem| whole(&base.graph, &targets, name, (shape, values)).map_err(|_| problem))
                .map_err(refuse)?,
        };
        if fitted.insert(name.clone(), (shape, values)).is_some() {
            return Err(refuse(format!("two tensors of it are `{name}` of the base; undo one setting `rename`")));
        }
    }
    let learned = fitted.iter().map(|(name, (shape, _))| Learned { name, shape: shape.clone() }).collect();
    let output = base.graph.value_name(output);
    let change = Change { output, method: Some(saved.method), learned, ..Change::default() };
    let width = divide(adapter::from_delta(base.graph.clone(), &change)?)?.width;
    let tensors = fitted.into_iter().map(|(name, (shape, values))| (name, shape, values)).collect();
    Ok(Fitted { tensors, width })
}

/// Factors on what is in the base and is no product: a table of embeddings, a convolution of several groups.
fn unfit(
    names: &[String],
    modules: &BTreeSet<&str>,
    known: &BTreeSet<&str>,
    found: impl Fn(&str) -> Option<(String, String)>,
) -> Option<String> {
    let ends = |module: &str| known.iter().any(|layer| layer.ends_with(module) || module.ends_with(layer));
    let table = |name: &String| Some(name.split_once(".lora_embedding_")?.0.to_string());
    let (module, what) = match names.iter().find_map(table) {
        Some(module) => (module, "a table of embeddings".to_string()),
        None => modules.iter().filter(|module| !ends(module)).find_map(|module| found(module))?,
    };
    Some(format!(
        "has factors of LoRA on `{module}`, {what}, for which there are none here; leave it out of PEFT's target_modules, or merge it with PEFT \
         (`merge_and_unload`) before the model is exported"
    ))
}

/// The module and the suffix of one of LoRA's factors.
fn factor(name: &str) -> Option<(&str, &'static str)> {
    [LORA_A, LORA_B].into_iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)))
}

fn renamed(name: &str, renames: &[Rename]) -> String {
    let replaced = |name: String, rename: &Rename| {
        name.replace(
            &format!(".{}.", rename.from),
            &if rename.to.is_empty() { ".".into() } else { format!(".{}.", rename.to) },
        )
    };
    let name = renames.iter().fold(format!(".{name}."), replaced);
    name.trim_matches('.').into()
}

/// What stands before a module's path on one side alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Prefix {
    /// The base's paths begin with this besides.
    Added(String),
    /// PEFT's paths begin with this besides.
    Removed(String),
}

impl Prefix {
    fn applied_to(&self, name: &str) -> String {
        match self {
            Prefix::Added(prefix) => format!("{prefix}{name}"),
            Prefix::Removed(prefix) => name.strip_prefix(prefix.as_str()).unwrap_or(name).into(),
        }
    }
}

/// The one prefix by which the most of `modules` are among `known`.
///
/// # Errors
/// Modules that are not, with what comes closest to them; or several prefixes by which all are.
fn common_prefix(modules: &BTreeSet<&str>, known: &BTreeSet<&str>) -> Result<Prefix, String> {
    let mut prefixes = BTreeSet::from([Prefix::Added(String::new())]);
    for module in modules {
        for layer in known {
            let (longer, shorter) = if layer.len() > module.len() { (layer, module) } else { (module, layer) };
            let Some(before) = longer.strip_suffix(shorter).filter(|before| before.ends_with('.')) else { continue };
            prefixes.insert(match layer.len() > module.len() {
                true => Prefix::Added(before.into()),
                false => Prefix::Removed(before.into()),
            });
        }
    }
    let is_known = |prefix: &Prefix, module: &str| known.contains(prefix.applied_to(module).as_str());
    let hits = |prefix: &Prefix| modules.iter().filter(|module| is_known(prefix, module)).count();
    let most = prefixes.iter().map(hits).max().unwrap_or(0);
    let mut best = prefixes.iter().filter(|prefix| hits(prefix) == most);
    let prefix = best.next().expect("the prefix of nothing is among them");
    // Paths that are the same on both sides are never read in another way.
    if most == modules.len()
        && *prefix != Prefix::Added(String::new())
        && let Some(other) = best.next()
    {
        let module = modules.first().copied().unwrap_or_default();
        let (one, other) = (prefix.applied_to(module), other.applied_to(module));
        return Err(format!(
            "module `{module}` may be `{one}` or `{other}` of the base; say which with setting `rename = FROM=TO`"
        ));
    }
    let missing: Vec<&str> = modules.iter().copied().filter(|module| !is_known(prefix, module)).collect();
    if missing.is_empty() {
        return Ok(prefix.clone());
    }
    let each = missing.iter().take(SHOWN).map(|module| format!("`{module}` ({})", closest(module, known)));
    let listed = each.collect::<Vec<_>>().join(", ");
    let more = missing.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(format!(
        "{} of its {} modules are no layer of the base: {listed}{more}; where it only has other names, give setting `rename = FROM=TO`",
        missing.len(),
        modules.len(),
    ))
}

/// The layers that end in the same words as a module.
fn closest(module: &str, known: &BTreeSet<&str>) -> String {
    let parts: Vec<&str> = module.split('.').collect();
    let likeness = |layer: &&str| {
        let theirs: Vec<&str> = layer.split('.').collect();
        let trailing = parts.iter().rev().zip(theirs.iter().rev()).take_while(|(a, b)| a == b).count();
        (trailing, parts.iter().filter(|part| theirs.contains(part)).count())
    };
    let mut likely: Vec<&&str> = known.iter().filter(|layer| likeness(layer) > (0, 0)).collect();
    likely.order_by_key(|layer| std::cmp::Reverse(likeness(layer)));
    match likely.as_slice() {
        [] => "the base has none alike; `edgetune inspect` lists them".into(),
        likely => {
            let names: Vec<String> = likely.iter().take(SHOWN).map(|layer| format!("`{layer}`")).collect();
            format!("the base has {}", names.join(", "))
        }
    }
}

/// A tensor that learned as a whole, as the base holds it.
fn whole(
    graph: &Graph,
    targets: &BTreeMap<String, Target>,
    name: &str,
    (shape, values): (&[u64], &[f32]),
) -> Result<LearnedTensor, String> {
    if graph.find(name).is_some_and(|id| graph.initializers.contains_key(&id)) {
        return Ok((name.into(), shape.to_vec(), values.to_vec()));
    }
    let target = name.strip_suffix(".weight").and_then(|module| targets.get(module));
    let target = target.ok_or_else(|| {
        format!("`{name}` learned as a whole, but the base has no initializer of that name; give setting `rename = FROM=TO`, or export the model with its head")
    })?;
    let held = graph.value_name(target.weight).to_string();
    match shape {
        [outputs, inputs] if target.is_transposed(graph) => {
            let (rows, columns) = (*outputs as usize, *inputs as usize);
            let transposed = (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column]));
            Ok((held, vec![*inputs, *outputs], transposed.collect()))
        }
        _ => Ok((held, shape.to_vec(), values.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(modules: &[&str], known: &[&str]) -> Result<Prefix, String> {
        common_prefix(&modules.iter().copied().collect(), &known.iter().copied().collect())
    }

    #[test]
    fn a_prefix_is_the_same_for_all_modules() {
        let known = ["encoder.0.query", "encoder.0.value", "encoder.1.query", "head"];
        assert_eq!(prefix(&["encoder.0.query", "head"], &known), Ok(Prefix::Added(String::new())));
        assert_eq!(prefix(&["0.query", "1.query"], &known), Ok(Prefix::Added("encoder.".into())));
        let removed = prefix(&["bert.encoder.0.query", "bert.encoder.1.query"], &known);
        assert_eq!(removed, Ok(Prefix::Removed("bert.".into())));
        let ambiguous = prefix(&["query"], &known).unwrap_err();
        assert!(ambiguous.contains("encoder.0.query") && ambiguous.contains("rename"), "{ambiguous}");
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is() {
        let known = ["model.0.attn.q_proj", "model.1.attn.q_proj", "head"];
        let missing = prefix(&["model.0.self_attn.q_proj", "x"], &known).unwrap_err();
        assert!(missing.starts_with("2 of its 2 modules"), "{missing}");
        assert!(missing.contains("`model.0.self_attn.q_proj` (the base has `model.0.attn.q_proj`"), "{missing}");
        assert!(missing.contains("`x` (the base has none alike"), "{missing}");
        let rename = |from: &str, to: &str| [Rename { from: from.into(), to: to.into() }];
        assert_eq!(renamed("model.0.self_attn.q_proj", &rename("self_attn", "attn")), "model.0.attn.q_proj");
        assert_eq!(renamed("model.0.q_proj", &rename("model", "")), "0.q_proj");
        assert_eq!(renamed("model.0.q_proj", &rename("q", "k")), "model.0.q_proj");
    }
}
