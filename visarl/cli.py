"""The command `visarl`: finds the verb, reads its options, and only then imports what the verb needs."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from visarl import __version__
from visarl.errors import ConfigError, VisarlError, out_of_memory, suggest
from visarl.process import status_of, terminate_like_ctrl_c


@dataclass(frozen=True)
class Verb:
    """One verb: where its options and its `main(options)` live (`module:name`), and a line for the overview."""

    options: str
    main: str
    summary: str


VERBS: dict[str, Verb] = {
    "check": Verb("visarl.options:Check", "visarl.check:main", "what works on this machine, and what to do"),
    "demo": Verb("visarl.options:Demo", "visarl.demo:main", "the simulated graph with a trained bundle, with a report"),
    "up": Verb("visarl.options:Up", "visarl.up:main", "start a graph of nodes: sim, real or teleop"),
    "enable": Verb("visarl.options:Enable", "visarl.ros.enable:main", "let a running graph's policy drive, or not"),
    "record": Verb("visarl.options:Record", "visarl.record:main", "demonstrations through the graph, one bag each"),
    "simulate": Verb("visarl.options:Simulate", "visarl.simulate:main", "episodes of the simulator into one HDF5 file"),
    "convert": Verb("visarl.options:Convert", "visarl.convert:main", "bags into one HDF5 file"),
    "annotate": Verb(
        "visarl.options:Annotate", "visarl.annotate.main:main", "a page to click what matters in a few frames"
    ),
    "click": Verb("visarl.options:Click", "visarl.click:main", "clicks of a simulated annotator on a few frames"),
    "train saliency": Verb(
        "visarl.training_options:TrainSaliency", "training.train_saliency:main", "saliency from clicks on a few frames"
    ),
    "label": Verb("visarl.training_options:Label", "training.label:main", "saliency maps for every recorded frame"),
    "train encoder": Verb(
        "visarl.training_options:TrainEncoder", "training.train_encoder:main", "pretrain MultiMAE on frames and maps"
    ),
    "train policy": Verb(
        "visarl.training_options:TrainPolicy", "training.train_policy:main", "the LSTM policy, and the bundle"
    ),
    "evaluate": Verb(
        "visarl.training_options:Evaluate", "training.evaluate:main", "success in the closed loop over given seeds"
    ),
    "score saliency": Verb(
        "visarl.training_options:ScoreSaliency", "training.score:main", "predicted maps and peaks against the truth"
    ),
    "diagnose": Verb(
        "visarl.training_options:Diagnose",
        "training.diagnose:main",
        "why a policy is bad: what stands out, and what to do",
    ),
    "probe": Verb("visarl.training_options:Probe", "training.probe:main", "where things are, read from an embedding"),
    "study saliency": Verb(
        "visarl.training_options:SaliencyStudy", "training.saliency_study:main", "saliency models over clicked frames"
    ),
    "study table5": Verb(
        "visarl.training_options:Table5", "training.study.table5:main", "Table V in simulation, with controls"
    ),
    "pipeline": Verb(
        "visarl.training_options:Pipeline", "training.pipeline:main", "all of it from nothing: record, train, evaluate"
    ),
}

DEBUG_VARIABLE = "VISARL_TRACEBACK"
"""Set to see where an error that a person can act on was raised."""


def overview() -> str:
    width = max(map(len, VERBS))
    lines = [
        f"visarl {__version__}: teach a robot arm from a webcam, ten demonstrations and a handful of clicks",
        "",
        "usage: visarl VERB [options]      visarl VERB --help",
        "",
        *(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()),
    ]
    return "\n".join(lines)


def find(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The verb that `arguments` begin with (one or two words) and what is left.

    Raises:
        ConfigError: there is no such verb; the message suggests one.
    """
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if len(arguments) >= words and name in VERBS:
            return name, list(arguments[words:])
    group = [name for name in VERBS if name.startswith(arguments[0] + " ")]
    if group:
        raise ConfigError(f"visarl {arguments[0]} needs one more word: {', '.join(group)}")
    raise ConfigError(
        f"no verb {' '.join(arguments[:2])!r}; {suggest(arguments[0], {known.split()[0] for known in VERBS})}"
    )


def resolve(path: str) -> Any:
    """The object that `module:name` names."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def dispatch(arguments: Sequence[str]) -> int:
    """Run the verb; its exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(__version__)
        return 0
    group = [name for name in VERBS if name.startswith(arguments[0] + " ")]
    if group and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        print("\n".join(f"  visarl {name}  {VERBS[name].summary}" for name in group))
        return 0
    name, rest = find(arguments)
    import tyro  # here: `visarl --help` and a mistyped verb do without

    verb = VERBS[name]
    options: Any = tyro.cli(explained(resolve(verb.options)), args=rest, prog=f"visarl {name}")
    return resolve(verb.main)(options) or 0


def explained(options: type) -> type:
    """The class itself, with what tyro makes of its source improved: no line breaks of the source in an option's words,
    and no twin `--no-NAME` for what is off anyway."""
    import docstring_parser
    import tyro

    docs = [docstring_parser.parse_from_object(one) for one in reversed(options.__mro__[:-1])]
    said = {one.arg_name: " ".join((one.description or "").split()) for doc in docs for one in doc.params}
    hints = typing.get_type_hints(options, include_extras=True)
    for field in dataclasses.fields(options):
        hint = hints[field.name]
        if said.get(field.name):
            hint = Annotated[hint, tyro.conf.arg(help=said[field.name])]
        if field.default is False:
            hint = Annotated[hint, tyro.conf.FlagCreatePairsOff]
        options.__annotations__[field.name] = hint
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command; its exit status."""
    return guarded(lambda: dispatch(sys.argv[1:] if arguments is None else arguments))


def guarded(work: Callable[[], int]) -> int:
    """Run `work`. Errors that a person can act on become one line and status 1, Ctrl-C status 130, SIGTERM 143."""
    terminate_like_ctrl_c()
    try:
        return work()
    except KeyboardInterrupt as stop:
        print("\nvisarl: stopped", file=sys.stderr)
        return status_of(stop)
    except BrokenPipeError:
        # The reader of our output has gone (`visarl ... | head`): nothing to tell, and nobody to tell it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get(DEBUG_VARIABLE):
            raise
        print(f"visarl: error: {message}", file=sys.stderr)
        return 1


def explain(error: Exception) -> str | None:
    """One line for an error that a person can act on; None for a fault of ours, which keeps its traceback."""
    if isinstance(error, VisarlError):
        return str(error)
    if out_of_memory(error):
        what = (str(error).splitlines() or ["nothing is told of what"])[0]
        return (
            f"out of memory ({what}); close what else uses it and run this again, or let it need less: models of a "
            "smaller --preset, fewer --workers"
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        if package in ("visarl", "training", "bench"):
            return None
        if package in ("rclpy", "visarl_msgs", "rosidl_runtime_py") or package.endswith("_msgs"):
            return f"ROS 2's package {package} is not here; run `make setup`; `visarl check` tells the rest"
        return (
            f"the Python package {package} is not installed; run `make setup`, or pip install -e '.[all]' in the "
            "repository"
        )
    if isinstance(error, OSError) and error.strerror:
        if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        # From writing or reading a file that was open already: the system does not say which.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"{error.strerror}; {'make room' if full else f'set {DEBUG_VARIABLE}=1 to see where'} and run this again"
    return None


if __name__ == "__main__":
    sys.exit(main())
