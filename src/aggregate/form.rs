//! What deltas have in common that can be combined: all of the header that says what their values mean, and the tensors.

use super::recipe;
use crate::delta::{self, Entry, Head, KeptPreprocessing, Method, MethodKind, Task};

/// What PEFT calls LoRA's factors: `[rank, in…]` and `[out, rank, 1…]`.
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// What the deltas of a round agree on; two deltas of one form can be combined, whatever their ranks, samples and devices.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundForm {
    /// Hash of the base.
    pub base: [u8; 32],
    /// Hash of the recipe.
    pub recipe: Option<[u8; 32]>,
    /// The recipe's text; empty where the delta does not hold it.
    pub recipe_text: String,
    /// What the output means.
    pub task: Task,
    /// Name of the loss.
    pub loss: String,
    /// Name of the output.
    pub output: String,
    /// Value, features and classes of an appended head.
    pub head: Option<(String, u32, u32)>,
    /// The method; without rank and alpha for LoRA and rsLoRA, whose deltas may differ in them.
    pub method: Option<Method>,
    /// What frozen factors are made from, where there are any (LoRA-FA).
    pub seed: Option<u64>,
    /// What is done to samples.
    pub preprocessing: KeptPreprocessing,
    /// Under what terms the adapters may be used.
    pub licence: String,
    /// Names of the labels in the order of the classes.
    pub labels: Vec<String>,
    /// What is learned, in the order of the names.
    pub parts: Vec<Part>,
}

/// A tensor, or two whose product is what was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The tensor's name, or the module's whose factors they are.
    pub name: String,
    /// Its sizes.
    pub shape: Shape,
}

/// Sizes of a part, and which entries of a delta it is: all deltas of a form have the same ones in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A tensor that is combined as it is.
    Whole {
        /// Position of the entry.
        entry: usize,
        /// Its sizes.
        sizes: Vec<u32>,
    },
    /// Factors `A: [rank, columns…]` and `B: [rows, rank, 1…]`.
    Product {
        /// Positions of the entries of A and B.
        entries: [usize; 2],
        /// Sizes of A behind the rank.
        columns: Vec<u32>,
        /// First size of B.
        rows: u32,
        /// Dimensions of B, all 1 behind the second.
        dimensions: usize,
    },
}

impl Part {
    /// Rows and columns of the matrix that the part is; a tensor is one column, so that it can be cut anywhere.
    pub fn size(&self) -> (usize, usize) {
        let product = |sizes: &[u32]| sizes.iter().map(|size| *size as usize).product();
        match &self.shape {
            Shape::Whole { sizes, .. } => (product(sizes), 1),
            Shape::Product { columns, rows, .. } => (*rows as usize, product(columns)),
        }
    }

    /// The names of A and B.
    pub(super) fn factor_names(&self) -> [String; 2] {
        [A, B].map(|suffix| [self.name.as_str(), suffix].concat())
    }
}

impl RoundForm {
    /// The form of a delta that stands alone.
    ///
    /// # Errors
    /// [`delta::Error::IsDifference`]; [`delta::Error::Factors`] for DoRA, of which there is no exact mean;
    /// [`delta::Error::Unlike`] for factors that do not belong to each other.
    pub fn from_head(head: &Head<'_>) -> Result<Self, delta::Error> {
        let header = head.header();
        let kind = header.method.map(|method| method.kind);
        if header.parent.is_some() || head.entries().any(|located| located.entry.difference) {
            return Err(delta::Error::IsDifference);
        }
        if kind == Some(MethodKind::Dora) {
            return Err(delta::Error::Factors);
        }
        Ok(Self {
            base: header.base,
            recipe: header.recipe,
            recipe_text: header.recipe_text.into(),
            task: header.task,
            loss: header.loss.into(),
            output: header.output.into(),
            head: header.head.map(|head| (head.value.into(), head.features, head.classes)),
            method: header.method.map(|method| match is_product(method.kind) {
                true => Method { rank: 0, alpha: 0.0, ..method },
                false => method,
            }),
            seed: (kind == Some(MethodKind::LoraFa)).then_some(header.seed),
            preprocessing: (&header.preprocessing).into(),
            licence: header.licence.into(),
            labels: head.labels().map(|label| label.name.into()).collect(),
            parts: parts(head, header.method.filter(|method| is_product(method.kind)))?,
        })
    }

    /// What the first difference of another form is, in words that follow "the other has another"; none where there is none.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.recipe != other.recipe {
            return Some(recipe::difference(&other.recipe_text, &self.recipe_text));
        }
        let same = [
            (self.base == other.base, "base"),
            (self.task == other.task, "task"),
            (self.loss == other.loss, "loss"),
            (self.output == other.output, "output"),
            (self.head == other.head, "head"),
            (self.method == other.method, "method"),
            (self.seed == other.seed, "seed of the frozen factors"),
            (self.preprocessing == other.preprocessing, "preprocessing"),
            (self.licence == other.licence, "licence"),
            (self.labels == other.labels, "list of labels"),
            (self.parts == other.parts, "list of tensors"),
        ];
        same.into_iter().find_map(|(same, what)| (!same).then(|| what.into()))
    }
}

/// Whether what is learned is the product of two factors, and nothing else is done with it.
pub(super) fn is_product(kind: MethodKind) -> bool {
    matches!(kind, MethodKind::Lora | MethodKind::RsLora)
}

fn parts(head: &Head<'_>, product: Option<Method>) -> Result<Vec<Part>, delta::Error> {
    let mut parts = Vec::new();
    // `….lora_A.weight` and `….lora_B.weight` of a module are neighbours, for they differ in one letter only.
    let mut entries = head.entries().map(|located| located.entry).enumerate();
    while let Some((index, entry)) = entries.next() {
        let module = product.and_then(|method| Some((method, entry.name.strip_suffix(A)?)));
        let part = match module {
            Some((method, module)) => {
                let (other, b) = entries.next().ok_or(delta::Error::Unlike)?;
                let belongs = b.name.strip_suffix(B) == Some(module);
                let shape = belongs.then(|| factors([(index, &entry), (other, &b)], method)).flatten();
                Part { name: module.into(), shape: shape.ok_or(delta::Error::Unlike)? }
            }
            None if product.is_some() && entry.name.ends_with(B) => return Err(delta::Error::Unlike),
            None => Part { name: entry.name.into(), shape: Shape::Whole { entry: index, sizes: entry.shape.to_vec() } },
        };
        parts.push(part);
    }
    Ok(parts)
}

/// The shape of two factors; none where they have no product, or one of another rank than the method's.
fn factors([(a_entry, a), (b_entry, b)]: [(usize, &Entry<'_>); 2], method: Method) -> Option<Shape> {
    let fits = method.rank > 0 && method.alpha > 0.0;
    let (rank, columns) = a.shape.split_first()?;
    let (rows, [of, kernel @ ..]) = b.shape.split_first()? else { return None };
    let belong = fits && *rank == method.rank && *of == method.rank && kernel.iter().all(|size| *size == 1);
    (belong && !columns.is_empty()).then(|| Shape::Product {
        entries: [a_entry, b_entry],
        columns: columns.to_vec(),
        rows: *rows,
        dimensions: b.shape.len(),
    })
}
