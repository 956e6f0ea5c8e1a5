"""A grid on a cluster: connected by one argument, answers as joblib's backend can give them. Dask and Ray are played by small modules here, the backends are joblib's own."""

import sys
import types

import joblib
import pytest

from skelnb.evaluate import experiment
from skelnb.evaluate.experiment import ExperimentError, Trial, connected, run

TRIALS = [Trial("skeletonclr", "nw-ucla", control="untrained", seed=s, width=2, feature_dim=8) for s in range(4)]


class Streaming(joblib.parallel.ThreadingBackend):
    "Answers one by one; remembers with what it was made."
    supports_return_generator, made = True, []
    def __init__(self, nesting_level=None, inner_max_num_threads=None, **settings):
        super().__init__(nesting_level=nesting_level); self.made.append(settings)


class Listing(Streaming):
    "Answers at the end, as Ray's backend does."
    supports_return_generator = False


@pytest.fixture(autouse=True)
def backends(monkeypatch):
    Streaming.made.clear()
    for name in ("streaming", "listing", "dask", "ray"): joblib.parallel.BACKENDS.pop(name, None)
    joblib.register_parallel_backend("streaming", Streaming); joblib.register_parallel_backend("listing", Listing)
    monkeypatch.setattr(experiment, "load", lambda name, frames: None)                  # as if the sets were prepared
    yield
    for name in ("streaming", "listing", "dask", "ray"): joblib.parallel.BACKENDS.pop(name, None)


@pytest.fixture
def work(monkeypatch):
    "What `work` was asked, in place of the work: the first seed of each job fails if it is 2."
    asked = []
    def work(group, results, runs, device, threads):
        asked.append((group, results, runs, device, threads))
        return [f"{t}: wrong" for t in group if t.seed == 2]
    monkeypatch.setattr(experiment, "work", work)
    return asked


def module(monkeypatch, name, **content):
    made = types.ModuleType(name); made.__dict__.update(content); made.__path__ = []
    monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.fixture
def ray(monkeypatch):
    "A Ray with no machines: `ray.said` is what was asked of it."
    made = module(monkeypatch, "ray", said=[], on=False, gpus=0)
    def init(address=None):
        if made.on: raise RuntimeError("Maybe you called ray.init twice by accident?")
        if address == "nowhere:1": raise ConnectionError("failed to connect")
        made.said.append(address); made.on = True
    made.init, made.is_initialized = init, lambda: made.on
    def shutdown(): made.said.append("shutdown"); made.on = False
    made.shutdown, made.cluster_resources = shutdown, lambda: {"CPU": 4.} | ({"GPU": float(made.gpus)} if made.gpus else {})
    made.util = module(monkeypatch, "ray.util")
    made.util.joblib = module(monkeypatch, "ray.util.joblib", register_ray=lambda: joblib.register_parallel_backend("ray", Listing))
    return made


@pytest.fixture
def dask(monkeypatch):
    "A Dask with workers of one thread: `dask.clients` are those that were made; `dask.there` is the client that the process has."
    made = module(monkeypatch, "dask", clients=[], there=None, threads=1, config=types.SimpleNamespace(get=lambda name, default: made.set.get(name, default)), set={})
    class Client:
        def __init__(self, address=None, **how):
            if address == "tcp://nowhere:1": raise OSError("timed out")
            self.address, self.how, self.open = address, how, True; made.clients.append(self)
        def nthreads(self): return {"tcp://a:1": 1, "tcp://b:1": made.threads}
        def close(self): self.open = False
    def get_client():
        if made.there is None: raise ValueError("No global client found and no address provided")
        return made.there
    module(monkeypatch, "distributed", Client=Client, get_client=get_client)
    made.Client = Client
    joblib.register_parallel_backend("dask", Streaming)
    return made


# ---- answers one by one, or all at the end

@pytest.mark.parametrize("backend", ["streaming", "listing", "sequential", "threading"])
def test_every_backend_does_all_jobs_and_tells_what_failed(work, backend, tmp_path):
    failed = run(TRIALS, jobs=2, results=tmp_path, runs=tmp_path, backend=backend, progress=False)
    assert sorted(g[0].seed for g, *_ in work) == [0, 1, 2, 3] and failed == [f"{TRIALS[2]}: wrong"]


@pytest.mark.parametrize("backend, how", [("streaming", "generator_unordered"), ("listing", "list")])
def test_joblib_is_asked_for_what_the_backend_can(work, backend, how, tmp_path, monkeypatch):
    made, true = [], joblib.Parallel
    monkeypatch.setattr(joblib, "Parallel", lambda **k: made.append(k) or true(**k))
    run(TRIALS, jobs=2, results=tmp_path, backend=backend, progress=False)
    assert made == [{"return_as": how}]


def test_a_name_that_joblib_does_not_know_is_told(work, tmp_path):
    with pytest.raises(ValueError, match="Invalid backend: slurm"): run(TRIALS, results=tmp_path, backend="slurm", progress=False)


def test_nothing_is_connected_where_nothing_is_missing(ray, dask, tmp_path):
    for backend in ("ray", "dask"): assert run([], results=tmp_path, backend=backend, address="tcp://nowhere:1") == []
    assert ray.said == [] and dask.clients == []


# ---- where the files go

