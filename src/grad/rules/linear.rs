//! Matrix products.

use crate::grad::{At, Grads};
use crate::graph::{Attr, Node, Val};

/// The last two dimensions swapped.
pub(super) fn swapped<'b>(value: Val<'b>, rank: usize) -> Val<'b> {
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 2, rank - 1);
    value.transpose(&perm)
}

/// α·left′·right′ of two matrices, ′: transposed where it says so, which `Gemm` does without a copy.
pub(super) fn product<'b>(left: Val<'b>, trans_left: bool, right: Val<'b>, trans_right: bool, alpha: f32) -> Val<'b> {
    let transposed = |on: bool| Attr::Int(on.into());
    let attributes =
        [("alpha", Attr::Float(alpha)), ("transA", transposed(trans_left)), ("transB", transposed(trans_right))];
    left.builder().op("Gemm", &[left, right], &attributes)
}

/// y = A·B  ⇒  dA = dy·Bᵀ, dB = Aᵀ·dy
///
/// A vector operand is a matrix with one row (A) or one column (B), as in numpy.matmul. Where B is one matrix for all
/// of A's batches, the sum over the batches is taken inside one product.
pub fn matmul<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (rank_a, rank_b) = (n.rank(0)?, n.rank(1)?);
    if (rank_a, rank_b) == (2, 2) {
        let da = n.needs(0).then(|| product(n.dy(0), false, n.x(1), true, 1.0));
        let db = n.needs(1).then(|| product(n.x(0), true, n.dy(0), false, 1.0));
        return Ok(vec![da, db]);
    }
    let a = if rank_a == 1 { n.x(0).unsqueeze(&[0]) } else { n.x(0) };
    let b = if rank_b == 1 { n.x(1).unsqueeze(&[1]) } else { n.x(1) };
    let mut dy = n.dy(0);
    if rank_b == 1 {
        dy = dy.unsqueeze(&[-1]);
    }
    if rank_a == 1 {
        dy = dy.unsqueeze(&[-2]);
    }
    let da = n.needs(0).then(|| {
        let da = dy.matmul(swapped(b, rank_b.max(2)));
        n.sum_to_input(0, if rank_a == 1 { da.squeeze(&[-2]) } else { da }, 2)
    });
    let db = n.needs(1).then(|| match one_product(n, a, dy, rank_a, rank_b) {
        Some(db) => db,
        None => {
            let db = swapped(a, rank_a.max(2)).matmul(dy);
            n.sum_to_input(1, if rank_b == 1 { db.squeeze(&[-1]) } else { db }, 2)
        }
    });
    Ok(vec![da, db])
}

/// Σ over batches of Aᵀ·dy as one product of (rows, K)ᵀ and (rows, N), where B is one matrix of fixed size.
fn one_product<'b>(n: &At<'_, 'b>, a: Val<'b>, dy: Val<'b>, rank_a: usize, rank_b: usize) -> Option<Val<'b>> {
    if rank_a < 3 || rank_b != 2 {
        return None;
    }
    let (k, columns) = (n.fixed(1, 0).ok()?, n.fixed(1, 1).ok()?);
    Some(product(a.reshape_to(&[-1, k]), true, dy.reshape_to(&[-1, columns]), false, 1.0))
}

/// y = α·A′·B′ + β·C (′: transposed where the attribute says so)
/// ⇒  dA′ = α·dy·B′ᵀ, dB′ = α·A′ᵀ·dy, dC = β·dy summed to C's shape
pub fn gemm<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (a, b, dy) = (n.x(0), n.x(1), n.dy(0));
    let (trans_a, trans_b) = (n.node().int("transA", 0) != 0, n.node().int("transB", 0) != 0);
    let alpha = n.node().float("alpha", 1.0);
    let da = n.needs(0).then(|| match trans_a {
        false => product(dy, false, b, !trans_b, alpha),
        true => product(b, trans_b, dy, true, alpha),
    });
    let db = n.needs(1).then(|| match trans_b {
        false => product(a, !trans_a, dy, false, alpha),
        true => product(dy, true, a, trans_a, alpha),
    });
    let dc = n.needs(2).then(|| {
        let dc = n.sum_to_input(2, dy, 0);
        match n.float("beta", 1.0) {
            1.0 => dc,
            beta => dc * beta,
        }
    });
    Ok(vec![da, db, dc])
}

