"""Makes tests/goldens/sklearn/*: models of scikit-learn as skl2onnx writes them by default, what scikit-learn answers, and the losses of ten
further steps by its own gradient descent. Run by hand, never by the tests.

    python tests/goldens/make/scikit_learn.py

Needs `requirements-sklearn.txt`. The data are scikit-learn's own (iris and breast cancer: UCI, CC BY 4.0; diabetes: Efron and others 2004).
"""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from sklearn.svm import LinearSVC

FOLDER = Path(__file__).parent.parent / "sklearn"
ROWS = 12
STEPS = 10


def steps(model, x, y, rate):
    """Losses before each of ten steps of plain gradient descent over these rows, from the fitted model on.

    A linear model goes on as what it is, a perceptron without a hidden layer. Each `partial_fit` is one step.
    """
    fitted = model.steps[-1][1] if hasattr(model, "steps") else model
    x = model[:-1].transform(x) if hasattr(model, "steps") else x
    options = {"solver": "sgd", "momentum": 0, "nesterovs_momentum": False, "alpha": 0, "batch_size": len(x), "shuffle": False,
               "learning_rate_init": rate}
    if hasattr(fitted, "coefs_"):
        weights, hidden = fitted.coefs_ + fitted.intercepts_, fitted.hidden_layer_sizes
    else:
        weights, hidden = [np.atleast_2d(fitted.coef_).T, np.atleast_1d(fitted.intercept_)], ()
    classifies = hasattr(fitted, "classes_")
    learner = (MLPClassifier if classifies else MLPRegressor)(hidden_layer_sizes=hidden, **options)
    go_on = lambda: learner.partial_fit(x, y, classes=fitted.classes_) if classifies else learner.partial_fit(x, y)
    go_on()
    for held, known in zip(learner.coefs_ + learner.intercepts_, weights):
        held[...] = known
    losses = []
    for _ in range(STEPS):
        go_on()
        losses.append(float(learner.loss_))
    # Its loss of numbers is half of the mean squared error.
    return losses if classifies else [2 * loss for loss in losses]


# The rates of those that scikit-learn can go on with. `SGDClassifier` shares the sigmoids of its scores out, of which it has no loss, and trees
# have no gradient.
RATES = {"logistic": 0.02, "logistic_names": 0.02, "logistic_binary": 0.5, "scaled": 0.5, "min_max": 0.5, "normalised": 0.5, "perceptron": 0.1,
         "perceptron_binary": 0.1, "linear_svc": 0.02, "linear_regression": 0.05}


def main():
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    iris, kinds = load_iris(return_X_y=True)
    names = load_iris().target_names[kinds]
    cancer, benign = load_breast_cancer(return_X_y=True)
    diabetes, progress = load_diabetes(return_X_y=True)
    logistic = lambda: LogisticRegression(max_iter=1000)
    perceptron = lambda: MLPClassifier(hidden_layer_sizes=(6,), max_iter=200, random_state=0)
    cases = {
        "logistic": (logistic(), iris, kinds, "predict_proba"),
        "logistic_names": (logistic(), iris, names, "predict_proba"),
        "logistic_binary": (make_pipeline(StandardScaler(), logistic()), cancer, benign, "predict_proba"),
        "scaled": (make_pipeline(StandardScaler(), logistic()), iris, kinds, "predict_proba"),
        "min_max": (make_pipeline(MinMaxScaler(), logistic()), iris, kinds, "predict_proba"),
        "normalised": (make_pipeline(Normalizer(), logistic()), iris, kinds, "predict_proba"),
        "perceptron": (make_pipeline(StandardScaler(), perceptron()), iris, kinds, "predict_proba"),
        "perceptron_binary": (make_pipeline(StandardScaler(), perceptron()), cancer, benign, "predict_proba"),
        # Its weights are large: e⁻ˣ of a sample far from the border is infinite.
        "sgd": (make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", alpha=1e-6, random_state=0)), iris, kinds, "predict_proba"),
        "linear_svc": (LinearSVC(), iris, kinds, "decision_function"),
        "linear_regression": (LinearRegression(), diabetes, progress, "predict"),
        "forest": (RandomForestClassifier(3, max_depth=3, random_state=0), iris, names, "predict_proba"),
        "forest_regression": (RandomForestRegressor(2, max_depth=3, random_state=0), diabetes, progress, "predict"),
    }
    facts, arrays = [], {}
    for name, (model, x, y, answer) in cases.items():
        x = x.astype("f4")
        model.fit(x, y)
        proto = to_onnx(model, x[:1])
        onnx.save(proto, FOLDER / f"{name}.onnx")
        picked = np.linspace(0, len(x) - 1, ROWS).astype(int)
        arrays[f"{name}/x"] = x[picked]
        arrays[f"{name}/y"] = getattr(model, answer)(x[picked]).reshape(ROWS, -1).astype("f4")
        fact = {"name": name, "learns": not name.startswith("forest")}
        if name in RATES:
            fact |= {"learning_rate": RATES[name], "losses": steps(model, x[picked].astype("f8"), y[picked], RATES[name])}
            kinds_of = np.unique(y, return_inverse=True)[1] if hasattr(model, "classes_") else y
            arrays[f"{name}/labels"] = kinds_of[picked].astype("f4")
        facts.append(fact)
    (FOLDER / "sklearn.json").write_text("[\n" + ",\n".join(json.dumps(fact) for fact in facts) + "\n]\n")
    np.savez(FOLDER / "sklearn.npz", **arrays)


main()
