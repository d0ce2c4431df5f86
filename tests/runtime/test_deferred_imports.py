"""What River asks of scipy is put off; whoever uses it gets the real thing. Each in a process of its own."""

import subprocess
import sys

import pytest

START = (
    "import sys\nfrom stream_ml.runtime.deferred_imports import defer_imports_of_core\ndefer_imports_of_core()\n"
    "import stream_ml.core.evaluation.progressive\n"
    "from river import compose, linear_model, metrics, preprocessing, proba, tree\n"
)


def said(program: str) -> list[str]:
    """Lines that a program prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_worker_and_its_model_import_without_scipy_stats() -> None:
    program = START + "import stream_ml.worker.loop, stream_ml.observe.http\n"
    late = ["scipy.stats._stats_py", "scipy.integrate._ode", "scipy.special._ufuncs", "pandas._libs"]
    late += ["scipy.sparse._base", "scipy.io.matlab"]
    assert said(program + f"print([name for name in {late} if name in sys.modules])") == ["[]"]


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("from scipy import special; print(special.expit(0))", "0.5"),
        ("import scipy.special; print(scipy.special.logsumexp([0.0]))", "0.0"),
        (
            "from river import naive_bayes as n; m = n.GaussianNB(); m.learn_one({'a': 1.0}, True); "
            "print(m.predict_proba_one({'a': 1.0}))",
            "{True: 1.0}",
        ),
        ("import scipy.stats; print(scipy.stats.norm.cdf(0))", "0.5"),
        ("from scipy.stats import norm; print(norm.cdf(0))", "0.5"),
        ("import scipy.stats; print(isinstance(scipy.stats.norm, scipy.stats.rv_continuous))", "True"),
        ("from scipy.stats._stats_py import gmean; print(gmean([1, 4]))", "2.0"),
        (
            "import scipy.stats._distn_infrastructure as d, scipy.stats; "
            "print(isinstance(scipy.stats.norm, d.rv_continuous), d.__spec__.name)",
            "True scipy.stats._distn_infrastructure",
        ),
        ("import scipy.stats.qmc as qmc; print(qmc.Sobol(1).d)", "1"),
        ("from scipy import integrate; print(integrate.trapezoid([1, 1]))", "1.0"),
        ("from scipy.stats import f; print(round(f.cdf(1, 1, 1), 9))", "0.5"),
        ("m = metrics.GeometricMean(); m.update(1, 1); m.update(0, 0); print(m.get())", "1.0"),
        ("r = metrics.RollingROCAUC(); r.update(True, 0.3); r.update(False, 0.2); print(r.get())", "1.0"),
        (
            "g = proba.MultivariateGaussian(); [g.update({'a': i, 'b': i * i}) for i in range(4)]; "
            "print(g({'a': 1, 'b': 1}) > 0)",
            "True",
        ),
        (
            "import io; from river import stream; f = '@relation r\\n@attribute x numeric\\n@data\\n3'; "
            "print([*stream.iter_arff(io.StringIO(f))][0][0])",
            "{'x': 3.0}",
        ),
        ("from scipy.io.arff import loadarff; print(loadarff.__module__)", "scipy.io.arff._arffread"),
        ("from scipy import sparse; print(sparse.csr_matrix([[0, 2]]).nnz)", "1"),
        ("import scipy.sparse.linalg as l; print(round(l.norm(__import__('scipy').sparse.eye(4)), 9))", "2.0"),
        ("import pickle; print(type(pickle.loads(pickle.dumps(tree.SGTClassifier()))).__name__)", "SGTClassifier"),
    ],
)
def test_what_is_used_is_the_real_thing(use: str, expected: str) -> None:
    assert said(START + use)[-1] == expected


def test_arrow_makes_arrays_without_pandas_and_gives_frames_to_who_asks() -> None:
    program = START + (
        "import pyarrow as pa\npa.array([1.0])\nprint('pandas' in sys.modules)\n"
        "print(pa.table({'x': [1.0]}).to_pandas().shape)\nimport pandas as pd\n"
        "print(pa.array(pd.Series([1, None])).null_count, pa.Table.from_pandas(pd.DataFrame({'a': [1]})).num_rows)"
    )
    assert said(program) == ["False", "(1, 1)", "1 1"]


def test_what_is_imported_already_is_left_alone() -> None:
    program = "import scipy.stats as real\n" + START + "import scipy.stats\nprint(scipy.stats is real)"
    assert said(program) == ["True"]


def test_importing_the_library_changes_nothing_for_the_rest_of_the_process() -> None:
    program = (
        "import sys\nimport stream_ml\nfrom stream_ml import LocalApp\n"
        "import stream_ml.worker.loop, river.linear_model, scipy.stats, scipy.sparse\n"
        "made = [name for name, module in sys.modules.items() if type(module).__module__.startswith('stream_ml')]\n"
        "print(made, [finder for finder in sys.meta_path if type(finder).__module__.startswith('stream_ml')])\n"
        "print(type(scipy.stats).__name__, scipy.stats.norm.cdf(0))\n"
    )
    assert said(program) == ["[] []", "module 0.5"]


def test_a_verb_that_needs_no_model_imports_no_scipy() -> None:
    program = (
        "import sys\nfrom stream_ml.runtime.deferred_imports import defer_imports_of_core\ndefer_imports_of_core()\n"
        "from typer.testing import CliRunner\nfrom stream_ml.cli.app import app\n"
        "CliRunner().invoke(app, ['config', 'reference'])\n"
        "print([name for name in ('scipy', 'pyarrow', 'numpy', 'river') if name in sys.modules])\n"
    )
    assert said(program) == ["[]"]