/// y = α·A′·B′ (′: the last two dimensions swapped where the attribute says so)
/// ⇒  dA′ = α·dy·B′ᵀ, dB′ = α·A′ᵀ·dy (`com.microsoft`)
pub fn fused_matmul<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let on = |name: &str| n.node().int(name, 0) != 0;
    if on("transBatchA") || on("transBatchB") {
        return Err("no gradient with transBatchA or transBatchB; export without graph optimisation".into());
    }
    let (rank_a, rank_b) = (n.rank(0)?, n.rank(1)?);
    if rank_a < 2 || rank_b < 2 {
        return Err("no gradient where an operand is a vector; export without graph optimisation".into());
    }
    let (a, b, trans_a, trans_b) = (n.x(0), n.x(1), on("transA"), on("transB"));
    let turned = |value: Val<'b>, rank: usize, yes: bool| if yes { swapped(value, rank) } else { value };
    let rank = rank_a.max(rank_b);
    let dy = match n.float("alpha", 1.0) {
        1.0 => n.dy(0),
        alpha => n.dy(0) * alpha,
    };
    let da = n.needs(0).then(|| {
        let da = match trans_a {
            false => dy.matmul(turned(b, rank_b, !trans_b)),
            true => turned(b, rank_b, trans_b).matmul(swapped(dy, rank)),
        };
        n.sum_to_input(0, da, 2)
    });
    let db = n.needs(1).then(|| {
        let db = match trans_b {
            false => turned(a, rank_a, !trans_a).matmul(dy),
            true => swapped(dy, rank).matmul(turned(a, rank_a, trans_a)),
        };
        n.sum_to_input(1, db, 2)
    });
    Ok(vec![da, db])
}

/// The operands' labels and the output's.
fn labels(node: &Node) -> (Vec<String>, String) {
    let equation: String = node.str("equation", "").chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = equation.split_once("->").unwrap_or_default();
    (inputs.split(',').map(String::from).collect(), output.into())
}

fn no_gradient_of(node: &Node) -> String {
    format!("its equation is `{}`; write it as MatMul, Mul and ReduceSum", node.str("equation", ""))
}

/// The equations without a gradient: each label has to stand for one dimension of one size.
pub fn einsum_refusal(node: &Node) -> Option<String> {
    let (terms, output) = labels(node);
    let once = |term: &String| term.char_indices().all(|(at, c)| c.is_alphabetic() && term.find(c) == Some(at));
    (output.is_empty() || !terms.iter().all(once)).then(|| no_gradient_of(node))
}

/// y = Σ Πᵢ xᵢ over the labels that `equation` (`ij,jk->ik`) leaves out of y
/// ⇒  dxᵢ = the same sum of dy and the other xⱼ, over the labels that xᵢ has not
pub fn einsum<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (terms, output) = labels(n.node());
    let gradient = |i: usize| -> Result<Val<'b>, String> {
        let others = (0..terms.len()).filter(|j| *j != i);
        let known: Vec<&str> =
            std::iter::once(output.as_str()).chain(others.clone().map(|j| terms[j].as_str())).collect();
        // What was summed has to be repeated by another operand.
        let found = |label: char| known.iter().any(|term| term.contains(label));
        if !terms[i].chars().all(found) {
            return Err(format!("no gradient; {}", no_gradient_of(n.node())));
        }
        let values: Vec<Val<'b>> = std::iter::once(n.dy(0)).chain(others.map(|j| n.x(j))).collect();
        let equation = format!("{}->{}", known.join(","), terms[i]);
        Ok(n.builder().op("Einsum", &values, &[("equation", Attr::Str(equation))]))
    };
    (0..n.inputs()).map(|i| n.needs(i).then(|| gradient(i)).transpose()).collect()
}