def test_a_worker_that_was_started_elsewhere_looks_where_the_asking_process_does(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path); monkeypatch.setenv("SKELNB_HOME", "data"); monkeypatch.delenv("SKELNB_RESULTS", raising=False)
    monkeypatch.setattr(experiment, "checkout_data", lambda: None)
    run(TRIALS[:1], backend="sequential", progress=False)
    assert work[0][1:3] == (tmp_path / "data" / "results", tmp_path / "data" / "runs")         # whole paths, although it was said from here
    run(TRIALS[:1], results="r", runs="w", backend="sequential", progress=False)
    assert work[1][1:3] == (tmp_path / "r", tmp_path / "w") and experiment.os.environ["SKELNB_HOME"] == "data"
    monkeypatch.setenv("SKELNB_HOME", str(tmp_path / "other")); experiment._PARTS["old"] = 1     # a worker that knows another folder
    assert experiment._there(tmp_path / "data", [], None, None, None, None) == [] and experiment.data_dir() == tmp_path / "data" and not experiment._PARTS


# ---- Ray

def test_ray_is_started_registered_and_left(work, ray, tmp_path, monkeypatch):
    assert run(TRIALS, results=tmp_path, backend="ray", progress=False) == [f"{TRIALS[2]}: wrong"] and len(work) == 4
    assert ray.said == [None, "shutdown"] and Streaming.made == [{}] and {threads for *_, threads in work} == {None}     # threads are the worker's own affair
    run(TRIALS, results=tmp_path, backend="ray", address="auto", progress=False)
    assert ray.said[2:] == ["auto", "shutdown"]
    ray.init("mine"); ray.said.clear()
    run(TRIALS, results=tmp_path, backend="ray", progress=False)
    assert ray.said == [] and ray.on                                                           # a connection that was there stays
    with pytest.raises(ExperimentError, match="no ray cluster at other:1: Maybe you called"): run(TRIALS, results=tmp_path, backend="ray", address="other:1", progress=False)
    assert ray.on


def test_ray_left_after_an_error(ray, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "work", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError): run(TRIALS, results=tmp_path, backend="ray", progress=False)
    assert ray.said == [None, "shutdown"]


@pytest.mark.parametrize("gpus, jobs, device, expected", [(0, None, None, (-1, {})), (0, 3, None, (3, {})), (4, None, None, (4, 1)), (4, -1, None, (4, 1)), (4, 2, "cuda", (2, 1)), (2, 8, None, (2, 1)), (4, 8, "cpu", (8, {}))])
def test_a_job_of_ray_gets_a_gpu_where_there_are_any(ray, gpus, jobs, device, expected):
    ray.gpus = gpus
    with connected("ray", None, jobs, device) as found: assert found == (expected[0], expected[1] and {"ray_remote_args": {"num_gpus": 1}})


# ---- Dask

def test_dask_gets_a_client(work, dask, tmp_path):
    assert run(TRIALS, results=tmp_path, backend="dask", progress=False) == [f"{TRIALS[2]}: wrong"]
    client, = dask.clients
    assert client.address is None and client.how["threads_per_worker"] == 1 and client.how["n_workers"] == experiment.os.cpu_count() and not client.open and Streaming.made == [{"client": client}]
    run(TRIALS, jobs=3, results=tmp_path, backend="dask", progress=False)
    assert dask.clients[1].how["n_workers"] == 3
    dask.set["scheduler-address"] = "tcp://set:8786"
    run(TRIALS, results=tmp_path, backend="dask", progress=False)
    run(TRIALS, results=tmp_path, backend="dask", address="tcp://said:8786", progress=False)
    assert [(c.address, c.how, c.open) for c in dask.clients[2:]] == [("tcp://set:8786", {}, False), ("tcp://said:8786", {}, False)]
    dask.there = mine = dask.Client("tcp://mine:8786")
    run(TRIALS, results=tmp_path, backend="dask", progress=False)
    assert dask.clients[-1] is mine and mine.open and Streaming.made[-1] == {"client": mine}      # used, and left open
    run(TRIALS, results=tmp_path, backend="dask", address="tcp://said:8786", progress=False)
    assert dask.clients[-1].address == "tcp://said:8786"


def test_workers_that_do_several_jobs_in_one_process_are_refused(dask, work, tmp_path):
    dask.threads = 4
    with pytest.raises(ExperimentError, match="1 Dask workers, tcp://b:1 for one, .* --nthreads 1"): run(TRIALS, results=tmp_path, backend="dask", progress=False)
    assert not dask.clients[0].open and work == []


# ---- what is told

def test_a_cluster_that_does_not_answer_is_told(ray, dask, tmp_path):
    for backend, address, said in (("ray", "nowhere:1", "no ray cluster at nowhere:1: failed to connect"), ("dask", "tcp://nowhere:1", "no dask cluster at tcp://nowhere:1: timed out")):
        with pytest.raises(ExperimentError, match=said): run(TRIALS, results=tmp_path, backend=backend, address=address, progress=False)


@pytest.mark.parametrize("backend, missing, install", [("ray", "ray", "pip install ray"), ("dask", "dask", "pip install dask distributed"), ("dask", "distributed", "pip install dask distributed")])
def test_a_missing_package_is_named(monkeypatch, tmp_path, dask, backend, missing, install):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ExperimentError, match=rf"the backend '{backend}' needs packages .*{missing}.*: {install}$"): run(TRIALS, results=tmp_path, backend=backend, progress=False)


def test_an_address_without_a_cluster_is_told(tmp_path):
    with pytest.raises(ExperimentError, match="tcp://a:1 is the address of a cluster, and 'loky' runs on this machine; choose the backend 'dask' or 'ray'"): run(TRIALS, results=tmp_path, address="tcp://a:1", progress=False)
