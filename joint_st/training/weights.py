"""The initial weights of a run come from its own latest checkpoint, else from another run, else from its seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from joint_st import storage
from joint_st.config import Config, InitConfig, LmConfig, load
from joint_st.config.problems import nearest
from joint_st.data.paths import expand_run
from joint_st.data.symbols import Symbols, SymbolSizes, load_languages
from joint_st.data.text_units import load_units
from joint_st.data.text_units.units import Spelling
from joint_st.data.tokenizers import load_tokenizer
from joint_st.distributed.peers import current
from joint_st.errors import UserError
from joint_st.runs.agreement import agreed_choice, agreed_latest
from joint_st.runs.checkpoints import Checkpoints, named_leaves
from joint_st.runs.directory import RunDirectory, existing_run
from joint_st.runs.trained import trained_checkpoints

SHOWN = 3
"""Number of weights that a message names; the others are counted."""


class Start(NamedTuple):
    """The starting state of a run."""

    state: Any
    """The `TrainState`, on the mesh."""
    origin: dict | None = None
    """Directory and step of the run whose weights were taken, `{"run": ..., "step": ...}`; None where there were none.
    Checkpoints store it as `init`."""
    summary: str = ""
    """The taken weights in words; empty where none were taken."""


def starting_state(
    config: Config | LmConfig,
    checkpoints: Checkpoints,
    symbols: Symbols,
    shapes: Callable[[SymbolSizes], Any],
    fresh: Callable[[], Any],
) -> Start:
    """Return the state to start from: the run's latest complete checkpoint, else a state with weights of the run that
    `training.init` names, else a fresh one from the seed.

    shapes: function of the sizes of inventories that returns shapes, types and shardings of the `TrainState`. fresh:
    function that makes the state before the first step, sharded over the mesh. No weight ever exists unsharded. Raises
    `UserError` where the weights of the other run do not fit this one, and where a host does not see the checkpoint that
    process 0 takes.
    """
    latest = agreed_latest(checkpoints, current())
    if latest is not None:
        checkpoints.check(latest)
        return Start(checkpoints.restore(latest, shapes(symbols.sizes)), checkpoints.facts(latest).get("init"))
    init = config.training.init
    if not init.run:
        return Start(fresh())
    other = existing_run(expand_run(init.run))
    load(other.config, type(config))  # refuses a run of another kind or format
    with trained_checkpoints(other, checkpoints.metric) as source:
        step = agreed_choice(source, init.checkpoint, current())
        source.check(step)
        other.check_inventories()
        return _taken(init, other, source, step, symbols, shapes, fresh)


def _taken(init: InitConfig, other: RunDirectory, source: Checkpoints, step, symbols, shapes, fresh) -> Start:
    part = "average" if init.average else "params"
    like = shapes(symbols.sizes).params
    here = named_leaves(like)
    needed = {name: tuple(x.shape) for name, x in here.items()}
    origins = _matched(init, other, source.shapes(step, part), needed, _foreign(other, symbols, needed, shapes))
    state = fresh()
    drawn = {name: x for name, x in named_leaves(state.params).items() if name not in origins}
    state = state._replace(params=None, average=None)  # frees the replaced arrays before the others need the memory
    found = source.restore_arrays(step, part, {there: here[name] for name, there in origins.items()})
    weights = drawn | {name: found[there] for name, there in origins.items()}
    params = jax.tree.unflatten(jax.tree.structure(like), [weights[name] for name in here])
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=jax.tree.map(lambda x: x.sharding, like))
    rest = f"; drawn from the seed: {_some(drawn)}" if drawn else ""
    summary = f"{len(origins)} of {len(here)} arrays are those of step {step} of {other.root}{rest}"
    root = other.root if storage.is_remote(other.root) else other.root.absolute()
    origin = {"run": str(root), "step": step}
    return Start(state._replace(params=params, average=copy(params)), origin, summary)


def _matched(
    init: InitConfig,
    other: RunDirectory,
    stored: Mapping[str, tuple[int, ...]],
    here: Mapping[str, tuple[int, ...]],
    foreign: Mapping[str, tuple[str, str]],
) -> dict[str, str]:
    """Return the other run's name of each weight that is taken, by its name in this run.

    stored, here: shapes by name, in the other run and in this one. foreign: as `_foreign` returns it.
    """
    origins: dict[str, str] = {}
    for there in stored:
        name = _renamed(there, init.rename)
        if name in origins:
            raise UserError(f"training.init.rename: {origins[name]} and {there} of {other.root} both become {name}")
        origins[name] = there
    _check_patterns("rename", init.rename, stored, other)
    for field in ("include", "exclude", "allow"):
        _check_patterns(field, getattr(init, field), [*here, *origins], other)

    taken, refused = {}, []
    for name in sorted({*here, *origins}):
        if init.include and not _fits_any(name, init.include) or _fits_any(name, init.exclude):
            continue
        before, now = stored.get(origins.get(name, "")), here.get(name)
        if before == now and name not in foreign:
            taken[name] = origins[name]
        elif not _fits_any(name, init.allow):
            refused.append((name not in foreign, name, before, now))
    if refused:
        refused.sort()  # differences that follow from other inventories come first, because they explain most
        _, name, before, now = refused[0]
        more = f" (and {len(refused) - 1} more weights)" if len(refused) > 1 else ""
        reason, remedy = foreign.get(name, ("", ""))
        raise UserError(
            f"training.init.run: {name} is {_shown(before)} in {other.root} and {_shown(now)} in this run"
            f"{reason}{more}; {remedy}leave it out (training.init.exclude), or allow it to differ (training.init.allow)"
        )
    if not taken:
        raise UserError(f"training.init: no weight of {other.root} is taken; correct include, exclude or allow")
    return taken


def _foreign(
    other: RunDirectory,
    symbols: Symbols,
    here: Mapping[str, tuple[int, ...]],
    shapes: Callable[[SymbolSizes], Any],
) -> dict[str, tuple[str, str]]:
    """Return, by the name of a weight, why it has another meaning in this run, and what to do.

    These are the weights with an axis over an inventory of symbols in which the two runs differ. They are found by
    their shapes, which change with the size of the inventory.
    """
    differing = {}
    if Spelling(load_tokenizer(other.tokenizer)).symbols != Spelling(symbols.labels).symbols:
        remedy = f"set data.tokenizer.path to {other.tokenizer}, or "
        differing["labels"] = (", and the labels are not the same", remedy)
    if symbols.units and other.units.is_dir() and load_units(other.units).symbols != symbols.units.symbols:
        differing["units"] = (", and the text units are not the same", "")
    if load_languages(other.root) != symbols.languages:
        differing["languages"] = (", and the languages are not the same", "")
    found = {}
    for inventory, told in differing.items():
        larger = symbols.sizes._replace(**{inventory: getattr(symbols.sizes, inventory) + 1})
        for name, x in named_leaves(shapes(larger).params).items():
            if name in here and tuple(x.shape) != here[name]:
                found[name] = told
    return found


def _check_patterns(field: str, patterns: Iterable[str], names: Iterable[str], other: RunDirectory) -> None:
    """Raise `UserError` for a pattern that fits no weight, since it is most likely misspelt."""
    names = list(names)
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            beginnings = {name[: match.start()] for name in names for match in re.finditer(r"\.|$", name)}
            near = nearest(pattern, sorted(beginnings))
            hint = (
                f"; did you mean {near}?" if near else f"; there are {_some(sorted({n.split('.')[0] for n in names}))}"
            )
            where = other.root if field == "rename" else f"this run or of {other.root}"
            raise UserError(f"training.init.{field}: {pattern} fits no weight of {where}{hint}")


def _fits(name: str, pattern: str) -> re.Match | None:
    """Return the match of a pattern with a dotted name, or with its beginning up to a dot; the groups are the texts of
    each `*`."""
    return re.match("(.*)".join(map(re.escape, pattern.split("*"))) + r"(?=\.|$)", name)


def _fits_any(name: str, patterns: Iterable[str]) -> bool:
    return any(_fits(name, pattern) for pattern in patterns)


def _renamed(name: str, pairs: Mapping[str, str]) -> str:
    """Return the name in this run of a weight of the other one."""
    for old, new in pairs.items():
        if match := _fits(name, old):
            pieces = iter((*match.groups(), ""))
            return "".join(part + next(pieces) for part in new.split("*")) + name[match.end() :]
    return name


def _shown(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(shape)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
