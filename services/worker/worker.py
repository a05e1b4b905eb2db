"""One rank: set up the device, the weights and the KV cache, then run plans (`loop`)."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import torch

from octavo.kernels import invariance
from octavo.services.worker.causal_lm import CausalLM
from octavo.services.worker.compile_counter import CompileCounter
from octavo.services.worker.constraints.grammars import Grammars, Reporter
from octavo.services.worker.constraints.patience import Patience
from octavo.services.worker.device import device_of
from octavo.services.worker.encoder_config import EncoderConfig, load_config
from octavo.services.worker.kv_cache import Budget, KVSpec, check_fit, count_blocks
from octavo.services.worker.loop import Loop
from octavo.services.worker.memory import CPU_KV_BYTES, GRAPH_RESERVE
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.model_runner import ModelRunner
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.phases import Phases
from octavo.services.worker.pooling.runner import PoolingRunner
from octavo.services.worker.results import ResultSender
from octavo.services.worker.step_trace import TracedRunner
from octavo.services.worker.warm_up import warm_up, warm_up_decodes
from octavo.services.worker.weights import blank_model, build_model, fill_model, weight_bytes
from octavo.shared.config import WORKER_SOCKET, EngineConfig
from octavo.shared.grammar.helper import HelperConfig
from octavo.shared.process import Child
from octavo.shared.steps import StepFailed, ToWorker, WorkerReady
from octavo.shared.transport import Spoke

log = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SWITCH_SECONDS = 2e-4

Runner = ModelRunner | PoolingRunner


def main(child: Child, phases: Phases) -> None:
    signal.signal(signal.SIGTERM, _exit)
    rank, directory = child.config.index, child.config.path
    counter = CompileCounter(child.alive)
    with torch.inference_mode():
        runner, num_blocks = build_runner(child, phases, counter)
        spoke: Spoke[WorkerReady | StepFailed, ToWorker] = Spoke(
            directory, WORKER_SOCKET, f"rank-{rank}".encode(), ToWorker, strict=True
        )
        here = WorkerReady(rank, num_blocks, child.config.epoch, phases.seconds)
        spoke.send(here)
        child.ready(
            compiled=counter.compiled, from_cache=counter.from_cache, cache=counter.directory
        )
        counter.serving = True
        if rank == 0:  # the others do the same beside it
            log.info("%s", f"{phases}; {counter}" if counter.directory else phases)
        results = ResultSender(directory, runner.device, counter) if rank == 0 else None
        trace = child.config.server.engine.trace if rank == 0 else None
        alone = child.config.server.engine.tensor_parallel_size == 1
        serving = TracedRunner(runner, trace) if trace else runner
        Loop(child, spoke, serving, here, results, alone).run()


def build_runner(child: Child, phases: Phases, counter: CompileCounter) -> tuple[Runner, int]:
    """Everything up to the first plan; also the number of KV blocks of this rank."""
    config, rank = child.config.server.engine, child.config.index
    device = device_of(config, rank)
    if device.type == "cuda":
        counter.install()
    if config.deterministic:
        invariance.switch_on()
    parallel = Parallel.create(
        rank,
        config.tensor_parallel_size,
        device,
        child.config.path / f"rendezvous-{child.config.epoch}",
    )
    pooling = child.config.model.pooling
    model_config = load_config(config.model, pooling)
    dtype = DTYPES[config.dtype]
    budget = Budget.measure(config, device)
    spec = _kv_spec(config, model_config, parallel, dtype)
    num_bytes = weight_bytes(model_config, parallel, dtype)
    check_fit(config, spec, num_bytes, budget)
    phases.end("device")
    model = build_model(
        model_config,
        parallel,
        device,
        dtype,
        config.max_model_len or model_config.max_position_embeddings,
    )
    runner = _runner_of(child, model, device)
    filled = start_filling(child, model, model_config, device)
    num_blocks = _bind_cache(config, runner, spec, budget, device, filled)
    seconds = filled()
    phases.end("weights and warm-up", f"read {num_bytes / seconds / 1e9:.1f} GB/s, {seconds:.1f} s")
    if isinstance(runner, ModelRunner) and device.type == "cuda" and config.enforce_eager:
        warm_up_decodes(runner.model, runner.inputs)
        phases.end("decodes")
    elif device.type == "cuda":
        runner.capture(child.progress)
        phases.end("graphs")
    return runner, num_blocks


def _runner_of(child: Child, model: CausalLM, device: torch.device) -> Runner:
    """Of several ranks the first has results: it says who is ended, the others what they refuse."""
    rank, server, info = child.config.index, child.config.server, child.config.model
    reporter = Reporter(child.config.path, rank)
    grammars = Grammars(HelperConfig.of(server.engine, info), rank, reporter)
    if info.pooling is not None:
        return PoolingRunner(server.engine, model, info.pooling, device, grammars)
    refused = reporter if rank else None
    patience = Patience(ends=rank == 0 and server.frontends > 0)  # the library's client is alone
    return ModelRunner(server.engine, model, info.vocab_size, device, grammars, refused, patience)


def start_filling(
    child: Child, model: CausalLM, model_config: ModelConfig | EncoderConfig, device: torch.device
) -> Callable[[], float]:
    """Give the model its weights; the result waits until it has them and says the seconds.

    A checkpoint is read beside the warm-up, for which any weights will do: reading waits for
    memory, warm-up for the interpreter. On the CPU both want the cores, and random weights take
    device memory that would count as the warm-up's.
    """
    config = child.config.server.engine

    def fill() -> float:
        begun = time.monotonic()
        fill_model(
            model,
            model_config,
            config.model,
            device,
            config.load_format,
            config.seed,
            lambda done, total: child.progress("weights", done, total, "B"),
        )
        return time.monotonic() - begun

    if device.type == "cpu" or config.load_format == "dummy":
        seconds = fill()
        return lambda: seconds
    blank_model(model)
    return beside(fill)


def beside(work: Callable[[], float]) -> Callable[[], float]:
    """Run `work` in a thread; the result waits for it and returns, or raises, what it does."""
    usual = sys.getswitchinterval()
    # Its threads need the interpreter often and for microseconds: they should not wait in line.
    sys.setswitchinterval(SWITCH_SECONDS)
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    future.add_done_callback(lambda _: sys.setswitchinterval(usual))
    pool.shutdown(wait=False)
    return future.result


def _bind_cache(
    config: EngineConfig,
    runner: Runner,
    spec: KVSpec,
    budget: Budget,
    device: torch.device,
    filled: Callable[[], float],
) -> int:
    """Size the cache by what a full step leaves free, and bind it. Waits for the weights."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # loading's own peak does not come again
    runner.bind(spec.allocate(1, device))
    if isinstance(runner, PoolingRunner):
        runner.warm_up()
    else:
        warm_up(runner)
    filled()
    available = budget.usable if config.kv_cache_memory_bytes else CPU_KV_BYTES
    if device.type == "cuda":
        available = budget.usable - _peak_use(budget, device) - GRAPH_RESERVE
    num_blocks = count_blocks(config, spec, available)
    runner.bind(spec.allocate(num_blocks, device))
    return num_blocks


def _peak_use(budget: Budget, device: torch.device) -> int:
    """Bytes this process needed at its peak, those outside torch's allocator included."""
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    outside = budget.free - free - torch.cuda.memory_reserved(device)
    log.info("peak %.2f GiB, outside torch %.2f GiB", peak / 2**30, outside / 2**30)
    return peak + max(outside, 0)


def _kv_spec(
    config: EngineConfig,
    model: ModelConfig | EncoderConfig,
    parallel: Parallel,
    dtype: torch.dtype,
) -> KVSpec:
    kv_heads = max(model.num_kv_heads // parallel.size, 1)
    layers = 0 if isinstance(model, EncoderConfig) else model.num_layers
    return KVSpec(layers, kv_heads, model.head_dim, config.block_size or 16, dtype)


def _exit(signum: int, frame: FrameType | None) -> None:
    sys.exit(0)
