//! One text for all recipes that mean the same.
//!
//! Devices of a fleet are compared by their recipes, and somebody who types a default trains no otherwise than somebody who leaves
//! the setting out. Pure: a recipe goes in and a recipe comes out.

use super::{
    Change, DeltaSettings, EncodingName, HeadName, LossName, OptimizerName, Rate, Recipe, ScheduleName, SolverName,
};
use crate::cut::Selection;

impl Recipe {
    /// This recipe without what is as it would be anyway: settings at their defaults, and what changes how a device computes but not
    /// what it learns. Training by the outcome gives the same as training by this one.
    pub fn normal(&self) -> Self {
        let mut recipe = self.clone();
        // A setting of gradient steps asks for them, even if it says the default: one that says the least stays.
        let asks = recipe.option_of_steps().is_some() && recipe.has_choice_of_steps();
        recipe.drop_defaults_of_steps();
        if asks && recipe.option_of_steps().is_none() {
            recipe.epochs =
                self.epochs.or_else(|| self.without_steps().settings().ok().map(|settings| settings.epochs));
        }
        recipe.memory = None;
        // Said always, so that no text is empty.
        if recipe.train.is_empty() && recipe.change.adapter.is_none() {
            recipe.train.push("head".into());
        }
        recipe.val_fraction = recipe.val_fraction.filter(|share| *share != Self::default().val_fraction());
        recipe.seed = recipe.seed.filter(|seed| *seed != 0);
        recipe.head = recipe.head.filter(|head| *head != HeadName::Auto);
        recipe.loss = recipe.loss.filter(|loss| *loss != LossName::CrossEntropy);
        recipe.label_smoothing = recipe.label_smoothing.filter(|share| *share != 0.0);
        // What differs from device to device leaves no empty table behind.
        recipe.samples.tokenizer = None;
        let DeltaSettings { encoding, max_loss_increase, .. } = recipe.delta;
        let usual = |encoding: &EncodingName| max_loss_increase.is_none() && *encoding == EncodingName::default();
        let encoding = encoding.filter(|encoding| !usual(encoding));
        recipe.delta = DeltaSettings { encoding, max_loss_increase, ..DeltaSettings::default() };
        recipe.change = recipe.change.normal();
        recipe
    }

    /// Whether leaving out all settings of gradient steps might let something else than gradient steps be chosen.
    fn has_choice_of_steps(&self) -> bool {
        let more = |text: &String| matches!(Selection::parse(text), Ok(Selection::Last(count)) if count > 1);
        self.solver.is_none() && self.change.adapter.is_none() && !self.train.iter().any(more)
    }

    fn drop_defaults_of_steps(&mut self) {
        // What the loss and the optimiser alone would give.
        let Ok(usual) = self.without_steps().settings() else { return };
        self.epochs = self.epochs.filter(|epochs| *epochs != usual.epochs);
        self.batch = self.batch.filter(|batch| *batch != usual.batch);
        self.accumulate = self.accumulate.filter(|runs| *runs != usual.accumulate);
        self.lr = self.lr.filter(|rate| *rate != Rate::Of(usual.learning_rate));
        self.head_rate = self.head_rate.filter(|rate| *rate != usual.head_rate);
        self.weight_decay =
            self.weight_decay.filter(|_| Self { weight_decay: None, ..self.clone() }.optimizer() != self.optimizer());
        self.momentum =
            self.momentum.filter(|_| Self { momentum: None, ..self.clone() }.optimizer() != self.optimizer());
        self.schedule = self.schedule.filter(|schedule| *schedule != ScheduleName::Constant);
        self.warmup = self.warmup.filter(|share| *share != 0.0);
        self.optimizer = self.optimizer.filter(|optimizer| *optimizer != OptimizerName::Adamw);
    }

    /// The defaults of gradient steps for this loss and this optimiser.
    fn without_steps(&self) -> Self {
        Self { loss: self.loss, optimizer: self.optimizer, solver: Some(SolverName::Steps), ..Self::default() }
    }
}

impl Change {
    /// Without what is as it would be anyway.
    fn normal(self) -> Self {
        let usual = Self { rank: None, alpha: None, ..self.clone() }.method();
        let rank = self.rank.filter(|rank| usual.is_none_or(|usual| *rank != usual.rank));
        let usual = Self { rank, alpha: None, ..self.clone() }.method();
        let alpha = self.alpha.filter(|alpha| usual.is_none_or(|usual| *alpha != usual.alpha));
        Self { rank, alpha, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::from_str;

    /// The normal form of a recipe's text; that it means the same is shown on the way.
    fn normal(text: &str) -> String {
        let recipe: Recipe = from_str(text).unwrap();
        let normal = recipe.normal();
        assert_eq!(normal.settings().unwrap(), recipe.settings().unwrap(), "{text}");
        assert_eq!(normal.change.method(), recipe.change.method(), "{text}");
        assert_eq!(normal.delta.encoding(), recipe.delta.encoding(), "{text}");
        assert_eq!(normal.normal(), normal, "{text}");
        let asks = |recipe: &Recipe| recipe.option_of_steps().is_some();
        assert!(!recipe.has_choice_of_steps() || asks(&normal) == asks(&recipe), "{text}");
        normal.text()
    }

    #[test]
    fn who_types_a_default_trains_by_the_same_recipe() {
        let adapter = "[adapter]\nmethod = 'lora'\n";
        for (typed, same) in [
            ("seed = 0\nval-fraction = 0.2\nhead = 'auto'\nloss = 'cross-entropy'", ""),
            ("memory = 'low'", ""),
            ("lr = 1e-3\nepochs = 10", "epochs = 10"),
            ("lr = 1e-3\nbatch-size = 32", "epochs = 10"),
            ("lr = 0.01\noptimizer = 'sgd'\nmomentum = 0.9", "optimizer = 'sgd'"),
            ("solver = 'steps'\nepochs = 10\nlr = 0.001", "solver = 'steps'"),
            ("train = ['last:2']\nepochs = 10\naccumulate = 1", "train = ['last:2']"),
            ("loss = 'next-token'\nepochs = 3\nbatch = 4\nsolver = 'steps'", "loss = 'next-token'\nsolver = 'steps'"),
            ("epochs = 10\n[adapter]\nmethod = 'lora'\nrank = 8\nalpha = 16.0", adapter),
            ("[delta]\nencoding = 'fp16'\nround = 3\ndevice-id = 'pi-7'\nnotes = 'hall'\nlicence = 'MIT'", ""),
            ("[samples]\ntokenizer = 'here/tokenizer.json'", ""),
        ] {
            assert_eq!(normal(typed), normal(same), "{typed}");
        }
    }

    #[test]
    fn what_changes_the_outcome_stays() {
        for text in [
            "lr = 0.01",
            "epochs = 10",
            "lr = \"auto\"",
            "lr = 0.001\noptimizer = 'sgd'",
            "loss = 'next-token'\nepochs = 10\nsolver = 'steps'",
            "train = ['last:2']",
            "seed = 1",
            "[adapter]\nmethod = 'lora'\nrank = 4\nalpha = 16.0",
            "[delta]\nencoding = 'int8'",
        ] {
            let plain: Recipe = from_str(text).unwrap();
            assert!(plain.text().lines().all(|line| normal(text).contains(line)), "{text}");
            assert_ne!(normal(text), normal(""), "{text}");
        }
    }
}
